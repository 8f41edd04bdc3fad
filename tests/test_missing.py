"""NaN among the targets as targets that are missing."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, JIT, error

import fastnn as fn

rng = np.random.default_rng(11)
N, P, M = (41, 4, 3) if JIT else (9, 2, 3)
X = rng.normal(size=(N, P))
W = rng.random(N) + 0.1
GONE = rng.random((N, M)) < 0.4
GONE[3] = True  # an example without any target
REAL = rng.normal(size=(N, M))
BITS = rng.integers(0, 2, (N, M)).astype(float)

# Last activation, units, whole targets and loss: of each walk over outputs.
CASES = {
    "squares": ("identity", M, REAL, "mean_squared_error"),
    "huber-tanh": ("tanh", M, REAL, fn.Huber(0.3)),
    "bits": ("sigmoid", M, BITS, fn.CrossEntropy(0.1)),
    "counts": ("exp", M, np.abs(REAL).round(), "poisson"),
    "gamma": ("exp", M, np.exp(REAL), "gamma"),
    "sides": ("identity", M, 2 * BITS - 1, "hinge"),
    "variances": ("identity", 2 * M, REAL, "gaussian_nll"),
    "softmax": ("softmax", M, REAL, "mean_absolute_error"),
}
every_case = pytest.mark.parametrize("name", CASES)
IGNORE = {"missing_targets": "ignore"}


def network(last, units=M, dtype="float64"):
    return fn.Sequential([fn.Dense(7, "tanh"), fn.Dense(units, last)], P, dtype, rng=2)


def case(name):
    last, units, y, loss = CASES[name]
    return last, units, np.where(GONE, np.nan, y), loss


@every_case
@pytest.mark.parametrize("weights", [None, W], ids=["plain", "weighted"])
def test_the_loss_is_the_mean_over_the_targets_that_are_known(name, weights):
    last, units, y, loss = case(name)
    net, total, count = network(last, units), 0.0, 0.0
    # The loss of each target alone: with all others missing, in an example of its own.
    for i, j in zip(*np.nonzero(~GONE), strict=True):
        one = np.full((1, M), np.nan)
        one[0, j] = y[i, j]
        w = 1.0 if weights is None else weights[i]
        total += w * net.evaluate(X[i : i + 1], one, loss, **IGNORE)["loss"]
        count += w
    for path in ("native", "reference"):
        found = net.evaluate(X, y, loss, sample_weight=weights, backend=path, **IGNORE)
        assert found["loss"] == pytest.approx(total / count, rel=1e-10)
    if name == "squares":
        errors = np.where(GONE, 0, (net.predict(X) - REAL) ** 2)
        w = np.ones(N) if weights is None else weights
        exact = (w @ errors).sum() / (w @ ~GONE).sum()
        assert total / count == pytest.approx(exact, rel=1e-10)


@every_case
def test_the_gradient_is_that_of_the_mask(name):
    last, units, y, loss = case(name)
    net = network(last, units)
    ask = {"sample_weight": W, **IGNORE}
    value, gradient = net.loss_and_gradient(X, y, loss, **ask)
    other, slopes = net.loss_and_gradient(X, y, loss, backend="reference", **ask)
    assert value == pytest.approx(other, rel=1e-12)
    assert error(gradient, slopes) < 1e-12
    objective = net.objective(X, y, loss, **ask)
    step = 1e-6
    for place in rng.permutation(net.parameters.size)[:10]:
        ends = []
        for side in (1, -1):
            moved = net.parameters.copy()
            moved[place] += side * step
            ends.append(objective(moved)[0])
        assert gradient[place] == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-7
        )


@pytest.mark.parametrize("dtype", DTYPES)
@every_case
def test_fits_agree_whatever_the_path_and_the_threads(name, dtype):
    last, units, y, loss = case(name)
    held = (X[::3], y[::3])
    nets, curves = [], []
    for more in ({}, {"threads": 2}, {"backend": "reference"}):
        net = network(last, units, dtype)
        history = net.fit(
            X, y, loss, epochs=3, batch_size=8, validation_data=held, **IGNORE, **more
        )
        nets.append(net.parameters)
        curves.append([history["loss"], history["val_loss"]])
    np.testing.assert_array_equal(nets[0], nets[1])
    tolerance = 3e-5 if dtype == "float32" else 1e-11
    assert error(nets[0], nets[2]) < tolerance
    np.testing.assert_allclose(curves[0], curves[2], rtol=10 * tolerance)


def test_with_one_output_it_is_as_if_such_rows_were_left_out():
    y = np.where(GONE[:, 0], np.nan, REAL[:, 0])
    known = ~GONE[:, 0]
    net, fewer = network("identity", 1), network("identity", 1)
    whole = {"epochs": 5, "batch_size": N}
    net.fit(X, y, metrics=["mae", "r2"], **whole, **IGNORE)
    fewer.fit(X[known], y[known], **whole)
    np.testing.assert_allclose(net.parameters, fewer.parameters, rtol=1e-10, atol=1e-13)
    names = ["mean_absolute_error", "r2", "rmse"]
    found = net.evaluate(X, y, metrics=names, **IGNORE)
    wanted = net.evaluate(X[known], y[known], metrics=names)
    assert found == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("name", ["lbfgs", "levenberg_marquardt"])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_searches_take_them_too(name, backend):
    y = np.where(GONE, np.nan, REAL)
    net = network("identity", M)
    start, slope = net.loss_and_gradient(X, y, sample_weight=W, **IGNORE)
    history = net.fit(X, y, optimizer=name, epochs=60, sample_weight=W, backend=backend, **IGNORE)
    found, left = net.loss_and_gradient(X, y, sample_weight=W, **IGNORE)
    assert history["loss"][0] == pytest.approx(start, rel=1e-9)
    assert found <= history["loss"][-1] * (1 + 1e-9)
    # It has gone down the very loss that the gradient is of.
    assert np.linalg.norm(left) < 0.1 * np.linalg.norm(slope)


def test_a_missing_class_leaves_its_example_out():
    labels = rng.integers(0, M, N).astype(float)
    gone = GONE[:, 0]
    listed = np.where(gone, np.nan, labels)
    rows = np.where(gone[:, None], np.nan, np.eye(M)[labels.astype(int)])
    net = network("softmax")
    wanted = net.evaluate(X[~gone], labels[~gone], metrics="accuracy")
    for y in (listed, rows):
        assert net.evaluate(X, y, metrics="accuracy", **IGNORE) == pytest.approx(wanted)


def test_each_output_of_a_metric_has_its_own_examples():
    net, y = network("identity"), np.where(GONE, np.nan, REAL)
    found = net.evaluate(X, y, metrics=["mae", "r2"], sample_weight=W, **IGNORE)
    errors = np.abs(net.predict(X) - REAL)
    means = [np.average(errors[~GONE[:, j], j], weights=W[~GONE[:, j]]) for j in range(M)]
    assert found["mae"] == pytest.approx(np.mean(means), rel=1e-10)
    history = net.fit(
        X, y, epochs=1, metrics="mae", sample_weight=W, measure="after", optimizer=fn.SGD(1e-30),
        validation_data=(X, y, W), **IGNORE,
    )  # fmt: skip
    assert history["mae"][-1] == pytest.approx(found["mae"], rel=1e-10)
    assert history["val_mae"][-1] == pytest.approx(found["mae"], rel=1e-10)


def test_single_steps_take_them_too():
    y = np.where(GONE, np.nan, REAL)
    whole, single = network("identity"), network("identity")
    whole.fit(X, y, epochs=3, batch_size=N, shuffle=False, **IGNORE)
    for _ in range(3):
        single.train_on_batch(X, y, **IGNORE)
    np.testing.assert_array_equal(whole.parameters, single.parameters)


def test_targets_that_are_all_there_give_the_same_bits():
    nets = [network("identity", dtype="float32") for _ in range(2)]
    for net, more in zip(nets, ({}, IGNORE), strict=True):
        net.fit(X, REAL, epochs=3, metrics="mae", **more)
        net.train_on_batch(X, REAL, **more)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


@pytest.mark.parametrize("name", ["squares", "bits", "counts", "sides"])
def test_what_stands_for_nothing_in_python_and_pandas_is_missing(name):
    last, units, y, loss = case(name)
    wanted = network(last, units).fit(X, y, loss, epochs=2, **IGNORE)
    listed = [[None if np.isnan(value) else value for value in row] for row in y.tolist()]
    masked = np.ma.array(np.where(np.isnan(y), 9.0, y), mask=np.isnan(y))
    forms = {"objects": np.array(listed, object), "lists": listed, "masked": masked}
    if name != "squares":
        forms["masked integers"] = masked.astype(int)
    if name != "squares":
        pandas = pytest.importorskip("pandas")
        forms["frame"] = pandas.DataFrame(listed).astype("Int64")
    for form in forms.values():
        found = network(last, units).fit(X, form, loss, epochs=2, **IGNORE)
        assert found.to_dict() == wanted.to_dict()
        with pytest.raises(ValueError, match=r"y has (a missing value|NaN|a masked entry)"):
            network(last, units).fit(X, form, loss)


@pytest.mark.parametrize("listed", [[0, None, 2, 1], [None, 1.0, 1, 2]])
def test_none_is_a_class_that_is_missing(listed):
    net = network("softmax")
    y = np.array([np.nan if one is None else one for one in listed])
    wanted = net.evaluate(X[:4], y, **IGNORE)
    assert net.evaluate(X[:4], listed, **IGNORE) == wanted
    assert net.evaluate(X[:4], np.array(listed, object), **IGNORE) == wanted
    masked = np.ma.array([2 if one is None else int(one) for one in listed], mask=np.isnan(y))
    assert net.evaluate(X[:4], masked, **IGNORE) == wanted


@pytest.mark.parametrize("missing", [None, np.nan])
def test_names_of_classes_of_which_some_are_missing_are_numbered_as_the_error_says(missing):
    names = ["red", missing, "blue", "red"]
    net = network("softmax")
    with pytest.raises(TypeError, match="y must hold real numbers; got 'red'") as refused:
        net.evaluate(X[:4], names, **IGNORE)
    said = str(refused.value).split("NaN where one is missing: ")[1].rstrip(".")
    known = {"np": np, "y": names}
    exec(said, known)
    assert net.evaluate(X[:4], known["y"], **IGNORE) == net.evaluate(X[[0, 2, 3]], [1, 0, 1])


def test_what_is_wrong_is_said():
    net = network("identity")
    y = np.where(GONE, np.nan, REAL)
    for ask in (net.fit, net.train_on_batch, net.evaluate, net.loss_and_gradient, net.objective):
        with pytest.raises(ValueError, match="y has NaN at row"):
            ask(X, y)
        with pytest.raises(ValueError, match="missing_targets must be 'error' or 'ignore'"):
            ask(X, y, missing_targets="drop")
        with pytest.raises(ValueError, match="y must have a target that is not missing"):
            ask(X, np.full((N, M), np.nan), **IGNORE)
        infinite = np.where(GONE, np.nan, REAL)
        infinite[0, 0] = np.inf
        with pytest.raises(ValueError, match="y has infinity at row 0, column 0"):
            ask(X, infinite, **IGNORE)
        text = np.where(GONE, None, REAL.astype(object))
        text[0, 0] = "x"
        with pytest.raises(TypeError, match="y must hold real numbers; got 'x'"):
            ask(X, text, **IGNORE)
    counts = np.where(GONE, np.nan, -1.0)
    with pytest.raises(ValueError, match="must be a count or a rate of at least 0"):
        network("exp").fit(X, counts, "poisson", **IGNORE)
