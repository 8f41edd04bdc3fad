"""Activations and losses of the user's own: compiled, by the textbook, registered and refused."""

from __future__ import annotations

import copy
import ctypes
import functools
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from cases import DTYPES, JIT, error

import fastnn as fn
from fastnn import own

TOLERANCE = {"float32": 3e-5, "float64": 1e-12}
BACKENDS = ("native", "reference")
FACTOR = 0.01


def silu(z):
    return z / (1 + math.exp(-z))


def silu_slope(z):
    s = 1 / (1 + math.exp(-z))
    return s * (1 + z * (1 - s))


def leaky(z):
    return z if z > 0 else FACTOR * z


def leaky_slope(z):
    return 1.0 if z > 0 else FACTOR


def tanh(z):
    return np.tanh(z)


def tanh_slope(a):
    return 1 - a * a


def squares(a, y):
    return (a - y) ** 2


def squares_slope(a, y):
    return 2 * (a - y)


def log_cosh(a, y):
    return math.log(math.cosh(a - y))


def log_cosh_slope(a, y):
    return math.tanh(a - y)


# Beside the built-in of the same formula.
ACTIVATIONS = {
    "silu": fn.CustomActivation(silu, silu_slope, name="own_silu"),
    "leaky_relu": fn.CustomActivation(leaky, leaky_slope, name="own_leaky"),
    "tanh": fn.CustomActivation(tanh, tanh_slope, "A", name="own_tanh"),
}
LOSSES = {
    "mean_squared_error": fn.CustomLoss(squares, squares_slope, name="own_squares"),
    "log_cosh": fn.CustomLoss(log_cosh, log_cosh_slope, name="own_log_cosh"),
}
SHAPES = ((1, 1, 1, 1), (3, 5, 17, 2), (65, 7, 33, 3)) if JIT else ((3, 5, 4, 2),)


def twins(kind, shape, dtype):
    """Return a network with an own activation and its built-in twin, and examples."""
    n, p, h, m = shape
    made = ACTIVATIONS[kind]
    nets = [
        fn.Sequential([fn.Dense(h, one), fn.Dense(m, one)], p, dtype, rng=0) for one in (made, kind)
    ]
    nets[1].parameters[:] = nets[0].parameters
    rng = np.random.default_rng(1)
    X, y, w = rng.normal(size=(n, p)), rng.normal(size=(n, m)), rng.random(n)
    return *nets, X.astype(dtype), y.astype(dtype), w.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_own_functions_give_what_the_built_in_ones_do(kind, shape, dtype):
    mine, theirs, X, y, w = twins(kind, shape, dtype)
    assert error(mine.predict(X), theirs.predict(X)) <= TOLERANCE[dtype]
    assert np.stack([mine(x) for x in X]).tobytes() == mine.predict(X).tobytes()
    for loss, made in LOSSES.items():
        expected = theirs.loss_and_gradient(X, y, loss, sample_weight=w)
        for backend in ("native", "reference"):
            found = mine.loss_and_gradient(X, y, made, sample_weight=w, backend=backend)
            assert error(found[0], expected[0]) <= TOLERANCE[dtype]
            assert error(found[1], expected[1]) <= TOLERANCE[dtype]
    if JIT:
        V = X[:, ::-1].copy()
        assert error(mine.jacobian(X), theirs.jacobian(X)) <= 10 * TOLERANCE[dtype]
        assert error(mine.jvp(X, V), theirs.jvp(X, V)) <= 10 * TOLERANCE[dtype]


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gradients_are_the_slopes_of_the_loss(kind):
    mine, _, X, y, _ = twins(kind, (5, 4, 3, 2), "float64")
    for loss in LOSSES.values():
        assert fn.check_gradients(mine, X, y, loss).error < 1e-7


@pytest.mark.jit
def test_threads_change_no_bit():
    found = []
    for threads in (1, 2, 3):
        mine, _, X, y, _ = twins("silu", (300, 20, 64, 10), "float32")
        mine.fit(X, y, "own_squares", epochs=2, batch_size=150, threads=threads)
        found.append(mine.parameters.tobytes())
    assert len(set(found)) == 1


# Elementary functions of all numbers that they are defined for, by what they are made of.
ELEMENTARY = {
    "exp": lambda z: math.exp(z),
    "expm1": lambda z: math.expm1(z),
    "log": lambda z: math.log(z * z + 0.1),
    "log1p": lambda z: math.log1p(z * z),
    "log1p_of_exp": lambda z: math.log1p(math.exp(z)),
    "log1p_below_0": lambda z: math.log1p(-1 / (1 + z * z)) if z < -0.1 or z > 0.1 else 0.0,
    "tanh": lambda z: np.tanh(z),
    "sin": lambda z: math.sin(z),
    "cos": lambda z: np.cos(z),
}


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_are_python_s_far_from_0_too(name, dtype):
    from numba.core import types

    from fastnn.kernels.own_functions import _value_loop

    function = ELEMENTARY[name]
    made = SimpleNamespace(functions=(function, function))
    z = np.linspace(-20, 20, 1001).astype(dtype)
    found = z.copy()
    loop = _value_loop(made, getattr(types, dtype))
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    prototype(loop.address)(found.ctypes.data, len(found))
    # On numbers of float64, whose argument is rounded less.
    expected = np.array([function(float(one)) for one in z])
    assert np.allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.jit
def test_numbers_in_a_function_count_in_the_network_s_dtype():
    from numba.core import types

    from fastnn.kernels._own import OwnCompiler
    from fastnn.kernels.own_functions import user_function

    for function in (silu, silu_slope, leaky, tanh_slope):
        compiled = user_function(function, OwnCompiler)
        for kind in (types.float32, types.float64):
            compiled.compile((kind,))
            assert compiled.overloads[kind,].signature.return_type == kind


def test_missing_targets_do_not_count():
    mine, _, X, y, _ = twins("silu", (9, 3, 4, 2), "float64")
    y[::2, 0] = np.nan
    expected = mine.evaluate(X, y, "mean_squared_error", missing_targets="ignore")
    for backend in ("native", "reference"):
        found = mine.evaluate(X, y, "own_squares", missing_targets="ignore", backend=backend)
        assert found == pytest.approx(expected)


def test_a_fit_is_saved_and_gone_on_with_by_names(tmp_path):
    mine, _, X, y, _ = twins("leaky_relu", (40, 3, 8, 2), "float64")
    other = mine.copy()
    mine.fit(X, y, "own_squares", "adam", epochs=4)
    other.fit(X, y, "own_squares", "adam", epochs=2, callbacks=[fn.Checkpoint(tmp_path / "state")])
    other.fit(X, y, LOSSES["mean_squared_error"], "adam", epochs=4, resume=tmp_path / "state")
    assert other.parameters.tobytes() == mine.parameters.tobytes()
    mine.save(tmp_path / "net")
    assert fn.load(tmp_path / "net").predict(X).tobytes() == mine.predict(X).tobytes()
    made = own.ACTIVATIONS.pop("own_leaky")
    try:
        with pytest.raises(fn.ModelFileError, match=r"made before, by fastnn\.CustomActivation"):
            fn.load(tmp_path / "net")
    finally:
        own.ACTIVATIONS["own_leaky"] = made


def test_pickles_have_functions_by_reference():
    mine, _, X, _, _ = twins("silu", (4, 3, 5, 2), "float64")
    taken = pickle.dumps(mine)
    made = own.ACTIVATIONS.pop("own_silu")
    try:
        again = pickle.loads(taken)
    finally:
        own.ACTIVATIONS["own_silu"] = made
    assert again.predict(X).tobytes() == mine.predict(X).tobytes()
    assert copy.deepcopy(made) is made
    assert copy.deepcopy(mine).predict(X).tobytes() == mine.predict(X).tobytes()
    assert pickle.loads(pickle.dumps(LOSSES["log_cosh"])).name == "own_log_cosh"
    alone = fn.CustomActivation(lambda z: 3 * z, lambda z: 3.0, name="own_alone")
    with pytest.raises(TypeError, match="can be pickled where its functions stand in a module"):
        pickle.dumps(fn.Sequential([fn.Dense(1, alone)], 2))


def test_a_name_stands_for_one_pair_of_functions():
    def make(factor):
        return fn.CustomActivation(lambda z: factor * z, lambda z: factor, name="own_times")

    make(2.0)
    # A cell of a notebook may run twice.
    assert make(2.0).name == "own_times"
    with pytest.raises(ValueError, match="'own_times' was registered with others before"):
        make(3.0)
    with pytest.raises(ValueError, match="registered with others before"):
        fn.CustomLoss(log_cosh, log_cosh_slope, name="own_squares")


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ((lambda z: z * z, lambda z: 2.1 * z), r"at z = -9.847 it gave .* say -19.69"),
        ((lambda z: math.log(z), lambda z: 1 / z), "at 0 it raised ValueError"),
        ((lambda z: 1 / z, lambda z: 1.0), "at 0 it raised ZeroDivisionError"),
        ((lambda z: math.nan, lambda z: 1.0), "must return a finite number; at 0 it gave nan"),
        ((lambda z: "x", lambda z: 1.0), "value must return one number; at 0 it gave 'x'"),
        ((lambda z: np.array([z]), lambda z: 1.0), "value must return one number"),
        ((lambda z, more: z, lambda z: 1.0), "must compute a number; at 0 it raised TypeError"),
        ((3, lambda z: 1.0), "value must be a Python function of numbers; got 3"),
        ((lambda z: z, None), "derivative must be a Python function of numbers; got None"),
    ],
)  # fmt: skip
def test_what_is_no_activation_is_refused(functions, said):
    with pytest.raises((TypeError, ValueError), match=said):
        fn.CustomActivation(*functions, name="own_wrong")
    assert "own_wrong" not in own.ACTIVATIONS


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match="name must be a name for the registry"):
        fn.CustomActivation(lambda z: z, lambda z: 1.0)
    with pytest.raises(ValueError, match="derivative_from must be one of 'Z', 'A'"):
        fn.CustomActivation(silu, silu_slope, "B")
    with pytest.raises(ValueError, match="gradient must be the derivative of loss; at prediction"):
        fn.CustomLoss(squares, log_cosh_slope, name="own_wrong")
    with pytest.raises(ValueError, match="targets must be one of 'values'"):
        fn.CustomLoss(squares, squares_slope, "classes", name="own_wrong")
    with pytest.raises(ValueError, match="activation must be one of"):
        fn.Dense(3, "own_silly")


class Held:
    """What no compiler knows."""

    factor = 2.0


def cut(z):
    if z > 100:
        raise ValueError("too far")
    return z


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def power(z, n):
    return 1.0 if n == 0 else z * power(z, n - 1)


def made_of_others():
    def twice(z):
        return 2 * sigmoid(z)

    def twice_slope(z):
        s = sigmoid(z)
        return 2 * s * (1 - s)

    return fn.CustomActivation(twice, twice_slope, name="own_twice")


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_may_call_others(dtype):
    X = np.random.default_rng(3).normal(size=(9, 4))
    cube = fn.CustomActivation(lambda z: power(z, 3), lambda z: 3 * power(z, 2), name="own_cube")
    for made in (made_of_others(), cube):
        net = fn.Sequential([fn.Dense(5, made), fn.Dense(1)], 4, dtype, rng=0)
        found, textbook = (net.loss_and_gradient(X, X[:, 0], backend=b)[1] for b in BACKENDS)
        assert error(found, textbook) <= TOLERANCE[dtype]
    from numba.core import types

    from fastnn.kernels._own import OwnCompiler, user_function

    compiled = user_function(cube.functions[0], OwnCompiler)
    compiled.compile((types.float32,))
    assert compiled.overloads[types.float32,].signature.return_type == types.float32
    # Made again, as a cell of a notebook that is run again does.
    assert made_of_others().name == "own_twice"


def test_a_name_does_not_stand_for_functions_that_call_others_since(monkeypatch):
    made_of_others()
    monkeypatch.setitem(globals(), "sigmoid", lambda z: (math.tanh(z / 2) + 1) / 2)
    with pytest.raises(ValueError, match="'own_twice' was registered with others before"):
        made_of_others()


@pytest.mark.jit
def test_what_numba_cannot_compile_is_said_in_a_sentence():
    held = Held()
    made = fn.CustomActivation(lambda z: held.factor * z, lambda z: 2.0, name="own_held")
    net = fn.Sequential([fn.Dense(2, made)], 2)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"own_held.* cannot be compiled: Numba says: .*Held"):
            net.predict([[1.0, 2.0]])
    assert net.predict([[1.0, 2.0]], backend="reference").shape == (1, 2)
    made = fn.CustomActivation(cut, lambda z: 1.0, name="own_cut")
    with pytest.raises(ValueError, match="raises exceptions, which compiled code cannot"):
        fn.Sequential([fn.Dense(2, made)], 2).fit([[1.0, 2.0]], [[1.0, 2.0]])


def test_what_does_not_know_own_functions_refuses_them_by_name(tmp_path):
    mine, _, X, y, _ = twins("silu", (20, 3, 4, 2), "float64")
    for export in (mine.to_c, mine.to_python, mine.to_onnx):
        with pytest.raises(ValueError, match="got 'own_silu', one of yours, as layer 0"):
            export(tmp_path / "out")
    with pytest.raises(ValueError, match=r"jitted\(\) is for .*own_silu"):
        mine.jitted()
    with pytest.raises(ValueError, match="LBFGS takes any loss"):
        mine.fit(X, y, "own_squares", fn.LevenbergMarquardt())


@pytest.mark.jit
def test_other_ways_of_using_a_network_take_own_functions():
    mine, theirs, X, y, _ = twins("tanh", (50, 3, 6, 2), "float64")
    assert "own_tanh" in str(mine.summary())
    assert mine.diagnose(X, y, "own_squares").layers[0].units == 6
    assert mine.freeze()(X).tobytes() == mine.predict(X).tobytes()
    assert len(fn.find_learning_rate(mine, X, y, "own_log_cosh").losses)
    v = np.ones(mine.parameters.size)
    found, expected = (net.hessian_vector_product(X, y, v) for net in (mine, theirs))
    assert error(found, expected) < 1e-4
    for optimizer in (fn.LBFGS(), fn.LevenbergMarquardt()):
        before = mine.evaluate(X, y)["loss"]
        mine.fit(X, y, optimizer=optimizer, epochs=3)
        assert mine.evaluate(X, y)["loss"] < before


@pytest.mark.jit
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_take_own_functions():
    pytest.importorskip("sklearn")
    _, _, X, y, _ = twins("silu", (60, 3, 4, 1), "float64")
    settings = {"hidden_layer_sizes": 6, "max_iter": 5, "random_state": 0}
    mine = fn.MLPRegressor(
        LOSSES["mean_squared_error"], activation=ACTIVATIONS["tanh"], **settings
    ).fit(X, y[:, 0])
    theirs = fn.MLPRegressor("mean_squared_error", activation="tanh", **settings).fit(X, y[:, 0])
    assert error(mine.predict(X), theirs.predict(X)) < 1e-10
    assert pickle.loads(pickle.dumps(mine)).predict(X).tobytes() == mine.predict(X).tobytes()
    with pytest.raises(ValueError, match="scikit-learn"):
        mine.to_sklearn()
    sorted_out = fn.MLPClassifier(activation=ACTIVATIONS["silu"], **settings).fit(X, y[:, 0] > 0)
    assert 0.0 <= sorted_out.score(X, y[:, 0] > 0) <= 1.0


@pytest.mark.parametrize(
    "name", ["huber", "mse", "cross_entropy", "relu", "swish", "softmax", "auto"]
)
def test_names_of_the_library_s_own_are_refused(name):
    with pytest.raises(ValueError, match=f"name must be one .* got '{name}'"):
        fn.CustomLoss(lambda a, y: (a - y) ** 2, lambda a, y: 2 * (a - y), name=name)
    with pytest.raises(ValueError, match=f"name must be one .* got '{name}'"):
        fn.CustomActivation(lambda z: 2 * z, lambda z: 2.0, name=name)


@pytest.mark.parametrize(
    "function", [math.sinh, np.sinh, functools.partial(pow, 2.0), [].append, fn.Dense]
)
def test_what_is_no_plain_function_is_refused(function):
    with pytest.raises(TypeError, match="value must be a plain function"):
        fn.CustomActivation(function, lambda z: 1.0, name="own_other")


@pytest.mark.jit
def test_a_name_is_free_again_where_nothing_could_be_compiled():
    def helper(z):
        return float(str(z * z))

    bad = fn.CustomActivation(lambda z: helper(z), lambda z: 2 * z, name="own_freed")
    with pytest.raises(ValueError, match="cannot be compiled"):
        fn.Sequential([fn.Dense(1, bad)], inputs=1).predict([[1.0]], backend="native")
    good = fn.CustomActivation(lambda z: z * z, lambda z: 2 * z, name="own_freed")
    net = fn.Sequential([fn.Dense(1, good, initializer=2.0)], inputs=1)
    assert net.predict([[1.0]], backend="native").tolist() == [[4.0]]
