"""What a Dense layer asks of training: L1, bounds of weights, a learning rate, a decay."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cases import DTYPES, JIT, RULES, differences, error

import fastnn as fn
from fastnn.estimators.parameters import SOLVERS
from fastnn.kinds import from_dict, to_dict
from fastnn.machine import threads

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
both_backends = pytest.mark.parametrize("backend", ["native", "reference"])
each_rule = pytest.mark.parametrize("rule", RULES)

# How near the two paths come; rules that divide by small numbers part in float32.
TOLERANCE = {"float32": 2e-3, "float64": 1e-10}

#: What a layer may ask of every optimizer.
ASKED = {
    "l1": {"l1": 0.01},
    "elastic": {"l1": 0.02, "l2": 0.1},
    "max_norm": {"max_norm": 0.5},
    "non_negative": {"non_negative": True},
    "both bounds": {"max_norm": 0.3, "non_negative": True},
    "rate": {"learning_rate_scale": 0.25},
    "all": {"l1": 0.01, "l2": 0.01, "max_norm": 0.6, "non_negative": True,
            "learning_rate_scale": 1.5},
}  # fmt: skip
each_asked = pytest.mark.parametrize("asked", ASKED)


def network(asked, dtype="float64", p=19):
    """Return a network of wide and of narrow layers, of which the last one asks for nothing."""
    layers = [
        fn.Dense(37, "tanh", **asked),
        fn.Dropout(0.1),
        fn.Dense(1, "softplus", **asked),
        fn.Dense(9, "sigmoid", bias=False, **asked),
        fn.Dense(2),
    ]
    return fn.Sequential(layers, p, dtype, rng=4)


def examples(n=50, p=19):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p))
    return X, np.stack([X[:, 0] - X[:, 1], X[:, 2] ** 2], axis=1)


def fitted(net, rule="adam", **settings):
    X, y = examples()
    optimizer = RULES[rule] if isinstance(rule, str) else rule
    settings = {"epochs": 2, "batch_size": 16, "progress": False, **settings}
    return net.fit(X, y, optimizer=optimizer, **settings)


@each_dtype
@each_rule
@each_asked
def test_both_paths_train_alike(asked, rule, dtype):
    found = []
    for backend in ("native", "reference"):
        net = network(ASKED[asked], dtype)
        history = fitted(net, rule, backend=backend)
        found.append((net.parameters.copy(), history["loss"]))
    assert error(found[0][0], found[1][0]) < TOLERANCE[dtype]
    assert error(found[0][1], found[1][1]) < TOLERANCE[dtype]


@each_dtype
@each_asked
@pytest.mark.parametrize(
    "settings",
    [{"clip_norm": 0.1}, {"batch_size": 2000}, {"batch_size": 700, "average": fn.EMA(0.9)}],
    ids=("clipped", "grouped", "chunks"),
)
def test_every_way_of_a_step_is_alike(settings, asked, dtype, tuned):
    tuned(chunk_elements=1 << 13, smallest_chunk=64)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 19)), rng.normal(size=(2000, 2))
    found = []
    for backend in ("native", "reference"):
        net = network(ASKED[asked], dtype)
        net.fit(X, y, optimizer=fn.SGD(0.05, 0.9), epochs=2, backend=backend, **settings)
        found.append(net.parameters.copy())
    assert error(*found) < TOLERANCE[dtype]


@both_backends
@each_dtype
def test_bounds_hold_after_every_step(dtype, backend):
    net = network({"max_norm": 0.3, "non_negative": True}, dtype)
    X, y = examples()

    def look(run):
        for W in run.network.weights[:-1]:
            assert W.min() >= 0.0
            assert np.linalg.norm(W, axis=0).max() <= 0.3 * (1 + 4 * np.finfo(dtype).eps)
        assert run.network.weights[-1].min() < 0.0

    fitted(net, backend=backend, callbacks=look)
    net.train_on_batch(X, y, optimizer=fn.SGD(1.0), backend=backend)
    assert min(W.min() for W in net.weights[:-1]) >= 0.0
    gradient = np.full(net.parameters.size, 3.0)
    net.apply_gradient(gradient, fn.SGD(1.0), backend=backend)
    assert min(W.min() for W in net.weights[:-1]) >= 0.0
    net.apply_gradient(-gradient, fn.SGD(1.0), backend=backend)
    assert max(np.linalg.norm(W, axis=0).max() for W in net.weights[:-1]) < 0.3001


@both_backends
def test_bounds_by_hand(backend):
    layers = [fn.Dense(2, initializer="zeros", max_norm=1.0, bias=False), fn.Dense(1, bias=False)]
    net = fn.Sequential(layers, 2, "float64")
    # The first unit grows to (3, 4), of length 5; the second stays within the bound.
    gradient = -np.array([3.0, 0.5, 4.0, 0.5, 0.0, 0.0])
    net.apply_gradient(gradient, fn.SGD(1.0), backend=backend)
    assert np.allclose(net.weights[0], [[0.6, 0.5], [0.8, 0.5]], rtol=1e-15)
    assert np.array_equal(net.weights[0][:, 1], [0.5, 0.5])


@both_backends
@each_asked
def test_gradients_of_penalties_are_differences(asked, backend):
    net = network(ASKED[asked])
    X, y = examples()
    places = np.random.default_rng(1).permutation(net.parameters.size)[:60]
    gradient = net.loss_and_gradient(X, y, backend=backend)[1][places]
    assert error(gradient, differences(net, places, X, y, backend=backend)) < 1e-7
    fn.check_gradients(net, X, y)


@both_backends
def test_the_subgradient_is_0_at_0(backend):
    net = fn.Sequential([fn.Dense(3, initializer="zeros", l1=5.0, bias=False)], 2, "float64")
    loss, gradient = net.loss_and_gradient(np.eye(2), np.zeros((2, 3)), backend=backend)
    assert loss == 0.0
    assert not gradient.any()
    net.parameters[:] = [1.0, -2.0, 0.0, 0.5, 0.0, -1.0]
    plain = fn.Sequential([fn.Dense(3, bias=False)], 2, "float64")
    plain.parameters[:] = net.parameters
    other = plain.loss_and_gradient(np.eye(2), np.zeros((2, 3)), backend=backend)
    loss, gradient = net.loss_and_gradient(np.eye(2), np.zeros((2, 3)), backend=backend)
    assert loss == pytest.approx(other[0] + 5.0 * 4.5, rel=1e-15)
    assert np.allclose(gradient - other[1], 5.0 * np.sign(net.parameters), rtol=1e-14)


@both_backends
def test_l1_makes_weights_vanish(backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 10))
    y = 2.0 * X[:, 0] - X[:, 3]
    net = fn.Sequential([fn.Dense(1, l1=0.2)], 10, "float64", rng=0)
    net.fit(X, y, optimizer=fn.SGD(0.05), schedule="cosine", epochs=60, backend=backend)
    size = np.abs(net.weights[0][:, 0])
    assert np.flatnonzero(size > 0.05).tolist() == [0, 3]


@both_backends
@each_rule
def test_a_rate_of_its_own_is_that_of_the_optimizer(rule, backend):
    whole, scaled = network({}), network({"learning_rate_scale": 0.5})
    optimizer = RULES[rule]
    last = whole.layout["4.W"].offset
    X, y = examples()
    slower = type(optimizer)(
        **{**{name: getattr(optimizer, name) for name in optimizer.__slots__},
           "learning_rate": optimizer.learning_rate * 0.5}
    )  # fmt: skip
    other = network({})
    whole.train_on_batch(X, y, optimizer=optimizer, backend=backend)
    scaled.train_on_batch(X, y, optimizer=optimizer, backend=backend)
    other.train_on_batch(X, y, optimizer=slower, backend=backend)
    assert np.allclose(scaled.parameters[:last], other.parameters[:last], rtol=1e-12, atol=1e-15)
    assert np.allclose(scaled.parameters[last:], whole.parameters[last:], rtol=1e-12, atol=1e-15)


@both_backends
@pytest.mark.parametrize("kind", [fn.AdamW, fn.Lion])
def test_a_decay_of_its_own_is_that_of_the_optimizer(kind, backend):
    found = []
    for own, general in ((0.3, 0.0), (None, 0.3), (0.3, 0.7)):
        net = fn.Sequential([fn.Dense(5, weight_decay=own), fn.Dense(1, weight_decay=own)], 19,
                            "float64", rng=1)  # fmt: skip
        X, y = examples()
        net.fit(X, y[:, :1], optimizer=kind(0.01, weight_decay=general), epochs=2, backend=backend)
        found.append(net.parameters.copy())
    assert np.allclose(found[0], found[1], rtol=1e-12)
    assert np.allclose(found[0], found[2], rtol=1e-12)


@pytest.mark.skipif(not JIT, reason="Threads are those of compiled code.")
@each_dtype
@each_asked
def test_no_bit_depends_on_threads(asked, dtype, monkeypatch, tuned):
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    tuned(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9)
    found = []
    for count in range(1, 9):
        net = network(ASKED[asked], dtype)
        fitted(net, threads=count, batch_size=50)
        found.append(net.parameters.copy())
    assert all(np.array_equal(one, found[0]) for one in found[1:])


@each_asked
def test_what_is_asked_goes_on(asked, tmp_path):
    whole, net = network(ASKED[asked]), network(ASKED[asked])
    fitted(whole, epochs=4)
    fitted(net, epochs=2)
    net.save(tmp_path / "net", state=True)
    again = fn.load(tmp_path / "net")
    assert again.layers == net.layers
    for one in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert one.layers == net.layers
        assert np.array_equal(one.parameters, net.parameters)
    for one in (again, net.copy(), net):
        fitted(one, epochs=2, resume=True)
        assert np.array_equal(one.parameters, whole.parameters)
    other = network({})
    with pytest.raises(ValueError, match="differs in layer 0"):
        fitted(other, resume=tmp_path / "net", epochs=4)


def test_records_say_what_differs_from_the_defaults():
    plain = fn.Dense(3)
    assert repr(plain) == (
        "Dense(units=3, activation='identity', bias=True, initializer='auto', l2=0.0)"
    )
    assert set(to_dict(plain)) == {"layer", "units", "activation", "bias", "initializer", "l2"}
    asked = fn.Dense(3, l1=1, max_norm=2, non_negative=True, learning_rate_scale=3, weight_decay=0)
    assert from_dict(to_dict(asked)) == asked
    assert repr(asked).endswith(
        "l1=1.0, max_norm=2.0, non_negative=True, learning_rate_scale=3.0, weight_decay=0.0)"
    )
    assert eval(repr(asked), {"Dense": fn.Dense}) == asked


def test_frozen_layers_stay_as_they_are():
    asked = {"l1": 1.0, "max_norm": 1e-3, "non_negative": True, "trainable": False}
    net = fn.Sequential([fn.Dense(5, **asked), fn.Dense(1)], 19, "float64", rng=0)
    before = net.weights[0].copy()
    X, y = examples()
    plain = fn.Sequential([fn.Dense(5, trainable=False), fn.Dense(1)], 19, "float64", rng=0)
    for one in (net, plain):
        one.fit(X, y[:, :1], epochs=1)
    assert np.array_equal(net.weights[0], before)
    assert np.array_equal(net.parameters, plain.parameters)


@pytest.mark.parametrize("search", [fn.LBFGS(), fn.LevenbergMarquardt()])
@pytest.mark.parametrize(
    "asked",
    [{"l1": 0.1}, {"max_norm": 1.0}, {"non_negative": True}, {"learning_rate_scale": 2.0},
     {"weight_decay": 0.1}],
)  # fmt: skip
def test_searches_refuse_what_only_steps_do(asked, search):
    net = fn.Sequential([fn.Dense(5, "tanh", **asked), fn.Dense(1)], 19, "float64", rng=0)
    before = net.parameters.copy()
    X, y = examples()
    (name,) = asked
    with pytest.raises(ValueError, match=rf"smooth loss.*got {name}=.* of layer 0"):
        net.fit(X, y[:, :1], optimizer=search)
    assert np.array_equal(net.parameters, before)


def test_a_decay_is_for_rules_that_decay():
    net = fn.Sequential([fn.Dense(1, weight_decay=0.1)], 2, "float64", rng=0)
    X, y = np.eye(2), [1.0, 2.0]
    calls = (
        lambda: net.fit(X, y, optimizer="sgd"),
        lambda: net.train_on_batch(X, y),
        lambda: net.apply_gradient(np.zeros(3)),
        lambda: fn.find_learning_rate(net, X, y),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"weight_decay of a layer is for AdamW and Lion"):
            call()
    net.train_on_batch(X, y, optimizer=fn.Lion())
    net.fit(X, y, optimizer="adamw", epochs=1)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"l1": -1.0}, ValueError), ({"l1": np.nan}, ValueError), ({"l1": "1"}, TypeError),
        ({"max_norm": 0.0}, ValueError), ({"max_norm": -1.0}, ValueError),
        ({"max_norm": np.inf}, ValueError), ({"max_norm": True}, TypeError),
        ({"non_negative": 1}, TypeError), ({"non_negative": None}, TypeError),
        ({"learning_rate_scale": 0.0}, ValueError), ({"learning_rate_scale": None}, TypeError),
        ({"weight_decay": -0.1}, ValueError), ({"weight_decay": "0"}, TypeError),
    ],
)  # fmt: skip
def test_wrong_values_are_named(asked, kind):
    (name,) = asked
    with pytest.raises(kind, match=f"{name} must be"):
        fn.Dense(3, **asked)


def test_words_of_other_libraries_are_understood():
    for word, meant in (
        ("kernel_constraint", "max_norm"), ("positive", "non_negative"),
        ("lr_scale", "learning_rate_scale"), ("maxnorm", "max_norm"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=meant):
            fn.Dense(3, **{word: 1})


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_estimators_take_layers_that_ask(solver):
    X, y = examples()
    layers = [fn.Dense(5, "tanh", max_norm=0.3, non_negative=True, learning_rate_scale=0.5)]
    one = fn.MLPRegressor(layers=layers, solver=solver, max_iter=3, random_state=0, tol=0.0)
    if solver == "lbfgs":
        with pytest.raises(ValueError, match=r"solver='lbfgs' minimises a smooth loss"):
            one.fit(X, y[:, 0])
        return
    one.fit(X, y[:, 0])
    assert one.coefs_[0].min() >= 0.0
    assert np.linalg.norm(one.coefs_[0], axis=0).max() < 0.3001


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_estimators_refuse_penalties_of_another_scale():
    X, y = examples()
    for asked, message in (({"l1": 0.1}, "l1=0.0"), ({"weight_decay": 0.1}, "solver='adamw'")):
        one = fn.MLPRegressor(layers=[fn.Dense(5, **asked)], max_iter=3, random_state=0)
        with pytest.raises(ValueError, match=message):
            one.fit(X, y[:, 0])
    decayed = fn.MLPRegressor(
        layers=[fn.Dense(5, weight_decay=9.0)], solver="adamw", max_iter=3, random_state=0
    )
    decayed.fit(X, y[:, 0])


def test_sparse_examples_and_weights_ask_alike():
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 40)) * (rng.random((60, 40)) < 0.2)
    weights = rng.random(60)
    nets = []
    for given in (X, sparse.csr_matrix(X)):
        net = fn.Sequential([fn.Dense(20, "relu", **ASKED["all"]), fn.Dense(1)], 40, "float64",
                            rng=0)  # fmt: skip
        net.fit(given, X[:, 0], epochs=3, sample_weight=weights, clip_norm=1.0)
        nets.append(net.parameters.copy())
    assert np.array_equal(*nets)


@both_backends
def test_a_penalty_that_overflows_is_named(backend):
    X, y = examples()
    net = fn.Sequential([fn.Dense(5, "tanh"), fn.Dense(2, l1=1e308)], 19, "float64", rng=0)
    net.parameters *= 50.0
    before = net.parameters.copy()
    with pytest.raises(fn.DivergenceError, match="the L1 penalty of layer 1"):
        net.fit(X, y, backend=backend)
    assert np.array_equal(net.parameters, before)
