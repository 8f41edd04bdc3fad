"""Predictions inside users' compiled functions, by a C pointer, and with many weight vectors."""

from __future__ import annotations

import copy
import ctypes
import gc
import importlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import DTYPES, JIT

import fastnn as fn
from fastnn import reference
from fastnn.activations import ACTIVATIONS
from fastnn.kernels import embedded, frames, single
from fastnn.predicting import compiled

ROOT = Path(fn.__file__).parents[1]

needs_compiler = pytest.mark.jit

# Widths on every side of a vector's, and layers whose weights lie as their transpose.
WIDTHS = [(1, 1), (3, 2), (7, 13, 4), (8, 64, 64, 2), (33, 17, 5), (20, 4, 31), (5, 70, 1, 9)]


def network(widths, dtype="float32", activation="tanh", last="identity", bias=True):
    layers = [fn.Dense(units, activation, bias=bias) for units in widths[1:-1]]
    layers = [*layers, fn.Dropout(0.5), fn.Dense(widths[-1], last, bias=bias)]
    net = fn.Sequential(layers, widths[0], dtype, rng=3)
    rng = np.random.default_rng(len(widths))
    net.parameters[:] = rng.normal(size=net.layout.size) * 0.5
    return net


def rows(net, n=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, net.inputs)).astype(net.dtype)


def jacobian(net, x):
    """Return the derivatives of the textbook's prediction, by central differences in float64."""
    layout, parameters = net.layout, net.parameters.astype(np.float64)
    W = [w.T for w in layout.weights(parameters)]
    b = [None if b is None else b[:, np.newaxis] for b in layout.biases(parameters)]
    names = [block.activation for block in layout.blocks]
    h = 1e-6
    steps = h * np.eye(net.inputs)
    points = np.concatenate([x + steps, x - steps]).T
    Y = reference.forward(W, b, names, points)[1][-1]
    return (Y[:, : net.inputs] - Y[:, net.inputs :]) / (2 * h)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_a_compiled_function_gets_the_bits_of_the_network(widths, dtype):
    net = network(widths, dtype)
    forward, weights = net.jitted()
    out = np.empty(net.outputs, dtype)
    for x in rows(net):
        forward(weights, x, out)
        assert (out == net(x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_and_products_are_those_of_every_activation(activation, dtype):
    net = network(
        (6, 9, 11, 3), dtype, "tanh" if activation == "softmax" else activation, activation
    )
    net.parameters *= 0.5
    forward, weights, vjp = net.jitted(gradient=True)
    rng = np.random.default_rng(1)
    for x in rows(net, 3):
        out, dx = np.empty(3, dtype), np.empty(6, dtype)
        v = rng.normal(size=3).astype(dtype)
        forward(weights, x, out)
        assert (out == net(x)).all()
        vjp(weights, x, v, dx)
        expected = v.astype(np.float64) @ jacobian(net, x.astype(np.float64))
        bound = 2e-5 if dtype == "float32" else 1e-7
        np.testing.assert_allclose(dx, expected, rtol=0, atol=bound * (1 + abs(expected).max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_products_are_the_reference_s_at_every_width(widths, dtype):
    net = network(widths, dtype, bias=len(widths) % 2 == 0)
    _, weights, vjp = net.jitted(gradient=True)
    for x in rows(net, 2):
        dx, v = np.empty(net.inputs, dtype), np.linspace(-1, 1, net.outputs).astype(dtype) + 1
        vjp(weights, x, v, dx)
        expected = v.astype(np.float64) @ jacobian(net, x.astype(np.float64))
        bound = 2e-5 if dtype == "float32" else 1e-7
        np.testing.assert_allclose(dx, expected, rtol=0, atol=bound * (1 + abs(expected).max()))


def test_results_may_overwrite_what_they_are_of():
    net = network((4, 9, 4))
    forward, weights, vjp = net.jitted(gradient=True)
    (x,) = rows(net, 1)
    v, dx = x + 1, np.empty(4, np.float32)
    vjp(weights, x, v, dx)
    for over in (x.copy(), v.copy()):
        vjp(weights, *((over, v) if (over == x).all() else (x, over)), over)
        assert (over == dx).all()
    expected = net(x)
    forward(weights, x, x)
    assert (x == expected).all()


def test_weights_are_the_network_s_own():
    net = network((3, 5, 1))
    forward, weights = net.jitted()
    (x,) = rows(net, 1)
    assert weights[0] is net.parameters
    assert not any(array.flags.writeable for array in weights[1:3])
    out, before = np.empty(1, np.float32), net(x)
    net.fit(rows(net, 64), np.ones(64), "mean_squared_error", epochs=1, progress=False)
    forward(weights, x, out)
    assert out == net(x) != before
    net.set_weights([np.zeros_like(w) for w in net.get_weights()])
    forward(weights, x, out)
    assert out == 0
    other = np.ones_like(net.parameters)
    forward((other, *weights[1:]), x, out)
    net.parameters = other
    assert out == net(x)


def test_other_layers_and_widths_are_refused_by_name(monkeypatch):
    class Pool:
        pass

    net = network((3, 5, 1))
    first, *others = net.layout.operations
    other = replace(first, kind=replace(first.kind, record=Pool, answered=False))
    monkeypatch.setattr(net.layout, "operations", (other, *others))
    for method in (net.jitted, net.cfunc, lambda: net.predict_many([net.parameters], [[1, 2, 3]])):
        with pytest.raises(ValueError, match=r"got a Pool as layer 0\. net\(x\), net\.predict"):
            method()
    wide = fn.Sequential([fn.Dense(40_000, initializer=0.0), fn.Dense(1, initializer=0.0)], 1)
    for name in ("jitted", "cfunc"):
        with pytest.raises(ValueError, match=rf"{name}\(\) keeps.*at most 32,768 .*got 40,000"):
            getattr(wide, name)()
    deep = fn.Sequential([fn.Dense(12_000, initializer=0.0), fn.Dense(1, initializer=0.0)], 1)
    deep.jitted()
    with pytest.raises(ValueError, match=r"jitted\(gradient=True\) keeps.*2 layers of at most"):
        deep.jitted(gradient=True)
    with pytest.raises(ValueError, match="no weights yet"):
        fn.Sequential([fn.Dense(1)]).jitted()
    with pytest.raises(TypeError, match="gradient must be"):
        net.jitted(gradient=1)


@needs_compiler
def test_what_does_not_fit_is_refused_in_words():
    net = network((4, 9, 2))
    forward, weights, vjp = net.jitted(gradient=True)
    x, out = np.ones(4, np.float32), np.empty(2, np.float32)
    fixed = out.copy()
    fixed.flags.writeable = False
    double = net.parameters.astype(np.float64)
    for arguments, said in [
        ((weights, x.astype(np.float64), out), "x must be a vector of float32"),
        ((weights, x[np.newaxis], out), "x must be a vector"),
        ((weights, [1.0] * 4, out), "x must be a vector"),
        ((weights, x, "out"), "out must be a vector"),
        ((weights, x, fixed), "out must be writeable"),
        ((weights[:3], x, out), "weights must be those of net.jitted()"),
        ((net.parameters, x, out), "weights must be those of net.jitted()"),
        (((double, *weights[1:]), x, out), "weights must be those of net.jitted()"),
    ]:
        with pytest.raises(TypeError, match=re.escape(f"forward: {said}")):
            forward(*arguments)
    for vector in (x[:3], np.ones(5, np.float32)):
        with pytest.raises(ValueError, match="x must have a number for each input"):
            forward(weights, vector, out)
        with pytest.raises(ValueError, match="x and dx must have a number for each input"):
            vjp(weights, vector, out, x.copy())
    gaps = np.ones(8, np.float32)[::2]
    with pytest.raises(ValueError, match="weights, x and out must be contiguous"):
        forward(weights, gaps, out)
    with pytest.raises(ValueError, match="weights, x, v and dx must be contiguous"):
        vjp(weights, x, out, gaps)
    with pytest.raises(ValueError, match="out for each output"):
        forward(weights, x, np.empty(3, np.float32))
    with pytest.raises(ValueError, match="a vector of all parameters"):
        forward((net.parameters[1:], *weights[1:]), x, out)

    @numba.njit
    def wrong(weights, x, out):
        forward(weights, x, out)

    with pytest.raises(TypeError):
        forward(weights, x)
    with pytest.raises(numba.core.errors.TypingError, match="forward: x must be a vector of float"):
        wrong(weights, x.astype(np.float64), out)


@needs_compiler
def test_nothing_is_allocated_and_subnormals_of_the_caller_stay():
    net = network((8, 64, 64, 2))
    forward, weights, vjp = net.jitted(gradient=True)

    @numba.njit
    def loop(weights, x, v, out, dx, tiny, n):
        total = np.float32(0)
        for _ in range(n):
            forward(weights, x, out)
            total += tiny * out[0] * np.float32(0.5)
            vjp(weights, x, v, dx)
            total += tiny * np.float32(0.5)
        return total

    x, v, out, dx = (np.ones(n, np.float32) for n in (8, 2, 2, 8))
    tiny = np.float32(1e-38)
    loop(weights, x, v, out, dx, tiny, 1)
    numba.core.runtime._nrt_python.memsys_enable_stats()
    try:
        counts = []
        for n in (1, 10_000):
            before = numba.core.runtime.rtsys.get_allocation_stats().alloc
            assert loop(weights, x, v, out, dx, np.float32(0), n) == 0
            counts.append(numba.core.runtime.rtsys.get_allocation_stats().alloc - before)
    finally:
        numba.core.runtime._nrt_python.memsys_disable_stats()
    assert counts[0] == counts[1]
    assert (out == net(x)).all()
    # Half of it is a subnormal number, which a kernel would take for zero.
    assert abs(loop(weights, x, v, out, dx, tiny, 1)) > 0


@needs_compiler
def test_all_architectures_of_a_dtype_share_one_compilation():
    nets = [network(widths) for widths in WIDTHS]

    @numba.njit(fastmath=True)
    def loop(weights, X, Y):
        for x, y in zip(X, Y):  # noqa: B905  (Numba has no strict)
            forward(weights, x, y)

    for net in nets:
        forward, weights = net.jitted()
        X = rows(net)
        Y = np.empty((len(X), net.outputs), net.dtype)
        loop(weights, X, Y)
        assert (net(X) == Y).all()
    assert len(loop.signatures) == 1


@needs_compiler
def test_several_threads_share_the_weights():
    net = network((8, 64, 64, 2))
    forward, weights, vjp = net.jitted(gradient=True)
    function = net.cfunc().ctypes

    @numba.njit(nogil=True)
    def loop(weights, X, Y, D, n):
        for _ in range(n):
            for k in range(len(X)):
                forward(weights, X[k], Y[k])
                vjp(weights, X[k], Y[k], D[k])
                function(X[k].ctypes, Y[k].ctypes)

    X = rows(net, 8)
    Y = np.zeros((8, 8, 2), np.float32)
    D = np.zeros((8, 8, 8), np.float32)
    loop(weights, X, Y[0], D[0], 1)
    threads = [threading.Thread(target=loop, args=(weights, X, Y[k], D[k], 300)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (net(X) == Y).all()
    assert (D[:1] == D).all()


USER = """
import sys
import numba
import numpy as np
import fastnn as fn

net = fn.Sequential([fn.Dense(int(sys.argv[1]), "tanh"), fn.Dense(2)], 3, rng=int(sys.argv[1]))
# Before anything else loads what it needs of Numba.
assert net.cfunc().address
forward, weights = net.jitted()


@numba.njit(cache=True)
def by_name(weights, x, out):
    forward(weights, x, out)


@numba.njit(cache=True)
def as_argument(f, weights, x, out):
    f(weights, x, out)


def made(f):
    @numba.njit(cache=True)
    def inside(weights, x, out):
        f(weights, x, out)

    return inside


in_a_closure = made(forward)
x, out = np.ones(3, np.float32), np.empty(2, np.float32)
for function, first in ((by_name, ()), (as_argument, (forward,)), (in_a_closure, ())):
    out[:] = 0
    function(*first, weights, x, out)
    assert (out == net(x)).all(), (out, net(x))
    print(sum(function.stats.cache_hits.values()), end=" ")
"""


@needs_compiler
def test_numba_keeps_users_functions_until_the_kernels_change(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    shutil.copytree(ROOT / "fastnn", tmp_path / "fastnn", ignore=shutil.ignore_patterns("*.pyc"))

    def hits(units):
        environment = {
            **os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba"), "PYTHONPATH": str(tmp_path),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "user.py", str(units)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert hits(16) == ["0", "0", "0"]
    assert hits(5) == ["1", "1", "1"]
    # A version in which a layer's inputs and outputs stand in each other's place.
    changed = tmp_path / "fastnn" / "kernels" / "codes.py"
    text = changed.read_text("utf-8")
    swapped = text.replace("INPUTS: Final = 1\n", "INPUTS: Final = 2\n")
    swapped = swapped.replace("OUTPUTS: Final = 2\n", "OUTPUTS: Final = 1\n")
    assert swapped != text
    changed.write_text(swapped, "utf-8")
    assert hits(5) == ["0", "0", "0"]


@needs_compiler
def test_embedded_functions_are_pickled_by_name():
    forward, _, vjp = network((3, 2)).jitted(gradient=True)
    for function in (forward, vjp):
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_c_function_gives_the_bits_of_the_network(dtype):
    net = network((7, 13, 4), dtype, "gelu", "softmax")
    function = net.cfunc()
    number = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype]
    call = ctypes.CFUNCTYPE(None, ctypes.POINTER(number), ctypes.POINTER(number))(function.address)
    out = np.empty(4, dtype)
    for x in rows(net):
        call(x.ctypes.data_as(call.argtypes[0]), out.ctypes.data_as(call.argtypes[1]))
        assert (out == net(x)).all()
    net.parameters *= 2
    call(x.ctypes.data_as(call.argtypes[0]), out.ctypes.data_as(call.argtypes[1]))
    assert (out == net(x)).all()
    T = "float" if dtype == "float32" else "double"
    assert f"void f(const {T} *x, {T} *out)" in repr(function)
    assert (function.inputs, function.outputs, function.dtype) == (7, 4, np.dtype(dtype))


def test_a_c_function_lives_as_long_as_what_it_gave():
    net = network((3, 5, 2), "float64")
    (x,) = rows(net, 1)
    expected, out = net(x), np.empty(2)
    function = net.cfunc()
    alive = weakref.ref(function)
    pointer = function.ctypes
    del net, function
    gc.collect()
    assert alive() is not None
    pointer(x.ctypes.data_as(pointer.argtypes[0]), out.ctypes.data_as(pointer.argtypes[0]))
    assert (out == expected).all()
    del pointer
    gc.collect()
    assert alive() is None


def test_c_functions_are_of_one_process():
    net = network((3, 2))
    function = net.cfunc()
    assert copy.copy(function) is copy.deepcopy(function) is function
    with pytest.raises(TypeError, match="of this process only"):
        pickle.dumps(function)
    with pytest.raises(AttributeError):
        function.adress = 1
    # What was made of a network does not travel with it.
    assert (pickle.loads(pickle.dumps(net)).parameters == net.parameters).all()
    assert copy.deepcopy(net)._embedded is None


def test_scipy_takes_the_c_function():
    scipy = pytest.importorskip("scipy")
    for dtype, T in (("float32", "float"), ("float64", "double")):
        function = scipy.LowLevelCallable(network((3, 2), dtype).cfunc().ctypes)
        assert function.signature == f"void ({T} *, {T} *)"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 5, 70] if JIT else [1, 3])
@pytest.mark.parametrize("widths", [(8, 64, 64, 2), (7, 13, 4), (20, 300, 150, 3)], ids=str)
def test_many_vectors_give_the_bits_of_each(widths, n, dtype):
    net = network(widths, dtype)
    own = net.parameters.copy()
    P = np.random.default_rng(1).normal(size=(6, len(own))).astype(dtype)
    X, some = rows(net, n), rows(net, 6 * n).reshape(6, n, -1)
    Y, Z = net.predict_many(P, X), net.predict_many(P, some)
    assert Y.shape == Z.shape == (6, n, net.outputs)
    assert (net.parameters == own).all()
    for k, parameters in enumerate(P):
        net.parameters = parameters
        assert (Y[k] == net.predict(X)).all()
        assert (Z[k] == net.predict(some[k])).all()


def test_many_vectors_are_divided_among_threads(tuned):
    net = network((5, 6, 2))
    P = np.random.default_rng(1).normal(size=(97, net.layout.size)).astype(np.float32)
    for n in (1, 40):
        X = rows(net, n)
        alone = net.predict_many(P, X)
        tuned(helper_share=1.0)
        with_helpers = net.predict_many(P, X)
        tuned(call_nanoseconds=1.0, smallest_call=1)
        in_slices = net.predict_many(P, X)
        assert (alone == with_helpers).all()
        assert (alone == in_slices).all()


def test_many_vectors_may_come_in_any_form():
    net = network((3, 4, 2))
    P, X = np.stack([net.parameters, 2 * net.parameters]), rows(net, 3)
    expected = net.predict_many(P, X)
    fixed = P.copy()
    fixed.flags.writeable = False
    for form in (
        P.tolist(),
        P.astype(np.float64),
        np.asfortranarray(P),
        fixed,
        np.repeat(P, 2, 0)[::2],
    ):
        assert (net.predict_many(form, X.tolist()) == expected).all()
    many = rows(net, 20_000 if JIT else 2_000)
    assert (net.predict_many(fixed, many) == net.predict_many(P, many)).all()
    assert not fixed.flags.writeable
    assert P.flags.writeable
    out = np.empty_like(expected)
    assert net.predict_many(P, X, out=out) is out
    assert (out == expected).all()
    by_the_book = net.predict_many(P, X, backend="reference")
    np.testing.assert_allclose(by_the_book, expected, rtol=1e-5)
    nothing = P.copy()
    nothing[1] = np.nan
    Y = net.predict_many(nothing, X)
    assert (Y[0] == expected[0]).all()
    assert np.isnan(Y[1]).all()


def test_results_of_many_vectors_may_lie_in_their_examples():
    net = network((2, 4, 2))
    P, X = np.stack([net.parameters, 2 * net.parameters]), rows(net, 6).reshape(2, 3, 2)
    expected = net.predict_many(P, X)
    assert (net.predict_many(P, X, out=X) == expected).all()


@pytest.mark.parametrize(
    ("parameters", "X", "said"),
    [
        ("none", [[1, 2]], "parameters"),
        ([1.0] * 3, [[1, 2]], r"parameters must have shape \(k, 3\), a vector per row"),
        ([[1.0] * 4], [[1, 2]], r"parameters must have shape \(k, 3\)"),
        (np.zeros((0, 3)), [[1, 2]], r"parameters must have shape \(k, 3\)"),
        ([[1.0] * 3], [[1, 2, 3]], "X"),
        ([[1.0] * 3], [[1, np.inf]], "X"),
        ([[1.0] * 3], np.zeros((2, 1, 2)), r"X must have shape \(n, 2\), or \(1, n, 2\)"),
        ([[1.0] * 3], np.zeros((1, 1, 3)), r"X must have shape \(n, 2\), or \(1, n, 2\)"),
        ([[1.0] * 3], np.full((1, 1, 2), np.nan), "X"),
        ([[1.0] * 3], "none", "X"),
    ],
)
def test_many_vectors_of_another_form_are_refused(parameters, X, said):
    net = fn.Sequential([fn.Dense(1)], 2)
    with pytest.raises((TypeError, ValueError), match=said):
        net.predict_many(parameters, X)
    with pytest.raises(TypeError, match="out must be"):
        net.predict_many([[1.0] * 3], [[1, 2]], out=np.empty((1, 1, 1)))


def test_rows_times_a_vector_are_the_textbook_s():
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        for inputs, outputs in [(1, 1), (3, 2), (4, 16), (9, 33), (31, 65)]:
            P = rng.normal(size=2 + inputs * outputs).astype(dtype)
            d, z = rng.normal(size=outputs + 1).astype(dtype), np.full(inputs + 2, 7, dtype)
            expected = P[2:].reshape(inputs, outputs).astype(np.float64) @ d[1:].astype(np.float64)
            _rows_times_vector(z, 1, P, 2, d, 1, inputs, outputs)
            tight = 1e-5 if dtype == "float32" else 1e-13
            np.testing.assert_allclose(z[1:-1], expected, rtol=0, atol=tight * outputs)
            assert z[0] == z[-1] == 7


@(numba.njit if JIT else lambda f: f)
def _rows_times_vector(z, to, P, W, d, source, inputs, outputs):
    single.rows_times_vector(z, to, P, W, d, source, inputs, outputs)


def test_where_no_source_can_be_read_nothing_that_was_kept_is_used(monkeypatch):
    monkeypatch.setattr(embedded, "source_hash", lambda: None)
    embedded._version.cache_clear()
    first = embedded.seal(np.dtype(np.float32)).dtype
    assert first == embedded.seal(np.dtype(np.float32)).dtype
    embedded._version.cache_clear()
    assert first != embedded.seal(np.dtype(np.float32)).dtype
    monkeypatch.undo()
    embedded._version.cache_clear()


def test_memory_at_an_address_is_the_same_in_python():
    numbers = (ctypes.c_double * 3)(1, 2, 3)
    pointer = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_double))
    assert frames._pointed(pointer, 3).tolist() == [1, 2, 3]
    assert compiled.Embedded(network((3, 2)).layout, np.dtype(np.float32)).layout.inputs == 3


def section(title):
    """Return the examples in Python of a section of the page."""
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    text = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@needs_compiler
def test_the_page_s_examples_run(capsys, tmp_path, monkeypatch):
    pytest.importorskip("scipy")
    (tmp_path / "page_on_serving.py").write_text(
        "\n".join(section("Inside compiled code")), "utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    page = importlib.import_module("page_on_serving")
    said = capsys.readouterr().out
    balanced, learnt = re.findall(r"balance\w* for (\d+) of", said)
    assert int(balanced) > 250
    assert int(learnt) > 100
    x = np.array([1.0, 0.0])
    for _ in range(5000):
        middle = x + 0.0005 * page.pendulum(x)
        x = x + 0.001 * page.pendulum(middle)
    np.testing.assert_allclose(page.end, x, atol=0.1)
    np.testing.assert_allclose(page.area, 2.0, atol=0.1)
    assert abs(page.rest(page.weights, np.array([0.5, 0.5]), 200)).max() < 0.1
