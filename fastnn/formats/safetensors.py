"""The safetensors container: named arrays and short texts in one file, read without trust.

A file is the length of the header (8 bytes, unsigned, little-endian), the header (a JSON
object in UTF-8, padded with spaces), and the data.  The header gives each array's ``dtype``,
its ``shape`` and its ``data_offsets`` (begin and end, in bytes from where the data start);
under ``__metadata__`` it holds texts by name.  The arrays are little-endian, in C order, and
fill the data without gaps.

Source: https://github.com/huggingface/safetensors, section "Format".

Nothing in a file is ever executed, and nothing that it says is believed before it is checked:
the size of the file bounds the header, the header's ranges must fill the data exactly, and the
shapes must fill the ranges, before anything is allocated.  Files written here carry two
checksums more than the format asks for, so that no damage goes unnoticed.

This file is long because a strict reader names every way in which a file can be wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import ModelFileError
from fastnn.machine.system import file_name, open_for_reading, write_atomically
from fastnn.names import describe

__all__ = ["parse", "read", "write"]

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "U8": "|u1", "I64": "<i8"}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_METADATA = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")

# The checksum of the data, and that of the header without this very entry.
_DATA_SUM = "sha256"
_HEADER_SUM = "sha256_header"

_LENGTH_BYTES = 8
_SHORTEST_HEADER = len(b"{}")
_LONGEST_HEADER = 1_000_000
_ALIGNMENT = 64
_MOST_TENSORS = 10_000
_LONGEST_NAME = 128
_MOST_DIMENSIONS = 32  # NumPy's limit before 2.0
_MOST_BYTES = 2**63 - 1
_MOST_DIGITS = 19  # of 2**63 - 1
_MOST_DECIMALS = 20  # of the shortest text of a float, such as 0.00012345678901234567
_LONG_NUMBER = re.compile(
    rb"(?<![0-9.])[0-9]{%d,}|(?<=\.)[0-9]{%d,}" % (_MOST_DIGITS + 1, _MOST_DECIMALS + 1)
)
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)

# Outside texts there may be so many of these signs for each object, and so many beside: more than
# tensors or layers need, and so few that a hostile file is refused before it takes time or memory.
_MOST_SIGNS = {":": (8, 4_000), "[": (3, 100), ",": (40, 4_000)}
_MOST_OBJECTS = 2 * _MOST_TENSORS  # a layer of each kind for each tensor
_MOST_QUOTES = 18 * _MOST_TENSORS

_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")

Header = dict[str, Any]
Accept = Callable[[dict[str, str], int, int], bool]


class _Entry(NamedTuple):
    """An array as the header describes it, checked."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
) -> None:
    """Write arrays and texts into one file, whole or not at all.

    The same content gives the same bytes.  The data start at a multiple of 64 bytes, so that
    a memory map of them is aligned.  Two texts are added to the metadata: ``sha256``, the
    SHA-256 of the data, and ``sha256_header``, that of the header's JSON without this entry.

    Parameters
    ----------
    path : str or os.PathLike
        The file; an older one is replaced atomically, its permissions are kept.
    tensors : mapping of str to ndarray
        At most 10 000 arrays of float16, float32, float64, uint8 or int64, of any shape, byte order
        and memory order, stored in the mapping's order.  Names are 1 to 128 printable ASCII
        characters.
    metadata : mapping of str to str
        Texts by name.  The whole header has at most 1 000 000 bytes.

    Raises
    ------
    TypeError
        If an argument, a name, a value or an array's dtype is of the wrong type.
    ValueError
        If a name is not allowed, or a limit is exceeded.
    OSError
        The operating system's own, if the file cannot be written; an older one is then whole.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "example.safetensors")
    ...     write(path, {"0.b": np.zeros(2, dtype=np.float32)}, {"made": "by hand"})
    ...     read(path)
    ({'0.b': array([0., 0.], dtype=float32)}, {'made': 'by hand'})
    """
    texts = _check_texts(metadata)
    blocks = _check_tensors(tensors)
    header: Header = {_METADATA: texts}
    begin = 0
    for name, block in blocks.items():
        end = begin + block.nbytes
        values = (_CODES[_little(block.dtype).str], list(block.shape), [begin, end])
        header[name] = dict(zip(_FIELDS, values, strict=True))
        begin = end
    texts[_DATA_SUM] = _checksum(map(_bytes_of, blocks.values()))
    texts[_HEADER_SUM] = _header_checksum(header)
    raw = _dump(header)
    raw += b" " * (-(_LENGTH_BYTES + len(raw)) % _ALIGNMENT)
    if len(raw) > _LONGEST_HEADER:
        raise ValueError(
            f"metadata and the description of the tensors must fit in a header of "
            f"{_LONGEST_HEADER} bytes; they need {len(raw)}."
        )
    # The reader's own rules decide what else may be written.
    _entries(_parse(raw, begin)[0], begin)
    head = len(raw).to_bytes(_LENGTH_BYTES, "little") + raw
    write_atomically(path, itertools.chain([head], map(_bytes_of, blocks.values())))


def read(
    path: str | os.PathLike[str], accept: Accept | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the arrays and texts of a file, or refuse it.

    The file is opened once and takes little more memory than its size.  Files of other
    programs are read too, if they keep to the format; those without checksums are taken as
    they are.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    accept : callable, optional
        Called with the texts, the bytes of all arrays and how many arrays there are, before any
        of these is looked at.  It refuses the file by raising ModelFileError, or returns whether
        it must have the checksums, of which damage may hit both names.

    Returns
    -------
    tensors : dict of str to ndarray
        Arrays of float16, float32, float64, uint8 or int64 in the file's order; writable, in native
        byte order and C order, sharing nothing.
    metadata : dict of str to str
        The texts, without the two checksums.

    Raises
    ------
    ModelFileError
        If the file deviates from the format in anything, or a checksum does not fit.
    TypeError
        If `path` is not a path.
    OSError
        The operating system's own, if the file cannot be opened or read.

    Examples
    --------
    See `write`.
    """
    name = file_name(path)
    with open_for_reading(name) as file:
        status = os.fstat(file.fileno())
        try:
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it must be a regular file; it is a device, pipe or socket.")
            return _read(file, status.st_size, accept)
        except ModelFileError:
            raise
        except ValueError as error:
            raise ModelFileError(f"{name!r} is not a readable model: {error}") from None


def _check_texts(metadata: object) -> dict[str, str]:
    """Copy the metadata to be written, or refuse them."""
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping of names to texts; got {describe(metadata)}.")
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            pair = f"{describe(name)}: {describe(text)}"
            raise TypeError(f"metadata must map strings to strings; got {pair}.")
        if name in (_DATA_SUM, _HEADER_SUM):
            raise ValueError(f"metadata must not hold {name!r}, which write adds itself.")
    return dict(metadata)


def _check_tensors(tensors: object) -> dict[str, NDArray[Any]]:
    """Bring the arrays to be written to the file's layout, or refuse them."""
    if not isinstance(tensors, Mapping):
        raise TypeError(f"tensors must be a mapping of names to arrays; got {describe(tensors)}.")
    blocks = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"tensors must have strings as names; got {describe(name)}.")
        if name == _METADATA:
            raise ValueError(f"tensors must not have the name {name!r}, which the format uses.")
        if not isinstance(tensor, np.ndarray):
            raise TypeError(f"tensors[{name!r}] must be an array; got {describe(tensor)}.")
        dtype = _little(tensor.dtype)
        if dtype.str not in _CODES:
            known = ", ".join(np.dtype(known).name for known in _CODES)
            raise TypeError(
                f"tensors[{name!r}] must have one of the dtypes {known}; got {tensor.dtype}."
            )
        blocks[name] = np.asarray(tensor, dtype=dtype, order="C")
    return blocks


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in the file's byte order."""
    return dtype.newbyteorder("<")


def _bytes_of(block: NDArray[Any]) -> memoryview:
    """View the memory of a C-contiguous array as plain bytes."""
    return block.reshape(-1).view(np.uint8).data


def _checksum(chunks: Iterable[bytes | memoryview]) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _header_checksum(header: Header) -> str:
    """Return the checksum of what a header says, whatever spaces and escapes it says it with."""
    texts = {name: text for name, text in header[_METADATA].items() if name != _HEADER_SUM}
    return _checksum([_dump({**header, _METADATA: texts})])


def _dump(header: Header) -> bytes:
    """Write a header as compact ASCII JSON."""
    return json.dumps(header, separators=(",", ":")).encode("ascii")


def _read(
    file: BufferedReader, size: int, accept: Accept | None
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read an open file of known size; ValueError if it is not as it must be."""
    least = _LENGTH_BYTES + _SHORTEST_HEADER
    if size < least:
        raise ValueError(f"it must have at least {least} bytes; it has {size}.")
    length = int.from_bytes(_take(file, _LENGTH_BYTES), "little")
    most = min(_LONGEST_HEADER, size - _LENGTH_BYTES)
    if not _SHORTEST_HEADER <= length <= most:
        raise ValueError(
            f"its first {_LENGTH_BYTES} bytes must give the length of the header, "
            f"here {_SHORTEST_HEADER} to {most} bytes; they give {length}."
        )
    room = size - _LENGTH_BYTES - length
    header, summed = _parse(_take(file, length), room, accept)
    entries = _entries(header, room)
    tensors = {}
    for entry in entries:
        tensor = np.empty(entry.shape, entry.dtype)
        if file.readinto(_bytes_of(tensor)) != tensor.nbytes:
            raise ValueError("it became shorter while it was being read.")
        tensors[entry.name] = tensor
    texts = _verify(header, tensors, summed)
    # On a big-endian machine the bytes are swapped here; elsewhere nothing is copied.
    native = {name: _native(tensor) for name, tensor in tensors.items()}
    return native, texts


def _native(tensor: NDArray[Any]) -> NDArray[Any]:
    """Return an array in the machine's byte order."""
    return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)


def _take(file: BufferedReader, count: int) -> bytes:
    """Read exactly so many bytes."""
    raw = file.read(count)
    if len(raw) != count:
        raise ValueError("it became shorter while it was being read.")
    return raw


def _parse(raw: bytes, room: int, accept: Accept | None = None) -> tuple[Header, bool]:
    """Parse the header of so many bytes of data into a JSON object with its metadata checked.

    Returns it, and whether it must have the checksums.
    """
    if not raw.startswith(b"{") or not raw.rstrip(b" ").endswith(b"}"):
        raise ValueError(
            f"the header must be a JSON object followed by nothing but spaces; "
            f"it starts with {raw[:8]!r} and ends with {raw[-8:]!r}."
        )
    what = "the header"
    signs = _check_signs(raw, what)
    text = _decoded(raw, what)
    decoder = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number)
    first: dict[str, str] = {}
    summed = False
    if accept is not None:
        place = _begin_of_texts(text)
        if place is not None:
            first = _checked_texts(_json(what, lambda: decoder.raw_decode(text, place)[0]))
        # The header is one object, and so are the texts.
        summed = accept(first, room, signs["{"] - 1 - (place is not None))
    header: Header = _json(what, lambda: decoder.decode(text))
    _check_names(header, signs[":"], text, what)
    texts = _checked_texts(header.setdefault(_METADATA, {}))
    if accept is not None and texts != first:
        raise ValueError(f"the header must hold {_METADATA} once, and without escapes.")
    return header, summed


def _begin_of_texts(text: str) -> int | None:
    """Return where the metadata begin in a header's text, which need not be JSON."""
    name = f'"{_METADATA}"'
    place = text.find(name)
    while place >= 0:
        colon = _COLON.match(text, place + len(name))
        # A quote within a text has a backslash before it.
        if colon and text[place - 1] != "\\":
            return colon.end()
        place = text.find(name, place + 1)
    return None


def _checked_texts(texts: Any) -> dict[str, str]:
    """Return a header's metadata, or refuse what are no texts."""
    if not isinstance(texts, dict):
        raise ValueError(f"{_METADATA} must be an object; got {describe(texts)}.")
    for text in texts.values():
        if not isinstance(text, str):
            raise ValueError(f"metadata must map strings to strings; got {describe(text)}.")
    if not _is_unicode("".join(itertools.chain(texts, texts.values()))):
        for name, text in texts.items():
            if not (_is_unicode(name) and _is_unicode(text)):
                raise ValueError(f"metadata must be Unicode text; got {name!a:.80}: {text!a:.80}.")
    return texts


def parse(raw: bytes, what: str, objects: int = _MOST_OBJECTS, values: int = 0) -> Any:
    """Parse untrusted JSON, or refuse it before it takes time or memory.

    Parameters
    ----------
    raw : bytes
        JSON in UTF-8.
    what : str
        What it is, for the message.
    objects : int, default 20 000
        So many objects it may hold.
    values : int, default 0
        So many values, numbers or texts, it may hold beside those that describe layers.

    Returns
    -------
    object
        What it says.

    Raises
    ------
    ValueError
        If it is no JSON, names something twice in one object, holds NaN, infinity or a very long
        number, or more objects, lists or values than any file of ours.

    Examples
    --------
    >>> parse(b'{"a": [1, 2.5]}', "the text")
    {'a': [1, 2.5]}
    >>> parse(b'{"a": 1, "a": 2}', "the text")
    Traceback (most recent call last):
    ...
    ValueError: the text must name everything once; 'a' (str) came twice.
    """
    signs = _check_signs(raw, what, objects, values)
    text = _decoded(raw, what)
    decoder = json.JSONDecoder(parse_constant=_refuse_number)
    found = _json(what, lambda: decoder.decode(text))
    _check_names(found, signs[":"], text, what)
    return found


def _decoded(raw: bytes, what: str) -> str:
    """Return the text that JSON is, or refuse what is none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} must be JSON in UTF-8; {error}.") from None


def _json(what: str, decode: Callable[[], Any]) -> Any:
    """Return what JSON says, or refuse it in our own words."""
    try:
        return decode()
    except RecursionError:
        raise ValueError(f"{what} must be JSON of few levels; it is far deeper.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} must be JSON in UTF-8; {error}.") from None


def _check_names(found: Any, colons: int, text: str, what: str) -> None:
    """Refuse JSON that names something twice in one object, which has more colons than names."""
    names, left = 0, [found]
    while left:
        inside = left.pop()
        if isinstance(inside, dict):
            names += len(inside)
            inside = inside.values()
        left += [value for value in inside if type(value) is dict or type(value) is list]
    if names == colons:
        return

    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{what} must name everything once; {describe(name)} came twice.")
            seen.add(name)

    json.loads(text, object_pairs_hook=unique)
    raise AssertionError


def _check_signs(
    raw: bytes, what: str, most_objects: int = _MOST_OBJECTS, values: int = 0
) -> dict[str, int]:
    """Refuse JSON of more parts than any file of ours has, by a count that builds none of them.

    Returns how often each of the signs that part it stands outside its texts.
    """
    # Texts may hold what they like: everything from an odd quote to the next is left out.
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    signs = np.frombuffer(unescaped, np.uint8)
    quotes = signs == ord('"')
    outside = signs[~(np.bitwise_xor.accumulate(quotes) | quotes)]
    counts = {sign: int(np.count_nonzero(outside == ord(sign))) for sign in "{:[,"}
    objects = counts["{"]
    limits = {"{": most_objects}
    limits |= {
        sign: each * objects + beside + (values if sign == "," else 0)
        for sign, (each, beside) in _MOST_SIGNS.items()
    }
    if np.count_nonzero(quotes) > min(3 * limits[":"], _MOST_QUOTES) + 2 * values:
        raise ValueError(f"{what} must hold fewer names and texts for its {objects} objects.")
    for sign, most in limits.items():
        if counts[sign] > most:
            raise ValueError(
                f"{what} must have at most {most} of {sign!r} outside its texts; "
                f"it has {counts[sign]}."
            )
    numbers = outside.tobytes()
    if b"0" * (_MOST_DIGITS + 1) in numbers.translate(_DIGITS):
        number = _LONG_NUMBER.search(numbers)
        if number is not None:
            raise ValueError(
                f"numbers in {what} must have at most {_MOST_DIGITS} digits; "
                f"got one of {len(number[0])}."
            )
    return counts


def _refuse_number(text: str) -> None:
    """Refuse what is no integer: fractions, exponents, NaN, infinities."""
    raise ValueError(f"numbers must be integers; got {text:.40}.")


def _is_unicode(text: str) -> bool:
    """Whether a text is free of lone surrogates, which JSON can escape but UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _entries(header: Header, room: int) -> list[_Entry]:
    """Check a header's arrays, which must fill the data, and return them in the data's order."""
    count = len(header) - 1
    if count > _MOST_TENSORS:
        raise ValueError(f"there must be at most {_MOST_TENSORS} tensors; got {count}.")
    entries = [_entry(name, value) for name, value in header.items() if name != _METADATA]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    filled = 0
    for entry in entries:
        if entry.begin != filled:
            raise ValueError(
                f"tensor {entry.name!r} must begin at byte {filled} of the data, "
                f"where the one before it ends; got {entry.begin}."
            )
        filled = entry.end
    if filled != room:
        raise ValueError(f"the tensors must fill the data's {room} bytes; they fill {filled}.")
    return entries


def _entry(name: str, value: object) -> _Entry:
    """Check what the header says of one array."""
    if not (0 < len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()):
        raise ValueError(
            f"names of tensors must be 1 to {_LONGEST_NAME} printable ASCII characters; "
            f"got {name!a:.80} of {len(name)}."
        )
    if not isinstance(value, dict) or set(value) != set(_FIELDS):
        raise ValueError(
            f"tensor {name!r} must have just {', '.join(_FIELDS)}; got {describe(value)}."
        )
    code, shape, offsets = (value[field] for field in _FIELDS)
    if not isinstance(code, str) or code not in _DTYPES:
        raise ValueError(
            f"the dtype of tensor {name!r} must be one of {', '.join(_DTYPES)}; "
            f"got {describe(code)}."
        )
    if not _are_sizes(shape, _MOST_DIMENSIONS):
        raise ValueError(
            f"the shape of tensor {name!r} must be at most {_MOST_DIMENSIONS} non-negative "
            f"integers; got {describe(shape)}."
        )
    if not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise ValueError(
            f"the data_offsets of tensor {name!r} must be two non-negative integers; "
            f"got {describe(offsets)}."
        )
    dtype = np.dtype(_DTYPES[code])
    begin, end = offsets
    needed = math.prod(shape) * dtype.itemsize
    if needed != end - begin:
        raise ValueError(
            f"tensor {name!r} must have the {needed} bytes that {code} of shape "
            f"{describe(shape)} needs; its data_offsets give it {end - begin}."
        )
    # An empty array takes no bytes, but NumPy multiplies its other sizes all the same.
    if math.prod(size for size in shape if size) * dtype.itemsize > _MOST_BYTES:
        raise ValueError(
            f"the shape of tensor {name!r} must not take more than {_MOST_BYTES} bytes, zeros "
            f"left out; got {describe(shape)}."
        )
    return _Entry(name, dtype, tuple(shape), begin, end)


def _are_sizes(values: object, most: int) -> bool:
    """Whether something is a list of so many non-negative integers; true and false are none."""
    if not isinstance(values, list) or len(values) > most:
        return False
    return not values or (set(map(type, values)) == {int} and min(values) >= 0)


def _verify(header: Header, tensors: Mapping[str, NDArray[Any]], summed: bool) -> dict[str, str]:
    """Compare the checksums, if there are any or must be, and return the other metadata."""
    texts: dict[str, str] = header[_METADATA]
    sums = [name for name in (_DATA_SUM, _HEADER_SUM) if name in texts]
    if summed and not sums:
        raise ValueError(
            f"it must have the checksums {_DATA_SUM} and {_HEADER_SUM}; it has neither, so that "
            f"nothing tells whether it is damaged."
        )
    if len(sums) == 1:
        raise ValueError(f"it must have both checksums or none; it has just {sums[0]}.")
    if sums:
        found = {
            _HEADER_SUM: _header_checksum(header),
            _DATA_SUM: _checksum(map(_bytes_of, tensors.values())),
        }
        for name, value in found.items():
            if texts[name] != value:
                raise ValueError(
                    f"it is damaged: its checksum {name} must be {describe(texts[name])}; "
                    f"got {value}."
                )
    return {name: text for name, text in texts.items() if name not in sums}
