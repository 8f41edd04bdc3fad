"""Files that were changed at random within their own grammar: read, or refused by `ModelFileError`.

Bytes that are flipped at random hardly ever get past a checksum or a parser.  Here a file is taken
apart, its parts are changed, and it is put together again so that all that can be computed, such as
checksums, is right.  A campaign of 100 000 files for each reader is behind the marker `slow`:
``python -m pytest -m slow tests/test_campaigns.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickletools
import random
import tempfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn.formats import safetensors

DATA = Path(__file__).parent / "data"
STRANGE = [
    None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**63, 2**64, -(2**63), 0.5, -1.5, 1e308, "",
    "x", "relu", "Dense", "é", "x" * 300, [], [1], [[]], [0, 1, 2], {}, {"a": 1},
    {"layer": "Dense"}, {"tuple": []}, {"array": "0"}, {"made": ["Huber", {}]},
    {"made": ["os.system", {}]},
]  # fmt: skip


# Files whose description is JSON beside arrays.


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where all values lie within a value."""
    found = [where]
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(one, (*where, key))
    return found


def at(value: Any, where: tuple[Any, ...]) -> Any:
    for key in where:
        value = value[key]
    return value


def bent(value: Any, rng: random.Random) -> Any:
    """Return a value of which one to three parts are others."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 3)):
        every = places(value)[1:]
        if not every:
            return rng.choice(STRANGE)
        *above, key = rng.choice(every)
        inside = at(value, tuple(above))
        match rng.randrange(5):
            case 0:
                del inside[key]
            case 1:
                inside[key] = json.loads(json.dumps(at(value, rng.choice(every))))
            case 2 if isinstance(inside, list):
                inside.insert(key, json.loads(json.dumps(inside[key])))
            case 2 | 3 if isinstance(inside[key], int | float) and inside[key] is not True:
                inside[key] += rng.choice([-1, 1, 2**40])
            case _:
                inside[key] = json.loads(json.dumps(rng.choice(STRANGE)))
    return value


def bent_arrays(arrays: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return arrays of which one is another, missing or called by another name."""
    arrays = dict(arrays)
    name = rng.choice(sorted(arrays))
    array = arrays.pop(name)
    match rng.randrange(6):
        case 0:
            pass
        case 1:
            arrays[rng.choice([*arrays, "x", name + "x"])] = array
        case 2:
            kinds = ["f4", "f8", "i8", "u1", "f2"]
            with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
                arrays[name] = array.astype(rng.choice(kinds))
        case 3:
            arrays[name] = array.reshape(rng.choice([(-1,), (1, -1), (-1, 1), array.shape[::-1]]))
        case 4:
            arrays[name] = array.ravel()[: rng.randrange(array.size + 1)]
        case 5:
            changed = array.copy()
            if changed.dtype.kind == "f" and changed.size:
                changed.ravel()[rng.randrange(changed.size)] = rng.choice([np.nan, np.inf, 1e38])
            arrays[name] = changed
    return arrays


@cache
def network() -> bytes:
    """Return a small network's file, with every kind of array."""
    layers = [
        fn.Standardize(), fn.Embedding({1: 3}), fn.NumericEmbedding(2, 2), fn.BatchNorm(),
        fn.Residual([fn.LayerNorm(), fn.Dense(6, "relu")]), fn.Dropout(0.2), fn.Dense(2),
    ]  # fmt: skip
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[:, 1] = np.arange(20) % 3
    net = fn.Sequential(layers, 3, rng=0)
    net.adapt(X)
    net.classes = ["no", "yes"]
    return saved(net.save)


@cache
def estimator() -> bytes:
    """Return a small estimator's file."""
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).normal(size=(30, 3))
    model = fn.MLPClassifier(2, max_iter=2, random_state=np.random.RandomState(0))
    with warnings.catch_warnings(action="ignore"):
        model.fit(X, np.arange(30) % 3)
    return saved(model.save)


def saved(save: Callable[[Path], None]) -> bytes:
    """Return what is written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        save(path)
        return path.read_bytes()


@pytest.fixture(autouse=True)
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def put(path: Path, raw: bytes) -> None:
    """Write a new file: systems flush one that is written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def described(raw: bytes, name: str, path: Path, rng: random.Random) -> None:
    """Write a file with another description or other arrays, and with checksums that are right."""
    put(path, raw)
    arrays, texts = safetensors.read(path)
    texts = {key: text for key, text in texts.items() if not key.startswith("sha")}
    if rng.random() < 0.75:
        texts[name] = json.dumps(bent(json.loads(texts[name]), rng))
    if rng.random() < 0.4:
        arrays = bent_arrays(arrays, rng)
    safetensors.write(path, arrays, texts)


def change_network(path: Path, rng: random.Random) -> None:
    described(network(), "network", path, rng)


def read_network(path: Path) -> None:
    net = fn.load(path)
    arrays, _ = safetensors.read(path)
    for entry in net.layout:
        assert net.layout.view(net.parameters, entry).tobytes() == arrays[entry.name].tobytes()


def change_estimator(path: Path, rng: random.Random) -> None:
    described(estimator(), "estimator", path, rng)


def read_estimator(path: Path) -> None:
    model = fn.load_estimator(path)
    arrays, _ = safetensors.read(path)
    found = [*model.coefs_, *model.intercepts_]
    theirs = [array for name, array in arrays.items() if name.startswith(("coefs_", "intercepts"))]
    assert {one.tobytes() for one in found} <= {one.tobytes() for one in theirs}
    with warnings.catch_warnings(action="ignore"):
        model.predict(np.zeros((2, model.n_features_in_)))


# PyTorch's.


def opcodes(raw: bytes) -> list[bytes]:
    """Return a pickle in its opcodes."""
    begins = [begin for _, _, begin in pickletools.genops(raw)]
    ends = [*begins[1:], len(raw)]
    return [raw[begin:end] for begin, end in zip(begins, ends, strict=True)]


def bent_pickle(raw: bytes, rng: random.Random) -> bytes:
    """Return a pickle of which one to four opcodes are others."""
    codes = opcodes(raw)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(codes))
        if len(codes) < 2:
            break
        match rng.randrange(6):
            case 0:
                del codes[place]
            case 1:
                codes.insert(place, rng.choice(codes))
            case 2:
                codes[place] = rng.choice(codes)
            case 3:
                other = rng.randrange(len(codes))
                codes[place], codes[other] = codes[other], codes[place]
            case 4:
                code = bytearray(codes[place])
                code[rng.randrange(len(code))] = rng.randrange(256)
                codes[place] = bytes(code)
            case 5:
                codes.insert(place, rng.choice([
                    b"N", b"}", b"]", b")", b"(", b"0", b"1", b"2", b"R", b"b", b"Q", b"\x81",
                    b"\x85", b"\x86", b"\x87", b"K\x05", b"J\xff\xff\xff\xff", b"cos\nsystem\n",
                    b"ctorch\nFloatStorage\n", b"G\x7f\xf0\0\0\0\0\0\0", b"h\x02", b"q\x02",
                ]))  # fmt: skip
    return b"".join(codes)


def change_archive(path: Path, rng: random.Random) -> None:
    with zipfile.ZipFile(DATA / "torch_zip.pt") as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = next(n for n, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    if rng.random() < 0.8:
        entries[place] = (entries[place][0], bent_pickle(entries[place][1], rng))
    if rng.random() < 0.3:
        name, content = entries.pop(rng.randrange(len(entries)))
        if rng.random() < 0.7:
            name = rng.choice([name, name + "x", "../" + name, "archive/data/0", "/etc/passwd"])
            entries.append((name, content[: rng.randrange(len(content) + 1)]))
    path.unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        for name, content in entries:
            archive.writestr(name, content)


def change_legacy(path: Path, rng: random.Random) -> None:
    raw = (DATA / "torch_legacy.pt").read_bytes()
    parts, file = [], io.BytesIO(raw)
    for _ in range(5):
        begin = file.tell()
        for opcode, _, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                break
        parts.append(raw[begin : file.tell()])
    parts.append(raw[file.tell() :])
    place = rng.choice([0, 1, 2, 3, 3, 3, 3, 4, 4])
    parts[place] = bent_pickle(parts[place], rng)
    put(path, b"".join(parts))


def read_torch(path: Path) -> None:
    arrays = fn.load_torch(path)
    assert sum(array.nbytes for array in arrays.values()) <= 2 * path.stat().st_size


# ONNX.


@cache
def onnx_file() -> bytes:
    """Return a small network's file, with nodes of most kinds."""
    pytest.importorskip("onnx")
    layers = [
        fn.LayerNorm(), fn.Dense(4, "leaky_relu"),
        fn.Residual([fn.RMSNorm(), fn.Dense(4, "silu")]), fn.BatchNorm(), fn.PReLU(),
        fn.Dense(2, "softmax"),
    ]  # fmt: skip
    net = fn.Sequential(layers, 3, rng=0)
    net.classes = ["no", "yes"]
    return saved(net.to_onnx)


def change_onnx(path: Path, rng: random.Random) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString(onnx_file())
    graph = model.graph
    operators = sorted({node.op_type for node in graph.node})
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.randint(1, 3)):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        match rng.randrange(12):
            case 0:
                node.op_type = rng.choice([*operators, "Identity", "Constant", "Conv", "MatMul"])
            case 1 if node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice([*names, "", "y"])
            case 2:
                node.output[0] = rng.choice(names)
            case 3:
                node.output.append(rng.choice(names))
            case 4 if node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.i, attribute.f = rng.choice([-2, 0, 1, 2**40]), rng.choice([0, 1e30, -1])
                attribute.type = rng.choice([0, 1, 2, 3, 6, 7])
            case 5:
                node.attribute.append(onnx.helper.make_attribute(
                    rng.choice(["alpha", "axis", "epsilon", "transA", "transB", "x"]),
                    rng.choice([0, 1, 2.5, "x", [1, 2]])))  # fmt: skip
            case 6:
                tensor.dims[:] = rng.choice([[], [0], [-1], [2**40, 2**40], [1], [12], [4, 3]])
            case 7:
                tensor.data_type = rng.randrange(25)
            case 8:
                tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
            case 9:
                tensor.name = rng.choice(names)
            case 10:
                place, other = rng.randrange(len(graph.node)), rng.randrange(len(graph.node))
                kept = onnx.NodeProto.FromString(graph.node[place].SerializeToString())
                graph.node[place].CopyFrom(graph.node[other])
                if rng.random() < 0.5:
                    graph.node[other].CopyFrom(kept)
            case _:
                model.opset_import[0].version = rng.choice([1, 13, 17, 23, 24, 2**40])
                model.opset_import[0].domain = rng.choice(["", "", "x"])
    put(path, model.SerializeToString())


def read_onnx(path: Path) -> None:
    net = fn.from_onnx(path)
    assert np.isfinite(net.parameters).all()
    assert net.parameters.nbytes <= 2 * path.stat().st_size + 4 * 4 * len(net.layers) * 64


READERS: dict[str, tuple[Callable[[Path, random.Random], None], Callable[[Path], None]]] = {
    "network": (change_network, read_network),
    "estimator": (change_estimator, read_estimator),
    "torch archive": (change_archive, read_torch),
    "torch pickles": (change_legacy, read_torch),
    "onnx": (change_onnx, read_onnx),
}


def campaign(name: str, path: Path, seed: int, count: int) -> int:
    """Read so many changed files; return how many were taken."""
    change, read = READERS[name]
    rng, taken = random.Random(seed), 0
    for _ in range(count):
        change(path, rng)
        try:
            read(path)
            taken += 1
        except fn.ModelFileError:
            pass
    return taken


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    taken = campaign(name, tmp_path / "file", seed=0, count=400)
    # Both come often enough that the campaign reaches beyond the first check.
    assert 4 <= taken <= 350


@pytest.mark.parametrize("name", READERS)
def test_changed_files_take_little_memory(name: str, tmp_path: Path) -> None:
    change, read = READERS[name]
    rng, path = random.Random(1), tmp_path / "file"
    for _ in range(40):
        change(path, rng)
        tracemalloc.start()
        try:
            read(path)
        except fn.ModelFileError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak <= 2 * path.stat().st_size + (1 << 24)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("name", READERS)
def test_very_many_changed_files_are_read_or_refused(name: str, seed: int, tmp_path: Path) -> None:
    campaign(name, tmp_path / "file", seed, count=10_000)


# Every byte, and every length.


@pytest.mark.parametrize("name", ["torch_zip.pt", "torch_legacy.pt"])
def test_every_byte_and_length_of_a_file_of_pytorch(name: str, tmp_path: Path) -> None:
    raw, path = (DATA / name).read_bytes(), tmp_path / "file"
    for place in range(len(raw)):
        put(path, raw[:place])
        with pytest.raises(fn.ModelFileError):
            fn.load_torch(path)
        put(path, raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :])
        with contextlib.suppress(fn.ModelFileError):
            read_torch(path)


def test_every_byte_and_length_of_an_onnx_file(tmp_path: Path) -> None:
    raw, path = onnx_file(), tmp_path / "file"
    for place in range(len(raw)):
        for changed in (
            raw[:place],
            raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :],
        ):
            put(path, changed)
            with contextlib.suppress(fn.ModelFileError):
                read_onnx(path)


def test_large_onnx_files_that_are_no_network_take_little(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path, helper = tmp_path / "file", onnx.helper
    W = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "W")
    many = [helper.make_node("Gemm", ["X", "W"], [f"z{n}"]) for n in range(19_000)]
    sums = [helper.make_node("Add", ["X", "X"], [f"z{n}"]) for n in range(19_000)]
    chain = [helper.make_node("Add", ["X" if n == 0 else f"z{n - 1}", "X"], [f"z{n}"])
             for n in range(19_000)]  # fmt: skip
    nothing = [helper.make_node("Identity", ["X" if n == 0 else f"z{n - 1}"], [f"z{n}"])
               for n in range(19_000)]  # fmt: skip
    huge = onnx.TensorProto(name="W", dims=[2**31, 2**31], data_type=1, raw_data=b"x" * 4_000)
    empty = onnx.TensorProto(name="W", dims=[0, 2**40], data_type=1)
    for nodes, tensors in (
        (many, [W]), (sums, [W]), (chain, [W]), (nothing, [W]), (many[:1], [huge]),
        (many[:1], [empty]), (many[:1], [W] * 10_000),
        ([*many[:1]] * 50_000, [W]),
    ):  # fmt: skip
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("X", 1, None)],
            [helper.make_tensor_value_info("z18999", 1, None)], tensors,
        )  # fmt: skip
        put(path, helper.make_model(graph, ir_version=8).SerializeToString())
        tracemalloc.start()
        try:
            with pytest.raises(fn.ModelFileError):
                fn.from_onnx(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= 2 * path.stat().st_size + (1 << 24)
