"""What differs between operating systems, each with a fallback that works on all of them.

The file is long because all such differences are here, except for what `machine/private.py` needs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import platform
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from io import BufferedReader
from pathlib import Path

from fastnn.machine.leftovers import claim, remove_leftovers, temporary_name
from fastnn.names import describe

__all__ = [
    "CLOCK",
    "CLOCK_FUNCTION",
    "CORE_FUNCTION",
    "FUTEX_CALL",
    "FUTEX_SHIFT",
    "NAP",
    "NAP_FUNCTION",
    "YIELD_FUNCTION",
    "core_apart",
    "cpu_name",
    "current_core",
    "file_name",
    "free_cores",
    "open_for_reading",
    "pages",
    "running_threads",
    "usable_cores",
    "user_cache_dir",
    "write_all",
    "write_atomically",
]

#: The system's function, without arguments, by which a thread yields its core to another.
YIELD_FUNCTION = "SwitchToThread" if os.name == "nt" else "sched_yield"

#: The system's function by which a thread sleeps, and for how long, in the function's unit: 100
#: microseconds, on Windows the shortest sleep that there is.
NAP_FUNCTION, NAP = ("Sleep", 1) if os.name == "nt" else ("usleep", 100)

#: The system's function that tells the time, and which of its clocks to ask; None where it has
#: one clock, which counts hundreds of nanoseconds.
CLOCK_FUNCTION, CLOCK = (
    ("GetSystemTimePreciseAsFileTime", None)
    if os.name == "nt"
    else ("clock_gettime", int(time.CLOCK_MONOTONIC))
)

# The number of the call futex(2), from each architecture's <asm/unistd.h>.
_FUTEX_CALLS = {
    "x86_64": 202,
    "aarch64": 98,
    "riscv64": 98,
    "loongarch64": 98,
    "ppc64le": 221,
    "s390x": 238,
}

#: The number of Linux's call by which threads park and wake each other; 0 where there is none.
FUTEX_CALL = (
    _FUTEX_CALLS.get(platform.machine(), 0)
    if sys.platform == "linux" and sys.maxsize > 2**32
    else 0
)

#: Linux's function that tells on which core the calling thread runs; empty elsewhere, where no
#: thread is kept off another one's core.
CORE_FUNCTION = "sched_getcpu" if FUTEX_CALL and hasattr(os, "sched_setaffinity") else ""

#: Bytes from the beginning of a 64-bit integer to its low half, which that call compares.
FUTEX_SHIFT = 0 if sys.byteorder == "little" else 4

_ROOT = Path("/")
_CPUINFO_KEYS = ("model name", "cpu model", "Model", "Hardware", "cpu")
_NEW_FILE = 0o666
# Some file systems cannot make a folder durable and say so in one of these ways.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def file_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text, or say what a path is.

    Parameters
    ----------
    path : str or os.PathLike
        Where a file is or shall be.

    Returns
    -------
    str
        The same path.

    Raises
    ------
    TypeError
        If it is neither; above all for integers, which `open` would take as open files.

    Examples
    --------
    >>> from pathlib import PurePosixPath
    >>> file_name(PurePosixPath("models/digits.fastnn"))
    'models/digits.fastnn'
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a string or a path object; got {describe(path)}.")
    return os.fsdecode(path)


def pages(size: int) -> mmap.mmap:
    """Return so many bytes of zeros, in the largest pages that the system grants on request.

    Where Linux has them, pages of 2 MiB halve the cost of the first write to memory (a fit of three
    layers of 1024 begins in 2.8 ms instead of 5.9).

    Parameters
    ----------
    size : int
        Bytes, at least 1.

    Returns
    -------
    mmap.mmap
        So many bytes, writable, private to the process.

    Raises
    ------
    MemoryError
        If the system does not have so many.

    Examples
    --------
    >>> memory = memoryview(pages(5_000_000))
    >>> len(memory), memory[4_999_999]
    (5000000, 0)
    """
    try:
        if os.name == "nt":
            return mmap.mmap(-1, size)
        # By default a forked process would share them.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as refusal:
        raise MemoryError(f"the system has no {size} bytes") from refusal
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is not None:
        # A kernel that was built without them says so.
        with contextlib.suppress(OSError):
            memory.madvise(advice)
    return memory


def open_for_reading(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read its bytes, without ever waiting for a writer.

    A plain `open` of a named pipe hangs until another process writes to it.  Whether the file is a
    regular one is left to the caller, to be asked of the open file.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    io.BufferedReader
        Open, to be closed by the caller.

    Raises
    ------
    OSError
        The operating system's own: FileNotFoundError, PermissionError, IsADirectoryError.

    Examples
    --------
    >>> with open_for_reading(__file__) as file:
    ...     file.read(3)
    b'\"\"\"'
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    return open(file_name(path), "rb", opener=opener)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Read all of a regular file; what else stands at the path is refused unread.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    bytes
        At most as many as it had when it was opened.

    Raises
    ------
    OSError
        The operating system's own, if it cannot be opened or read.
    ValueError
        If it is a device, a pipe or a socket.

    Examples
    --------
    >>> read_regular(__file__)[:3]
    b'\"\"\"'
    """
    with open_for_reading(path) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it must be a regular file; it is a device, pipe or socket.")
        return file.read(status.st_size)


def write_atomically(path: str | os.PathLike[str], chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file so that its path holds the old content or the new one, never a part.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the
    temporary file then takes the path's name; at last the folder is flushed, where the system
    can.  Whatever goes wrong before that, Ctrl-C included, the temporary file is removed and
    an older file stays as it was.  What a killed process left behind is removed by the next one
    that writes to the folder.  An older file's permissions are kept; its owner is the writer.
    Through a symbolic link, the file that it points to is replaced.

    Parameters
    ----------
    path : str or os.PathLike
        Where the file shall be.  Its folder must exist.
    chunks : iterable of bytes or memoryview
        The content, in order.  Views must be C-contiguous.

    Raises
    ------
    TypeError
        If `path` is not a path.
    OSError
        The operating system's own: no such folder, no space, no permission, a folder at
        `path`; also if something other than a regular file, such as a device, is at `path`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "greeting")
    ...     write_atomically(path, [b"good ", b"morning"])
    ...     path.read_text()
    'good morning'
    """
    target = os.path.realpath(file_name(path))
    folder = os.path.dirname(target)
    mode = _mode_to_keep(target, folder)
    temporary = os.path.join(folder, temporary_name())
    held = None
    try:
        held, now = _write_new(temporary, chunks, mode)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        if held is not None:
            with contextlib.suppress(OSError):
                os.close(held)
    _sync_folder(folder)
    remove_leftovers(folder, now)


def write_all(handle: int, chunk: bytes | memoryview) -> None:
    """Write a chunk to an open file however many calls that takes: one may write only a part.

    Parameters
    ----------
    handle : int
        The open file's.
    chunk : bytes or memoryview
        A view must be C-contiguous.
    """
    rest = memoryview(chunk)
    if rest.nbytes == 0:  # an empty view cannot be cast
        return
    rest = rest.cast("B")
    while rest:
        rest = rest[os.write(handle, rest) :]


def usable_cores(_root: Path = _ROOT) -> int:
    """Count the processor cores that this process may use at once.

    The least of: the cores it may be scheduled on, where the system says so (otherwise all
    cores), and on Linux the processor quota of its control groups, rounded up.

    Returns
    -------
    int
        At least 1.

    References
    ----------
    Linux kernel documentation, "Control Group v2" (cpu.max) and "CFS Bandwidth Control"
    (cpu.cfs_quota_us, cpu.cfs_period_us).

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _least_quota(_root)
    return cores if quota is None else min(cores, quota)


def free_cores(_root: Path = _ROOT, *, idle: int = 0) -> int | None:
    """Count the cores on which nothing runs except this thread.

    On Linux the system reports how many threads on the whole machine run or wait for a core
    (``/proc/loadavg``): those of other processes, and those of this one that spin, as BLAS
    libraries let theirs do for a while after a product.

    Parameters
    ----------
    idle : int, default 0
        Threads that run, or wait for a core, and do not count.

    Returns
    -------
    int or None
        At least 1, as it was a moment ago; None where the system does not report it, or where this
        process may use some cores only, as the load of the others is counted too.

    References
    ----------
    proc_loadavg(5), Linux manual pages: the fourth field.

    Examples
    --------
    >>> free = free_cores()
    >>> free is None or free >= 1
    True
    """
    cores = os.cpu_count()
    if not hasattr(os, "sched_getaffinity") or cores is None:
        return None
    if len(os.sched_getaffinity(0)) < cores:
        return None
    try:
        handle = os.open(_root / "proc" / "loadavg", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(handle, 128).split()
        finally:
            os.close(handle)
        running = int(fields[3].partition(b"/")[0])
    except (OSError, ValueError, IndexError):
        return None
    # This thread runs; where that is not counted, nothing is.
    return min(max(1, cores - running + 1 + idle), cores) if running > 0 else None


def running_threads(_root: Path = _ROOT) -> int:
    """Count the threads of this process that run or wait for a core, this one included.

    Returns
    -------
    int
        At least 1, as it was a moment ago; 1 where the system does not report it.

    References
    ----------
    proc_pid_stat(5), Linux manual pages: the third field.

    Examples
    --------
    >>> running_threads() >= 1
    True
    """
    running = 0
    try:
        tasks = os.listdir(_root / "proc" / "self" / "task")
        for task in tasks:
            stat = (_root / "proc" / "self" / "task" / task / "stat").read_bytes()
            # The second field is a name in parentheses, which may hold anything.
            running += stat.rpartition(b")")[2].split()[:1] == [b"R"]
    except OSError:
        pass
    return max(1, running)


def current_core() -> int | None:
    """Return the core on which this thread runs.

    Returns
    -------
    int or None
        The core's number, as it was a moment ago; None where threads cannot be moved, or the
        system does not tell.

    Examples
    --------
    >>> core = current_core()
    >>> core is None or core in os.sched_getaffinity(0)
    True
    """
    ask = _asking_for_core()
    core = -1 if ask is None else ask()
    return None if core < 0 else core


def core_apart(taken: Collection[int | None]) -> int | None:
    """Move this thread to another core if it runs on one that is taken, and it may run on others.

    Linux often schedules a thread that wakes up on the core of the thread that woke it, and takes
    milliseconds to separate them: after a pause of 10 ms, two threads predicted 1 000 rows
    (784-512-512-10) in 6.2 ms without moving, and in 4.2 ms where one of them moved.  Afterwards
    the system may schedule it on any core.

    Parameters
    ----------
    taken : collection of int or None
        Numbers of cores, as `current_core` tells them.

    Returns
    -------
    int or None
        Where this thread went, or stayed, as `current_core` tells it.

    Examples
    --------
    >>> core = core_apart([])
    >>> core is None or core in os.sched_getaffinity(0)
    True
    """
    here = current_core()
    if here is None or here not in taken:
        return here
    # A sandbox may forbid it.
    with contextlib.suppress(OSError):
        allowed = os.sched_getaffinity(0)
        others = allowed.difference(taken)
        if others:
            os.sched_setaffinity(0, others)
            # From then on the system decides again where it runs.
            here = current_core()
            os.sched_setaffinity(0, allowed)
    return here


def cpu_name(_root: Path = _ROOT) -> str:
    """Name the processor, as well as the system can tell.

    Returns
    -------
    str
        One line, such as ``"AMD EPYC 7B13"``; at worst the architecture or ``"unknown"``.

    Examples
    --------
    >>> cpu_name() != ""
    True
    """
    name = _name_from_cpuinfo(_root / "proc" / "cpuinfo")
    if not name and platform.system() == "Darwin":
        name = _name_from_sysctl()
    if not name:
        with contextlib.suppress(OSError, ValueError):
            name = platform.processor() or platform.machine()
    return " ".join(name.split()) or "unknown"


def user_cache_dir() -> Path:
    """Find the folder in which the user's programs keep what they can make again.

    On Windows ``%LOCALAPPDATA%``, on macOS ``~/Library/Caches``, elsewhere ``$XDG_CACHE_HOME``
    if that is an absolute path, otherwise ``~/.cache``; ``~`` is ``$HOME``.  Nothing is
    created.

    Returns
    -------
    pathlib.Path
        An absolute path; the folder need not exist.

    Raises
    ------
    RuntimeError
        If the environment does not name the folder.

    References
    ----------
    XDG Base Directory Specification, freedesktop.org.

    Examples
    --------
    >>> (user_cache_dir() / "fastnn").is_absolute()
    True
    """
    system = platform.system()
    if system == "Windows":
        return _folder_from_environment("LOCALAPPDATA")
    if system == "Darwin":
        return _folder_from_environment("HOME") / "Library" / "Caches"
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen)
    return _folder_from_environment("HOME", "XDG_CACHE_HOME") / ".cache"


@functools.cache
def _asking_for_core() -> Callable[[], int] | None:
    """Return the system's function that tells a thread its core, if threads can be moved."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        import ctypes

        function: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    except (ImportError, OSError, AttributeError):
        return None
    return function


def _mode_to_keep(target: str, folder: str) -> int | None:
    """Return the permissions of the file to be replaced, None if there is none yet."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        # A missing folder is named here, or the error would name the temporary file.
        os.stat(folder)
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", target)
    # Renaming would get past a file's write protection; opening it for writing would not.
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    return stat.S_IMODE(status.st_mode) & 0o777


def _write_new(
    name: str, chunks: Iterable[bytes | memoryview], mode: int | None
) -> tuple[int | None, float]:
    """Write a file that must not exist yet, and see it on the disk.

    Returns another handle, which holds the file so that it is not taken for a leftover, where the
    system renames open files; and the file system's time.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # The umask restricts this mode further, so that at no time can the new file be read by a user
    # who could not read the old one.
    while not claim(handle := os.open(name, flags, _NEW_FILE if mode is None else mode)):
        os.close(handle)
    held = None
    try:
        if mode is not None and stat.S_IMODE(os.fstat(handle).st_mode) != mode:
            os.chmod(name, mode)
        for chunk in chunks:
            write_all(handle, chunk)
        os.fsync(handle)
        now = os.fstat(handle).st_mtime
        if os.name != "nt":
            held = os.dup(handle)
    finally:
        try:
            # May fail where all before did not, on a network.
            os.close(handle)
        except BaseException:
            if held is not None:
                os.close(held)
            raise
    return held, now


def _sync_folder(folder: str) -> None:
    """See a folder's entries on the disk, where the system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders; others may forbid to read one
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def _control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders whose processor quotas bind this process, outermost first."""
    try:
        lines = os.fsdecode((root / "proc" / "self" / "cgroup").read_bytes()).splitlines()
    except OSError:
        return
    top = root / "sys" / "fs" / "cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 1 mounts the controller under its own name or together with its companions;
        # version 2 names no controllers and mounts one tree at the top.
        for mount in {top / controllers, top / "cpu"} if controllers else {top}:
            yield mount
            folder = mount
            # In a container the path may be the host's and not exist here: the quota then is
            # in the mount itself.  ".." leads out of the container.
            for part in path.split("/"):
                if part == "..":
                    break
                if part:
                    folder = folder / part
                    yield folder


@functools.cache
def _least_quota(root: Path) -> int | None:
    """Read the least quota of all control groups, once: a process hardly ever changes its own."""
    quotas = [_quota(folder) for folder in _control_groups(root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(folder: Path) -> int | None:
    """Read the quota of one control group, in cores rounded up; None without a limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        cores = -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):  # not there, or "max": no limit
        return None
    return cores if cores > 0 else None


def _name_from_cpuinfo(path: Path) -> str:
    """Read the processor's name from Linux's list of processors, empty if it has none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = [line.partition(":") for line in lines]
    found = {key.strip(): value.strip() for key, _, value in reversed(pairs)}
    return next((found[key] for key in _CPUINFO_KEYS if found.get(key)), "")


def _name_from_sysctl() -> str:
    """Ask macOS for the processor's name, empty if it does not answer."""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode("utf-8", "replace").strip()


def _folder_from_environment(*names: str) -> Path:
    """Return the folder that the first of some variables names, if it is absolute."""
    folder = os.environ.get(names[0], "")
    if not os.path.isabs(folder):
        raise RuntimeError(
            f"the user's cache folder is not known: set {' or '.join(names)} to the absolute "
            f"path of a folder; {names[0]} is {describe(folder) if folder else 'not set'}."
        )
    return Path(folder)
