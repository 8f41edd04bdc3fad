"""Examples to validate on: how they come, in both APIs, and whether their scale is that of X."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn as fn

_rng = np.random.default_rng(0)
X = _rng.normal(size=(200, 3))
Y = (X[:, 0] > 0).astype(int)
XV, YV = _rng.normal(size=(50, 3)), np.arange(50) % 2
WV = _rng.uniform(0.5, 1.5, size=50)


def network() -> fn.Sequential:
    return fn.Sequential([fn.Dense(5, "tanh"), fn.Dense(1, "sigmoid")], dtype="float64")


class Layers:
    """The layer API, as the estimators are asked."""

    def fit(self, *given, **more):
        self.history = network().fit(*given, epochs=3, progress=False, **more)
        return self

    @property
    def curve(self):
        return self.history["val_loss"]


def estimator(kind):
    def make(**more):
        pytest.importorskip("sklearn.callback")
        one = getattr(fn, kind)(hidden_layer_sizes=5, max_iter=3, random_state=0, **more)
        return one

    return make


APIS = {
    "Sequential": Layers,
    "MLPClassifier": estimator("MLPClassifier"),
    "MLPRegressor": estimator("MLPRegressor"),
}
every_api = pytest.mark.parametrize("api", APIS)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
try:
    import sklearn.exceptions  # noqa: F401
except ImportError:
    pytestmark = []


def curve(fitted) -> list[float]:
    return fitted.curve if isinstance(fitted, Layers) else fitted.validation_loss_curve_


@every_api
@pytest.mark.parametrize("weights", [None, WV])
def test_both_ways_to_give_them_are_one(api, weights):
    make = APIS[api]
    apart = make().fit(X, Y, X_val=XV, y_val=YV, sample_weight_val=weights)
    together = make().fit(X, Y, validation_data=(XV, YV, weights))
    assert curve(apart) == curve(together)
    assert len(curve(apart)) == 3


WRONG = {
    "no y_val": ({"X_val": XV}, ValueError, "given together; got no y_val"),
    "no X_val": ({"y_val": YV}, ValueError, "given together; got no X_val"),
    "weights alone": ({"sample_weight_val": WV}, ValueError, "got no X_val and no y_val"),
    "both ways": (
        {"X_val": XV, "y_val": YV, "validation_data": (XV, YV)}, ValueError, "exclude each other",
    ),
    "no tuple": ({"validation_data": XV}, TypeError, r"must be \(X, y\)"),
    "lengths": ({"X_val": XV, "y_val": YV[:-1]}, ValueError, r"y_val.*49"),
    "width": ({"X_val": XV[:, :2], "y_val": YV}, ValueError, r"X_val.* 2 features"),
    "NaN": ({"X_val": XV * np.nan, "y_val": YV}, ValueError, r"X_val.*NaN"),
    "weights": (
        {"X_val": XV, "y_val": YV, "sample_weight_val": WV[:3]}, ValueError, "sample_weight",
    ),
    "a word": ({"X_val": [["a"] * 3] * 50, "y_val": YV}, (TypeError, ValueError), "X_val"),
}  # fmt: skip


@every_api
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_them_is_said(api, case):
    arguments, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        APIS[api]().fit(X, Y, **arguments)


def test_a_fraction_and_examples_exclude_each_other():
    for arguments in ({"X_val": XV, "y_val": YV}, {"validation_data": (XV, YV)}):
        with pytest.raises(ValueError, match="and validation_fraction exclude each other"):
            network().fit(X, Y, validation_fraction=0.1, **arguments)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_early_stopping_takes_them_in_place_of_a_fraction(kind):
    one = APIS[kind](early_stopping=True).fit(X, Y, X_val=XV, y_val=YV)
    assert one.t_ == one.n_iter_ * len(X)
    assert len(one.validation_scores_) == one.n_iter_


# A Pipeline.


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_a_pipeline_transforms_what_is_routed(kind):
    make = APIS[kind]
    one = make()
    from sklearn import config_context
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    wide, held = 100 * X + 500, 100 * XV + 500
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", module="sklearn")
        one.set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        model = Pipeline([("scale", StandardScaler()), ("net", one)], transform_input=["X_val"])
        model.fit(wide, Y, X_val=held, y_val=YV, sample_weight_val=WV)
    scaler = StandardScaler().fit(wide)
    by_hand = make().fit(
        scaler.transform(wide), Y, X_val=scaler.transform(held), y_val=YV, sample_weight_val=WV
    )
    assert model[-1].validation_loss_curve_ == by_hand.validation_loss_curve_


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("way", ["validation_data", "X_val"])
def test_a_pipeline_that_transforms_nothing_of_them_is_warned_of(kind, way):
    one = APIS[kind]()
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wide, held = 100 * X + 500, 100 * XV + 500
    given = {"X_val": held, "y_val": YV} if way == "X_val" else {"validation_data": (held, YV)}
    model = make_pipeline(StandardScaler(), one)
    with pytest.warns(fn.FitWarning, match=rf"^{way}.* has another scale than X.*transform_input"):
        model.fit(wide, Y, **{f"{kind.lower()}__{name}": value for name, value in given.items()})


# Scales.


def far(column, factor=1.0, shift=0.0):
    """Return validation examples of which one column has another scale."""
    held = XV.copy()
    held[:, column] = factor * held[:, column] + shift
    return held


@every_api
@pytest.mark.parametrize(
    ("column", "factor", "shift"), [(0, 100.0, 0.0), (1, 0.01, 0.0), (2, 1.0, 150.0), (1, 1e6, 0.0)]
)
def test_another_scale_is_warned_of_by_column(api, column, factor, shift):
    held = far(column, factor, shift)
    with pytest.warns(
        fn.FitWarning, match=rf"another scale than X: in column {column} X lies about"
    ):
        APIS[api]().fit(X, Y, X_val=held, y_val=YV)


@every_api
@pytest.mark.parametrize("name", ["tenfold", "shifted", "few rows", "constant", "rare", "sparse"])
def test_what_may_well_be_is_not_warned_of(api, name):
    known, held, wanted = X, XV, YV
    if name == "tenfold":
        held = far(0, 10.0)
    elif name == "shifted":
        held = far(1, 1.0, 5.0)
    elif name == "few rows":
        held, wanted = 1e3 * XV[:5], YV[:5]
    elif name == "constant":
        known, held = X.copy(), XV.copy()
        known[:, 1], held[:, 1] = 0.0, 1.0
    elif name == "rare":
        # A column of zeros and few ones, of which the examples held out have more.
        known, held = X.copy(), XV.copy()
        known[:, 2], held[:, 2] = np.arange(200) == 7, np.arange(50) % 3 == 0
    else:
        sparse = pytest.importorskip("scipy.sparse")
        known, held = sparse.csr_array(X), sparse.csr_array(XV)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", module="sklearn")
        APIS[api]().fit(known, Y, X_val=held, y_val=wanted)


@pytest.mark.parametrize("name", ["Sequential", "MLPRegressor"])
def test_another_scale_of_targets_that_are_numbers_is_warned_of(name):
    y, right, wrong = X[:, 0] / 3, XV[:, 0] / 3, 400 * XV[:, 0] + 1e3

    def fit(held):
        if name == "MLPRegressor":
            return APIS[name]().fit(X, y, X_val=XV, y_val=held)
        net = fn.Sequential([fn.Dense(1)])
        return net.fit(X, y, X_val=XV, y_val=held, epochs=1, progress=False)

    with warnings.catch_warnings():
        warnings.simplefilter("error", fn.FitWarning)
        fit(right)
    with pytest.warns(fn.FitWarning, match="y_val has another scale than y: in column 0"):
        fit(wrong)


def test_rare_classes_have_no_scale():
    y = np.zeros(200, int)
    y[3] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", fn.FitWarning)
        network().fit(X, y, X_val=XV, y_val=YV, epochs=1, progress=False)
        network().fit(X, y, "mean_squared_error", X_val=XV, y_val=YV, epochs=1, progress=False)


def test_the_warning_points_at_the_caller():
    with pytest.warns(fn.FitWarning, match="another scale") as heard:
        network().fit(X, Y, X_val=far(0, 1e3), y_val=YV, epochs=1, progress=False)
    assert heard[0].filename == __file__


def test_many_rows_are_told_by_some():
    many = np.tile(X, (30, 1))
    with pytest.warns(fn.FitWarning, match="column 2"):
        network().fit(
            many, np.tile(Y, 30), X_val=np.tile(far(2, 200.0), (40, 1)), y_val=np.tile(YV, 40),
            epochs=1, progress=False,
        )  # fmt: skip
