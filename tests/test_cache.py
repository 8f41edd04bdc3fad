"""The cache of compiled kernels: fast where it can, right where it cannot."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastnn
from fastnn import reference_draws
from fastnn.kernels import _cache
from fastnn.kernels._jit import entry

pytestmark = pytest.mark.jit

KERNELS = Path(_cache.__file__).parent
FILES = sorted(path.name for path in KERNELS.glob("*.py"))
DIGEST = hashlib.sha256().digest_size

X = np.arange(3.0)


def tiny(x):
    """Compile in no time."""
    return x.size + 39


def other(x):
    """Compile to something else."""
    return x.size - 3


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give the cache a new folder, and a memory that ends with the test."""
    chosen = tmp_path / "cache"
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(chosen))
    monkeypatch.setenv("FASTNN_CACHE", "1")
    for remembered in (_cache._source_hash, _cache._warn_once):
        remembered.cache_clear()
    yield chosen
    for remembered in (_cache._source_hash, _cache._warn_once):
        remembered.cache_clear()


def called(function=tiny, argument=X):
    """Compile or load a function and call it: result, loaded, compiled."""
    dispatcher = entry(function)
    result = dispatcher(argument)
    stats = dispatcher.stats
    return result, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


COMPILED = (42, 0, 1)
LOADED = (42, 1, 0)


def files(folder):
    """Return the names in the cache's folder."""
    return sorted(path.name for path in folder.iterdir())


# Kept and found.


def test_what_was_compiled_is_loaded_the_next_time(folder):
    assert called() == COMPILED
    (name,) = files(folder)
    assert name.endswith(".kernel")
    content = (folder / name).read_bytes()
    assert called() == LOADED
    assert called() == LOADED
    assert (folder / name).read_bytes() == content


def test_functions_and_signatures_have_files_of_their_own(folder):
    assert called() == COMPILED
    assert called(other) == (0, 0, 1)
    assert called(tiny, X.astype(np.float32)) == COMPILED
    assert len(files(folder)) == 3
    assert called(other) == (0, 1, 0)
    assert called(tiny, X.astype(np.float32)) == LOADED


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
def test_the_folder_is_made_for_the_user_alone(folder):
    called()
    assert folder.stat().st_mode & 0o777 == 0o700
    # Reading is nobody's danger: a folder that others may only read is used.
    folder.chmod(0o755)
    assert called() == LOADED


def test_the_folder_is_the_user_s_own_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    assert _cache.cache_folder() == tmp_path
    monkeypatch.delenv("FASTNN_CACHE_DIR")
    assert _cache.cache_folder() == _cache.user_cache_dir() / "fastnn"
    monkeypatch.setenv("FASTNN_CACHE_DIR", "")
    assert _cache.cache_folder() == _cache.user_cache_dir() / "fastnn"


def test_numba_reports_the_folder(folder):
    assert entry(tiny).stats.cache_path == str(folder)


# What a file depends on.


def path_of(codegen=None):
    """Return the file of one signature."""
    codegen = SimpleNamespace(magic_tuple=lambda: ("cpu",)) if codegen is None else codegen
    _cache._source_hash.cache_clear()
    return _cache.KernelCache(tiny)._file(("float64",), codegen)


@pytest.fixture
def copied_kernels(tmp_path, monkeypatch):
    """Let the cache take a copy for the kernels' folder."""
    copy = tmp_path / "kernels"
    shutil.copytree(KERNELS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_cache, "__file__", str(copy / "_cache.py"))
    return copy


@pytest.mark.parametrize("name", FILES)
def test_an_edit_of_any_kernel_file_moves_every_file(name, folder, copied_kernels):
    before = path_of()
    content = (copied_kernels / name).read_bytes()
    # As long as before, as a changed digit would be.
    (copied_kernels / name).write_bytes(content[:-1] + b"#")
    assert path_of() != before


def test_a_new_or_renamed_kernel_file_moves_every_file(folder, copied_kernels):
    seen = {path_of()}
    (copied_kernels / "another.py").touch()
    seen.add(path_of())
    (copied_kernels / "another.py").rename(copied_kernels / "renamed.py")
    seen.add(path_of())
    assert len(seen) == 3


def test_the_same_kernels_elsewhere_share_their_files(folder, copied_kernels, monkeypatch):
    assert path_of() == path_of()
    here = path_of()
    monkeypatch.setattr(_cache, "__file__", str(KERNELS / "_cache.py"))
    assert path_of() == here


def test_another_processor_or_compiler_has_files_of_its_own(folder, monkeypatch):
    seen = {path_of(), path_of(SimpleNamespace(magic_tuple=lambda: ("other cpu",)))}
    for module, name in ((numba, "__version__"), (__import__("llvmlite"), "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, "0.0.1")
            seen.add(path_of())
    for setting, value in (
        ("OPT", 1), ("LOOP_VECTORIZE", 0), ("SLP_VECTORIZE", 7), ("DEBUGINFO_DEFAULT", 1),
        ("BOUNDSCHECK", 1),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, setting, value)
            seen.add(path_of())
    assert len(seen) == 9


def test_without_sources_nothing_is_kept(folder, copied_kernels, tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "__file__", str(tmp_path / "archive.zip" / "_cache.py"))
    assert called() == COMPILED
    assert called() == COMPILED
    assert not any(folder.iterdir() if folder.exists() else [])


# Damage.


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "cut in the digest": lambda content: content[:7],
    "one bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "one bit of the digest": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"this is no machine code" * 10,
    "whole but no pickle": lambda content: hashlib.sha256(b"?").digest() + b"?",
    "whole but another thing": lambda content: hashlib.sha256(b"N.").digest() + b"N.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_anew_and_mended(damage, folder):
    assert called() == COMPILED
    (name,) = files(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(DAMAGES[damage](content))
    assert called() == COMPILED
    assert files(folder) == [name]
    assert called() == LOADED


def test_a_file_s_digest_is_that_of_its_content(folder):
    called()
    (name,) = files(folder)
    content = (folder / name).read_bytes()
    assert content[:DIGEST] == hashlib.sha256(content[DIGEST:]).digest()


def test_a_folder_in_a_file_s_place_is_left_alone(folder):
    assert called() == COMPILED
    (name,) = files(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.warns(RuntimeWarning, match="could not keep its compiled kernels"):
        assert called() == COMPILED
    assert (folder / name).is_dir()


# Places where nothing can be kept.


def warned(times=1):
    """Call several functions; return what was warned about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert called() == COMPILED
            assert called(other) == (0, 0, 1)
    assert [warning.category for warning in caught] == [RuntimeWarning] * times
    return str(caught[0].message)


def test_a_file_in_the_folder_s_place_gives_one_warning_and_right_results(folder):
    folder.write_text("not a folder")
    message = warned()
    assert "FileExistsError" in message
    assert "Set FASTNN_CACHE_DIR to a folder of your own, or FASTNN_CACHE=0" in message
    assert folder.read_text() == "not a folder"


def test_a_folder_that_cannot_be_made_gives_one_warning(folder, monkeypatch):
    folder.write_text("not a folder")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(folder / "below"))
    assert "NotADirectoryError" in warned()


def test_a_folder_that_cannot_be_written_gives_one_warning(folder, monkeypatch):
    def refuse(path, chunks):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_cache, "write_atomically", refuse)
    assert "PermissionError: [Errno 13] Permission denied" in warned()


def test_a_full_disk_gives_one_warning(folder, monkeypatch):
    def fail(path, chunks):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_cache, "write_atomically", fail)
    assert "No space left on device" in warned()
    assert files(folder) == []


def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(folder, monkeypatch):
    written = os.write

    def fill_up(handle, content):
        if len(content) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(handle, content)

    monkeypatch.setattr(os, "write", fill_up)
    warned()
    assert files(folder) == []


def test_a_user_without_a_home_gets_one_warning(folder, monkeypatch):
    for name in ("FASTNN_CACHE_DIR", "HOME", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(RuntimeWarning, match="the user's cache folder is not known"):
        assert entry(tiny)(X) == 42
    assert entry(tiny)(X) == 42


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
def test_a_folder_that_others_can_write_is_refused(mode, folder):
    assert called() == COMPILED
    kept = files(folder)
    folder.chmod(mode)
    # Not even what lies there already is read: unpickling would run it.
    assert "can be written by others" in warned()
    assert files(folder) == kept
    folder.chmod(0o700)
    assert called() == LOADED


@pytest.mark.skipif(os.name != "posix", reason="Windows has no user numbers")
def test_a_folder_of_somebody_else_is_refused(folder, monkeypatch):
    assert called() == COMPILED
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert "belongs to somebody else" in warned()


def test_switched_off_nothing_is_read_or_written(folder, monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE", "0")
    dispatcher = entry(tiny)
    assert dispatcher(X) == 42
    assert not folder.exists()
    monkeypatch.setenv("FASTNN_CACHE", "1")
    assert called() == COMPILED
    monkeypatch.setenv("FASTNN_CACHE", "0")
    monkeypatch.setattr(_cache.KernelCache, "load_overload", None)
    assert entry(tiny)(X) == 42
    assert len(files(folder)) == 1


# Between processes.


DRAW = """
import numpy as np

from fastnn.kernels.order import draw_order

order = np.zeros(17, np.int64)
draw_order(order, np.array([42, 0], np.uint64))
stats = draw_order.stats
print(order.tolist(), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
ORDER = str(reference_draws.permutation(42, 0, 17).tolist())


def start(folder, root=None):
    """Start a process that draws an order, with fastnn from a folder of its own if given."""
    root = Path(fastnn.__file__).parents[1] if root is None else root
    return subprocess.Popen(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", DRAW],
        cwd=root,
        env={
            **os.environ,
            "FASTNN_CACHE_DIR": str(folder),
            "FASTNN_CACHE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Hold that a process drew the right order; return how often it loaded and compiled."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    order, loaded, compiled = out.strip().rsplit(maxsplit=2)
    assert order == ORDER
    return int(loaded), int(compiled)


def test_a_second_process_loads_and_an_edit_of_any_kernel_file_compiles(tmp_path):
    shutil.copytree(
        Path(fastnn.__file__).parent,
        tmp_path / "fastnn",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    folder = tmp_path / "cache"
    assert finish(start(folder, tmp_path)) == (0, 1)
    assert finish(start(folder, tmp_path)) == (1, 0)
    # Machine code holds all that it calls, so that an edit of any file is a reason to make it anew,
    # here of one that the entry does not even call.
    with (tmp_path / "fastnn" / "kernels" / "update.py").open("a") as file:
        file.write("\n")
    assert finish(start(folder, tmp_path)) == (0, 1)
    assert len(files(folder)) == 2


def crowd(count, folder):
    """Let processes start at once on an empty folder; hold that one file is left, a good one."""
    results = [finish(process) for process in [start(folder) for _ in range(count)]]
    assert all(loaded + compiled == 1 for loaded, compiled in results)
    (name,) = files(folder)
    assert name.endswith(".kernel")
    assert finish(start(folder)) == (1, 0)


def test_processes_at_once_do_not_disturb_each_other(tmp_path):
    crowd(4, tmp_path / "cache")


@pytest.mark.slow
def test_many_processes_at_once_do_not_disturb_each_other(tmp_path):
    crowd(16, tmp_path / "cache")
