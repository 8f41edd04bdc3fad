"""`save` of estimators and `fn.load_estimator`: round trips, and files that are damaged or lie."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import re
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import f1_score, make_scorer

import fastnn as fn
from fastnn import own
from fastnn.estimators.kinds import KINDS, record_of
from fastnn.formats import safetensors
from fastnn.formats.plain_values import from_plain, list_bytes, to_plain
from fastnn.optimizers import OPTIMIZERS
from fastnn.schedules import SCHEDULES

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:invalid value:RuntimeWarning"
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
SIDES = (X[:, 0] > 0).astype(int)
THIRDS = np.arange(40) % 3
SEVERAL = (X > 0).astype(int)
FRAME = pd.DataFrame(X, columns=["a", "bé", "c" * 40])
BASE = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}


def classifier(y, features=X, **more):
    return fn.MLPClassifier(**(BASE | more)).fit(features, y)


def regressor(y=X[:, 0], **more):
    return fn.MLPRegressor(**(BASE | more)).fit(X, y)


def by_hand():
    one = classifier(THIRDS)
    one.coefs_[0] = one.coefs_[0].astype(np.float16)
    one.note = {"made": ["by", 3], ("a", 1): 2.5}
    return one


LABELS = {
    "int": np.array([3, 5, 2**60]),
    "small": np.array([1, 2, 200], "u1"),
    "large": np.array([1, 2, 2**64 - 1], "u8"),
    "float": np.array([-1.0, 2.0, 7e8]),
    "half": np.array([1, 2, 3], "f2"),
    "text": np.array(["cat", "dög", "eel\U0001f600"]),
    "object": np.array(["a", "bb", "ccc"], object),
    "dates": np.array(["2020-01-01", "2021-01-01", "2022-01-01"], "M8[D]"),
}

MODELS = {
    **{solver: lambda solver=solver: classifier(SIDES, solver=solver)
       for solver in ("adam", "sgd", "lbfgs", "adamw", "nadam", "radam", "rmsprop", "adagrad",
                      "rprop", "adadelta", "adamax", "amsgrad", "lion")},
    **{name: lambda name=name: classifier(SIDES, learning_rate=name) for name in SCHEDULES},
    **{f"labels: {name}": lambda y=y: classifier(y[THIRDS]) for name, y in LABELS.items()},
    "two texts": lambda: classifier(np.array(["no", "yes"])[SIDES]),
    "truth": lambda: classifier(SIDES > 0),
    "one class": lambda: classifier(np.zeros(40, int)),
    "several labels": lambda: classifier(SEVERAL),
    "frame": lambda: classifier(SIDES, FRAME),
    "float32": lambda: classifier(SIDES, X.astype("f4")),
    "hinge": lambda: classifier(THIRDS, loss="hinge"),
    "dtype": lambda: classifier(SIDES, dtype=np.float32, clip_norm=1, dropout=[0.1],
                                activation=["tanh"], verbose=False),
    "early": lambda: classifier(SIDES, early_stopping=True, n_iter_no_change=np.inf),
    "scored": lambda: classifier(SIDES, early_stopping=True, monitor="f1"),
    "no layer": lambda: classifier(SIDES, hidden_layer_sizes=()),
    "deep": lambda: classifier(SIDES, hidden_layer_sizes=[3] * 40, max_iter=1),
    "stopping": lambda: classifier(SIDES, callbacks=[fn.EarlyStopping("loss", 2)]),
    "warmup": lambda: classifier(SIDES, learning_rate=fn.Warmup(1, fn.OneCycle())),
    "weights": lambda: classifier(THIRDS, class_weight={0: 1.0, np.int64(1): 2, 2: 1e-3}),
    "weights of labels": lambda: classifier(SEVERAL, class_weight=[{0: 1.0, 1: 2}] * 3),
    "random": lambda: classifier(SIDES, random_state=np.random.RandomState(3)),
    "philox": lambda: classifier(
        SIDES, random_state=np.random.RandomState(np.random.Philox(5)), dropout=0.2
    ),
    "pcg": lambda: classifier(SIDES, random_state=np.random.RandomState(np.random.PCG64(5))),
    "first weights": lambda: classifier(
        SIDES, coefs_init=[np.ones((3, 4)), np.ones((4, 1))],
        intercepts_init=[np.ones(4), np.ones(1)],
    ),
    "long": lambda: classifier(SIDES, max_iter=60, tol=0.0, n_iter_no_change=100),
    "by hand": by_hand,
    "numbers": regressor,
    "numbers, lbfgs": lambda: regressor(solver="lbfgs"),
    "two outputs": lambda: regressor(X[:, :2]),
    "huber": lambda: regressor(loss=fn.Huber(2.0)),
    "quantile": lambda: regressor(loss=fn.Quantile(0.9)),
    "deviations": lambda: regressor(loss="gaussian_nll"),
    "poisson": lambda: regressor(np.arange(40.0), loss="poisson"),
    "tweedie": lambda: regressor(np.arange(40.0), loss=fn.Tweedie(1.3)),
    "focal": lambda: classifier(SIDES, loss=fn.Focal(1.5)),
    "smoothed": lambda: classifier(SIDES, label_smoothing=0.1),
    "one by one": lambda: fn.MLPClassifier(4, random_state=1).partial_fit(
        X, SIDES, classes=[0, 1]).partial_fit(X, SIDES),
}  # fmt: skip


def same(one, other):
    """Whether values are of the same types and the same in every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        if one.dtype == object:
            return one.shape == other.shape and same(one.tolist(), other.tolist())
        return (one.dtype, one.shape) == (other.dtype, other.shape) and (
            one.tobytes() == other.tobytes()
        )
    if isinstance(one, np.random.RandomState):
        return same(one.get_state(legacy=False), other.get_state(legacy=False))
    if isinstance(one, fn.EarlyStopping):
        return repr(one) == repr(other)
    return one == other or (one != one and other != other)


def state(model):
    """What makes an estimator; the generator of the last fit follows from random_state."""
    found = model.__getstate__()
    found.pop("_random_state", None)
    return dict(sorted(found.items()))


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {name: make() for name, make in MODELS.items()}


def kept(model, folder):
    path = folder / "model.fastnn"
    model.save(path)
    return fn.load_estimator(path)


@pytest.mark.parametrize("name", MODELS)
def test_an_estimator_comes_back_as_it_was(name, fitted, tmp_path):
    model = copy.deepcopy(fitted[name])
    features = FRAME if name == "frame" else X.astype("f4") if name == "float32" else X
    before = state(model)
    again = kept(model, tmp_path)
    assert type(again) is type(model)
    assert same(before, state(model))
    assert same(state(again), before)
    for method in ("predict", "predict_proba", "decision_function", "predict_log_proba"):
        if hasattr(model, method):
            assert same(getattr(again, method)(features), getattr(model, method)(features)), method
    if name != "by hand":
        assert all(np.shares_memory(W, again.network_.parameters) for W in again.coefs_)


GOES_ON = [name for name in MODELS if name != "by hand"]


@pytest.mark.parametrize("name", GOES_ON)
@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
def test_a_loaded_estimator_goes_on_to_the_same_bits(name, way, fitted, tmp_path):
    model = copy.deepcopy(fitted[name])
    features = FRAME if name == "frame" else X.astype("f4") if name == "float32" else X
    y = model.predict(features)
    if isinstance(model, fn.MLPClassifier):
        several = name in ("several labels", "weights of labels")
        y = SEVERAL if several else model.classes_[np.arange(40) % len(model.classes_)]
    model.set_params(max_iter=20 if way == "partial_fit" else 3, warm_start=way == "warm_start")
    if way == "partial_fit":
        if not hasattr(model, "partial_fit"):
            pytest.skip("lbfgs takes no single epochs")
        model.set_params(early_stopping=False)
    again = kept(model, tmp_path)
    for one in (model, again):
        (one.partial_fit if way == "partial_fit" else one.fit)(features, y)
        one.n_threads = 2
        (one.partial_fit if way == "partial_fit" else one.fit)(features, y)
    assert same(state(again), state(model))


def test_a_record_of_before_has_no_field_that_came_later():
    assert record_of("Dropout", {"rate": 0.5}) == fn.Dropout(0.5)
    with pytest.raises(ValueError, match="Adam must have"):
        record_of("Adam", {"learning_rate": 0.5})


def test_saving_twice_writes_the_same_and_a_loaded_one_too(fitted, tmp_path):
    model = fitted["weights"]
    files = []
    for name, one in (("a", model), ("b", model), ("c", kept(model, tmp_path))):
        one.save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert len(set(files)) == 1


def test_a_file_is_replaced_whole_or_not_at_all(fitted, tmp_path, monkeypatch):
    fitted["adam"].save(tmp_path / "file")
    before = (tmp_path / "file").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        fitted["sgd"].save(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_the_file_holds_no_pickle(fitted, tmp_path, monkeypatch):
    fitted["random"].save(tmp_path / "file")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    fn.load_estimator(tmp_path / "file")


def test_a_generator_that_is_shared_goes_on_from_where_it_was(tmp_path):
    model = classifier(SIDES, random_state=np.random.RandomState(5))
    again = kept(model, tmp_path)
    assert again._random_state is again.random_state
    for one in (model, again):
        one.fit(X, SIDES)
    assert same(state(again), state(model))


def test_what_a_pipeline_is_asked_for_is_kept(tmp_path):
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        model = fn.MLPClassifier(4, max_iter=2, random_state=0)
        model.set_fit_request(X_val=True, sample_weight="w").fit(X, SIDES)
        again = kept(model, tmp_path)
        asked = again.get_metadata_routing()._serialize()
        assert asked == model.get_metadata_routing()._serialize()
        assert asked["fit"]["sample_weight"] == "w"
        assert asked["fit"]["X_val"] is True


# What no file holds.


class Mine(fn.MLPClassifier):
    pass


def with_note(note):
    model = classifier(SIDES)
    model.note = note
    return model


UNKEPT = {
    "not fitted": (lambda: fn.MLPClassifier(), NotFittedError, "not fitted"),
    "a subclass": (
        lambda: Mine(4, max_iter=2, random_state=0).fit(X, SIDES), TypeError,
        "got Mine, whose code",
    ),
    "a rate": (
        lambda: classifier(SIDES, learning_rate=abs), TypeError, "learning_rate must be .* abs",
    ),
    "a rate of before": (
        lambda: classifier(SIDES, learning_rate=abs).set_params(learning_rate="constant"),
        TypeError, "learning_rate must be",
    ),
    "a rate within another": (
        lambda: classifier(SIDES, learning_rate=fn.Warmup(1, abs)), TypeError, "learning_rate must",
    ),
    "a callback": (
        lambda: classifier(SIDES, callbacks=repr), TypeError, r"set_params\(callbacks=None\)",
    ),
    "a scorer": (
        lambda: classifier(SIDES, early_stopping=True, monitor=make_scorer(f1_score)),
        TypeError, r"set_params\(monitor=None\)",
    ),
    "a parameter": (
        lambda: classifier(SIDES).set_params(alpha=-1.0), ValueError, "'alpha' parameter",
    ),
    "an attribute": (lambda: with_note(print), TypeError, "note cannot be saved: .*print"),
    "a set": (lambda: with_note({1}), TypeError, r"note cannot be saved: \{1\} \(set\)"),
    "complex numbers": (lambda: with_note(np.ones(2, complex)), TypeError, "dtype complex128"),
    "records": (lambda: with_note(np.zeros(2, "f4,f4")), TypeError, "note cannot be saved"),
    "an enormous integer": (lambda: with_note(1 << 9999), TypeError, "note cannot be saved"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKEPT)
def test_what_no_file_holds_is_an_error_that_says_so(name, tmp_path):
    make, kind, message = UNKEPT[name]
    with pytest.raises(kind, match=message):
        make().save(tmp_path / "file")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: setattr(one, "coefs_", one.coefs_[:1]), "layers"),
        (lambda one: setattr(one, "n_outputs_", 7), "n_outputs_ must be those of 3 units; got 7"),
        (lambda one: setattr(one, "loss_curve_", "x"), "loss_curve_ must be what a fit leaves"),
        (lambda one: setattr(one, "activation", ["tanh"] * 5), "one for each of the 1 hidden"),
        (lambda one: delattr(one, "classes_"), "must have classes_"),
    ],
)
def test_attributes_that_do_not_fit_each_other_are_not_saved(change, message, tmp_path):
    model = classifier(THIRDS)
    change(model)
    with pytest.raises((ValueError, AttributeError), match=message):
        model.save(tmp_path / "file")


# Values.


VALUES = [
    None, True, 0, -(2**60), 10**300, 0.0, -0.0, float("nan"), float("inf"), "", "a\0", "\ud800",
    [], (), {}, [[], ()], {1: {"a": (None,)}, None: 2, (1, "x"): 3}, np.float32(1.5), np.str_("x"),
    np.datetime64("2020-01-01T00"), np.timedelta64("NaT"), np.bool_(True), np.int8(-3),
    list(range(100)), [True] * 40, ["x"] * 39 + ["yy\0"], ["é"] * 40, [0.5, float("nan")] * 20,
    [np.float32(1.0)] * 40, [np.str_("a")] * 40, [2**63] * 40, [1, 1.0] * 30, tuple(range(50)),
    {n: str(n) for n in range(50)}, np.zeros((0, 3)), np.zeros((2, 3), ">f8"), np.array(3),
    np.array("x"), np.array(["a", "bcd"]), np.array([b"a", b"bc"]), np.array([True, False]),
    np.arange(6, dtype="u2").reshape(2, 3)[:, ::2], np.asfortranarray(np.eye(3, 2)),
    np.array([1, "a", None, 2.5], object), np.array([["a"], ["b"]], object), np.array("", "U0"),
    np.array(["x" * 1000] + ["y"] * 40, object),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_plain_values_come_back_as_they_were(value, tmp_path):
    plain, arrays = to_plain(value)
    safetensors.write(tmp_path / "file", arrays, {"plain": json.dumps(plain)})
    arrays, texts = safetensors.read(tmp_path / "file")
    found = from_plain(json.loads(texts["plain"]), arrays)
    wanted = value
    if isinstance(value, np.ndarray):
        # In the machine's byte order; texts of no letter have room for one.
        wanted = value.astype(value.dtype.newbyteorder("="))
        wanted = np.array("", "U1") if value.dtype == "U0" else wanted
    assert same(found, wanted)


ARRAYS = {
    "f": np.zeros(3), "b": np.zeros((2, 4), np.uint8), "flags": np.full((2, 1), 2, np.uint8),
    "text": np.full((2, 4), 255, np.uint8), "0d": np.array(1.0), "i": np.arange(3),
}  # fmt: skip
REFUSED = [
    {}, {"tuple": 1}, {"tuple": [], "dict": []}, {"other": 1}, {"int": "x"}, {"int": "9" * 500},
    {"int": 3}, {"float": "1"}, {"float": []}, {"dict": [[1], []]}, {"dict": [[1, 1], [2, 3]]},
    {"dict": [[[]], [1]]}, {"dict": 3}, {"array": "g"}, {"array": 3}, {"array": "b"},
    {"array": ["f", "<f8"]}, {"array": ["b", "<i8"]}, {"array": ["b", "<f4,<f4"]},
    {"array": ["b", "O"]}, {"array": ["b", "|O8"]}, {"array": ["b", "|V4"]},
    {"array": ["b", "<U999999999"]}, {"array": ["b", "(2,)<f4"]}, {"array": ["b", "<M8[zz]"]},
    {"array": ["b", ">i4"]}, {"array": ["b", {}]}, {"array": ["b"]}, {"array": ["flags", "|b1"]},
    {"array": ["text", "<U1"]}, {"array": ["b", "<f16"]}, {"array": ["0d", "<f8"]},
    {"scalar": {"array": "f"}}, {"scalar": 1}, {"all": ["int", {"array": "f"}]},
    {"all": ["float", {"array": "i"}]}, {"all": ["text", {"array": "f"}]}, {"all": ["int", 3]},
    {"all": ["float", {"array": "0d"}]}, {"all": [[], {"array": "f"}]}, {"all": 1},
    {"all": ["system", {"array": "f"}]}, {"objects": [[1], [2]]}, {"objects": [[1], [-1]]},
    {"objects": [[1], [1, 1, 1]]}, {"objects": [[1], 1]}, {"objects": 1}, {"made": ["os", 1]},
    {"made": [{}, 1]}, {"made": 1}, [{"array": "f"}, {"array": "f"}],
]  # fmt: skip


@pytest.mark.parametrize("plain", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_plain_value_is_refused(plain):
    with pytest.raises((TypeError, ValueError)):
        from_plain(plain, ARRAYS)


def test_arrays_besides_and_levels_without_end_are_refused():
    with pytest.raises(ValueError, match="every array must be named; got 'f'"):
        from_plain([], {"f": np.zeros(3)})
    deep = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="of few levels"):
        from_plain(deep, {})


# Damage.


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "file"
    fn.MLPClassifier(2, max_iter=2, random_state=0).fit(X, THIRDS).save(path)
    return path.read_bytes()


SQUARE = fn.CustomActivation(lambda z: z * z, lambda z: 2.0 * z, name="kept_square")
FOURTH = fn.CustomLoss(
    lambda a, y: (a - y) ** 4, lambda a, y: 4.0 * (a - y) ** 3, name="kept_fourth"
)
OWN = {
    "activation": lambda square, fourth: fn.MLPRegressor(
        hidden_layer_sizes=(3,), activation=square, max_iter=2
    ),
    "layers": lambda square, fourth: fn.MLPRegressor(
        layers=[fn.Dense(4, square), fn.Dropout(0.1)], max_iter=2
    ),
    "name": lambda square, fourth: fn.MLPRegressor(
        layers=[fn.Residual([fn.Dense(3, square.name)])], max_iter=2
    ),
    "loss": lambda square, fourth: fn.MLPRegressor(
        hidden_layer_sizes=(3,), loss=fourth, max_iter=2
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_functions_of_the_user_s_own_are_kept_by_name(name, tmp_path):
    model = OWN[name](SQUARE, FOURTH).set_params(random_state=0).fit(X, X[:, 0])
    path = tmp_path / "model"
    model.save(path)
    again = fn.load_estimator(path)
    assert again.get_params()["loss"] == model.loss
    assert again.get_params()["activation"] == model.activation
    assert same(state(again), state(model))
    assert again.predict(X).tobytes() == model.predict(X).tobytes()
    assert same(state(again.partial_fit(X, X[:, 0])), state(model.partial_fit(X, X[:, 0])))
    # A file holds no code: elsewhere the functions must have been made first.
    table, one = (own.LOSSES, FOURTH) if name == "loss" else (own.ACTIVATIONS, SQUARE)
    del table[one.name]
    try:
        maker = rf"made before, by fastnn\.{type(one).__name__}\(\.\.\., name=\.\.\.\)"
        with pytest.raises(fn.ModelFileError, match=f"{maker}; got '{one.name}'"):
            fn.load_estimator(path)
    finally:
        table[one.name] = one
    assert fn.load_estimator(path).get_params().keys() == model.get_params().keys()


def test_every_damaged_byte_is_noticed(raw, tmp_path):
    path, rng = tmp_path / "damaged", random.Random(0)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(fn.ModelFileError, match="damaged"):
            fn.load_estimator(path)


def test_every_cut_is_noticed(raw, tmp_path):
    path = tmp_path / "cut"
    for length in (*range(0, len(raw), 3), len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(fn.ModelFileError, match="cut"):
            fn.load_estimator(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(fn.ModelFileError):
        fn.load_estimator(path)


def test_files_of_another_kind_are_told(fitted, tmp_path):
    fn.Sequential([fn.Dense(1)], 2).save(tmp_path / "net")
    with pytest.raises(fn.ModelFileError, match=r"may be a network: fastnn.load\(path\)"):
        fn.load_estimator(tmp_path / "net")
    fitted["adam"].save(tmp_path / "model")
    with pytest.raises(fn.ModelFileError, match=r"are read by fastnn.load_estimator"):
        fn.load(tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        fn.load_estimator(tmp_path / "nothing")


def test_a_file_whose_checksums_lost_their_names_is_refused(raw, tmp_path):
    (tmp_path / "file").write_bytes(raw.replace(b'"sha256', b'"sha265'))
    with pytest.raises(fn.ModelFileError, match="nothing tells whether it is damaged"):
        fn.load_estimator(tmp_path / "file")


# Files whose checksums are right and whose description is not.


def rewritten(raw, folder, change):
    """Write a file with another description or other arrays, and give its path."""
    path = folder / "rewritten"
    path.write_bytes(raw)
    arrays, texts = safetensors.read(path)
    described = json.loads(texts["estimator"])
    change(described, arrays)
    safetensors.write(path, arrays, {**texts, "estimator": json.dumps(described)})
    return path


def put(part, name, value):
    def change(described, arrays):
        for array in [one for one in arrays if one.rpartition(".")[0] == name]:
            del arrays[array]
        plain, theirs = to_plain(value)
        described[part][name] = [plain, len(theirs)]
        arrays |= {f"{name}.{place}": array for place, array in theirs.items()}

    return change


def stored(name, array):
    return lambda described, arrays: arrays.update({name: array})


HOSTILE = {
    "no parameters": lambda d, a: d.pop("parameters"),
    "a parameter less": lambda d, a: d["parameters"].pop("alpha"),
    "a parameter more": put("parameters", "beta_3", 1.0),
    "a version": lambda d, a: d.update(version=2),
    "a version that is true": lambda d, a: d.update(version=True),
    "a class of Python's": lambda d, a: d.update({"class": "os.system"}),
    "another class": lambda d, a: d.update({"class": "Sequential"}),
    "a class that is a list": lambda d, a: d.update({"class": ["MLPClassifier"]}),
    "the other class": lambda d, a: d.update({"class": "MLPRegressor"}),
    "no description": lambda d, a: d.clear(),
    "a method": put("fitted", "predict", 1),
    "a property": put("fitted", "network_", 1),
    "a protocol": put("fitted", "__class__", "x"),
    "a private name": put("fitted", "_weights", 1),
    "an increment": put("fitted", "_increment", 1),
    "a parameter among attributes": put("fitted", "alpha", 3.0),
    "a name that is none": put("fitted", "a b", 1),
    "no weights": lambda d, a: d["fitted"].pop("coefs_"),
    "weights of another width": put("fitted", "coefs_", [np.ones((3, 5)), np.ones((2, 3))]),
    "weights of no layer": put("fitted", "coefs_", []),
    "weights that are numbers": put("fitted", "coefs_", [1.0]),
    "weights of texts": put("fitted", "coefs_", [np.array([["a"]])]),
    "weights of objects": put("fitted", "coefs_", [np.array([[None]], object)] * 2),
    "biases of another width": put("fitted", "intercepts_", [np.ones(5), np.ones(3)]),
    "an unknown activation": put("fitted", "out_activation_", "os"),
    "features": put("fitted", "n_features_in_", 2),
    "outputs": put("fitted", "n_outputs_", 2),
    "too many outputs": put("fitted", "n_outputs_", 10**30),
    "outputs that are true": put("fitted", "n_outputs_", True),
    "names": put("fitted", "feature_names_in_", np.array(["a"], object)),
    "names that are numbers": put("fitted", "feature_names_in_", np.array([1, 2, 3], object)),
    "classes": put("fitted", "classes_", np.arange(2)),
    "classes unsorted": put("fitted", "classes_", np.array([2, 1, 0])),
    "classes twice": put("fitted", "classes_", np.array([0, 0, 1])),
    "classes of objects": put("fitted", "classes_", np.array([None, (), "a"], object)),
    "no classes": lambda d, a: d["fitted"].pop("classes_"),
    "a binarizer": put("fitted", "_label_binarizer", {"y_type_": "x"}),
    "another binarizer": put("fitted", "_label_binarizer", {
        "y_type_": "binary", "sparse_input_": False, "classes_": None}),
    "negative counts": put("fitted", "t_", -1),
    "a curve": put("fitted", "loss_curve_", [1.0, "a"]),
    "a curve of lists": put("fitted", "loss_curve_", [[1.0]]),
    "an optimizer": put("fitted", "_optimizer", {}),
    "an alpha": put("parameters", "alpha", "x"),
    "an alpha below zero": put("parameters", "alpha", -1.0),
    "layers": put("parameters", "hidden_layer_sizes", [-1]),
    "activations": put("parameters", "activation", ["a"]),
    "a dropout": put("parameters", "dropout", [2.0]),
    "threads": put("parameters", "n_threads", 0),
    "an unknown solver": put("parameters", "solver", "newton"),
    "a function that nobody made": lambda d, a: d["parameters"].update(
        activation=[{"made": ["CustomActivation", "os"]}, 0]),
    "a function that is a list": lambda d, a: d["parameters"].update(
        activation=[{"made": ["CustomActivation", ["relu"]]}, 0]),
    "a loss in the place of an activation": lambda d, a: d["parameters"].update(
        activation=[{"made": ["CustomLoss", "kept_fourth"]}, 0]),
    "an array less": lambda d, a: a.pop("coefs_.0"),
    "an array more": stored("more.0", np.zeros(3)),
    "an array of bytes": stored("coefs_.0", np.zeros((3, 2), np.uint8)),
    "very many objects": lambda d, a: d["fitted"].update(t_=[[{"tuple": []}] * 19_000, 0]),
    "a long text": lambda d, a: d["fitted"].update(t_=["x" * 900_000, 0]),
    "very many names": put("fitted", "feature_names_in_", np.array(["ab"] * 200_000, object)),
    "very many classes": put("fitted", "classes_", np.arange(200_000)),
    "arrays without end": lambda d, a: d["fitted"].update(t_=[1, 10**9]),
    "arrays below zero": lambda d, a: d["fitted"].update(t_=[1, -1]),
    "half a value": lambda d, a: d["fitted"].update(t_=[1]),
    "a list of values": lambda d, a: d.update(fitted=[]),
    "very many attributes": lambda d, a: d["fitted"].update({f"_{n}": [n, 0] for n in range(900)}),
    "very many arrays": lambda d, a: a.update({str(n): np.zeros(1) for n in range(9_000)}),
    "a deep value": lambda d, a: d["fitted"].update(t_=[deep_list(900), 0]),
    "a deeper value": lambda d, a: d["fitted"].update(t_=[deep_list(90), 0]),
}  # fmt: skip


def deep_list(levels):
    return json.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name, raw, tmp_path):
    path = rewritten(raw, tmp_path, HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(fn.ModelFileError, match="rewritten") as caught:
            fn.load_estimator(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * path.stat().st_size + (1 << 24)
    assert len(str(caught.value)) < 900


def letters(count):
    return [chr(0x4E00 + place % 20_000) for place in range(count)]


# What takes many times as much in a list as in a file.
LISTS = {
    "numbers": lambda count: [place / 7 for place in range(count)],
    "whole numbers": lambda count: list(range(2**40, 2**40 + count)),
    "truth values": lambda count: [True, False] * (count // 2),
    "texts": letters,
    "texts of Latin letters": lambda count: [f"{place:06d}" for place in range(count)],
    "objects": lambda count: np.array(letters(count), object),
    "a tuple": lambda count: tuple(range(2**40, 2**40 + count)),
    "a dict": lambda count: dict.fromkeys(range(count), True),
    "bytes": lambda count: list(np.arange(count).astype("u1")),
    "scalars of texts": lambda count: list(np.array(letters(count))),
    "dates": lambda count: list(np.arange(count).astype("M8[s]")),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("count", [40, 2_000, 45_000])
def test_lists_take_no_more_than_is_foretold(name, count):
    plain, arrays = to_plain(LISTS[name](count))
    foretold = list_bytes(plain, arrays)
    tracemalloc.start()
    try:
        found = from_plain(plain, arrays)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(found)
    # What reads it takes some itself.
    assert taken <= foretold + 4_000


@pytest.mark.parametrize("plain", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_description_foretells_nothing_and_is_no_error(plain):
    assert list_bytes(plain, ARRAYS) <= 3 * 200


@pytest.mark.parametrize("name", sorted(set(LISTS) - {"truth values"}))
def test_lists_that_take_far_more_than_the_file_are_refused(name, raw, tmp_path):
    found = LISTS[name](600_000)
    path = rewritten(raw, tmp_path, put("fitted", "note", found))
    tracemalloc.start()
    try:
        with pytest.raises(
            fn.ModelFileError, match="lists of an estimator in a file must take at most"
        ):
            fn.load_estimator(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * path.stat().st_size + (1 << 20)
    model = classifier(THIRDS)
    model.note = found
    with pytest.raises(ValueError, match=r"^lists of an estimator .* for note\."):
        model.save(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_curve_that_is_too_long_may_be_shortened_as_the_error_says(tmp_path):
    X = np.arange(20.0).reshape(-1, 2)
    model = fn.MLPRegressor(hidden_layer_sizes=1, random_state=0).partial_fit(X, X[:, 0])
    model.loss_curve_ = [float(n) for n in range(600_000)]
    path = tmp_path / "file"
    with pytest.raises(ValueError, match=r"as loss_curve_ = loss_curve_\[-1000:\]"):
        model.save(path)
    model.loss_curve_ = model.loss_curve_[-1000:]
    model.save(path)
    found = fn.load_estimator(path)
    for one in (model, found):
        one.partial_fit(X, X[:, 0])
    assert found.loss_curve_ == model.loss_curve_
    assert len(found.loss_curve_) == 1001


def test_long_curves_and_many_names_are_read_in_little_memory(tmp_path):
    wide = pd.DataFrame(np.ones((3, 60_000), np.float32), columns=[f"f{n}" for n in range(60_000)])
    model = fn.MLPRegressor(hidden_layer_sizes=1, max_iter=1, random_state=0).fit(wide, [1, 2, 3])
    model.loss_curve_ = [float(n) for n in range(200_000)]
    path = tmp_path / "file"
    model.save(path)
    tracemalloc.start()
    try:
        found = fn.load_estimator(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * path.stat().st_size + (1 << 24)
    assert found.loss_curve_ == model.loss_curve_
    assert (found.feature_names_in_ == model.feature_names_in_).all()


def optimizer(change):
    """Change what a file says of the optimizer, as a value."""

    def changed(described, arrays):
        plain, count = described["fitted"]["_optimizer"]
        theirs = {str(n): arrays[f"_optimizer.{n}"] for n in range(count)}
        value = from_plain(plain, theirs)
        change(value)
        put("fitted", "_optimizer", value)(described, arrays)

    return changed


OF_AN_OPTIMIZER = {
    "rule": ["SGD", "Dense", "Huber", "os.system", 3, [], None],
    "settings": [{}, None, {"learning_rate": -1.0}, {"learning_rate": 1.0, "x": 1}, {1: 2}],
    "moments": [None, np.zeros(3), np.zeros((1, 17)), np.zeros((2, 17), int),
                np.zeros((2, 17), "U1")],
    "steps": [-1, 1.5, "x", 2**64, None],
    "learning_rate": ["x", -1.0, float("nan"), None],
}  # fmt: skip


@pytest.mark.parametrize("name", OF_AN_OPTIMIZER)
def test_an_optimizer_with_a_wrong_value_is_refused(name, raw, tmp_path):
    for value in OF_AN_OPTIMIZER[name]:
        change = optimizer(lambda found, value=value: found["training"].update({name: value}))
        with pytest.raises(fn.ModelFileError):
            fn.load_estimator(rewritten(raw, tmp_path, change))
    missing = optimizer(lambda found: found["training"].pop(name))
    with pytest.raises(fn.ModelFileError):
        fn.load_estimator(rewritten(raw, tmp_path, missing))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate_init", "x"),
        ("follows_init", 1),
        ("schedule", "os"),
        ("power_t", None),
        ("scheduled", 3),
        ("scheduled", fn.Dropout(0.1)),
        ("epochs", -1),
        ("history", []),
        ("history", {"loss": None}),
        ("history", {1: []}),
        ("history", {"loss": ["x"]}),
    ],
)
def test_a_pace_with_a_wrong_value_is_refused(name, value, raw, tmp_path):
    def change(described, arrays):
        plain, count = described["fitted"]["_optimizer"]
        theirs = {str(n): arrays.pop(f"_optimizer.{n}") for n in range(count)}
        found = from_plain(plain, theirs) | {name: value}
        plain, theirs = to_plain(found, KINDS)
        described["fitted"]["_optimizer"] = [plain, len(theirs)]
        arrays.update({f"_optimizer.{n}": array for n, array in theirs.items()})

    with pytest.raises(fn.ModelFileError):
        fn.load_estimator(rewritten(raw, tmp_path, change))


GENERATOR = np.random.RandomState(0).get_state(legacy=False)
PHILOX = np.random.RandomState(np.random.Philox(0)).get_state(legacy=False)


@pytest.mark.parametrize(
    "state",
    [
        GENERATOR | {"bit_generator": "system"}, GENERATOR | {"bit_generator": "Generator"},
        GENERATOR | {"state": {"key": np.zeros(623, np.uint32), "pos": 1}},
        GENERATOR | {"state": {"key": np.zeros(624, np.uint64), "pos": 1}},
        GENERATOR | {"state": {"key": np.zeros(624, np.uint32), "pos": 625}},
        GENERATOR | {"state": {"key": np.zeros(624, np.uint32), "pos": -1}},
        GENERATOR | {"state": {"key": np.zeros(624, np.uint32), "pos": 2**40}},
        GENERATOR | {"state": {"key": np.zeros(624, np.uint32)}}, GENERATOR | {"state": 3},
        GENERATOR | {"more": 1}, GENERATOR | {"gauss": "x"}, {}, [], None,
        PHILOX | {"buffer_pos": 5}, PHILOX | {"buffer_pos": -1}, PHILOX | {"buffer": np.zeros(4)},
    ],
    ids=range(17),
)  # fmt: skip
def test_a_generator_in_an_impossible_state_is_refused(state, raw, tmp_path):
    def change(described, arrays):
        put("parameters", "random_state", state)(described, arrays)
        plain, count = described["parameters"]["random_state"]
        described["parameters"]["random_state"] = [{"made": ["RandomState", plain]}, count]

    with pytest.raises(fn.ModelFileError):
        fn.load_estimator(rewritten(raw, tmp_path, change))


def test_the_honest_twin_of_the_hostile_files_is_read(raw, tmp_path):
    change = put("fitted", "note", [1])
    assert fn.load_estimator(rewritten(raw, tmp_path, change)).note == [1]
    honest = optimizer(lambda found: None)
    assert fn.load_estimator(rewritten(raw, tmp_path, honest)).predict(X).shape == (40,)


def test_every_optimizer_s_state_has_a_test(fitted):
    rules = {type(one._optimizer.state.optimizer).__name__ for one in fitted.values()
             if hasattr(one, "_optimizer")}  # fmt: skip
    assert rules == set(OPTIMIZERS)


def test_the_page_s_example_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text("utf-8")
    section = page.partition("## Estimators")[2].partition("\n## ")[0]
    code, _ = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    known = {"fn": fn, "X": X, "y": SIDES}
    exec(code, known)
    assert capsys.readouterr().out == "True\n"
    known["model"].partial_fit(X, SIDES)
    assert same(state(known["again"]), state(known["model"]))
