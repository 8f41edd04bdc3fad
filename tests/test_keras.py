"""Models of Keras's and lists of its weights, both ways, beside Keras itself."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from cases import DTYPES, error

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.exports.keras_names import ACTIVATIONS as THEIRS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CLOSE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(scope="module")
def keras():
    """Keras, on whichever of its backends there is; it draws from the state that all share."""
    found = [name for name in ("torch", "jax", "tensorflow") if importlib.util.find_spec(name)]
    if found:
        os.environ.setdefault("KERAS_BACKEND", found[0])
    drawn = np.random.get_state()
    keras = pytest.importorskip("keras")
    np.random.set_state(drawn)
    return keras


def rows(dtype="float32", n=20):
    return np.random.default_rng(0).normal(size=(n, 6)).astype(dtype)


def built(keras, *layers):
    """Return a model whose every array matters."""
    model = keras.Sequential([keras.Input((6,)), *layers])
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if type(layer).__name__ != "Normalization":
            layer.set_weights([
                (0.5 + rng.random(one.shape)).astype(one.dtype) * (1 if one.ndim == 1 else 0.3)
                for one in layer.get_weights()
            ])  # fmt: skip
    return model


def answers(keras, model, X):
    return keras.ops.convert_to_numpy(model(X, training=False))


def models(keras):
    layer = keras.layers
    scaled = layer.Normalization()
    scaled.adapt(3 * rows() + 1)
    return {
        "norms": [layer.Dense(5, "tanh"), layer.LayerNormalization(), layer.Dense(4, "relu"),
                  layer.BatchNormalization(), layer.Dropout(0.3), layer.Dense(2, "softmax")],
        "norms in part": [layer.Dense(5), layer.BatchNormalization(scale=False), layer.ReLU(),
                          layer.LayerNormalization(center=False), layer.Dense(2)],
        "slopes": [layer.Dense(5, use_bias=False), layer.PReLU(), layer.Dense(4, "leaky_relu"),
                   layer.Dense(3), layer.LeakyReLU(negative_slope=0.05), layer.Dense(2)],
        "layers of their own": [layer.Flatten(), layer.Dense(5), layer.Activation("swish"),
                                layer.Dense(4), layer.ELU(), layer.Dense(3), layer.Softmax()],
        "nested": [keras.Sequential([layer.Dense(5, "gelu"), layer.Dropout(0.1)]), layer.Dense(1)],
        "scaled": [scaled, layer.Dense(2, "mish")],
    }  # fmt: skip


def test_models_become_networks(keras):
    X = rows()
    for name, layers in models(keras).items():
        model = built(keras, *layers)
        net = fn.from_keras(model)
        assert net.dtype == np.float32
        assert error(net.predict(X), answers(keras, model, X)) <= CLOSE["float32"], name
    assert fn.from_keras(built(keras, keras.layers.Dense(1)), dtype="float64").dtype == np.float64


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"sin", "increasing"}))
def test_activations_go_both_ways(keras, activation):
    net = fn.Sequential([fn.Dense(5, activation), fn.Dense(2)], 6, rng=0)
    model, X = net.to_keras(), rows()
    assert error(answers(keras, model, X), net.predict(X)) <= CLOSE["float32"]
    back = fn.from_keras(model)
    assert error(back.predict(X), net.predict(X)) <= 1e-6
    assert (back.parameters[: net.parameters.size] == net.parameters).all()


def test_every_name_of_keras_s_is_an_activation():
    assert set(THEIRS.values()) == set(ACTIVATIONS) - {"sin", "increasing", "leaky_relu"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_networks_become_models(keras, dtype):
    X = rows(dtype)
    for layers in (
        [fn.Standardize(), fn.BatchNorm(0.8, 1e-3), fn.Dense(4, "relu"), fn.LayerNorm(),
         fn.Dense(2)],
        [fn.Dense(5), fn.PReLU(), fn.Dropout(0.2), fn.RMSNorm(), fn.Dense(3, "softmax")],
    ):  # fmt: skip
        net = fn.Sequential(layers, 6, dtype, rng=0)
        if isinstance(layers[0], fn.Standardize):
            net.adapt(X + 2)
        net.parameters[-20:] += 0.1
        net.buffers[:] += 0.3
        model = net.to_keras()
        # Keras's norms compute in float32 in part, whatever their dtype.
        assert error(answers(keras, model, X), net.predict(X)) <= CLOSE["float32"]
        back = fn.from_keras(model)
        assert back.dtype == net.dtype
        assert [type(one) for one in back.layers] == [type(one) for one in net.layers]
        assert error(back.predict(X), net.predict(X)) <= CLOSE["float32"]


def test_lists_of_weights_go_both_ways(keras):
    layer = keras.layers
    for theirs, ours in (
        ([layer.Dense(4, "tanh"), layer.Dense(2, "softmax")],
         [fn.Dense(4, "tanh"), fn.Dense(2, "softmax")]),
        ([layer.Dense(4), layer.PReLU(), layer.LayerNormalization(epsilon=1e-5), layer.Dense(2)],
         [fn.Dense(4), fn.PReLU(), fn.LayerNorm(), fn.Dense(2)]),
    ):  # fmt: skip
        model, X = built(keras, *theirs), rows()
        net = fn.Sequential(ours, 6)
        net.set_weights(model.get_weights())
        assert error(net.predict(X), answers(keras, model, X)) <= CLOSE["float32"]
        net.parameters *= 0.5
        model.set_weights(net.get_weights())
        assert error(net.predict(X), answers(keras, model, X)) <= CLOSE["float32"]


def test_what_has_no_layer_is_refused_by_name(keras):
    layer = keras.layers
    for layers, said in (
        ([layer.Dense(3), layer.GaussianDropout(0.1)], "GaussianDropout. has no layer here"),
        ([layer.Dense(3), layer.BatchNormalization(), layer.Activation("tanh")], "must follow a"),
        ([layer.Dense(3, "relu6"), layer.Dense(1)], "activation 'relu6'"),
        ([layer.Dense(3), layer.ReLU(max_value=6.0)], "max_value=None"),
        ([layer.Dense(3), layer.ELU(alpha=0.5)], "alpha=1.0"),
        ([layer.Normalization(mean=0.0, variance=1.0, invert=True), layer.Dense(1)], "not invert"),
        ([layer.Dropout(0.1)], "must have a Dense layer"),
        ([layer.Dense(3), layer.LayerNormalization()], "end with a Dense"),
    ):
        with pytest.raises(ValueError, match=said):
            fn.from_keras(built(keras, *layers))
    with pytest.raises(ValueError, match="must have 2 arrays; it has 0"):
        fn.from_keras(keras.Sequential([layer.Dense(3)]))
    inputs = keras.Input((6,))
    for other in (keras.Model(inputs, layer.Dense(1)(inputs)), layer.Dense(3), None, {}):
        with pytest.raises(TypeError, match=r"model must be a keras\.Sequential; got"):
            fn.from_keras(other)
    for layers, said in (
        ([fn.Dense(6, "sin"), fn.Dense(1)], "this activation .sin"),
        ([fn.Residual([fn.Dense(6)]), fn.Dense(1)], "sums .Residual"),
        ([fn.NumericEmbedding(2, 2), fn.Dense(1)], "NumericEmbedding"),
        ([fn.Embedding({0: 3}), fn.Dense(1)], "Embedding"),
    ):
        with pytest.raises(ValueError, match=said):
            fn.Sequential(layers, 6).to_keras()
