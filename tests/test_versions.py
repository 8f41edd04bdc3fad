from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn import __main__ as command_line
from fastnn import backends
from fastnn.kernels._cache import cache_folder
from fastnn.machine.system import usable_cores
from fastnn.machine.versions import versions


def test_versions_are_those_that_run():
    found = versions()
    assert found["fastnn"] == fn.__version__
    assert found["numpy"] == np.__version__
    assert found["numba"] == importlib.metadata.version("numba")
    assert found["python"].split()[0] == ".".join(map(str, sys.version_info[:3]))
    assert found["cores"] == str(usable_cores())
    assert found["kernel cache"] == str(cache_folder())
    assert all(isinstance(value, str) and value for value in found.values())


def test_settings_of_the_environment_are_shown(monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE", "0")
    monkeypatch.setenv("NUMBA_OPT", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    found = versions()
    assert found["kernel cache"] == "off"
    assert found["NUMBA_OPT"] == "2"
    assert found["OMP_NUM_THREADS"] == "3"
    assert "SECRET_TOKEN" not in found


def test_the_backend_in_force_is_shown(monkeypatch):
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    assert versions()["backend"] == "native"
    with fn.backend("reference"):
        assert versions()["backend"] == "reference"
    # What the environment said when the package was imported.
    monkeypatch.setattr(backends, "_asked", "refrence")
    assert "Did you mean 'reference'?" in versions()["backend"]


def test_a_missing_package_is_said_to_be_missing(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = versions()
    assert found["polars"] == found["numba"] == "not installed"
    assert found["fastnn"] == fn.__version__


def test_the_report_is_a_line_for_each(capsys):
    fn.show_versions()
    printed = capsys.readouterr().out
    report = io.StringIO()
    fn.show_versions(report)
    assert report.getvalue() == printed
    lines = printed.splitlines()
    assert len(lines) == len(versions())
    for line, (name, value) in zip(lines, versions().items(), strict=True):
        assert line.startswith(f"{name} ")
        assert line.endswith(f"  {value}")


def test_info_is_the_report(capsys):
    assert command_line.main(["info"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["fastnn", fn.__version__]


def test_finding_out_loads_no_compiler():
    code = "import sys, fastnn; fastnn.show_versions(sys.stderr); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_the_version_of_the_command(capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fastnn {fn.__version__}\n"
