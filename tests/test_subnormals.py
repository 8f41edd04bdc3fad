"""Numbers too small for a full mantissa: zero in kernels on x86, and nowhere else."""

import threading

import numpy as np
import pytest
from cases import DTYPES

import fastnn as fn
from fastnn.kernels import simd
from fastnn.machine import threads

# Data of such scales are hopeless, and a fit says so.
pytestmark = pytest.mark.filterwarnings("ignore::fastnn.FitWarning")

SMALLEST = {dtype: np.finfo(dtype).smallest_subnormal for dtype in DTYPES}


def tiny(dtype):
    """Return half the smallest normal number."""
    return np.finfo(dtype).tiny / np.dtype(dtype).type(2)


def still_there(dtype):
    """Tell whether this thread's arithmetic has subnormal numbers."""
    half = np.full(64, tiny(dtype), dtype) / np.dtype(dtype).type(2)
    return bool((half > 0).all())


def copier(dtype, inputs):
    """Return a network that gives what it gets."""
    net = fn.Sequential([fn.Dense(inputs, bias=False)], inputs=inputs, dtype=dtype)
    net.set_weights([np.eye(inputs, dtype=dtype)])
    return net


@pytest.mark.parametrize("dtype", DTYPES)
def test_python_has_them_after_every_kernel(dtype):
    net = copier(dtype, 3)
    X = np.full((5, 3), tiny(dtype), dtype)
    seen = []

    def use():
        before = still_there(dtype)
        net.predict(X)
        net(X[0])
        net.loss_and_gradient(X, X)
        seen.append((before, still_there(dtype)))

    use()
    other = threading.Thread(target=use)
    other.start()
    other.join()
    net.fit(X, X, epochs=2, batch_size=2)
    seen.append((True, still_there(dtype)))
    assert seen == [(True, True)] * 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_gives_the_bits_of_many(dtype):
    net = copier(dtype, 7)
    X = np.outer([tiny(dtype), 1.0, SMALLEST[dtype]], np.arange(7)).astype(dtype)
    many = net.predict(np.repeat(X, 5, axis=0))[::5]
    assert np.array([net(row) for row in X]).tobytes() == many.tobytes()
    assert many[1].tobytes() == X[1].tobytes()


@pytest.mark.jit
@pytest.mark.skipif(not simd.X86, reason="only x86 is slowed down by them")
@pytest.mark.parametrize("dtype", DTYPES)
def test_they_count_as_zero(dtype):
    net = copier(dtype, 4)
    X = np.full((2, 4), tiny(dtype), dtype)
    assert not net.predict(X).any()
    # Products of normal numbers too.
    root = np.sqrt(np.finfo(dtype).tiny) / np.dtype(dtype).type(4)
    net.set_weights([np.eye(4, dtype=dtype) * root])
    assert not net.predict(np.full((2, 4), root, dtype)).any()
    assert net.predict(np.ones((2, 4), dtype)).all()


def test_all_threads_of_a_team_treat_them_alike(monkeypatch, tuned):
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    tuned(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)
    rng = np.random.default_rng(0)
    X, y = 1e-21 * rng.standard_normal((96, 5)), rng.integers(0, 3, 96)
    bits = set()
    for limit in (1, 2, 4):
        net = fn.Sequential([fn.Dense(9, "relu"), fn.Dense(3, "softmax")], inputs=5, rng=1)
        net.fit(X, y, epochs=3, batch_size=96, threads=limit)
        bits.add(net.parameters.tobytes())
    assert len(bits) == 1
