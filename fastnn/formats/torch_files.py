"""Files that ``torch.save`` wrote, read as arrays without PyTorch and without running anything.

Both forms are known: a zip archive with one entry for the bytes of each storage (since PyTorch
1.6), and a row of pickles with the bytes behind them (before).  The pickle inside is read as data
(`plain_pickle`), so that a file can describe tensors and do nothing else.  Knows nothing of
networks.

Source: PyTorch's documentation, "Serialization semantics", and what ``torch.save`` writes.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import ModelFileError
from fastnn.formats import safetensors
from fastnn.formats.plain_pickle import Name, UnknownNameError, read_plain
from fastnn.machine.system import file_name, read_regular
from fastnn.names import describe

__all__ = ["load_torch"]

Array = NDArray[Any]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22
_PICKLE = b"\x80"
_MOST_ENTRIES = 4_000
_MOST_DIMENSIONS = 8
# Opcodes for each storage, and beside: a tensor takes some thirty.
_OPCODES = (48, 3_000)

#: What the numbers of a storage are; bfloat16 is the upper half of a float32.
_KINDS: dict[str, str] = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bf",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers in a row, as the pickle names them."""

    key: str
    kind: str
    count: int

    @property
    def nbytes(self) -> int:
        """How many bytes they take in the file."""
        return self.count * (2 if self.kind == "bf" else np.dtype(self.kind).itemsize)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage, checked against it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load_torch(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Array]:
    """Read the ``state_dict`` of a PyTorch file, without PyTorch and without running anything.

    Files of ``torch.save`` are read in both of their forms, and safetensors files.

    Parameters
    ----------
    path : path-like
        The file.
    key : str, optional
        Where the ``state_dict`` is in a checkpoint that holds more, such as
        ``"model_state_dict"``; may be left out where there is one only.

    Returns
    -------
    dict of str to ndarray
        By name in the file's order, in C order and sharing nothing.  bfloat16, which NumPy does
        not know, becomes float32.

    Raises
    ------
    ModelFileError
        If the file is damaged, holds anything but tensors and plain values, or no ``state_dict``.
    OSError
        If it cannot be read.

    See Also
    --------
    fastnn.from_torch : Makes a network of it.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.load_torch("no-such-file.pt")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'no-such-file.pt'
    """
    if not isinstance(key, str | None):
        raise TypeError(f"key must be a text or None; got {describe(key)}.")
    name = file_name(path)
    try:
        raw = read_regular(name)
        begin = raw[: len(_ZIP)]
        if begin != _ZIP and not begin.startswith(_PICKLE):
            # A safetensors file begins with the length of its header.
            return safetensors.read(name)[0]
        # Python's own reader of opcodes warns of texts with odd escapes.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            held, bytes_of = (_from_archive if begin == _ZIP else _from_pickles)(raw)
        return _arrays(_chosen(held, key), bytes_of, len(raw))
    except ModelFileError:
        raise
    except UnknownNameError as error:
        raise ModelFileError(
            f"{name!r} must hold tensors and plain values, such as a module's state_dict(), and no "
            f"other objects; {error}"
        ) from None
    # What Python's own reader of archives cannot read is NotImplementedError to it.
    except (ValueError, NotImplementedError, zipfile.BadZipFile, struct.error) as error:
        raise ModelFileError(f"{name!r} is not a readable PyTorch file: {error}") from None


BytesOf = Callable[[_Storage], memoryview]


def _from_archive(raw: bytes) -> tuple[Any, BytesOf]:
    """Return what a zip archive's pickle holds, and what gives the bytes of a storage."""
    end = raw.rfind(_ZIP_END)
    if end < 0 or len(raw) - end < _ZIP_END_BYTES:
        raise ValueError("its archive has no end; it may have been cut short.")
    entries = struct.unpack_from("<H", raw, end + 10)[0]
    if entries > _MOST_ENTRIES:
        raise ValueError(f"its archive has {entries} entries, more than {_MOST_ENTRIES}.")
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        found: dict[str, memoryview] = {}
        for info in archive.infolist():
            name = info.filename.partition("/")[2]
            if name in found:
                raise ValueError(f"its archive has two entries {describe(name)}.")
            found[name] = _entry(raw, info)
    if "constants.pkl" in found:
        raise ValueError(
            "it is a TorchScript archive; save the state_dict of torch.jit.load(path) instead."
        )
    if "data.pkl" not in found:
        raise ValueError("its archive has no data.pkl.")
    if bytes(found.get("byteorder", b"little")) != b"little":
        raise ValueError("its numbers are in big-endian order.")

    def bytes_of(storage: _Storage) -> memoryview:
        entry = found.get(f"data/{storage.key}")
        if entry is None or len(entry) < storage.nbytes:
            raise ValueError(f"its storage {describe(storage.key)} is missing or cut short.")
        return entry

    return _plain(BytesIO(bytes(found["data.pkl"])), len(found))[0], bytes_of


def _entry(raw: bytes, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of an entry, which must lie in the archive as they are."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"its entry {describe(info.filename)} is compressed or encrypted.")
    at = info.header_offset
    if raw[at : at + 4] != _ZIP or at + 30 > len(raw):
        raise ValueError(f"its entry {describe(info.filename)} is not where the archive says.")
    name, extra = struct.unpack_from("<HH", raw, at + 26)
    begin = at + 30 + name + extra
    if info.file_size != info.compress_size or begin + info.file_size > len(raw):
        raise ValueError(f"its entry {describe(info.filename)} is cut short.")
    return memoryview(raw)[begin : begin + info.file_size]


def _from_pickles(raw: bytes) -> tuple[Any, BytesOf]:
    """Return what a row of pickles holds, and what gives the bytes of a storage."""
    file = BytesIO(raw)
    few = _OPCODES[1]
    if read_plain(file, {}, _refuse_identifier, few) != _MAGIC:
        raise ValueError("it is a pickle that torch.save did not write.")
    if read_plain(file, {}, _refuse_identifier, few) != _PROTOCOL:
        raise ValueError("its protocol is unknown.")
    facts = read_plain(file, {}, _refuse_identifier, few)
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise ValueError("its numbers are in big-endian order.")
    held, storages = _plain(file, min(len(raw) // 8, _MOST_ENTRIES))
    keys = read_plain(file, {}, _refuse_identifier, 2 * _MOST_ENTRIES + few)
    if not isinstance(keys, list) or len(keys) > _MOST_ENTRIES:
        raise ValueError("its storages are not listed.")
    at = file.tell()
    begins = {str(key): place for place, key in enumerate(keys)}
    if len(begins) != len(keys):
        raise ValueError("its list of storages names one twice.")
    places: dict[str, memoryview] = {}
    for key in begins:
        if key not in storages or at + 8 > len(raw):
            raise ValueError(f"its storage {describe(key)} is missing or cut short.")
        if int.from_bytes(raw[at : at + 8], "little") != storages[key].count:
            raise ValueError(f"its storage {describe(key)} is not as long as its tensors say.")
        at += 8
        places[key] = memoryview(raw)[at : at + storages[key].nbytes]
        at += storages[key].nbytes

    def bytes_of(storage: _Storage) -> memoryview:
        found = places.get(storage.key, memoryview(b""))
        if len(found) < storage.nbytes:
            raise ValueError(f"its storage {describe(storage.key)} is missing or cut short.")
        return found

    return held, bytes_of


def _refuse_identifier(identifier: Any) -> Any:
    """Refuse a storage where there can be none."""
    raise ValueError("it names a storage where there can be none.")


def _plain(file: BytesIO, storages: int) -> tuple[Any, dict[str, _Storage]]:
    """Return what a pickle of so many storages holds, and these by their keys."""
    known: dict[str, _Storage] = {}

    def storage(identifier: Any) -> _Storage:
        match identifier:
            case ("storage", Name(name=name), str(key), str(), int(count), *_) if (
                name.startswith("torch ") and name[6:] in _KINDS and 0 <= count < 1 << 62
            ):
                found = _Storage(key, _KINDS[name[6:]], count)
                if known.setdefault(key, found) != found:
                    raise ValueError(f"its storage {describe(key)} is of two kinds.")
                return found
        raise ValueError(f"it has a storage of an unknown kind: {describe(identifier)}.")

    return read_plain(file, _KNOWN, storage, _OPCODES[0] * storages + _OPCODES[1]), known


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Return a view of a storage, if it lies within it and has no number twice."""
    whole = isinstance(shape, tuple) and isinstance(strides, tuple)
    if not (
        whole
        and isinstance(storage, _Storage)
        and len(shape) == len(strides) <= _MOST_DIMENSIONS
        and all(type(one) is int and 0 <= one < 1 << 62 for one in (offset, *shape, *strides))
    ):
        raise ValueError("it has a tensor whose place, shape or strides are none.")
    size = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if size and (last >= storage.count or size > storage.count):
        raise ValueError(f"it has a tensor of shape {shape} beyond the end of its storage.")
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> _Tensor:
    """Return the tensor of a parameter."""
    if not isinstance(tensor, _Tensor):
        raise ValueError("it has a parameter that is no tensor.")
    return tensor


def _size(values: Any = ()) -> tuple[Any, ...]:
    """Return a shape."""
    if not isinstance(values, tuple):
        raise ValueError("it has a shape that is none.")
    return values


def _empty_dict() -> dict[Any, Any]:
    """Return an empty dict, which keeps its order too."""
    return {}


def _not_called(*_: Any) -> Any:
    """Refuse to call what is only named."""
    raise ValueError("it calls what cannot be called.")


#: The names that a file may say, and what becomes of a call.
_KNOWN: Mapping[str, Callable[..., Any]] = {
    "collections OrderedDict": _empty_dict,
    "torch Size": _size,
    "torch device": lambda *values: None,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    **{f"torch {name}": _not_called for name in _KINDS},
    **{
        f"torch {name}": _not_called
        for name in (
            "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
            "uint8", "bool",
        )
    },
}  # fmt: skip


def _chosen(held: Any, key: str | None) -> dict[str, _Tensor]:
    """Return the ``state_dict`` of what a file holds, or say which there are."""
    if not isinstance(held, dict):
        raise ValueError("it must hold a state_dict, tensors by name.")
    # One value may stand under many keys.
    states = {id(one): _is_state(one) for one in {id(one): one for one in held.values()}.values()}
    found = [name for name, one in held.items() if states[id(one)]]
    if key is None and _is_state(held):
        return dict(held)
    if key is None and len(found) == 1:
        return dict(held[found[0]])
    if key is not None and key in found:
        return dict(held[key])
    there = f"it has {', '.join(map(describe, found[:10]))}" if found else "it has none"
    wanted = "one state_dict of tensors, or key must name one of several"
    if key is not None:
        wanted = f"a state_dict of tensors as {describe(key)}"
    raise ValueError(f"it must hold {wanted}; {there}.")


def _is_state(held: Any) -> bool:
    """Whether something is a ``state_dict``: tensors by name."""
    return (
        isinstance(held, dict)
        and bool(held)
        and all(isinstance(name, str) and isinstance(one, _Tensor) for name, one in held.items())
    )


def _arrays(state: dict[str, _Tensor], bytes_of: BytesOf, most: int) -> dict[str, Array]:
    """Return copies of tensors, which together are no longer than the file."""
    wanted = sum(
        math.prod(one.shape) * one.storage.nbytes // max(one.storage.count, 1)
        for one in state.values()
    )
    if wanted > most:
        raise ValueError(f"its tensors have {wanted} bytes in all, more than the file.")
    return {name: _array(tensor, bytes_of(tensor.storage)) for name, tensor in state.items()}


def _array(tensor: _Tensor, raw: memoryview) -> Array:
    """Return a copy of a tensor."""
    kind = tensor.storage.kind
    numbers = np.frombuffer(
        raw, "<u2" if kind == "bf" else np.dtype(kind).newbyteorder("<"), tensor.storage.count
    )
    if not math.prod(tensor.shape):
        view = numbers[:0].reshape(tensor.shape)
    else:
        steps = tuple(step * numbers.itemsize for step in tensor.strides)
        view = np.lib.stride_tricks.as_strided(
            numbers[tensor.offset :], tensor.shape, steps, writeable=False
        )
    if kind == "bf":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return np.array(view, view.dtype.newbyteorder("="), order="C")
