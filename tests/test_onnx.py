"""Networks to ONNX files and from them, beside ONNX Runtime."""

from __future__ import annotations

import os
import random
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.exports.onnx_graph import PATTERNS

CLOSE = {"float32": 1e-5, "float64": 1e-12}


def network(activation="tanh", dtype="float32", last=None):
    layers = [
        fn.Dense(9, activation), fn.Dropout(0.2), fn.Dense(5, activation, bias=False),
        fn.Dense(3, last or activation),
    ]  # fmt: skip
    net = fn.Sequential(layers, 6, dtype, rng=4)
    net.biases[0][:] = np.linspace(-0.5, 0.5, 9)
    if activation == "exp":
        net.parameters *= 0.3  # or it overflows
    return net


def examples(dtype="float32"):
    return np.random.default_rng(1).normal(size=(30, 6)).astype(dtype)


def test_every_activation_has_operators():
    assert set(PATTERNS) == set(ACTIVATIONS)
    assert len({patterns[0] for patterns in PATTERNS.values()}) == len(ACTIVATIONS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_goes_to_onnx_and_back(activation, dtype, tmp_path):
    pytest.importorskip("onnx")
    net, X = network(activation, dtype), examples(dtype)
    net.classes = ["é", "b", "c"]
    net.to_onnx(tmp_path / "net.onnx")
    again = fn.from_onnx(tmp_path / "net.onnx")
    assert [layer.activation for layer in again.layers] == [activation] * 3
    assert [layer.bias for layer in again.layers] == [True, False, True]
    assert again.dtype == net.dtype
    assert (again.parameters == net.parameters).all()
    assert again.classes.tolist() == ["é", "b", "c"]
    runtime = pytest.importorskip("onnxruntime")
    if (activation, dtype) == ("gelu", "float64"):
        return  # it has no Erf of float64
    session = runtime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    answers, wanted = session.run(None, {"X": X})[0], net.predict(X)
    assert answers.dtype == net.dtype
    assert np.abs(answers - wanted).max() <= CLOSE[dtype] * np.abs(wanted).max()


def made(*nodes, arrays=None, inputs=("X",), outputs=("Y",), opset=17, **more):
    """Return the bytes of a file of nodes given as (operator, inputs, output, attributes)."""
    onnx = pytest.importorskip("onnx")
    arrays = {"W": np.ones((2, 3), np.float32), **(arrays or {})}
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, reads, [out], **dict(*rest)) for op, reads, out, *rest in nodes],
        "g",
        [onnx.helper.make_tensor_value_info(one, kind, None) for one in inputs],
        [onnx.helper.make_tensor_value_info(one, kind, None) for one in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid(more.get("domain", ""), opset)]
    )
    return model.SerializeToString()


def test_products_and_sums_are_layers_too(tmp_path):
    b = np.arange(3, dtype=np.float32)
    raw = made(
        ("Flatten", ["X"], "f"), ("MatMul", ["f", "W"], "p"), ("Add", ["b", "p"], "z"),
        ("Relu", ["z"], "a"), ("Dropout", ["a"], "d"),
        ("Gemm", ["d", "V"], "q", {"transB": 1}), ("Identity", ["q"], "Y"),
        arrays={"b": b, "V": np.full((1, 3), 2.0, np.float32)},
    )  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(raw)
    net = fn.from_onnx(tmp_path / "net.onnx")
    assert [(layer.units, layer.activation) for layer in net.layers] == [
        (3, "relu"), (1, "identity"),
    ]  # fmt: skip
    assert net.predict([[1.0, 2.0]]).tolist() == [[2 * (3 + 4 + 5)]]


def test_norms_as_others_write_them_are_read(tmp_path):
    pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(9, 2)).astype(np.float32)
    s, t, W = (rng.normal(size=size).astype(np.float32) for size in (2, 2, (2, 3)))
    e, two = np.float32(1e-3), np.float32(2)
    mean, axes = {"axes": [-1], "keepdims": 1}, np.array([1])
    square = (X**2).mean(axis=1, keepdims=True) + 1e-3
    off = X - X.mean(axis=1, keepdims=True)
    normal = off / np.sqrt((off**2).mean(axis=1, keepdims=True) + 1e-3)
    end = ("Gemm", ["n", "W"], "Y")
    for nodes, wanted, opset in (
        ([("LayerNormalization", ["X", "s"], "n", {"epsilon": 1e-3})], normal * s, 17),
        (
            [
                ("ReduceMean", ["X"], "m", mean),
                ("Sub", ["X", "m"], "o"),
                ("Pow", ["o", "two"], "q"),
                ("ReduceMean", ["q"], "v", mean),
                ("Add", ["v", "e"], "w"),
                ("Sqrt", ["w"], "r"),
                ("Div", ["o", "r"], "d"),
                ("Mul", ["d", "s"], "g"),
                ("Add", ["g", "t"], "n"),
            ],
            normal * s + t,
            13,
        ),
        ([("RMSNormalization", ["X", "s"], "n", {"epsilon": 1e-3})], X / np.sqrt(square) * s, 23),
        (
            [
                ("Pow", ["X", "two"], "q"),
                ("ReduceMean", ["q", "axes"], "v"),
                ("Add", ["v", "e"], "w"),
                ("Sqrt", ["w"], "r"),
                ("Reciprocal", ["r"], "i"),
                ("Mul", ["X", "i"], "d"),
                ("Mul", ["d", "s"], "n"),
            ],
            X / np.sqrt(square) * s,
            18,
        ),
        (
            [
                ("Pow", ["X", "two"], "q"),
                ("ReduceMean", ["q", "axes"], "v"),
                ("Add", ["v", "e"], "w"),
                ("Sqrt", ["w"], "r"),
                ("Div", ["X", "r"], "d"),
                ("Mul", ["s", "d"], "n"),
            ],
            X / np.sqrt(square) * s,
            18,
        ),
    ):
        arrays = {"s": s, "t": t, "W": W, "e": e, "two": two, "axes": axes}
        (tmp_path / "net.onnx").write_bytes(made(*nodes, end, arrays=arrays, opset=opset))
        net = fn.from_onnx(tmp_path / "net.onnx")
        assert net.predict(X) == pytest.approx(wanted @ W, abs=1e-5)


GEMM = ("Gemm", ["X", "W"], "Y")
REFUSED = {
    "Conv": (lambda: made(("Conv", ["X", "W"], "Y")), "its operator 'Conv'"),
    "a factor": (lambda: made((*GEMM, {"alpha": 2.0})), "a factor other than 1"),
    "a turned input": (lambda: made((*GEMM, {"transA": 1})), "turns its input"),
    "a branch": (
        lambda: made(GEMM, ("Relu", ["X"], "Z"), outputs=("Y", "Z")), "has 1 and 2",
    ),
    "two inputs": (lambda: made(GEMM, inputs=("X", "U")), "has 2 and 1"),
    "a sum with an input of another width": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("Add", ["z", "X"], "s"),
                     ("Gemm", ["s", "W"], "Y")),
        "reads 2 columns where there are 3",
    ),
    "a sum of something else": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("Tanh", ["X"], "t"), ("Add", ["z", "t"], "Y")),
        "operator 'Tanh'",
    ),
    "a sum with a part of a block": (
        lambda: made(("Gemm", ["X", "V"], "a"), ("Gemm", ["a", "V"], "b"), ("Add", ["a", "X"], "c"),
                     ("Add", ["b", "c"], "Y"), arrays={"V": np.ones((2, 2), np.float32)}),
        "adds something else than a block's input",
    ),
    "slopes at the end": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("LeakyRelu", ["z"], "Y", {"alpha": 0.2})),
        "must end with a Dense layer",
    ),
    "a norm of other axes": (
        lambda: made(("LayerNormalization", ["X", "V"], "n", {"axis": 0}),
                     ("Gemm", ["n", "W"], "Y"), arrays={"V": np.ones(2, np.float32)}),
        "operator 'LayerNormalization'",
    ),
    "a norm of another width": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("LayerNormalization", ["z", "V"], "Y"),
                     arrays={"V": np.ones(2, np.float32)}),
        "scale has 2 numbers for 3 columns",
    ),
    "a norm in training": (
        lambda: made(("BatchNormalization", ["X", "V", "V", "V", "V"], "n", {"training_mode": 1}),
                     ("Gemm", ["n", "W"], "Y"), arrays={"V": np.ones(2, np.float32)}),
        "operator 'BatchNormalization'",
    ),
    "an activation of the inputs": (
        lambda: made(("Relu", ["X"], "a"), ("Gemm", ["a", "W"], "Y")), "before any layer",
    ),
    "an activation of an activation": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("Tanh", ["z"], "t"), ("Tanh", ["t"], "Y")),
        "operator 'Tanh'",
    ),
    "blocks without end": (
        lambda: made(*(("Gemm", ["X" if n == 0 else f"g{n - 1}", "V"], f"g{n}") for n in range(40)),
                     *(("Add", [f"g{39 - n}" if n == 0 else f"s{n - 1}", f"g{38 - n}"], f"s{n}")
                       for n in range(39)), outputs=("s38",),
                     arrays={"V": np.ones((2, 2), np.float32)}),
        "deep within each other",
    ),
    "integers": (
        lambda: made(GEMM, arrays={"W": np.ones((2, 3), np.int64)}), "is of int64",
    ),
    "weights of one axis": (
        lambda: made(GEMM, arrays={"W": np.ones(3, np.float32)}), r"of shape \(3,\)",
    ),
    "missing weights": (lambda: made(("Gemm", ["X", "V"], "Y")), "no tensor of the file"),
    "widths that do not fit": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("Gemm", ["z", "W"], "Y")),
        "reads 2 columns where there are 3",
    ),
    "biases that do not fit": (
        lambda: made(("Gemm", ["X", "W", "b"], "Y"), arrays={"b": np.ones(2, np.float32)}),
        r"biases of shape \(2,\)",
    ),
    "an output elsewhere": (
        lambda: made(("Gemm", ["X", "W"], "z"), outputs=("Y",)), "not the end of a chain",
    ),
    "nothing": (lambda: made(outputs=("X",)), "no layer"),
    "a new version": (lambda: made(GEMM, opset=99), "of version 99, newer than 23"),
    "another domain": (lambda: made(GEMM, domain="com.microsoft"), "uses operators of 'com"),
    "dtypes": (
        lambda: made(("Gemm", ["X", "W"], "z"), ("Gemm", ["z", "V"], "Y"),
                     arrays={"V": np.ones((3, 2))}),
        "of several dtypes",
    ),
    "NaN": (
        lambda: made(GEMM, arrays={"W": np.full((2, 3), np.nan, np.float32)}), "finite",
    ),
    "text": (lambda: b"hello there, this is no model at all", "not a readable ONNX"),
    "an empty file": (lambda: b"", "not a readable ONNX"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_place_here_is_refused_by_name(name, tmp_path):
    pytest.importorskip("onnx")
    make, message = REFUSED[name]
    (tmp_path / "net.onnx").write_bytes(make())
    with pytest.raises(fn.ModelFileError, match=f"net.onnx.*{message}"):
        fn.from_onnx(tmp_path / "net.onnx")


def test_tensors_in_other_files_and_false_sizes_are_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    for change, message in (
        (lambda t: setattr(t, "data_location", onnx.TensorProto.EXTERNAL), "another file"),
        (lambda t: t.dims.extend([10**9, 10**9]), "as its shape says"),
        (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "net.onnx"),
    ):
        model = onnx.ModelProto.FromString(made(GEMM))
        change(model.graph.initializer[0])
        path.write_bytes(model.SerializeToString())
        with pytest.raises(fn.ModelFileError, match=message):
            fn.from_onnx(path)


def test_damaged_files_are_refused_or_read(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    network("elu").to_onnx(path)
    raw, rng = path.read_bytes(), random.Random(0)
    for at in range(0, len(raw), 5):
        for changed in (
            raw[:at],
            raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :],
        ):
            path.write_bytes(changed)
            try:
                fn.from_onnx(path)
            except fn.ModelFileError:
                continue


@pytest.mark.parametrize(
    "name", ["Tanh", "ReLU", "Sigmoid", "ELU", "SELU", "GELU", "SiLU", "Softplus", "Mish",
             "Softsign", "Hardsigmoid", "LeakyReLU"],
)  # fmt: skip
def test_pytorch_s_files_are_read(name, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    nn = torch.nn
    module = nn.Sequential(
        nn.Linear(6, 4), getattr(nn, name)(), nn.Linear(4, 3), nn.Softmax(dim=1)
    ).eval()
    X = examples()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module, (torch.from_numpy(X),), str(tmp_path / "net.onnx"), dynamo=False,
                input_names=["X"], opset_version=17,
            )  # fmt: skip
        except Exception as problem:  # (what a version of PyTorch cannot write is not ours)
            pytest.skip(str(problem))
    net = fn.from_onnx(tmp_path / "net.onnx")
    wanted = module(torch.from_numpy(X)).detach().numpy()
    assert net.predict(X) == pytest.approx(wanted, abs=1e-6)


def test_without_onnx_both_ways_say_what_they_need(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "fastnn.exports.onnx_out", raising=False)
    with pytest.raises(ImportError, match="to_onnx needs onnx: python -m pip install onnx"):
        network().to_onnx(tmp_path / "net.onnx")
    with pytest.raises(ImportError, match="from_onnx needs onnx: python -m pip install onnx"):
        fn.from_onnx(tmp_path / "net.onnx")


def test_the_page_s_example_runs(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
    section = page.partition("## ONNX")[2].partition("\n##")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    known = {"fn": fn, "net": network()}
    exec(code, known)
    assert (known["again"].parameters == known["net"].parameters).all()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    pytest.importorskip("onnx")
    os.mkfifo(tmp_path / "net.onnx")
    with pytest.raises(fn.ModelFileError, match=r"net\.onnx.*must be a regular file"):
        fn.from_onnx(tmp_path / "net.onnx")
