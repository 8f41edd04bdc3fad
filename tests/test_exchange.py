"""Networks of every kind of layer as C, Python, ONNX and PyTorch, and back, beside those."""

from __future__ import annotations

import ctypes
import runpy
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from cases import DTYPES, error

import fastnn as fn
from fastnn.exports import c_texts, onnx_graph, plain, python_source
from fastnn.kinds import KINDS

Dense, Block = fn.Dense, fn.Residual
CODED = {1: 5, 3: 4}
STACKS = {
    "norms": [Dense(13, "tanh"), fn.LayerNorm(1e-3), Dense(5, "relu"), fn.RMSNorm(), Dense(3)],
    "in front": [fn.LayerNorm(), fn.Dropout(0.1), Dense(3)],
    "batch norms in blocks": [
        Dense(13, "relu"), Block([fn.BatchNorm(), Dense(9, "relu"), Dense(13)]),
        Block([fn.BatchNorm(0.5, 1e-4), fn.LayerNorm(), Dense(13)]), Dense(3),
    ],
    "a batch norm first": [fn.BatchNorm(), fn.LayerNorm(), Dense(1)],
    "folded": [fn.Standardize(), fn.BatchNorm(), Dense(4, bias=False), fn.BatchNorm(), Dense(2)],
    "slopes": [Dense(13), fn.PReLU(), Dense(3, "softmax")],
    "blocks in blocks": [
        Dense(6),
        Block([Block([Dense(4, "silu"), Dense(6)]), fn.RMSNorm(), Block([Dense(6, "softmax")])]),
        Block([fn.Dropout(0.3)]), Block([Block([Block([fn.PReLU()])])]), Dense(3),
    ],
    "blocks of features": [Block([Dense(7)]), Block([fn.LayerNorm()]), Dense(1, "sigmoid")],
    "scaled for a block": [fn.Standardize(), Block([Dense(7)]), Dense(2)],
    "waves": [fn.NumericEmbedding(5, 4, sigma=3.0), Dense(2)],
    "waves of scaled features": [
        fn.Standardize(), fn.NumericEmbedding(5, 3, sigma=1.0), Dense(8, "relu"), Dense(2),
    ],
    "waves beside codes": [
        fn.Standardize(), fn.Embedding(CODED), fn.NumericEmbedding(3, 4, sigma=1.0),
        fn.LayerNorm(), Dense(2, "softmax"),
    ],
    "codes": [fn.Embedding(CODED), fn.LayerNorm(), Dense(2)],
    "one unit": [Dense(1, "tanh"), fn.LayerNorm(), Block([Dense(1)]), Dense(1)],
    "one layer": [Dense(1)],
    "dropout first": [fn.Dropout(0.5), Dense(4, "gelu"), Dense(2)],
}  # fmt: skip
CLOSE = {"float32": 1e-5, "float64": 1e-12}


def network(stack, dtype="float32"):
    """Return a network whose every array matters, and examples."""
    rng = np.random.default_rng(3)
    net = fn.Sequential(STACKS[stack], 7, dtype, rng=1)
    X = rng.normal(size=(40, 7)).astype(dtype)
    if "codes" in stack:
        for column, size in CODED.items():
            X[:, column] = rng.integers(0, size, len(X))
    if isinstance(net.layers[0], fn.Standardize):
        X[:, 0] = 3 * X[:, 0] + 20
        net.adapt(X)
        deviations = net.layout["0.deviation"].offset + 7
        net.parameters[deviations:] += 0.2 * rng.normal(size=net.parameters.size - deviations)
    else:
        net.parameters[:] += 0.2 * rng.normal(size=net.parameters.size)
    net.buffers[:] += rng.uniform(0.0, 0.5, size=net.buffers.size)
    return net, X


def test_every_kind_of_layer_is_written():
    others = {"Dense", "Dropout", "Embedding"}
    folded = {"Standardize", "BatchNorm"}  # a line each
    assert set(KINDS) - others - folded - {"Residual"} <= set(c_texts.PARTS)
    assert set(KINDS) - others - folded <= set(python_source.PARTS)
    assert set(KINDS) - others - {"Residual"} == set(onnx_graph.PARTS)
    met = {type(layer).__name__ for stack in STACKS.values() for layer in every(stack)}
    assert met == set(KINDS)


def every(layers):
    for layer in layers:
        yield layer
        yield from every(layer.inside)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_python_computes_the_same(stack, dtype, tmp_path):
    net, X = network(stack, dtype)
    net.to_python(tmp_path / "net.py", X)
    module = runpy.run_path(str(tmp_path / "net.py"))
    assert error(module["predict"](X), net.predict(X)) <= CLOSE[dtype]
    module["self_test"]()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_c_computes_the_same(stack, dtype, tmp_path):
    net, X = network(stack, dtype)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow",
              "-Wdouble-promotion", "-Werror"]  # fmt: skip
    for options in ({}, {"quantize": "int8"}):
        net.to_c(tmp_path / "net.c", X, **options)
        for compiler in filter(shutil.which, ("gcc", "clang")):
            subprocess.run(
                [compiler, *strict, "-O1", "-DNETWORK_SELF_TEST", "net.c", "-lm", "-o", "net"],
                check=True, cwd=tmp_path,
            )  # fmt: skip
            subprocess.run(["./net"], check=True, cwd=tmp_path, capture_output=True)
    net.to_c(tmp_path / "net.c")
    subprocess.run(
        ["gcc", *strict, "-O1", "-shared", "-fPIC", "net.c", "-lm", "-o", "net.so"],
        check=True, cwd=tmp_path,
    )  # fmt: skip
    predict = ctypes.CDLL(str(tmp_path / "net.so")).network_predict
    Y = np.empty((len(X), net.outputs), dtype)
    given = X.copy()
    for x, y in zip(given, Y, strict=True):
        predict(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data))
    assert (given == X).all()
    assert error(Y, net.predict(X)) <= CLOSE[dtype]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_c_stays_within_its_buffers(tmp_path):
    for n, stack in enumerate(STACKS):
        net, X = network(stack)
        net.to_c(tmp_path / f"net{n}.c", X)
        build = ["gcc", "-std=c99", "-g", "-fsanitize=address,undefined",
                 "-fno-sanitize-recover=all", "-DNETWORK_SELF_TEST", f"net{n}.c", "-lm",
                 "-o", "net"]  # fmt: skip
        if subprocess.run(build, check=False, cwd=tmp_path, capture_output=True).returncode:
            pytest.skip("this compiler has no sanitizers")
        subprocess.run(["./net"], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_onnx_runtime_computes_the_same(stack, dtype, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    if (stack, dtype) == ("dropout first", "float64"):
        pytest.skip("the runtime has no erf of float64")
    net, X = network(stack, dtype)
    net.to_onnx(tmp_path / "net.onnx")
    session = runtime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"X": X})
    assert found.dtype == net.dtype
    assert error(found, net.predict(X)) <= CLOSE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", [stack for stack in STACKS if "codes" not in stack])
def test_onnx_files_come_back(stack, dtype, tmp_path):
    pytest.importorskip("onnx")
    net, X = network(stack, dtype)
    net.to_onnx(tmp_path / "net.onnx")
    back = fn.from_onnx(tmp_path / "net.onnx")
    assert back.dtype == net.dtype
    kinds = [type(layer) for layer in net.layers if not isinstance(layer, fn.Dropout)]
    if stack == "folded":
        kinds = [Dense, Dense]
    assert [type(layer) for layer in back.layers] == kinds
    assert error(back.predict(X), net.predict(X)) <= CLOSE[dtype]
    back.to_onnx(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_modules_of_pytorch_go_both_ways(stack, dtype):
    torch = pytest.importorskip("torch")
    net, X = network(stack, dtype)
    module = net.to_torch()
    found = module(torch.from_numpy(X)).detach().numpy()
    assert found.dtype == net.dtype
    assert error(found, net.predict(X)) <= CLOSE[dtype]
    back = fn.from_torch(module)
    assert back.dtype == net.dtype
    assert error(back.predict(X), net.predict(X)) <= CLOSE[dtype]
    if stack != "folded" and not isinstance(net.layers[0], fn.Standardize):
        assert (back.parameters == net.parameters).all()
        assert (back.buffers == net.buffers).all()


def normal(torch, *modules):
    """Return a Sequential in evaluation, whose norms have seen something."""
    torch.manual_seed(0)
    whole = torch.nn.Sequential(*modules).eval()
    for module in whole.modules():
        for name in ("weight", "running_mean"):
            tensor = getattr(module, name, None)
            if tensor is not None and tensor.ndim == 1:
                torch.nn.init.normal_(tensor)
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return whole


def modules_of(torch):
    """Return modules as people write them, by name."""
    nn = torch.nn

    class Sum(nn.Module):
        def __init__(self, *modules):
            super().__init__()
            self.f = nn.Sequential(*modules)

        def forward(self, x):
            return x + self.f(x)

    return {
        "a norm, then relu": [nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)],
        "a batch norm, then tanh": [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)],
        "a batch norm, then relu": [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)],
        "a batch norm behind relu": [
            nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 2),
        ],
        "slopes": [nn.Linear(6, 5), nn.PReLU(5), nn.LayerNorm(5), nn.PReLU(5), nn.Linear(5, 2)],
        "another slope": [nn.Linear(6, 5), nn.LeakyReLU(0.2), nn.Linear(5, 2)],
        "a block": [
            nn.Linear(6, 5), Sum(nn.LayerNorm(5), nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 5)),
            nn.Linear(5, 2), nn.Softmax(-1),
        ],
        "blocks that begin with relu": [
            nn.Linear(6, 5),
            Sum(nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 5), Sum(nn.ReLU(), nn.Linear(5, 5))),
            nn.Linear(5, 2),
        ],
    }  # fmt: skip


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_what_pytorch_writes_is_read(opset, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    X = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    read = 0
    for name, modules in modules_of(torch).items():
        module = normal(torch, *modules)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    module, (torch.from_numpy(X),), str(tmp_path / "net.onnx"), dynamo=False,
                    input_names=["X"], opset_version=opset,
                )  # fmt: skip
            except Exception:  # (what it cannot write is not ours)
                continue
        net = fn.from_onnx(tmp_path / "net.onnx")
        wanted = module(torch.from_numpy(X)).detach().numpy()
        assert net.predict(X) == pytest.approx(wanted, abs=2e-6), name
        read += 1
    if not read:
        pytest.skip("this version of PyTorch writes none of them")


@pytest.mark.parametrize("double", [False, True])
def test_sequentials_of_pytorch_are_read(double):
    torch = pytest.importorskip("torch")
    X = torch.randn(30, 6, dtype=torch.float64 if double else torch.float32)
    for name, modules in modules_of(torch).items():
        if "block" in name:
            continue
        if name == "a batch norm, then tanh":
            with pytest.raises(ValueError, match="ReLU and LeakyReLU may stand"):
                fn.from_torch(normal(torch, *modules))
            continue
        module = normal(torch, *modules).to(X.dtype)
        net = fn.from_torch(module)
        assert net.dtype == (np.float64 if double else np.float32)
        assert error(net.predict(X.numpy()), module(X).detach().numpy()) <= CLOSE[net.dtype.name]
    nn = torch.nn
    rms = normal(torch, nn.Linear(6, 5), nn.RMSNorm(5), nn.Linear(5, 2)).to(X.dtype)
    net = fn.from_torch(rms)
    assert error(net.predict(X.numpy()), rms(X).detach().numpy()) <= CLOSE[net.dtype.name]
    for modules, said in (
        ([nn.Linear(6, 5), nn.PReLU(), nn.Linear(5, 2)], "a slope for each unit"),
        ([nn.Linear(6, 5), nn.LayerNorm((1, 5)), nn.Linear(5, 2)], "the last axis alone"),
        ([nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2), nn.LayerNorm(2)], "end with a Dense"),
        ([nn.Linear(6, 5), nn.LayerNorm(4)], "must have 5 features"),
        ([nn.LayerNorm(4)], "at least one Linear"),
        ([nn.Linear(6, 5), nn.Conv1d(5, 2, 1)], "Conv1d. has no layer here"),
    ):
        with pytest.raises(ValueError, match=said):
            fn.from_torch(nn.Sequential(*modules))


def test_numbers_that_a_folded_norm_makes_infinite_are_refused(tmp_path):
    net = fn.Sequential([Dense(3), fn.BatchNorm(), Dense(1)], inputs=2)
    net.layout.view(net.parameters, "1.scale")[:] = 1e30
    net.weights[0][:] = 1e30
    with pytest.raises(ValueError, match="a BatchNorm can be exported where the weights beside"):
        net.to_python(tmp_path / "net.py")


def test_waves_that_turn_a_lot_pass_their_own_test(tmp_path):
    net = fn.Sequential([fn.NumericEmbedding(9, 5, sigma=100.0), Dense(2)], inputs=2, rng=0)
    X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32) * 30
    net.to_python(tmp_path / "net.py", X)
    subprocess.run([sys.executable, tmp_path / "net.py"], check=True, capture_output=True)
    trial = plain.Trial.of(plain.PlainNetwork.of(net.layout, net.parameters, None), X)
    assert trial.tolerance < 0.5


def test_deep_networks_leave_and_come_back(tmp_path):
    pytest.importorskip("onnx")
    net = fn.Sequential([*[Dense(3, "tanh")] * 200, Dense(1)], inputs=2, rng=0)
    X = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    net.to_onnx(tmp_path / "net.onnx")
    net.to_python(tmp_path / "net.py")
    net.to_c(tmp_path / "net.c")
    assert (fn.from_onnx(tmp_path / "net.onnx").predict(X) == net.predict(X)).all()
    found = runpy.run_path(str(tmp_path / "net.py"))["predict"](X)
    assert error(found, net.predict(X)) <= 1e-5


def test_files_are_the_same_every_time(tmp_path):
    for stack in ("blocks in blocks", "waves beside codes"):
        net, X = network(stack)
        for name in ("a", "b"):
            net.to_c(tmp_path / f"{name}.c", X)
            net.to_python(tmp_path / f"{name}.py", X)
        for kind in ("c", "py"):
            assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
