"""Users' functions of numbers, as Numba compiles them: in the network's dtype, with our exp.

Numba takes a number such as ``1.0`` or ``2`` for one of 64 bits, which would carry a loop over
float32 through float64, and calls a library for each exponential.  So numbers become numbers of
the dtype, and the elementary functions of ``math`` and ``numpy`` those of `vector_math`, written
for one number, before Numba finds the types; LLVM then vectorises the loop around them.
"""

from __future__ import annotations

import math
import operator
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import compiler, compiler_machinery, ir_utils, types, untyped_passes
from numba.core import ir as numba_ir

from fastnn.kernels import simd, vector_math
from fastnn.kernels._jit import intrinsic, user_function

__all__ = ["OwnCompiler"]

# llvmlite and Numba carry no types of their own.
_ir: Any = ir
_numba_ir: Any = numba_ir
_Compiler: Any = compiler.CompilerBase
_Pass: Any = compiler_machinery.FunctionPass
_passes: Any = compiler.DefaultPassBuilder
_register: Any = compiler_machinery.register_pass
_definitions: Any = ir_utils.build_definitions
_LastUntyped: Any = untyped_passes.ReconstructSSA
_float32: Any = types.float32

_ARITHMETIC = frozenset(
    getattr(operator, name)
    for name in (
        "add", "sub", "mul", "truediv", "lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "iadd",
        "isub", "imul", "itruediv",
    )
)  # fmt: skip


class _Numbers(simd.Vectors):
    """The vocabulary of vectors for one number, so that LLVM may vectorise a loop of it."""

    def __init__(self, builder: Any, element: Any) -> None:
        super().__init__(builder, element, 1)
        self.type, self.integers, self.masks = element, self.integer, _ir.IntType(1)
        self._suffix = f"f{self.bits}"

    def constant(self, value: float) -> Any:
        """Return a number."""
        return _ir.Constant(self.type, value)

    def integer_constant(self, value: int) -> Any:
        """Return a whole number."""
        return _ir.Constant(self.integers, value)

    def splat(self, scalar: Any) -> Any:
        """Return the number itself."""
        return scalar


# What is called otherwise, as the function of that name is for the numbers that kernels have.
_OF_ANY = {"log1p": "log1p_of_any"}


def _elementary(name: str) -> Any:
    """Return an elementary function of one floating-point number, of any."""
    emit = getattr(vector_math, _OF_ANY.get(name, name))

    def block(typing: Any, x: Any) -> Any:
        if x not in (types.float32, types.float64):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            numbers = _Numbers(builder, context.get_data_type(signature.args[0]))
            return emit(numbers, arguments[0])

        return x(x), generate

    return intrinsic(getattr(np, name))(block)


_OURS = {name: _elementary(name) for name in ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos")}
_THEIRS = {
    id(getattr(module, name)): function for module in (math, np) for name, function in _OURS.items()
}

# What functions of the user's call, compiled: it may be called by several, and by itself.
_FURTHER: dict[FunctionType, Any] = {}


class Raises(ValueError):
    """A function raises an exception, which machine code without Python cannot."""


@_register(mutates_CFG=False, analysis_only=False)
class _InTheDtype(_Pass):  # type: ignore[misc]
    """Put our functions and numbers of the dtype in place of Python's."""

    _name = "fastnn_in_the_dtype"

    def __init__(self) -> None:
        _Pass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Change the function that is being compiled."""
        blocks = state.func_ir.blocks.values()
        statements = [one for block in blocks for one in block.body]
        if any(isinstance(one, (_numba_ir.Raise, _numba_ir.StaticRaise)) for one in statements):
            raise Raises
        assigned = {one.target.name: one for one in statements if isinstance(one, _numba_ir.Assign)}
        for one in assigned.values():
            ours = _ours(one.value, assigned)
            if ours is not None:
                one.value = _numba_ir.Global("fastnn_function", ours, one.loc)
        if state.args and state.args[0] == _float32:
            narrow(assigned, _uses(statements))
        state.func_ir._definitions = _definitions(state.func_ir.blocks)
        return True


def _ours(value: Any, assigned: dict[str, Any]) -> Any:
    """Return our function in place of one of Python's or NumPy's; None for anything else.

    A further function of the user's is compiled likewise.
    """
    if isinstance(value, (_numba_ir.Global, _numba_ir.FreeVar)):
        if type(value.value) is FunctionType:
            if value.value not in _FURTHER:
                _FURTHER[value.value] = user_function(value.value, OwnCompiler)
            return _FURTHER[value.value]
        return _THEIRS.get(id(value.value))
    if isinstance(value, _numba_ir.Expr) and value.op == "getattr":
        holder = assigned.get(value.value.name)
        held = getattr(getattr(holder, "value", None), "value", None)
        if held is math or held is np:
            return _OURS.get(value.attr)
    return None


def _uses(statements: list[Any]) -> dict[str, list[bool]]:
    """Return for each variable, of every use, whether that is arithmetic of two numbers."""
    uses: dict[str, list[bool]] = {}
    for one in statements:
        value = getattr(one, "value", None)
        plain = isinstance(one, _numba_ir.Return) or (
            isinstance(value, _numba_ir.Expr)
            and (value.op in ("unary", "cast") or _operator(value) in _ARITHMETIC)
        )
        target = getattr(getattr(one, "target", None), "name", None)
        for variable in one.list_vars():
            if variable.name != target:
                uses.setdefault(variable.name, []).append(plain)
    return uses


def _operator(value: Any) -> Any:
    """Return the operator of a binary expression; None of any other."""
    return value.fn if value.op in ("binop", "inplace_binop") else None


def narrow(assigned: dict[str, Any], uses: dict[str, list[bool]]) -> None:
    """Make numbers float32; whole ones where they are only added, multiplied and the like."""
    kinds = (_numba_ir.Const, _numba_ir.Global, _numba_ir.FreeVar)
    for name, one in assigned.items():
        number = one.value.value if isinstance(one.value, kinds) else None
        whole = type(number) is int and all(uses.get(name, [False]))
        if type(number) is float or whole:
            one.value = _numba_ir.Const(np.float32(number), one.loc)


class OwnCompiler(_Compiler):  # type: ignore[misc]
    """Numba's pipeline for nopython mode, for a function of numbers."""

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline."""
        pipeline = _passes.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(_InTheDtype, _LastUntyped)
        pipeline.finalize()
        return [pipeline]
