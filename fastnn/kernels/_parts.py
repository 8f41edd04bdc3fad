"""Kernels as parts of an entry: optimised once, where they end up.

Numba optimises and assembles every compiled function together with all that it calls, level by
level, so that a deep tree of calls costs its depth.  A kernel that only other kernels call needs
none of that: its code is linked into its callers as it was written, and the entry on top is
optimised whole.  (One dtype's first fit: 9.8 s of compiling against 16.7 s.)

This is the one file that knows how Numba keeps compiled code.
"""

from __future__ import annotations

from typing import Any

from numba.core import codegen
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.typed_passes import NopythonTypeInference

__all__ = ["PartCompiler"]

# Numba's own types carry no types of their own.
_Library: Any = codegen.JITCodeLibrary
_Compiler: Any = CompilerBase
_Pass: Any = FunctionPass
_passes: Any = DefaultPassBuilder
_register: Any = register_pass


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
        state.library.enable_object_caching()
        return False


class PartCompiler(_Compiler):  # type: ignore[misc]
    """Numba's pipeline for nopython mode, for a part."""

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline."""
        pipeline = _passes.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(_KeepAsPart, NopythonTypeInference)
        pipeline.finalize()
        return [pipeline]
