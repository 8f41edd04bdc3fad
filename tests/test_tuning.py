"""The record of figures: read where it decides, and no plan made by another one is used."""

from __future__ import annotations

import dataclasses
import inspect
import re
from types import SimpleNamespace

import pytest
from cases import JIT, Shape, data, network

import fastnn as fn
from fastnn import tuning as room
from fastnn.machine.threads import ThreadTuner
from fastnn.tuning import Tuning, tuning

SHAPE = Shape(60, 5, 7, 6, 3) if JIT else Shape(13, 3, 3, 2, 2)
FIELDS = [field.name for field in dataclasses.fields(Tuning)]


def test_other_figures_are_in_force_until_the_block_ends():
    before = room.current
    with tuning(groups=3) as outer:
        assert (room.current, outer.groups, outer.call_share) == (outer, 3, before.call_share)
        with tuning(call_share=5) as inner:
            assert (room.current, inner.groups, inner.call_share) == (inner, 3, 5)
        with tuning(Tuning(), call_share=6) as anew:
            assert (anew.groups, anew.call_share) == (before.groups, 6)
        with pytest.raises(ZeroDivisionError), tuning(groups=9):
            raise ZeroDivisionError
        assert room.current is outer
    assert room.current is before


@pytest.mark.parametrize("name", ["group", "_groups", "__init__"])
def test_there_are_no_other_figures(name):
    before = room.current
    with pytest.raises(TypeError, match=name), tuning(**{name: 1}):
        pass
    assert room.current is before


def test_a_record_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Tuning().groups = 1
    assert Tuning() != Tuning(), "it is part of keys by its identity"


@pytest.mark.parametrize("name", FIELDS)
def test_every_figure_is_explained(name):
    entries = re.findall(r"^(\w+(?:, \w+)*) : (?:int|float)$", inspect.getdoc(Tuning), re.M)
    assert name in {one for names in entries for one in names.split(", ")}


@pytest.mark.parametrize("first", ["as it is", "small chunks"])
def test_plans_for_single_calls_are_made_by_the_figures_in_force(first):
    net, examples = network(SHAPE, "tanh", "softmax", "float64"), data(SHAPE, "cross_entropy")
    objective = net.objective(examples.X, examples.y)
    small = {"chunk_elements": 1, "smallest_chunk": 4}

    def results(net, objective):
        twin = net.copy()
        loss, gradient = net.loss_and_gradient(examples.X, examples.y)
        return (
            loss, gradient.tobytes(), net.evaluate(examples.X, examples.y)["loss"],
            objective(net.parameters)[1].tobytes(), twin.train_on_batch(examples.X, examples.y),
        )  # fmt: skip

    def chunks():
        runs = [call.run for kept in net._plans._runs.values() for call in kept]
        return {int(run.program.plan["chunk"][0]) for run in runs}

    turns = [{}, small, {}] if first == "as it is" else [small, {}, small]
    for figures in turns:
        with tuning(**figures):
            found = results(net, objective)
            assert chunks() == ({4} if figures else {64 if JIT else 16})
            fresh = net.copy()
            assert found == results(fresh, fresh.objective(examples.X, examples.y))


@pytest.mark.jit
def test_predictions_are_planned_by_the_figures_in_force(monkeypatch):
    net, X = network(SHAPE, "tanh", "softmax", "float32"), data(SHAPE, "cross_entropy").X
    expected, sizes = net.predict(X), []

    monkeypatch.setattr("fastnn.predicting.predictor.crew.ready", sizes.append)
    # Whatever else runs on the machine.
    calm = SimpleNamespace(limit=lambda most: most, disturbed=lambda *what: None)
    monkeypatch.setattr("fastnn.predicting.predictor.company", calm)
    monkeypatch.setattr("fastnn.machine.threads.usable_cores", lambda: 4)
    fn.set_threads(4)
    try:
        for figures in ({}, {"helper_share": 1e-9, "awake_share": 1e-9}, {}):
            sizes.clear()
            with tuning(**figures):
                assert net.predict(X).tobytes() == expected.tobytes()
                assert net(X.astype("f4")).tobytes() == expected.tobytes()
            assert bool(sizes) == bool(figures)
    finally:
        fn.set_threads(None)


def test_what_steps_take_is_remembered_for_the_figures_in_force():
    kind = "steps whose speed depends on how they are cut"
    ThreadTuner.of(kind, 1e6).note(1, 100, 0.1)
    assert ThreadTuner.of(kind, 1e6).alone() == pytest.approx(0.001)
    with tuning(chunk_elements=64):
        assert ThreadTuner.of(kind, 1e6).alone() < 0.0005
    assert ThreadTuner.of(kind, 1e6).alone() == pytest.approx(0.001)


def test_objects_that_are_gone_are_not_kept_count_of():
    class Planning:
        def forget(self):
            self.asked = True

    kept = Planning()
    room.forget_with(kept)
    for _ in range(5_000):
        room.forget_with(Planning())
    assert len(room._planned) < 5_000
    with room.tuning(chunk_elements=64):
        assert kept.asked
