"""Several quantiles of one target, and the activation whose units never cross."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from cases import DTYPES, JIT, error

import fastnn as fn
from fastnn.losses import LOSSES, resolve_loss
from fastnn.reporting.constant import constant_loss

LEVELS = [0.05, 0.5, 0.95]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
WIDTHS = (1, 2, 3, 17, 33, 70, 99) if JIT else (1, 3, 33)


def examples(n, dtype="float64", seed=0):
    """Return features and a target whose spread hangs on the second feature."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 3)).astype(dtype)
    y = np.sin(3 * X[:, 0]) + (0.1 + 0.5 * (X[:, 1] > 0)) * rng.normal(size=n)
    return X, y.astype(dtype)


def network(k, dtype="float64", hidden=7, seed=1):
    """Return a network of k quantiles with no parameter at zero."""
    net = fn.Sequential([fn.Dense(hidden, "tanh"), fn.Dense(k, "increasing")], 3, dtype, rng=seed)
    net.parameters[:] += 0.2 * np.random.default_rng(seed).normal(size=net.parameters.size)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", WIDTHS)
def test_any_number_of_quantiles_is_the_reference_s(k, dtype):
    loss = fn.Quantiles(np.arange(1, k + 1) / (k + 1))
    net = network(k, dtype)
    for n in (1, 3, 17, 65) if JIT else (3,):
        X, y = examples(n, dtype)
        w = np.random.default_rng(2).random(n).astype(dtype)
        native, textbook = (
            net.loss_and_gradient(X, y, loss, sample_weight=w, backend=backend)
            for backend in ("native", "reference")
        )
        assert error(native[0], textbook[0]) <= TOLERANCE[dtype]
        assert error(native[1], textbook[1]) <= TOLERANCE[dtype]
        assert error(net.predict(X), net.predict(X, backend="reference")) <= TOLERANCE[dtype]
        assert np.stack([net(x) for x in X]).tobytes() == net.predict(X).tobytes()


def test_gradients_are_the_slopes_of_the_loss():
    net = network(5)
    X, y = examples(11)
    loss = fn.Quantiles([0.1, 0.3, 0.5, 0.7, 0.9])
    assert fn.check_gradients(net, X, y, loss).error < 1e-7


@pytest.mark.jit
def test_threads_and_chunks_change_no_bit():
    X, y = examples(513, "float32")
    found = []
    for threads in (1, 2, 3, 8):
        net = network(3, "float32", hidden=64)
        net.fit(X, y, fn.Quantiles(LEVELS), epochs=2, batch_size=257, threads=threads)
        found.append(net.parameters.tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_predictions_never_cross_whatever_the_weights(scale, dtype):
    net = network(40, dtype)
    net.parameters[:] *= scale
    X, _ = examples(50, dtype)
    for backend in ("native", "reference"):
        assert (np.diff(net.predict(X, backend=backend), axis=1) >= 0).all()


def test_one_quantile_is_the_loss_of_that_quantile():
    X, y = examples(20)
    several, one = network(1), fn.Sequential([fn.Dense(7, "tanh"), fn.Dense(1)], 3, "float64")
    one.set_weights(several.get_weights())
    found = several.loss_and_gradient(X, y, fn.Quantiles([0.8]))
    expected = one.loss_and_gradient(X, y, fn.Quantile(0.8))
    assert found[0] == pytest.approx(expected[0], rel=1e-14)
    assert error(found[1], expected[1]) < 1e-14


def test_quantiles_of_data_are_met_and_their_coverage_recorded():
    X, y = examples(3000)
    net = fn.Sequential([fn.Dense(32, "relu"), fn.Dense(3, "increasing")], 3, "float64", rng=0)
    history = net.fit(
        X[:2000], y[:2000], fn.Quantiles(LEVELS), "adam", epochs=40, metrics=["coverage", "mae"],
        validation_data=(X[2000:], y[2000:]), schedule="cosine",
    )  # fmt: skip
    below = (y[2000:, None] <= net.predict(X[2000:])).mean(axis=0)
    assert below == pytest.approx(LEVELS, abs=0.04)
    assert history["val_coverage"][-1] == pytest.approx(0.9, abs=0.05)
    inside = below[2] - (y[2000:, None] < net.predict(X[2000:])).mean(axis=0)[0]
    assert history["val_coverage"][-1] == pytest.approx(inside)
    middle = np.abs(net.predict(X[2000:])[:, 1] - y[2000:]).mean()
    assert history["val_mae"][-1] == pytest.approx(middle)
    by_reference = net.evaluate(X, y, fn.Quantiles(LEVELS), ["coverage"], backend="reference")
    assert by_reference == pytest.approx(net.evaluate(X, y, fn.Quantiles(LEVELS), ["coverage"]))


def test_a_metric_of_the_user_s_own_sees_every_quantile():
    def below(y, predictions):
        assert y.shape == (len(predictions),)
        return (y <= predictions[:, 2]).mean()

    X, y = examples(50)
    net = network(3)
    found = net.evaluate(X, y, metrics=[below])["below"]
    assert found == pytest.approx((y <= net.predict(X)[:, 2]).mean())
    assert net.fit(X, y, epochs=1, metrics=[below])["below"][0] >= 0.0


def test_missing_targets_leave_their_examples_out():
    X, y = examples(40)
    y[::5] = np.nan
    known = ~np.isnan(y)
    net = network(3)
    for backend in ("native", "reference"):
        asked = {"metrics": ["coverage", "mae"], "backend": backend}
        found = net.evaluate(X, y, missing_targets="ignore", **asked)
        assert found == pytest.approx(net.evaluate(X[known], y[known], **asked))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([0.5, 0.4], "ascending order, none twice; got 0.4 after 0.5"),
        ([0.5, 0.5], "ascending order, none twice; got 0.5 after 0.5"),
        ([0.0, 0.5], r"quantiles\[0\] must be a number in"),
        ([0.5, 1.0], r"quantiles\[1\] must be a number in"),
        ([0.5, float("nan")], r"quantiles\[1\] must be a number in"),
        ([0.5, "x"], r"quantiles\[1\] must be a number in"),
        ([], "quantiles must be 1 to 99 numbers; got 0"),
        (np.arange(1, 101) / 101, "quantiles must be 1 to 99 numbers; got 100"),
        (0.5, "quantiles must be several numbers between 0 and 1"),
        ("0.5", "quantiles must be several numbers between 0 and 1"),
        (None, "quantiles must be several numbers between 0 and 1"),
    ],
)
def test_what_are_no_quantiles_is_refused(given, said):
    with pytest.raises((TypeError, ValueError), match=said):
        fn.Quantiles(given)


def test_what_does_not_fit_several_quantiles_is_refused():
    X, y = examples(20)
    net = network(3)
    before = net.parameters.tobytes()
    refusals = [
        (lambda: net.fit(X, np.c_[y, y]), r"y must have shape \(20,\) or \(20, 1\)"),
        (lambda: net.fit(X, np.c_[y, y, y]), "3 for each target"),
        (lambda: net.fit(X, y, fn.Quantiles([0.1, 0.9])), "needs a last layer of 2 units"),
        (lambda: network(6).fit(X, np.c_[y, y]), "For several targets fit a network for each"),
        (lambda: net.fit(X, y, optimizer=fn.LevenbergMarquardt()), "LBFGS takes any loss"),
        (lambda: net.fit(X, y, class_weight={0: 2.0}), "needs a loss on classes"),
        (lambda: net.evaluate(X, y, metrics="accuracy"), "metrics must suit the loss"),
    ]
    for refused, said in refusals:
        with pytest.raises(ValueError, match=said):
            refused()
    assert net.parameters.tobytes() == before
    for last in ("softmax", "identity"):
        other = fn.Sequential([fn.Dense(3, last)], 3)
        with pytest.raises(ValueError, match="Give the last layer activation='increasing'"):
            other.fit(X, y, fn.Quantiles(LEVELS))
    with pytest.raises(ValueError, match="compares quantiles, with a loss that predicts none"):
        fn.Sequential([fn.Dense(1)], 3).fit(X, y, metrics="coverage")


@pytest.mark.jit
def test_a_search_over_all_examples_lowers_the_loss():
    X, y = examples(100)
    net = network(3)
    history = net.fit(X, y, optimizer=fn.LBFGS(), epochs=30)
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_a_fit_by_quantiles_is_saved_copied_and_gone_on_with(tmp_path):
    X, y = examples(64)
    loss = fn.Quantiles([0.2, 0.8])
    whole, part = network(2), network(2)
    whole.fit(X, y, loss, epochs=4)
    saving = fn.Checkpoint(tmp_path / "state")
    part.fit(X, y, loss, epochs=2, callbacks=[saving])
    other = pickle.loads(pickle.dumps(part))
    part.fit(X, y, loss, epochs=4, resume=tmp_path / "state")
    assert part.parameters.tobytes() == whole.parameters.tobytes()
    other.save(tmp_path / "net")
    assert fn.load(tmp_path / "net").predict(X).tobytes() == other.predict(X).tobytes()
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_a_constant_is_the_quantiles_of_the_targets():
    y = np.random.default_rng(0).normal(size=(501, 1))
    row = resolve_loss(fn.Quantiles(LEVELS), "increasing")
    guess = np.quantile(y, LEVELS)
    expected = np.maximum(LEVELS * (y - guess), (np.array(LEVELS) - 1) * (y - guess)).mean()
    assert constant_loss(row, y) == pytest.approx(expected, rel=1e-3)
    assert LOSSES["quantiles"].given.middle == 1


@pytest.mark.jit
def test_the_jacobian_of_increasing_units_is_not_symmetric():
    X, _ = examples(9)
    V = np.random.default_rng(4).normal(size=X.shape)
    for k in (2, 35):
        net = fn.Sequential([fn.Dense(k, "increasing"), fn.Dense(4, "increasing")], 3, "float64")
        J = net.jacobian(X)
        assert error(J, net.jacobian(X, backend="reference")) < 1e-12
        assert error(net.jvp(X, V), np.einsum("nmp,np->nm", J, V)) < 1e-12


# The estimator.


def test_an_estimator_predicts_a_column_for_each_quantile(tmp_path):
    pytest.importorskip("sklearn")
    X, y = examples(1200)
    reg = fn.MLPRegressor(
        fn.Quantiles(LEVELS), 20, learning_rate_init=0.01, random_state=0, max_iter=40
    )
    with pytest.warns(match="converged"):
        reg.fit(X[:800], y[:800])
    P = reg.predict(X[800:])
    assert P.shape == (400, 3)
    assert (np.diff(P) >= 0).all()
    assert (y[800:, None] <= P).mean(axis=0) == pytest.approx(LEVELS, abs=0.06)
    spread = np.square(y[800:] - y[800:].mean()).sum()
    expected = 1 - np.square(y[800:] - P[:, 1]).sum() / spread
    assert reg.score(X[800:], y[800:]) == pytest.approx(expected)
    assert reg.out_activation_ == "increasing"
    reg.save(tmp_path / "reg")
    assert fn.load_estimator(tmp_path / "reg").predict(X).tobytes() == reg.predict(X).tobytes()
    with pytest.raises(ValueError, match="Fit an estimator for each column"):
        fn.MLPRegressor(fn.Quantiles(LEVELS)).fit(X, np.c_[y, y])
    with pytest.raises(ValueError, match="return_std=True needs"):
        reg.predict(X, return_std=True)
    with pytest.raises(ValueError, match="loss must be one that scikit-learn has"):
        reg.to_sklearn()
    with pytest.raises(ValueError, match="loss"):
        fn.MLPClassifier(loss=fn.Quantiles(LEVELS)).fit(X, y > 0)


@pytest.mark.jit
@pytest.mark.parametrize("more", [{"early_stopping": True}, {"solver": "lbfgs", "max_iter": 30}])
def test_an_estimator_s_other_ways_of_fitting_take_quantiles(more):
    pytest.importorskip("sklearn")
    X, y = examples(300)
    reg = fn.MLPRegressor("quantiles", 10, random_state=0, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reg.fit(X, y)
    assert reg.predict(X).shape == (300, 3)
    if "early_stopping" in more:
        assert np.isfinite(reg.validation_scores_).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_quantiles_are_as_good_as_separate_fits_of_scikit_learn_s():
    """Pinball losses on unseen examples, beside a boosted ensemble for each quantile."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    from sklearn.metrics import mean_pinball_loss

    X, y = examples(6000)
    reg = fn.MLPRegressor(
        fn.Quantiles(LEVELS), (64, 64), learning_rate_init=0.005, random_state=0, max_iter=60,
        learning_rate="cosine", tol=0.0,
    )  # fmt: skip
    # At a constant rate the last steps move the quantiles by some hundredths.
    P = reg.fit(X[:4000], y[:4000]).predict(X[4000:])
    crossed = []
    for column, level in enumerate(LEVELS):
        theirs = ensemble.GradientBoostingRegressor(loss="quantile", alpha=level, random_state=0)
        crossed.append(theirs.fit(X[:4000], y[:4000]).predict(X[4000:]))
        ours, other = (
            mean_pinball_loss(y[4000:], found, alpha=level) for found in (P[:, column], crossed[-1])
        )
        assert ours < 1.1 * other
        assert (y[4000:] <= P[:, column]).mean() == pytest.approx(level, abs=0.03)
    assert (np.diff(P) >= 0).all()
