"""Schedules: formulas, places where they turn, what they refuse, and the table."""

from __future__ import annotations

import dataclasses
import functools
import math
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn.fitting import steppers
from fastnn.history import History
from fastnn.schedules import SCHEDULES, ConstantRate, Schedule, rates, resolve_schedule

SPE, EPOCHS, BASE = 7, 30, 0.2
STEPS = SPE * EPOCHS

# Better and better: no plateau.
HISTORY = {"val_loss": [1.0 / epoch for epoch in range(1, EPOCHS)]}


def curve(schedule, steps_per_epoch=SPE, epochs=EPOCHS, base=BASE, history=HISTORY):
    """Return the rates of a whole fit."""
    last = steps_per_epoch * epochs
    return rates(resolve_schedule(schedule), 0, last, steps_per_epoch, epochs, base, history)


# Every schedule.


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_row_is_a_frozen_public_record_found_by_its_name(name):
    record = SCHEDULES[name]()
    assert isinstance(record, Schedule)
    assert getattr(fn, type(record).__name__) is SCHEDULES[name]
    assert resolve_schedule(name) == record
    assert resolve_schedule(record) is record
    assert pickle.loads(pickle.dumps(record)) == record
    for field in dataclasses.fields(record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, 1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_finite_and_between_zero_and_the_base(name):
    found = curve(name)
    assert found.shape == (STEPS,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert found.min() > 0.0
    assert found.max() <= BASE
    assert found.max() >= 0.99 * BASE
    single = SCHEDULES[name]().rate(3, SPE, EPOCHS, BASE, HISTORY)
    assert type(single) is float
    assert single == found[3]


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_parts_of_the_base(name):
    np.testing.assert_allclose(curve(name, base=10 * BASE), 10 * curve(name), rtol=1e-14)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_is_a_function_of_the_step_alone(name):
    whole = curve(name)
    schedule = resolve_schedule(name)
    for first, last in ((0, 1), (5, 40), (100, STEPS)):
        part = rates(schedule, first, last, SPE, EPOCHS, BASE, HISTORY)
        assert part.tobytes() == whole[first:last].tobytes()


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "inverse_scaling"])
def test_lengths_count_epochs_whatever_the_batches(name):
    # At the beginning of an epoch it does not matter how many steps one has; the end of one
    # cycle and the rise of a warm-up are told by steps.
    coarse, fine = (curve(name, steps_per_epoch=spe)[::spe] for spe in (4, 400))
    tolerance = {"one_cycle": 0.02, "warmup": 0.05}.get(name, 1e-12)
    assert np.abs(coarse - fine)[1:].max() <= tolerance * BASE


# One by one.


def test_a_constant_rate_is_the_base():
    assert (curve("constant") == BASE).all()
    assert (curve(None) == BASE).all()


def test_steps_fall_at_the_beginning_of_an_epoch():
    found = curve(fn.StepDecay(every=4, factor=0.5))
    assert found == pytest.approx(BASE * 0.5 ** (np.arange(STEPS) // (4 * SPE)), rel=1e-15)
    assert found[4 * SPE - 1] == BASE
    assert found[4 * SPE] == BASE / 2


def test_an_exponential_falls_by_its_factor_in_each_epoch():
    found = curve(fn.ExponentialDecay(0.8))
    assert found[SPE:] == pytest.approx(0.8 * found[:-SPE], rel=1e-14)
    assert found[0] == BASE


def test_a_cosine_falls_over_the_whole_fit():
    found = curve(fn.CosineDecay(floor=0.1))
    p = np.arange(STEPS) / STEPS
    expected = BASE * (0.1 + 0.9 * (1 + np.cos(np.pi * p)) / 2)
    assert found == pytest.approx(expected, rel=1e-14)
    assert (np.diff(found) < 0).all()
    assert curve(fn.CosineDecay(floor=1.0)) == pytest.approx(BASE)


@pytest.mark.parametrize(
    ("period", "growth", "starts"),
    [(10, 1, [0, 10, 20]), (2, 2, [0, 2, 6, 14]), (4, 3, [0, 4, 16])],
)
def test_a_cosine_starts_again(period, growth, starts):
    found = curve(fn.CosineDecay(period, growth))
    rises = np.flatnonzero(np.diff(found) > 0) + 1
    assert [0, *rises] == [SPE * epoch for epoch in starts]
    assert (found[[SPE * epoch for epoch in starts]] == BASE).all()
    # Half way through a cycle it is half the base.
    half = SPE * (starts[-2] + starts[-1]) // 2
    assert found[half] == pytest.approx(BASE / 2, rel=0.25)


def test_one_cycle_rises_to_the_base_and_ends_at_the_last_step():
    found = curve(fn.OneCycle(warmup=0.25, start=0.1, end=0.001))
    top = int(np.argmax(found))
    assert found[0] == pytest.approx(0.1 * BASE, rel=1e-14)
    assert top == round(0.25 * (STEPS - 1))
    assert found[top] == pytest.approx(BASE, rel=1e-3)
    assert found[-1] == pytest.approx(0.001 * BASE, rel=1e-12)
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()


def test_one_cycle_of_one_step_has_a_rate():
    assert fn.OneCycle().rate(0, 1, 1, BASE) == pytest.approx(0.04 * BASE)


def test_inverse_scaling_is_a_power_of_the_step():
    found = curve(fn.InverseScaling(0.75))
    assert found == pytest.approx(BASE / np.arange(1, STEPS + 1) ** 0.75, rel=1e-13)
    assert (curve(fn.InverseScaling(0.0)) == BASE).all()


def test_a_warm_up_rises_to_the_base_and_hands_over():
    then = fn.ExponentialDecay(0.5)
    found = curve(fn.Warmup(epochs=2, then=then))
    rise = 2 * SPE
    assert found[:rise] == pytest.approx(BASE * np.arange(1, rise + 1) / rise, rel=1e-14)
    expected = rates(then, 0, STEPS - rise, SPE, EPOCHS - 2, BASE)
    assert found[rise:].tobytes() == expected.tobytes()


def test_a_warm_up_may_be_a_part_of_an_epoch_and_leaves_the_rest_to_what_follows():
    found = curve(fn.Warmup(epochs=0.5, then="cosine"), steps_per_epoch=8, epochs=2)
    assert found[:4] == pytest.approx(BASE * np.array([0.25, 0.5, 0.75, 1.0]))
    assert found[4:] == pytest.approx(BASE * (1 + np.cos(np.pi * np.arange(12) / 12)) / 2)
    assert curve(fn.Warmup(epochs=1e-9))[0] == BASE


# Plateaus.


def plateau_rate(values, monitor="val_loss", **settings):
    """Return the rate after epochs of some values."""
    schedule = fn.ReduceOnPlateau(monitor, **settings)
    return schedule.rate(SPE * len(values), SPE, EPOCHS, BASE, {monitor: values})


@pytest.mark.parametrize(
    ("values", "falls"),
    [
        ([], 0),
        ([3.0, 2.0, 1.0, 0.5], 0),
        ([1.0, 1.0], 0),
        ([1.0, 1.0, 1.0], 1),
        ([1.0, 2.0, 3.0, 0.5], 1),
        # Counted from anew after each fall.
        ([1.0, 1.0, 1.0, 1.0], 1),
        ([1.0, 1.0, 1.0, 1.0, 1.0], 2),
        # The best so far, not the one before.
        ([1.0, 3.0, 2.0], 1),
        ([1.0, 3.0, 0.5, 0.7, 0.4], 0),
        # NaN is never better.
        ([math.nan, math.nan], 1),
        ([1.0, math.nan, math.nan], 1),
    ],
)
def test_a_plateau_is_so_many_epochs_without_improvement(values, falls):
    expected = pytest.approx(BASE * 0.5**falls, rel=1e-15)
    assert plateau_rate(values, patience=2, factor=0.5) == expected


def test_an_improvement_must_exceed_the_least_one():
    values = [1.0, 0.95, 0.92]
    assert plateau_rate(values, patience=2, factor=0.5) == BASE
    assert plateau_rate(values, patience=2, factor=0.5, min_delta=0.1) == BASE / 2


def test_which_way_is_better_follows_the_metric_or_the_mode():
    rising = [0.1, 0.2, 0.3]
    assert plateau_rate(rising, "val_accuracy", patience=2, factor=0.5) == BASE
    assert plateau_rate(rising, "val_loss", patience=2, factor=0.5) == BASE / 2
    assert plateau_rate(rising, "mine", patience=2, factor=0.5, mode="max") == BASE
    assert plateau_rate(rising, "mine", patience=2, factor=0.5, mode="min") == BASE / 2


def test_a_plateau_s_rate_has_its_floor():
    values = [1.0] * 20
    assert plateau_rate(values, patience=1, factor=0.1, floor=0.05) == pytest.approx(0.05 * BASE)


def test_a_plateau_of_what_is_not_recorded_is_refused():
    schedule = fn.ReduceOnPlateau("val_loss")
    assert schedule.rate(0, SPE, EPOCHS, BASE) == BASE
    with pytest.raises(
        ValueError, match="monitor must be one of what the fit records, 'loss'; got"
    ):
        schedule.rate(SPE, SPE, EPOCHS, BASE, {"loss": [1.0]})
    with pytest.raises(ValueError, match="records, nothing; got 'val_loss'"):
        schedule.rate(SPE, SPE, EPOCHS, BASE)


def test_a_plateau_may_follow_a_warm_up():
    schedule = fn.Warmup(epochs=1, then=fn.ReduceOnPlateau("loss", factor=0.5, patience=2))
    assert schedule.rate(4 * SPE, SPE, EPOCHS, BASE, {"loss": [1.0] * 4}) == BASE / 2


# The user's own.


def test_a_function_gives_a_factor_for_the_epochs_so_far():
    seen = []

    def halved(epoch):
        seen.append(epoch)
        return 0.5**epoch

    found = curve(halved, steps_per_epoch=2, epochs=2)
    assert seen == [0.0, 0.5, 1.0, 1.5]
    assert found == pytest.approx(BASE * 0.5 ** np.array(seen), rel=1e-15)


def test_an_object_with_a_rate_is_a_schedule():
    class Odd:
        def rate(self, step, steps_per_epoch, epochs, base, history=None):
            return base * (step % 2)

    own = Odd()
    assert resolve_schedule(own) is own
    assert curve(own)[:4].tolist() == [0.0, BASE, 0.0, BASE]


@pytest.mark.parametrize(
    ("factor", "kind"), [(-0.5, ValueError), (math.nan, ValueError), ("a", TypeError)]
)
def test_a_function_s_factor_is_checked(factor, kind):
    with pytest.raises(
        kind, match=r"what schedule gives at step 5, 1.25 epochs from its start, must be a finite"
    ):
        resolve_schedule(lambda epoch: factor).rate(5, 4, EPOCHS, BASE)


def test_an_object_whose_rate_takes_other_arguments_is_refused():
    class Mine:
        def rate(self, step, steps_per_epoch, epochs, base):
            return base

    said = (
        r"^schedule must be an object whose rate takes five .*got Mine.rate\(step, steps_per_epoc"
    )
    with pytest.raises(TypeError, match=said):
        resolve_schedule(Mine())


def test_a_decorator_may_change_the_arguments():
    @functools.wraps(lambda: None)
    def wrapper(epoch):
        return 0.5

    assert resolve_schedule(wrapper).rate(0, 4, EPOCHS, BASE) == 0.5 * BASE


@pytest.mark.parametrize(
    ("schedule", "kind", "parts"),
    [
        (0.1, TypeError, ("schedule must be one of fastnn.ConstantRate(...)", "0.1 (float)")),
        (lambda: 1.0, TypeError, ("schedule must be a function of one argument", "<lambda>()")),
        (lambda step, base: 1.0, TypeError, ("the epochs so far", "got <lambda>(step, base)")),
        ("cosin", ValueError, ("schedule must be one of 'constant'", "Did you mean 'cosine'?")),
        (fn.CosineDecay, TypeError, ("Did you mean CosineDecay()?",)),
        (np.zeros((3, 1)), TypeError, ("schedule[0] must be",)),
    ],
)
def test_what_is_no_schedule_is_refused(schedule, kind, parts):
    with pytest.raises(kind) as caught:
        resolve_schedule(schedule)
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize(
    ("record", "settings", "message"),
    [
        (fn.StepDecay, {"every": 0}, "every must be an integer of at least 1"),
        (fn.StepDecay, {"every": 2.5}, "every must be an integer"),
        (fn.StepDecay, {"factor": 0.0}, "factor must be"),
        (fn.ExponentialDecay, {"factor": 1.5}, "factor must be"),
        (fn.CosineDecay, {"period": 0}, "period must be"),
        (fn.CosineDecay, {"growth": 0}, "growth must be"),
        (fn.CosineDecay, {"floor": 1.5}, "floor must be"),
        (fn.OneCycle, {"warmup": 1.0}, "warmup must be"),
        (fn.OneCycle, {"start": 0.0}, "start must be"),
        (fn.OneCycle, {"end": -1.0}, "end must be"),
        (fn.InverseScaling, {"power": -1.0}, "power must be"),
        (fn.ReduceOnPlateau, {"monitor": 3}, "monitor must be a string"),
        (fn.ReduceOnPlateau, {"factor": 1.0}, "factor must be"),
        (fn.ReduceOnPlateau, {"patience": 0}, "patience must be"),
        (fn.ReduceOnPlateau, {"min_delta": -1.0}, "min_delta must be"),
        (fn.ReduceOnPlateau, {"floor": 2.0}, "floor must be"),
        (fn.ReduceOnPlateau, {"mode": "up"}, "mode must be one of"),
        (fn.ReduceOnPlateau, {"monitor": "mine"}, "mode must be 'min' or 'max' to monitor 'mine'"),
        (fn.Warmup, {"epochs": 0.0}, "epochs must be"),
        (fn.Warmup, {"then": "cosin"}, "then must be one of"),
        (fn.Warmup, {"then": 3}, "then must be one of"),
    ],
)
def test_settings_are_checked(record, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        record(**settings)


def test_equal_settings_compare_equal():
    assert fn.ExponentialDecay(1) == fn.ExponentialDecay(1.0)
    assert fn.Warmup(2, "constant") == fn.Warmup(2.0, ConstantRate()) == fn.Warmup(2.0)


# In a fit.

EXAMPLES = np.random.default_rng(0).normal(size=(23, 3)), np.arange(23) % 2


def fitted(schedule, *, backend="native", optimizer=None, epochs=4, **keywords):
    """Return the weights and the history of a fit of three steps an epoch."""
    layers = [fn.Dense(4, "tanh"), fn.Dense(2, "softmax")]
    net = fn.Sequential(layers, 3, "float64", rng=1)
    optimizer = fn.SGD(0.1, momentum=0.5) if optimizer is None else optimizer
    history = net.fit(
        *EXAMPLES, optimizer=optimizer, epochs=epochs, batch_size=8, schedule=schedule,
        backend=backend, **keywords,
    )  # fmt: skip
    return net.parameters, history


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduled_fit_is_the_reference_s(name):
    data = {"validation_data": EXAMPLES}
    native, history = fitted(name, **data)
    expected, history_r = fitted(name, backend="reference", **data)
    np.testing.assert_allclose(native, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(history["loss"], history_r["loss"], rtol=1e-12)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_fit_asks_for_every_step_once_the_epoch_before_is_recorded(backend):
    seen = []

    class Recorder:
        def rate(self, step, steps_per_epoch, epochs, base, history=None):
            seen.append((step, steps_per_epoch, epochs, base, len(history.get("loss", ()))))
            return base

    plain, _ = fitted(None, backend=backend)
    found, _ = fitted(Recorder(), backend=backend)
    assert seen[0] == (0, 3, 4, 0.1, 0)  # asked before anything is changed
    assert seen[1:] == [(step, 3, 4, 0.1, step // 3) for step in range(12)]
    assert found.tobytes() == plain.tobytes()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_rate_of_zero_leaves_the_weights_and_a_factor_is_a_smaller_rate(backend):
    start, _ = fitted(lambda epoch: 0.0, backend=backend)
    first, _ = fitted(lambda epoch: 0.0, epochs=1, backend=backend)
    assert start.tobytes() == first.tobytes()
    half, _ = fitted(lambda epoch: 0.5, backend=backend)
    smaller, _ = fitted(None, optimizer=fn.SGD(0.05, momentum=0.5), backend=backend)
    np.testing.assert_allclose(half, smaller, rtol=1e-13)


def test_a_plateau_lowers_the_rate_by_what_the_fit_records():
    schedule = fn.ReduceOnPlateau("loss", factor=1e-9, patience=1, min_delta=1e9)
    _, history = fitted(schedule, optimizer=fn.SGD(0.1), epochs=5)
    # No loss is ever better by so much: after the second epoch next to nothing moves.
    assert history["loss"][1] != history["loss"][0]
    assert history["loss"][4] == pytest.approx(history["loss"][3], rel=1e-6)


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused_before_anything_is_changed(wrong):
    with pytest.raises(
        ValueError, match="what schedule gives at step 0, 0 epochs from its start, must be"
    ):
        fitted(lambda epoch: wrong)

    class Wrong:
        def rate(self, step, steps_per_epoch, epochs, base, history=None):
            return wrong

    with pytest.raises(ValueError, match="the learning rate that schedule gives at step 0"):
        fitted(Wrong())


def test_a_scheduled_fit_that_diverges_goes_back_to_before_the_step():
    net = fn.Sequential([fn.Dense(1)], 1, "float64", rng=0)
    X, y = np.ones((4, 1)), np.zeros(4)

    def growing(epoch):
        return 1e300 if epoch >= 2.5 else 1e-3

    keywords = {"optimizer": fn.SGD(1.0), "batch_size": 2, "shuffle": False}
    with pytest.raises(fn.DivergenceError) as caught:
        net.fit(X, y, epochs=9, schedule=growing, **keywords)
    assert (caught.value.epoch, caught.value.step) == (4, 1)
    twin = fn.Sequential([fn.Dense(1)], 1, "float64", rng=0)
    twin.fit(X, y, epochs=2, schedule=growing, **keywords)
    assert np.isfinite(net.parameters).all()
    assert np.abs(net.parameters).max() > np.abs(twin.parameters).max()


def test_a_plateau_is_counted_on_where_a_history_grows():
    schedule = fn.ReduceOnPlateau("loss", factor=0.5, patience=2)
    history, losses = History(), []
    for loss in [3.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]:
        history.append({"loss": loss})
        losses.append(loss)
        for _ in range(2):
            grown = schedule.rate(5 * len(losses), 5, 20, 1.0, history)
            assert grown == schedule.rate(5 * len(losses), 5, 20, 1.0, {"loss": losses})
    assert schedule.rate(15, 5, 20, 1.0, history.until(3)) == 1.0
    assert schedule.rate(20, 5, 20, 1.0, history.until(4)) == 0.5


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "plateau"])
def test_a_schedule_that_looks_at_nothing_goes_on_through_epochs(name, monkeypatch):
    calls = []
    run = steppers.NativeStepper.run

    def counted(self, first, last, number, record):
        calls.append(last - first)
        return run(self, first, last, number, record)

    monkeypatch.setattr(steppers.NativeStepper, "run", counted)
    net = fn.Sequential([fn.Dense(2)], inputs=2)
    net.fit(np.ones((4, 2)), np.ones((4, 2)), epochs=200, batch_size=2, schedule=name)
    assert sum(calls) == 400
    assert len(calls) < 100


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("plateau", [False, True])
def test_a_fit_records_the_learning_rate_of_every_epoch_s_last_step(backend, plateau):
    X, seen = np.random.default_rng(0).normal(size=(20, 3)), []
    net = fn.Sequential([fn.Dense(1)], inputs=3, dtype="float64")
    schedule = (
        fn.ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=9.0)
        if plateau
        else (fn.CosineDecay(5))
    )
    history = net.fit(
        X, X[:, 0], epochs=5, batch_size=8, optimizer=fn.SGD(0.1), schedule=schedule,
        backend=backend, progress=False,
    )  # fmt: skip
    if plateau:
        assert history.learning_rates == [0.1, 0.1, 0.05, 0.025, 0.0125]
    else:
        steps = np.arange(2, 15, 3)
        expected = 0.05 * (1.0 + np.cos(np.pi * steps / 15))
        assert history.learning_rates == pytest.approx(expected, rel=1e-12)
    plain = net.fit(X, X[:, 0], epochs=3, optimizer=fn.SGD(0.1), progress=False, backend=backend,
                    callbacks=seen.append)  # fmt: skip
    assert plain.learning_rates == [0.1] * 3
    assert len(seen) == 3


@pytest.mark.parametrize("wrong", [math.nan, -1.0, math.inf, None, "fast", 1j, np.ones(2)])
def test_a_wrong_rate_is_named_by_its_step(wrong):
    class Late:
        def rate(self, step, steps_per_epoch, epochs, base, history=None):
            return base if step < 7 else wrong

    message = r"learning rate that schedule gives at step 7, 1.75 epochs from its start, must be"
    with pytest.raises((TypeError, ValueError), match=message):
        rates(Late(), 4, 9, 4, EPOCHS, BASE)
    X = np.random.default_rng(0).normal(size=(16, 3))
    net = fn.Sequential([fn.Dense(1)], 3, "float64")
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit(X, X[:, 0], epochs=3, batch_size=4, schedule=Late(), optimizer=fn.SGD(0.1))
    assert np.isfinite(net.parameters).all()


def test_numbers_of_any_real_kind_are_rates():
    class Given:
        def rate(self, step, steps_per_epoch, epochs, base, history=None):
            return (0.5, np.float32(0.25), 1, np.int64(2))[step]

    assert rates(Given(), 0, 4, 2, EPOCHS, BASE).tolist() == [0.5, 0.25, 1.0, 2.0]


def test_a_list_of_factors_is_one_for_each_epoch():
    factors = [1.0, 0.5, 0.0]
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20.0)
    nets = []
    for schedule in (factors, np.array(factors), lambda epoch: factors[min(int(epoch), 2)]):
        net = fn.Sequential([fn.Dense(1)], 3, "float64")
        net.fit(X, y, epochs=5, batch_size=6, schedule=schedule, backend="reference")
        nets.append(net.parameters.tolist())
    assert nets[0] == nets[1] == nets[2]
    for wrong in ([], np.ones((2, 2)), [1.0, -1.0], [1.0, float("nan")], ["a"]):
        with pytest.raises((TypeError, ValueError), match="schedule"):
            net.fit(X, y, schedule=wrong)
