"""Folders and files that only the user can have written, whatever others try."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fastnn.machine.private import NotPrivateError, PrivateFolder

posix = pytest.mark.skipif(os.name != "posix", reason="needs owners and modes of files")
superuser = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only the superuser can give files away"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir(mode=0o700)
    return tmp_path / "folder"


@pytest.fixture(params=["by handles", "by names"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by names":
        monkeypatch.setattr(os, "supports_dir_fd", set())


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_what_was_written_is_read(path: Path, way: None) -> None:
    before = open_handles()
    with PrivateFolder(path) as folder:
        folder.write("file", [b"", b"ab", memoryview(b"cd")])
        assert folder.read("file", 4) == b"abcd"
        folder.write("file", [])
        assert folder.read("file", 4) == b""
        with pytest.raises(FileNotFoundError):
            folder.read("other", 4)
    assert os.listdir(path) == ["file"]
    assert open_handles() == before


def test_a_file_that_is_too_large_is_refused(path: Path, way: None) -> None:
    with PrivateFolder(path) as folder:
        folder.write("file", [b"abcde"])
        with pytest.raises(OSError, match="too large"):
            folder.read("file", 4)


@pytest.mark.parametrize("fault", [ZeroDivisionError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_old_file(
    path: Path, way: None, fault: type[BaseException]
) -> None:
    def chunks():
        yield b"half"
        raise fault

    before = open_handles()
    with PrivateFolder(path) as folder:
        folder.write("file", [b"old"])
        with pytest.raises(fault):
            folder.write("file", chunks())
        assert folder.read("file", 10) == b"old"
    assert os.listdir(path) == ["file"]
    assert open_handles() == before


@posix
def test_modes_are_the_user_s_alone(tmp_path: Path, way: None) -> None:
    before = os.umask(0)
    try:
        with PrivateFolder(tmp_path / "a" / "b", make=True) as folder:
            folder.write("file", [b"x"])
    finally:
        os.umask(before)
    for place, mode in ((".", 0o700), ("b", 0o700), ("b/file", 0o600)):
        assert stat.S_IMODE((tmp_path / "a" / place).stat().st_mode) == mode


def test_a_missing_folder_is_made_only_if_asked(tmp_path: Path, way: None) -> None:
    with pytest.raises(FileNotFoundError):
        PrivateFolder(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    PrivateFolder(tmp_path / "a", make=True).close()
    assert (tmp_path / "a").is_dir()


@posix
def test_a_folder_that_is_exchanged_after_it_was_asked_is_not_used(path: Path) -> None:
    with PrivateFolder(path) as folder:
        folder.write("file", [b"mine"])
        path.rename(path.parent / "moved")
        path.mkdir(mode=0o777)
        (path / "file").write_bytes(b"another's")
        assert folder.read("file", 10) == b"mine"
        folder.write("file", [b"mine too"])
    assert (path / "file").read_bytes() == b"another's"
    assert (path.parent / "moved" / "file").read_bytes() == b"mine too"


@posix
def test_a_file_that_is_replaced_while_it_is_read_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstat

    def slow(handle: int) -> os.stat_result:
        if stat.S_ISREG(real(handle).st_mode):
            monkeypatch.undo()
            with PrivateFolder(path) as another:
                another.write("file", [b"new"])
        return real(handle)

    with PrivateFolder(path) as folder:
        folder.write("file", [b"old"])
        monkeypatch.setattr(os, "fstat", slow)
        assert folder.read("file", 10) == b"old"
        assert folder.read("file", 10) == b"new"


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(path: Path, way: None, mode: int) -> None:
    path.chmod(mode)
    before = open_handles()
    with pytest.raises(NotPrivateError, match=f"can be written by others .* is {mode:04o}"):
        PrivateFolder(path)
    assert open_handles() == before


@posix
def test_a_strict_folder_is_closed_to_readers_too(path: Path, way: None) -> None:
    PrivateFolder(path, strict=True).close()
    path.chmod(0o750)
    PrivateFolder(path).close()
    with pytest.raises(NotPrivateError, match="can be read or written by others"):
        PrivateFolder(path, strict=True)


@superuser
def test_a_folder_or_file_of_another_user_is_refused(path: Path, way: None) -> None:
    with PrivateFolder(path) as folder:
        folder.write("file", [b"x"])
        os.chown(path / "file", 65534, 65534)
        with pytest.raises(NotPrivateError, match=r"file belongs to another user \(number 65534\)"):
            folder.read("file", 10)
        folder.write("file", [b"y"])
        assert folder.read("file", 10) == b"y"
    os.chown(path, 65534, 65534)
    with pytest.raises(NotPrivateError, match="belongs to another user"):
        PrivateFolder(path)


@posix
def test_who_runs_on_behalf_of_another_trusts_neither(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(NotPrivateError):
        PrivateFolder(path)


@superuser
def test_root_makes_nothing_in_another_user_s_home(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to another user"):
        PrivateFolder(tmp_path / ".cache" / "fastnn", make="at home")
    assert os.listdir(tmp_path) == []
    # Unless it was told to.
    PrivateFolder(tmp_path / ".cache" / "fastnn", make=True).close()


@posix
def test_a_link_is_followed_only_if_it_is_the_user_s_own(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to("folder")
    with PrivateFolder(link) as folder:
        folder.write("file", [b"x"])
    assert (path / "file").read_bytes() == b"x"
    with pytest.raises(NotPrivateError, match="is a symbolic link"):
        PrivateFolder(link, strict=True)
    if os.geteuid() == 0:
        os.chown(link, 65534, 65534, follow_symlinks=False)
        with pytest.raises(NotPrivateError, match="is a symbolic link"):
            PrivateFolder(link)


@posix
def test_a_file_system_that_gives_files_to_another_is_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstat

    def squashed(handle: int) -> os.stat_result:
        found = real(handle)
        if stat.S_ISREG(found.st_mode):
            return os.stat_result([*found[:4], 65534, *found[5:]])
        return found

    monkeypatch.setattr(os, "fstat", squashed)
    with PrivateFolder(path) as folder, pytest.raises(NotPrivateError, match="another user"):
        folder.write("file", [b"x"])
    assert os.listdir(path) == []


def test_what_a_killed_writer_left_is_removed_in_time(path: Path, way: None) -> None:
    for name, age in ((".fastnn-old.tmp", 4000), (".fastnn-new.tmp", 10), ("own.tmp", 4000)):
        (path / name).touch()
        then = (path / name).stat().st_mtime - age
        os.utime(path / name, (then, then))
    with PrivateFolder(path) as folder:
        folder.write("file", [b"x"])
    assert sorted(os.listdir(path)) == [".fastnn-new.tmp", "file", "own.tmp"]
