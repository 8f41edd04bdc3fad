"""Kernels as parts of an entry: optimised once, where they end up.

Numba optimises and assembles every compiled function together with all that it calls, level by
level, so that a deep tree of calls costs its depth.  A kernel that only other kernels call needs
none of that: its code is linked into its callers as it was written, and the entry on top is
optimised whole.  (One dtype's first fit: 9.8 s of compiling against 16.7 s.)

This is the one file that knows how Numba keeps compiled code.  That is Numba's own business and
may change: loading this file fails with an AttributeError where something that it uses is missing,
and after `give_up` kernels are compiled as Numba does by itself.
"""

from __future__ import annotations

from typing import Any

from numba.core import codegen, compiler, compiler_machinery, typed_passes

from fastnn.machine.uninterrupted import stop_if_abandoned

__all__ = ["PartCompiler", "give_up"]

# Numba's own types carry no types of their own.
_Library: Any = codegen.JITCodeLibrary
_Compiler: Any = compiler.CompilerBase
_Pass: Any = compiler_machinery.FunctionPass
_passes: Any = compiler.DefaultPassBuilder
_register: Any = compiler_machinery.register_pass
_TypeInference: Any = typed_passes.NopythonTypeInference

# What a part replaces, and what it calls; all there, or a part would be compiled like any other, or
# fail when it is.
_HOOKS = (
    "_optimize_final_module", "_finalize_final_module", "get_pointer_to_function",
    "_finalize_dynamic_globals", "_ensure_finalized", "enable_object_caching", "codegen",
    "add_ir_module",
)  # fmt: skip
for _hook in _HOOKS:
    getattr(_Library, _hook)

_given_up = False


def give_up(plain: bool) -> None:
    """Have kernels compiled as Numba does by itself from now on, or as parts again."""
    global _given_up
    _given_up = plain


class _NoEnvironment:
    """A code generator that sets no environments: kernels raise nothing and print nothing."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing, as this code is nowhere in memory."""


class _Part(_Library):  # type: ignore[misc]
    """Code that is linked into others and never run by itself."""

    @property
    def codegen(self) -> Any:
        """The code generator, as far as it concerns a part."""
        return _NoEnvironment(self._codegen)

    #: Whether its functions stay functions where they are called.
    apart = False

    def add_ir_module(self, ir_module: Any) -> None:
        """Add a module."""
        if self.apart:
            for function in ir_module.functions:
                if not function.is_declaration:
                    function.attributes.add("noinline")
        super().add_ir_module(ir_module)

    def _optimize_final_module(self) -> None:
        """Leave it to the entry."""

    def _finalize_final_module(self) -> None:
        """Close the module, and do not assemble it."""
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return that there is no such function in memory."""
        self._ensure_finalized()
        return 0


@_register(mutates_CFG=False, analysis_only=True)
class _KeepAsPart(_Pass):  # type: ignore[misc]
    """Have the function's code written into a part."""

    _name = "fastnn_keep_as_part"

    def __init__(self) -> None:
        _Pass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Set the library that the lowering pass writes into."""
        generator = state.targetctx.codegen()
        state.library = _Part(generator, state.func_id.func_qualname)
        state.library.apart = getattr(state.func_id.func, "is_apart", False)
        state.library.enable_object_caching()
        return False


class PartCompiler(_Compiler):  # type: ignore[misc]
    """Numba's pipeline for nopython mode, for a part."""

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline."""
        stop_if_abandoned()
        pipeline = _passes.define_nopython_pipeline(self.state)
        if not _given_up:
            pipeline.add_pass_after(_KeepAsPart, _TypeInference)
        pipeline.finalize()
        return [pipeline]
