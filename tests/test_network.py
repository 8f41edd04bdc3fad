"""`Sequential`: what it is made of, its parameters, and its copies."""

from __future__ import annotations

import copy
import math
import pickle
import sys

import numpy as np
import pytest
from cases import DTYPES

import fastnn as fn
from fastnn.initializers import INITIALIZERS
from fastnn.kinds import LAYERS

BACKENDS = ("native", "reference")

NAMED = ", ".join(f"fastnn.{name}(...)" for name in LAYERS)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = X[:, :1] - X[:, 1:2]


def network(inputs=3, **keywords):
    return fn.Sequential([fn.Dense(5, "tanh"), fn.Dense(1)], inputs, **keywords)


def everything(net):
    """All that a network holds, as bytes."""
    return pickle.dumps(net)


# What it is.


def test_a_network_says_what_it_is():
    hidden, last = fn.Dense(5, "relu"), fn.Dense(2, bias=False)
    net = fn.Sequential([hidden, last], inputs=3)
    assert net.layers == (hidden, last)
    assert (net.inputs, net.outputs) == (3, 2)
    assert net.dtype == np.float32
    assert isinstance(net.dtype, np.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.float64, np.dtype("f8")])
def test_parameters_have_the_network_s_dtype(dtype):
    net = network(dtype=dtype)
    assert net.dtype == net.parameters.dtype == np.dtype(dtype)
    assert net.predict(X).dtype == net.dtype


def test_a_network_may_have_no_hidden_layer():
    net = fn.Sequential([fn.Dense(2)], inputs=3, dtype="float64")
    expected = X @ net.weights[0] + net.biases[0]
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-14)


def test_a_network_may_have_many_hidden_layers_and_the_same_record_twice():
    layer = fn.Dense(3, "tanh")
    net = fn.Sequential([layer] * 20, inputs=3)
    assert len(net.weights) == 20
    assert not np.array_equal(net.weights[0], net.weights[1])
    assert net.predict(X).shape == (20, 3)


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_layers_come_as_any_sequence(kind):
    layers = [fn.Dense(2, "tanh"), fn.Dense(1)]
    assert fn.Sequential(kind(layers), inputs=3).layers == tuple(layers)


def test_the_list_of_layers_may_change_afterwards():
    layers = [fn.Dense(2), fn.Dense(1)]
    net = fn.Sequential(layers, inputs=3)
    layers.append(fn.Dense(7))
    assert net.outputs == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"layers": []}, ValueError, "layers must hold at least one layer; got an empty list."),
        ({"layers": None}, TypeError, "layers must be a list of layers; got None."),
        ({"layers": 3}, TypeError, "layers must be a list of layers; got 3 (int)."),
        ({"layers": "Dense"}, TypeError, "layers must be a list of layers; got 'Dense' (str)."),
        (
            {"layers": fn.Dense(1)},
            TypeError,
            f"layers must be a list of layers; got one layer: {fn.Dense(1)!r}.",
        ),
        (
            {"layers": [fn.Dense(2), 3]},
            TypeError,
            f"layers[1] must be a layer, one of {NAMED}; got 3 (int).",
        ),
        (
            {"layers": [fn.Dense]},
            TypeError,
            f"layers[0] must be a layer, one of {NAMED}; got <class 'fastnn.layers.Dense'> (type).",
        ),
        (
            {"layers": [fn.Dense(2), fn.Dropout(0.5)]},
            ValueError,
            "layers must end with a Dense layer, which gives the predictions; "
            "got Dropout(rate=0.5) at the end.",
        ),
        ({"inputs": 0}, ValueError, "inputs must be an integer of at least 1; got 0."),
        ({"inputs": -1}, ValueError, "inputs must be an integer of at least 1; got -1."),
        ({"inputs": 3.0}, TypeError, "inputs must be an integer of at least 1; got 3.0 (float)."),
        ({"inputs": True}, TypeError, "inputs must be an integer of at least 1; got True (bool)."),
        ({"inputs": "3"}, TypeError, "inputs must be an integer of at least 1; got '3' (str)."),
        (
            {"dtype": "float16"},
            ValueError,
            "dtype must be 'float32' or 'float64'; got 'float16' (str).",
        ),
        ({"dtype": None}, ValueError, "dtype must be 'float32' or 'float64'; got None."),
        (
            {"dtype": int},
            ValueError,
            "dtype must be 'float32' or 'float64'; got <class 'int'> (type).",
        ),
        ({"dtype": ">f4"}, ValueError, "dtype must be 'float32' or 'float64'; got '>f4' (str)."),
        (
            {"rng": -1},
            ValueError,
            "rng must be None, an integer of at least 0, a SeedSequence or a Generator; "
            "got -1 (int).",
        ),
        (
            {"rng": 1.5},
            TypeError,
            "rng must be None, an integer of at least 0, a SeedSequence or a Generator; "
            "got 1.5 (float).",
        ),
        (
            {"rng": "seed"},
            TypeError,
            "rng must be None, an integer of at least 0, a SeedSequence or a Generator; "
            "got 'seed' (str).",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_network_is_said_at_once(arguments, kind, message):
    with pytest.raises(kind) as caught:
        fn.Sequential(**{"layers": [fn.Dense(1)], **arguments})
    assert str(caught.value) == message
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "rng",
    [
        np.array([[1, 2]]).view(np.matrix), np.array(3), [1, 2], (1,), True, np.True_, 3.0, b"1",
        1j, np.random.RandomState(0), np.timedelta64(3, "s"), range(3),
        np.random.default_rng, object(),
    ],
    ids=str,
)  # fmt: skip
def test_no_other_kind_of_seed_gets_in(rng):
    with pytest.raises(TypeError, match="rng must be None, an integer of at least 0, a SeedSeq"):
        fn.Sequential([fn.Dense(1)], inputs=1, rng=rng)


def test_a_generator_that_can_spawn_none_is_refused():
    rng = np.random.Generator(np.random.RandomState(0)._bit_generator)
    with pytest.raises(TypeError, match=r"got a Generator of which no other can be spawned\. Give"):
        fn.Sequential([fn.Dense(1)], inputs=1, rng=rng)


@pytest.mark.parametrize(
    "dtype",
    [
        "flaot32",
        3,
        0,
        [1],
        {"a": 1},
        object(),
        "f4,(",
        "float32,float32",
        {"names": [], "formats": [], "itemsize": 10**30},
        ("f4", 10**30),
        "9" * 5000,
    ],
    ids=lambda dtype: repr(dtype)[:30],
)
def test_no_other_dtype_gets_in(dtype):
    with pytest.raises((TypeError, ValueError), match=r"dtype must be 'float32' or 'float64'; got"):
        fn.Sequential([fn.Dense(1)], inputs=2, dtype=dtype)


@pytest.mark.parametrize(("units", "inputs"), [(2**62, 2), (2, 2**100), (2**45, 2)])
def test_a_network_that_no_memory_can_hold_is_a_plain_error(units, inputs):
    with pytest.raises(MemoryError, match=r"units and inputs .* float32"):
        fn.Sequential([fn.Dense(units)], inputs=inputs)


# First weights.


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_seed_gives_the_same_network(dtype):
    first, second = network(dtype=dtype, rng=7), network(dtype=dtype, rng=7)
    np.testing.assert_array_equal(first.parameters, second.parameters)
    assert everything(first) == everything(second)
    assert not np.array_equal(first.parameters, network(dtype=dtype, rng=8).parameters)


def test_the_seed_is_zero_unless_asked():
    np.testing.assert_array_equal(network().parameters, network(rng=0).parameters)


def test_a_float32_network_starts_at_the_rounded_weights_of_its_float64_twin():
    single, double = network(rng=3), network(dtype="float64", rng=3)
    np.testing.assert_array_equal(single.parameters, double.parameters.astype(np.float32))


def test_generators_and_seed_sequences_are_seeds_too():
    plain = network(rng=5).parameters
    for rng in (np.random.default_rng(5), np.random.SeedSequence(5), np.random.PCG64(5)):
        np.testing.assert_array_equal(network(rng=rng).parameters, plain)


def test_a_generator_goes_on_from_network_to_network():
    rng = np.random.default_rng(5)
    first, second = network(rng=rng), network(rng=rng)
    assert not np.array_equal(first.parameters, second.parameters)


def test_drawing_the_weights_takes_no_number_from_the_caller_s_generator():
    rng = np.random.default_rng(5)
    network(rng=rng).fit(X, Y, epochs=1, backend="reference")
    assert rng.integers(2**62) == np.random.default_rng(5).integers(2**62)


def test_none_is_a_fresh_seed_each_time():
    first, second = network(rng=None), network(rng=None)
    assert not np.array_equal(first.parameters, second.parameters)
    assert first._streams.order_key != second._streams.order_key


def test_weights_of_one_layer_do_not_hang_on_those_after_it():
    for how in ("auto", "he_uniform"):
        layer = fn.Dense(5, "tanh", initializer=how)
        short = fn.Sequential([layer, fn.Dense(2)], inputs=3)
        long = fn.Sequential([layer, fn.Dense(4), fn.Dense(7), fn.Dense(2)], inputs=3)
        np.testing.assert_array_equal(short.weights[0], long.weights[0])
        np.testing.assert_array_equal(short.biases[0], long.biases[0])


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initializers_have_their_variance_and_biases_start_at_zero(initializer):
    fan_in, fan_out = 200, 400
    layer = fn.Dense(fan_out, initializer=initializer)
    net = fn.Sequential([layer], inputs=fan_in, dtype="float64")
    (W,), (b,) = net.weights, net.biases
    assert W.shape == (fan_in, fan_out)
    assert not b.any()
    variance = {
        "glorot_uniform": 2 / (fan_in + fan_out),
        "glorot_normal": 2 / (fan_in + fan_out),
        "he_uniform": 2 / fan_in,
        "he_normal": 2 / fan_in,
        "lecun_uniform": 1 / fan_in,
        "lecun_normal": 1 / fan_in,
        # 200 rows of length 1, of 400 numbers each.
        "orthogonal": 1 / fan_out,
        "zeros": 0,
        "constant": 0,
    }[initializer]
    if variance == 0:
        np.testing.assert_array_equal(W, {"zeros": 0.0, "constant": 0.1}[initializer])
        return
    # 80 000 draws: the sample's variance is within some 2 % of the true one.
    assert W.var() == pytest.approx(variance, rel=0.03)
    assert abs(W.mean()) < 5 * math.sqrt(variance / W.size)
    if initializer.endswith("uniform"):
        assert np.abs(W).max() == pytest.approx(math.sqrt(3 * variance), rel=1e-3)
    else:
        assert 3.5 < np.abs(W).max() / math.sqrt(variance) < 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [-2.5, 0, 1e-3, 1e30])
def test_a_number_is_where_every_weight_starts(value, dtype):
    net = fn.Sequential([fn.Dense(4, initializer=value)], inputs=3, dtype=dtype)
    np.testing.assert_array_equal(net.weights[0], np.full((3, 4), value, dtype))


def test_a_number_that_the_dtype_cannot_hold_is_refused():
    assert fn.Sequential([fn.Dense(1, initializer=1e39)], 2, "float64").parameters[0] == 1e39
    with pytest.raises(ValueError, match=r"^initializer ") as caught:
        fn.Sequential([fn.Dense(1, initializer=1e39)], inputs=2, dtype="float32")
    assert all(part in str(caught.value) for part in ("1e+39", "float32"))


# Inputs.


def test_before_its_inputs_are_known_a_network_has_no_weights():
    net = network(None)
    assert net.inputs is None
    for ask in (
        lambda: net.parameters,
        lambda: net.weights,
        lambda: net.biases,
        lambda: net.layout,
        lambda: net.get_weights(),
        lambda: net.set_weights([]),
        lambda: net.predict(X),
        lambda: net(X),
        lambda: net.hidden(X),
        lambda: net.evaluate(X, Y),
        lambda: net.trace(X, Y),
        lambda: net.loss_and_gradient(X, Y),
        lambda: net.diagnose(X, Y),
        lambda: net.save("nowhere"),
        lambda: setattr(net, "parameters", [1.0]),
    ):
        with pytest.raises(ValueError, match=r"no weights yet.*inputs=.*or fit it first"):
            ask()
    assert "inputs=None" in repr(net)
    assert "taken from X" in net.summary()


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_fit_takes_the_inputs_from_x(how, backend):
    late, early = network(None, rng=4), network(3, rng=4)
    for net in (late, early):
        getattr(net, how)(X, Y, backend=backend)
    assert late.inputs == 3
    assert everything(late) == everything(early)


@pytest.mark.parametrize("given", ["at building", "at the first fit"])
def test_another_width_is_refused_from_then_on(given):
    net = network(3 if given == "at building" else None)
    if given == "at the first fit":
        net.fit(X, Y, epochs=1)
    before = everything(net)
    wide = np.ones((4, 5))
    y = np.ones(4)
    for ask in (
        lambda: net.fit(wide, y),
        lambda: net.train_on_batch(wide, y),
        lambda: net.predict(wide),
        lambda: net.predict(wide, backend="reference"),
        lambda: net(wide.astype(np.float32)),
        lambda: net(np.ones(5, np.float32)),
        lambda: net.hidden(wide),
        lambda: net.evaluate(wide, y),
        lambda: net.trace(wide, y),
        lambda: net.loss_and_gradient(wide, y),
        lambda: net.diagnose(wide, y),
        lambda: net.fit(X, Y, validation_data=(wide, y)),
    ):
        with pytest.raises(ValueError, match=r"has 5 features, .* for 3") as caught:
            ask()
        assert "rebuild the network" in str(caught.value)
        assert "retrain" in str(caught.value)
    assert everything(net) == before
    assert net.predict(X).shape == (20, 1)


def test_validation_data_of_another_width_than_x_leave_the_network_unbuilt():
    net = network(None)
    with pytest.raises(ValueError, match=r"validation_data\[0\] has 5 features.* 3"):
        net.fit(X, Y, validation_data=(np.ones((4, 5)), np.ones(4)))
    assert net.inputs is None


# Parameters.


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_parameters_are_one_flat_aligned_writable_vector(dtype):
    for units in range(1, 40):
        net = fn.Sequential([fn.Dense(units, "relu"), fn.Dense(2, bias=False)], 3, dtype)
        vector = net.parameters
        assert vector.shape == (3 * units + units + units * 2,)
        assert vector.ctypes.data % 64 == 0
        assert vector.flags.c_contiguous
        assert vector.flags.writeable
        assert vector.flags.aligned


def test_the_layout_names_everything_in_order_without_padding():
    layers = [fn.Dense(4, "relu"), fn.Dense(3, bias=False), fn.Dense(2)]
    net = fn.Sequential(layers, inputs=5)
    assert net.layout.names == ("0.W", "0.b", "1.W", "2.W", "2.b")
    assert [entry.shape for entry in net.layout] == [(5, 4), (4,), (4, 3), (3, 2), (2,)]
    assert [entry.offset for entry in net.layout] == [0, 20, 24, 36, 42]
    assert net.layout.size == net.parameters.size == 44
    assert len(net.layout) == 5
    assert repr(net.layout) == (
        "Layout(0.W (5, 4), 0.b (4,), 1.W (4, 3), 2.W (3, 2), 2.b (2,); 44 parameters)"
    )
    for entry in net.layout:
        values = net.parameters[entry.offset : entry.offset + entry.size]
        np.testing.assert_array_equal(
            net.layout.view(net.parameters, entry.name), values.reshape(entry.shape)
        )


def test_weights_and_biases_are_views():
    net = fn.Sequential([fn.Dense(4, "relu"), fn.Dense(3, bias=False)], inputs=5)
    assert [W.shape for W in net.weights] == [(5, 4), (4, 3)]
    assert net.biases[0].shape == (4,)
    assert net.biases[1] is None
    for view in (*net.weights, net.biases[0]):
        assert np.shares_memory(view, net.parameters)
    net.weights[1][2, 1] = 7
    assert net.parameters[24 + 2 * 3 + 1] == 7, "row-major"
    net.parameters[20:24] = [1, 2, 3, 4]
    np.testing.assert_array_equal(net.biases[0], [1, 2, 3, 4])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_written_into_the_parameters_is_what_predicts(backend):
    net = fn.Sequential([fn.Dense(1)], inputs=2)
    net.parameters[:] = [2, 3, 5]
    np.testing.assert_array_equal(net.predict([[1, 10]], backend=backend), [[37]])
    net.biases[0][:] = -5
    np.testing.assert_array_equal(net.predict([[1, 10]], backend=backend), [[27]])


def test_the_vector_stays_the_same_object_whatever_is_done():
    net = network()
    vector = net.parameters
    net.fit(X, Y, epochs=1)
    net.set_weights(net.get_weights())
    net.parameters = np.zeros(vector.size)
    assert net.parameters is vector
    assert not vector.any()


def test_parameters_may_be_assigned_and_are_copied_in():
    net = network()
    values = np.arange(26, dtype=np.float64)
    net.parameters = values
    np.testing.assert_array_equal(net.parameters, values)
    assert not np.shares_memory(net.parameters, values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(25), ("26", "25")),
        (np.zeros(0), ()),
        (np.full(26, np.nan), ("NaN",)),
        ([1e39] * 26, ("1e+39", "float32")),
        (None, ("None",)),
        (["a"] * 26, ("'a'",)),
    ],
    ids=["short", "empty", "nan", "large", "none", "text"],
)
def test_parameters_that_do_not_fit_are_refused(values, expected):
    net = network()
    before = everything(net)
    with pytest.raises((TypeError, ValueError), match="parameters") as caught:
        net.parameters = values
    assert all(part in str(caught.value) for part in expected)
    assert everything(net) == before


def test_get_weights_gives_copies_and_set_weights_takes_them_back():
    net = fn.Sequential([fn.Dense(4, "relu"), fn.Dense(3, bias=False)], inputs=5)
    found = net.get_weights()
    assert [array.shape for array in found] == [(5, 4), (4,), (4, 3)]
    kept = net.parameters.copy()
    for array in found:
        assert not np.shares_memory(array, net.parameters)
        array += 1
    np.testing.assert_array_equal(net.parameters, kept)
    net.set_weights(found)
    np.testing.assert_array_equal(net.parameters, kept + 1)
    found[0][:] = 9
    np.testing.assert_array_equal(net.parameters, kept + 1)


def test_set_weights_takes_lists_integers_and_other_dtypes():
    net = fn.Sequential([fn.Dense(2)], inputs=2)
    for W in ([[1, 2], [3, 4]], np.array([[1, 3], [2, 4]]).T, np.float64([[1, 2], [3, 4]])):
        net.parameters[:] = 0
        net.set_weights((W, [5, 6]))
        np.testing.assert_array_equal(net.parameters, [1, 2, 3, 4, 5, 6])


W0, B0, W1, B1 = np.zeros((3, 5)), np.zeros(5), np.zeros((5, 1)), np.zeros(1)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, ("weights", "None")),
        (np.zeros(26), ("weights", "ndarray")),
        ("abcd", ("weights", "'abcd'")),
        ([W0, B0, W1], ("weights", "4", "3", "0.W, 0.b, 1.W, 1.b")),
        ([], ("weights", "4", "0")),
        ([W0.T, B0, W1, B1], ("0.W", "(3, 5)", "(5, 3)")),
        ([W0.ravel(), B0, W1, B1], ("0.W", "(3, 5)", "(15,)")),
        ([W0, B0[:, None], W1, B1], ("0.b", "(5,)", "(5, 1)")),
        ([W0, B0[:4], W1, B1], ("0.b", "(5,)", "(4,)")),
        ([W0, B0, W1, 0.5], ("1.b", "(1,)", "()")),
        ([W0, None, W1, B1], ("0.b", "None")),
        ([W0, B0, W1 * np.nan, B1], ("1.W", "NaN")),
        ([W0, B0, W1 + np.inf, B1], ("1.W", "infinity")),
        ([W0 + 1e39, B0, W1, B1], ("0.W", "1e+39", "float32")),
        ([W0, B0, W1, ["a"]], ("1.b", "'a'")),
    ],
    ids=range(15),
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_changed(weights, expected):
    net = network()
    before = everything(net)
    with pytest.raises((TypeError, ValueError), match="weights") as caught:
        net.set_weights(weights)
    assert all(part in str(caught.value) for part in expected), str(caught.value)
    assert "for each example" not in str(caught.value), "weights have no examples"
    assert everything(net) == before


# In words.


def test_summary_is_a_table():
    layers = [fn.Dense(64, "relu"), fn.Dense(100, bias=False), fn.Dense(3, "softmax")]
    assert fn.Sequential(layers, inputs=20, dtype="float64").summary() == (
        "layer  kind   activation  output    parameters\n"
        "    0  Dense  relu        (n, 64)         1344\n"
        "    1  Dense  identity    (n, 100)        6400\n"
        "    2  Dense  softmax     (n, 3)           303\n"
        "20 inputs, 3 outputs, 8,047 parameters of float64 (64,376 bytes)"
    )


def test_summary_works_before_the_inputs_are_known():
    lines = network(None).summary().split("\n")
    assert lines[1].split() == ["0", "Dense", "tanh", "(n,", "5)", "?"]
    assert lines[2].split() == ["1", "Dense", "identity", "(n,", "1)", "6"]
    assert lines[3] == "inputs taken from X at the first fit, 1 outputs, float32"


def test_repr_is_python():
    net = fn.Sequential([fn.Dense(5, "tanh", l2=0.5), fn.Dense(1)], inputs=3, dtype="float64")
    twin = eval(repr(net), {"Sequential": fn.Sequential, "Dense": fn.Dense})
    assert repr(twin) == repr(net)
    assert (twin.layers, twin.inputs, twin.dtype) == (net.layers, net.inputs, net.dtype)
    np.testing.assert_array_equal(twin.parameters, net.parameters)


# Copies.

COPIES = {
    "copy": lambda net: net.copy(),
    "deepcopy": copy.deepcopy,
    "copy.copy": copy.copy,
    **{
        f"pickle {protocol}": lambda net, protocol=protocol: pickle.loads(
            pickle.dumps(net, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("twin_of", COPIES.values(), ids=COPIES)
def test_a_copy_shares_nothing_and_goes_on_in_the_same_way(twin_of):
    net = network(rng=2)
    net.fit(X, Y, epochs=2, batch_size=7, validation_fraction=0.2)
    for _ in range(3):
        net.train_on_batch(X[:9], Y[:9])
    twin = twin_of(net)
    assert twin is not net
    assert (twin.layers, twin.inputs, twin.dtype) == (net.layers, net.inputs, net.dtype)
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    assert not np.shares_memory(twin.parameters, net.parameters)
    assert twin.parameters.ctypes.data % 64 == 0
    assert twin.parameters.flags.writeable
    assert np.shares_memory(twin.weights[0], twin.parameters)

    kept = everything(net)
    losses, orders = [], []
    for each in (twin, net):
        # Moments and their count, then the streams of orders and of held-out examples.
        losses.append([each.train_on_batch(X[:9], Y[:9]) for _ in range(3)])
        history = each.fit(X, Y, epochs=3, batch_size=7, validation_fraction=0.2)
        losses.append(history.to_dict())
        orders.append(each.parameters.copy())
        if each is twin:
            assert everything(net) == kept, "training the copy does not touch the original"
    assert losses[:2] == losses[2:]
    np.testing.assert_array_equal(*orders)
    twin.parameters[:] = 0
    assert net.parameters.any()


@pytest.mark.parametrize("twin_of", COPIES.values(), ids=COPIES)
def test_a_copy_without_weights_draws_the_same_ones_later(twin_of):
    net = network(None, rng=3)
    twin = twin_of(net)
    for each in (net, twin):
        each.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(twin.parameters, net.parameters)
    other = network(None, rng=3)
    other.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(other.parameters, net.parameters)


def test_a_network_may_be_copied_while_it_is_fitted():
    net = network()
    twins = []
    net.fit(X, Y, epochs=3, callbacks=lambda run: twins.append(run.network.copy()))
    assert len(twins) == 3
    np.testing.assert_array_equal(twins[-1].parameters, net.parameters)
    twins[0].fit(X, Y, epochs=1)
    assert sys.getsizeof(pickle.dumps(net)) < 4000, "a pickle holds no workspace"


# The public face.


def test_everything_named_is_there():
    assert set(fn.__all__) <= set(dir(fn))
    for name in ("Sequential", "Dense", "SGD", "Adam", "EarlyStopping", "load", "backend"):
        assert name in fn.__all__
    assert isinstance(fn.__version__, str)
