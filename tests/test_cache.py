"""The cache of compiled kernels: fast where it can, right where it cannot."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastnn
from fastnn.equations import draws as reference_draws
from fastnn.kernels import _cache
from fastnn.kernels._jit import entry
from fastnn.machine import private
from fastnn.tuning import tuning

pytestmark = pytest.mark.jit

posix = pytest.mark.skipif(os.name != "posix", reason="needs owners and modes of files")

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
    forget()
    yield chosen
    forget()


def forget():
    """Begin like a new process."""
    _cache.source_hash.cache_clear()
    _cache._warned.clear()


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


@posix
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
    _cache.source_hash.cache_clear()
    return _cache.KernelCache(tiny)._entry(("float64",), codegen)


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


def test_an_entry_under_another_s_name_is_no_answer(folder):
    assert called() == COMPILED
    (first,) = files(folder)
    assert called(other) == (0, 0, 1)
    (second,) = set(files(folder)) - {first}
    contents = [(folder / name).read_bytes() for name in (first, second)]
    (folder / first).write_bytes(contents[1])
    (folder / second).write_bytes(contents[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called() == COMPILED
        assert called(other) == (0, 0, 1)
    assert called() == LOADED
    assert called(other) == (0, 1, 0)


def test_an_entry_of_another_signature_is_no_answer(folder):
    assert called() == COMPILED
    (first,) = files(folder)
    assert called(tiny, X.astype(np.float32)) == COMPILED
    (second,) = set(files(folder)) - {first}
    os.replace(folder / second, folder / first)
    assert called() == COMPILED


def test_an_entry_that_is_too_large_is_not_read(folder, monkeypatch):
    assert called() == COMPILED
    (name,) = files(folder)
    bytes_of_it = (folder / name).stat().st_size
    with tuning(largest_kernel=bytes_of_it):
        assert called() == LOADED
    with tuning(largest_kernel=bytes_of_it - 1):
        assert called() == COMPILED


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
    assert "NotADirectoryError" in message
    assert "Set FASTNN_CACHE_DIR to a folder of your own, or FASTNN_CACHE=0" in message
    assert folder.read_text() == "not a folder"


def test_a_folder_that_cannot_be_made_gives_one_warning(folder, monkeypatch):
    folder.write_text("not a folder")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(folder / "below"))
    assert "NotADirectoryError" in warned()


def test_a_folder_that_cannot_be_written_gives_one_warning(folder, monkeypatch):
    def refuse(folder, name, chunks):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(private.PrivateFolder, "write", refuse)
    assert "PermissionError: [Errno 13] Permission denied" in warned()


def test_a_full_disk_gives_one_warning(folder, monkeypatch):
    def fail(folder, name, chunks):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(private.PrivateFolder, "write", fail)
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


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702])
def test_a_folder_that_others_can_write_is_refused(mode, folder):
    assert called() == COMPILED
    kept = files(folder)
    folder.chmod(mode)
    # Not even what lies there already is read: unpickling would run it.
    assert f"can be written by others (its mode is {mode:04o})" in warned()
    assert files(folder) == kept
    folder.chmod(0o700)
    assert called() == LOADED


@posix
def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    assert called() == COMPILED
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert f"belongs to another user (number {owner})" in warned()


# Entries that another user can have written.


TRACES = []


def leave_a_trace():
    TRACES.append("ran")


class Evil:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return leave_a_trace, ()


def planted(folder, name, write):
    """Put something in an entry's place, with a content that would pass for one."""
    TRACES.clear()
    content = (folder / name).read_bytes()
    label = content[DIGEST:].split(b"\n", 4)[:4]
    body = b"\n".join([*label, pickle.dumps(Evil())])
    (folder / name).unlink()
    write(folder, name, hashlib.sha256(body).digest() + body)


def writable_by_others(mode):
    def write(folder, name, content):
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)

    return write


def of_another_user(folder, name, content):
    (folder / name).write_bytes(content)
    os.chown(folder / name, 65534, 65534)


def linked(folder, name, content):
    (folder / "elsewhere").write_bytes(content)
    (folder / name).symlink_to("elsewhere")


def with_another_name(folder, name, content):
    (folder / "elsewhere").write_bytes(content)
    os.link(folder / "elsewhere", folder / name)


def a_pipe(folder, name, content):
    os.mkfifo(folder / name)


def a_device(folder, name, content):
    (folder / name).symlink_to("/dev/zero")


def a_socket(folder, name, content):
    # A socket's address is short.
    here = os.getcwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
    finally:
        os.chdir(here)


PLANTED = {
    "writable by the group": writable_by_others(0o660),
    "writable by all": writable_by_others(0o606),
    "another user's": of_another_user,
    "a symbolic link": linked,
    "a file with two names": with_another_name,
    "a named pipe": a_pipe,
    "a device": a_device,
    "a socket": a_socket,
}


@posix
@pytest.mark.parametrize("kind", PLANTED)
def test_what_another_user_can_have_written_is_never_run(kind, folder):
    if kind == "another user's" and os.geteuid() != 0:
        pytest.skip("only the superuser can give files away")
    assert called() == COMPILED
    (name,) = files(folder)
    planted(folder, name, PLANTED[kind])
    assert called() == COMPILED
    assert TRACES == []
    # It was replaced, by a file that is nobody else's.
    found = (folder / name).lstat()
    assert stat.S_ISREG(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert called() == LOADED


@posix
def test_what_is_planted_here_would_run_if_it_were_trusted(folder):
    assert called() == COMPILED
    (name,) = files(folder)
    planted(folder, name, writable_by_others(0o600))
    with pytest.warns(RuntimeWarning, match="could not load the compiled kernels"):
        assert called() == COMPILED
    assert TRACES == ["ran"]


@posix
def test_entries_are_the_user_s_alone_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        assert called() == COMPILED
    finally:
        os.umask(before)
    (name,) = files(folder)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# Another place where the usual one cannot be used.


@pytest.fixture
def home(folder, tmp_path, monkeypatch):
    """Give the user a home and the system a folder for temporary files; return both."""
    monkeypatch.delenv("FASTNN_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    places = tmp_path / "home", tmp_path / "temporary"
    for place in places:
        place.mkdir()
    places[1].chmod(0o1777)
    for name in ("HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(places[0]))
    monkeypatch.setattr(tempfile, "tempdir", str(places[1]))
    return places


def without_a_home(home, monkeypatch):
    for name in ("HOME", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def in_a_home_that_is_missing(home, monkeypatch):
    # As where its parent cannot be written.
    (home.parent / "file").touch()
    for name in ("HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home.parent / "file" / "home"))


def in_a_home_that_cannot_be_written(home, monkeypatch):
    make = os.mkdir

    def refuse(path, *rest, **options):
        if str(path).startswith(str(home)):
            raise OSError(errno.EROFS, "Read-only file system")
        make(path, *rest, **options)

    monkeypatch.setattr(os, "mkdir", refuse)


def in_a_home_of_another_user(home, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only the superuser can give folders away")
    os.chown(home, 65534, 65534)


ELSEWHERE = [
    without_a_home, in_a_home_that_is_missing, in_a_home_that_cannot_be_written,
    in_a_home_of_another_user,
]  # fmt: skip


@pytest.mark.parametrize("trouble", ELSEWHERE)
def test_kernels_are_kept_among_temporary_files(trouble, home, monkeypatch):
    trouble(home[0], monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called() == COMPILED
        assert called() == LOADED
    assert not list(home[0].iterdir())
    (place,) = home[1].iterdir()
    assert place == _cache.cache_folder()
    if os.name == "posix":
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert len(files(place)) == 1


@posix
def test_a_home_that_is_not_closed_is_passed_over_with_one_warning(home):
    assert called() == COMPILED
    usual = _cache.cache_folder()
    assert usual.is_relative_to(home[0])
    usual.chmod(0o777)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert called() == COMPILED
        assert called(other) == (0, 0, 1)
    (message,) = (str(warning.message) for warning in caught)
    assert f"{usual} can be written by others" in message
    assert f"now in {_cache.cache_folder()}" in message
    assert _cache.cache_folder().parent == home[1]
    assert called() == LOADED


def made_by_another_user(place):
    if os.geteuid() != 0:
        pytest.skip("only the superuser can give folders away")
    place.mkdir()
    os.chown(place, 65534, 65534)


def open_to_all(place):
    place.mkdir()
    place.chmod(0o777)


def open_to_be_read(place):
    place.mkdir()
    place.chmod(0o755)


def a_link_to_a_folder(place):
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to("elsewhere")


def a_link_to_nothing(place):
    place.symlink_to("elsewhere")


def a_file(place):
    place.touch()


TAKEN = [
    made_by_another_user, open_to_all, open_to_be_read, a_link_to_a_folder, a_link_to_nothing,
    a_file,
]  # fmt: skip


@posix
@pytest.mark.parametrize("taken", TAKEN)
def test_a_name_among_temporary_files_that_is_taken_is_left_alone(taken, home, monkeypatch):
    without_a_home(home[0], monkeypatch)
    place = private.temporary_folder()
    taken(place)
    before = sorted(home[1].rglob("*"))
    message = warned()
    assert "the user's cache folder is not known" in message
    assert str(place) in message
    assert sorted(home[1].rglob("*")) == before


def test_no_folder_is_made_where_the_user_happens_to_be(home, monkeypatch, tmp_path):
    without_a_home(home[0], monkeypatch)
    # What Python falls back upon.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert "no folder for temporary files" in warned()
    assert sorted(tmp_path.iterdir()) == before
    assert _cache.cache_folder() is None
    # But whoever works there gets one.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert called() == COMPILED
    assert called() == LOADED


@posix
def test_folders_above_are_closed_to_others_whatever_the_umask(home):
    before = os.umask(0)
    try:
        assert called() == COMPILED
    finally:
        os.umask(before)
    for place in (_cache.cache_folder(), _cache.cache_folder().parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


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
