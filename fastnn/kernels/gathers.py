"""Vectors in place of codes: rows of tables copied forward, and what comes back added to them.

What is copied lies in pieces, a piece within a panel of the result (`embeddings.pieces`), so that
a row of a piece is one run of numbers, there and in its table.  Codes are whole and in their range,
as the gate has seen; but as a callback may write to X between epochs, a code beyond its table
counts as the nearest one in it, so that no other memory is read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd
from fastnn.kernels._jit import apart, entry, intrinsic, kernel
from fastnn.kernels.panels import PANEL_BYTES

__all__ = ["codes_fit", "embed_examples", "embedding_forward", "embedding_sums"]


def _copy_run(out: Any, to: int, P: Any, at: int, count: int) -> None:
    """Copy in NumPy."""
    out[to : to + count] = P[at : at + count]


@intrinsic(_copy_run)
def copy_run(typing: Any, out: Any, to: Any, P: Any, at: Any, count: Any) -> Any:
    """Copy some elements of P to a place in out, which may be the same array.

    Reads: count elements of P from at.  Writes: as many of out from `to`.
    May overwrite: nothing else.
    """
    place = types.intp

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = simd.data_pointer(context, builder, out, arguments[0])
        source = simd.data_pointer(context, builder, P, arguments[2])
        values = [target, arguments[1], source, *arguments[3:]]
        kinds = [value.type for value in values]
        name = f"fastnn.copy_run.{target.type.pointee}"
        builder.call(simd.outlined(builder, name, kinds, _emit_copy), values)
        return context.get_dummy_value()

    return types.void(out, place, P, place, place), generate


def _emit_copy(build: Any, target: Any, to: Any, source: Any, at: Any, count: Any) -> None:
    """Emit it."""
    v = simd.Vectors(build, target.type.pointee)

    def copy(n: Any, mask: Any) -> None:
        v.store(v.load(source, build.add(at, n), mask), target, build.add(to, n), mask)

    v.over(count, copy)


def _add_run(M: Any, to: int, at: int, count: int) -> None:
    """Add in NumPy."""
    M[to : to + count] += M[at : at + count]


@intrinsic(_add_run)
def add_run(typing: Any, M: Any, to: Any, at: Any, count: Any) -> Any:
    """Add some elements of M to those at another place.

    Reads: in M, count elements from at.  Reads and writes: as many from `to`.
    May overwrite: nothing else.
    """
    signature = types.void(M, *[types.intp] * 3)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = simd.data_pointer(context, builder, M, arguments[0])
        kinds = [data.type, *[simd.int64] * 3]
        name = f"fastnn.add_run.{data.type.pointee}"
        builder.call(simd.outlined(builder, name, kinds, _emit_add), [data, *arguments[1:]])
        return context.get_dummy_value()

    return signature, generate


def _emit_add(build: Any, data: Any, to: Any, at: Any, count: Any) -> None:
    """Emit it."""
    v = simd.Vectors(build, data.type.pointee)

    def add(n: Any, mask: Any) -> None:
        place = build.add(to, n)
        total = build.fadd(v.load(data, place, mask), v.load(data, build.add(at, n), mask))
        v.store(total, data, place, mask)

    v.over(count, add)


@kernel
def column_at(start: int, column: int, height: int, panel: int) -> int:
    """Return where the first row of a column lies in a matrix in panels."""
    inside = column % panel
    return start + (column - inside) * height + inside


@kernel
def code_of(x: Any, size: int) -> int:
    """Return a code as an integer; the nearest one that there is for any other number."""
    if not x > 0:
        return 0
    if x >= size:
        return size - 1
    return int(x)


@apart
def embedding_forward(M: Any, row: Any, integers: Any, height: int, first: int, last: int) -> None:
    """Copy columns that pass, and the vectors of codes, of some rows.

    Reads: the operation's source and span; integers from its `pieces` on.  Writes: its result.
    May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    for p in range(row.piece_count):
        at = row.pieces + p * codes.P_COLUMNS
        count, size = integers[at + codes.P_COUNT], integers[at + codes.P_SIZE]
        to = column_at(row.result, integers[at + codes.P_TO], height, panel)
        source = column_at(row.source, integers[at + codes.P_FROM], height, panel)
        if size == 0:
            for i in range(first, last):
                copy_run(M, to + i * panel, M, source + i * panel, count)
            continue
        table, pitch = row.packed + integers[at + codes.P_START], integers[at + codes.P_PITCH]
        for i in range(first, last):
            code = code_of(M[source + i * panel], size)
            copy_run(M, to + i * panel, M, table + code * pitch, count)


@kernel
def embedding_sums(
    M: Any, row: Any, integers: Any, height: int, rows: int, low: int, high: int, result: int
) -> None:
    """Add what comes back to some elements of the operation's span, from low to before high.

    Each element is added to in the order of rows.

    Reads: the operation's source and `dresult`; integers from its `pieces` on.
    Reads and writes: the sums, from result on.  May overwrite: nothing else.
    """
    panel = PANEL_BYTES // M.itemsize
    for p in range(row.piece_count):
        at = row.pieces + p * codes.P_COLUMNS
        count, size = integers[at + codes.P_COUNT], integers[at + codes.P_SIZE]
        start, pitch = integers[at + codes.P_START], integers[at + codes.P_PITCH]
        if size == 0 or start >= high or start + (size - 1) * pitch + count <= low:
            continue
        d = column_at(row.dresult, integers[at + codes.P_TO], height, panel)
        source = column_at(row.source, integers[at + codes.P_FROM], height, panel)
        for i in range(rows):
            begin = start + code_of(M[source + i * panel], size) * pitch
            skipped = max(low - begin, 0)
            some = min(count, high - begin) - skipped
            if some > 0:
                add_run(M, result + begin - low + skipped, d + i * panel + skipped, some)


@kernel
def fits(x: Any, size: int) -> bool:
    """Say whether a number is a code of a table of so many."""
    found: bool = x >= 0 and x < size and x == np.floor(x)
    return found


@entry
def codes_fit(coded: Any, x: Any, pitch: int) -> bool:
    """Say whether all codes of some examples are such.

    Parameters
    ----------
    coded : int64 (columns, 2)
        Columns, and how many codes each has.
    x : (rows * pitch,)
        Examples, read only.
    """
    for k in range(coded.shape[0]):
        for at in range(coded[k, 0], x.size, pitch):
            if not fits(x[at], coded[k, 1]):
                return False
    return True


@entry
def embed_examples(
    P: Any, start: int, pieces: Any, x: Any, pitch: int, out: Any, width: int
) -> None:
    """Put vectors in place of codes, with the bits of `embedding_forward`.

    Parameters
    ----------
    P : (size,)
        The parameters, with the tables from `start` on.
    pieces : int64 (pieces, codes.P_COLUMNS)
        What is copied.
    x : (rows * pitch,)
        Examples with codes that fit, read only.
    out : (rows * width,)
        Written.
    """
    rows = x.size // pitch
    for p in range(pieces.shape[0]):
        piece = pieces[p]
        to, count, size = piece[codes.P_TO], piece[codes.P_COUNT], piece[codes.P_SIZE]
        source = piece[codes.P_FROM]
        table = start + piece[codes.P_START]
        for i in range(rows):
            here = i * width + to
            if size == 0:
                copy_run(out, here, x, i * pitch + source, count)
            else:
                begin = table + code_of(x[i * pitch + source], size) * piece[codes.P_PITCH]
                copy_run(out, here, P, begin, count)
