"""Activations and their derivatives over whole matrices.

Elementwise activations are curves (`curves`); softmax and increasing (`increments`) walk over rows.
The switch on the code stands outside the loops, of which there is one per curve.  All loops of a
direction are one function that is not inlined, so that it is compiled once however many places call
it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba.core import types

from fastnn.kernels import codes, simd, vector_math
from fastnn.kernels._jit import intrinsic, kernel
from fastnn.kernels.curves import CURVES, Curve
from fastnn.kernels.increments import increased, increased_back, increasing, increasing_backward
from fastnn.kernels.own_functions import TWINS, emit_back, emit_values, is_own
from fastnn.kernels.rows import Matrix, Walk, walk_along, walk_rows

__all__ = ["activation_backward", "activation_forward", "by_rows"]


@kernel
def by_rows(activation: int) -> bool:
    """Return whether an activation takes all units of a row together."""
    return activation == codes.SOFTMAX or activation == codes.INCREASING


def _activation_forward(A: Any, Z: Any, code: int) -> None:
    """Compute it in NumPy."""
    if code > codes.LARGEST_CODE:
        A[:] = TWINS[code].values(Z)
    elif code == codes.SOFTMAX:
        E = np.exp(Z - Z.max(axis=1, keepdims=True))
        A[:] = E / E.sum(axis=1, keepdims=True)
    elif code == codes.INCREASING:
        A[:] = increased(Z)
    else:
        A[:] = CURVES[code].value_twin(Z)


@intrinsic(_activation_forward)
def activation_forward(typing: Any, A: Any, Z: Any, code: Any) -> Any:
    """Compute A = f(Z), of C-contiguous matrices, or of rows apart that are one vector wide.

    Reads: Z (rows, units).  Writes: A (rows, units).
    May overwrite: A may be Z itself; it overlaps it in no other way.
    """

    def step(curve: Curve, v: simd.Vectors, at: Any, a: Any, z: Any) -> None:
        v.store(curve.value(v, v.load(z, at)), a, at)

    return types.void(A, Z, types.intp), _over_matrices("activation_forward", step, _FORWARD)


def _activation_backward(dZ: Any, A: Any, Z: Any, code: int) -> None:
    """Compute it in NumPy."""
    if code > codes.LARGEST_CODE:
        own = TWINS[code]
        dZ[:] = dZ * own.slopes(Z if own.derivative_from == "Z" else A)
    elif code == codes.SOFTMAX:
        dZ[:] = A * (dZ - (A * dZ).sum(axis=1, keepdims=True))
    elif code == codes.INCREASING:
        dZ[:] = increased_back(dZ, Z)
    else:
        curve = CURVES[code]
        dZ[:] = curve.back_twin(dZ, Z if curve.from_z else A)


@intrinsic(_activation_backward)
def activation_backward(typing: Any, dZ: Any, A: Any, Z: Any, code: Any) -> Any:
    """Compute dZ = dA * f'(Z), where dZ holds dA on entry; matrices as for `activation_forward`.

    Reads: A and Z (rows, units), of which an activation uses the one that its row in the table
    of activations names, so that the other may hold anything.  Writes: dZ (rows, units), in
    place.  May overwrite: nothing else.
    """

    def step(curve: Curve, v: simd.Vectors, at: Any, d: Any, a: Any, z: Any) -> None:
        x = v.load(z if curve.from_z else a, at)
        v.store(curve.back(v, v.load(d, at), x), d, at)

    generate = _over_matrices("activation_backward", step, _BACKWARD)
    return types.void(dZ, A, Z, types.intp), generate


def _softmax(v: simd.Vectors, target: Matrix, matrix: Matrix) -> None:
    """Emit softmax of each row, shifted by its largest z so that nothing overflows."""
    build = v.builder

    def rows(walk: Walk) -> None:
        z, a = walk.source(matrix), walk.target(target, simd.TRUE)
        highest = walk.largest(z)

        def term(place: Any) -> list[Any]:
            e = vector_math.exp(v, build.fsub(z.load(place), highest))
            a.store(e, place)
            return [e]

        (total,) = walk.total(term)
        factor = build.fdiv(v.constant(1.0), total)
        walk.each(lambda place: a.store(build.fmul(a.load(place), factor), place))
        walk.hand_out(a)

    walk_rows(v, matrix, rows)


def _softmax_backward(v: simd.Vectors, gradient: Matrix, result: Matrix, _z: Matrix) -> None:
    """Emit dz_j = a_j (da_j - sum_k a_k da_k) of each row."""
    build = v.builder

    def rows(walk: Walk) -> None:
        a, d = walk.source(result), walk.target(gradient, simd.TRUE)
        (along,) = walk.total(lambda place: [build.fmul(a.load(place), d.load(place))])

        def step(place: Any) -> None:
            across = build.fsub(d.load(place), along)
            d.store(build.fmul(a.load(place), across), place)

        walk.each(step)

    walk_along(v, result, rows)


_FORWARD = {codes.SOFTMAX: _softmax, codes.INCREASING: increasing}
_BACKWARD = {codes.SOFTMAX: _softmax_backward, codes.INCREASING: increasing_backward}


def _over_matrices(
    name: str, step: Callable[..., None], rowwise: dict[int, Callable[..., None]]
) -> Callable[..., Any]:
    """Return the code generator that switches on the code and walks over matrices of one shape.

    ``step(curve, v, at, *pointers)`` emits what a curve does to a vector of each, and
    ``rowwise[code](v, *matrices)`` what one does that takes whole rows; the first one is written.
    """

    def loops(element: Any, builder: Any, *arguments: Any) -> None:
        *data, vectors, apart, code = arguments
        v = simd.Vectors(builder, element)

        def arm(curve: Curve) -> None:
            def turn(n: Any) -> None:
                step(curve, v, builder.mul(n, apart), *data)

            simd.count_loop(builder, vectors, turn)

        simd.switch(builder, code, {row: partial(arm, curve) for row, curve in CURVES.items()})

    def whole(element: Any, builder: Any, *arguments: Any) -> None:
        *data, rows, columns, pitch, code = arguments
        v = simd.Vectors(builder, element)
        matrices = [Matrix(start, rows, columns, columns) for start in data]

        def own() -> None:
            whole_rows = builder.icmp_signed("==", pitch, columns)
            many = builder.select(whole_rows, simd.int64(1), rows)
            count = builder.select(whole_rows, builder.mul(rows, columns), columns)

            def row(n: Any) -> None:
                starts = [builder.gep(start, [builder.mul(n, pitch)]) for start in data]
                emit: Any = emit_values if len(data) == 2 else emit_back
                emit(v, code, *starts, count)

            simd.count_loop(builder, many, row)

        def each() -> None:
            kinds = [*(start.type for start in data), *[simd.int64] * 3]
            body = partial(loops, element)
            curves = simd.outlined(builder, f"fastnn.{name}.curves.{element}", kinds, body)
            whole_rows = builder.icmp_signed("==", pitch, columns)
            with builder.if_else(whole_rows) as (joined, parted):
                with joined:
                    _in_whole_vectors(v, builder.mul(rows, columns), data, curves, code)
                with parted:
                    builder.call(curves, [*data, rows, pitch, code])

        arms = {row: partial(emit, v, *matrices) for row, emit in rowwise.items()}
        with builder.if_else(is_own(builder, code)) as (theirs, ours):
            with theirs:
                own()
            with ours:
                simd.switch(builder, code, arms, each)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *arrays, code = arguments
        matrices = [
            Matrix.of(context, builder, kind, array)
            for kind, array in zip(signature.args, arrays, strict=False)
        ]
        first, data = matrices[0], [matrix.data for matrix in matrices]
        kinds = [*(start.type for start in data), *[simd.int64] * 4]
        element = context.get_data_type(signature.args[0].dtype)
        body = partial(whole, element)
        function = simd.outlined(builder, f"fastnn.{name}.{element}", kinds, body)
        builder.call(function, [*data, first.rows, first.columns, first.pitch, code])
        return context.get_dummy_value()

    return generate


def _in_whole_vectors(v: simd.Vectors, count: Any, data: Any, curves: Any, code: Any) -> None:
    """Emit the calls of a function of whole vectors that cover so many numbers.

    A remainder shorter than a vector goes through vectors on the stack.
    """
    build = v.builder
    lanes = simd.int64(v.lanes)
    end = build.and_(count, simd.int64(-v.lanes))
    build.call(curves, [*data, build.sdiv(end, lanes), lanes, code])
    with build.if_then(build.icmp_signed("<", end, count)):
        mask = v.first_lanes(build.sub(count, end))
        spare = [simd.variable(build, v.load(start, end, mask)) for start in data]
        starts = [build.bitcast(vector, v.element.as_pointer()) for vector in spare]
        build.call(curves, [*starts, simd.int64(1), lanes, code])
        v.store(build.load(spare[0]), data[0], end, mask)
