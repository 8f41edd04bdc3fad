"""The start of a new process: imports, and a first fit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

_FIRST_FIT = """
import fastnn as fn
import numpy as np
net = fn.Sequential([fn.Dense(1)], inputs=1, dtype="{dtype}")
net.fit(np.zeros((1, 1), "{dtype}"), np.zeros(1, "{dtype}"), epochs=1, progress=False)
"""
_KEPT_IN = """
import os
os.environ["FASTNN_CACHE_DIR"] = {folder}
os.environ.pop("FASTNN_CACHE", None)
"""


def timeraw_import_numpy() -> str:
    return "import numpy"


def timeraw_import_numba() -> str:
    return "import numba"


def timeraw_import() -> str:
    return "import fastnn"


def timeraw_import_and_describe() -> str:
    return "import fastnn as fn; fn.Sequential([fn.Dense(1)], inputs=1)"


class FirstFit:
    """A first fit in a new process, imports included, with cached kernels."""

    params = ("float32", "float64")
    param_names = ("dtype",)
    timeout = 600

    def setup(self, dtype: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        environment = dict(os.environ, FASTNN_CACHE_DIR=self.folder.name)
        environment.pop("FASTNN_CACHE", None)
        command = [sys.executable, "-c", _FIRST_FIT.format(dtype=dtype)]
        subprocess.run(command, env=environment, check=True)

    def teardown(self, dtype: str) -> None:
        self.folder.cleanup()

    def timeraw_warm(self, dtype: str) -> tuple[str, str]:
        return _FIRST_FIT.format(dtype=dtype), _KEPT_IN.format(folder=repr(self.folder.name))


class FirstFitEver:
    """The same with an empty cache: everything is compiled."""

    params = ("float32", "float64")
    param_names = ("dtype",)
    rounds = 1
    repeat = 2
    timeout = 600

    def timeraw_cold(self, dtype: str) -> tuple[str, str]:
        # The folder is removed with the process.
        fresh = "import tempfile\nfolder = tempfile.TemporaryDirectory()"
        return _FIRST_FIT.format(dtype=dtype), fresh + _KEPT_IN.format(folder="folder.name")
