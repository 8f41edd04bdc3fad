"""The safetensors container: what is written is read, and anything else is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import random
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.errors import DivergenceError, ModelFileError
from fastnn.formats import safetensors
from fastnn.formats.safetensors import read, write

Content = tuple[dict[str, np.ndarray], dict[str, str]]
DTYPES = ["float16", "float32", "float64", "uint8", "int64"]
SHAPES = [(), (0,), (1,), (7,), (0, 3), (3, 0), (17, 5), (2, 3, 4), (1,) * 32]


def some(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape) * 100
    return np.asarray(values).astype(dtype)


def small() -> dict[str, np.ndarray]:
    return {"0.W": some((2, 3)), "0.b": some((3,), "float64", 1), "labels": some((2,), "int64", 2)}


def container(header: object, data: bytes = b"") -> bytes:
    """A file of these parts, lengths and checksums as they come."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def parts(raw: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def same(first: Content, second: Content) -> bool:
    return (
        first[1] == second[1]
        and list(first[0]) == list(second[0])
        and all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in zip(first[0].values(), second[0].values(), strict=True)
        )
    )


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_shapes_come_back(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "file"
    tensors = {str(shape): some(shape, dtype, seed) for seed, shape in enumerate(SHAPES)}
    write(path, tensors, {"text": "z\u00fcrich \u6771\u4eac \U0001f600 \"'\\\n\x00", "": ""})
    found, metadata = read(path)
    assert same((found, metadata), (tensors, metadata))
    assert metadata == {"text": "z\u00fcrich \u6771\u4eac \U0001f600 \"'\\\n\x00", "": ""}
    for tensor in found.values():
        assert tensor.flags.writeable
        assert tensor.flags.c_contiguous
        assert tensor.flags.owndata
        assert tensor.dtype.isnative


def test_nothing_at_all_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "file", {}, {})
    assert read(tmp_path / "file") == ({}, {})


def test_every_bit_of_a_number_comes_back(tmp_path: Path) -> None:
    patterns = np.arange(2**16, dtype=np.uint16).view(np.float16)  # all NaNs, infinities, zeros
    write(tmp_path / "file", {"all": patterns}, {})
    found = read(tmp_path / "file")[0]["all"]
    np.testing.assert_array_equal(found.view(np.uint16), patterns.view(np.uint16))


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: np.repeat(a, 2, axis=0)[1::2],
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    ],
    ids=["Fortran", "byte order", "columns", "rows", "backwards", "unaligned, read-only"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_gives_the_same_bytes(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], dtype: str
) -> None:
    plain = some((5, 3), dtype)
    changed = change(plain)
    before = changed.tobytes()
    write(tmp_path / "plain", {"W": plain}, {})
    write(tmp_path / "changed", {"W": changed}, {})
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "changed").read_bytes()
    assert changed.tobytes() == before


def test_memory_maps_are_written(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "map", np.float32, "w+", shape=(3, 4))
    mapped[:] = 2
    write(tmp_path / "file", {"W": mapped}, {})
    np.testing.assert_array_equal(read(tmp_path / "file")[0]["W"], np.full((3, 4), 2.0))


# ---------------------------------------------------------------- the bytes


def test_the_bytes_are_deterministic(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, small(), {"x": "1", "a": "2"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    tensors = {"W": np.array([[1, 2]], np.float32), "b": np.array(3, np.int64)}
    write(tmp_path / "file", tensors, {"made": "here"})
    raw = (tmp_path / "file").read_bytes()
    header, data = parts(raw)
    expected = np.array([1, 2], "<f4").tobytes() + np.array(3, "<i8").tobytes()
    assert data == expected
    assert (len(raw) - len(data)) % 64 == 0
    assert list(header) == ["__metadata__", "W", "b"]
    assert header["W"] == {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    assert header["b"] == {"dtype": "I64", "shape": [], "data_offsets": [8, 16]}
    assert list(header["__metadata__"]) == ["made", "sha256", "sha256_header"]
    assert header["__metadata__"]["sha256"] == hashlib.sha256(expected).hexdigest()


@pytest.mark.parametrize("length", range(1, 129))
def test_data_start_at_multiples_of_64(tmp_path: Path, length: int) -> None:
    write(tmp_path / "file", {"n" * length: some((3,))}, {})
    raw = (tmp_path / "file").read_bytes()
    assert (len(raw) - 12) % 64 == 0
    assert list(read(tmp_path / "file")[0]) == ["n" * length]


def test_the_mappings_are_not_changed(tmp_path: Path) -> None:
    tensors, metadata = small(), {"a": "b"}
    write(tmp_path / "file", tensors, metadata)
    assert same((tensors, metadata), (small(), {"a": "b"}))


# ---------------------------------------------------------------- other programs


def test_the_official_package_reads_our_files(tmp_path: Path) -> None:
    official = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "file"
    tensors = {f"{d} {s}": some(s, d) for d in DTYPES for s in SHAPES}
    write(path, tensors, {"note": "\u00e9"})
    found = numpy.load_file(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)
    with official.safe_open(path, "np") as file:
        assert file.metadata()["note"] == "\u00e9"


def test_we_read_the_official_package_s_files(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "file"
    tensors = {f"{d} {s}": some(s, d) for d in DTYPES for s in SHAPES}
    numpy.save_file(tensors, path, metadata={"note": "\u00e9", "a": "b"})
    found, metadata = read(path)
    assert metadata == {"note": "\u00e9", "a": "b"}
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def test_we_read_files_of_any_order_and_spelling(tmp_path: Path) -> None:
    header = (
        b'{"b": {"data_offsets":[4,8],\n"dtype" : "\\u004632","shape":[1]},\t'
        b'"a":{"shape":[],"dtype":"F32","data_offsets":[0,4]},'
        b'"none":{"shape":[0,2],"dtype":"F64","data_offsets":[4,4]}}     '
    )
    (tmp_path / "file").write_bytes(container(header, np.array([1, 2], "<f4").tobytes()))
    tensors, metadata = read(tmp_path / "file")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "a": 1.0,
        "none": [],
        "b": [2.0],
    }
    assert metadata == {}


def test_the_checksums_are_of_the_content_not_of_its_spelling(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, small(), {"a": "\u00e9"})
    before = read(path)
    header, data = parts(path.read_bytes())
    path.write_bytes(container(json.dumps(header, indent=1, ensure_ascii=False).encode(), data))
    assert same(read(path), before)


# ---------------------------------------------------------------- what write refuses


def huge(shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, strides)


WRITE_REFUSALS: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "list of tensors": ([], {}, TypeError, "tensors must be a mapping of names to arrays; got"),
    "list of metadata": ({}, [], TypeError, "metadata must be a mapping of names to texts; got"),
    "list as array": ({"W": [1.0]}, {}, TypeError, "tensors\\['W'\\] must be an array; got"),
    "number as name": ({1: some((2,))}, {}, TypeError, "tensors must have strings as names; got 1"),
    "bool": ({"W": np.ones(2, bool)}, {}, TypeError, "dtypes float16, .*int64; got bool"),
    "int32": ({"W": np.ones(2, "i4")}, {}, TypeError, "; got int32"),
    "objects": ({"W": np.array([None])}, {}, TypeError, "; got object"),
    "complex": ({"W": np.ones(2, complex)}, {}, TypeError, "; got complex128"),
    "text": ({"W": np.array(["a"])}, {}, TypeError, "; got <U1"),
    "records": ({"W": np.zeros(2, "f4,f4")}, {}, TypeError, "must have one of the dtypes"),
    "no name": ({"": some((2,))}, {}, ValueError, "1 to 128 printable ASCII characters; got ''"),
    "long name": ({"n" * 129: some((2,))}, {}, ValueError, "printable ASCII .* of 129"),
    "foreign name": ({"\u00fc": some((2,))}, {}, ValueError, "printable ASCII"),
    "line in name": ({"a\nb": some((2,))}, {}, ValueError, "printable ASCII"),
    "reserved name": ({"__metadata__": some((2,))}, {}, ValueError, "which the format uses"),
    "number as text": ({}, {"a": 1}, TypeError, "metadata must map strings to strings; got 'a'"),
    "number for text": ({}, {1: "a"}, TypeError, "metadata must map strings to strings; got 1"),
    "half a character": ({}, {"a": "\ud800"}, ValueError, "must be Unicode text; got 'a': "),
    "checksum": ({}, {"sha256": "0"}, ValueError, "must not hold 'sha256'"),
    "header checksum": ({}, {"sha256_header": "0"}, ValueError, "must not hold 'sha256_header'"),
    "too much text": ({}, {"a": "x" * 10**6}, ValueError, "of 1000000 bytes; they need 1000"),
    "too many": (
        {str(i): np.zeros(0, np.float32) for i in range(10_001)},
        {},
        ValueError,
        "at most 10000 tensors; got 10001",
    ),
}


@pytest.mark.parametrize(
    ("tensors", "metadata", "kind", "message"), WRITE_REFUSALS.values(), ids=WRITE_REFUSALS
)
def test_what_cannot_be_read_is_not_written(
    tmp_path: Path, tensors: Any, metadata: Any, kind: type[Exception], message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(kind, match=message) as caught:
        write(path, tensors, metadata)
    assert not isinstance(caught.value, ModelFileError)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_ten_thousand_tensors_are_fine(tmp_path: Path) -> None:
    tensors = {str(i): np.full(1, i, np.float32) for i in range(10_000)}
    write(tmp_path / "file", tensors, {})
    assert same(read(tmp_path / "file"), (tensors, {}))


# ---------------------------------------------------------------- damage


def unnoticed(path: Path, values: Callable[[int], Iterable[int]]) -> int:
    """Put other values in each byte of a file; count those that it is still read alike with."""
    write(path, small(), {"layers": '[{"l2": 0.1}]'})
    before = read(path)
    raw = path.read_bytes()
    alike = 0
    with path.open("r+b", buffering=0) as file:
        for place, old in enumerate(raw):
            for value in {*values(old)} - {old}:
                file.seek(place)
                file.write(bytes([value]))
                try:
                    assert same(read(path), before), (place, old, value)
                    alike += 1
                except ModelFileError:
                    pass
            file.seek(place)
            file.write(bytes([old]))
    assert same(read(path), before)
    return alike


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    assert unnoticed(tmp_path / "file", lambda old: [old ^ 0x01, old ^ 0x20, old ^ 0xFF]) == 0


def test_every_wrong_character_is_noticed(tmp_path: Path) -> None:
    assert unnoticed(tmp_path / "file", lambda _: b'16F-"') == 0


@pytest.mark.slow
def test_every_value_of_every_byte_is_noticed(tmp_path: Path) -> None:
    assert unnoticed(tmp_path / "file", lambda _: range(256)) == 0


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, small(), {"a": "b"})
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelFileError):
            read(path)
    for more in (b"\0", b" ", raw):
        path.write_bytes(raw + more)
        with pytest.raises(ModelFileError):
            read(path)


def mutate(raw: bytes, generator: random.Random) -> bytes:
    """Change a file in one of the ways in which disks, networks and attackers do."""
    changed = bytearray(raw)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(changed) + 1)
        size = generator.choice([1, 1, 2, 8, 40])
        kind = generator.randrange(5)
        if kind == 0:
            changed[place : place + size] = generator.randbytes(len(changed[place : place + size]))
        elif kind == 1:
            del changed[place : place + size]
        elif kind == 2:
            changed[place:place] = generator.randbytes(size)
        elif kind == 3:
            other = generator.randrange(len(changed) + 1)
            changed[place:place] = changed[other : other + size]
        else:
            word = generator.choice([b"-1", b"0", b"9" * 19, b"true", b"null", b'"', b"[", b"{}"])
            changed[place : place + len(word)] = word
    return bytes(changed)


def summed(*_: object) -> bool:
    """Have a file without checksums refused."""
    return True


def refuses_or_reads_alike(tmp_path: Path, seed: int, count: int) -> None:
    generator = random.Random(seed)
    path = tmp_path / "file"
    write(path, small(), {"layers": "[]"})
    before = read(path)
    raw = path.read_bytes()
    for _ in range(count):
        path.write_bytes(mutate(raw, generator))
        with contextlib.suppress(ModelFileError):
            assert same(read(path, summed), before)


def test_mutated_files_are_refused(tmp_path: Path) -> None:
    refuses_or_reads_alike(tmp_path, seed=0, count=1500)


def test_damage_to_the_names_of_both_checksums_is_noticed_where_they_must_be(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    write(path, small(), {"layers": "[]"})
    raw = path.read_bytes()
    for wrong in (b'"sha2\x36"', b'"sha266"', b'"s"'):
        changed = raw.replace(b'"sha256"', wrong).replace(b'"sha256_header"', b'"sha256-header"')
        path.write_bytes((len(changed) - len(raw) + int.from_bytes(raw[:8], "little")).to_bytes(
            8, "little") + changed[8:])  # fmt: skip
        with pytest.raises(ModelFileError, match="must have "):
            read(path, summed)


def test_files_without_checksums_are_read_where_they_need_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(one(entry()))
    assert read(path)[0]["W"].tolist() == [0.0]
    with pytest.raises(ModelFileError, match="must have the checksums sha256 and sha256_header"):
        read(path, summed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 101))
def test_very_many_mutated_files_are_refused(tmp_path: Path, seed: int) -> None:
    refuses_or_reads_alike(tmp_path, seed, count=10_000)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_without_checksums_never_raise_anything_else(
    tmp_path: Path, seed: int
) -> None:
    generator = random.Random(seed)
    path = tmp_path / "file"
    write(path, small(), {})
    header, data = parts(path.read_bytes())
    del header["__metadata__"]
    raw = container(header, data)
    for _ in range(1000):
        path.write_bytes(mutate(raw, generator))
        try:
            tensors, _ = read(path)
            assert sum(tensor.nbytes for tensor in tensors.values()) <= path.stat().st_size
        except ModelFileError:
            pass


# ---------------------------------------------------------------- foreign and malicious files


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("data.pkl", b"x")
    return target.getvalue()


def arrays() -> bytes:
    target = io.BytesIO()
    np.savez(target, W=np.zeros(3))
    return target.getvalue()


def array() -> bytes:
    target = io.BytesIO()
    np.save(target, np.zeros(3))
    return target.getvalue()


def one(value: Any, data: bytes = b"\0" * 4) -> bytes:
    return container({"W": value}, data)


def raw_one(value: str, data: bytes = b"\0" * 4) -> bytes:
    return container(b'{"W":' + value.encode() + b"}", data)


def texts(value: Any) -> bytes:
    return container({"__metadata__": value})


GOOD = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
CORPUS = {
    # other kinds of files
    "empty": b"",
    "one byte": b"{",
    "seven zeros": b"\0" * 7,
    "eight zeros": b"\0" * 8,
    "nine zeros": b"\0" * 9,
    "zeros": b"\0" * 4096,
    "ones": b"\xff" * 4096,
    "text": b"This is not a network, but a line of text.\n",
    "JSON": json.dumps({"layers": [3, 2, 1]}).encode(),
    "pickle": pickle.dumps({"W": [1.0, 2.0]}, 5),
    "pickle, old": pickle.dumps({"W": [1.0, 2.0]}, 0),
    "zip": archive(),
    "npz": arrays(),
    "npy": array(),
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 100,
    "HDF5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\0" * 30,
    "ELF": b"\x7fELF\x02\x01\x01" + b"\0" * 100,
    "polyglot with a zip behind": container({"W": entry()}, b"\0" * 4) + archive(),
    "polyglot with a pickle before": pickle.dumps([1]) + container({"W": entry()}, b"\0" * 4),
    # the length
    "header of the largest length": b"\xff" * 8 + b"{}",
    "header of half the largest length": (2**63).to_bytes(8, "little") + b"{}",
    "header one byte beyond the file": (3).to_bytes(8, "little") + b"{}",
    "header of no length": (0).to_bytes(8, "little") + b"{}",
    "header of one byte": (1).to_bytes(8, "little") + b"{}",
    "big-endian length": (2).to_bytes(8, "big") + b"{}",
    "header above the limit": container(b"{" + b" " * 1_000_000 + b"}"),
    "header of many megabytes": container(b"{" + b" " * 8_000_000 + b"}"),
    # not JSON, or not an object
    "not UTF-8": container(b'{"__metadata__":{"a":"\xff\xfe"}}'),
    "overlong UTF-8": container(b'{"__metadata__":{"a":"\xc0\xaf"}}'),
    "UTF-16": container('{"a":1}'.encode("utf-16")),
    "byte order mark": container(b"\xef\xbb\xbf{}"),
    "space before": container(b" {}"),
    "line after": container(b"{}\n"),
    "zero after": container(b"{}\0"),
    "array": container(b"[]"),
    "string": container(b'"{}"'),
    "number": container(b"12"),
    "null": container(b"null"),
    "two objects": container(b"{}{}"),
    "open object": container(b'{"a":{}'),
    "comment": container(b"{/* */}"),
    "single quotes": container(b"{'a':{}}"),
    "trailing comma": container(b'{"__metadata__":{},}'),
    "control character": container(b'{"__metadata__":{"a":"\n"}}'),
    "deep arrays": container(b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}"),
    "deep objects": container(b'{"a":' * 150_000 + b"1" + b"}" * 150_000),
    "deep and open": container(b'{"a":' + b"[" * 900_000 + b"}"),
    "somewhat deep": container(b'{"a":' * 500 + b"{}" + b"}" * 500),
    # duplicates
    "tensor twice": container(f'{{"W":{GOOD},"W":{GOOD}}}'.encode(), b"\0" * 4),
    "tensor twice, escaped": container(f'{{"W":{GOOD},"\\u0057":{GOOD}}}'.encode(), b"\0" * 4),
    "dtype twice": raw_one('{"dtype":"F64","dtype":"F32","shape":[1],"data_offsets":[0,4]}'),
    "text twice": container(b'{"__metadata__":{"a":"1","a":"2"}}'),
    "metadata twice": container(b'{"__metadata__":{},"__metadata__":{}}'),
    # numbers
    "NaN": raw_one('{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}'),
    "Infinity": raw_one('{"dtype":"F32","shape":[1],"data_offsets":[0,Infinity]}'),
    "minus Infinity": raw_one('{"dtype":"F32","shape":[1],"data_offsets":[-Infinity,4]}'),
    "NaN in metadata": container(b'{"__metadata__":{"a":NaN}}'),
    "fraction in shape": raw_one('{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}'),
    "fraction in offsets": raw_one('{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}'),
    "exponent": raw_one('{"dtype":"F32","shape":[1],"data_offsets":[0,4e0]}'),
    "exponent beyond range": raw_one('{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}'),
    "very long integer": raw_one(GOOD.replace("[1]", "[" + "9" * 900_000 + "]")),
    "many long integers": raw_one(GOOD.replace("[1]", "[" + ("9" * 4000 + ",") * 200 + "1]")),
    "long zero": raw_one(GOOD.replace("[0,", "[-" + "0" * 5000 + ",")),
    # entries
    "entry null": one(None),
    "entry list": one(["F32", [1], [0, 4]]),
    "entry text": one("F32"),
    "entry number": one(4),
    "no entry": one({}),
    "no dtype": one({"shape": [1], "data_offsets": [0, 4]}),
    "no shape": one({"dtype": "F32", "data_offsets": [0, 4]}),
    "no offsets": one({"dtype": "F32", "shape": [1]}),
    "more in the entry": one(entry(path="../../etc/passwd")),
    # names
    "name empty": container({"": entry()}, b"\0" * 4),
    "name long": container({"n" * 129: entry()}, b"\0" * 4),
    "name very long": container({"n" * 900_000: entry()}, b"\0" * 4),
    "name not ASCII": container({"w\u00e9": entry()}, b"\0" * 4),
    "name with a line": container({"a\nb": entry()}, b"\0" * 4),
    "name with a zero": container({"a\0": entry()}, b"\0" * 4),
    "name with an escape": container({"\x1b[2J": entry()}, b"\0" * 4),
    "name of half a character": container({"\ud800": entry()}, b"\0" * 4),
    # dtypes
    "dtype BF16": one(entry("BF16", [2])),
    "dtype I32": one(entry("I32")),
    "dtype BOOL": one(entry("BOOL", [4])),
    "dtype in small letters": one(entry("f32")),
    "dtype of NumPy": one(entry("<f4")),
    "dtype of objects": one(entry("O")),
    "dtype null": one(entry(None)),
    "dtype number": one(entry(4)),
    "dtype list": one(entry(["F32"])),
    "dtype object": one(entry({"F32": "F32"})),
    "dtype too wide": one(entry("F64")),
    # shapes
    "shape number": one(entry(shape=1)),
    "shape null": one(entry(shape=None)),
    "shape text": one(entry(shape="1")),
    "shape object": one(entry(shape={"0": 1})),
    "shape nested": one(entry(shape=[[1]])),
    "shape true": one(entry(shape=[True])),
    "shape of text": one(entry(shape=["1"])),
    "shape with null": one(entry(shape=[None])),
    "shape negative": one(entry(shape=[-1])),
    "shape twice negative": one(entry(shape=[-1, -1])),
    "shape too small": one(entry(shape=[0])),
    "shape too large": one(entry(shape=[2])),
    "shape huge": one(entry(shape=[2**62])),
    "shape wrapping to 4 bytes": one(entry(shape=[2**32, 2**32, 1])),
    "shape wrapping to 1": one(entry(shape=[2**32 + 1, 2**32 - 1])),
    "shape beyond memory": one(entry(shape=[10**6, 10**6])),
    "shape empty but huge": one(entry(shape=[0, 10**18, 10**18], offsets=[0, 0]), b""),
    "shape of 33 ones": one(entry(shape=[1] * 33)),
    "shape of many ones": one(entry(shape=[1] * 300_000)),
    "shape of many sizes": one(entry(shape=[10**18] * 30_000)),
    # ranges
    "offsets number": one(entry(offsets=4)),
    "offsets null": one(entry(offsets=None)),
    "offsets text": one(entry(offsets="04")),
    "offsets of text": one(entry(offsets=["0", "4"])),
    "offsets one": one(entry(offsets=[4])),
    "offsets three": one(entry(offsets=[0, 4, 8])),
    "offsets none": one(entry(offsets=[])),
    "offsets true": one(entry(offsets=[False, 4])),
    "offsets backwards": one(entry(offsets=[4, 0])),
    "offsets negative": one(entry(offsets=[-4, 0])),
    "offsets beyond the file": one(entry(offsets=[4, 8])),
    "offsets far beyond": one(entry(offsets=[10**18, 10**18 + 4])),
    "range beyond the file": one(entry(shape=[10**12], offsets=[0, 4 * 10**12])),
    "no data": one(entry(), b""),
    "byte missing": one(entry(), b"\0" * 3),
    "byte more": one(entry(), b"\0" * 5),
    "data without tensors": container({}, b"\0"),
    "gap before": one(entry(offsets=[4, 8]), b"\0" * 8),
    "gap between": container({"a": entry(), "b": entry(offsets=[8, 12])}, b"\0" * 12),
    "the same range": container({"a": entry(), "b": entry()}, b"\0" * 4),
    "overlap": container({"a": entry(shape=[2], offsets=[0, 8]), "b": entry()}, b"\0" * 8),
    "overlap by a part": container(
        {"a": entry(shape=[2], offsets=[0, 8]), "b": entry(shape=[2], offsets=[4, 12])}, b"\0" * 12
    ),
    "empty inside another": container(
        {"a": entry(shape=[2], offsets=[0, 8]), "b": entry(shape=[0], offsets=[4, 4])}, b"\0" * 8
    ),
    "empty beyond the end": container(
        {"a": entry(), "b": entry(shape=[0], offsets=[8, 8])}, b"\0" * 4
    ),
    "too many": container(
        b"{"
        + b",".join(
            b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(10_001)
        )
        + b"}"
    ),
    # metadata
    "metadata null": texts(None),
    "metadata list": texts(["a"]),
    "metadata text": texts("a"),
    "metadata number": texts(1),
    "metadata with a number": texts({"a": 1}),
    "metadata with null": texts({"a": None}),
    "metadata with true": texts({"a": True}),
    "metadata with a list": texts({"a": []}),
    "metadata nested": texts({"a": {"b": "c"}}),
    "metadata of half a character": texts({"a": "\ud800"}),
    "metadata named by half a character": texts({"\udfff": "a"}),
    "metadata as a tensor": texts(entry()),
    # checksums
    "one checksum": texts({"sha256": hashlib.sha256(b"").hexdigest()}),
    "the other checksum": texts({"sha256_header": "0" * 64}),
    "wrong checksums": texts({"sha256": "0" * 64, "sha256_header": "0" * 64}),
    "empty checksums": texts({"sha256": "", "sha256_header": ""}),
    "long checksums": texts({"sha256": "0" * 400_000, "sha256_header": "0" * 400_000}),
}


@pytest.mark.parametrize("raw", CORPUS.values(), ids=CORPUS)
def test_foreign_files_are_refused_at_once(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "foreign file"
    path.write_bytes(raw)
    begin = time.process_time()
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert time.process_time() - begin < 1
    message = str(caught.value)
    assert message.startswith(f"{str(path)!r} is not a readable model: ")
    assert " must " in message
    assert message.endswith(".")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    assert isinstance(caught.value, ValueError)
    assert caught.value.__suppress_context__


def filled(part: bytes, before: bytes = b'{"W":[', after: bytes = b"]}") -> bytes:
    """A file of 0.8 MB whose header is nothing but one part over and over."""
    header = before + b",".join([part] * (800_000 // (len(part) + 1))) + after
    return len(header).to_bytes(8, "little") + header


HOSTILE = {
    **{str(part)[:20]: filled(part) for part in (
        b"[]", b"{}", b"1", b"123456789012345678", b"true", b"1.5", b'""', b'"a"', b"[[[[]]]]",
        b'{"a":1}', b"[" * 400 + b"]" * 400, b'{"a":' * 100 + b"1" + b"}" * 100,
    )},
    "names": filled(b'"a":1', b"{", b"}"),
    "metadata": filled(b'"a":""', b'{"__metadata__":{', b"}}"),
    "a shape": filled(b"1000", b'{"W":{"dtype":"F32","data_offsets":[0,4],"shape":[', b"]}}"),
    "quotes": filled(b'\\"\\"\\\\', b'{"__metadata__":{"a":"', b'"},"W":1}'),
    "digits": filled(b"1" * 700_000),
}  # fmt: skip


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_take_neither_time_nor_memory(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "hostile file"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 12 * len(raw)
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < len(str(path)) + 400


def test_the_corpus_s_good_parts_are_good(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(one(entry()))
    assert read(path)[0]["W"].tolist() == [0.0]
    path.write_bytes(raw_one(GOOD))
    assert read(path)[0]["W"].tolist() == [0.0]
    path.write_bytes(container(b"{}"))
    assert read(path) == ({}, {})
    path.write_bytes(one(entry(shape=[0, 10**18], offsets=[0, 0]), b""))
    assert read(path)[0]["W"].shape == (0, 10**18)


@pytest.mark.parametrize("kind", ["sparse file", "honest file"])
def test_reading_takes_little_more_than_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    size = 8_000_000
    if kind == "honest file":
        write(path, {"W": np.ones(size // 8), "b": np.ones(3)}, {})
    else:
        with path.open("wb") as file:
            file.write(container({"W": entry("F64", [10**12], [0, 8 * 10**12])}))
            file.truncate(size)
    tracemalloc.start()
    try:
        if kind == "honest file":
            read(path)
        else:
            with pytest.raises(ModelFileError):
                read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (1.2 * size if kind == "honest file" else 100_000)


# ---------------------------------------------------------------- what the system says


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")
    with pytest.raises((IsADirectoryError, PermissionError)):
        read(tmp_path)
    for call in (lambda: read(0), lambda: write(0, {}, {})):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"path must be a string or a path object; got 0 \(int"):
            call()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ModelFileError, match="must be a regular file"):
            read(path)


def test_a_file_that_shrinks_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write(path, small(), {})
    raw = path.read_bytes()
    real = os.fstat

    def before_it_shrank(handle: int) -> os.stat_result:
        status = list(real(handle))
        status[6] = len(raw)
        return os.stat_result(status)

    monkeypatch.setattr(safetensors.os, "fstat", before_it_shrank)
    for length in (0, 4, 8, 100, len(raw) - 50, len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelFileError, match="it became shorter"):
            read(path)


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: BaseException
) -> None:
    path = tmp_path / "file"
    write(path, small(), {"which": "old"})

    def faulty(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(os, name, faulty)
        with pytest.raises(type(fault)):
            write(path, {}, {"which": "new"})
    assert read(path)[1] == {"which": "old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_writers_at_once_leave_one_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    start = threading.Barrier(6)
    faults = []

    def work(writer: int) -> None:
        try:
            start.wait()
            for _ in range(5):
                write(path, {"W": np.full(5000, writer, np.float32)}, {"by": str(writer)})
                tensors, metadata = read(path)
                np.testing.assert_array_equal(tensors["W"], np.full(5000, int(metadata["by"])))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_fractions_may_have_as_many_digits_as_floats_need() -> None:
    for number in (0.00012345678901234567, 1234567890.1234567):
        assert safetensors.parse(repr([number]).encode(), "it", 1) == [number]
    for text in (b"[12345678901234567890]", b"[0.000123456789012345678]"):
        with pytest.raises(ValueError, match="must have at most 19 digits"):
            safetensors.parse(text, "it", 1)


# ---------------------------------------------------------------- the errors themselves


def test_errors_survive_pickling() -> None:
    error = DivergenceError("it diverged", epoch=2, step=17, layer="1", history={"loss": [1.0]})
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DivergenceError
    assert str(again) == "it diverged"
    assert vars(again) == vars(error)
    assert (again.epoch, again.step, again.layer) == (2, 17, "1")
    assert isinstance(again, FloatingPointError)
    assert isinstance(again, ValueError)
    bare = pickle.loads(pickle.dumps(DivergenceError("x", epoch=1, step=1)))
    assert bare.layer is None
    assert bare.history is None
    assert str(pickle.loads(pickle.dumps(ModelFileError("y")))) == "y"
