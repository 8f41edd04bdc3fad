"""`net.save` and `fn.load`: round trips, and files that are damaged, foreign or lie."""

from __future__ import annotations

import copy
import json
import os
import pickle
import stat
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cases import work

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.formats import safetensors
from fastnn.initializers import INITIALIZERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(17, 3))
Y = X[:, :2] * X[:, 1:]


def network(dtype="float32"):
    layers = [fn.Dense(4, "tanh", l2=0.1), fn.Dense(2, bias=False)]
    return fn.Sequential(layers, inputs=3, dtype=dtype, rng=5)


def saved(net, folder, name="net.fastnn"):
    path = folder / name
    net.save(path)
    return path


# Round trips.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_comes_back_as_it_was(activation, bias, dtype, tmp_path):
    for initializer in ("auto", *INITIALIZERS, 0.25):
        layers = [
            fn.Dense(4, activation, bias, initializer, l2=0.5),
            fn.Dense(2, activation, not bias, initializer),
        ]
        net = fn.Sequential(layers, inputs=3, dtype=dtype, rng=3)
        again = fn.load(saved(net, tmp_path))
        assert repr(again) == repr(net)
        assert again.layers == net.layers
        assert (again.inputs, again.outputs, again.dtype) == (3, 2, net.dtype)
        assert again.parameters.tobytes() == net.parameters.tobytes()
        assert again.parameters.ctypes.data % 64 == 0
        assert again.parameters.flags.writeable
    for backend in ("native", "reference"):
        np.testing.assert_array_equal(
            again.predict(X, backend=backend), net.predict(X, backend=backend)
        )


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_later_fits_draw_what_the_saved_network_would_have_drawn(backend, tmp_path):
    net = network()
    net.fit(X, Y, epochs=3, batch_size=4, validation_fraction=0.2, backend=backend)
    again = fn.load(saved(net, tmp_path))
    histories = [
        each.fit(X, Y, epochs=3, batch_size=4, validation_fraction=0.2, backend=backend).to_dict()
        for each in (net, again)
    ]
    assert histories[0] == histories[1]
    assert again.parameters.tobytes() == net.parameters.tobytes()


def test_extreme_parameters_come_back_bit_for_bit(tmp_path):
    net = network("float64")
    values = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7e308, np.pi]
    net.parameters[: len(values)] = values
    again = fn.load(saved(net, tmp_path))
    assert again.parameters.tobytes() == net.parameters.tobytes()


def test_saving_changes_nothing_and_twice_the_same_is_written(tmp_path):
    net = network()
    net.train_on_batch(X, Y)
    before = pickle.dumps(net)
    first, second = saved(net, tmp_path, "a"), saved(net, tmp_path, "b")
    assert pickle.dumps(net) == before
    assert first.read_bytes() == second.read_bytes()
    assert saved(fn.load(first), tmp_path, "c").read_bytes() == first.read_bytes()


def test_a_loaded_network_shares_nothing_with_its_file(tmp_path):
    net = network()
    path = saved(net, tmp_path)
    again = fn.load(path)
    again.parameters[:] = 0
    assert fn.load(path).parameters.tobytes() == net.parameters.tobytes()
    path.unlink()
    again.predict(X)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_comes_in_any_form(kind, tmp_path):
    path = kind(tmp_path / "netz ä")
    network().save(path)
    assert fn.load(path).parameters.tobytes() == network().parameters.tobytes()


def test_other_programs_can_read_the_file(tmp_path):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    net = network("float64")
    found = numpy_reader.load_file(saved(net, tmp_path))
    assert set(found) == set(net.layout.names) == {"0.W", "0.b", "1.W"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, net.layout.view(net.parameters, name))


def test_the_file_holds_no_pickle(tmp_path, monkeypatch):
    path = saved(network(), tmp_path)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    fn.load(path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert header["__metadata__"]["format"] == "fastnn"
    assert set(header) == {"__metadata__", "0.W", "0.b", "1.W"}
    assert raw[8 + length :] == network().parameters.tobytes()


# Whole or not at all.


def test_nothing_but_the_file_is_left_behind(tmp_path):
    path = saved(network(), tmp_path)
    network("float64").save(path)
    assert os.listdir(tmp_path) == [path.name]
    assert fn.load(path).dtype == np.float64


def test_a_network_without_weights_is_not_saved_and_an_older_file_stays(tmp_path):
    path = saved(network(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no weights yet"):
        fn.Sequential([fn.Dense(1)]).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_an_older_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = saved(network(), tmp_path)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        network("float64").save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a file that is open")
def test_who_reads_while_another_writes_finds_one_network_or_the_other(tmp_path):
    first, second = network(), network()
    second.parameters[:] = 1.0
    path = saved(first, tmp_path)
    known = {first.parameters.tobytes(), second.parameters.tobytes()}
    done = threading.Event()

    def write():
        while not done.is_set():
            second.save(path)
            first.save(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert fn.load(path).parameters.tobytes() in known
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize("path", [None, 3, 3.5, ["net"], True, b"net"], ids=repr)
def test_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError, match="path"):
        network().save(path)
    with pytest.raises(TypeError, match="path"):
        fn.load(path)


def test_the_operating_system_s_errors_come_through(tmp_path):
    with pytest.raises(FileNotFoundError):
        fn.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        network().save(tmp_path / "nowhere" / "net")
    with pytest.raises(OSError, match=r"director|[Pp]ermission"):
        fn.load(tmp_path)
    with pytest.raises(OSError, match=r"director|[Pp]ermission|exists"):
        network().save(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_of_an_older_file_are_kept(tmp_path):
    path = saved(network(), tmp_path)
    path.chmod(0o640)
    network().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# Damage.


def refused(path, *parts):
    """Hold that a file is refused with its name, quickly and without taking memory."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(fn.ModelFileError) as caught:
            fn.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 2
    assert peak < 1e6 + 20 * path.stat().st_size
    message = str(caught.value)
    assert path.name in message
    assert all(part in message for part in parts), message
    assert len(message) < 1000
    assert isinstance(caught.value, ValueError)
    return message


def test_every_damaged_byte_is_noticed(tmp_path):
    net = network()
    raw = saved(net, tmp_path).read_bytes()
    path = tmp_path / "damaged"
    rng = np.random.default_rng(0)
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(fn.ModelFileError, match="damaged"):
            fn.load(path)


def test_every_cut_is_noticed(tmp_path):
    raw = saved(network(), tmp_path).read_bytes()
    path = tmp_path / "cut"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(fn.ModelFileError, match="cut"):
            fn.load(path)
    path.write_bytes(raw + b"\0")
    refused(path)
    path.write_bytes(raw + raw)
    refused(path)


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_is_a_model_file_error_and_nothing_else(seed, tmp_path):
    raw = saved(network(), tmp_path).read_bytes()
    path = tmp_path / "damaged"
    rng = np.random.default_rng(seed)
    for _ in range(10):
        damaged = np.frombuffer(raw, np.uint8).copy()
        places = rng.integers(len(raw), size=rng.integers(1, 40))
        damaged[places] = rng.integers(256, size=len(places))
        if damaged.tobytes() == raw:
            continue
        path.write_bytes(damaged.tobytes())
        refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"not a network at all, but a text",
        b"\x80\x04\x95" + pickle.dumps({"weights": [1.0, 2.0]}),
        b"PK\x03\x04" + bytes(200),
        b"\x89HDF\r\n\x1a\n" + bytes(200),
        b"\x93NUMPY\x01\0" + bytes(200),
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (10**6).to_bytes(8, "little") + b"[" * 10**6,
        bytes(10_000),
        b"\xff" * 10_000,
    ],
    ids=range(12),
)
def test_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    refused(path)


def test_safetensors_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    for metadata in ({}, {"format": "pt"}, {"format": "fastnn"}, {"network": "{}"}):
        safetensors.write(path, {"0.W": np.zeros((3, 4), np.float32)}, metadata)
        refused(path, "expected a network that fastnn saved")
    writer = pytest.importorskip("safetensors.numpy")
    writer.save_file({"weight": np.zeros((3, 4), np.float32)}, path)
    refused(path, "expected a network that fastnn saved")


# Files whose checksums are right and whose description is not.


@pytest.fixture
def rewritten(tmp_path):
    """Write a network's file with another description or other arrays, and give its path."""
    net = network()
    tensors, metadata = safetensors.read(saved(net, tmp_path))
    original = json.loads(metadata["network"])

    def rewrite(change=None, *, text=None, arrays=None):
        description, named = copy.deepcopy(original), dict(tensors)
        if change is not None:
            change(description)
        if arrays is not None:
            arrays(named)
        path = tmp_path / "rewritten.fastnn"
        text = json.dumps(description) if text is None else text
        safetensors.write(path, named, {**metadata, "network": text})
        return path

    assert fn.load(rewrite()).parameters.tobytes() == net.parameters.tobytes()
    return rewrite


JUNK = [
    None, False, 0, -1, 1.5, 10**30, 10**400, float("nan"), float("inf"), float("-inf"), "", "x",
    "1e5", "9" * 5000, [], [1], [[[[]]]], {}, {"a": 1},
]  # fmt: skip

# By key, what of the junk may stand there after all.
OF_A_NETWORK = {
    "version": (),
    "layers": (),
    "inputs": (),
    "dtype": (),
    "order_key": (),
    "orders_drawn": (0,),
    "mask_key": (),
    "steps_taken": (0,),
}
OF_A_LAYER = {
    "layer": (),
    "units": (),
    "activation": (),
    "bias": (),
    "initializer": (0, -1, 1.5, 10**30),
    "l2": (0, 1.5, 10**30),
}


def junk(allowed):
    return [value for value in JUNK if value is False or value not in allowed]


@pytest.mark.parametrize("key", OF_A_NETWORK)
def test_a_description_with_a_wrong_value_is_refused(key, rewritten):
    for value in junk(OF_A_NETWORK[key]):
        refused(rewritten(lambda description, value=value: description.update({key: value})))


@pytest.mark.parametrize("key", OF_A_LAYER)
def test_a_layer_with_a_wrong_value_is_refused(key, rewritten):
    for value in junk(OF_A_LAYER[key]):
        refused(rewritten(lambda d, value=value: d["layers"][0].update({key: value})))


@pytest.mark.parametrize("key", OF_A_NETWORK)
def test_a_description_with_a_key_missing_is_refused(key, rewritten):
    message = refused(rewritten(lambda description: description.pop(key)))
    assert key in message


@pytest.mark.parametrize("key", OF_A_LAYER)
def test_a_layer_with_a_key_missing_is_refused(key, rewritten):
    """A default in its place would be another network than the one that was saved."""
    refused(rewritten(lambda description: description["layers"][0].pop(key)))


def test_keys_that_are_not_known_are_refused(rewritten):
    """A later version's network would else be read as something that it is not."""
    for key in ("dropout", "__class__", "self"):
        refused(rewritten(lambda description, key=key: description.update({key: 0.5})))
        refused(rewritten(lambda d, key=key: d["layers"][0].update({key: 0.5})))


@pytest.mark.parametrize(
    "dtype",
    [
        "float16", "float64", "flaot32", ">f4", "f4,(", "float32,float32", "(10000000000,)f4", "O",
        3, 0, ["f4", 10**30], {"names": [], "formats": [], "itemsize": 10**30},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_dtype_is_refused(dtype, rewritten):
    refused(rewritten(lambda description: description.update(dtype=dtype)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"fastnn"',
        "{",
        "{'version': 1}",
        "[" * 100_000,
        '{"version":1,"layers":' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"version":1,"dtype":' + "[" * 500 + "]" * 500 + ',"layers":[]}',
        '{"version": 1, "version": 1}',
    ],
    ids=range(11),
)
def test_a_description_that_is_no_description_is_refused(text, rewritten):
    refused(rewritten(text=text))


def nested(levels):
    return "1" if not levels else "[" + ",".join([nested(levels - 1)] * 6) + "]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"version":1,"version":1}', "the description must name everything once; 'version'"),
        ('{"version":NaN}', "numbers must be integers; got NaN"),
        ('{"version":' + "1" * 5000 + "}", "must have at most 19 digits; got one of 5000"),
        ("[" * 50_000, r"must have at most 100 of '\[' outside its texts; it has 50000"),
        ("[" + "1.5," * 100_000 + "1]", "must have at most 4024 of ',' outside its texts"),
        ("[" + "{}," * 50_000 + "1]", "must have at most 112 of '{' outside its texts"),
        (json.dumps({str(k): 1 for k in range(30_000)}), "must hold fewer names and texts"),
        (json.dumps({"x" * 100_000: 1}), "a network must have "),
        (nested(2), "a network must have "),
        (nested(4), "must have at most 100 of"),
    ],
    ids=range(10),
)
def test_a_hostile_description_is_refused_in_a_few_words(text, expected, rewritten):
    with pytest.raises(fn.ModelFileError, match=expected) as caught:
        fn.load(rewritten(text=text))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", ["x" * 700_000, "fastnn", ""])
def test_a_file_of_another_kind_is_refused_in_a_few_words(kind, tmp_path):
    path = tmp_path / "file"
    safetensors.write(path, {}, {"format": kind})
    with pytest.raises(fn.ModelFileError, match="another kind") as caught:
        fn.load(path)
    assert len(str(caught.value)) < 400


def test_sizes_that_no_memory_could_hold_are_refused_at_once(rewritten):
    for units in (10**6, 10**9, 2**31, 2**62, 2**63, 10**100):
        refused(rewritten(lambda d, units=units: d["layers"][0].update(units=units)))
        refused(rewritten(lambda d, units=units: d.update(inputs=units)))
        refused(rewritten(lambda d, units=units: d["layers"].append(
            {**d["layers"][1], "units": units})))  # fmt: skip
    refused(rewritten(lambda d: d.update(layers=[d["layers"][0]] * 4000)))


@pytest.mark.parametrize("count", ["orders_drawn", "steps_taken"])
def test_a_count_that_nobody_reached_is_refused_or_fits(count, rewritten):
    """What is loaded can also be fitted."""
    for drawn in (2**53, 2**62, 2**63, 2**64 - 1, 2**64, 10**30):
        path = rewritten(lambda d, drawn=drawn: d.update({count: drawn}))
        try:
            net = fn.load(path)
        except fn.ModelFileError:
            continue
        net.fit(X, Y, epochs=2)
        net.fit(X, Y, epochs=2, backend="reference")
        net.save(path)


def test_arrays_that_are_not_those_of_the_description_are_refused(rewritten):
    def as_double(arrays):
        arrays["0.W"] = arrays["0.W"].astype(np.float64)

    def all_double(arrays):
        arrays.update({name: array.astype(np.float64) for name, array in arrays.items()})

    def transposed(arrays):
        arrays["0.W"] = arrays["0.W"].T.copy()

    def flat(arrays):
        arrays["0.W"] = arrays["0.W"].ravel()

    def one_more(arrays):
        arrays["1.b"] = np.zeros(2, np.float32)

    def one_less(arrays):
        del arrays["0.b"]

    def renamed(arrays):
        arrays["W"] = arrays.pop("0.W")

    def none(arrays):
        arrays.clear()

    for change in (as_double, all_double, transposed, flat, one_more, one_less, renamed, none):
        refused(rewritten(arrays=change), "arrays")


def test_the_order_of_arrays_in_the_file_does_not_matter(rewritten):
    def reversed_order(arrays):
        for name in reversed(list(arrays)):
            arrays[name] = arrays.pop(name)

    again = fn.load(rewritten(arrays=reversed_order))
    assert again.parameters.tobytes() == network().parameters.tobytes()


# ---------------------------------------------------------------- very many arrays, layers, labels


def deep(layers):
    """A network of so many layers of one unit, as plain data and arrays."""
    layer = {"layer": "Dense", "units": 1, "activation": "relu", "bias": True,
             "initializer": "auto", "l2": 0.0}  # fmt: skip
    description = {
        "version": 1, "layers": [layer] * layers, "inputs": 1, "dtype": "float32",
        "order_key": "1", "orders_drawn": 0, "mask_key": "1", "steps_taken": 0,
    }  # fmt: skip
    arrays = {
        f"{place}.{name}": np.zeros(shape, np.float32)
        for place in range(layers)
        for name, shape in (("W", (1, 1)), ("b", (1,)))
    }
    return description, arrays


def with_text(network):
    return {"format": "fastnn", "network": network}


def empty(count, name="{}", metadata=None):
    """A header of so many arrays without a number, which no layer has."""
    entry = '"%s":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    parts = [entry % name.format(place) for place in range(count)]
    if metadata is not None:
        parts.insert(0, f'"__metadata__":{json.dumps(metadata)}')
    return "{" + ",".join(parts) + "}", 0


def tiny(count, network):
    """A header of so many arrays of one number each."""
    entry = '"%d":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    parts = [entry % (place, 4 * place, 4 * place + 4) for place in range(count)]
    parts.insert(0, f'"__metadata__":{json.dumps(with_text(network))}')
    return "{" + ",".join(parts) + "}", 4 * count


def a_network(layers):
    return json.dumps(deep(layers)[0], separators=(",", ":"))


MANY = {
    "arrays and no texts": empty(14_000),
    "arrays of one name": empty(14_000, "0"),
    "arrays with escapes in their names": empty(10_000, "\\u0030{}"),
    "arrays with long names": empty(5_000, "n" * 120 + "{}"),
    "arrays of another kind of file": empty(10_000, metadata={"format": "pt"}),
    "arrays beside a small network": empty(10_000, metadata=with_text(a_network(2))),
    "arrays beside a deep network": empty(9_000, metadata=with_text(a_network(3_000))),
    "arrays with numbers beside a small network": tiny(10_000, a_network(2)),
    "arrays beside the word for a layer": tiny(7_000, '"layer"' * 20_000),
    "arrays beside no description": tiny(10_000, "x" * 300_000),
    "layers beside few arrays": tiny(2, a_network(6_000)),
    "labels beside few numbers": tiny(
        4, a_network(2)[:-1] + ',"classes":{"dtype":"<i8","values":[%s]}}' % ("1," * 200_000 + "1")
    ),
    "metadata in metadata": (
        '{"__metadata__":{"a":"' + r"\"__metadata__\":" * 40_000 + '"}}', 0
    ),
    "beginnings of metadata": ("{" + '"__metadata__" ,' * 50_000 + "}", 0),
}  # fmt: skip


@pytest.mark.parametrize("header", MANY.values(), ids=MANY)
def test_a_file_of_more_than_it_describes_is_refused_before_it_is_looked_at(header, tmp_path):
    path, (text, room) = tmp_path / "file", header
    assert len(text) <= 1_000_000
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(room))

    def refused_at_once():
        with pytest.raises(fn.ModelFileError) as caught:
            fn.load(path)
        assert len(str(caught.value)) < 600

    calls, peak = work(refused_at_once)
    assert calls < 3_000
    assert peak < 6_000_000


def test_a_thousand_layers_are_loaded(tmp_path):
    description, arrays = deep(1_000)
    safetensors.write(tmp_path / "file", arrays, with_text(json.dumps(description)))
    net = fn.load(tmp_path / "file")
    assert len(net.layers) == 1_000
    net.save(tmp_path / "again")
    assert fn.load(tmp_path / "again").layers == net.layers


def test_a_deep_network_with_a_wrong_array_is_refused(tmp_path):
    def refused_with(description, arrays):
        safetensors.write(tmp_path / "file", arrays, with_text(json.dumps(description)))
        with pytest.raises(fn.ModelFileError, match="arrays are not those of its layers"):
            fn.load(tmp_path / "file")

    description, arrays = deep(100)
    refused_with(description, {**arrays, "100.W": np.zeros((1, 1), np.float32)})
    arrays["99.c"] = arrays.pop("99.b")
    refused_with(description, arrays)
    layers = [*description["layers"][:-1], {**description["layers"][0], "bias": False}]
    refused_with({**description, "layers": layers}, deep(100)[1])


def test_layers_alike_but_for_a_type_are_told_apart(tmp_path):
    """True equals 1, and only one of them is a flag."""
    description, arrays = deep(2)
    description["layers"] = [description["layers"][0], {**description["layers"][0], "bias": 1}]
    safetensors.write(tmp_path / "file", arrays, with_text(json.dumps(description)))
    with pytest.raises(fn.ModelFileError, match="bias must be True or False"):
        fn.load(tmp_path / "file")


@pytest.mark.parametrize("kind", [int, str])
def test_as_many_labels_as_outputs_are_kept(kind, tmp_path):
    net = fn.Sequential([fn.Dense(10_000, "softmax")], inputs=2)
    net.classes = np.arange(10_000).astype(kind)
    net.save(tmp_path / "file")
    assert (fn.load(tmp_path / "file").classes == net.classes).all()


def test_metadata_with_escapes_in_its_name_are_not_taken_for_ours(tmp_path):
    header = empty(3, metadata=with_text(a_network(1)))[0].replace("__meta", r"_\u005fmeta")
    path = tmp_path / "file"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(fn.ModelFileError, match="__metadata__ once, and without escapes"):
        fn.load(path)


def test_a_network_whose_checksums_lost_their_names_is_refused(tmp_path):
    path = saved(network(), tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"sha256', b'"sha265'))
    with pytest.raises(fn.ModelFileError, match="nothing tells whether it is damaged"):
        fn.load(path)
