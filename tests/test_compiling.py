"""Kernels on a Numba that has changed: its private parts hidden, and versions beyond the tested."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import tomllib
import types
import warnings
from pathlib import Path

import numba.core.codegen
import numba.core.compiler
import numba.core.compiler_machinery
import numba.core.cpu
import numba.core.typed_passes
import numpy as np
import pytest

import fastnn
from fastnn.kernels import _cache, _load
from fastnn.kernels import _parts as parts
from fastnn.machine import tested
from fastnn.machine.tested import TESTED, check_version

X = np.arange(3.0)
HOUSE = Path(fastnn.__file__).parents[1]
_jit_file = Path(_cache.__file__).with_name("_jit.py")


def door() -> types.ModuleType:
    """Return a second door to Numba, which finds it as it is now."""
    spec = importlib.util.spec_from_file_location("fastnn.kernels._jit_again", _jit_file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def own_parts(monkeypatch, tmp_path):
    """Let each test load the compiler of parts anew, and keep its kernels to itself."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "fastnn.kernels._parts")
    monkeypatch.setattr("fastnn.kernels._parts", parts)
    monkeypatch.setattr(_cache, "_warned", [])


def hide(owner, name, instead=None):
    """Make a hiding of something of Numba's."""

    def hidden(monkeypatch):
        if instead is None:
            monkeypatch.delattr(owner, name)
        else:
            monkeypatch.setattr(owner, name, instead)

    return hidden


class Bare:
    """A library without any hook."""


class Failing(numba.core.compiler.DefaultPassBuilder):
    """Passes as before, whose list has other methods."""

    @staticmethod
    def define_nopython_pipeline(state, name="nopython"):
        pipeline = numba.core.compiler.PassManager(name)
        pipeline.passes = Failing.__base__.define_nopython_pipeline(state, name).passes
        pipeline.finalize()
        pipeline.add_pass_after = None
        return pipeline


OPTIONS = next(kind for kind in numba.core.cpu.CPUTargetOptions.__mro__ if "_nrt" in vars(kind))

HIDDEN = {
    "libraries": hide(numba.core.codegen, "JITCodeLibrary"),
    "hooks of libraries": hide(numba.core.codegen, "JITCodeLibrary", Bare),
    "compilers": hide(numba.core.compiler, "CompilerBase"),
    "registration": hide(numba.core.compiler_machinery, "register_pass"),
    "inference": hide(numba.core.typed_passes, "NopythonTypeInference"),
    "the option _nrt": hide(OPTIONS, "_nrt"),
    "an option that is public": hide(OPTIONS, "no_cfunc_wrapper"),
    "methods of pipelines": hide(numba.core.compiler, "DefaultPassBuilder", Failing),
}


def compiled(again):
    """Compile an entry with a kernel below it; return its result."""

    @again.kernel
    def part(x):
        return x.sum() + 38

    @again.entry
    def whole(x):
        return part(x) + 1

    return whole(X)


@pytest.mark.jit
@pytest.mark.parametrize("what", HIDDEN)
def test_what_numba_lacks_is_done_without_with_one_warning(what, monkeypatch):
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        HIDDEN[what](patch)
        again = door()
        assert compiled(again) == 42
        assert compiled(again) == 42
    (message,) = (str(warning.message) for warning in caught)
    assert message.startswith(f"Numba {numba.__version__} has changed where fastnn builds on it (")
    assert message.endswith(f'python -m pip install "{TESTED["numba"].requirement}".')


@pytest.mark.jit
def test_where_nothing_is_hidden_there_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(door()) == 42


@pytest.mark.jit
def test_parts_that_fail_to_compile_are_compiled_plainly(monkeypatch):
    again = door()

    def changed(self, more):
        raise AssertionError

    monkeypatch.setattr(
        sys.modules["fastnn.kernels._parts"]._Part, "_finalize_final_module", changed
    )
    with pytest.warns(RuntimeWarning, match=r"\(TypeError: .*more"):
        assert compiled(again) == 42
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(again) == 42


@pytest.mark.jit
def test_a_kernel_that_is_wrong_itself_says_what_is_wrong():
    again = door()

    @again.kernel
    def part(x):
        return x.there_is_no_such_thing

    @again.entry
    def whole(x):
        return part(x)

    with pytest.raises(numba.core.errors.TypingError, match="there_is_no_such_thing"):
        whole(X)
    # And changes nothing for the others.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(again) == 42


@pytest.mark.jit
@pytest.mark.parametrize("missing", ["_cache", "_compiler", "_compile_for_args"])
def test_a_dispatcher_without_its_private_parts_is_used_as_it_is(missing, monkeypatch):
    has = {"_cache": None, "_compiler": types.SimpleNamespace(compile=None)}
    has["_compile_for_args"] = None
    del has[missing]
    monkeypatch.setattr(numba, "njit", lambda **_: lambda _: types.SimpleNamespace(**has))
    again = door()
    with pytest.warns(RuntimeWarning, match=missing):
        again.entry(compiled)


@pytest.mark.jit
@pytest.mark.parametrize(
    ("hook", "said"), [("_rebuild", "could not load"), ("_reduce", "could not keep")]
)
def test_kernels_that_numba_cannot_keep_or_load_give_one_warning(hook, said, monkeypatch):
    again = door()
    if hook == "_rebuild":
        assert compiled(again) == 42
    monkeypatch.delattr(numba.core.compiler.CompileResult, hook)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert compiled(again) == 42
        assert compiled(again) == 42
    (message,) = (str(warning.message) for warning in caught)
    assert said in message
    assert hook in message


# Versions.


@pytest.mark.parametrize("package", TESTED)
def test_tested_versions_are_silent_newer_ones_warn_once_older_ones_are_refused(
    package, monkeypatch
):
    monkeypatch.setattr(tested, "_told", set())
    found = TESTED[package]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for version in (
            found.oldest,
            f"{found.oldest}.0",
            f"{found.newest}.99",
            f"{found.newest}rc1",
        ):
            check_version(package, version)
    beyond = re.search(r"<(.*)", found.requirement)[1]
    for version in (beyond, f"{beyond}.dev0", "99.1.2+local"):
        monkeypatch.setattr(tested, "_told", set())
        with pytest.warns(RuntimeWarning) as caught:
            check_version(package, version)
        check_version(package, version)
        (message,) = (str(warning.message) for warning in caught)
        assert f"{found.title} {version} is newer than what" in message
        assert f"tested with ({found.oldest} to {found.newest})" in message
        assert f'python -m pip install "{found.requirement}"' in message
    with pytest.raises(ImportError, match=f"needs {found.title} {found.oldest} or newer; 0.5.1 is"):
        check_version(package, "0.5.1")


def test_what_is_installed_here_was_tested():
    sklearn = pytest.importorskip("sklearn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_version("numba", numba.__version__)
        check_version("scikit-learn", sklearn.__version__)


def test_installers_get_the_same_bounds():
    file = HOUSE / "pyproject.toml"
    if not file.exists():
        pytest.skip("not a checkout")
    project = tomllib.loads(file.read_text())["project"]
    assert TESTED["numba"].requirement in project["dependencies"]
    assert project["optional-dependencies"]["sklearn"] == [TESTED["scikit-learn"].requirement]


@pytest.mark.jit
def test_a_numba_that_is_too_old_or_too_new_is_told_of_at_the_first_use(monkeypatch):
    monkeypatch.setattr(tested, "_told", set())
    monkeypatch.setattr(numba, "__version__", "0.99.0")
    monkeypatch.setattr(_load, "_loaded", False)
    with pytest.warns(RuntimeWarning, match=r"Numba 0\.99\.0 is newer than what"):
        _load.load_kernels()
    monkeypatch.setattr(numba, "__version__", "0.59.1")
    monkeypatch.setattr(_load, "_loaded", False)
    with pytest.raises(ImportError, match=r"needs Numba 0\.62 or newer; 0\.59\.1 is installed"):
        _load.load_kernels()
