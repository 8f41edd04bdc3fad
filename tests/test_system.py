"""What differs between operating systems: whole files, cores, names, folders."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastnn.machine import system
from fastnn.machine.leftovers import claim, temporary_name
from fastnn.machine.system import (
    core_apart,
    cpu_name,
    current_core,
    file_name,
    free_cores,
    open_for_reading,
    pages,
    running_threads,
    usable_cores,
    user_cache_dir,
    write_atomically,
)

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
unprivileged = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser"
)


def only(folder: Path, *names: str) -> bool:
    return sorted(entry.name for entry in folder.iterdir()) == sorted(names)


# ---------------------------------------------------------------- paths and reading


def test_a_path_is_a_string_or_a_path_object(tmp_path: Path) -> None:
    assert file_name(str(tmp_path)) == file_name(tmp_path) == str(tmp_path)
    for wrong in (0, None, 1.5, b"bytes", ["a"]):
        with pytest.raises(TypeError, match=r"path must be a string or a path object; got "):
            file_name(wrong)  # type: ignore[arg-type]


@posix
def test_a_pipe_is_opened_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open_for_reading(tmp_path / "pipe") as file:
        assert stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)


# ---------------------------------------------------------------- writing


def test_chunks_are_written_in_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    words = memoryview(b"\x01\x00\x02\x00").cast("H")
    none = memoryview(np.empty((0, 3)))
    write_atomically(path, iter([b"", b"ab", memoryview(b"cd"), none, words]))
    assert path.read_bytes() == b"abcd\x01\x00\x02\x00"
    write_atomically(str(path), [])
    assert path.read_bytes() == b""
    assert only(tmp_path, "file")


def test_a_relative_path_is_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically("file", [b"x"])
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    name = "n" * 255
    write_atomically(tmp_path / name, [b"x"])
    assert only(tmp_path, name)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    write_atomically(tmp_path / "file", [b"0123456789", b"abcd"])
    assert (tmp_path / "file").read_bytes() == b"0123456789abcd"


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_follows_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", [b"x"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666, 0o755])
def test_an_older_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)

    def chunks() -> Iterator[bytes]:
        (temporary,) = tmp_path.glob(".fastnn-*.tmp")
        assert stat.S_IMODE(temporary.stat().st_mode) == mode
        yield b"new"

    write_atomically(path, chunks())
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real"
    link = tmp_path / "link"
    link.symlink_to(real)
    for content in (b"first, through a dangling link", b"second"):
        write_atomically(link, [content])
        assert link.is_symlink()
        assert real.read_bytes() == content
    assert only(tmp_path, "there", "link")
    assert only(tmp_path / "there", "real")


@posix
def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the system's number says which
        write_atomically(tmp_path / "a", [b"x"])
    assert caught.value.errno == errno.ELOOP
    assert only(tmp_path, "a", "b")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, [b"x"])
    assert only(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "missing" / "file", [b"x"])
    assert caught.value.filename == os.path.realpath(tmp_path / "missing")


@posix
def test_devices_and_pipes_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(OSError, match="Not a regular file"):
            write_atomically(tmp_path / name, [b"x"])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert only(tmp_path, "pipe", "null")


@unprivileged
def test_a_protected_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write_atomically(path, [b"new"])
    assert path.read_bytes() == b"old"


def test_a_file_that_access_denies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        write_atomically(path, [b"new"])
    assert path.read_bytes() == b"old"
    assert only(tmp_path, "file")


FAULTS = [OSError(errno.ENOSPC, "no space"), OSError(errno.EIO, "input/output"), KeyboardInterrupt]


@pytest.mark.parametrize("fault", FAULTS, ids=["ENOSPC", "EIO", "Ctrl-C"])
@pytest.mark.parametrize("name", ["open", "write", "fsync", "close", "replace"])
@pytest.mark.parametrize("old", [True, False], ids=["old file", "no file"])
def test_a_fault_at_any_call_leaves_the_old_file_or_the_new_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    old: bool,
    fault: BaseException | type[BaseException],
) -> None:
    path = tmp_path / "file"
    real = getattr(os, name)
    outcomes = []
    for nth in range(1, 10):
        path.unlink(missing_ok=True)
        if old:
            path.write_bytes(b"old")
        calls = 0

        def faulty(*args: object) -> object:
            nonlocal calls
            calls += 1
            if calls == nth:  # noqa: B023 - it is called within the turn
                if name == "close":  # what close reports, it reports after closing
                    real(*args)
                raise fault
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, faulty)
            try:
                write_atomically(path, [b"ne", b"w"])
            except (OSError, KeyboardInterrupt):
                pass
            else:
                assert path.read_bytes() == b"new"
                if calls < nth:  # the fault never came: every call has had its turn
                    break
        outcomes.append(path.read_bytes() if path.exists() else None)
        assert outcomes[-1] in ([b"old", b"new"] if old else [None, b"new"])
        assert only(tmp_path, *(["file"] if path.exists() else []))
    else:
        pytest.fail("there are more calls than expected")
    assert outcomes[0] == (b"old" if old else None)


@pytest.mark.parametrize("fault", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_fault_in_the_chunks_leaves_the_old_file(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"new"
        raise fault

    with pytest.raises(type(fault)):
        write_atomically(path, chunks())
    assert path.read_bytes() == b"old"
    assert only(tmp_path, "file")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_folders_that_cannot_be_flushed_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def for_files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, "not for folders")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", for_files_only)
    write_atomically(tmp_path / "file", [b"x"])
    assert (tmp_path / "file").read_bytes() == b"x"


@posix
def test_a_folder_that_fails_to_be_flushed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def for_files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, "the disk is failing")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", for_files_only)
    with pytest.raises(OSError, match="the disk is failing"):
        write_atomically(tmp_path / "file", [b"x"])
    assert (tmp_path / "file").read_bytes() == b"x"


@posix
def test_permissions_that_are_right_are_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, [b"old"])

    def impossible(*_: object) -> None:
        raise PermissionError("this file system has no permissions")

    monkeypatch.setattr(os, "chmod", impossible)
    write_atomically(path, [b"new"])
    assert path.read_bytes() == b"new"


@posix
def test_the_file_is_flushed_before_it_is_renamed_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(source: str, target: str) -> None:
        done.append("rename")
        assert os.path.dirname(source) == os.path.dirname(target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomically(tmp_path / "file", [b"x"])
    assert done == ["file", "rename", "folder"]


@posix
def test_no_open_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = os.open

    def noted(*args: object) -> int:
        opened.append(real(*args))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(os, "open", noted)
    write_atomically(tmp_path / "file", [b"x"])
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", (bytes(1 // 0) for _ in "x"))
    assert len(opened) == 3
    for handle in set(opened):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([65 + writer]) * 50_000 for writer in range(6)]
    start = threading.Barrier(len(contents))
    faults = []

    def write(content: bytes) -> None:
        try:
            start.wait()
            for _ in range(5):
                write_atomically(path, [content[:20_000], content[20_000:]])
                assert path.read_bytes() in contents
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert path.read_bytes() in contents
    assert only(tmp_path, "file")


@posix
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys\n"
        "from fastnn.machine.system import write_atomically\n"
        "def chunks():\n"
        "    yield b'new'\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], chunks())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert ended.returncode == -9
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    write_atomically(tmp_path / "another", [b"newer"])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["another", "file"]


@posix
def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    """What somebody still writes, or has made otherwise, is not ours to remove."""
    mine = [tmp_path / temporary_name() for _ in range(7)]
    dead, held, linked, symbolic, folder, pipe, _ = mine
    dead.write_bytes(b"dead")
    held.write_bytes(b"alive")
    writer = os.open(held, os.O_RDWR)
    assert claim(writer)
    linked.write_bytes(b"kept")
    os.link(linked, tmp_path / "kept")
    symbolic.symlink_to(tmp_path / "kept")
    folder.mkdir()
    os.mkfifo(pipe)
    hexadecimal = "0123456789abcdef"
    foreign = tmp_path / f".fastnn-{'0' * 8}-{hexadecimal}.tmp"
    foreign.write_bytes(b"perhaps alive")
    old = tmp_path / f".fastnn-{hexadecimal}.tmp"
    old.write_bytes(b"long dead")
    os.utime(old, (1e9, 1e9))
    for name in (f".fastnn-{hexadecimal}.tmp~", f"fastnn-{hexadecimal}.tmp", ".fastnn-0.tmp"):
        (tmp_path / name).write_bytes(b"another's")
    before = {one.name for one in tmp_path.iterdir()}
    write_atomically(tmp_path / "file", [b"x"])
    after = {one.name for one in tmp_path.iterdir()}
    assert before - after == {dead.name, old.name}
    os.close(writer)
    write_atomically(tmp_path / "file", [b"x"])
    assert not held.exists()
    assert foreign.exists()


@posix
def test_a_file_that_was_removed_before_it_was_held_is_made_anew(tmp_path: Path) -> None:
    handle = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    os.unlink(tmp_path / "file")
    assert not claim(handle)
    os.close(handle)


# ---------------------------------------------------------------- cores


def pretend(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "12:pids:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"
V1_HERE = "sys/fs/cgroup/cpu,cpuacct/docker/ab"
V2_TOP = "sys/fs/cgroup/cpu.max"
GROUP = "proc/self/cgroup"
QUOTAS = {
    "no /proc": ({}, 16),
    "no limit set": ({GROUP: "0::/\n", V2_TOP: "max 100000\n"}, 16),
    "v2 two cores": ({GROUP: "0::/\n", V2_TOP: "200000 100000\n"}, 2),
    "v2 rounded up": ({GROUP: "0::/\n", V2_TOP: "150000 100000\n"}, 2),
    "v2 a tenth": ({GROUP: "0::/\n", V2_TOP: "10000 100000\n"}, 1),
    "v2 more than there is": ({GROUP: "0::/\n", V2_TOP: "9900000 100000\n"}, 16),
    "v2 in the group": ({GROUP: "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "300000 100000"}, 3),
    "v2 in a parent": (
        {
            GROUP: "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        },
        4,
    ),
    "v2 the least counts": (
        {
            GROUP: "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "500000 100000\n",
        },
        4,
    ),
    "v2 host's path in a container": ({GROUP: "0::/system/x\n", V2_TOP: "500000 100000\n"}, 5),
    "v2 outside the container": (
        {
            GROUP: "0::/../../x\n",
            V2_TOP: "500000 100000\n",
            "sys/x/cpu.max": "100000 100000\n",
        },
        5,
    ),
    "v1": (
        {
            GROUP: V1,
            f"{V1_HERE}/cpu.cfs_quota_us": "250000\n",
            f"{V1_HERE}/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "v1 no limit": (
        {
            GROUP: V1,
            f"{V1_HERE}/cpu.cfs_quota_us": "-1\n",
            f"{V1_HERE}/cpu.cfs_period_us": "100000\n",
        },
        16,
    ),
    "v1 mounted as cpu": (
        {
            GROUP: V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "700000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        7,
    ),
    "not the processor's group": (
        {
            GROUP: "3:cpuset:/\n",
            "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000\n",
        },
        16,
    ),
    "nonsense": ({GROUP: "\n::\nx\n0::/\n", V2_TOP: "ten of them\n"}, 16),
    "one word": ({GROUP: "0::/\n", V2_TOP: "200000\n"}, 16),
    "period of zero": ({GROUP: "0::/\n", V2_TOP: "200000 0\n"}, 16),
    "quota of zero": ({GROUP: "0::/\n", V2_TOP: "0 100000\n"}, 16),
    "not ASCII": ({GROUP: "0::/\n", V2_TOP: "\u0662 100000\n"}, 16),
}


@pytest.mark.parametrize(("files", "cores"), QUOTAS.values(), ids=QUOTAS)
def test_cores_within_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    affinity = set(range(16))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity, raising=False)
    assert usable_cores(pretend(tmp_path, files)) == cores


def test_cores_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


def test_cores_of_this_machine() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "O_CLOEXEC"), reason="needs POSIX files")
@pytest.mark.parametrize(
    ("told", "free"),
    [
        ("0.20 0.18 0.12 1/80 11206\n", 4),
        ("0.20 0.18 0.12 2/80 11206\n", 3),
        ("2.00 0.18 0.12 5/80 11206\n", 1),
        ("90.0 0.18 0.12 512/4000 11206\n", 1),
        # Systems that count nothing, or tell something else.
        ("0.00 0.00 0.00 0/0 0\n", None),
        ("0.20 0.18 0.12\n", None),
        ("none\n", None),
        ("0.20 0.18 0.12 some/80 1\n", None),
        ("", None),
        (None, None),
    ],
)
def test_free_cores(
    told: str | None, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    root = pretend(tmp_path, {} if told is None else {"proc/loadavg": told})
    assert free_cores(root) == free
    # What others do on cores that are not this process's is no concern of it.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert free_cores(root) is None
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert free_cores(root) is None


@pytest.mark.parametrize(
    ("states", "running"), [("R", 1), ("RS", 1), ("RSRD", 2), ("SS", 1), ("", 1)]
)
def test_running_threads(states: str, running: int, tmp_path: Path) -> None:
    files = {
        f"proc/self/task/{n}/stat": f"{n} (a) R (b) {state} 1 1\n" for n, state in enumerate(states)
    }
    assert running_threads(pretend(tmp_path, files)) == running


class Cores:
    """Stands in for a system that has moved this thread where it was asked to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, here: int, allowed: set[int]) -> None:
        self.here, self.allowed, self.asked = here, allowed, []
        self.refusing = False
        monkeypatch.setattr(system, "_asking_for_core", lambda: lambda: self.here)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(self.allowed), raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", self.restrict, raising=False)

    def restrict(self, thread: int, cores: set[int]) -> None:
        assert thread == 0
        assert cores
        if self.refusing:
            raise PermissionError
        self.asked.append(set(cores))
        self.here = self.here if self.here in cores else min(cores)


def test_a_thread_leaves_a_core_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, 2, {0, 2, 5, 7})
    assert core_apart([0, 5, None]) == 2
    assert cores.asked == []
    assert core_apart([0, 2, None]) == 5
    assert cores.asked == [{5, 7}, {0, 2, 5, 7}]


def test_a_thread_stays_where_it_cannot_or_may_not_go(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(monkeypatch, 2, {0, 2})
    assert core_apart([0, 2]) == 2
    cores.refusing = True
    assert core_apart([2]) == 2
    assert cores.asked == []
    monkeypatch.setattr(system, "_asking_for_core", lambda: None)
    assert current_core() is None
    assert core_apart([None]) is None


def test_a_system_that_cannot_move_threads_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    system._asking_for_core.cache_clear()
    assert current_core() is None
    monkeypatch.undo()
    system._asking_for_core.cache_clear()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_cores_that_threads_of_this_machine_run_on() -> None:
    allowed = os.sched_getaffinity(0)
    for core in sorted(allowed):
        os.sched_setaffinity(0, {core})
        try:
            assert current_core() == core
            assert core_apart([core]) == core
        finally:
            os.sched_setaffinity(0, allowed)
        if len(allowed) > 1:
            assert core_apart([core]) != core
        assert os.sched_getaffinity(0) == allowed


# ---------------------------------------------------------------- the processor's name

CPUINFO = {
    "x86": ("processor\t: 0\nmodel name\t: Fast  CPU @ 3\nmodel\t: 6\n" * 2, "Fast CPU @ 3"),
    "arm": ("processor\t: 0\nBogoMIPS\t: 1\n\nHardware\t: B1\nModel\t\t: Board 5\n", "Board 5"),
    "power": ("processor\t: 0\ncpu\t\t: POWER9\n", "POWER9"),
}


@pytest.mark.parametrize(("text", "name"), CPUINFO.values(), ids=CPUINFO)
def test_the_processor_by_cpuinfo(tmp_path: Path, text: str, name: str) -> None:
    assert cpu_name(pretend(tmp_path, {"proc/cpuinfo": text})) == name


def test_the_processor_by_fallbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Elsewhere")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert cpu_name(pretend(tmp_path, {"proc/cpuinfo": "isa\t: rv64\n"})) == "riscv64"
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert cpu_name(tmp_path) == "unknown"

    def unanswered() -> str:
        raise OSError("no answer")

    monkeypatch.setattr(platform, "processor", unanswered)
    assert cpu_name(tmp_path) == "unknown"


def test_the_processor_on_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    answer = subprocess.CompletedProcess([], 0, stdout=b"Apple M9\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert cpu_name(tmp_path) == "Apple M9"

    def silent(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("sysctl", 5)

    monkeypatch.setattr(subprocess, "run", silent)
    assert cpu_name(tmp_path) == "arm"


def test_the_processor_of_this_machine() -> None:
    assert cpu_name()
    assert "\n" not in cpu_name()


# ---------------------------------------------------------------- the cache folder


def cache_on(monkeypatch: pytest.MonkeyPatch, name: str, **variables: str) -> Path:
    monkeypatch.setattr(platform, "system", lambda: name)
    for variable in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    return user_cache_dir()


def test_the_cache_folder_of_each_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = str(tmp_path / "me"), str(tmp_path / "cache")
    assert cache_on(monkeypatch, "Linux", HOME=home) == Path(home, ".cache")
    assert cache_on(monkeypatch, "Linux", HOME=home, XDG_CACHE_HOME=other) == Path(other)
    assert cache_on(monkeypatch, "Linux", XDG_CACHE_HOME=other) == Path(other)
    assert cache_on(monkeypatch, "Linux", HOME=home, XDG_CACHE_HOME="x") == Path(home, ".cache")
    assert cache_on(monkeypatch, "Darwin", HOME=home) == Path(home, "Library", "Caches")
    assert cache_on(monkeypatch, "Windows", LOCALAPPDATA=other) == Path(other)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("Linux", "HOME or XDG_CACHE_HOME"), ("Darwin", "HOME"), ("Windows", "LOCALAPPDATA")],
)
def test_a_cache_folder_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    with pytest.raises(RuntimeError, match=f"set {variable} to the absolute path .* not set"):
        cache_on(monkeypatch, name)
    with pytest.raises(RuntimeError, match="is 'here'"):
        cache_on(monkeypatch, name, HOME="here", LOCALAPPDATA="here")


@pytest.mark.parametrize("advised", [True, False])
def test_pages_hold_zeros_of_their_own(monkeypatch: pytest.MonkeyPatch, advised: bool) -> None:
    if not advised:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    first, second = (memoryview(pages(3 * 4096 + 5)) for _ in range(2))
    assert len(first) == len(second) == 3 * 4096 + 5
    assert not any(first)
    first[-1] = 7
    assert second[-1] == 0


def test_a_system_that_refuses_large_pages_gives_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What no system knows.
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345, raising=False)
    assert not any(memoryview(pages(5000)))


@pytest.mark.parametrize("advised", [True, False])
@pytest.mark.parametrize("size", [1 << 60, 1 << 70])
def test_more_memory_than_there_is_is_refused_in_one_way(
    monkeypatch: pytest.MonkeyPatch, size: int, advised: bool
) -> None:
    if not advised:
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    with pytest.raises(MemoryError, match=f"no {size} bytes"):
        pages(size)


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"some bytes")
    assert system.read_regular(tmp_path / "file") == b"some bytes"
    with pytest.raises(FileNotFoundError):
        system.read_regular(tmp_path / "none")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="it must be a regular file; it is a device, pipe or"):
            system.read_regular(tmp_path / "pipe")
