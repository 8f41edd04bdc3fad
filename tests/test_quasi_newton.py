"""Searches by L-BFGS: against SciPy's, the textbook's, and what their vectors promise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

import itertools

from scipy.optimize import minimize, rosen, rosen_der

import fastnn as fn
from fastnn import paths
from fastnn.kernels import codes

rng = np.random.default_rng(3)
BACKENDS = ["native", "reference"]


def logistic(n):
    """Return a convex loss of n weights, and its gradient."""
    A = rng.standard_normal((60, n))
    signs = np.where(A[:, 0] + rng.standard_normal(60) > 0, 1.0, -1.0)

    def loss(w):
        return np.logaddexp(0, -signs * (A @ w)).mean() + 1e-2 * w @ w

    def gradient(w):
        return -(A.T @ (signs / (1 + np.exp(signs * (A @ w))))) / 60 + 2e-2 * w

    return loss, gradient


def searched(loss, gradient, start, backend, most=10**6, memory=10, tolerance=1e-5, known=None):
    """Search; return the search, its last task and the points that were accepted."""
    search = paths.asked(backend).search(start, memory, tolerance, known)
    accepted, task = [], codes.EVALUATE
    while task == codes.EVALUATE and len(accepted) < most:
        x = search.point.copy()
        task = search.tell(loss(x), gradient(x))
        if search.accepted:
            accepted.append(search.best[0].copy())
    return search, task, accepted


def by_scipy(loss, gradient, start, **options):
    points = []
    found = minimize(
        loss, start, jac=gradient, method="L-BFGS-B", callback=lambda x: points.append(x.copy()),
        options=options,
    )  # fmt: skip
    return found, points


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [1, 2, 7, 33, 100])
def test_it_takes_the_steps_of_scipy(n, backend):
    loss, gradient = logistic(n)
    start = rng.standard_normal(n)
    found, points = by_scipy(loss, gradient, start)
    search, task, accepted = searched(loss, gradient, start, backend)
    assert task in (codes.SMALL_GRADIENT, codes.SMALL_REDUCTION)
    assert len(accepted) == found.nit
    for a, b in zip(accepted, points, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    assert search.best[1] == pytest.approx(found.fun, rel=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [2, 5, 12])
def test_it_finds_its_way_through_a_curved_valley(n, backend):
    start = np.random.default_rng(n).standard_normal(n)
    _found, points = by_scipy(rosen, rosen_der, start, maxiter=1000)
    search, _task, accepted = searched(rosen, rosen_der, start, backend)
    assert search.best[1] < 1e-6
    # Later rounding has grown.
    for a, b in zip(accepted[:15], points, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_every_iteration_meets_wolfe_s_conditions():
    loss, gradient = rosen, rosen_der
    start = rng.standard_normal(9)
    accepted = [start, *searched(loss, gradient, start, "native", most=60)[2]]
    for a, b in itertools.pairwise(accepted):
        step = b - a
        before, after = gradient(a) @ step, gradient(b) @ step
        assert loss(b) <= loss(a) + 1e-3 * before + 1e-12
        assert abs(after) <= 0.9 * abs(before) + 1e-12


@pytest.mark.parametrize("memory", [1, 3, 20])
def test_a_direction_is_that_of_the_bfgs_matrix(memory):
    n = 11
    loss, gradient = logistic(n)
    search, _, _ = searched(loss, gradient, rng.standard_normal(n), "native", 6, memory, 1e-12)
    known = search.curvature
    assert len(known.steps) == min(memory, 6)
    s, y = known.steps[-1], known.changes[-1]
    H = np.eye(n) * (s @ y) / (y @ y)
    for s, y in zip(known.steps, known.changes, strict=True):
        V = np.eye(n) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    best = search.best[0]
    line = search.point - best
    wanted = -H @ gradient(best)
    np.testing.assert_allclose(line, wanted, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_short_searches_are_one_long_one(backend):
    loss, gradient = logistic(13)
    start = rng.standard_normal(13)
    _, _, whole = searched(loss, gradient, start, backend, most=9)
    first, _, begun = searched(loss, gradient, start, backend, most=4)
    _, _, rest = searched(
        loss, gradient, begun[-1], backend, most=5, known=first.curvature
    )  # fmt: skip
    np.testing.assert_allclose([*begun, *rest], whole, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_that_is_a_minimum_is_left_at_once(backend):
    search = paths.asked(backend).search(np.zeros(3), 10, 1e-5)
    assert search.tell(0.0, np.zeros(3)) == codes.SMALL_GRADIENT
    assert (search.best[0] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_is_wrong_ends_at_the_last_good_point(backend):
    def loss(w):
        return float(w @ w)

    start = rng.standard_normal(4)
    search, task, accepted = searched(loss, lambda w: -2 * w, start, backend)
    assert task == codes.NO_PROGRESS
    assert not accepted
    assert (search.best[0] == start).all()
    assert (search.point == start).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_is_nan_ends(backend):
    search, task, accepted = searched(
        lambda w: np.nan, lambda w: w * np.nan, np.ones(4), backend
    )  # fmt: skip
    assert task == codes.NO_PROGRESS
    assert not accepted
    assert np.isnan(search.best[1])


@pytest.mark.jit
@pytest.mark.parametrize("n", [1, 7, 8, 31, 32, 33, 100, 1001])
def test_sums_of_vectors(n):
    from fastnn.kernels._jit import entry
    from fastnn.kernels.vectors import blended_dot, dot, largest

    @entry
    def sums(a, b, q, out):
        out[0], out[1] = dot(a, b), largest(a)
        out[2] = blended_dot(q, 0.5, -2.0, a, b)
        out[3] = blended_dot(b, 1.0, 0.25, a, b)

    a, b, q = rng.standard_normal((3, n))
    out, kept, before = np.zeros(4), q.copy(), b.copy()
    sums(a, b, q, out)
    new, last = 0.5 * kept - 2 * a, before + 0.25 * a
    np.testing.assert_allclose(q, new, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(b, last, rtol=1e-14, atol=1e-14)
    wanted = [a @ before, np.abs(a).max(), before @ new, last @ last]
    np.testing.assert_allclose(out, wanted, rtol=1e-10, atol=1e-10)


X = rng.standard_normal((90, 6))
Y = X[:, 0] * X[:, 1] + np.sin(X[:, 2])


def fitted(search, iterations, warm=0, **settings):
    one = fn.MLPRegressor(
        hidden_layer_sizes=(7,), activation="tanh", solver="lbfgs", max_iter=iterations, tol=1e-9,
        random_state=0, search=search, warm_start=warm > 0, **settings,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="failed to converge"):
        one.fit(X, Y)
    for _ in range(warm):
        with pytest.warns(UserWarning, match="failed to converge"):
            one.fit(X, Y)
    return one


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_searches_of_an_estimator_agree(dtype):
    own, scipy = (fitted(search, 15, dtype=dtype) for search in ("own", "scipy"))
    limit = 1e-3 if dtype == "float32" else 1e-8
    assert own.n_iter_ == scipy.n_iter_ == 15
    assert own.loss_ == pytest.approx(scipy.loss_, rel=limit)
    for a, b in zip(own.coefs_, scipy.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=limit, atol=limit)
    with fn.backend("reference"):
        textbook = fitted("own", 15, dtype=dtype)
    assert textbook.loss_ == pytest.approx(own.loss_, rel=limit)


def test_curvature_is_kept_over_warm_starts_where_that_is_asked_for():
    whole = fitted("continued", 20)
    parts = fitted("continued", 5, warm=3)
    for a, b in zip(parts.coefs_, whole.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    forgetful = fitted("own", 5, warm=3)
    assert forgetful.loss_ != pytest.approx(whole.loss_, rel=1e-6)
    assert "_curvature" not in vars(forgetful)
    assert "_curvature" not in parts.__getstate__()


def test_another_search_than_those_is_refused():
    with pytest.raises(ValueError, match="'search' parameter"):
        fn.MLPRegressor(solver="lbfgs", search="best").fit(X, Y)
