"""The benchmarks measure what they say, and the comparison cannot be taken in by other work."""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks
import fastnn as fn
from benchmarks import bits, cores, first_weights, measures
from benchmarks.compare import __main__ as command
from benchmarks.compare import chart, tables
from benchmarks.compare.adding import added
from benchmarks.compare.checking import Referee, WrongWork
from benchmarks.compare.children import (
    IMPORTS,
    PEERS,
    Child,
    ChildFailed,
    Program,
    is_installed,
)
from benchmarks.compare.measuring import _TOO_SLOW, Effort, Record, Team, _plan, is_trouble
from benchmarks.estimators import __main__ as estimators_command
from benchmarks.estimators import measuring as estimators_measuring
from benchmarks.estimators import tables as estimators_tables
from benchmarks.estimators import work as estimators_work
from benchmarks.workloads import SERIES, WORKLOADS, Workload

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "benchmarks" / "compare" / "peers"
EVERY = WORKLOADS | {name: w for members in SERIES.values() for name, w in members.items()}

CLASSES = Workload((6, 9, 5, 3), "relu", "softmax", 96, 16, seed=31)
TWO_CLASSES = replace(CLASSES, widths=(6, 9, 2), seed=32)
NUMBER = replace(CLASSES, widths=(6, 9, 1), last="identity", seed=33)
NUMBERS = replace(CLASSES, widths=(6, 9, 4), activation="tanh", last="identity", seed=34)
TINY = {"classes": CLASSES, "two classes": TWO_CLASSES, "number": NUMBER, "numbers": NUMBERS}

# Two short rounds: nothing is timed here, only that everything comes through.
BRIEFLY = Effort(repeats=2, least=0.001, most=0.002)


@pytest.fixture(autouse=True)
def cores_are_left():
    """Give the process its cores back, which suites keep it from."""
    before = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    yield
    if before:
        cores.keep_to(before)


# What is counted.


def test_flops_are_those_of_the_products():
    workload = Workload((3, 5, 7, 2), "relu", "softmax", 12, 4, seed=0)
    forward = 2 * 4 * (3 * 5 + 5 * 7 + 7 * 2)
    gradients = forward
    below = 2 * 4 * (5 * 7 + 7 * 2)
    assert workload.flops == forward + gradients + below
    assert workload.prediction_flops * 4 == forward
    assert workload.steps == 3
    assert replace(workload, rows=13).steps == 4


def test_flops_of_a_known_network():
    # 784-128-10, batch 128: two products of the first layer, three of the second.
    assert WORKLOADS["784-128-10 b128"].flops == 2 * 128 * (2 * 784 * 128 + 3 * 128 * 10)


@pytest.mark.parametrize("name", EVERY)
def test_every_workload_is_in_whole_batches_and_says_what_it_is(name):
    workload = EVERY[name]
    assert workload.rows % workload.batch_size == 0
    if name.startswith("3x1024"):
        assert workload.widths == (1024,) * 4
    elif "x" not in name:
        assert name.startswith("-".join(map(str, workload.widths)))
    batch = re.search(r" b(\d+)", name)
    assert batch is None or int(batch[1]) == workload.batch_size
    outputs = workload.widths[-1]
    assert (workload.last == "softmax") == (outputs > 1 and "tanh" not in name)


def test_only_one_thing_grows_in_a_series():
    for series, members in SERIES.items():
        first, *others = members.values()
        for other in others:
            changed = {
                field
                for field in ("widths", "activation", "last", "rows", "batch_size", "seed")
                if getattr(first, field) != getattr(other, field)
            }
            expected = {"batch": "batch_size", "examples": "rows"}.get(series, "widths")
            assert changed == {expected}


# The cores and the peak.


def test_a_process_is_kept_to_cores_for_a_while_only():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not keep a process to cores")
    before = os.sched_getaffinity(0)
    one = cores.physical_cores()[-1]
    assert one in before
    with cores.kept_to([one]):
        assert os.sched_getaffinity(0) == {one}
        assert cores.physical_cores() == [one]
    assert os.sched_getaffinity(0) == before


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loop_of_the_peak_does_its_multiply_adds(dtype):
    from benchmarks import peak
    from fastnn.kernels import simd

    size = peak.SUMS * (simd.BYTES // np.dtype(dtype).itemsize)
    values = np.random.default_rng(0).random(size + 2).astype(dtype)
    expected = values.copy()
    peak._multiply_add(expected, 3)
    peak.turn(values, 3)
    assert np.allclose(values, expected)
    assert np.array_equal(values[-2:], expected[-2:])


@pytest.mark.jit
def test_the_peak_is_operations_over_time(monkeypatch):
    from benchmarks import peak
    from fastnn.kernels import simd

    monkeypatch.setattr(peak, "_seconds", lambda start, turns, threads: 0.5)
    one = 2 * peak.SUMS * (simd.BYTES // 4) * 1000 / 0.5
    assert peak.fma_peak("float32", 1, repeats=1) == one
    assert peak.fma_peak("float64", 2, repeats=1) == one


@pytest.mark.jit
def test_the_peak_is_measured():
    from benchmarks import peak

    assert peak._seconds(np.full(peak.SUMS * 16 + 2, 0.5, np.float32), 10, 2) > 0.0


def test_a_share_of_the_peak_is_in_percent(monkeypatch):
    peaks = iter([50.0, 80.0])
    monkeypatch.setattr(measures, "fma_peak", lambda dtype, threads: next(peaks))
    monkeypatch.setattr(measures, "best_seconds", lambda work: 0.5)
    assert measures.share_of_peak(10.0, list, "float32", 1) == 25.0


def test_the_best_of_several_runs_counts(monkeypatch):
    runs = []

    def seconds(work, calls):
        runs.append(calls)
        return calls * (0.004 if len(runs) == 5 else 0.006)

    monkeypatch.setattr(measures, "_seconds", seconds)
    assert measures.best_seconds(list) == pytest.approx(0.004)
    assert runs[:2] == [1, 2]
    assert set(runs[2:]) == {2}


# The comparison does the same work with everybody.


@pytest.mark.jit
def test_libraries_reach_the_same_loss_and_predictions():
    with Team(["fastnn", "NumPy", "scikit-learn"], [1], {}, BRIEFLY) as team:
        for library in team.about():
            assert library["versions"], library
            assert library.get("cores") in (None, cores.physical_cores()[-1:])
        for name, workload in TINY.items():
            records = team.train(name, workload)
            assert [record.failed for record in records] == ["", "", ""]
            losses = [record.loss for record in records]
            # After more steps than those that are checked.
            assert losses == pytest.approx([losses[0]] * 3, rel=1e-2)
            assert losses[0] < Referee(workload)._value(workload.network().get_weights()).loss
            for record in records:
                assert record.flops == workload.flops
                assert record.steps % workload.steps == 0
                assert len(record.seconds) == BRIEFLY.repeats
                assert min(record.seconds) > 0.0
                assert record.first > 0.0
                assert (record.accuracy is None) == (workload.last == "identity")
            for rows in (1, 50):
                predicted = team.predict(name, workload, rows)
                assert [record.failed for record in predicted] == ["", "", ""]
                assert all(record.flops == rows * workload.prediction_flops for record in predicted)


def trained(path, workload, **changes):
    """Train by the textbook, in float32, as the referee does but for some changes."""
    net = workload.network()
    X, y = workload.data()
    asked = {"X": X, "y": y, "epochs": Referee(workload).epochs, "batch_size": 16}
    asked |= {"shuffle": False, "progress": False, "backend": "reference"} | changes
    net.fit(**asked)
    weights = net.get_weights()
    names = [f"{kind}{n}" for n in range(len(weights) // 2) for kind in "Wb"]
    np.savez(path, **dict(zip(names, weights, strict=True)))
    return path


@pytest.mark.parametrize("name", TINY)
def test_a_referee_accepts_the_textbook(tmp_path, name):
    referee = Referee(TINY[name])
    path = trained(tmp_path / "weights.npz", TINY[name])
    found = referee.check(path)
    assert found == referee.reached(path)
    assert (found.accuracy is None) == (TINY[name].last == "identity")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": fn.Adam(0.00102)},
        {"optimizer": fn.Adam(beta_1=0.0)},
        {"optimizer": fn.SGD(0.001)},
        {"epochs": 1},
        {"epochs": 3},
        {"batch_size": 12},
        {"backwards": True},
    ],
    ids=lambda changes: ", ".join(f"{key} {value}" for key, value in changes.items()),
)
def test_a_referee_finds_other_work(tmp_path, name, changes):
    X, y = TINY[name].data()
    if "backwards" in changes:
        changes = {"X": X[::-1].copy(), "y": y[::-1].copy()}
    path = trained(tmp_path / "weights.npz", TINY[name], **changes)
    with pytest.raises(WrongWork, match=r"its loss after 12 steps is [\d.]+; the textbook's is"):
        Referee(TINY[name]).check(path)


def test_weights_that_are_no_numbers_are_wrong(tmp_path):
    weights = NUMBER.network().get_weights()
    weights[0][0, 0] = np.nan
    path = tmp_path / "weights.npz"
    np.savez(path, W0=weights[0], b0=weights[1], W1=weights[2], b1=weights[3])
    with pytest.raises(WrongWork, match="its weights are not finite"):
        Referee(NUMBER).check(path)


def test_wrong_predictions_are_found(tmp_path):
    referee = Referee(CLASSES)
    X, _ = CLASSES.data()
    right = CLASSES.network().predict(X[:5], backend="reference")
    path = tmp_path / "predictions.npz"
    np.savez(path, predictions=right)
    referee.check_predictions(path, 5)
    for wrong in (right[::-1], right + 1e-3, right * np.nan):
        np.savez(path, predictions=wrong)
        with pytest.raises(WrongWork, match="its predictions are up to"):
            referee.check_predictions(path, 5)


CHEAT = """
import sys
sys.path.insert(0, {folder!r})
from serving import serve
from with_numpy import NumPy

class Cheat(NumPy):
    def train(self, epochs):
        for batch in self.case.batches[1:] * epochs:
            self._backward(self.case.X[batch], self.targets[batch])
            self._update()

serve(Cheat)
"""


def test_a_library_that_leaves_out_a_batch_is_caught(monkeypatch, tmp_path):
    program = tmp_path / "cheat.py"
    program.write_text(CHEAT.format(folder=str(PROGRAMS)), encoding="utf-8")
    monkeypatch.setitem(PEERS, "Cheat", Program(str(program), ("numpy",)))
    with Team(["NumPy", "Cheat"], [1], {}, BRIEFLY) as team:
        honest, cheat = team.train("classes", CLASSES)
    assert not honest.failed
    assert re.match(r"its loss after 12 steps is [\d.]+; the textbook's is", cheat.failed)
    assert cheat.seconds == []
    assert is_trouble(cheat.as_json())
    assert not is_trouble(honest.as_json())


def test_a_failure_is_told_and_the_others_go_on(monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name", encoding="utf-8")
    raising = tmp_path / "raising.py"
    raising.write_text(
        CHEAT.format(folder=str(PROGRAMS)).replace("self._update()", "1 / 0"),
        encoding="utf-8",
    )
    monkeypatch.setitem(PEERS, "Broken", Program(str(broken), ()))
    monkeypatch.setitem(PEERS, "Raising", Program(str(raising), ()))
    with Team(["Broken", "Raising", "NumPy"], [1], {}, BRIEFLY) as team:
        about = team.about()
        records = team.train("number", NUMBER)
    assert "No module named 'nothing_of_that_name'" in about[0]["failed"]
    assert "its process ended" in records[0].failed
    assert records[1].failed == "ZeroDivisionError: division by zero"
    assert records[2].failed == ""
    assert len(records[2].seconds) == BRIEFLY.repeats


def test_a_library_that_does_not_train_is_asked_for_predictions_only(monkeypatch):
    monkeypatch.setitem(PEERS, "Oracle", replace(PEERS["NumPy"], trains=False))
    with Team(["Oracle"], [1], {}, BRIEFLY) as team:
        assert team.train("number", NUMBER) == []
        (record,) = team.predict("number", NUMBER, 3)
    assert record.failed == ""


@pytest.mark.jit
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("peer", IMPORTS)
def test_imported_networks_predict_what_their_own_libraries_do(peer, name):
    if not (is_installed(peer) and is_installed(peer, imports=True)):
        pytest.skip(f"{peer} is not installed")
    with Team([peer, "NumPy"], [1], {}, BRIEFLY, [peer]) as team:
        # Another network's file must not remain.
        team.predict_imported("before", replace(TINY[name], seed=35), 2)
        for rows in (1, 50):
            ours, *theirs = team.predict_imported(name, TINY[name], rows)
            assert (ours.peer, ours.variant) == ("fastnn", peer)
            assert {record.peer for record in theirs} == {peer}
            for record in (ours, theirs[0]):
                assert record.failed == ""
                assert record.kind == f"imported prediction of {rows}"
                assert record.flops == rows * TINY[name].prediction_flops
                assert len(record.seconds) == BRIEFLY.repeats


FOREIGN = """
import sys
sys.path.insert(0, {folder!r})
from serving import serve
from with_imports import Imports

class Foreign(Imports):
    def predictor(self, case):
        predict = super().predictor(case)
        return lambda: predict()[::-1]

serve(Foreign)
"""


@pytest.mark.jit
def test_an_import_that_computes_something_else_is_caught(monkeypatch, tmp_path):
    (peer, *_) = [peer for peer in IMPORTS if is_installed(peer, imports=True)] or [""]
    if not peer:
        pytest.skip("nothing that fastnn imports from is installed")
    program = tmp_path / "foreign.py"
    program.write_text(FOREIGN.format(folder=str(PROGRAMS)), encoding="utf-8")
    monkeypatch.setitem(IMPORTS, peer, Program(str(program), IMPORTS[peer].modules))
    with Team([], [1], {}, BRIEFLY, [peer]) as team:
        (record,) = team.predict_imported("classes", CLASSES, 5)
    assert "its predictions are up to" in record.failed


def test_what_a_child_prints_is_no_answer(monkeypatch, tmp_path):
    program = tmp_path / "talkative.py"
    program.write_text(
        CHEAT.format(folder=str(PROGRAMS)).replace(
            "class Cheat(NumPy):", "class Cheat(NumPy):\n    def versions(self):\n"
            "        print('good morning')\n        return {'talk': '1'}\n"
        ),
        encoding="utf-8",
    )  # fmt: skip
    monkeypatch.setitem(PEERS, "Talkative", Program(str(program), ()))
    with Child("Talkative") as child:
        assert child.ask("about")["versions"] == {"talk": "1"}
        with pytest.raises(ChildFailed, match="no_such_command"):
            child.ask("no_such_command")
        assert child.ask("about")["versions"] == {"talk": "1"}


def test_more_threads_than_cores_are_refused():
    count = len(cores.physical_cores())
    with pytest.raises(ValueError, match=f"at most the {count} physical cores"):
        Team(["NumPy"], [count + 1], {}, BRIEFLY)


def test_a_child_takes_its_threads_from_every_variable(monkeypatch):
    from benchmarks.compare.children import environment

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = environment("NumPy", 2)
    names = [name for name in found if name.endswith("_NUM_THREADS")]
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} <= set(names)
    assert {found[name] for name in names} == {"2"}
    assert "multi_thread_eigen=false" in environment("JAX", 1)["XLA_FLAGS"]


def test_who_is_not_installed_is_known(monkeypatch):
    assert is_installed("NumPy")
    assert not is_installed("NumPy", python="/no/such/python")
    nobody = Program("with_numpy.py", ("numpy", "no_such_module"))
    monkeypatch.setitem(PEERS, "Nobody", nobody)
    assert not is_installed("Nobody")
    monkeypatch.setitem(IMPORTS, "NumPy", nobody)
    assert not is_installed("NumPy", imports=True)
    assert command._importable(["NumPy"], {}) == []
    monkeypatch.setitem(IMPORTS, "NumPy", Program("with_numpy.py", ("fastnn",)))
    assert command._importable(["NumPy", "JAX"], {}) == ["NumPy"]
    assert command._importable(["NumPy"], {"fastnn": "/no/such/python"}) == []


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("with_*.py")), ids=lambda path: path.stem)
def test_a_program_imports_numpy_and_its_library_only(path):
    every = (*PEERS.values(), *IMPORTS.values())
    modules = {name for found in every if found.file == path.name for name in found.modules}
    imported = set(re.findall(r"^(?:import|from) ([\w]+)", path.read_text(encoding="utf-8"), re.M))
    ours = imported - set(sys.stdlib_module_names) - {"numpy", "serving"}
    # NumPy's loop needs nothing else; scikit-learn brings threadpoolctl, and fastnn Numba.
    assert modules
    assert ours <= {*modules, "with_fastnn", "threadpoolctl", "numba"}


# How much everybody trains.


def entrant(peer, threads, unit):
    from benchmarks.compare.measuring import _Entrant

    record = Record("training", "x", peer, "", threads, 1.0)
    return _Entrant(None, record, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("units", "epochs"),
    [
        # As many as fill the least time of the fastest, in round numbers.
        ({("fastnn", 1): 0.001, ("NumPy", 1): 0.002}, 100),
        ({("fastnn", 1): 0.0015, ("NumPy", 1): 0.002}, 50),
        # Not more than the slowest library takes in the most time; one at least.
        ({("fastnn", 1): 0.001, ("NumPy", 1): 0.1}, 20),
        ({("fastnn", 1): 3.0, ("NumPy", 1): 9.0}, 1),
        # A library's slower way does not count, unless it is fastnn's.
        ({("fastnn", 1): 0.001, ("NumPy", 1): 0.002, ("NumPy", 2): 0.1}, 100),
        ({("fastnn", 1): 0.001, ("NumPy", 1): 0.002, ("fastnn", 2): 0.1}, 20),
    ],
)
def test_everybody_trains_as_many_epochs(units, epochs):
    entrants = [entrant(*who, unit) for who, unit in units.items()]
    assert _plan(entrants, Effort(repeats=1, least=0.1, most=2.0), 8)[0] == epochs


def test_a_timed_training_has_its_least_steps():
    entrants = [entrant("fastnn", 1, 3.0), entrant("NumPy", 1, 9.0)]
    for steps, epochs in ((4, 5), (16, 1), (1, 20), (32, 1)):
        assert _plan(entrants, Effort(1, least=0.1, most=2.0, steps=20), steps)[0] == epochs


# The tables.


def record(peer, threads, seconds, name="64-100-10 b200", kind="training", **changes):
    """Return a record as it stands in the results."""
    found = Record(kind, name, peer, "", threads, flops=1e6, first=1.0, seconds=seconds)
    return replace(found, **changes).as_json()


@pytest.fixture
def results():
    return {
        "date": "2020-02-02",
        "machine": {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3.12.0"},
        "settings": {"repeats": 3},
        "peak": {"1": 1e11, "2": 2e11},
        "libraries": [
            {"peer": "fastnn", "variant": "", "threads": 1, "versions": {"fastnn": "1.2"}},
            {"peer": "NumPy", "variant": "", "threads": 1, "versions": {"numpy": "2.0"},
             "product": 7e10},
        ],
        "records": [
            record("fastnn", 1, [40e-6, 44e-6, 42e-6], loss=0.25, accuracy=0.913),
            record("fastnn", 2, [30e-6, 20e-6, 25e-6], loss=0.25, accuracy=0.913),
            record("NumPy", 1, [84e-6, 84e-6, 84e-6], loss=0.25, accuracy=0.912),
            record("NumPy", 2, [126e-6] * 3, loss=0.25, accuracy=0.912),
            record("JAX", 1, [63e-6] * 3, loss=0.25, accuracy=0.913),
            record("JAX", 2, [], failed="JAX fell over"),
            record("fastnn", 1, [1.25e-6] * 3, kind="prediction of 1", name="8-64-64-2"),
            record("NumPy", 1, [5e-6] * 3, kind="prediction of 1", name="8-64-64-2"),
            record("fastnn", 1, [2e-3] * 3, name="64-8-8-10 b128", loss=0.1234),
        ],
    }  # fmt: skip


def cells(text, heading, name):
    """Return the cells of a row in the table below a heading."""
    table = text.split(f"**{heading}**")[1].split("**")[0]
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_a_table_shows_medians_and_the_best_peer(results):
    text = tables.render(results, ["training"])
    assert cells(text, "Training, one thread: us per step", "64-100-10 b200") == [
        "42 (91.3%)", "63 (91.3%)", "84 (91.2%)", "1.50x JAX", "23.8", "24%",
    ]  # fmt: skip
    assert "JAX fell over" not in text.split("2 threads")[0]


def test_with_more_threads_a_peer_keeps_its_better_time_and_fastnn_does_not(results):
    text = tables.render(results, ["training"])
    heading = "Training, 2 threads: us per step"
    assert cells(text, heading, "64-100-10 b200") == [
        "25 (91.3%)", "63 (91.3%)", "84 (91.2%)", "2.52x JAX", "40", "20%",
    ]  # fmt: skip
    assert "- JAX on 64-100-10 b200: JAX fell over" in text
    results["records"] = [
        r for r in results["records"] if (r["peer"], r["threads"]) != ("fastnn", 2)
    ]
    results["records"].append(record("fastnn", 2, [], failed="no threads"))
    text = tables.render(results, ["training"])
    assert cells(text, heading, "64-100-10 b200")[0] == "-"
    assert cells(text, heading, "64-100-10 b200")[3:] == ["-", "-", "-"]


def test_a_slower_way_of_a_library_is_left_out_without_a_word(results):
    slower = record("PyTorch", 1, [], failed=_TOO_SLOW.format(9e3), variant="compiled")
    assert not is_trouble(slower)
    results["records"] += [slower, record("PyTorch", 1, [50e-6], variant="eager")]
    text = tables.render(results, ["training"])
    assert cells(text, "Training, one thread: us per step", "64-100-10 b200")[1] == "50"
    assert "compiled" not in text


def test_predictions_and_growth_have_tables(results):
    results["records"] += [
        record("fastnn", 1, [2e-6] * 3, kind="prediction of 1000", name="8-64-64-2"),
        record("NumPy", 2, [7e-6] * 3, kind="prediction of 1000", name="8-64-64-2"),
    ]
    text = tables.render(results, ["prediction", "growth"])
    heading = "Predicting, one thread: us per call, and against the best"
    assert cells(text, heading, "network") == ["1 row", "1,000 rows"]
    assert cells(text, heading, "8-64-64-2") == ["1.25 (4.00x NumPy)", "2"]
    rows = tables.render(results, ["rows"])
    heading = "Predicting with 8-64-64-2, one thread: us per call"
    assert cells(rows, heading, "1") == ["1.25", "5", "4.00x NumPy", "800", "800%"]
    assert cells(rows, heading, "1,000") == ["2", "-", "-", "500", "500%"]
    heading = "Predicting with 8-64-64-2, 2 threads: us per call"
    assert cells(rows, heading, "1,000") == ["-", "7", "-", "-", "-"]
    assert "![" not in rows
    assert "](a-rows.svg)" in tables.render(results | {"rows_chart": "a-rows.svg"}, ["rows"])
    row = cells(text, "Growth with width, one thread: us per step", "64-8-8-10 b128")
    assert row[0] == "2,000 (0.123)"
    assert row[-3:] == ["-", "0.5", "0%"]
    assert "64-100-10 b200" not in text


def test_imported_networks_stand_beside_their_own_libraries(results):
    assert tables.render(results, ["imported"]) == ""
    for threads, ours, theirs in ((1, 4e-6, 6e-6), (2, 5e-6, 12e-6)):
        for rows in (64, 1):
            kind = f"imported prediction of {rows}"
            asked = {"kind": kind, "name": "8-64-64-2"}
            results["records"] += [
                record("fastnn", threads, [ours], variant="ONNX Runtime", **asked),
                record("fastnn", threads, [1e-6], variant="PyTorch", **asked),
                record("ONNX Runtime", threads, [theirs], **asked),
            ]
    asked |= {"name": "64-256-256-10", "flops": 2e6}
    results["records"] += [
        record("fastnn", 1, [], variant="ONNX Runtime", failed="fell over", **asked),
        record("ONNX Runtime", 1, [7e-6], **asked),
    ]
    text = tables.render(results, ["imported"])
    assert "PyTorch" not in text
    heading = "Imported networks, one thread: us per call"
    titles = ["rows", "from ONNX, here", "ONNX Runtime", "against it"]
    assert cells(text, heading, "network") == titles
    assert cells(text, heading, "8-64-64-2 | 1") == ["1", "4", "6", "1.50x"]
    assert cells(text, heading, "8-64-64-2 | 64") == ["64", "4", "6", "1.50x"]
    assert cells(text, heading, "64-256-256-10 | 1") == ["1", "-", "7", "-"]
    assert "- fastnn ONNX Runtime on 64-256-256-10: fell over" in text
    # The other library keeps its better number of threads.
    heading = heading.replace("one thread", "2 threads")
    assert cells(text, heading, "8-64-64-2 | 1") == ["1", "5", "6", "1.20x"]
    # They are no predictions of networks that were made here.
    assert "Predicting with 64-256-256-10" not in tables.render(results, ["rows"])
    assert tables.rows_of(results) == [1]


def test_the_machine_is_named(results):
    text = tables.render(results, ["machine"])
    for part in ("A CPU, 2 cores, Linux, Python 3.12.0; 2020-02-02", "fastnn 1.2, numpy 2.0",
                 "100 GFLOP/s on one thread, 200 GFLOP/s on 2 threads", "NumPy 70"):  # fmt: skip
        assert part in text


def test_the_spread_is_between_quartiles():
    found = record("NumPy", 1, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert found["median"] == 3.0
    assert found["spread"] == pytest.approx(1 / 3)
    assert record("NumPy", 1, [2.0])["spread"] == 0.0


PLACE = """# Title

before `<!-- benchmarks: training -->` and `<!-- benchmarks: end -->`
<!-- benchmarks: machine training -->
old
<!-- benchmarks: end -->
between
<!-- benchmarks: chart -->
<!-- benchmarks: end -->
after
"""


def test_tables_go_where_a_file_has_places(tmp_path, results):
    path = tmp_path / "page.md"
    path.write_text(PLACE, encoding="utf-8")
    results["chart"] = str(tmp_path / "docs" / "chart.svg")
    tables.fill(path, results)
    once = path.read_text(encoding="utf-8")
    assert once.startswith(PLACE.split("old")[0])
    assert once.endswith("<!-- benchmarks: end -->\nafter\n")
    assert "old" not in once
    assert tables.render(results, ["machine", "training"]) in once
    assert "](docs/chart.svg)" in once
    tables.fill(path, results)
    assert path.read_text(encoding="utf-8") == once


def test_a_place_for_work_that_was_not_measured_stays_as_it_is(tmp_path, results):
    path = tmp_path / "page.md"
    path.write_text(PLACE.replace("chart -->", "machine rows -->"), encoding="utf-8")
    results["records"] = [r for r in results["records"] if r["kind"] != "training"]
    tables.fill(path, results)
    filled = path.read_text(encoding="utf-8")
    assert "<!-- benchmarks: machine training -->\nold\n<!-- benchmarks: end -->" in filled
    assert "Predicting with 8-64-64-2" in filled
    assert filled.count("A CPU") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing here", "expected a place for tables"),
        ("<!-- benchmarks: trainings -->\n<!-- benchmarks: end -->", "sections are machine"),
    ],
)
def test_a_file_without_a_right_place_is_refused(tmp_path, results, text, message):
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        tables.fill(path, results)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", ["docs/speed.md", "docs/benchmarks.md"])
def test_the_documents_have_places(tmp_path, results, path):
    copy = tmp_path / "copy.md"
    copy.write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    tables.fill(copy, results)
    assert "A CPU, 2 cores" in copy.read_text(encoding="utf-8")


def test_the_chart_is_drawn_and_the_same_twice(tmp_path, results):
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        chart.draw(tmp_path / name, results)
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "64-100-10 b200" in drawn
    assert "2 threads" in drawn
    assert drawn == (tmp_path / "b.svg").read_text(encoding="utf-8")
    results["records"] = results["records"][-1:]
    with pytest.raises(ValueError, match="needs a workload"):
        chart.draw(tmp_path / "c.svg", results)


def test_the_chart_of_rows_has_a_panel_for_each_network(tmp_path, results):
    pytest.importorskip("matplotlib")
    for network in ("8-64-64-2", "64-256-256-10"):
        for rows in (1, 16):
            results["records"] += [
                record("fastnn", 2, [2e-6], kind=f"prediction of {rows}", name=network),
                record("NumPy", 1, [7e-6], kind=f"prediction of {rows}", name=network),
            ]
    for name in ("a.svg", "b.svg"):
        chart.draw_rows(tmp_path / name, results)
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(text in drawn for text in ("8-64-64-2", "64-256-256-10", "2 threads"))
    assert "784-512-512-10" not in drawn
    assert drawn == (tmp_path / "b.svg").read_text(encoding="utf-8")
    results["records"] = [r for r in results["records"] if r["kind"] == "training"]
    with pytest.raises(ValueError, match="needs predictions"):
        chart.draw_rows(tmp_path / "c.svg", results)


# The command.


@pytest.mark.jit
def test_the_command_measures_checks_and_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "WORKLOADS", {"classes": CLASSES})
    monkeypatch.setattr(command, "NETWORKS", {"number": NUMBER})
    monkeypatch.setattr(command, "_ROWS", (1,))
    monkeypatch.setattr(command, "QUICK", BRIEFLY)
    monkeypatch.setattr(command, "fma_peak", lambda dtype, threads: 1e11 * threads)
    output = tmp_path / "folder" / "results.json"
    page = tmp_path / "page.md"
    page.write_text(PLACE, encoding="utf-8")
    arguments = ["--quick", "--peers", "numpy", "--threads", "1", "--output", str(output)]
    assert command.main([*arguments, "--write", str(page)]) == 0
    results = json.loads(output.read_text(encoding="utf-8"))
    assert [(r["kind"], r["name"], r["peer"], r["failed"]) for r in results["records"]] == [
        ("training", "classes", "fastnn", ""),
        ("training", "classes", "NumPy", ""),
        ("prediction of 1", "number", "fastnn", ""),
        ("prediction of 1", "number", "NumPy", ""),
    ]
    assert "Predicting with number" in capsys.readouterr().out
    # Predictions alone, added to what is there.
    more = ["--rows", "4", "--add", "--chart", str(tmp_path / "chart.svg")]
    charts = tmp_path / "chart.svg", tmp_path / "chart-rows.svg"
    monkeypatch.setattr(chart, "NETWORKS", {"number": NUMBER})
    monkeypatch.setattr(chart, "WORKLOADS", {"classes": CLASSES})
    assert command.main([*arguments, *more]) == 0
    assert all(path.exists() for path in charts)
    results = json.loads(output.read_text(encoding="utf-8"))
    kinds = ["training"] * 2 + ["prediction of 1"] * 2 + ["prediction of 4"] * 2
    assert [r["kind"] for r in results["records"]] == kinds
    assert "Predicting, one thread" in capsys.readouterr().out
    # Imported networks alone: none, as NumPy has none.
    assert command.main([*arguments, "--imported"]) == 0
    assert json.loads(output.read_text(encoding="utf-8"))["records"] == []
    # Shown again without measuring; a failure is a failure then too.
    results["records"][0]["failed"] = "fell over"
    output.write_text(json.dumps(results), encoding="utf-8")
    assert command.main(["--results", str(output)]) == 1


def test_results_of_parts_stand_together(results):
    again = record("NumPy", 1, [1e-6], kind="prediction of 1", name="8-64-64-2")
    later = results | {"records": [again], "peak": {"1": 9e10, "2": 3e11}, "date": "2020-02-03"}
    found = added(results, later)
    assert found["peak"] == {"1": 1e11, "2": 3e11}
    assert found["date"] == "2020-02-03"
    assert found["libraries"] == results["libraries"]
    assert len(found["records"]) == len(results["records"])
    assert tables.best_of(found, "prediction of 1", "8-64-64-2", "NumPy", 1)["median"] == 1e-6
    for changes, message in (
        ({"machine": {"cpu": "B"}}, "of the same machine"),
        ({"settings": {"repeats": 5}}, "of the same settings"),
        ({"libraries": [{"peer": "JAX", "variant": "", "threads": 1,
                         "versions": {"numpy": "2.1"}}]}, r"got numpy 2\.0 and 2\.1"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=message):
            added(results, later | changes)


def test_the_best_peak_of_a_measurement_counts(monkeypatch):
    peaks = iter([3.0, 5.0, 4.0, 4.0])
    monkeypatch.setattr(command, "fma_peak", lambda dtype, threads: next(peaks))
    peak = command._Peak([1, 2])
    peak.measure()
    assert peak.best == {1: 4.0, 2: 5.0}


@pytest.mark.parametrize(
    ("only", "series", "expected"),
    [
        (["*"], False, list(WORKLOADS)),
        (["*"], True, list(EVERY)),
        (["batch"], False, list(SERIES["batch"])),
        (["784-*"], True, ["784-128-10 b128", "784-512-512-10 b128"]),
        (["64-100-10 b8"], False, ["64-100-10 b8"]),
        (["8-64-64-2"], True, []),
    ],
)
def test_work_is_chosen_by_name(only, series, expected):
    assert [name for name, _ in command._trainings(only, series)] == expected


@pytest.mark.parametrize(
    ("arguments", "trainings", "rows", "imported"),
    [
        ([], True, command._ROWS, command._IMPORTED_ROWS),
        (["--rows"], False, command._ROWS, ()),
        (["--rows", "4", "9"], False, (4, 9), ()),
        (["--imported"], False, (), command._IMPORTED_ROWS),
        (["--imported", "--rows", "4"], False, (), (4,)),
    ],
)
def test_parts_of_the_work_are_chosen(arguments, trainings, rows, imported):
    asked = command._asked(command._parser().parse_args(arguments))
    assert (asked.trainings, asked.rows, asked.imported) == (trainings, rows, imported)


def test_libraries_are_chosen_however_they_are_spelt(monkeypatch, capsys):
    monkeypatch.setattr(command, "is_installed", lambda peer, python: peer != "JAX")
    parse = command._parser().parse_args
    assert command._chosen_peers(parse(["--peers", "onnxruntime", "scikit_learn"])) == [
        "fastnn", "scikit-learn", "ONNX Runtime",
    ]  # fmt: skip
    assert "JAX" not in command._chosen_peers(parse([]))
    assert "not installed: JAX" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="JAX is not installed"):
        command._chosen_peers(parse(["--peers", "jax"]))
    assert parse(["--python", "pytorch=/a/b=c"]).python == [("PyTorch", "/a/b=c")]
    for wrong in (["--peers", "torchy"], ["--python", "pytorch"], ["--threads", "0"]):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert "torchy" in capsys.readouterr().err


# The estimators beside scikit-learn's.

TINY_FIT = estimators_work.Work(
    "iris", {"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0, "tol": 0.0}
)
TINY_LBFGS = replace(TINY_FIT, parameters={**TINY_FIT.parameters, "solver": "lbfgs"})
TINY_SEARCH = estimators_work.Search(TINY_FIT, {"alpha": [1e-4, 1e-2]}, folds=2)
ONCE = estimators_measuring.Effort(rounds=2, searches=1, least=0.001, seeds=2)
ONE_CORE = [1]


@pytest.mark.jit
def test_both_libraries_fit_predict_and_score_alike():
    with estimators_measuring.Pair(ONE_CORE, ONCE) as pair:
        assert {"fastnn", "numba", "numpy", "scikit-learn"} <= pair.versions().keys()
        for dtype in estimators_measuring.DTYPES:
            for work in (TINY_FIT, TINY_LBFGS):
                theirs, ours = pair.fit("a fit", work, dtype)
                assert (theirs.library, ours.library) == ("scikit-learn", "fastnn")
                assert (theirs.failed, ours.failed) == ("", "")
                assert ours.reached == pytest.approx(theirs.reached, rel=work.tolerance[dtype])
                assert len(theirs.seconds) == len(ours.seconds) == ONCE.rounds
                assert min(theirs.seconds + ours.seconds) > 0.0
            records = pair.predict("a prediction", TINY_FIT, dtype, rows=3)
            assert [record.failed for record in records] == ["", ""]
        (theirs, ours) = pair.search("a search", TINY_SEARCH, "float64")
        assert (theirs.failed, ours.failed) == ("", "")
        assert ours.reached == pytest.approx(theirs.reached, abs=1e-9)
        scores = pair.scores("iris", TINY_FIT)["scores"]
        assert scores["fastnn"] == scores["scikit-learn"]
        assert len(scores["fastnn, float32"]) == ONCE.seeds
        assert all(0.0 <= score <= 1.0 for score in scores["fastnn, float32"])


def test_estimators_with_more_threads_than_cores_are_refused():
    count = len(cores.physical_cores())
    with pytest.raises(ValueError, match=f"at most the {count} physical cores"):
        estimators_measuring.Pair([count + 1], ONCE)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"loss": 0.5, "epochs": 9}, "it took 9 epochs; scikit-learn took 10"),
        ({"loss": 0.51, "epochs": 10}, "its loss is 0.51; scikit-learn's is 0.5"),
        ({"loss": float("nan"), "epochs": 10}, "its loss is nan; scikit-learn's is 0.5"),
        ({"loss": 0.5000001, "epochs": 10}, ""),
        ({"score": 0.9}, "its score is 0.9000; scikit-learn's is 0.8000"),
        ({"predictions": [1, 2, 4]}, "33.33% of its predictions are not scikit-learn's"),
        ({"predictions": [1, 2, 3]}, ""),
    ],
)
def test_other_work_of_an_estimator_is_found(result, message):
    reference = {"loss": 0.5, "epochs": 10, "score": 0.8, "predictions": [1, 2, 3]}
    same = {name: reference[name] for name in result}
    assert estimators_measuring._difference(result, same, 1e-6) == message


def test_more_threads_that_only_slow_scikit_learn_down_are_left_out():
    records = [
        estimators_measuring.Record("fit", "a fit", "float32", library, threads)
        for threads in (1, 2)
        for library in estimators_measuring.LIBRARIES
    ]
    children = [SimpleNamespace(peer=record.library) for record in records]
    teams = list(zip(children, records, strict=True))
    units = {id(child): seconds for child, seconds in zip(children, (1, 1, 3, 3), strict=True)}
    estimators_measuring._leave_out(teams, units)
    assert [record.left_out for record in records] == [False, False, True, False]


def timed(library, threads, seconds, name="adam", dtype="float32", **changes):
    """Return a record of an estimator as it stands in the results."""
    found = estimators_measuring.Record("fit", name, dtype, library, threads, seconds)
    return replace(found, **changes).as_json()


@pytest.fixture
def estimated():
    scores = {
        "scikit-learn": [0.8, 0.9, 0.7],
        "fastnn": [0.8, 0.9, 0.7],
        "fastnn, float32": [0.83, 0.9, 0.73],
    }
    return {
        "date": "2020-02-02",
        "machine": {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3.12.0"},
        "settings": {"rounds": 3, "searches": 1},
        "versions": {"fastnn": "1.2", "scikit-learn": "1.9"},
        "records": [
            timed("scikit-learn", 1, [0.4, 0.5, 0.6]),
            timed("fastnn", 1, [0.04, 0.04, 0.04]),
            timed("scikit-learn", 2, [0.9, 0.9, 0.9]),
            timed("fastnn", 2, [0.2, 0.2, 0.2]),
            timed("scikit-learn", 1, [0.01], dtype="float64"),
            timed("fastnn", 1, [0.02], dtype="float64", failed="its loss is wrong"),
            timed("scikit-learn", 2, [0.01], dtype="float64"),
            timed("fastnn", 2, [0.004], dtype="float64"),
        ],
        "scores": [
            {"name": "moons", "kind": "classifier", "scores": scores},
            {"name": "diabetes", "kind": "regressor", "scores": scores},
        ],
    }


def test_ratios_are_of_medians_against_scikit_learn_s_best(estimated):
    lines = estimators_tables.render(estimated, ["speed"]).splitlines()
    assert lines[0] == (
        "|  | float32, one core | float32, 2 cores | float64, one core | float64, 2 cores |"
    )
    # With two threads scikit-learn keeps its better time, fastnn does not.
    assert lines[2] == "| adam | 12x | 2.5x | - | 2.5x |"
    assert "- fastnn, adam, float64, one core: its loss is wrong." in lines
    assert estimators_tables.is_trouble(estimated)
    estimated["records"] = [r for r in estimated["records"] if not r["failed"]]
    assert not estimators_tables.is_trouble(estimated)


def test_times_are_in_milliseconds(estimated):
    one, two = estimators_tables.render(estimated, ["times"]).split("**Milliseconds, ")[1:]
    assert one.startswith("one core**")
    assert "| adam | 500 | 40 | 10 | - |" in one
    assert "| adam | 500 | 200 | 10 | 4 |" in two


def test_scores_stand_beside_their_noise(estimated):
    text = estimators_tables.render(estimated, ["accuracy"])
    assert (
        "| moons (accuracy) | 0.8000 ± 0.0577 | 0.8000 ± 0.0577 | 0 | 0 "
        "| 0.8200 ± 0.0493 | +0.0200 | +2.0 |"
    ) in text
    assert "| diabetes (R²) |" in text
    assert "Means over 3 seeds" in text
    estimated["scores"] = []
    assert estimators_tables.render(estimated, ["accuracy"]) == ""


def test_the_machine_of_the_estimators_is_named(estimated):
    text = estimators_tables.render(estimated, ["machine"])
    assert "A CPU, 2 cores, Linux, Python 3.12.0; 2020-02-02." in text
    assert "fastnn 1.2, scikit-learn 1.9." in text


@pytest.mark.parametrize("path", ["docs/speed.md", "docs/benchmarks.md"])
def test_the_documents_have_places_for_the_estimators(tmp_path, estimated, path):
    copy = tmp_path / "copy.md"
    text = (ROOT / path).read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    estimators_tables.fill(copy, estimated)
    found = copy.read_text(encoding="utf-8")
    assert "| adam |" in found
    # The other command's places are left as they are.
    for line in text.split("<!-- benchmarks: machine")[1].split("<!-- benchmarks: end")[0].split():
        assert line in found
    estimators_tables.fill(copy, estimated)
    assert copy.read_text(encoding="utf-8") == found


@pytest.mark.jit
def test_the_command_for_estimators_measures_and_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(estimators_command, "FITS", {"a fit": TINY_FIT})
    monkeypatch.setattr(estimators_command, "PREDICTIONS", {"a prediction": (TINY_FIT, 2)})
    monkeypatch.setattr(estimators_command, "SEARCHES", {"a search": TINY_SEARCH})
    monkeypatch.setattr(estimators_command, "SCORED", {"iris": TINY_FIT})
    monkeypatch.setattr(estimators_command, "QUICK", ONCE)
    output, page = tmp_path / "folder" / "results.json", tmp_path / "page.md"
    page.write_text("<!-- estimators: speed accuracy -->\n<!-- estimators: end -->\n", "utf-8")
    arguments = ["--quick", "--threads", "1", "--only", "a *", "--output", str(output)]
    assert estimators_command.main([*arguments, "--write", str(page)]) == 0
    results = json.loads(output.read_text(encoding="utf-8"))
    assert [(r["kind"], r["dtype"], r["library"]) for r in results["records"]] == [
        (kind, dtype, library)
        for kind in ("fit", "predict", "search")
        for dtype in ("float32", "float64")
        for library in ("scikit-learn", "fastnn")
    ]
    assert results["scores"] == []
    assert "| a prediction |" in page.read_text(encoding="utf-8")
    assert "| a search |" in capsys.readouterr().out
    results["records"][1]["failed"] = "fell over"
    output.write_text(json.dumps(results), encoding="utf-8")
    assert estimators_command.main(["--results", str(output)]) == 1


def test_the_work_of_the_estimators_is_there():
    asked = [*estimators_work.FITS.values(), *estimators_work.SCORED.values()]
    asked += [work for work, _ in estimators_work.PREDICTIONS.values()]
    asked += [search.work for search in estimators_work.SEARCHES.values()]
    assert {work.data for work in asked} == estimators_work.DATA.keys()
    for name, make in estimators_work.DATA.items():
        X, y = make()
        assert X.shape[0] == len(y)
        assert np.isfinite(X.sum()), name
    for search in estimators_work.SEARCHES.values():
        assert search.folds * np.prod([len(values) for values in search.grid.values()]) == 40
    assert len(estimators_work.SCORED) == 10


# The suites.


def suites():
    """Yield every class and function that asv would run."""
    for found in pkgutil.iter_modules(benchmarks.__path__):
        if found.name.startswith("test_") or found.ispkg:
            continue
        module = import_module(f"benchmarks.{found.name}")
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
                continue
            if inspect.isclass(value):
                methods = [m for m in dir(value) if re.match("(time|timeraw|track|peakmem)_", m)]
                if methods:
                    yield value, methods
            elif name.startswith("timeraw_"):
                yield value, []


# The cheapest parameters of each suite; what starts processes of its own is left to `asv check`.
CHEAPEST = {
    "AskedStep": ("l1", "float32"),
    "AverageStep": ("EMA", "float32"),
    "Batch": (8,),
    "Chosen": ("8-32-32-1 b32",),
    "ChosenRow": ("8-64-64-2",),
    "Depth": (1,),
    "Derivative": ("jacobian",),
    "Epoch": ("8-32-32-1 b32", "float32", 1),
    "EpochEnd": ("20-50-1, 100 rows", "float32", 1, "validation"),
    "Examples": (1024,),
    "FitEstimator": ("adam, 64-(100)-10, batch 200", "float32", 1),
    "FitSparse": ("sgd, 20,000 sparse-(100)-5, batch 200", "float32"),
    "Frozen": ("8-64-64-2", "bfloat16", 1, 1),
    "InsideALoop": ("8-64-64-2", "float32"),
    "LayerStep": ("LayerNorm", "float32"),
    "LossStep": ("smoothed", "float32"),
    "OwnStep": ("own silu", "float32"),
    "ManyRows": ("8-64-64-2", "float32", 1),
    "ManyVectors": (1, "float32", 1),
    "OneAtATime": ("8-32-32-1 b32", 1, "float32"),
    "OneCall": ("fastnn", "step", 1),
    "OneRow": ("8-64-64-2", "float32"),
    "PartialFit": (1, "float32"),
    "Peak": ("float32", 1),
    "PredictFrame": ("float32",),
    "PredictSparse": ("predict, 20,000 sparse-(100)-5, one row", "float32"),
    "PredictWithEstimator": ("predict, 64-(100)-10, one row", "float32"),
    "Products": ("32 x 32", "step", "float32", 1),
    "Reading": ("30-64-64-2", "blocks"),
    "Resuming": ("8-32-32-1",),
    "RuleStep": ("Lion", "float32"),
    "ScaledTargets": (True, 1, "float32"),
    "Files": ("8-64-64-2", "fastnn"),
    "Imported": ("8-64-64-2", 1, "fastnn"),
    "TorchFiles": ("torch_zip.pt",),
    "Search": ("wave", "lbfgs"),
    "SomeRows": ("8-64-64-2", 4, "float32", 1),
    "Width": (8,),
    "WithDropout": (True, 1, "float32"),
}
ELSEWHERE = {"Beside", "Busy", "ChosenImport", "FirstFit", "FirstFitEver", "Fit", "Reached"}


def test_every_suite_is_known_here():
    names = {suite.__name__ for suite, methods in suites() if methods}
    assert names == CHEAPEST.keys() | ELSEWHERE


@pytest.mark.parametrize("suite", [s for s, _ in suites()], ids=lambda suite: suite.__name__)
def test_a_suite_is_as_asv_wants_it(suite):
    if not inspect.isclass(suite):
        assert isinstance(suite(), str)
        return
    found = suite()
    assert len(found.params) == len(found.param_names) or len(found.param_names) == 1
    for name in dir(found):
        if name.startswith("track_"):
            assert getattr(found, name).unit


@pytest.mark.jit
def test_sparse_examples_reach_both_libraries(monkeypatch):
    made = estimators_work._sparse(50, 30, 4)
    monkeypatch.setitem(estimators_work.DATA, "thin", made)
    work = estimators_work.Work("thin", {"max_iter": 2, "random_state": 0})
    with estimators_measuring.Pair(ONE_CORE, ONCE) as pair:
        records = pair.fit("a fit", work, "float64") + pair.predict("some", work, "float32", 70)
    assert [record.failed for record in records] == [""] * 4


@pytest.mark.jit
@pytest.mark.parametrize("name", CHEAPEST)
def test_a_suite_runs(monkeypatch, name):
    monkeypatch.setattr(measures, "_RUN", 0.0)
    monkeypatch.setattr(measures, "_RUNS", 1)
    (suite, methods) = next(pair for pair in suites() if pair[0].__name__ == name)
    for method in methods:
        found = suite()
        if hasattr(found, "setup"):
            try:
                found.setup(*CHEAPEST[name])
            except NotImplementedError as missing:
                pytest.skip(str(missing))
        value = getattr(found, method)(*CHEAPEST[name])
        assert value is None or value > 0.0
        if hasattr(found, "teardown"):
            found.teardown(*CHEAPEST[name])


@pytest.mark.jit
def test_memory_is_that_of_the_fit():
    from benchmarks import memory

    if not memory.CLEAR.exists():
        pytest.skip("this system does not tell the peak of a part of a process")
    # In a process of its own, as asv has one, which has no memory to give back.  A copy is more
    # than 32 MB, which no allocator serves from memory that it holds.
    code = (
        "from benchmarks import memory\n"
        "memory._ROWS = 150_000\n"
        "for given in ('float32, by rows', 'float32, by columns'):\n"
        "    fit = memory.Fit()\n"
        "    fit.setup(given)\n"
        "    print(fit.track_beyond_the_data(given))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    as_it_is, copied = map(float, done.stdout.split())
    assert as_it_is < copied


def test_what_is_kept_of_commits_names_no_machine(tmp_path, monkeypatch):
    from benchmarks import history

    measured, kept = tmp_path / "measured" / "some-host", tmp_path / "kept"
    measured.mkdir(parents=True)
    kept.mkdir()
    about = {"machine": "some-host", "arch": "x86_64", "cpu": "A Cpu", "num_cpu": "2", "ram": "7"}
    about["os"] = "Linux 6.1-some-host"
    (measured / "machine.json").write_text(json.dumps(about))
    result = {
        "commit_hash": "0123456789abcdef", "env_name": "/home/somebody/env", "date": 0,
        "params": about | {"python": "/home/somebody/python"}, "python": "/home/somebody/python",
        "requirements": {},
        "env_vars": {"HOME": "/home/somebody"}, "result_columns": ["result", "params"],
        "results": {"chosen.ChosenRow.track_row": [[1e-6], [["'8-64-64-2'"]]], "other.it": [[1]]},
        "durations": {"<build>": 1.0}, "version": 2,
    }  # fmt: skip
    (measured / "01234567-env.json").write_text(json.dumps(result))
    (measured / "fedcba98-env.json").write_text(json.dumps(result))
    monkeypatch.setattr(history, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(history, "KEPT", kept)
    (written,) = history.keep(["0123456789abcdef"])
    assert written == kept / "a-cpu-2-cores" / "01234567.json"
    for path in kept.rglob("*.json"):
        assert not re.search("some-host|somebody|/home", path.read_text("utf-8"))
    assert json.loads(written.read_text())["results"].keys() == {"chosen.ChosenRow.track_row"}


def test_what_measures_old_commits_knows_of_the_library_its_public_names_alone():
    from benchmarks import history

    inside = re.compile(r"^\s*(from fastnn|import fastnn\.)", re.MULTILINE)
    own = re.compile(r"^\s*from \.(\w*)", re.MULTILINE)
    for name in history.SUITE:
        text = (ROOT / "benchmarks" / name).read_text("utf-8")
        assert not inside.search(text), name
        assert {f"{other}.py" for other in own.findall(text)} <= set(history.SUITE), name


def test_kept_results_are_of_the_commits_that_are_listed():
    from benchmarks import history

    hashes = [commit for commit, _ in history.commits()]
    (machine,) = history.KEPT.glob("*/machine.json")
    files = {path.stem for path in machine.parent.glob("*.json")} - {"machine"}
    assert files
    assert files <= {one[:8] for one in hashes}
    for path in machine.parent.glob("*.json"):
        found = json.loads(path.read_text("utf-8"))
        assert found.get("params", found)["machine"] == machine.parent.name
        assert not re.search(r"/(home|tmp|usr|work|root|Users)\b|[A-Z]:\\", path.read_text("utf-8"))


def test_what_is_not_installed_is_skipped_and_what_failed_is_not(results):
    from benchmarks.against_peers import Beside

    beside = Beside()
    beside.setup(results, "NumPy", "64-100-10 b200", 2)
    assert beside.track_time(results, "NumPy", "64-100-10 b200", 2) == pytest.approx(84.0)
    assert beside.track_loss(results, "NumPy", "64-100-10 b200", 2) == 0.25
    with pytest.raises(NotImplementedError, match="PyTorch is not installed"):
        beside.setup(results, "PyTorch", "64-100-10 b200", 1)
    results["records"] = [r for r in results["records"] if r["peer"] != "fastnn"]
    results["records"].append(record("fastnn", 1, [], failed="it fell over"))
    with pytest.raises(RuntimeError, match="it fell over"):
        beside.setup(results, "fastnn", "64-100-10 b200", 1)
    results["libraries"].append({"peer": "ONNX Runtime"})
    with pytest.raises(NotImplementedError, match="does not train"):
        beside.setup(results, "ONNX Runtime", "64-100-10 b200", 1)
    beside.setup(results, "NumPy", "8-64-64-2", 1)
    assert np.isnan(beside.track_loss(results, "NumPy", "8-64-64-2", 1))


# The same bits.


def test_a_checkout_computes_the_bits_that_it_computes(capsys):
    root = str(Path(benchmarks.__file__).parents[1])
    assert bits.main([root, "--networks", "4"]) == 0
    assert capsys.readouterr().out == "4 of 4 networks give the same bits\n"


def test_a_bit_that_differs_is_told(monkeypatch, capsys):
    computed = iter(
        [
            [{"network": "n", "loss": "a", "few": "b"}, {"network": "m", "loss": "c"}],
            [{"network": "n", "loss": "a", "few": "x"}, {"network": "m", "loss": "c"}],
        ]
    )
    monkeypatch.setattr(bits, "_hashes", lambda root, options: next(computed))
    assert bits.main(["elsewhere"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told == ["network 0: few (n)", "1 of 2 networks give the same bits"]


# First weights.


def few(monkeypatch) -> None:
    """Leave two small problems, two depths and one activation."""
    kept = {name: first_weights.PROBLEMS[name] for name in ("wave, 1 feature", "wine")}
    monkeypatch.setattr(first_weights, "PROBLEMS", kept)
    monkeypatch.setattr(first_weights, "DEPTHS", (1, 2))
    monkeypatch.setattr(first_weights, "ACTIVATIONS", ("tanh",))


def test_rules_for_first_weights_are_those_of_the_libraries():
    data = first_weights.parts(first_weights.PROBLEMS["wine"], 0)
    nets = {
        rule: first_weights.network(first_weights.Case("wine", "relu", 2, rule, 3), data)
        for rule in first_weights.RULES
    }
    for W, b in zip(nets["PyTorch"].weights, nets["PyTorch"].biases, strict=True):
        limit = 1 / np.sqrt(len(W))
        assert 0.9 * limit < np.abs(W).max() <= limit
        assert 0.4 * limit < np.abs(b).max() <= limit
    for W, b in zip(nets["Keras"].weights, nets["Keras"].biases, strict=True):
        limit = np.sqrt(6 / sum(W.shape))
        assert 0.9 * limit < np.abs(W).max() <= limit
        assert not b.any()
    default = fn.Sequential([fn.Dense(64, "relu")] * 2 + [fn.Dense(3, "softmax")], 13, rng=3)
    assert nets["fastnn"].parameters.tobytes() == default.parameters.tobytes()
    assert len({net.parameters.tobytes() for net in nets.values()}) == len(nets)


@pytest.mark.parametrize("name", first_weights.PROBLEMS)
def test_rows_held_out_are_not_learnt_from_and_are_scaled_by_those_that_are(name):
    problem = first_weights.PROBLEMS[name]
    data = first_weights.parts(problem, 1)
    X, _ = problem.rows(1)
    assert len(data.X) <= 1000
    assert len(data.X) + len(data.X_new) <= len(X)
    assert data.X.mean(axis=0) == pytest.approx(np.zeros(X.shape[1]), abs=1e-9)
    if not problem.classes:
        assert (data.y.mean(), data.y.std()) == pytest.approx((0.0, 1.0))


def test_a_run_over_first_weights_goes_on_where_it_was_left(tmp_path, monkeypatch):
    few(monkeypatch)
    path = tmp_path / "scores.jsonl"
    assert first_weights.run(path, seeds=1, minutes=0.0, steps=5) == {}
    whole = first_weights.run(path, seeds=1, minutes=10.0, steps=5)
    assert list(whole) == list(first_weights.cases(1))
    assert all(0.0 <= score <= 1.0 for score in whole.values())
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-3]) + lines[-3][:9], "utf-8")
    assert first_weights.run(path, seeds=1, minutes=10.0, steps=5) == whole
    assert first_weights.read(path) == whole


def test_tables_of_first_weights_say_what_the_scores_are(tmp_path, monkeypatch, capsys):
    few(monkeypatch)
    path, page = tmp_path / "scores.jsonl", tmp_path / "page.md"
    better = {"fastnn": 0.75, "Keras": 0.5}
    scores = [
        [*case, 0.9 if (case.rule, case.depth) == ("He", 2) else better.get(case.rule, 0.25)]
        for case in first_weights.cases(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*scores, [*scores[0][:4], 9, 0]]))
    page.write_text("<!-- first weights: standing losses cells -->\n<!-- first weights: end -->\n")
    assert first_weights.main(["--show", "--output", str(path), "--write", str(page)]) == 0
    assert (
        "| everything | 0.750 ± 0.000 | 0.250 ± 0.000 | 0.500 ± 0.000 |" in capsys.readouterr().out
    )
    text = page.read_text()
    assert "| Keras | 4 | 0 | 0 |" in text
    assert "| He | 2 | 0 | 2 |" in text
    assert "Of 4 cells (a problem, an activation and a depth, 3 seeds each)" in text
    assert "noise of the best in 2." in text.replace("\n", " ")
    assert "| wine, tanh, 2 | 0.750 ± 0.000 | He: 0.900 ± 0.000 | -0.1500 ± 0.0000 |" in text
    assert "| wine, 1 | **0.750 ± 0.000** | 0.250 ± 0.000 |" in text
