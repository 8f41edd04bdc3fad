"""The processes of the libraries: started with threads and cores, called, paused, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnn

from ..cores import kept_to

__all__ = [
    "IMPORTS",
    "PEERS",
    "Child",
    "ChildFailed",
    "Program",
    "environment",
    "is_installed",
]

_FOLDER = Path(__file__).parent / "peers"
_PATIENCE = 1200.0  # seconds; compiling a whole step may take minutes on a busy machine

# All variables from which a library may read its number of threads.
_THREAD_VARIABLES = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class ChildFailed(Exception):
    """A library could not do the work; the message says why."""


@dataclass(frozen=True)
class Program:
    """How a library is run: its program, the modules that this needs, its ways to do the work."""

    file: str
    modules: tuple[str, ...]
    variants: tuple[str, ...] = ("",)
    trains: bool = True


#: fastnn and those it is compared with, by name.
PEERS = {
    "fastnn": Program("with_fastnn.py", ("fastnn",)),
    "PyTorch": Program("with_pytorch.py", ("torch",), ("eager", "compiled")),
    "JAX": Program("with_jax.py", ("jax",)),
    "scikit-learn": Program("with_scikit_learn.py", ("sklearn",)),
    "NumPy": Program("with_numpy.py", ("numpy",)),
    "ONNX Runtime": Program("with_onnxruntime.py", ("onnxruntime", "onnx"), trains=False),
}

#: How fastnn takes another library's networks, by the library that runs them otherwise.
IMPORTS = {
    "PyTorch": Program("with_imports.py", ("fastnn", "torch"), trains=False),
    "ONNX Runtime": Program("with_imports.py", ("fastnn", "onnx"), trains=False),
}


def environment(
    peer: str, threads: int, python: str = sys.executable, *, default: bool = False
) -> dict[str, str]:
    """Return the environment of a child: this one's, its threads set for every library.

    By default no variable is set, so that every library uses its default number of threads.
    """
    found = dict(os.environ)
    for name in _THREAD_VARIABLES:
        found.pop(name, None)
        if not default:
            found[name] = str(threads)
    eigen = "true" if threads > 1 else "false"
    found["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    )
    # No pool of compilers beside the process that is measured and stopped.
    found["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    # A program finds its neighbours in its own folder.
    found.pop("PYTHONSAFEPATH", None)
    if peer == "fastnn" and python == sys.executable:
        # The fastnn of this process.
        paths = [str(Path(fastnn.__file__).parents[1]), found.get("PYTHONPATH", "")]
        found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return found


def is_installed(peer: str, python: str = sys.executable, *, imports: bool = False) -> bool:
    """Whether a Python has what a library's program imports, or what its `IMPORTS` do."""
    code = (
        "import importlib.util, sys; "
        "sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))"
    )
    program, whose = (IMPORTS[peer], "fastnn") if imports else (PEERS[peer], peer)
    command = [python, "-c", code, *program.modules]
    try:
        done = subprocess.run(
            command, env=environment(whose, 1, python), capture_output=True, timeout=60
        )
    except OSError:
        return False
    return done.returncode == 0


class Child:
    """One library in its own process, with so many threads, pinned to given cores.

    Parameters
    ----------
    peer : str
        One of `PEERS`.
    variant : str
        One of its variants.
    threads : int
        Threads that it may use.
    cores : list of int
        Cores that it is pinned to, as many as threads.
    python : str
        The Python that has the library.
    program : str or None
        The file of the peers' folder to run; None for the library's own.
    default : bool
        Whether all libraries take as many threads as they do by default.
    """

    def __init__(
        self,
        peer: str,
        variant: str = "",
        threads: int = 1,
        cores: list[int] | None = None,
        python: str = sys.executable,
        program: str | None = None,
        *,
        default: bool = False,
    ) -> None:
        self.peer, self.variant, self.threads = peer, variant, threads
        path = str(_FOLDER / (program or PEERS[peer].file))
        command = [python, path, "--variant", variant, "--threads", str(0 if default else threads)]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the child)
        with kept_to(cores) if cores else contextlib.nullcontext():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=environment(peer, threads, python, default=default),
            )
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """Pass answers on; an empty one says that there will be no more."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def ask(self, command: str, **arguments: Any) -> Mapping[str, Any]:
        """Send a command and return its answer.

        Raises
        ------
        ChildFailed
            If the library raises, its process ends, or no answer comes.
        """
        assert self._process.stdin is not None
        self._signal("SIGCONT")
        try:
            line = json.dumps({"do": command, **arguments}) + "\n"
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
            answer = self._answers.get(timeout=_PATIENCE)
        except queue.Empty:
            # A late answer would be taken for that of the next command.
            self._process.kill()
            raise ChildFailed(f"no answer within {_PATIENCE:.0f} s") from None
        except OSError:
            answer = b""
        if not answer:
            raise ChildFailed(f"its process ended: {self._last_words()}")
        # A process that is not measured must not run: some libraries' threads spin while they wait.
        self._signal("SIGSTOP")
        found: dict[str, Any] = json.loads(answer)
        if "failed" in found:
            raise ChildFailed(found["failed"])
        return found

    def _signal(self, name: str) -> None:
        """Send a signal, where the system has it and the process still runs."""
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _last_words(self) -> str:
        """Return the last line that the process wrote to standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"exit status {self._process.returncode}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
