"""Losses whose records have numbers: smoothed labels, focal, gamma and Tweedie."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from cases import DTYPES, JIT, error

import fastnn as fn

ESTIMATORS = importlib.util.find_spec("sklearn") is not None
needs_estimators = pytest.mark.skipif(not ESTIMATORS, reason="needs scikit-learn")

rng = np.random.default_rng(5)
N, P, M = (37, 5, 3) if JIT else (7, 2, 3)
X = rng.normal(size=(N, P))
LABELS = rng.integers(0, M, N)
CLASSES = np.eye(M)[LABELS]
BITS = rng.integers(0, 2, (N, M)).astype(float)
AMOUNTS = rng.gamma(2.0, size=(N, M))
SOME = np.where(rng.random((N, M)) < 0.4, 0.0, AMOUNTS)

# Last activation, targets and loss.
LOSSES = {
    "smoothed": ("softmax", LABELS, fn.CrossEntropy(0.1)),
    "smoothed-rows": ("softmax", CLASSES, fn.CrossEntropy(0.3)),
    "smoothed-bits": ("sigmoid", BITS, fn.CrossEntropy(0.2)),
    "focal": ("softmax", LABELS, fn.Focal(1.5)),
    "focal-flat": ("softmax", LABELS, fn.Focal(0.0)),
    "focal-bits": ("sigmoid", BITS, fn.Focal(0.7)),
    "gamma": ("exp", AMOUNTS, "gamma"),
    "tweedie": ("exp", SOME, fn.Tweedie(1.3)),
    "tweedie-far": ("exp", AMOUNTS, fn.Tweedie(3.0)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def network(last, dtype="float64", units=M):
    return fn.Sequential([fn.Dense(9, "tanh"), fn.Dense(units, last)], P, dtype, rng=3)


@every_loss
def test_gradients_are_those_of_central_differences(name):
    last, y, loss = LOSSES[name]
    net = network(last)
    weights = rng.random(N)
    _, gradient = net.loss_and_gradient(X, y, loss, sample_weight=weights)
    step = 1e-6
    for place in rng.permutation(net.parameters.size)[:12]:
        values = []
        for side in (1, -1):
            moved = net.copy()
            moved.parameters[place] += side * step
            values.append(moved.evaluate(X, y, loss, sample_weight=weights)["loss"])
        exact = (values[0] - values[1]) / (2 * step)
        assert gradient[place] == pytest.approx(exact, rel=1e-5, abs=1e-8)


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_paths_learn_alike(name, dtype):
    last, y, loss = LOSSES[name]
    nets = [network(last, dtype) for _ in range(2)]
    for net, path in zip(nets, ("native", "reference"), strict=True):
        net.fit(X, y, loss, epochs=4, batch_size=10, backend=path)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert error(nets[0].parameters, nets[1].parameters) < tolerance
    values = [net.evaluate(X, y, loss, backend=path)["loss"]
              for net, path in zip(nets, ("native", "reference"), strict=True)]  # fmt: skip
    assert values[0] == pytest.approx(values[1], rel=tolerance)


@every_loss
def test_no_bit_depends_on_the_threads(name):
    last, y, loss = LOSSES[name]
    found = []
    for threads in (1, 2, 3):
        net = network(last, "float32")
        net.fit(np.tile(X, (9, 1)), np.concatenate([y] * 9), loss, epochs=2, threads=threads)
        found.append(net.parameters.tobytes())
    assert len(set(found)) == 1


@every_loss
def test_single_steps_are_those_of_a_fit(name):
    last, y, loss = LOSSES[name]
    whole, single = network(last), network(last)
    whole.fit(X, y, loss, epochs=3, batch_size=N, shuffle=False)
    for _ in range(3):
        single.train_on_batch(X, y, loss)
    np.testing.assert_array_equal(whole.parameters, single.parameters)


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_smoothed_labels_are_other_targets(last):
    net, plain = network(last), "cross_entropy" if last == "softmax" else "binary_cross_entropy"
    y = CLASSES if last == "softmax" else BITS
    smoothed = 0.8 * y + 0.2 / (M if last == "softmax" else 2)
    for path in ("native", "reference"):
        found = net.loss_and_gradient(X, y, fn.CrossEntropy(0.2), backend=path)
        wanted = net.loss_and_gradient(X, smoothed, plain, backend=path)
        assert found[0] == pytest.approx(wanted[0], rel=1e-12)
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-10, atol=1e-14)
        same = net.loss_and_gradient(X, y, fn.CrossEntropy(), backend=path)
        np.testing.assert_array_equal(same[1], net.loss_and_gradient(X, y, plain, backend=path)[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_a_focal_loss_of_gamma_0_is_a_cross_entropy(last, dtype):
    net, y = network(last, dtype), LABELS if last == "softmax" else BITS
    found = net.loss_and_gradient(X, y, fn.Focal(0.0))
    wanted = net.loss_and_gradient(X, y)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    assert found[0] == pytest.approx(wanted[0], rel=tolerance)
    assert error(found[1], wanted[1]) < tolerance
    assert net.evaluate(X, y, fn.Focal(3.0))["loss"] < wanted[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "y"), [("softmax", [0, 1]), ("sigmoid", [[1.0], [0.0]])])
def test_a_focal_loss_of_sure_outputs_stays_finite(last, y, dtype):
    units = 2 if last == "softmax" else 1
    net = fn.Sequential([fn.Dense(units, last, bias=False)], 1, dtype)
    net.parameters[:] = [80.0, -80.0] if units == 2 else [80.0]
    for gamma in (0.0, 0.3, 1.0, 2.0):
        for sign in (1.0, -1.0):
            values = [
                net.loss_and_gradient([[sign], [-sign]], y, fn.Focal(gamma), backend=path)
                for path in ("native", "reference")
            ]
            for value, gradient in values:
                assert np.isfinite(value)
                assert np.isfinite(gradient).all()
            assert error(values[0][1], values[1][1]) < 1e-5
            assert values[0][0] == pytest.approx(values[1][0], rel=1e-5, abs=1e-30)


@pytest.mark.parametrize(
    ("y", "loss", "message"),
    [
        ([1.0, 0.0], "gamma", r"y has 0\.0 at row 1, column 0, but each target must be greater"),
        ([1.0, 0.0], fn.Tweedie(2.5), "must be greater than 0"),
        ([1.0, -1.0], fn.Tweedie(), "must be a count or a rate of at least 0"),
    ],
)
def test_targets_that_a_loss_cannot_take_are_refused(y, loss, message):
    net = fn.Sequential([fn.Dense(1, "exp")], 2)
    for ask in (net.fit, net.train_on_batch, net.loss_and_gradient, net.evaluate):
        with pytest.raises(ValueError, match=message):
            ask(np.ones((2, 2), "f4"), np.array(y, "f4"), loss)


def test_what_a_constant_would_lose_is_known():
    for name, (last, y, loss) in LOSSES.items():
        net = network(last)
        net.fit(X, y, loss, epochs=2)
        assert net.diagnose(X, y, loss).loss > 0, name


@needs_estimators
@pytest.mark.jit
@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_without_hidden_layers_they_are_generalised_linear_models(power):
    linear = pytest.importorskip("sklearn.linear_model")
    optimize = pytest.importorskip("scipy.optimize")
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(300, 4))
    mean = np.exp(Z @ [0.3, -0.2, 0.1, 0.4] + 0.5)
    y = draw.gamma(2.0, mean / 2.0)
    if power < 2.0:
        y *= draw.random(300) < 0.7
    alpha = 0.01
    theirs = linear.TweedieRegressor(power=power, alpha=alpha, link="log", tol=1e-10, max_iter=9999)
    theirs.fit(Z, y)
    net = fn.Sequential([fn.Dense(1, "exp", l2=alpha)], 4, "float64")
    found = optimize.minimize(
        net.objective(Z, y, fn.Tweedie(power)), net.parameters, jac=True, method="BFGS",
        options={"gtol": 1e-9},
    ).x  # fmt: skip
    np.testing.assert_allclose(found[:-1], theirs.coef_, rtol=1e-6, atol=1e-7)
    assert found[-1] == pytest.approx(theirs.intercept_, rel=1e-6)
    if power == 2.0:
        other = linear.GammaRegressor(alpha=alpha, tol=1e-10, max_iter=9999).fit(Z, y)
        np.testing.assert_allclose(found[:-1], other.coef_, rtol=1e-6, atol=1e-7)


@needs_estimators
@pytest.mark.jit
def test_estimators_take_them():
    few = {"hidden_layer_sizes": 8, "max_iter": 30, "random_state": 0, "learning_rate_init": 0.01,
           "n_iter_no_change": 9, "tol": 1.0}  # fmt: skip
    y = AMOUNTS[:, 0]
    for loss in ("gamma", "tweedie", fn.Tweedie(1.2)):
        model = fn.MLPRegressor(loss, **few).fit(X, y)
        assert model.out_activation_ == "exp"
        assert model.predict(X).min() > 0
        assert model.loss_curve_[-1] < model.loss_curve_[0]
    for labels in (LABELS, LABELS > 0):
        plain = fn.MLPClassifier(**few).fit(X, labels)
        smooth = fn.MLPClassifier(label_smoothing=0.2, **few).fit(X, labels)
        assert smooth.get_params()["label_smoothing"] == 0.2
        assert plain.loss_ < smooth.loss_
        assert (plain.coefs_[0] != smooth.coefs_[0]).any()
        focal = fn.MLPClassifier(loss=fn.Focal(), **few).fit(X, labels)
        assert focal.loss_ < plain.loss_
        assert focal.predict_proba(X).shape == plain.predict_proba(X).shape
    with pytest.raises(ValueError, match="label_smoothing must be 0 unless loss is 'log_loss'"):
        fn.MLPClassifier(loss="hinge", label_smoothing=0.1).fit(X, LABELS)
    with pytest.raises(ValueError, match="label_smoothing"):
        fn.MLPClassifier(label_smoothing=1.0).fit(X, LABELS)


@needs_estimators
@pytest.mark.jit
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_limit_of_a_cross_entropy_and_smoothing_both_count():
    model = fn.MLPClassifier((), label_smoothing=0.5, max_iter=2, learning_rate_init=1e-300,
                             random_state=0, n_iter_no_change=1, tol=9.0,
                             coefs_init=[1e4 * np.ones((P, M)) * np.arange(M)],
                             batch_size=N, alpha=0.0)  # fmt: skip
    model.fit(np.abs(X), LABELS)
    # One class gets the whole probability, so that the others' share is lost in every example.
    assert model.loss_ == pytest.approx(-np.log(np.finfo(float).eps))


@pytest.mark.jit
def test_smoothed_labels_are_pytorch_s():
    torch = pytest.importorskip("torch")
    net = network("softmax")
    Z = np.log(net.predict(X))
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor(Z), torch.tensor(LABELS), label_smoothing=0.15
    )
    found = net.evaluate(X, LABELS, fn.CrossEntropy(0.15))["loss"]
    assert found == pytest.approx(float(wanted), rel=1e-12)
