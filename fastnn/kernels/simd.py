"""Explicit vectors: what intrinsics are written with.

LLVM vectorises a loop of Numba's only where it can prove that it may; the kernels that decide the
library's speed state lanes, masks and fused multiply-adds themselves.  `Vectors` binds
them to an LLVM builder.

The width follows the features that code is generated for, not the host's, so that
``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` choose it too.

The file is long because it is the one vocabulary of all intrinsics, and its words build on each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, registry
from numba.np import arrayobj

__all__ = [
    "BYTES",
    "REGISTERS",
    "TRUE",
    "X86",
    "Vectors",
    "count_loop",
    "data_length",
    "data_pointer",
    "evenly",
    "int32",
    "int64",
    "outlined",
    "prefetch",
    "room",
    "switch",
]

# llvmlite's and Numba's helpers carry no types.
_ir: Any = ir
_cgutils: Any = cgutils
_arrayobj: Any = arrayobj

int64: Any = _ir.IntType(64)
int32: Any = _ir.IntType(32)
_int1: Any = _ir.IntType(1)
TRUE: Any = _int1(1)


def _target() -> tuple[str, frozenset[str]]:
    """Return LLVM's target triple and the CPU features that code is generated for."""
    target: Any = registry.cpu_target.target_context
    triple, _name, features = target.codegen().magic_tuple()
    return triple, frozenset(part[1:] for part in features.split(",") if part.startswith("+"))


_TRIPLE, _FEATURES = _target()

#: Whether the target is x86-64.
X86 = _TRIPLE.startswith("x86_64")

#: Bytes of a vector register, and the number of registers.
BYTES = 64 if "avx512f" in _FEATURES else 32 if {"avx2", "fma"} <= _FEATURES else 16
REGISTERS = 32 if BYTES == 64 or "neon" in _FEATURES else 16


def variable(builder: Any, value: Any) -> Any:
    """Return the address of a variable that starts at a value."""
    return _cgutils.alloca_once_value(builder, value)


def room(builder: Any, kind: Any, count: int) -> Any:
    """Return the address of room for so many values of a type, on the stack."""
    return _cgutils.alloca_once(builder, kind, size=int64(count))


def data_pointer(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return the pointer to an array's first element."""
    return _arrayobj.make_array(kind)(context, builder, array).data


def data_length(context: Any, builder: Any, kind: Any, array: Any, axis: int = 0) -> Any:
    """Return how long an array is along an axis."""
    whole = _arrayobj.make_array(kind)(context, builder, array)
    return builder.extract_value(whole.shape, axis)


def prefetch(builder: Any, base: Any, offset: Any) -> None:
    """Prefetch the cache line of an element into L1 (prefetcht0).

    Into L2 alone, 3x1024, batch 256, and 1024-2048-2048-1000, batch 512, took 2 % longer.
    """
    line = _ir.IntType(8).as_pointer()
    kind = _ir.FunctionType(_ir.VoidType(), [line, int32, int32, int32])
    function = _cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    place = builder.bitcast(builder.gep(base, [offset]), line)
    builder.call(function, [place, int32(0), int32(3), int32(1)])


def outlined(
    builder: Any, name: str, kinds: Sequence[Any], body: Callable[..., Any], result: Any = None
) -> Any:
    """Return a function of the builder's module that is never inlined.

    A body with many call sites or many arms is then compiled once per module.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Of any caller.
    name : str
        Says what it does, and to which element type.
    kinds : sequence of llvmlite types
        Of its arguments.
    body : callable
        ``body(builder, *arguments)`` emits what it does, once, and returns its result.
    result : llvmlite type, optional
        Of its result; it has none by default.
    """
    module = builder.module
    if name not in module.globals:
        kind = _ir.FunctionType(_ir.VoidType() if result is None else result, kinds)
        function = _ir.Function(module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        inner = _ir.IRBuilder(function.append_basic_block("entry"))
        value = body(inner, *function.args)
        if result is None:
            inner.ret_void()
        else:
            inner.ret(value)
    return module.globals[name]


class Vectors:
    """Vector operations on one element type, bound to a builder.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where the instructions go.
    element : llvmlite type
        float or double.
    lanes : int, optional
        Elements of a vector; a register's by default.
    """

    def __init__(self, builder: Any, element: Any, lanes: int | None = None) -> None:
        self.builder = builder
        self.element = element
        self.bits = 32 if isinstance(element, _ir.FloatType) else 64
        self.lanes = lanes or BYTES * 8 // self.bits
        self.type = _ir.VectorType(element, self.lanes)
        self.integer = _ir.IntType(self.bits)
        self.integers = _ir.VectorType(self.integer, self.lanes)
        self.masks = _ir.VectorType(_int1, self.lanes)
        self._suffix = f"v{self.lanes}f{self.bits}"
        self._align = self.bits // 8

    def widened(self) -> Vectors:
        """Return the same number of lanes of float64."""
        return Vectors(self.builder, _ir.DoubleType(), self.lanes)

    def taken(self, x: Any) -> Any:
        """Return a vector of any floating-point type as one of this one's."""
        if x.type == self.type:
            return x
        return (self.builder.fpext if self.bits == 64 else self.builder.fptrunc)(x, self.type)

    def constant(self, value: float) -> Any:
        """Return a vector with one number in every lane."""
        return _ir.Constant(self.type, [value] * self.lanes)

    def integer_constant(self, value: int) -> Any:
        """Return a vector of integers with one number in every lane."""
        return _ir.Constant(self.integers, [value] * self.lanes)

    def splat(self, scalar: Any) -> Any:
        """Return a vector with a scalar in every lane."""
        undefined = _ir.Constant(_ir.VectorType(scalar.type, self.lanes), _ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, int32(0))
        lanes = _ir.Constant(_ir.VectorType(int32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def whole(self, scalar: Any) -> Any:
        """Truncate an int64 to an integer of the elements' width."""
        return scalar if self.bits == 64 else self.builder.trunc(scalar, self.integer)

    def first_lanes(self, count: Any, skipped: int = 0) -> Any:
        """Return the mask of the lanes at places below ``count``; lane 0 is at place skipped."""
        places = _ir.VectorType(int32, self.lanes)
        places = _ir.Constant(places, [skipped + lane for lane in range(self.lanes)])
        return self.builder.icmp_signed("<", places, self.splat(self.builder.trunc(count, int32)))

    def pointer(self, base: Any, offset: Any) -> Any:
        """Return the address of an element as that of a vector."""
        return self.builder.bitcast(self.builder.gep(base, [offset]), self.type.as_pointer())

    def load(self, base: Any, offset: Any, mask: Any = None) -> Any:
        """Load a vector; lanes outside the mask are 0 and their memory is not touched."""
        place = self.pointer(base, offset)
        if mask is None:
            return self.builder.load(place, align=self._align)
        kinds = [self.type.as_pointer(), int32, self.masks, self.type]
        load = self._declare(f"llvm.masked.load.{self._suffix}.p0", self.type, kinds)
        return self.builder.call(load, [place, int32(self._align), mask, self.constant(0.0)])

    def store(self, vector: Any, base: Any, offset: Any, mask: Any = None) -> None:
        """Store a vector; memory of lanes outside the mask is not touched."""
        place = self.pointer(base, offset)
        if mask is None:
            self.builder.store(vector, place, align=self._align)
            return
        kinds = [self.type, self.type.as_pointer(), int32, self.masks]
        store = self._declare(f"llvm.masked.store.{self._suffix}.p0", _ir.VoidType(), kinds)
        self.builder.call(store, [vector, place, int32(self._align), mask])

    def over(self, count: Any, body: Callable[[Any, Any], None]) -> None:
        """Emit ``body(offset, mask)`` for the vectors of so many elements.

        The mask is None, and for the last vector, where it is not a whole one, that of its lanes.
        """
        build = self.builder
        whole = build.and_(count, int64(-self.lanes))
        count_loop(build, whole, lambda offset: body(offset, None), step=self.lanes)
        with build.if_then(build.icmp_signed("<", whole, count)):
            body(whole, self.first_lanes(build.sub(count, whole)))

    def gathered(self, scalars: Sequence[Any]) -> Any:
        """Return a vector of as many scalars as there are lanes."""
        vector = _ir.Constant(_ir.VectorType(scalars[0].type, self.lanes), _ir.Undefined)
        for lane, scalar in enumerate(scalars):
            vector = self.builder.insert_element(vector, scalar, int32(lane))
        return vector

    def folded(self, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Reduce the lanes to a scalar, by combining the halves of the vector first."""
        undefined = _ir.Constant(vector.type, _ir.Undefined)
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            places = _ir.VectorType(int32, self.lanes)
            upper = [lanes + lane if lane < lanes else 0 for lane in range(self.lanes)]
            moved = self.builder.shuffle_vector(vector, undefined, _ir.Constant(places, upper))
            vector = combine(vector, moved)
        return self.builder.extract_element(vector, int32(0))

    def sums(self, vectors: Sequence[Any]) -> Any:
        """Return the sums over the lanes of vectors, at most as many as there are lanes.

        They stand in the first lanes, and each is added in the order of `folded`.
        """
        parts = list(vectors)
        while len(parts) & (len(parts) - 1):
            parts.append(self.constant(0.0))
        lanes = self.lanes
        while len(parts) > 1:
            half = len(parts) // 2
            turned = [self._zip(parts[n], parts[n + half]) for n in range(half)]
            parts = [self.builder.fadd(low, high) for low, high in turned]
            lanes //= 2
        (total,) = parts
        count = self.lanes // lanes
        while lanes > 1:
            lanes //= 2
            upper = [(lanes * count + lane) % self.lanes for lane in range(self.lanes)]
            total = self.builder.fadd(total, self._shuffled(total, total, upper))
        return total

    def call(self, name: str, *arguments: Any) -> Any:
        """Call one of LLVM's own functions on vectors, such as "llvm.sqrt"."""
        kinds = [argument.type for argument in arguments]
        function = self._declare(f"{name}.{self._suffix}", self.type, kinds)
        return self.builder.call(function, arguments)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return ``a b + c``: in one rounding where the target can, else in two."""
        if BYTES > 16 or "neon" in _FEATURES:
            return self.call("llvm.fma", a, b, c)
        return self.builder.fadd(self.builder.fmul(a, b), c)

    def quotient(self, a: Any, b: Any) -> Any:
        """Return ``a / b`` of finite numbers whose quotient is finite too, within 0.6 units.

        With a hardware approximation of 1 / b (AVX-512: vrcp14), one Newton correction of the
        quotient costs a quarter of a division (4 cycles against 16 per vector).  There anything
        that is not finite gives NaN, and b so large that 1 / b is no normal number gives 0.
        """
        if BYTES < 64 or self.lanes * self.bits != 512:
            return self.builder.fdiv(a, b)
        build = self.builder
        inverse = self._guess("rcp14", b)
        if self.bits == 64:
            off = self.fma(build.fneg(b), inverse, self.constant(1.0))
            inverse = self.fma(inverse, off, inverse)
        q = build.fmul(a, inverse)
        return self.fma(self.fma(build.fneg(q), b, a), inverse, q)

    def root(self, x: Any) -> Any:
        """Return the square root of x >= 0, within 0.6 units.

        Numbers below the smallest normal one count as that.  Computed as in `quotient`: 5 cycles
        against 20, and the root of infinity is NaN.
        """
        # 1 / sqrt(0) is approximated by infinity, which would take two more instructions to mend.
        x = self.greater(x, self.constant(2.0**-126 if self.bits == 32 else 2.0**-1022))
        if BYTES < 64 or self.lanes * self.bits != 512:
            return self.call("llvm.sqrt", x)
        build = self.builder
        half, guess = self.constant(0.5), self._guess("rsqrt14", x)
        if self.bits == 64:
            off = self.fma(build.fneg(build.fmul(x, guess)), guess, self.constant(1.0))
            guess = self.fma(build.fmul(guess, half), off, guess)
        h = build.fmul(x, guess)
        return self.fma(self.fma(build.fneg(h), h, x), build.fmul(guess, half), h)

    def _guess(self, name: str, x: Any) -> Any:
        """Return one of AVX-512's approximations, with 14 correct bits."""
        masks = _ir.IntType(max(8, self.lanes))
        function = f"llvm.x86.avx512.{name}.{'ps' if self.bits == 32 else 'pd'}.512"
        guess = self._declare(function, self.type, [self.type, self.type, masks])
        return self.builder.call(guess, [x, self.constant(0.0), masks(-1)])

    def select_greater(self, a: Any, b: Any, then: Any, other: Any) -> Any:
        """Return ``then`` in the lanes where a > b, else ``other`` (NaN compares false)."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), then, other)

    def any_not_finite(self, x: Any, mask: Any = None) -> Any:
        """Return 1 if any lane (within the mask) is infinite or NaN, else 0, as int64."""
        nothing = self.builder.fsub(x, x)
        bad = self.builder.fcmp_unordered("uno", nothing, nothing)
        if mask is not None:
            bad = self.builder.and_(bad, mask)
        bits = self.builder.bitcast(bad, _ir.IntType(self.lanes))
        found = self.builder.icmp_unsigned("!=", bits, _ir.IntType(self.lanes)(0))
        return self.builder.zext(found, int64)

    def interleave(self, rows: Sequence[Any]) -> list[Any]:
        """Return rows, a power of two of them, as one sequence: lane by lane, row by row."""
        streams = [[row] for row in rows]
        while len(streams) > 1:
            half = len(streams) // 2
            streams = [
                [part for a, b in zip(streams[n], streams[n + half], strict=True)
                 for part in self._zip(a, b)]
                for n in range(half)
            ]  # fmt: skip
        return streams[0]

    def columns(self, sequence: Sequence[Any], rows: int) -> list[Sequence[Any]]:
        """Return what `interleave` gave as columns of some rows: short or several vectors each."""
        if rows >= self.lanes:
            each = rows // self.lanes
            return [sequence[n : n + each] for n in range(0, len(sequence), each)]
        kind = _ir.VectorType(int32, rows)
        return [
            [self.builder.shuffle_vector(x, x, _ir.Constant(kind, list(range(n, n + rows))))]
            for x in sequence
            for n in range(0, self.lanes, rows)
        ]

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return short vectors, a power of two of them, as one behind the other."""
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self._shuffled(a, b, range(2 * a.type.count)) for a, b in pairs]
        return parts[0]

    def part(self, vector: Any, start: int, count: int) -> Any:
        """Return some lanes of a vector as a short one."""
        return self._shuffled(vector, vector, range(start, start + count))

    def turned_by_fours(self, rows: Sequence[Any]) -> list[Any]:
        """Return four vectors transposed within each four of their lanes."""
        fours = range(0, self.lanes, 4)

        def each(a: Any, b: Any, lanes: Sequence[int]) -> Any:
            # Lanes of b are numbered from 4 on.
            order = [
                four + lane if lane < 4 else self.lanes + four + lane - 4
                for four in fours
                for lane in lanes
            ]
            return self._shuffled(a, b, order)

        low, high = (0, 4, 1, 5), (2, 6, 3, 7)
        starts = [each(rows[n], rows[n + 1], low) for n in (0, 2)]
        ends = [each(rows[n], rows[n + 1], high) for n in (0, 2)]
        return [each(first, last, lanes) for first, last in (starts, ends)
                for lanes in ((0, 1, 4, 5), (2, 3, 6, 7))]  # fmt: skip

    def _shuffled(self, a: Any, b: Any, order: Sequence[int]) -> Any:
        """Return lanes of two vectors by their numbers, those of b behind those of a."""
        kind = _ir.VectorType(int32, len(order))
        return self.builder.shuffle_vector(a, b, _ir.Constant(kind, list(order)))

    def _zip(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return a0 b0 a1 b1 ... as two vectors."""
        order = [lane + other for lane in range(self.lanes) for other in (0, self.lanes)]
        kind = _ir.VectorType(int32, self.lanes)
        low, high = order[: self.lanes], order[self.lanes :]
        return (
            self.builder.shuffle_vector(a, b, _ir.Constant(kind, low)),
            self.builder.shuffle_vector(a, b, _ir.Constant(kind, high)),
        )

    def one_where(self, a: Any, b: Any) -> Any:
        """Return 1 in the lanes where integers are equal, else 0."""
        same = self.builder.icmp_signed("==", a, b)
        return self.builder.select(same, self.constant(1.0), self.constant(0.0))

    def greater(self, a: Any, b: Any) -> Any:
        """Return the greater of both; b where one of them is NaN.  Scalars do as well."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        """Return a polynomial, its highest coefficient first.

        Estrin's scheme (1960) joins neighbouring terms pair by pair; Horner's rule would be one
        chain of dependent multiply-adds.
        """
        terms = [self.constant(coefficient) for coefficient in reversed(coefficients)]
        while len(terms) > 1:
            odd = terms[len(terms) // 2 * 2 :]
            pairs = zip(terms[::2], terms[1::2], strict=False)
            terms = [self.fma(high, x, low) for low, high in pairs] + odd
            x = self.builder.fmul(x, x)
        return terms[0]

    def _declare(self, name: str, result: Any, kinds: Sequence[Any]) -> Any:
        """Declare a function in the module, once."""
        kind = _ir.FunctionType(result, list(kinds))
        return _cgutils.get_or_insert_function(self.builder.module, kind, name)


def count_loop(builder: Any, count: Any, body: Callable[[Any], None], step: int = 1) -> None:
    """Emit ``for i in range(0, count, step): body(i)``, and forbid LLVM to unroll it.

    A body of vectors fills the execution units already; LLVM would unroll it up to eight times
    on some CPUs, which takes most of the time to compile and gains nothing.
    """
    top, inside, after = (builder.append_basic_block(name) for name in ("top", "body", "after"))
    before = builder.block
    builder.branch(top)
    builder.position_at_end(top)
    i = builder.phi(int64)
    i.add_incoming(int64(0), before)
    builder.cbranch(builder.icmp_signed("<", i, count), inside, after)
    builder.position_at_end(inside)
    body(i)
    i.add_incoming(builder.add(i, int64(step)), builder.block)
    again = builder.branch(top)
    again.set_metadata("llvm.loop", _left_as_it_is(builder.module))
    builder.position_at_end(after)


def evenly(builder: Any, total: Any, most: int, body: Callable[[Any, Any, Any], None]) -> None:
    """Emit ``body(n, done, size)`` for the parts into which a number is divided evenly.

    None is larger than the most given, and they differ by one at most: 9 of at most 8 are 5 and 4.
    """
    count = builder.sdiv(builder.add(total, int64(most - 1)), int64(most))
    held = variable(builder, int64(0))

    def part(n: Any) -> None:
        done, parts = builder.load(held), builder.sub(count, n)
        rest = builder.add(builder.sub(total, done), builder.sub(parts, int64(1)))
        size = builder.sdiv(rest, parts)
        body(n, done, size)
        builder.store(builder.add(done, size), held)

    count_loop(builder, count, part)


def switch(
    builder: Any,
    code: Any,
    arms: Mapping[int, Callable[[], object]],
    otherwise: Callable[[], object] | None = None,
) -> None:
    """Emit the arm of the code, or where it has none the other one, if there is one."""
    rest, after = (builder.append_basic_block(name) for name in ("rest", "after"))
    choice = builder.switch(code, rest)
    for number, arm in arms.items():
        block = builder.append_basic_block("arm")
        choice.add_case(int64(number), block)
        builder.position_at_end(block)
        arm()
        builder.branch(after)
    builder.position_at_end(rest)
    if otherwise is not None:
        otherwise()
    builder.branch(after)
    builder.position_at_end(after)


def _left_as_it_is(module: Any) -> Any:
    """Return the metadata that forbids unrolling a loop; its first operand is itself."""
    wish = module.add_metadata([_ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([wish, int32(len(module.metadata))])
    loop.operands = (loop, wish)
    return loop
