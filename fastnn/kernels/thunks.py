"""C functions that call another one with constants in front of their own arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir

__all__ = ["Thunk"]

# llvmlite carries no types.
_ir: Any = ir
_binding: Any = llvmlite.binding

_NAME = "fastnn_thunk"


class Thunk:
    """A function ``void f(const T *x, T *out)`` in memory of its own, freed with the object.

    Assembling one takes a few milliseconds, as it holds nothing but a call.

    Parameters
    ----------
    target : int
        Address of a C function.
    constants : sequence of int
        Its first arguments, addresses and sizes; x and out come behind.

    Attributes
    ----------
    address : int
        Where the function is.
    """

    def __init__(self, target: int, constants: Sequence[int]) -> None:
        # To the calling conventions an address is an integer of the same width.
        word = _ir.IntType(64)
        module = _ir.Module(_NAME)
        function = _ir.Function(module, _ir.FunctionType(_ir.VoidType(), [word, word]), _NAME)
        builder = _ir.IRBuilder(function.append_basic_block())
        kind = _ir.FunctionType(_ir.VoidType(), [word] * (len(constants) + 2))
        place = builder.inttoptr(word(target), kind.as_pointer())
        builder.call(place, [*map(word, constants), *function.args])
        builder.ret_void()
        triple = _binding.get_process_triple()
        module.triple = triple
        machine = _binding.Target.from_triple(triple).create_target_machine()
        parsed = _binding.parse_assembly(str(module))
        # The code lives as long as the engine.
        self._engine = _binding.create_mcjit_compiler(parsed, machine)
        self._engine.finalize_object()
        self.address = int(self._engine.get_function_address(_NAME))
