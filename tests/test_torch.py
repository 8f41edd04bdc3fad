"""PyTorch's files read without it, and networks from and to its modules."""

from __future__ import annotations

import io
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cases import DTYPES

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.exports.torch_modules import MODULES

DATA = Path(__file__).parent / "data"

# What PyTorch 2.13 wrote into the files of DATA: 3-4-2, tanh and softmax, and what it answers.
ROWS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
ANSWERS = [
    [0.47918975353240967, 0.5208103060722351],
    [0.4871298670768738, 0.512870192527771],
    [0.4929640591144562, 0.5070359706878662],
    [0.4966878890991211, 0.5033121109008789],
]
STATES = ["torch_zip.pt", "torch_legacy.pt", "torch_checkpoint.pt"]


# Files.


@pytest.mark.parametrize("name", STATES)
def test_a_file_of_pytorch_s_gives_its_network(name):
    state = fn.load_torch(DATA / name)
    assert {key: array.shape for key, array in state.items()} == {
        "0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,),
    }  # fmt: skip
    assert all(array.dtype == np.float32 and array.flags.owndata for array in state.values())
    net = fn.from_torch(state, ["tanh", "softmax"])
    assert net.predict(ROWS) == pytest.approx(np.array(ANSWERS), rel=1e-6)


def test_pytorch_stays_unloaded():
    program = (
        "import sys, fastnn as fn\n"
        f"fn.from_torch(fn.load_torch({str(DATA / STATES[0])!r}), 'tanh')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_whole_module_is_refused_with_what_to_save():
    with pytest.raises(fn.ModelFileError, match=r"state_dict\(\), .* asks for 'torch.nn.modules"):
        fn.load_torch(DATA / "torch_module.pt")


def test_tensors_of_all_kinds_are_read():
    # Saved by protocol 4, and so with other opcodes.
    state = fn.load_torch(DATA / "torch_kinds.pt")
    exact = fn.load_torch(DATA / "torch_zip.pt")
    half = state["half.weight"]
    assert half.dtype == np.float32
    assert half == pytest.approx(exact["0.weight"], rel=2**-8)
    assert not (half.view(np.uint32) & 0xFFFF).any()
    assert state["turned.weight"].dtype == np.float64
    assert state["turned.weight"].flags.c_contiguous
    assert (state["turned.weight"] == exact["2.weight"].T).all()
    assert (state["part.bias"] == exact["0.bias"][1:4:2]).all()
    assert (state["count"].shape, int(state["count"])) == ((), 7)
    assert state["none.weight"].shape == (0, 3)


def test_a_checkpoint_s_parts_are_asked_for_by_their_key():
    path = DATA / "torch_checkpoint.pt"
    assert list(fn.load_torch(path, "model_state_dict")) == list(fn.load_torch(path))
    with pytest.raises(fn.ModelFileError, match=r"as 'model' \(str\); it has 'model_state_dict'"):
        fn.load_torch(path, "model")
    with pytest.raises(TypeError, match="key must be a text or None; got 3"):
        fn.load_torch(path, 3)


def test_a_safetensors_file_is_read_too(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    state = fn.load_torch(DATA / "torch_zip.pt")
    safetensors.save_file(state, tmp_path / "net.safetensors")
    again = fn.load_torch(tmp_path / "net.safetensors")
    assert all((again[name] == state[name]).all() for name in state)


def archive(data, *, names=("0",), size=24, compression=zipfile.ZIP_STORED, **more):
    """Return a file like PyTorch's around the pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("net/data.pkl", data)
        for name in names:
            made.writestr(f"net/data/{name}", bytes(size))
        for name, raw in more.items():
            made.writestr(f"net/{name.replace('_', '.')}", raw)
    return file.getvalue()


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ"
EMPTY = b"ccollections\nOrderedDict\n)R"


def tensor(storage=STORAGE, offset=b"K\0", shape=b"K\x02K\x03\x86", strides=b"K\x03K\x01\x86"):
    parts = (b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, offset, shape, strides, b"\x89")
    return b"".join(parts) + EMPTY + b"tR"


def state_of(*tensors):
    items = b"".join(
        b"X\x01\0\0\0%c" % (97 + place) + one for place, one in enumerate(tensors)
    )  # fmt: skip
    return b"\x80\x02" + EMPTY + b"(" + items + b"u."


class Run:
    """What a hostile pickle would call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def run(function, *arguments):
    return pickle.dumps({"a": Run(function, *arguments)}, 2)


LEGACY = (DATA / "torch_legacy.pt").read_bytes()
ZIPPED = (DATA / "torch_zip.pt").read_bytes()
SHARED = b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(1, 60))

HOSTILE = {
    "a command": archive(run(exec, "raise SystemExit('it ran')")),
    "a command, legacy": run(exec, "raise SystemExit('it ran')"),
    "a command behind the magic": LEGACY[:14] + run(exec, "raise SystemExit('it ran')"),
    "an import": archive(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."),
    "an import by stack": archive(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."),
    "an old import": archive(b"(S'ls'\nios\nsystem\n."),
    "a new object": archive(b"\x80\x02cbuiltins\nlist\n)\x81."),
    "an object of Python's": archive(b"\x80\x02(cbuiltins\ndict\no."),
    "an extension": archive(b"\x80\x02\x82\x01."),
    "attributes of a name": archive(b"\x80\x02ccollections\nOrderedDict\n}b."),
    "a call of a value": archive(b"\x80\x02K\x01)R."),
    "a call of a storage": archive(b"\x80\x02ctorch\nFloatStorage\n)R."),
    "a whole module": (DATA / "torch_module.pt").read_bytes(),
    "a module with code": archive(state_of(tensor()), constants_pkl=b"\x80\x02)."),
    "nested pairs as a key": archive(
        b"\x80\x02})q\x01" + SHARED + b"h<K\x01s."
    ),
    "an enormous number": archive(
        b"\x80\x02\x8b" + struct.pack("<i", 200_000) + b"\x7f" * 200_000 + b"."
    ),
    "a long text that is not there": archive(b"\x80\x02X\xff\xff\xff\x7fabc."),
    "a memo that is not there": archive(b"\x80\x02h\x07."),
    "marks without end": archive(b"\x80\x02" + b"(" * 100_000 + b"."),
    "values without end": archive(b"\x80\x02" + b"N" * 300_000 + b"."),
    "no end": archive(b"\x80\x02N"),
    "no value": archive(b"\x80\x02."),
    "no pickle": archive(b""),
    "text": archive(b"hello there"),
    "no tensors": archive(b"\x80\x02}X\x01\0\0\0aK\x01s."),
    "a list": archive(b"\x80\x02]."),
    "beyond the storage": archive(state_of(tensor(offset=b"K\x01"))),
    "a huge shape": archive(state_of(tensor(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"))),
    "a huge shape without strides": archive(
        state_of(tensor(shape=b"J\xff\xff\xff\x7fK\x01\x86", strides=b"K\0K\0\x86"))
    ),
    "a negative shape": archive(state_of(tensor(shape=b"J\xff\xff\xff\xffK\x03\x86"))),
    "negative strides": archive(state_of(tensor(strides=b"J\xff\xff\xff\xffK\x01\x86"))),
    "a shape that is none": archive(state_of(tensor(shape=b"X\x02\0\0\x0023"))),
    "a storage of another kind": archive(state_of(tensor(), tensor(
        STORAGE.replace(b"FloatStorage", b"DoubleStorage")))),
    "an unknown storage": archive(state_of(tensor(STORAGE.replace(b"Float", b"Queer")))),
    "a storage that is a number": archive(state_of(tensor(b"K\x01"))),
    "a storage that is missing": archive(state_of(tensor()), names=()),
    "a storage that is short": archive(state_of(tensor(STORAGE.replace(b"K\x06tQ", b"K\x07tQ")))),
    "one storage many times": archive(
        state_of(*[tensor(STORAGE.replace(b"K\x06tQ", b"M\x10\x27tQ"), b"K\0", b"M\x10\x27\x85",
                          b"K\x01\x85")] * 26),
        size=40_000,
    ),
    "a bomb": archive(state_of(tensor()) + bytes(50_000_000), compression=zipfile.ZIP_DEFLATED),
    "many entries": archive(state_of(tensor()), names=[str(n) for n in range(5_000)]),
    "an archive of nothing": archive(b"", names=())[-22:],
    "a begin without an end": ZIPPED[:100],
    "big-endian": archive(state_of(tensor()), byteorder=b"big"),
    "legacy, cut short": LEGACY[:-5],
    "legacy, without storages": LEGACY[:600],
    "another pickle": pickle.dumps({"a": 1}),
    "a tar archive": b"storages" + bytes(600),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_runs_nothing(name, tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(fn.ModelFileError, match=r"net\.pt"):
            fn.load_torch(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most <= 2 * len(HOSTILE[name]) + (1 << 24)


def test_the_honest_twin_of_the_hostile_files_is_read(tmp_path):
    (tmp_path / "net.pt").write_bytes(archive(state_of(tensor())))
    assert fn.load_torch(tmp_path / "net.pt")["a"].tolist() == [[0.0] * 3] * 2


def read(path):
    """Return what a file gives: its arrays as bytes, or None where it is refused."""
    try:
        return {name: array.tobytes() for name, array in fn.load_torch(path).items()}
    except fn.ModelFileError:
        return None


@pytest.mark.parametrize("name", [*STATES, "torch_kinds.pt"])
def test_every_file_that_was_cut_short_is_refused(name, tmp_path):
    raw, path = (DATA / name).read_bytes(), tmp_path / "net.pt"
    for length in range(0, len(raw), 7):
        path.write_bytes(raw[:length])
        assert read(path) is None, length


@pytest.mark.parametrize("name", [*STATES, "torch_kinds.pt"])
def test_no_byte_that_is_flipped_leads_astray(name, tmp_path):
    # Weights themselves have no checksum that is looked at; all else is refused or the same.
    raw, path = (DATA / name).read_bytes(), tmp_path / "net.pt"
    rng = random.Random(name)
    for at in range(0, len(raw), 1 + len(raw) // 1000):
        changed = bytearray(raw)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        read(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STATES, "torch_kinds.pt"])
def test_files_changed_in_many_places_are_read_or_refused(name, tmp_path):
    raw, path, rng = (DATA / name).read_bytes(), tmp_path / "net.pt", random.Random(1)
    for _ in range(25_000):
        changed = bytearray(raw)
        for _ in range(rng.randrange(1, 6)):
            at, length = rng.randrange(len(changed)), rng.randrange(1, 9)
            match rng.randrange(4):
                case 0:
                    changed[at : at + length] = rng.randbytes(length)
                case 1:
                    del changed[at : at + length]
                case 2:
                    changed[at:at] = rng.randbytes(length)
                case 3:
                    changed[at : at + length] = b"\xff" * length
        path.write_bytes(changed)
        read(path)


# Networks.


def test_every_activation_has_a_module():
    assert {name for name, _ in MODULES.values()} == set(ACTIVATIONS)


def test_tensors_may_be_arrays_of_either_dtype():
    state = {"a.weight": np.ones((2, 3)), "b.weight": np.ones((1, 2), np.float32)}
    net = fn.from_torch(state, "relu")
    assert (net.inputs, net.outputs, net.dtype) == (3, 1, np.float64)
    assert [layer.activation for layer in net.layers] == ["relu", "identity"]
    assert not any(layer.bias for layer in net.layers)
    assert fn.from_torch(state, "relu", dtype="float32").dtype == np.float32


@pytest.mark.parametrize(
    ("source", "activations", "message"),
    [
        ({"a.weight": np.ones((2, 3))}, None, "activations must say what follows"),
        ({"a.weight": np.ones((2, 3))}, ["relu"] * 2, "one name for each of the 1 Linear layers"),
        ({"a.weight": np.ones((2, 3))}, ["rely"], "Did you mean 'relu'"),
        ({"a.weight": np.ones((2, 3))}, 3, "activations must be a name or a list of names; got 3"),
        ({"a.weight": np.ones(2)}, "relu", r"a.weight must be the weight .* got shape \(2,\)"),
        ({"a.running_mean": np.ones(2)}, "relu", "a.running_mean must be the weight"),
        ({"a.bias": np.ones(2)}, "relu", "a.bias stands alone"),
        ({}, "relu", "must hold the weights of Linear layers; there is none"),
        ({"a.weight": np.ones((2, 3), int)}, "relu", "a.weight must hold real numbers; got dtype"),
        (
            {"a.weight": np.ones((2, 3)), "a.bias": np.ones(3)}, "relu",
            "a.bias must have 2 numbers, as many as the layer has outputs; got 3",
        ),
        (
            {"a.weight": np.ones((2, 3)), "b.weight": np.ones((2, 3))}, "relu",
            "b.weight must read the 2 outputs of a; it reads 3",
        ),
        ([np.ones((2, 3))], "relu", "source must be a module of PyTorch's or a state_dict"),
        ({1: np.ones((2, 3))}, "relu", "source must be a module of PyTorch's or a state_dict"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(source, activations, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fn.from_torch(source, activations)


def test_without_pytorch_the_way_out_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "fastnn.exports.torch_out", raising=False)
    with pytest.raises(ImportError, match=r"to_torch needs PyTorch: see https://pytorch.org"):
        fn.Sequential([fn.Dense(1)], 1).to_torch()


def network(activation, dtype):
    layers = [
        fn.Dense(5, activation), fn.Dropout(0.25), fn.Dense(4, "tanh", bias=False),
        fn.Dense(3, activation),
    ]  # fmt: skip
    return fn.Sequential(layers, 6, dtype, rng=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_goes_to_pytorch_and_back(activation, dtype, tmp_path):
    torch = pytest.importorskip("torch")
    net = network(activation, dtype)
    X = np.random.default_rng(0).normal(size=(20, 6)).astype(dtype)
    module = net.to_torch()
    wanted = net.predict(X)
    with torch.no_grad():
        answers = module(torch.from_numpy(X)).numpy()
    assert answers.dtype == net.dtype
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    assert np.abs(answers - wanted).max() <= tolerance * np.abs(wanted).max()
    again = fn.from_torch(module)
    assert again.layers == tuple(
        layer if isinstance(layer, fn.Dropout) else fn.Dense(
            layer.units, layer.activation, bias=layer.bias
        )
        for layer in net.layers
    )  # fmt: skip
    assert (again.parameters == net.parameters).all()
    torch.save(module.state_dict(), tmp_path / "net.pt")
    names = [layer.activation for layer in net.layers if isinstance(layer, fn.Dense)]
    third = fn.from_torch(fn.load_torch(tmp_path / "net.pt"), names)
    assert (third.parameters == net.parameters).all()
    # A module of another class says no order of its own.
    module.__class__ = torch.nn.ModuleList
    with pytest.raises(TypeError, match="activations must say"):
        fn.from_torch(module)
    assert (fn.from_torch(module, names).parameters == net.parameters).all()


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (lambda nn: [nn.Conv1d(1, 1, 1)], r"module '0' \(Conv1d\) has no layer here; known"),
        (lambda nn: [nn.Linear(2, 2), nn.ELU(0.5)], r"'1' \(ELU\) must have alpha=1.0 .* got 0.5"),
        (lambda nn: [nn.Linear(2, 2), nn.Softmax(0)], "must have dim=1"),
        (lambda nn: [nn.Linear(2, 2), nn.GELU("tanh")], "must have approximate='none'"),
        (lambda nn: [nn.Linear(2, 2), nn.ReLU(), nn.Tanh()], "one activation follows another"),
        (lambda nn: [nn.Tanh(), nn.Linear(2, 2)], "must follow a Linear module"),
        (lambda nn: [nn.Linear(2, 2), nn.Dropout(0.1)], "must end with a Dense layer"),
        (lambda nn: [nn.Linear(2, 2), nn.BatchNorm2d(2)], "BatchNorm2d"),
        (lambda nn: [], "at least one Linear layer"),
    ],
)  # fmt: skip
def test_modules_without_a_layer_are_refused_by_name(modules, message):
    nn = pytest.importorskip("torch.nn")
    with pytest.raises(ValueError, match=message):
        fn.from_torch(nn.Sequential(*modules(nn)))


def test_nested_modules_are_one_row():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = nn.Sequential(
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.0)),
        nn.Sequential(nn.Identity(), nn.Linear(4, 2).bfloat16()), nn.Softmax(-1),
    )  # fmt: skip
    net = fn.from_torch(module)
    assert [layer.activation for layer in net.layers] == ["relu", "softmax"]
    assert net.dtype == np.float32


def test_the_page_s_examples_run(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
    section = page.partition("## PyTorch")[2].partition("\n## ")[0]
    modules, states, files = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    nn = torch.nn
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Softmax(1))
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes((DATA / "torch_zip.pt").read_bytes())
    Path("checkpoint.pt").write_bytes((DATA / "torch_checkpoint.pt").read_bytes())
    known = {"fn": fn, "module": module}
    exec(modules + files, known)
    assert known["net"].predict(ROWS) == pytest.approx(np.array(ANSWERS), rel=1e-6)
    known["module"] = nn.Sequential(*[nn.Linear(2, 2)] * 3)
    exec(states, known)
    assert known["net"].layers[-1].activation == "identity"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "net.pt")
    with pytest.raises(fn.ModelFileError, match=r"net\.pt.*must be a regular file"):
        fn.load_torch(tmp_path / "net.pt")
