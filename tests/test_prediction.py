"""What a network answers: predictions, hidden layers, losses, traces and gradients."""

from __future__ import annotations

import copy
import math
import pickle
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import DTYPES, JIT, PAIRS, Shape, data, fitted, kink_distance, network

import fastnn as fn
from fastnn import reference
from fastnn.activations import ACTIVATIONS
from fastnn.machine.crew import company
from fastnn.predicting.predictor import Predictor
from fastnn.predicting.ways import Ways

BACKENDS = ("native", "reference")
both_backends = pytest.mark.parametrize("backend", BACKENDS)

SHAPE = Shape(19, 5, 7, 4, 3)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(19, 5))
Y = RNG.normal(size=(19, 3))


def regressor(dtype="float32", l2=0.0):
    return network(SHAPE, "tanh", "identity", dtype, l2=l2)


def everything(net):
    """All that a network holds, as bytes."""
    return pickle.dumps(net)


def by_hand(net, X):
    """Outputs of every layer, in NumPy and the API's own orientation."""
    functions = {
        "identity": lambda Z: Z,
        "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
        "tanh": np.tanh,
        "relu": lambda Z: np.maximum(Z, 0),
        "softmax": lambda Z: np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True),
        "leaky_relu": lambda Z: np.where(Z < 0, Z / 100, Z),
        "elu": lambda Z: np.where(Z < 0, np.expm1(Z), Z),
        "selu": lambda Z: 1.0507009873554805 * np.where(Z < 0, 1.6732632423543772 * np.expm1(Z), Z),
        "gelu": lambda Z: Z * np.vectorize(math.erfc)(-Z / np.sqrt(2)) / 2,
        "silu": lambda Z: Z / (1 + np.exp(-Z)),
        "softplus": lambda Z: np.log1p(np.exp(Z)),
        "mish": lambda Z: Z * np.tanh(np.log1p(np.exp(Z))),
        "softsign": lambda Z: Z / (1 + np.abs(Z)),
        "hard_sigmoid": lambda Z: np.minimum(np.maximum(Z + 3, 0), 6) / 6,
        "exp": np.exp,
        "sin": np.sin,
        "increasing": lambda Z: np.hstack([Z[:, :1], np.log1p(np.exp(Z[:, 1:]))]).cumsum(axis=1),
    }
    found, A = [], X
    for layer, W, b in zip(net.layers, net.weights, net.biases, strict=True):
        Z = A @ W if b is None else A @ W + b
        A = functions[layer.activation](Z)
        found.append((Z, A))
    return found


# Predictions.


@both_backends
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", ACTIVATIONS)
def test_predictions_are_what_numpy_gives(last, bias, backend):
    for hidden in ACTIVATIONS:
        net = network(SHAPE, hidden, last, "float64", bias=bias)
        expected = by_hand(net, X)
        close = {"rtol": 1e-12, "atol": 1e-15}
        np.testing.assert_allclose(net.predict(X, backend=backend), expected[-1][1], **close)
        for layer in range(-3, 3):
            np.testing.assert_allclose(
                net.hidden(X, layer, backend=backend), expected[layer][1], **close
            )


@both_backends
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prediction_is_a_new_array_of_two_dimensions_in_the_network_s_dtype(dtype, backend):
    for outputs in (1, 3):
        net = fn.Sequential([fn.Dense(outputs)], 5, dtype)
        for n in (1, 19):
            found = net.predict(X[:n], backend=backend)
            assert found.shape == (n, outputs)
            assert found.dtype == dtype
            assert found.flags.c_contiguous
            assert found.flags.writeable
            assert found.flags.owndata
    first, second = net.predict(X), net.predict(X)
    assert not np.shares_memory(first, second)


@both_backends
@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_do_not_hang_on_the_company_of_other_rows(dtype, backend):
    """Equal bits natively; NumPy takes another kernel for one row than for many."""
    net = network(SHAPE, "tanh", "softmax", dtype)
    whole = net.predict(X, backend=backend)
    for rows in (slice(0, 1), slice(3, 11), slice(2, 19, 5), slice(None, None, -1)):
        part = net.predict(X[rows], backend=backend)
        if backend == "native":
            np.testing.assert_array_equal(part, whole[rows])
        else:
            np.testing.assert_allclose(
                part, whole[rows], rtol=1e-5 if dtype == "float32" else 1e-13
            )


def test_a_large_set_goes_through_in_pieces_with_the_same_bits():
    net = fn.Sequential([fn.Dense(3, "tanh"), fn.Dense(2)], inputs=1)
    many = np.linspace(-2, 2, 100_000, dtype=np.float32).reshape(-1, 1)
    whole = net.predict(many)
    for first in (0, 49_999, 99_990):
        np.testing.assert_array_equal(net.predict(many[first : first + 10]), whole[first:][:10])
    Z = np.tanh(many @ net.weights[0] + net.biases[0])
    np.testing.assert_allclose(whole, Z @ net.weights[1] + net.biases[1], rtol=1e-4, atol=1e-5)


@both_backends
def test_out_is_written_and_given_back(backend):
    net = regressor()
    expected = net.predict(X, backend=backend)
    out = np.full((19, 3), np.nan, np.float32)
    assert net.predict(X, out=out, backend=backend) is out
    np.testing.assert_array_equal(out, expected)
    assert net.predict(X, out, backend=backend) is out
    rows = np.zeros((40, 3), np.float32)
    net.predict(X, out=rows[5:24], backend=backend)
    np.testing.assert_array_equal(rows[5:24], expected)
    assert not rows[:5].any()
    assert not rows[24:].any()


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "kind", "came"),
    [
        (np.zeros((19, 3)), TypeError, "got dtype float64."),
        (np.zeros((19, 3), np.int32), TypeError, "got dtype int32."),
        ([[0.0] * 3] * 19, TypeError, "(list)."),
        (3, TypeError, "got 3 (int)."),
        (np.zeros((19, 2), np.float32), ValueError, "got shape (19, 2)."),
        (np.zeros((20, 3), np.float32), ValueError, "got shape (20, 3)."),
        (np.zeros(57, np.float32), ValueError, "got shape (57,)."),
        (np.zeros((3, 19), np.float32).T, ValueError, "got one that is strided"),
        (np.zeros((19, 6), np.float32)[:, ::2], ValueError, "got one that is strided"),
        (read_only(np.zeros((19, 3), np.float32)), ValueError, "got one that is read-only."),
    ],
    ids=range(10),
)
@both_backends
def test_an_out_that_does_not_fit_is_refused(out, kind, came, backend):
    net = regressor()
    before = everything(net), np.array(out).tobytes()
    with pytest.raises(kind) as caught:
        net.predict(X, out=out, backend=backend)
    message = str(caught.value)
    assert message.startswith("out must be a writeable, C-contiguous NumPy array of float32")
    assert "(19, 3)" in message
    assert came in message
    assert (everything(net), np.array(out).tobytes()) == before


@both_backends
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_an_out_that_overlaps_x_is_right_or_refused(shift, backend):
    """A caller who reuses one buffer must not get wrong numbers for it."""
    net = fn.Sequential([fn.Dense(1, "tanh")], inputs=1)
    net.parameters[:] = [0.5, 0.1]
    n = 300_000
    buffer = np.linspace(0, 1, n + shift, dtype=np.float32).reshape(-1, 1)
    expected = net.predict(buffer[:n].copy(), backend=backend)
    try:
        found = net.predict(buffer[:n], out=buffer[shift:], backend=backend)
    except ValueError as error:
        assert "out" in str(error)  # noqa: PT017  (either will do)
    else:
        np.testing.assert_array_equal(found, expected)


# The short way in.


@pytest.mark.parametrize("dtype", DTYPES)
def test_calling_a_network_gives_what_predict_gives(dtype):
    net = network(SHAPE, "relu", "softmax", dtype)
    rows = np.ascontiguousarray(X, dtype=dtype)
    for name in BACKENDS:
        with fn.backend(name):
            expected = net.predict(rows)
            np.testing.assert_array_equal(net(rows), expected)
            one = net(rows[4])
            assert one.shape == (3,)
            assert one.dtype == dtype
            np.testing.assert_array_equal(one, net.predict(rows[4:5])[0])
            assert net(rows[:1]).shape == (1, 3)


def test_calling_takes_read_only_and_memory_mapped_rows(tmp_path):
    net = regressor()
    rows = np.ascontiguousarray(X, dtype=np.float32)
    expected = net(rows)
    assert rows.flags.writeable
    locked = rows.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(net(locked), expected)
    mapped = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=X.shape)
    mapped[:] = X
    np.testing.assert_array_equal(net(mapped), expected)


@pytest.mark.parametrize(
    ("x", "kind", "came"),
    [
        (X, TypeError, "got dtype float64."),
        ([1.0] * 5, TypeError, "(list)."),
        (None, TypeError, "got None."),
        (1.0, TypeError, "got 1.0 (float)."),
        (np.zeros(5, np.int32), TypeError, "got dtype int32."),
        (np.zeros(5, ">f4"), TypeError, "got dtype >f4."),
        (np.zeros((1, 1, 5), np.float32), ValueError, "got shape (1, 1, 5)."),
        (np.zeros((0, 5), np.float32), ValueError, "got shape (0, 5)."),
        (np.zeros(0, np.float32), ValueError, "got shape (0,)."),
        (np.zeros((), np.float32), ValueError, "got shape ()."),
        (np.zeros((5, 4), np.float32).T, ValueError, "strided"),
        (np.zeros(10, np.float32)[::2], ValueError, "strided"),
    ],
    ids=range(12),
)
def test_calling_takes_no_other_array_and_names_the_way_that_does(x, kind, came):
    net = regressor()
    with pytest.raises(kind) as caught:
        net(x)
    message = str(caught.value)
    assert message.startswith("x must be a C-contiguous NumPy array of float32 and shape (5,)")
    assert came in message
    assert "net.predict" in message or kind is ValueError


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ["identity", "sigmoid", "tanh", "relu", "softmax"])
def test_one_row_alone_gets_the_bits_it_gets_in_company(hidden, dtype):
    """Rows have two ways through a network; every width ends in another part of a vector."""
    widths = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65) if JIT else (1, 3)
    for width in widths:
        shape = Shape(9, 5 + width % 4, width, 66 - width, 1 + width // 3)
        net = network(shape, hidden, "softmax", dtype, bias=width % 2 == 0)
        rows = np.ascontiguousarray(data(shape, "mean_squared_error").X, dtype)
        expected = net.predict(rows)
        for count in (1, 2, 3, 4):
            assert net(rows[:count]).tobytes() == expected[:count].tobytes()
            assert net.predict(rows[:count]).tobytes() == expected[:count].tobytes()
        assert np.stack([net(row) for row in rows]).tobytes() == expected.tobytes()


@both_backends
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_call_writes_into_out_what_predict_gives(dtype, backend):
    net = network(SHAPE, "relu", "softmax", dtype)
    rows = np.ascontiguousarray(X, dtype=dtype)
    locked = rows.copy()
    locked.flags.writeable = False
    with fn.backend(backend):
        for given in (rows, locked):
            kept = given.tobytes()
            for chosen in (given, given[:1], given[:3], given[4], given[18]):
                expected = net.predict(chosen.reshape(-1, 5)).reshape(*chosen.shape[:-1], 3)
                out = np.full(expected.shape, np.nan, dtype)
                assert net(chosen, out=out) is out
                assert out.tobytes() == expected.tobytes()
                assert net(chosen, out) is out
            assert given.tobytes() == kept


@both_backends
@pytest.mark.parametrize("shift", range(-3, 4))
@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_call_s_out_may_overlap_its_x(count, shift, backend):
    net = fn.Sequential([fn.Dense(5, "tanh"), fn.Dense(5)], inputs=5, rng=1)
    room = np.zeros(5 * count + 20, np.float32)
    x = room[10 : 10 + 5 * count].reshape(count, 5)
    out = room[10 + shift : 10 + shift + 5 * count].reshape(count, 5)
    x[:] = X[:count]
    expected = net(x.copy())
    with fn.backend(backend):
        if count == 1:
            net(x[0], out=out[0])
        else:
            net(x, out=out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("out", "kind", "came"),
    [
        (np.zeros(3), TypeError, "dtype float64"),
        (np.zeros(4, np.float32), ValueError, "(4,)"),
        (np.zeros((1, 3), np.float32), ValueError, "(1, 3)"),
        (np.zeros(6, np.float32)[::2], ValueError, "strided"),
        ([0.0] * 3, TypeError, "(list)"),
    ],
    ids=range(5),
)
def test_a_call_s_out_that_does_not_fit_is_refused(out, kind, came):
    net = regressor()
    with pytest.raises(kind, match=r"^out must be a writeable, C-contiguous NumPy array") as caught:
        net(np.zeros(5, np.float32), out=out)
    assert came in str(caught.value)


def test_a_call_s_out_must_be_writeable():
    out = np.zeros(3, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out must be a writeable"):
        regressor()(np.zeros(5, np.float32), out=out)


def test_a_call_sees_the_parameters_as_they_are_and_a_twin_its_own():
    net = regressor()
    x = np.ascontiguousarray(X[0], dtype=np.float32)
    rows = np.ascontiguousarray(X, dtype=np.float32)
    first, every = net(x), net(rows)
    twins = [net.copy(), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    net.parameters *= 0.5
    changed = net(x)
    assert changed.tobytes() == net.predict(x[None])[0].tobytes() != first.tobytes()
    assert net(rows).tobytes() != every.tobytes()
    assert net(rows)[0].tobytes() == changed.tobytes()
    for twin in twins:
        assert twin(x).tobytes() == first.tobytes()
        assert twin(rows).tobytes() == every.tobytes()
    net.fit(X, Y, epochs=1)
    assert net(x).tobytes() == net.predict(rows)[0].tobytes() != changed.tobytes()


@pytest.mark.jit
@pytest.mark.parametrize(("threads", "row"), [(1, 1500), (2, 5000)])
def test_answers_leave_nothing_behind_and_take_no_room_of_their_own(
    threads, row, monkeypatch, request
):
    # Whoever else is at work, the first calls take what the later ones need: helpers are there
    # then, and the board on which they are given work.  A helper that wakes up runs some Python.
    monkeypatch.setattr(company, "limit", lambda most: most)
    request.addfinalizer(lambda: fn.set_threads(None))
    fn.set_threads(threads)
    net = network(Shape(1, 5, 1000, 999, 3), "relu", "softmax", "float32")
    x = np.ascontiguousarray(X[0], dtype=np.float32)
    rows = np.repeat(x[None], 500, axis=0)
    one, many = np.empty(3, np.float32), np.empty((500, 3), np.float32)
    calls = (
        (lambda: net(x, out=one), row), (lambda: net(x), row),
        (lambda: net(rows, out=many), 30_000), (lambda: net.predict(rows, out=many), 30_000),
    )  # fmt: skip
    for call, most in calls:
        for _ in range(20):
            call()
        tracemalloc.start()
        try:
            for _ in range(20):
                call()
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The hidden layers of one row would take 8000 bytes, those of all 4 million.
        assert kept <= peak <= most


def test_nothing_is_kept_of_what_was_asked():
    class Rows(np.ndarray):
        pass

    net = regressor()
    for count in (2, 19):
        rows = np.ascontiguousarray(X[:count], dtype=np.float32).view(Rows)
        out = np.zeros((count, 3), np.float32).view(Rows)
        gone = weakref.ref(rows), weakref.ref(out)
        net.predict(rows)
        net(np.asarray(rows))
        net(np.asarray(rows), out=np.asarray(out))
        net.hidden(rows)
        del rows, out
        assert [one() for one in gone] == [None, None]


# Hidden layers.


def test_the_last_hidden_layer_is_what_hidden_gives_unless_asked():
    net = regressor()
    np.testing.assert_array_equal(net.hidden(X), net.hidden(X, 1))
    assert net.hidden(X).shape == (19, 4)
    np.testing.assert_array_equal(net.hidden(X, layer=-1), net.predict(X))
    np.testing.assert_array_equal(net.hidden(X, np.int64(0)), net.hidden(X, -3))


@pytest.mark.parametrize(
    ("layer", "kind", "parts"),
    [
        (3, ValueError, ("3 layers", "-3 to 2", "got 3.")),
        (-4, ValueError, ("got -4.",)),
        (1.0, TypeError, ("1.0 (float)",)),
        (True, TypeError, ("True (bool)",)),
        (None, TypeError, ("None",)),
        ("0.W", ValueError, ("one of 0, 1, 2", "'0.W' (str)")),
    ],
)
def test_a_layer_that_there_is_not_is_refused(layer, kind, parts):
    with pytest.raises(kind, match="layer must") as caught:
        regressor().hidden(X, layer)
    assert all(part in str(caught.value) for part in parts)


# Losses.


@both_backends
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_losses_are_means_over_examples_as_the_design_says(last, loss, backend):
    shape = fitted(SHAPE, loss)
    net = network(shape, "tanh", last, "float64")
    examples = data(shape, loss)
    A, y = net.predict(examples.X), examples.y
    E = np.abs(A[:, : y.shape[-1]] - y) if y.ndim == 2 else None
    own = A[np.arange(len(A)), y] if loss == "focal" else None
    hit = E if loss == "binary_focal" else None
    each = {
        "mean_squared_error": lambda: (E**2).mean(axis=1),
        "mean_absolute_error": lambda: E.mean(axis=1),
        "huber": lambda: np.where(E < 1, E**2 / 2, E - 0.5).mean(axis=1),
        "log_cosh": lambda: np.log(np.cosh(E)).mean(axis=1),
        "binary_cross_entropy": lambda: -(y * np.log(A) + (1 - y) * np.log(1 - A)).mean(axis=1),
        "cross_entropy": lambda: -np.log(A[np.arange(len(A)), y]),
        "poisson": lambda: (A - y * np.log(A)).mean(axis=1),
        "quantile": lambda: E.mean(axis=1) / 2,
        "focal": lambda: -((1 - own) ** 2 * np.log(own)),
        "binary_focal": lambda: -(hit**2 * np.log(1 - hit)).mean(axis=1),
        "gamma": lambda: (np.log(A) + y / A).mean(axis=1),
        "tweedie": lambda: (2 * A**0.5 + 2 * y / A**0.5).mean(axis=1),
        "gaussian_nll": lambda: (A[:, 2:] + E**2 / np.exp(A[:, 2:])).mean(axis=1) / 2,
        "quantiles": lambda: np.maximum(
            (y - A) * [0.05, 0.5, 0.95], (A - y) * [0.95, 0.5, 0.05]
        ).mean(axis=1),
        # Integer classes, each against the rest.
        "hinge": lambda: np.maximum(0, 1 - (2 * np.eye(3)[y] - 1) * A).mean(axis=1),
    }[loss]()
    found = net.evaluate(examples.X, examples.y, loss, backend=backend)
    assert found == {"loss": pytest.approx(each.mean(), rel=1e-12)}
    assert type(found["loss"]) is float
    weighted = net.evaluate(
        examples.X, examples.y, loss, sample_weight=examples.w, backend=backend
    )["loss"]
    assert weighted == pytest.approx((examples.w * each).sum() / examples.w.sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        ("softmax", "cross_entropy"),
        ("sigmoid", "binary_cross_entropy"),
        ("identity", "mean_squared_error"),
        ("tanh", "mean_squared_error"),
        ("relu", "mean_squared_error"),
        ("exp", "poisson"),
        ("gelu", "mean_squared_error"),
    ],
)
def test_auto_follows_the_last_layer(last, loss):
    net = network(SHAPE, "tanh", last, "float64")
    examples = data(SHAPE, loss)
    for method in (net.evaluate, net.loss_and_gradient):
        auto, named = method(examples.X, examples.y), method(examples.X, examples.y, loss)
        np.testing.assert_equal(auto, named)
    for alias in ("mse", "squared_error"):
        if loss == "mean_squared_error":
            assert net.evaluate(examples.X, examples.y, alias) == net.evaluate(
                examples.X, examples.y
            )


@both_backends
def test_classes_one_hot_and_probabilities_are_the_same_targets(backend):
    net = network(SHAPE, "tanh", "softmax", "float64")
    labels = np.arange(19) % 3
    expected = net.loss_and_gradient(X, labels, backend=backend)
    for y in (
        labels[:, None],
        labels.astype(float),
        np.eye(3)[labels],
        np.eye(3, dtype=int)[labels],
    ):
        loss, gradient = net.loss_and_gradient(X, y, backend=backend)
        assert loss == pytest.approx(expected[0], rel=1e-14)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-12, atol=1e-15)


@both_backends
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_logits_of_ten_thousand_give_finite_losses_and_gradients(last, dtype, backend):
    net = fn.Sequential([fn.Dense(3, last, bias=False)], 3, dtype)
    net.weights[0][:] = 1e4 * np.eye(3)
    examples = np.eye(3)
    for y, expected in (
        (np.eye(3), {"softmax": 0.0, "sigmoid": 2 * np.log(2) / 3}),
        (np.roll(np.eye(3), 1, axis=1), {"softmax": 1e4, "sigmoid": (1e4 + 2 * np.log(2)) / 3}),
    ):
        loss, gradient = net.loss_and_gradient(examples, y, backend=backend)
        assert loss == pytest.approx(expected[last], rel=1e-6, abs=1e-6)
        assert np.isfinite(gradient).all()
        t = net.trace(examples, y, backend=backend)
        assert t.loss == pytest.approx(loss, rel=1e-6)
        assert np.isfinite(t.dZ[0]).all()
        assert net.evaluate(examples, y, backend=backend)["loss"] == pytest.approx(loss, rel=1e-6)
    assert np.abs(gradient).max() > 0.1


@both_backends
def test_evaluate_gives_metrics_by_name_and_by_function(backend):
    net = regressor("float64")

    def worst(predictions, targets):
        return np.abs(predictions - targets).max()

    A = net.predict(X)
    found = net.evaluate(X, Y, metrics=["mae", "r2", worst], backend=backend)
    assert list(found) == ["loss", "mae", "r2", "worst"]
    assert found["mae"] == pytest.approx(np.abs(A - Y).mean(), rel=1e-12)
    assert found["worst"] == pytest.approx(np.abs(A - Y).max(), rel=1e-12)
    assert all(type(value) is float for value in found.values())


@both_backends
def test_metrics_of_means_and_variances_look_at_the_means(backend):
    net = fn.Sequential([fn.Dense(4)], 5, "float64", rng=1)
    y = Y[:, :2]
    A = net.predict(X)
    found = net.evaluate(X, y, "gaussian_nll", metrics=["mae", "r2"], backend=backend)
    assert found["mae"] == pytest.approx(np.abs(A[:, :2] - y).mean(), rel=1e-12)
    expected = np.mean(A[:, 2:] + (A[:, :2] - y) ** 2 / np.exp(A[:, 2:])) / 2
    assert found["loss"] == pytest.approx(expected, rel=1e-12)


@both_backends
def test_sides_may_be_signs_bits_or_classes(backend):
    net = network(SHAPE, "tanh", "identity", "float64")
    labels = np.arange(19) % 3
    rows = np.eye(3)[labels]
    expected = net.evaluate(X, labels, "hinge", metrics="accuracy", backend=backend)
    A = net.predict(X)
    assert expected["accuracy"] == pytest.approx((A.argmax(axis=1) == labels).mean())
    for y in (labels[:, None], rows, rows.astype(bool), 2 * rows - 1):
        found = net.evaluate(X, y, "hinge", metrics="accuracy", backend=backend)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-14)
        assert found["accuracy"] == expected["accuracy"]


# Traces and gradients.


@both_backends
@pytest.mark.parametrize("n", [1, 19])
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_a_trace_holds_every_intermediate_of_any_network_and_batch(last, loss, n, backend):
    for bias in (True, False):
        shape = fitted(SHAPE, loss)
        net = network(shape, "relu", last, "float64", bias=bias, l2=0.5)
        examples = data(shape, loss)
        features, y = examples.X[:n], examples.y[:n]
        t = net.trace(features, y, loss, backend=backend)
        expected = by_hand(net, features)
        for name in ("Z", "A", "dZ", "dW", "db"):
            assert len(getattr(t, name)) == 3, "one entry a Dense layer"
        below = [features, *t.A[:-1]]
        for layer, (Z, A) in enumerate(expected):
            np.testing.assert_allclose(t.Z[layer], Z, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(t.A[layer], A, rtol=1e-11, atol=1e-13)
            assert t.dZ[layer].shape == Z.shape
            np.testing.assert_allclose(
                t.dW[layer], below[layer].T @ t.dZ[layer], rtol=1e-11, atol=1e-14
            )
            if bias:
                np.testing.assert_allclose(
                    t.db[layer], t.dZ[layer].sum(axis=0), rtol=1e-11, atol=1e-14
                )
            else:
                assert t.db[layer] is None
        for layer in range(2):
            back = (t.dZ[layer + 1] @ net.weights[layer + 1].T) * (t.Z[layer] > 0)
            np.testing.assert_allclose(t.dZ[layer], back, rtol=1e-11, atol=1e-14)
        np.testing.assert_array_equal(t.A[-1], net.predict(features, backend=backend))
        assert t.loss == pytest.approx(net.evaluate(features, y, loss)["loss"], rel=1e-12)


@both_backends
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_gradients_are_those_of_central_differences(last, loss, weighted, backend):
    shape = fitted(SHAPE, loss)
    net = network(shape, "tanh", last, "float64", l2=0.1)
    # Where a last sum or an output is near a kink, differences say nothing.
    for seed in range(1, 40):
        examples = data(shape, loss, seed=seed)
        Z, A = net.trace(examples.X, examples.y, loss).Z[-1], net.predict(examples.X)
        if kink_distance(last, loss, Z, A, examples.y) > 1e-4:
            break
    else:
        pytest.fail("a kink lies within reach, whatever the seed")
    keywords = {"sample_weight": examples.w} if weighted else {}
    value, gradient = net.loss_and_gradient(
        examples.X, examples.y, loss, backend=backend, **keywords
    )
    assert type(value) is float
    assert gradient.shape == net.parameters.shape
    h = 1e-6
    numeric = np.empty_like(gradient)
    for place in range(gradient.size):
        ends = []
        for sign in (1, -1):
            twin = net.copy()
            twin.parameters[place] += sign * h
            ends.append(twin.loss_and_gradient(examples.X, examples.y, loss, **keywords)[0])
        numeric[place] = (ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)


@both_backends
def test_the_gradient_is_aligned_with_the_parameters(backend):
    net = regressor("float64")
    _, gradient = net.loss_and_gradient(X, Y, backend=backend)
    t = net.trace(X, Y, backend=backend)
    for layer in range(3):
        view = net.layout.view(gradient, f"{layer}.W")
        np.testing.assert_allclose(view, t.dW[layer], rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(net.layout.view(gradient, f"{layer}.b"), t.db[layer], rtol=1e-12)
    twin = net.copy()
    twin.train_on_batch(X, Y, optimizer=fn.SGD(0.5), backend=backend)
    np.testing.assert_allclose(twin.parameters, net.parameters - 0.5 * gradient, rtol=1e-12)


@both_backends
@pytest.mark.parametrize("last", [("identity", "auto"), ("softmax", "cross_entropy")])
def test_the_gradient_of_the_inputs_is_that_of_central_differences(last, backend):
    rng = np.random.default_rng(3)
    net = fn.Sequential(
        [fn.Dropout(0.3), fn.Dense(7, "tanh"), fn.Dense(3, last[0])], inputs=5, dtype="float64"
    )
    features, labels = rng.normal(size=(11, 5)), rng.integers(0, 3, 11)
    y = labels if last[0] == "softmax" else rng.normal(size=(11, 3))
    t = net.trace(features, y, last[1], backend=backend)
    assert t.dX.shape == features.shape
    assert t.dX.dtype == np.float64
    for i, j in ((0, 0), (3, 4), (10, 2)):
        sides = []
        for step in (1e-5, -1e-5):
            moved = features.copy()
            moved[i, j] += step
            sides.append(net.evaluate(moved, y, last[1], backend="reference")["loss"])
        assert t.dX[i, j] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-10)


@both_backends
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_trace_is_the_caller_s_own_and_in_the_network_s_dtype(dtype, backend):
    net = regressor(dtype)
    before = everything(net)
    t = net.trace(X, Y, backend=backend)
    for name in ("Z", "A", "dZ", "dW", "db"):
        for array in getattr(t, name):
            assert array.dtype == dtype
            assert array.flags.c_contiguous
            array += 1
    _, gradient = net.loss_and_gradient(X, Y, backend=backend)
    gradient += 1
    assert everything(net) == before


# Numbers beyond what the dtype holds.


@both_backends
@pytest.mark.parametrize("loss", ["auto", "mean_squared_error"])
@pytest.mark.parametrize("last", ["identity", "sigmoid", "softmax"])
def test_overflow_is_infinity_or_nan_and_never_a_warning(last, loss, backend):
    net = network(SHAPE, "relu", last, "float32")
    net.parameters[:] = 1e30
    y = np.arange(19) % 3 if last == "softmax" and loss == "auto" else np.ones((19, 3))
    huge = np.full((19, 5), 1e20)
    with fn.backend(backend):
        assert not np.isfinite(net.hidden(huge, 1)).any()
        assert net.predict(huge).shape == (19, 3)
        assert net(huge.astype(np.float32)).shape == (19, 3)
        assert type(net.evaluate(huge, y, loss, metrics="mse")["loss"]) is float
        net.loss_and_gradient(huge, y, loss)
        net.trace(huge, y, loss)


# Threads.


@both_backends
def test_eight_threads_may_predict_on_one_network(backend):
    net = network(Shape(1, 5, 33, 17, 3), "tanh", "softmax", "float32")
    sizes = [200 + 37 * k if JIT else 2 + k for k in range(8)]
    sets = [np.random.default_rng(n).normal(size=(n, 5)) for n in sizes]
    y = [np.arange(len(features)) % 3 for features in sets]

    def work(place):
        with fn.backend(backend):
            return (
                net.predict(sets[place]).tobytes(),
                net(np.ascontiguousarray(sets[place][0], dtype=np.float32)).tobytes(),
                net.hidden(sets[place]).tobytes(),
                net.evaluate(sets[place], y[place])["loss"],
                net.loss_and_gradient(sets[place], y[place])[1].tobytes(),
            )

    expected = [work(place) for place in range(8)]
    found = [set() for _ in range(8)]
    gate = threading.Barrier(8)

    def run(place):
        gate.wait(60)
        for _ in range(15 if JIT else 2):
            found[place].add(work(place))

    threads = [threading.Thread(target=run, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{one} for one in expected]


# What is refused.

BAD_X = {
    "none": (None, TypeError, "None"),
    "text": ("abc", TypeError, "'abc' (str)"),
    "number": (3.0, ValueError, "got shape ()"),
    "flat": (X[0], ValueError, "X must be 2-D"),
    "deep": (X[None], ValueError, "got shape (1, 19, 5)"),
    "no rows": (X[:0], ValueError, "got shape (0, 5)"),
    "no columns": (X[:, :0], ValueError, "got shape (19, 0)"),
    "narrow": (X[:, :4], ValueError, "X has 4 features, but this network was built for 5"),
    "one column": (X[:, :1], ValueError, "X has 1 feature, but this network was built for 5"),
    "ragged": ([[1] * 5, [2] * 4], TypeError, "row 1 of length 4"),
    "complex": (X + 0j, TypeError, "complex"),
    "words": ([["a"] * 5], TypeError, "'a' (str) at row 0, column 0"),
    "missing": ([[None] * 5], ValueError, "missing value (None) at row 0, column 0"),
    "NaN": (np.where(X[2, 3] == X, np.nan, X), ValueError, "X has NaN at row 2, column 3"),
    "infinity": (np.where(X[2, 3] == X, -np.inf, X), ValueError, "X has -infinity at row 2, col"),
    "large": (np.where(X[2, 3] == X, -1e39, X), ValueError, "does not fit float32"),
    "generator": ((row for row in X), TypeError, "list()"),
    "set": ({1.0, 2.0}, TypeError, "(set)"),
    "dict": ({"a": 1}, TypeError, "(dict)"),
}

CALLS = {
    "predict": lambda net, X: net.predict(X),
    "predict on the reference": lambda net, X: net.predict(X, backend="reference"),
    "hidden": lambda net, X: net.hidden(X),
    "evaluate": lambda net, X: net.evaluate(X, Y),
    "trace": lambda net, X: net.trace(X, Y),
    "loss_and_gradient": lambda net, X: net.loss_and_gradient(X, Y),
    "diagnose": lambda net, X: net.diagnose(X, Y),
    "train_on_batch": lambda net, X: net.train_on_batch(X, Y),
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("case", BAD_X)
def test_an_x_that_is_none_is_refused_everywhere(case, method):
    value, kind, part = BAD_X[case]
    net = regressor()
    before = everything(net)
    with pytest.raises(kind) as caught:
        CALLS[method](net, value)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.startswith("X ")
    assert part in message
    assert "numba" not in message.lower()
    assert everything(net) == before


# Method, arguments, the error's type, and what its message must say.
WRONG = [
    ("evaluate", {"loss": "mad"}, ValueError, ("loss must be one of", "'mad'")),
    ("evaluate", {"loss": 1}, TypeError, ("loss must be a string", "1 (int)")),
    ("evaluate", {"loss": np.array(["auto"] * 2)}, TypeError, ("loss", "ndarray")),
    ("evaluate", {"metrics": "acuracy"}, ValueError, ("metrics", "Did you mean 'accuracy'?")),
    ("evaluate", {"metrics": 3}, TypeError, ("metrics", "3 (int)")),
    ("evaluate", {"sample_weight": [1, 2]}, ValueError, ("sample_weight", "19", "2")),
    ("evaluate", {"sample_weight": "a"}, TypeError, ("sample_weight", "'a' (str)")),
    ("evaluate", {"backend": "numpy"}, ValueError, ("backend must be one of", "'numpy'")),
    ("evaluate", {"y": Y[:, :2]}, ValueError, ("y must have shape (19, 3)", "(19, 2)")),
    ("evaluate", {"y": Y[:, 0]}, ValueError, ("y must have shape (19, 3)", "(19,)")),
    ("evaluate", {"y": Y * np.inf}, ValueError, ("y has", "infinity", "row 0")),
    ("evaluate", {"y": None}, TypeError, ("y", "None")),
    ("trace", {"loss": "cross_entropy"}, ValueError, ("loss='cross_entropy'", "'identity'")),
    ("trace", {"y": Y[:4]}, ValueError, ("X has 19 rows but y has 4",)),
    ("trace", {"backend": 3}, TypeError, ("backend must be a string", "3 (int)")),
    ("loss_and_gradient", {"sample_weight": -np.ones(19)}, ValueError, ("sample_weight", "-1.0")),
    (
        "loss_and_gradient",
        {"sample_weight": np.zeros(19)},
        ValueError,
        ("sample_weight", "above 0"),
    ),
    ("loss_and_gradient", {"loss": "binary"}, ValueError, ("loss must be one of", "'binary'")),
    ("diagnose", {"optimizer": "adamm"}, ValueError, ("optimizer", "mean 'Adam'")),
    ("diagnose", {"loss": None}, TypeError, ("loss", "None")),
    ("predict", {"backend": "cuda"}, ValueError, ("backend must be one of", "'cuda'")),
    ("hidden", {"backend": "referense"}, ValueError, ("Did you mean 'reference'?",)),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]} {next(iter(case[1]))}")
def test_other_arguments_are_refused_too(case):
    method, arguments, kind, parts = case
    given = {"X": X, "y": Y, **arguments}
    if method in ("predict", "hidden"):
        del given["y"]
    net = regressor()
    before = everything(net)
    with pytest.raises(kind) as caught:
        getattr(net, method)(**given)
    assert type(caught.value) is kind
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert everything(net) == before


def test_the_reference_s_predictions_are_the_textbook_s_own():
    """The path that is called reference goes through `fastnn.reference`."""
    net = network(SHAPE, "tanh", "softmax", "float64")
    W = [weight.T for weight in net.weights]
    b = [bias[:, None] for bias in net.biases]
    _, A = reference.forward(W, b, ["tanh", "tanh", "softmax"], X.T)
    np.testing.assert_array_equal(net.predict(X, backend="reference"), A[-1].T)


# Frozen networks.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "widths",
    [
        (1, 1), (5, 17, 3), (33, 40, 70, 1), (7, 2, 9), (20, 64, 64, 2),
        # Weights that are streamed or copied in tiles, as they share a set of the L1 cache.
        pytest.param((300, 1024, 3), marks=pytest.mark.jit),
    ],
)  # fmt: skip
def test_a_frozen_network_gives_the_bits_of_the_network(widths, dtype):
    inputs, *units = widths
    names = ["relu", "tanh", "gelu"][: len(units) - 1]
    layers = [fn.Dense(u, name) for u, name in zip(units, names, strict=False)]
    net = fn.Sequential([*layers, fn.Dense(units[-1], "softmax")], inputs, dtype, rng=3)
    frozen = net.freeze()
    assert (frozen.inputs, frozen.outputs, frozen.dtype) == (inputs, units[-1], net.dtype)
    X = np.random.default_rng(0).normal(size=(300, inputs)).astype(dtype)
    for n in (*range(1, 71), 150, 300):
        assert frozen(X[:n]).tobytes() == net(X[:n]).tobytes()
        out = np.full((n, units[-1]), np.nan, dtype)
        assert frozen(X[:n], out=out) is out
        assert out.tobytes() == net(X[:n]).tobytes()
    for x in X[:3]:
        out = np.full(units[-1], np.nan, dtype)
        assert frozen(x).tobytes() == net(x).tobytes()
        assert frozen(x, out=out) is out
        assert out.tobytes() == net(x).tobytes()
    with fn.backend("reference"):
        assert frozen(X).tobytes() == net(X).tobytes()


def test_a_frozen_network_is_deaf_to_the_network_and_says_so():
    net = fn.Sequential([fn.Dense(9, "relu"), fn.Dense(4)], inputs=5)
    frozen, X = net.freeze(), np.ones((30, 5), np.float32)
    before = frozen(X).tobytes()
    net.parameters[:] = 0.0
    assert frozen(X).tobytes() == before != net(X).tobytes()
    assert "its weights stay as they were when it was frozen" in repr(frozen)
    assert copy.deepcopy(frozen)(X).tobytes() == before
    with pytest.raises(TypeError, match="Pickle or copy the network, and freeze that"):
        pickle.dumps(frozen)


def test_a_frozen_network_answers_several_threads_at_once():
    net = fn.Sequential([fn.Dense(40, "tanh"), fn.Dense(20)], inputs=30)
    frozen, rng = net.freeze(), np.random.default_rng(0)
    asked = [rng.normal(size=(n, 30)).astype(np.float32) for n in (1, 5, 70, 200) * 20]
    expected = [net(X).tobytes() for X in asked]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(frozen, asked)
        # Training meanwhile does not reach it.
        net.fit(asked[-1], rng.normal(size=(200, 20)), epochs=20)
        found = [answer.tobytes() for answer in answers]
    assert found == expected != [net(X).tobytes() for X in asked]


def test_the_faster_way_is_kept_for_a_while_and_then_both_are_tried_again():
    ways, seconds, taken = Ways(), {"few": (1.0, 2.0), "many": (2.0, 1.0)}, {"few": [], "many": []}
    for _ in range(400):
        for kind, took in seconds.items():
            way = ways.choose(kind)
            ways.note(kind, way, took[way])
            taken[kind].append(way)
    assert taken["few"][:6] == taken["many"][:6] == [0, 1] * 3
    assert taken["few"][6:306] == [0] * 300
    assert taken["many"][6:306] == [1] * 300
    assert taken["few"][306:312] == taken["many"][306:312] == [0, 1] * 3
    # One slow moment of each way does not decide.
    moments = iter([9.0, 2.0, 1.0, 9.0, 9.0, 2.0])
    ways = Ways()
    for _ in range(6):
        ways.note("a kind", ways.choose("a kind"), next(moments))
    assert ways.choose("a kind") == 0


@pytest.mark.jit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_as_they_lie_and_packed_first_give_the_same_bits(dtype):
    net = fn.Sequential(
        [fn.Dense(300, "relu"), fn.Dense(301, "tanh"), fn.Dense(5, "softmax")], inputs=67,
        dtype=dtype, rng=0,
    )  # fmt: skip
    X = np.random.default_rng(0).normal(size=(211, 67)).astype(dtype)
    predictor = Predictor(net._layout, net.dtype)
    packing = predictor._packing()
    found = [np.empty((len(X), 5), dtype) for _ in range(2)]
    predictor.one(net.parameters, X.reshape(-1), found[0].reshape(-1))
    packing.one(net.parameters, X.reshape(-1), found[1].reshape(-1))
    assert found[0].tobytes() == found[1].tobytes()
    # Whichever way is taken.
    assert {net(X).tobytes() for _ in range(8)} == {found[0].tobytes()}


@pytest.mark.jit
def test_memory_for_packed_weights_is_kept_only_where_that_is_the_faster_way(monkeypatch):
    fn.set_threads(1)
    net = fn.Sequential([fn.Dense(300, "relu"), fn.Dense(300)], inputs=67, rng=0)
    X = np.ones((200, 67), np.float32)
    predictor = Predictor(net._layout, net.dtype)
    out = np.empty((200, 300), np.float32)
    seconds = {0: 1.0, 1: 2.0}
    note = Ways.note
    monkeypatch.setattr(
        Ways, "note", lambda self, kind, way, _: note(self, kind, way, seconds[way])
    )
    try:
        for _ in range(6):
            predictor.many(net.parameters, X.reshape(-1), out.reshape(-1))
        assert predictor._packer is None
        seconds[1] = 0.5
        # Trials of another number of rows.
        for _ in range(7):
            predictor.many(net.parameters, X[:120].reshape(-1), out[:120].reshape(-1))
        assert predictor._packer is not None
    finally:
        fn.set_threads(None)


@pytest.mark.jit
def test_weights_are_read_as_they_lie_where_memory_for_packed_ones_is_missing(monkeypatch):
    fn.set_threads(1)
    net = fn.Sequential([fn.Dense(300, "relu"), fn.Dense(300)], inputs=67, rng=0)
    X = np.ones((200, 67), np.float32)

    def refuse(self):
        raise MemoryError

    try:
        expected = net(X).tobytes()
        monkeypatch.setattr(Predictor, "_packing", refuse)
        assert {net(X).tobytes() for _ in range(8)} == {expected}
    finally:
        fn.set_threads(None)


@pytest.mark.parametrize("weights", [None, "bfloat16"])
def test_the_last_rows_of_very_many_are_read_from_weights_that_are_packed(tuned, weights):
    net = fn.Sequential([fn.Dense(33, "relu"), fn.Dense(9)], inputs=11, rng=0)
    frozen, X = net.freeze(weights), np.random.default_rng(0).normal(size=(11, 11))
    X = X.astype(np.float32)
    expected = np.stack([frozen(x) for x in X])
    # In slices of rows that are worth no helper, while all helpers are awake.
    tuned(call_nanoseconds=1, smallest_call=3, linger=1e9)
    for _ in range(2):
        assert frozen(X).tobytes() == expected.tobytes()


def test_a_frozen_network_refuses_what_the_network_refuses():
    net = fn.Sequential([fn.Dense(2)], inputs=3)
    frozen = net.freeze()
    bad = [[1.0, 2.0, 3.0], np.zeros(3), np.zeros((2, 4), np.float32), np.zeros((0, 3))]
    for x in bad:
        messages = []
        for call in (net, frozen):
            with pytest.raises((TypeError, ValueError)) as refused:
                call(x)
            messages.append(str(refused.value))
        assert messages[0] == messages[1]
    row = np.zeros(3, np.float32)
    for out in ([0.0, 0.0], np.zeros(2), np.zeros(3, np.float32), np.zeros(4, np.float32)[::2]):
        messages = []
        for call in (net, frozen):
            with pytest.raises((TypeError, ValueError), match=r"^out must be") as refused:
                call(row, out=out)
            messages.append(str(refused.value))
        assert messages[0] == messages[1]
    shared = np.ones((3, 3), np.float32)
    square = fn.Sequential([fn.Dense(3, "relu")], inputs=3)
    expected = square(shared.copy())
    assert square.freeze()(shared, out=shared).tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="this network has no weights yet"):
        fn.Sequential([fn.Dense(2)]).freeze()
