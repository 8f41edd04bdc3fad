"""Words of other libraries: what is said of them, and that what is said is there."""

from __future__ import annotations

import inspect
import pickle
import warnings

import numpy as np
import pytest

import fastnn as fn
from fastnn import callbacks, hints, words
from fastnn.optimizers import OPTIMIZERS
from fastnn.schedules import SCHEDULES

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = X.sum(axis=1)


try:
    import sklearn.callback  # noqa: F401

    ESTIMATORS = True
except ImportError:
    ESTIMATORS = False


def network():
    return fn.Sequential([fn.Dense(4, "tanh"), fn.Dense(1)], inputs=3)


def arguments(*functions):
    return {name for one in functions for name in inspect.signature(one).parameters}


# What each table's plain words must be among.
MEANT = {
    "FIT": arguments(fn.Sequential.fit),
    "PREDICT": arguments(fn.Sequential.fit),
    "NETWORK_ARGUMENTS": arguments(fn.Sequential),
    "NETWORK": {*dir(fn.Sequential), "layers"},
    "DENSE": arguments(fn.Dense),
    "DROPOUT": arguments(fn.Dropout),
    "ESTIMATOR": arguments(fn.MLPClassifier) if ESTIMATORS else {*words.ESTIMATOR.values()},
    "ESTIMATOR_DATA": (
        arguments(fn.MLPClassifier.fit, fn.MLPRegressor.predict)
        if ESTIMATORS
        else {*words.ESTIMATOR_DATA.values()}
    ),
    "OPTIMIZER": arguments(*(row.record for row in OPTIMIZERS.values())),
    "AVERAGE": arguments(fn.EMA, fn.SWA),
    "LOSS": arguments(fn.Huber, fn.Quantile, fn.Quantiles, fn.CrossEntropy, fn.Focal, fn.Tweedie),
    "STOPPING": arguments(fn.EarlyStopping),
    "SCHEDULE": arguments(*SCHEDULES.values()),
    "CALLBACK": set(),
    "HOOKS": set(dir(fn.Callback)),
    "MODULE": set(fn.__all__),
}


def test_every_table_is_held():
    assert set(MEANT) == set(words.__all__)


@pytest.mark.parametrize("table", MEANT)
def test_what_is_meant_is_there_and_the_word_itself_is_not(table):
    for word, meant in getattr(words, table).items():
        assert word != meant
        if meant.isidentifier():
            assert meant in MEANT[table], word
        else:
            assert meant.endswith("."), word


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda net: net.fit(X, Y, verbose=0), "Did you mean 'progress'?"),
        (lambda net: net.fit(X, Y, validation_split=0.1), "Did you mean 'validation_fraction'?"),
        (lambda net: net.fit(X, Y, lr=0.1), "optimizer=fastnn.Adam(learning_rate="),
        (lambda net: net.fit(X, Y, batch=8), "Did you mean 'batch_size'?"),
        (lambda net: net.fit(X, Y, validation_steps=3), "leave it out"),
        (lambda net: net.fit(X, Y, epoch=3), "Did you mean 'epochs'?"),
        (lambda net: net.fit(X, Y, qqq=3), "It has X, y, loss, optimizer"),
        (lambda net: net.evaluate(X, Y, verbose=0), "Nothing is shown here"),
        (lambda net: net.predict(X, batch_size=3), "All examples are taken in one call"),
        (lambda net: net.train_on_batch(X, Y, lr=3), "optimizer="),
        (lambda net: fn.Sequential([fn.Dense(1)], input_dim=3), "Did you mean 'inputs'?"),
        (lambda net: fn.Dense(3, use_bias=False), "Did you mean 'bias'?"),
        (lambda net: fn.Dense(3, kernel_initializer="zeros"), "Did you mean 'initializer'?"),
        (lambda net: fn.Dropout(p=0.1), "Did you mean 'rate'?"),
        (lambda net: fn.Adam(lr=0.1), "Did you mean 'learning_rate'?"),
        (lambda net: fn.SGD(0.1, weight_decay=0.1), "fastnn.AdamW"),
        (lambda net: fn.EarlyStopping(restore_best_weights=True), "Did you mean 'restore_best'?"),
        (lambda net: fn.StepDecay(gamma=0.1), "Did you mean 'factor'?"),
        (lambda net: fn.Huber(beta=0.1), "Did you mean 'delta'?"),
    ],
)
def test_an_argument_of_another_library_is_told(call, said):
    with pytest.raises(TypeError) as caught:
        call(network())
    assert "has no argument" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("add", "Layers are given at once"),
        ("compile", "Give loss=, optimizer= and metrics= to fit"),
        ("state_dict", "get_weights()"),
        ("eval", "There are no modes"),
        ("predicts", "Did you mean 'predict'?"),
        ("trainable_weights", "Did you mean 'weights'?"),
    ],
)
def test_an_attribute_of_another_library_is_told(name, said):
    net = network()
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute") as caught:
        getattr(net, name)
    assert said in str(caught.value)
    assert not hasattr(net, name)


def test_other_objects_tell_too():
    for thing, name, said in (
        (fn.Adam(), "lr", "learning_rate"),
        (fn.Dense(3), "get_weights", "net.weights"),
        (fn.EarlyStopping(), "stopped_epoch", "history.epochs"),
        (fn.Callback(), "model", "run.network"),
        (fn, "Linear", "'Dense'"),
        (fn, "load_model", "'load'"),
        (fn, "Sequentail", "'Sequential'"),
    ):
        with pytest.raises(AttributeError) as caught:
            getattr(thing, name)
        assert said in str(caught.value)


def test_signatures_and_examples_stay_the_functions_own():
    assert list(inspect.signature(fn.Sequential.fit).parameters)[:4] == ["self", "X", "y", "loss"]
    assert fn.Sequential.fit.__globals__ is vars(inspect.getmodule(fn.Sequential))
    assert fn.Sequential.fit.__doc__.startswith("Train on examples")
    assert next(iter(inspect.signature(fn.Adam).parameters)) == "learning_rate"
    assert pickle.loads(pickle.dumps(network())).layers == network().layers


@pytest.mark.parametrize("given", ["adam", "Adam", "sgd", "rmsprop", "RAdam", "adamw"])
def test_an_optimizer_may_be_named(given):
    rows = {row.name.lower(): row.record() for row in OPTIMIZERS.values()}
    net, twin = network(), network()
    net.fit(X, Y, optimizer=given, epochs=2)
    twin.fit(X, Y, optimizer=rows[given.lower()], epochs=2)
    np.testing.assert_array_equal(net.parameters, twin.parameters)
    net.train_on_batch(X, Y, optimizer=given)
    assert net.diagnose(X, Y, optimizer=given).layers


def test_a_wrong_name_of_an_optimizer_is_told_the_nearest():
    for call in (network().fit, network().train_on_batch, network().diagnose):
        with pytest.raises(ValueError, match=r"optimizer must be one of .*Did you mean 'Adam'"):
            call(X, Y, optimizer="addam")


@pytest.mark.parametrize(
    "make",
    [
        lambda: fn.Dense(-(10**5000)),
        lambda: fn.Dense(10**5000),
        lambda: fn.Dense(3, initializer=10**400),
        lambda: fn.Dense(3, initializer=[10**5000]),
        lambda: fn.Dense(3, l2=10**5000),
        lambda: fn.Dropout(10**5000),
        lambda: fn.Adam(10**400),
        lambda: fn.Adam(-(10**5000)),
        lambda: fn.EarlyStopping(patience=-(10**5000)),
        lambda: fn.EarlyStopping(monitor=10**5000),
        lambda: fn.StepDecay(every=10**5000),
        lambda: fn.Sequential(10**5000),
        lambda: fn.Sequential([10**5000]),
        lambda: fn.Sequential([fn.Dense(1)], inputs=10**5000),
        lambda: network().fit(X, Y, epochs=10**5000),
        lambda: network().fit(X, Y, batch_size=-(10**5000)),
        lambda: network().fit(X, Y, optimizer=10**5000),
        lambda: network().fit(X, Y, schedule=10**5000),
        lambda: network().fit(X, Y, metrics=10**5000),
        lambda: network().fit(X, Y, callbacks=10**5000),
        lambda: network().hidden(X, layer=10**5000),
    ],
)
def test_numbers_of_absurd_size_are_refused_like_others(make):
    with pytest.raises((TypeError, ValueError), match="must be") as caught:
        make()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("layers", [np.array(3), np.array(None), np.float64(3), object()])
def test_what_is_no_list_of_layers_is_refused(layers):
    with pytest.raises(TypeError, match=r"^layers must be a list of layers; got "):
        fn.Sequential(layers)


@pytest.mark.parametrize("schedule", [fn.Dropout(0.1), 3, object(), fn.Dense(3)])
def test_a_field_called_rate_makes_no_schedule(schedule):
    with pytest.raises(TypeError, match=r"^schedule must be one of .*; got "):
        network().fit(X, Y, schedule=schedule)


class Keras:
    def on_epoch_end(self, epoch, logs=None):
        pass


class Begins(fn.Callback):
    def on_train_begin(self, run):
        pass


class Wide(fn.Callback):
    def on_epoch_end(self, epoch, logs):
        pass


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (Keras(), "whose hooks are called otherwise"),
        (Begins(), "'on_train_begin' of Begins, which nothing calls. Did you mean 'on_fit_begin'?"),
        (Wide(), "got Wide.on_epoch_end(epoch, logs)"),
        (lambda epoch, logs: None, "got <lambda>(epoch, logs)"),
    ],
)
def test_callbacks_in_another_form_are_refused_before_the_fit(callback, said):
    net = network()
    before = net.parameters.copy()
    with pytest.raises(TypeError) as caught:
        net.fit(X, Y, callbacks=callback)
    assert said in str(caught.value)
    np.testing.assert_array_equal(net.parameters, before)


def test_hooks_with_further_arguments_that_need_not_be_given_are_fine():
    class Mine(fn.Callback):
        def on_epoch_end(self, run, verbose=False):
            seen.append(run.epoch)

    seen = []
    network().fit(X, Y, epochs=2, callbacks=Mine())
    assert seen == [1, 2]
    assert callbacks.as_callbacks(fn.EarlyStopping("loss"))


def test_a_warning_of_a_fit_points_at_the_user_s_line():
    with warnings.catch_warnings(record=True, action="always") as caught:
        network().fit(X * 1e6, Y, epochs=1)
    assert [one.filename for one in caught] == [__file__]


def test_hints_know_nothing_of_private_names():
    with pytest.raises(AttributeError, match=r"has no attribute '_weight'$"):
        network()._weight  # noqa: B018
    assert hints.hint_for("x" * 500, {}, ["units"]) == ""


@pytest.mark.parametrize(
    ("optimizer", "word", "said"),
    [
        (fn.SGD, "beta1", "It has learning_rate, momentum, nesterov."),
        (fn.SGD, "eps", "It has learning_rate, momentum, nesterov."),
        (fn.Rprop, "eps", "It has learning_rate, "),
        (fn.Adam, "beta1", "Did you mean 'beta_1'?"),
    ],
)
def test_a_hint_names_only_what_there_is(optimizer, word, said):
    with pytest.raises(TypeError) as caught:
        optimizer(**{word: 0.5})
    assert said in str(caught.value)


@pytest.mark.parametrize("argument", ["callbacks", "metrics"])
def test_an_array_without_a_dimension_is_no_list(argument):
    with pytest.raises(TypeError, match=rf"^{argument} must be .*; got array\(3\) \(ndarray\)\.$"):
        network().fit(X, Y, **{argument: np.array(3)})
