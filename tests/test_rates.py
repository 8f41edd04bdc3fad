"""The search for a learning rate: what it finds, what it leaves alone, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnn as fn

RULES = [fn.Adam(), fn.SGD(), fn.SGD(momentum=0.9), fn.RMSprop()]


def problem(n=600):
    X = np.random.default_rng(0).normal(size=(n, 4))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]


def network(**more):
    return fn.Sequential([fn.Dense(24, "tanh"), fn.Dense(1)], rng=0, **more)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_suggestion_is_near_the_rates_that_learn_most(rule):
    X, y = problem()
    found = fn.find_learning_rate(network(), X, y, optimizer=rule)

    def loss(factor):
        twin = network()
        try:
            history = twin.fit(
                X, y, optimizer=replace(rule, learning_rate=factor * found.suggestion), epochs=10
            )
        except fn.DivergenceError:
            return np.inf
        return history["loss"][-1]

    # A ninth learns less in as many epochs, and 27 times as much leads nowhere.
    assert loss(1.0) < 0.9 * loss(1 / 9)
    assert loss(1.0) < 0.9 * loss(27.0)


def test_the_curve_is_that_of_the_steps():
    X, y = problem()
    found = fn.find_learning_rate(
        network(inputs=4), X, y, fn.Huber(0.5), "sgd", lowest=1e-3, highest=1e-1, steps=40
    )
    assert found.rates == pytest.approx(np.geomspace(1e-3, 1e-1, 40))
    assert not found.diverged
    twin, order = network(inputs=4), np.random.default_rng(0).permutation(600)
    assert found.losses[0] == pytest.approx(twin.evaluate(X, y, fn.Huber(0.5))["loss"], rel=0.01)
    for step, rate in enumerate(found.rates[: 600 // 32]):
        rows = order[32 * step : 32 * step + 32]
        twin.train_on_batch(X[rows], y[rows], fn.Huber(0.5), fn.SGD(rate))
        judged = twin.evaluate(X, y, fn.Huber(0.5))["loss"]
        assert found.losses[step] == pytest.approx(judged, rel=1e-5)
    assert found.suggestion == pytest.approx(found.rates[found.losses.argmin()] / 3)
    assert str(found).startswith(f"learning rate {found.suggestion:.2g}: 40 steps from 0.001 to ")


def test_the_network_stays_as_it_is():
    X, y = problem()
    net, twin = network(inputs=4), network(inputs=4)
    net.fit(X, y, epochs=2)
    twin.fit(X, y, epochs=2)
    fn.find_learning_rate(net, X, y)
    net.fit(X, y, epochs=2)
    twin.fit(X, y, epochs=2)
    assert (net.parameters == twin.parameters).all()


def test_a_network_without_weights_gets_none():
    X, y = problem()
    net = network()
    first, again = (fn.find_learning_rate(net, X, y) for _ in range(2))
    assert net.inputs is None
    assert (first.losses == again.losses).all()
    assert (fn.find_learning_rate(net, X, y, seed=1).losses[:20] != first.losses[:20]).any()


def test_steps_that_diverge_end_the_search():
    X, y = problem()
    net = fn.Sequential([fn.Dense(24, "relu"), fn.Dense(1)], rng=0)
    found = fn.find_learning_rate(net, X, y, optimizer="sgd", highest=1e12, steps=60)
    assert len(found.rates) < 60
    assert found.suggestion < 1
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize("n", [1, 5, 31, 700])
def test_any_number_of_examples_will_do(n):
    X, y = problem(n)
    assert len(fn.find_learning_rate(network(), X, y, highest=1e-2).rates) == 200


def test_sparse_examples_and_classes_will_do():
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.random(300, 50, 0.1, "coo", random_state=0)
    y = np.asarray(X.tocsr()[:, :25].sum(axis=1) > X.tocsr()[:, 25:].sum(axis=1)).ravel()
    net = fn.Sequential([fn.Dense(8, "relu"), fn.Dense(2, "softmax")], rng=0)
    found = fn.find_learning_rate(net, X, y.astype(int))
    assert found.losses.min() < 0.6


@pytest.mark.parametrize("scaled", [False, True])
def test_examples_count_by_their_weights_and_without_targets_not_at_all(scaled):
    X, y = problem(200)
    weights = np.random.default_rng(1).random(200)
    # Whole batches of nothing, and among them targets of numbers that would lead far away.
    weights[40:150:2] = 0.0
    gaps = y.copy()
    gaps[40:150:2] = 1e6
    gaps[41:150:2] = np.nan
    known = np.r_[:40, 150:200]
    searches = (
        {"X": X[known], "y": y[known], "sample_weight": weights[known]},
        {"X": X, "y": gaps, "sample_weight": weights, "missing_targets": "ignore"},
        {
            "X": X, "y": [None if np.isnan(one) else one for one in gaps.tolist()],
            "sample_weight": weights.tolist(), "missing_targets": "ignore",
        },
        {
            "X": X, "y": np.ma.array(np.where(np.isnan(gaps), 1e6, gaps), mask=np.isnan(gaps)),
            "sample_weight": weights, "missing_targets": "ignore",
        },
    )  # fmt: skip
    found = [
        fn.find_learning_rate(
            network(dtype="float64", scale_targets=scaled), **one, highest=0.1, steps=40
        )
        for one in searches
    ]
    for other in found[1:]:
        assert other.losses == pytest.approx(found[0].losses, rel=1e-9)
    plain = fn.find_learning_rate(
        network(dtype="float64", scale_targets=scaled), X[known], y[known], highest=0.1, steps=40
    )
    assert (plain.losses != found[0].losses).all()


def test_both_paths_take_the_same_steps():
    X, y = problem(100)
    options = {"highest": 0.1, "steps": 40}
    found = [
        fn.find_learning_rate(network(dtype="float64"), X, y, backend=path, **options)
        for path in ("native", "reference")
    ]
    assert found[0].losses == pytest.approx(found[1].losses, rel=1e-9)


def test_the_picture_shows_curve_and_suggestion():
    pytest.importorskip("matplotlib")
    X, y = problem()
    found = fn.find_learning_rate(network(), X, y)
    ax = found.plot()
    assert ax.get_xscale() == "log"
    assert [len(line.get_xdata()) for line in ax.lines] == [len(found.rates), 2]
    assert found.plot(ax) is ax


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0.0}, "lowest must be"),
        ({"lowest": 1.0, "highest": 0.5}, "highest must be"),
        ({"steps": 19}, "steps must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"seed": -1}, "seed must be"),
        ({"optimizer": "adm"}, "optimizer must be"),
        ({"optimizer": "lbfgs"}, "optimizer must be one that takes steps.*LBFGS searches over all"),
        ({"loss": "mqe"}, "loss must be"),
        ({"backend": "fast"}, "backend must be"),
        ({"missing_targets": "drop"}, "missing_targets must be"),
        ({"sample_weight": np.ones(3)}, "sample_weight"),
        ({"y": np.ones(3)}, "y"),
        ({"X": np.full((600, 4), np.nan)}, "X has NaN at row 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(options, message):
    X, y = problem()
    given = {"X": X, "y": y, **options}
    with pytest.raises((TypeError, ValueError), match=message):
        fn.find_learning_rate(network(), given.pop("X"), given.pop("y"), **given)
