"""Derivatives of outputs and of losses: against the textbook, and central differences."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.paths import NATIVE

rng = np.random.default_rng(5)
LIMITS = {"float32": 3e-5, "float64": 1e-12}


def network(activation="tanh", last="identity", dtype="float64", outputs=3, **more):
    layers = [fn.Dense(9, activation), fn.Dropout(0.2), fn.Dense(35, "tanh", bias=False)]
    net = fn.Sequential([*layers, fn.Dense(outputs, last, **more)], inputs=5, dtype=dtype, rng=1)
    net.parameters = net.parameters + 0.2 * rng.standard_normal(net.parameters.size)
    return net


def apart(a, b):
    """Return the largest difference, as a share of the largest number."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)


def beside(net, rows):
    """Return examples, and what is multiplied by each derivative."""
    X, U, V = (rng.standard_normal((rows, k)).astype(net.dtype) for k in (5, net.outputs, 5))
    return X, {"jacobian": None, "vjp": U, "jvp": V, "parameter_jacobian": None}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_both_paths_agree(activation, dtype):
    for last, rows in ((activation, 1), ("identity", 67), ("softmax", 130)):
        net = network(activation, last, dtype)
        X, given = beside(net, rows if activation != "softmax" else 3)
        for name, V in given.items():
            asked = (X,) if V is None else (X, V)
            a, b = (getattr(net, name)(*asked, backend=path) for path in ("native", "reference"))
            if name == "parameter_jacobian" and rows > 3:
                continue
            assert apart(a, b) < LIMITS[dtype], (name, last, rows)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "softmax", "exp"])
def test_they_are_central_differences(activation, backend):
    net, step = network(activation, "sigmoid"), 1e-6
    X, _ = beside(net, 3)
    J = net.jacobian(X, backend=backend)
    for k in range(5):
        by = step * np.eye(5)[k]
        found = (net.predict(X + by) - net.predict(X - by)) / (2 * step)
        np.testing.assert_allclose(J[:, :, k], found, rtol=1e-6, atol=1e-8)
    P = net.parameter_jacobian(X, backend=backend)
    start = net.parameters.copy()
    for k in range(0, start.size, 17):
        sides = []
        for side in (step, -step):
            net.parameters = start + side * (np.arange(start.size) == k)
            sides.append(net.predict(X))
        np.testing.assert_allclose(P[:, :, k], (sides[0] - sides[1]) / (2 * step), atol=1e-8)
        net.parameters = start


def test_products_are_those_of_the_jacobian():
    net = network("silu", "softmax")
    X, given = beside(net, 70)
    J = net.jacobian(X)
    np.testing.assert_allclose(net.vjp(X, given["vjp"]), np.einsum("nm,nmp->np", given["vjp"], J))
    np.testing.assert_allclose(
        net.jvp(X, given["jvp"]), np.einsum("nmp,np->nm", J, given["jvp"]), atol=1e-14
    )


def test_wide_outputs_and_layers_of_one_unit():
    for sizes in ((1, 1, 1), (130, 7, 40), (3, 1, 2), (300, 290, 1)):
        inputs, hidden, outputs = sizes
        net = fn.Sequential(
            [fn.Dense(hidden, "tanh"), fn.Dense(outputs)], inputs=inputs, dtype="float64", rng=0
        )
        X = rng.standard_normal((5, inputs))
        for name in ("jacobian", "parameter_jacobian"):
            a, b = (getattr(net, name)(X, backend=path) for path in ("native", "reference"))
            assert apart(a, b) < 1e-12


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_leave_the_bits(threads):
    net = network("mish", "softmax", "float32")
    X, given = beside(net, 1000)
    try:
        fn.set_threads(1)
        wanted = [NATIVE.derivatives(net.layout, net.parameters, X, name, V).tobytes()
                  for name, V in given.items()]  # fmt: skip
        fn.set_threads(threads)
        found = [NATIVE.derivatives(net.layout, net.parameters, X, name, V).tobytes()
                 for name, V in given.items()]  # fmt: skip
    finally:
        fn.set_threads(None)
    assert found == wanted


BY_THE_TEXTBOOK = {
    "normalised": [fn.Dense(6, "tanh"), fn.LayerNorm(), fn.PReLU(), fn.Dense(2)],
    "residual": [
        fn.Dense(6, "tanh"),
        fn.Residual([fn.Dense(4, "silu"), fn.Residual([fn.Dense(4, "tanh")]), fn.Dense(6)]),
        fn.Dense(2, "softplus"),
    ],
    "residual at the front": [
        fn.Residual([fn.Dense(5, "tanh")]), fn.Residual([fn.Dense(5)]), fn.Dense(2, "tanh"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", BY_THE_TEXTBOOK)
def test_other_layers_go_by_the_textbook(name):
    net = fn.Sequential(BY_THE_TEXTBOOK[name], inputs=5, dtype="float64", rng=2)
    X, step = rng.standard_normal((4, 5)), 1e-6
    J = net.jacobian(X)
    for k in range(5):
        by = step * np.eye(5)[k]
        found = (net.predict(X + by) - net.predict(X - by)) / (2 * step)
        np.testing.assert_allclose(J[:, :, k], found, rtol=1e-6, atol=1e-8)
    J, at = net.parameter_jacobian(X), net.parameters.copy()
    assert J.shape == (4, 2, at.size)
    for k in range(at.size):
        by = step * np.eye(at.size)[k]
        net.parameters = at + by
        above = net.predict(X)
        net.parameters = at - by
        found = (above - net.predict(X)) / (2 * step)
        np.testing.assert_allclose(J[:, :, k], found, rtol=1e-6, atol=1e-8)


def test_nothing_is_modified_and_no_rows_give_none():
    net = network()
    X, given = beside(net, 4)
    before = [X.copy(), given["vjp"].copy(), net.parameters.copy()]
    net.jacobian(X), net.vjp(X, given["vjp"]), net.parameter_jacobian(X)
    for a, b in zip(before, (X, given["vjp"], net.parameters), strict=True):
        assert (a == b).all()


def test_what_does_not_fit_is_refused():
    net = network()
    with pytest.raises(ValueError, match="X"):
        net.jacobian(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"U must .*\(3, 3\)"):
        net.vjp(np.zeros((3, 5)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"V must .*\(3, 5\)"):
        net.jvp(np.zeros((3, 5)), np.zeros((2, 5)))
    with pytest.raises(ValueError, match="v must"):
        net.hessian_vector_product(np.zeros((3, 5)), np.zeros((3, 3)), np.zeros(2))


# Second derivatives.

LOSSES = {
    "mean_squared_error": ("tanh", lambda n: rng.standard_normal((n, 2))),
    "mean_absolute_error": ("identity", lambda n: rng.standard_normal((n, 2))),
    "log_cosh": ("softmax", lambda n: rng.standard_normal((n, 2))),
    "quantile": ("identity", lambda n: rng.standard_normal((n, 2))),
    "huber": ("sin", lambda n: 3 * rng.standard_normal((n, 2))),
    "hinge": ("identity", lambda n: rng.integers(0, 2, n)),
    "cross_entropy": ("softmax", lambda n: rng.integers(0, 2, n)),
    "binary_cross_entropy": ("sigmoid", lambda n: rng.integers(0, 2, (n, 2))),
    "poisson": ("exp", lambda n: rng.integers(0, 4, (n, 2))),
    "gaussian_nll": ("identity", lambda n: rng.standard_normal(n)),
    fn.CrossEntropy(label_smoothing=0.2): ("softmax", lambda n: rng.integers(0, 2, n)),
    fn.Focal(2.0): ("softmax", lambda n: rng.integers(0, 2, n)),
    fn.Tweedie(1.5): ("exp", lambda n: rng.integers(0, 4, (n, 2))),
    "gamma": ("exp", lambda n: rng.uniform(0.5, 4.0, (n, 2))),
}


def check_product(layers, y, loss, weights):
    """Hold a product against the difference of two gradients."""
    net = fn.Sequential(layers, inputs=4, dtype="float64", rng=1)
    X, v, step = rng.standard_normal((len(y), 4)), rng.standard_normal(net.parameters.size), 1e-5
    found = net.hessian_vector_product(X, y, v, loss, sample_weight=weights)
    f, at = net.objective(X, y, loss, sample_weight=weights), net.parameters
    wanted = (f(at + step * v)[1] - f(at - step * v)[1]) / (2 * step)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7 * np.abs(wanted).max())


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_hessian_times_a_vector(loss):
    last, draw = LOSSES[loss]
    layers = [fn.Dense(6, "tanh", l2=0.1), fn.Dense(2, last)]
    check_product(layers, draw(8), loss, rng.uniform(0.5, 2.0, 8))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_a_second_derivative(activation):
    layers = [fn.Dense(6, activation), fn.Dense(5, "tanh", bias=False), fn.Dense(2)]
    check_product(layers, rng.standard_normal((7, 2)), "auto", None)


@pytest.mark.parametrize("layer", [fn.LayerNorm(), fn.Residual([fn.Dense(5, "tanh")])])
def test_layers_without_second_derivatives_take_differences(layer):
    check_product([fn.Dense(5), layer, fn.Dense(2)], rng.standard_normal((7, 2)), "auto", None)


def test_frozen_layers_have_no_part_in_it():
    net = fn.Sequential(
        [fn.Dense(5, "tanh", trainable=False), fn.Dense(1)], inputs=4, dtype="float64", rng=1
    )
    X, y, v = rng.standard_normal((6, 4)), rng.standard_normal(6), rng.standard_normal(31)
    found = net.hessian_vector_product(X, y, v)
    assert (found[:25] == 0).all()
    v[:25] = 0
    np.testing.assert_array_equal(found, net.hessian_vector_product(X, y, v))


def test_gradients_are_checked():
    net = network("tanh", "softmax", "float32")
    X, y = rng.standard_normal((9, 5)), rng.integers(0, 3, 9)
    found = fn.check_gradients(net, X, y, most=20)
    assert found.error < 1e-6
    assert set(found.errors) == set(net.layout.names)
    assert found.error == max(found.errors.values())


def test_a_wrong_gradient_is_found(monkeypatch):
    from fastnn.native import Native

    right = Native.slope

    def wrong(*asked):
        loss, gradient = right(*asked)()
        return lambda: (loss, 1.01 * gradient)

    monkeypatch.setattr(Native, "slope", wrong)
    net = network()
    assert fn.check_gradients(net, np.ones((2, 5)), np.ones((2, 3))).error > 5e-3


# Attribution.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integrated_gradients_sum_to_the_output(dtype):
    net = network("tanh", "softmax", dtype)
    X, _ = beside(net, 20)
    for baseline in (None, X[0], X[:3]):
        found = net.attribute(X, baseline, output=2)
        assert found.values.dtype == dtype
        assert np.abs(found.gap).max() < (1e-5 if dtype == "float32" else 1e-9)
        np.testing.assert_allclose(found.outputs, net.predict(X)[:, 2], rtol=1e-5)


def test_expected_gradients_agree_with_integrated_ones_over_many_draws():
    net = network("softplus", "identity")
    X, B = rng.standard_normal((5, 5)), rng.standard_normal((40, 5))
    wanted = net.attribute(X, B, output=0)
    found = net.attribute(X, B, "expected_gradients", output=0, steps=200)
    np.testing.assert_allclose(found.values, wanted.values, atol=5e-3)
    few = net.attribute(X, B, "expected_gradients", output=0)
    assert np.abs(few.gap).max() < 0.3
    again = net.attribute(X, B, "expected_gradients", output=0)
    assert (few.values == again.values).all()


def test_attributions_of_a_linear_network_are_exact():
    net = fn.Sequential([fn.Dense(1, bias=False)], inputs=3, dtype="float64", rng=0)
    X, b = rng.standard_normal((4, 3)), rng.standard_normal(3)
    for method in ("integrated_gradients", "expected_gradients"):
        found = net.attribute(X, b, method)
        np.testing.assert_allclose(found.values, (X - b) * net.parameters, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["integrated_gradients", "expected_gradients"])
def test_all_outputs_are_attributed_as_each_is(method, dtype):
    net = network("tanh", "softmax", dtype)
    X, B = beside(net, 7)[0], beside(net, 4)[0]
    found = net.attribute(X, B, method, rng=np.random.default_rng(3))
    assert found.values.shape == (7, 3, 5)
    assert found.values.dtype == dtype
    assert found.gap.shape == (7, 3)
    for output in range(3):
        one = net.attribute(X, B, method, output=output, rng=np.random.default_rng(3))
        assert (found.values[:, output] == one.values).all()
        np.testing.assert_allclose(found.gap[:, output], one.gap, atol=1e-6)
        assert found.base[output] == one.base


def test_an_output_that_there_is_not_is_refused():
    net = network()
    with pytest.raises(ValueError, match="output must be below 3; got 3"):
        net.attribute(np.ones((2, 5)), output=3)
    with pytest.raises(ValueError, match="method"):
        net.attribute(np.ones((2, 5)), output=0, method="shap")
