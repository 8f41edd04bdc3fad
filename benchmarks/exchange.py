"""Networks that leave and come in: files and formats; imported ones beside runtimes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import fastnn as fn

from .cores import keep_to, physical_cores
from .workloads import NETWORKS


class Files:
    """Writing and reading a network, by format."""

    params = (list(NETWORKS), ("fastnn", "onnx", "c", "python"))
    param_names = ("network", "format")

    def setup(self, network: str, format: str) -> None:
        keep_to(physical_cores()[-1:])
        if format == "onnx":
            _needs("onnx")
        self.net = NETWORKS[network].network("float32")
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "net"
        self.time_write(network, format)

    def teardown(self, network: str, format: str) -> None:
        self.folder.cleanup()

    def time_write(self, network: str, format: str) -> None:
        write = {"fastnn": self.net.save, "onnx": self.net.to_onnx, "c": self.net.to_c,
                 "python": self.net.to_python}[format]  # fmt: skip
        write(self.path)

    def time_read(self, network: str, format: str) -> None:
        if format in ("fastnn", "onnx"):
            (fn.load if format == "fastnn" else fn.from_onnx)(self.path)


class TorchFiles:
    """Reading a file of PyTorch's without it, in both of their forms."""

    params = (("torch_zip.pt", "torch_legacy.pt"),)
    param_names = ("file",)

    def setup(self, file: str) -> None:
        keep_to(physical_cores()[-1:])
        self.path = Path(__file__).parents[1] / "tests" / "data" / file

    def time_load_torch(self, file: str) -> None:
        fn.load_torch(self.path)


class Imported:
    """Predictions of an imported network here, and by the runtime that it came from."""

    params = (list(NETWORKS), (1, 64, 1000), ("fastnn", "ONNX Runtime", "PyTorch"))
    param_names = ("network", "rows", "runtime")

    def setup(self, network: str, rows: int, runtime: str) -> None:
        keep_to(physical_cores()[-1:])
        net = NETWORKS[network].network("float32")
        X = NETWORKS[network].data("float32")[0][:rows].copy()
        x = X[0].copy() if rows == 1 else X
        if runtime == "PyTorch":
            torch = _needs("torch")
            torch.set_num_threads(1)
            module, tensor = net.to_torch(), torch.from_numpy(X)

            def ask() -> Any:
                with torch.inference_mode():
                    return module(tensor)
        else:
            _needs("onnx")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "net.onnx"
                net.to_onnx(path)
                raw, imported = path.read_bytes(), fn.from_onnx(path)
            if runtime == "fastnn":

                def ask() -> Any:
                    return imported(x)
            else:
                onnxruntime = _needs("onnxruntime")
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                session = onnxruntime.InferenceSession(
                    raw, options, providers=["CPUExecutionProvider"]
                )

                def ask() -> Any:
                    return session.run(None, {"X": X})

        self.ask = ask
        self.ask()

    def time_predict(self, network: str, rows: int, runtime: str) -> None:
        self.ask()


def _needs(package: str) -> Any:
    """Return a package, or leave the benchmark out where it is not installed."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as problem:
        raise NotImplementedError(f"{package} is not installed") from problem
