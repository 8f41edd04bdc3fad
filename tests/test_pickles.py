"""What is pickled: public names and plain values, of a form with a number."""

from __future__ import annotations

import copy
import io
import json
import pickle
import pickletools
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import pickles
from fastnn.errors import ModelFileError
from fastnn.estimators.parameters import SOLVERS
from fastnn.formats import safetensors
from fastnn.losses import Huber, Quantile
from fastnn.optimizers import OPTIMIZERS
from fastnn.schedules import SCHEDULES

_rng = np.random.default_rng(0)
X = _rng.normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)

ALLOWED = {("fastnn.pickles", "made"), ("fastnn.pickles", "record")}


def named(data: bytes) -> set[tuple[str, str]]:
    """Return the names of this library's that a pickle holds, by module."""
    found = set()

    class Spy(pickle.Unpickler):
        def find_class(self, module, name):
            if module.partition(".")[0] == "fastnn":
                found.add((module, name))
            return super().find_class(module, name)

    Spy(io.BytesIO(data)).load()
    return found


def network(**more) -> fn.Sequential:
    return fn.Sequential(
        [fn.Dense(5, "relu"), fn.Dropout(0.2), fn.Dense(2, "softmax", l2=0.01)], **more
    )


def trained() -> fn.Sequential:
    net = network(rng=3)
    net.fit(X, Y, epochs=2, progress=False)
    net.train_on_batch(X, Y)
    net.classes = ["no", "yes"]
    return net


RECORDS = [
    *(row.record() for row in OPTIMIZERS.values()),
    *(kind() for name, kind in SCHEDULES.items() if name not in ("step", "warmup")),
    SCHEDULES["step"](3),
    SCHEDULES["warmup"](2, then=fn.OneCycle()),
    Huber(0.3),
    Quantile(0.9),
    fn.Quantiles([0.1, 0.9]),
    fn.CrossEntropy(0.1),
    fn.Focal(1.0),
    fn.Tweedie(1.2),
    fn.Dense(3, "relu"),
    fn.Dropout(0.5),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_network_comes_back_from_every_protocol(protocol: int) -> None:
    net = trained()
    twin = pickle.loads(pickle.dumps(net, protocol))
    assert twin.layers == net.layers
    assert np.array_equal(twin.parameters, net.parameters)
    assert twin.classes.tolist() == ["no", "yes"]
    for one in (net, twin):
        one.train_on_batch(X, Y)
        one.fit(X, Y, epochs=1, progress=False)
    assert np.array_equal(twin.parameters, net.parameters)


def test_a_network_without_weights_draws_those_that_it_would_have_drawn() -> None:
    net = network(rng=5)
    twin = pickle.loads(pickle.dumps(net))
    for one in (net, twin):
        one.fit(X, Y, epochs=1, progress=False)
    assert np.array_equal(twin.parameters, net.parameters)


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_a_network_s_pickle_names_nothing_that_may_move(protocol: int) -> None:
    assert named(pickle.dumps(trained(), protocol)) == {("fastnn.pickles", "made")}


def test_its_state_is_plain() -> None:
    state = trained().__getstate__()
    rng = state.pop("weights_rng")
    assert isinstance(rng, np.random.Generator)

    def walk(value: object) -> None:
        if isinstance(value, dict):
            assert all(isinstance(name, str) for name in value)
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                walk(part)
        else:
            assert isinstance(value, (int, float, str, np.ndarray, type(None))), value

    walk(state)


@pytest.mark.parametrize("one", RECORDS, ids=repr)
@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_records_are_pickled_by_their_public_names(one: object, protocol: int) -> None:
    data = pickle.dumps(one, protocol)
    assert pickle.loads(data) == one == copy.deepcopy(one)
    assert named(data) == {("fastnn.pickles", "record")}


def test_callbacks_and_histories_are_pickled_by_their_public_names() -> None:
    stopping = fn.EarlyStopping(patience=3)
    data = pickle.dumps(stopping)
    assert named(data) == {("fastnn.pickles", "made")}
    assert vars(pickle.loads(data)) == vars(stopping)
    history = network().fit(X, Y, epochs=2, progress=False)
    history.stopped = "early stopping"
    data = pickle.dumps(history)
    assert named(data) == {("fastnn.pickles", "told")}
    for twin in (pickle.loads(data), copy.deepcopy(history)):
        assert twin == history
        assert (twin.epochs, twin.seconds, twin.stopped) == (2, history.seconds, "early stopping")


def test_a_user_s_attributes_and_classes_are_kept() -> None:
    net = Mine([fn.Dense(1)], inputs=2)
    net.note = "hello"
    for twin in (pickle.loads(pickle.dumps(net)), net.copy()):
        assert type(twin) is Mine
        assert twin.note == "hello"
        twin.parameters[:] = 1.0
        assert not np.array_equal(twin.parameters, net.parameters)


class Mine(fn.Sequential):
    """A user's own class."""


@pytest.mark.parametrize("state", [None, {}, {"fastnn_pickle": 2}, {"layers": []}, [1]])
def test_another_form_is_refused(state: object) -> None:
    with pytest.raises(ModelFileError, match=r"form 1; got .*another version"):
        pickles.made("Sequential").__setstate__(state)


def test_what_is_no_model_and_no_record_is_refused() -> None:
    with pytest.raises(ModelFileError, match="got 'load'"):
        pickles.made("load")
    with pytest.raises(ModelFileError, match="got 'Sequential'"):
        pickles.record("Sequential", {})


def test_opcodes_of_the_library_s_names_are_few() -> None:
    words = {
        argument
        for _, argument, _ in pickletools.genops(pickle.dumps(trained(), 2))
        if isinstance(argument, str) and "fastnn" in argument
    }
    assert words == {"fastnn.pickles made", "fastnn_pickle"}


# Estimators.


@pytest.fixture(scope="module")
def fitted() -> dict:
    pytest.importorskip("sklearn.callback")
    small = {"hidden_layer_sizes": 4, "max_iter": 3, "random_state": 0}
    many = np.array(list("abcd"))[np.arange(40) % 4]
    several = {"learning_rate": fn.OneCycle(), "solver": "nadam"} | small
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "classes": fn.MLPClassifier(**small).fit(X, many),
            "two": fn.MLPClassifier(solver="sgd", early_stopping=True, **small).fit(X, Y),
            "labels": fn.MLPClassifier(dropout=0.2, **small).fit(X, (X > 0).astype(int)),
            "hinge": fn.MLPClassifier(loss="hinge", **small).fit(X, Y),
            "numbers": fn.MLPRegressor(Huber(0.5), **several).fit(X, X[:, 0]),
            "lbfgs": fn.MLPRegressor(solver="lbfgs", **small).fit(X, X[:, :2]),
        }


@pytest.fixture
def estimators(fitted: dict) -> dict:
    return copy.deepcopy(fitted)


def answers(one: object) -> np.ndarray:
    return one.predict(X)


def test_estimators_name_nothing_that_may_move(estimators: dict) -> None:
    for name, one in estimators.items():
        for protocol in (0, pickle.HIGHEST_PROTOCOL):
            data = pickle.dumps(one, protocol)
            assert named(data) <= ALLOWED, name
            twin = pickle.loads(data)
            assert np.array_equal(answers(twin), answers(one))
            assert twin.get_params().keys() == one.get_params().keys()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_partial_fit_goes_on_after_a_pickle(estimators: dict) -> None:
    for name, y in (("classes", None), ("labels", (X > 0).astype(int)), ("numbers", X[:, 0])):
        one = estimators[name]
        one.set_params(max_iter=10)
        y = one.classes_[np.arange(40) % 4] if y is None else y
        twin = pickle.loads(pickle.dumps(one))
        for each in (one, twin):
            each.partial_fit(X, y)
        for a, b in zip(one.coefs_, twin.coefs_, strict=True):
            assert np.array_equal(a, b), name


def test_an_old_estimator_s_pickle_is_refused_in_words(estimators: dict) -> None:
    one = estimators["two"]
    old = {"coefs_": one.coefs_, "intercepts_": one.intercepts_, "solver": "adam"}
    with pytest.raises(ModelFileError, match="form 1; got none"):
        fn.MLPClassifier().__setstate__(old)


def page_s_trusted_types() -> list[str]:
    """Return the types that the page on formats has skops trust."""
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
    (code,) = re.findall(r"^trusted = \[\n.*?^\]$", page, flags=re.DOTALL | re.MULTILINE)
    known: dict = {}
    exec(code, known)
    return known["trusted"]


def every_kind() -> dict:
    """Return estimators of every solver and with every record as a parameter."""
    few = {"hidden_layer_sizes": 3, "max_iter": 2, "random_state": 0}
    stops = {"callbacks": [fn.EarlyStopping("loss")]}
    made = {solver: fn.MLPClassifier(solver=solver, **few) for solver in SOLVERS}
    made |= {name: fn.MLPClassifier(learning_rate=name, **few) for name in SCHEDULES}
    made |= {
        str(loss): fn.MLPRegressor(loss=loss, **few)
        for loss in (Huber(2.0), Quantile(0.9), fn.Quantiles([0.2, 0.7]), fn.Tweedie())
    }
    made |= {"focal": fn.MLPClassifier(loss=fn.Focal(), **few)} | {
        "stops": fn.MLPClassifier(**stops, **few)
    }
    return {name: one.fit(X, Y) for name, one in made.items()}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_skops_keeps_estimators_and_asks_for_the_page_s_types_alone(estimators: dict) -> None:
    skops = pytest.importorskip("skops.io")
    trusted, asked = page_s_trusted_types(), set()
    for name, one in (estimators | every_kind()).items():
        data = skops.dumps(one)
        asked |= set(skops.get_untrusted_types(data=data))
        twin = skops.loads(data, trusted=trusted)
        assert np.array_equal(answers(twin), answers(one)), name
        assert twin.get_params().keys() == one.get_params().keys()
        if SOLVERS[one.solver] is not None:
            y = one.predict(X)
            y = y[:, 0] if "Quantiles" in name else y  # Several quantiles are of one target.
            for each in (one, twin):
                each.set_params(early_stopping=False, max_iter=9).partial_fit(X, y)
            assert all(map(np.array_equal, one.coefs_, twin.coefs_)), name
    assert asked == set(trusted)


@pytest.mark.parametrize("package", ["joblib", "cloudpickle"])
def test_other_packages_keep_estimators(package: str, estimators: dict, tmp_path) -> None:
    keeper = pytest.importorskip(package)
    for name, one in estimators.items():
        with (tmp_path / "file").open("wb") as file:
            keeper.dump(one, file)
        with (tmp_path / "file").open("rb") as file:
            twin = keeper.load(file)
        assert np.array_equal(answers(twin), answers(one)), name


def test_cloudpickle_keeps_functions_of_no_module(tmp_path) -> None:
    keeper = pytest.importorskip("cloudpickle")
    one = fn.MLPClassifier(3, max_iter=9, random_state=0, learning_rate=lambda epoch: 0.5**epoch)
    one.partial_fit(X, Y, classes=[0, 1])
    twin = keeper.loads(keeper.dumps(one))
    for each in (one, twin):
        each.partial_fit(X, Y)
    assert all(map(np.array_equal, one.coefs_, twin.coefs_))


# MLflow warns of type hints of its own, when it is imported.
@pytest.mark.filterwarnings("ignore:::mlflow")
def test_mlflow_keeps_estimators(estimators: dict, tmp_path) -> None:
    mlflow = pytest.importorskip("mlflow.sklearn")
    mlflow.save_model(
        estimators["two"], tmp_path / "model", skops_trusted_types=page_s_trusted_types()
    )
    twin = mlflow.load_model(str(tmp_path / "model"))
    assert np.array_equal(answers(twin), answers(estimators["two"]))


def test_skops_keeps_networks() -> None:
    skops = pytest.importorskip("skops.io")
    net = trained()
    data = skops.dumps(net)
    twin = skops.loads(data, trusted=skops.get_untrusted_types(data=data))
    assert np.array_equal(twin.predict(X), net.predict(X))


# Class names.


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["cat", "dög", "eel"]), np.array([3, 5, 2**60]), np.array([0.1, 0.2, 1e300]),
        np.array(["a", "bb", "ccc"], object), np.array([1, 2, 3], "u1"), ["x", "y", "z"],
    ],
)  # fmt: skip
def test_files_keep_names_of_classes(labels: object, tmp_path) -> None:
    net = fn.Sequential([fn.Dense(3, "softmax")], inputs=2)
    net.classes = labels
    net.save(tmp_path / "net")
    twin = fn.load(tmp_path / "net")
    assert twin.classes.dtype == np.array(labels).dtype
    assert twin.classes.tolist() == np.array(labels).tolist()
    assert net.copy().classes.tolist() == twin.classes.tolist()


def test_files_without_names_of_classes_have_none(tmp_path) -> None:
    net = fn.Sequential([fn.Dense(3, "softmax")], inputs=2)
    net.save(tmp_path / "net")
    assert fn.load(tmp_path / "net").classes is None


def test_an_estimator_s_network_knows_its_classes(estimators: dict, tmp_path) -> None:
    for name in ("classes", "two", "labels", "hinge"):
        one = estimators[name]
        one.network_.save(tmp_path / "net")
        twin = fn.load(tmp_path / "net")
        assert twin.classes.tolist() == one.classes_.tolist(), name
        assert twin.classes.dtype == one.classes_.dtype
    assert estimators["numbers"].network_.classes is None
    found = fn.load(tmp_path / "net").predict(X)
    assert found.shape == (40, 1)


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (["a"], ValueError, "3 labels"), (["a"] * 4, ValueError, "3 labels"),
        ("abc", ValueError, "shape"), ([[1, 2, 3]], ValueError, "shape"),
        ([1, 2, np.nan], ValueError, "finite"), ([1j, 2, 3], TypeError, "texts"),
        (np.array(["2020", "2021", "2022"], "M8[Y]"), TypeError, "texts"),
        ([None, "a", "b"], TypeError, "texts"),
    ],
)  # fmt: skip
def test_what_no_class_is_called_is_refused(labels: object, error: type, words: str) -> None:
    net = fn.Sequential([fn.Dense(3, "softmax")], inputs=2)
    with pytest.raises(error, match=words):
        net.classes = labels
    assert net.classes is None


@pytest.mark.parametrize(
    "classes",
    [
        None, [], {}, {"dtype": "<U1"}, {"dtype": "<U9", "values": [1, [2], 3]},
        {"dtype": "V8", "values": ["a", "b", "c"]}, {"dtype": "nonsense", "values": [1, 2, 3]},
        {"dtype": "|i1", "values": [1, 2, 10**9]}, {"dtype": "<f8", "values": ["a", "b", "c"]},
        {"dtype": "<U9", "values": ["a"]}, {"dtype": "i4,i4", "values": [1, 2, 3]},
        {"dtype": 3, "values": [1, 2, 3]}, {"dtype": "<i8", "values": [1, 2, None]},
    ],
)  # fmt: skip
def test_files_with_other_names_of_classes_are_refused(classes: object, tmp_path) -> None:
    net = fn.Sequential([fn.Dense(3, "softmax")], inputs=2)
    net.save(tmp_path / "net")
    tensors, metadata = safetensors.read(tmp_path / "net")
    description = json.loads(metadata["network"]) | {"classes": classes}
    metadata = {"format": "fastnn", "network": json.dumps(description)}
    safetensors.write(tmp_path / "net", tensors, metadata)
    with pytest.raises(ModelFileError):
        fn.load(tmp_path / "net")
