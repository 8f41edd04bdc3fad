"""fastnn: a network that came from another library's form, predicting here.

The variant is the library that runs such a network otherwise.  What it is read from is the ONNX
file of the case, which ONNX Runtime runs too, or a PyTorch module of the layers that PyTorch runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving import Case, serve
from with_fastnn import Fastnn, asked, network_of

import fastnn as fn


class Imports(Fastnn):
    variants = ("PyTorch", "ONNX Runtime")

    def predictor(self, case: Case) -> Callable[[], Any]:
        come_in = {"PyTorch": _through_torch, "ONNX Runtime": _through_onnx}[self.variant]
        return asked(come_in(case), case)


def _through_torch(case: Case) -> fn.Sequential:
    return fn.from_torch(network_of(case).to_torch())


def _through_onnx(case: Case) -> fn.Sequential:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(case.onnx)
        return fn.from_onnx(path)


if __name__ == "__main__":
    serve(Imports)
