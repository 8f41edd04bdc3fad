"""`net.freeze(weights="bfloat16")`: predictions from weights of half the size."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import JIT

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.predicting.halves import rounded

RNG = np.random.default_rng(0)
COUNTS = (*range(1, 31), 63, 64, 65, 127, 200) if JIT else (1, 2, 3, 7, 13)


def nearest(x):
    """Return the nearest bfloat16 by arithmetic in float64, the even one of two: no bit is read."""
    exact = np.asarray(x, np.float64)
    _, exponents = np.frexp(np.where(np.isfinite(exact), exact, 0))
    # Seven bits behind the first one; numbers below the smallest normal one lie evenly.
    unit = np.ldexp(1.0, np.maximum(exponents - 1, -126) - 7)
    found = np.where(np.isfinite(exact), np.rint(exact / unit) * unit, exact)
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def network(widths, *activations, **more):
    """Return a network of other weights than its first ones, with biases that are not zero."""
    inputs, *units = widths
    names = activations or ("relu",) * (len(units) - 1) + ("softmax",)
    layers = [fn.Dense(unit, name) for unit, name in zip(units, names, strict=True)]
    net = fn.Sequential(layers, inputs, **more)
    net.parameters[:] += 0.1 * RNG.normal(size=net.parameters.size)
    return net


def with_rounded(net):
    """Return the network of the nearest weights."""
    twin = net.copy()
    for W in twin.weights:
        W[:] = nearest(W)
    return twin


def examples(count, inputs, dtype=np.float32):
    return RNG.normal(size=(count, inputs)).astype(dtype)


# Rounding.


def test_numbers_are_rounded_to_the_nearest_and_ties_to_even():
    # 1 + 1/128 is the next one: halves between these go to the one whose last bit is 0.
    x = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-23, -1 - 2**-8, 0, -0.0], np.float32)
    expected = np.array([1, 1, 1 + 2**-6, 1 + 2**-7, -1, 0, -0.0], np.float32)
    assert rounded(x).tobytes() == expected.tobytes()


def test_all_kinds_of_numbers_are_rounded_as_arithmetic_says():
    bits = RNG.integers(0, 2**32, 200_000 if JIT else 2_000, dtype=np.uint32)
    corners = np.array(
        [0x00000001, 0x00007FFF, 0x00008000, 0x00008001, 0x00018000, 0x007FFFFF, 0x7F7F7FFF,
         0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0xFF800000], np.uint32,
    )  # fmt: skip
    x = np.concatenate([bits, corners]).view(np.float32)
    some = x[~np.isnan(x)]
    assert rounded(some).tobytes() == nearest(some).tobytes()
    assert not (rounded(some).view(np.uint32) & 0xFFFF).any()


def test_not_a_number_stays_that():
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFF80FFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    found = rounded(bits.view(np.float32))
    assert np.isnan(found).all()
    assert (np.signbit(found) == [False, False, True, True, False]).all()


# What is predicted.


@pytest.mark.parametrize(
    "widths",
    [(1, 1), (5, 17, 3), (33, 40, 70, 1), (7, 2, 9), (20, 64, 64, 2), (300, 19, 130), (3, 8, 24)],
)
def test_predictions_have_the_bits_of_a_network_of_rounded_weights(widths):
    net = network(widths)
    half, twin = net.freeze(weights="bfloat16"), with_rounded(net)
    assert (half.inputs, half.outputs, half.dtype) == (widths[0], widths[-1], np.float32)
    X = examples(max(COUNTS), widths[0])
    book = twin.predict(X, backend="reference")
    assert np.abs(half(X) - book).max() <= 1e-5
    for n in COUNTS:
        assert half(X[:n]).tobytes() == twin(X[:n]).tobytes()
        out = np.full((n, widths[-1]), np.nan, np.float32)
        assert half(X[:n], out=out) is out
        assert out.tobytes() == twin(X[:n]).tobytes()
    for x in X[:3]:
        out = np.full(widths[-1], np.nan, np.float32)
        assert half(x).tobytes() == twin(x).tobytes()
        assert half(x, out=out) is out
        assert out.tobytes() == twin(x).tobytes()
    with fn.backend("reference"):
        assert half(X).tobytes() == twin(X).tobytes()
        assert half(X[0]).tobytes() == twin(X[0]).tobytes()


@pytest.mark.jit
def test_predictions_of_many_rows_and_wide_layers_have_these_bits_too():
    net = network((530, 515, 260, 10))
    half, twin = net.freeze(weights="bfloat16"), with_rounded(net)
    X = examples(10_000, 530)
    for n in (1, 2, 6, 7, 64, 10_000):
        assert half(X[:n]).tobytes() == twin(X[:n]).tobytes()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_applied(activation):
    net = network((6, 21, 5), activation, activation)
    half, twin = net.freeze(weights="bfloat16"), with_rounded(net)
    X = examples(9, 6)
    book = twin.predict(X, backend="reference")
    assert half(X).tobytes() == twin(X).tobytes()
    assert np.abs(half(X) - book).max() <= 2e-5 * max(1, np.abs(book).max())
    assert half(X[0]).tobytes() == twin(X[0]).tobytes()


def test_weights_are_rounded_and_nothing_else():
    net = fn.Sequential([fn.Dense(3)], inputs=2)
    net.parameters[:] = 1 + 2**-12
    half = net.freeze(weights="bfloat16")
    # The bias and the features keep what bfloat16 has not.
    x = np.array([1 + 2**-12, 0], np.float32)
    assert half(x).tolist() == [2 + 2**-11] * 3
    assert net(x).tolist() != half(x).tolist()


def test_infinities_and_nan_go_through():
    net = network((4, 40, 3), "relu", "identity")
    net.weights[0][1, 2], net.weights[0][2, 3] = np.inf, np.nan
    half, twin = net.freeze(weights="bfloat16"), with_rounded(net)
    X = np.abs(examples(8, 4))
    with np.errstate(invalid="ignore"):
        assert np.isnan(half(X)).all()
        np.testing.assert_array_equal(half(X), twin(X))


FEATURES = RNG.normal(size=(60, 3)) * [1, 100, 0.01] + [5, 0, 0]
CODED = np.hstack([RNG.integers(0, 7, (60, 1)), FEATURES[:, 1:]])
STACKS = {
    "dropout": ([fn.Dense(20, "relu"), fn.Dropout(0.3), fn.Dense(2)], FEATURES),
    "no bias": ([fn.Dense(20, "relu", bias=False), fn.Dense(2, bias=False)], FEATURES),
    "scaled": ([fn.Standardize(), fn.Dense(20, "relu"), fn.Dense(2)], FEATURES),
    "codes": ([fn.Embedding({0: 7}), fn.Dense(20, "relu"), fn.Dense(2)], CODED),
    "scaled, then codes": (
        [fn.Standardize(), fn.Embedding({0: 7}, 5), fn.Dense(20, "relu"), fn.Dense(2)], CODED,
    ),
    "a norm behind": (
        [fn.Dense(20), fn.BatchNorm(), fn.Dense(9, "relu"), fn.Dense(2)], FEATURES,
    ),
    "norms in front and behind": (
        [fn.BatchNorm(), fn.Dense(20, "tanh"), fn.BatchNorm(), fn.Dense(2)], FEATURES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", STACKS)
def test_layers_that_come_along_are_computed_as_they_are(name, scaled):
    layers, X = STACKS[name]
    X = X.astype(np.float32)
    net = fn.Sequential(layers, 3, rng=0, scale_targets=scaled)
    net.fit(X, np.abs(FEATURES[:, :2]), epochs=3, batch_size=20, progress=False)
    half, whole = net.freeze(weights="bfloat16"), net(X)
    spread = np.abs(whole - whole.mean(0)).max()
    found = half(X)
    assert 0 < np.abs(found - whole).max() <= 0.03 * spread
    for n in (1, 2, 5, 33):
        assert half(X[:n]).tobytes() == found[:n].tobytes()
    assert half(X[0]).tobytes() == found[0].tobytes()
    with fn.backend("reference"):
        assert np.abs(half(X) - found).max() <= 2e-5 * np.abs(whole).max()
    if not any(isinstance(layer, fn.BatchNorm) for layer in layers):
        # Norms are taken in before weights are rounded.
        assert with_rounded(net)(X).tobytes() == found.tobytes()


def test_codes_that_there_are_not_are_refused():
    net = fn.Sequential([fn.Embedding({0: 7}), fn.Dense(2)], 3, rng=0)
    half = net.freeze(weights="bfloat16")
    with pytest.raises(ValueError, match="7"):
        half(np.array([7, 0, 0], np.float32))


@pytest.mark.jit
def test_activations_of_the_user_s_own_are_computed():
    square = fn.CustomActivation(lambda z: z * z, lambda z: 2.0 * z, name="halves_square")
    net = fn.Sequential([fn.Dense(20, square), fn.Dense(2)], 3, rng=0)
    half, X = net.freeze(weights="bfloat16"), examples(30, 3)
    assert half(X).tobytes() == with_rounded(net)(X).tobytes()


# What it is.


def test_weights_take_half_the_memory():
    net = network((500, 512, 256, 10))
    size = net.freeze(weights="bfloat16").nbytes
    assert 0.5 * net.parameters.nbytes <= size <= 0.53 * net.parameters.nbytes
    assert net.freeze().nbytes >= net.parameters.nbytes


def test_it_is_deaf_to_the_network_and_says_what_it_is():
    net = network((5, 9, 4))
    half, X = net.freeze(weights="bfloat16"), examples(30, 5)
    before = half(X).tobytes()
    net.parameters[:] = 0.0
    assert half(X).tobytes() == before != net(X).tobytes()
    assert repr(half).endswith("its weights stay as they were when it was frozen, in bfloat16>")
    assert "bfloat16" not in repr(net.freeze())
    assert copy.copy(half) is half
    assert copy.deepcopy(half)(X).tobytes() == before
    with pytest.raises(TypeError, match="Pickle or copy the network, and freeze that"):
        pickle.dumps(half)


def test_it_answers_several_threads_at_once():
    half = network((30, 40, 20)).freeze(weights="bfloat16")
    asked = [examples(n, 30) for n in (COUNTS[0], *COUNTS[-3:]) * (20 if JIT else 1)]
    expected = [half(X).tobytes() for X in asked]
    with ThreadPoolExecutor(4) as pool:
        assert [found.tobytes() for found in pool.map(half, asked)] == expected


def test_it_refuses_what_the_network_refuses_and_may_write_over_its_rows():
    net = network((3, 3), "relu")
    half = net.freeze(weights="bfloat16")
    bad = [[1.0, 2.0, 3.0], np.zeros(3), np.zeros((2, 4), np.float32), np.zeros((0, 3))]
    for x in bad:
        messages = []
        for call in (net, half):
            with pytest.raises((TypeError, ValueError)) as refused:
                call(x)
            messages.append(str(refused.value))
        assert messages[0] == messages[1]
    for shared in (examples(5, 3), examples(1, 3)[0]):
        expected = half(shared.copy())
        assert half(shared, out=shared).tobytes() == expected.tobytes()


def test_what_has_no_such_weights_is_refused():
    net = network((3, 4, 2))
    with pytest.raises(ValueError, match=r"^weights must be one of 'bfloat16'; got 'bfloat'\. Did"):
        net.freeze(weights="bfloat")
    with pytest.raises(TypeError, match=r"^weights must be a string, one of 'bfloat16'; got 16"):
        net.freeze(weights=16)
    double = network((3, 4, 2), dtype="float64")
    with pytest.raises(TypeError, match=r"^weights='bfloat16' is for .* float32; got .* float64"):
        double.freeze(weights="bfloat16")
    others = {
        "a LayerNorm as layer 1": [fn.Dense(4), fn.LayerNorm(), fn.Dense(2)],
        "a PReLU as layer 1": [fn.Dense(4), fn.PReLU(), fn.Dense(2)],
        "a Residual as layer 0": [fn.Residual([fn.Dense(3)]), fn.Dense(2)],
        "a LayerNorm as layer 3": [
            fn.Standardize(),
            fn.Dense(4),
            fn.BatchNorm(),
            fn.LayerNorm(),
            fn.Dense(2),
        ],
    }
    for what, layers in others.items():
        other = fn.Sequential(layers, 3, rng=0)
        with pytest.raises(ValueError, match=r"^weights='bfloat16' is for networks of") as refused:
            other.freeze(weights="bfloat16")
        assert what in str(refused.value)
        assert np.isfinite(other.freeze()(np.ones((2, 3), np.float32))).all()
    with pytest.raises(ValueError, match="this network has no weights yet"):
        fn.Sequential([fn.Dense(2)]).freeze(weights="bfloat16")
