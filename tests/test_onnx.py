"""Networks to ONNX files and from them, beside ONNX Runtime."""

from __future__ import annotations

import itertools
import os
import random
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES, work

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


def many(count, node):
    """Return the bytes of a file of so many nodes, and a layer."""
    return made(*(node(n) for n in range(count)), GEMM)


def changed(change, *nodes):
    """Return the bytes of a file in which something was changed that no writer writes."""
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString(made(*(nodes or [GEMM])))
    change(model, onnx)
    return model.SerializeToString()


def tensor(**fields):
    """Return the bytes of a file whose weights are described in another way."""

    def change(model, onnx):
        model.graph.initializer[0].CopyFrom(onnx.TensorProto(name="W", **fields))

    return changed(change)


def labelled(*texts):
    """Return the bytes of a file with labels of classes."""

    def change(model, onnx):
        for text in texts:
            model.metadata_props.add(key="fastnn.classes", value=text)

    return changed(change)


def field(number, raw):
    """Return bytes as a message's field of bytes."""
    length, size = len(raw), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + raw


def within_each_other(levels):
    """Return the bytes of a file of graphs within attributes of nodes within graphs."""
    raw = b""
    for _ in range(levels):
        raw = field(1, field(5, field(6, raw)))
    return field(7, raw)


def chained(count, width):
    """Return the bytes of a file of so many layers that have their weights in common."""
    names = ["X", *(f"z{n}" for n in range(count - 1)), "Y"]
    pairs = itertools.pairwise(names)
    V = np.ones((width, width), np.float32)
    return made(*(("Gemm", [one, "V"], other) for one, other in pairs), arrays={"V": V})


HOSTILE = {
    "weights in common": (lambda: chained(300, 200), "much larger than the file"),
    "weights in common, turned": (
        lambda: made(*(("Gemm", ["X" if n == 0 else f"z{n - 1}", "V"], f"z{n}", {"transB": 1})
                       for n in range(200)), outputs=("z199",),
                     arrays={"V": np.ones((200, 200), np.float32)}),
        "much larger than the file",
    ),
    "very many layers": (lambda: chained(1_500, 1), "more than 1000 layers"),
    "operators without end": (lambda: chained(19_000, 1), "19000 operators, more than 4000"),
    "constants without end": (
        lambda: changed(lambda m, onnx: m.graph.node.extend(
            [onnx.helper.make_node("Constant", [], [f"c{n}"], value_float=1.0)
             for n in range(19_000)])),
        "operators, more than 4000",
    ),
    "tensors without end": (
        lambda: changed(lambda m, onnx: m.graph.initializer.extend(
            [onnx.TensorProto(name=str(n), data_type=1) for n in range(40_000)])),
        "40001 tensors, more than 4000",
    ),
    "one name for all tensors": (
        lambda: changed(lambda m, onnx: m.graph.initializer.extend(
            [m.graph.initializer[0]] * 3_000)),
        "one name",
    ),
    "a tensor that an operator replaces": (
        lambda: changed(lambda m, onnx: m.graph.node.append(onnx.helper.make_node(
            "Constant", [], ["W"], value=onnx.numpy_helper.from_array(np.zeros((2, 3)))))),
        "one name",
    ),
    "inputs without end": (
        lambda: made(GEMM, inputs=[f"i{n}" for n in range(40_000)]), "40000 tensors",
    ),
    "versions without end": (
        lambda: changed(lambda m, onnx: m.opset_import.extend(
            [onnx.helper.make_opsetid(str(n), 17) for n in range(50_000)])),
        "versions of operators",
    ),
    "a shape without end": (
        lambda: tensor(data_type=1, dims=[2**62] * 100_000, raw_data=b"x" * 8), "100000 dimensions",
    ),
    "a huge shape": (
        lambda: tensor(data_type=1, dims=[2**62, 2**62], raw_data=b"x" * 8), "as its shape says",
    ),
    "an empty shape that is huge": (
        lambda: tensor(data_type=1, dims=[0, 2**62, 2**62]), r"\.",
    ),
    "a shape below zero": (
        lambda: tensor(data_type=1, dims=[-2, -3], raw_data=b"x" * 24), "as its shape says",
    ),
    "more numbers than a shape has": (
        lambda: tensor(data_type=1, dims=[2, 3], float_data=[1.0] * 300_000), "reshape",
    ),
    "texts": (
        lambda: tensor(data_type=8, dims=[2, 3], string_data=[b"x"] * 6), "no number's, 8",
    ),
    "a path": (
        lambda: tensor(data_type=1, dims=[2, 3], data_location=1, external_data=[
            {"key": "location", "value": "../../../etc/passwd"}]),
        "lies in another file",
    ),
    "a device": (
        lambda: tensor(data_type=1, dims=[2, 3], external_data=[
            {"key": "location", "value": "/dev/zero"}]),
        "lies in another file",
    ),
    "a long operator": (lambda: made(("x" * 900_000, ["X", "W"], "Y")), "bytes, more than 10000"),
    "a long name": (lambda: made(("Gemm", ["X", "w" * 900_000], "Y")), "bytes, more than 10000"),
    "reads without end": (
        lambda: made(("Gemm", ["X", *["W"] * 200_000], "Y")), "bytes, more than 10000",
    ),
    "attributes without end": (
        lambda: made((*GEMM, {f"a{n}": 1 for n in range(20_000)})), "bytes, more than 10000",
    ),
    "a long attribute": (
        lambda: made((*GEMM, {"perm": [1] * 500_000})), "bytes, more than 10000",
    ),
    "sums without end": (
        lambda: many(3_900, lambda n: ("Add", ["X", "X"] if n == 0 else [f"s{n - 1}", "X"],
                                       f"s{n}")),
        r"\.",
    ),
    "graphs within graphs": (lambda: within_each_other(3_000), "does not parse"),
    "functions": (
        lambda: changed(lambda m, onnx: m.functions.add(name="Gemm")), "functions",
    ),
    "labels twice": (
        lambda: labelled(*['{"dtype":"<i8","values":[1,2,3]}'] * 2), "more than once",
    ),
    "labels under one name": (
        lambda: labelled('{"dtype":"<i8","values":[1,2,3],"values":[3,2,1]}'), "everything once",
    ),
    "labels without end": (
        lambda: labelled('{"dtype":"<i8","values":[' + "1," * 450_000 + "1]}"), "at most 40",
    ),
    "texts as labels without end": (
        lambda: labelled('{"dtype":"<U1","values":[' + '"a",' * 200_000 + '"a"]}'), "fewer names",
    ),
    "deep labels": (lambda: labelled("[" * 900_000), "at most"),
    "a label without end": (
        lambda: labelled('{"dtype":"<i8","values":[' + "1" * 900_000 + "]}"), "19 digits",
    ),
    "labels that are no numbers": (
        lambda: labelled('{"dtype":"<f8","values":[NaN,1,2]}'), "NaN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_before_it_takes_time_or_memory(name, tmp_path):
    pytest.importorskip("onnx")
    make, message = HOSTILE[name]
    path, raw = tmp_path / "net.onnx", make()
    path.write_bytes(raw)

    def refused():
        with pytest.raises(fn.ModelFileError, match=f"net.onnx.*{message}") as caught:
            fn.from_onnx(path)
        assert len(str(caught.value)) < 600

    calls, peak = work(refused)
    assert calls < 200_000
    assert peak <= 2 * len(raw) + (1 << 24)


def test_the_honest_twins_of_the_hostile_files_are_read(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    path.write_bytes(labelled('{"dtype":"<i8","values":[1,2,3]}'))
    assert fn.from_onnx(path).classes.tolist() == [1, 2, 3]
    path.write_bytes(tensor(data_type=1, dims=[2, 3], float_data=[1.0] * 6))
    assert fn.from_onnx(path).weights[0].tolist() == [[1.0] * 3] * 2
    # Small weights may be common to some layers, and a network may be deep.
    path.write_bytes(chained(1_000, 1))
    assert len(fn.from_onnx(path).layers) == 1_000


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
