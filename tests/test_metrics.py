"""The table of metrics: against scikit-learn, against figures worked out by hand, and refusals."""

from __future__ import annotations

import functools
import math
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import metrics
from fastnn.metrics import METRICS, greater_is_better, resolve

REAL = [
    "mean_squared_error", "root_mean_squared_error", "mean_absolute_error",
    "mean_absolute_percentage_error", "r2",
]  # fmt: skip


# Those that compare one prediction with each target.
SINGLE = [name for name, row in METRICS.items() if row.needs != "quantiles"]


def evaluate(name, predictions, targets, weights=None, kind="real"):
    (row,) = resolve(name, kind)
    return row.function(np.asarray(targets), np.asarray(predictions), weights)


def one_hot(labels, m):
    return np.eye(m)[labels]


def own(targets, predictions):
    return np.abs(predictions - targets).max()


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_rows_are_filled_in():
    for name, row in METRICS.items():
        assert name == row.name
        assert row.source
        assert (row.greater_is_better is None) == (row.needs == "quantiles")
    known = [name for row in METRICS.values() for name in (row.name, *row.aliases)]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("n", [2, 17, 257])
def test_real_metrics_agree_with_scikit_learn(name, weighted, m, n, rng):
    judge = pytest.importorskip("sklearn.metrics")
    theirs = {"r2": "r2_score"}.get(name, name)
    if not hasattr(judge, theirs):
        pytest.skip(f"this scikit-learn has no {theirs}")
    targets = 5.0 + rng.normal(size=(n, m)) * np.arange(1, m + 1)
    predictions = targets + rng.normal(size=(n, m))
    weights = rng.uniform(0.1, 3.0, n) if weighted else None
    expected = getattr(judge, theirs)(targets, predictions, sample_weight=weights)
    assert evaluate(name, predictions, targets, weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracy_of_classes_agrees_with_scikit_learn(weighted, rng):
    judge = pytest.importorskip("sklearn.metrics")
    labels = rng.integers(0, 5, 257)
    predictions = rng.random((257, 5), dtype=np.float32) + 0.5 * one_hot(labels, 5)
    weights = rng.uniform(0.1, 3.0, 257) if weighted else None
    expected = judge.accuracy_score(labels, predictions.argmax(1), sample_weight=weights)
    assert 0.2 < expected < 0.9
    got = evaluate("accuracy", predictions, one_hot(labels, 5), weights, "classes")
    assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("m", [1, 3])
def test_accuracy_by_threshold_is_scikit_learns_averaged_over_outputs(weighted, m, rng):
    judge = pytest.importorskip("sklearn.metrics")
    targets = rng.integers(0, 2, (257, m)).astype(np.float32)
    predictions = rng.random((257, m), dtype=np.float32)
    weights = rng.uniform(0.1, 3.0, 257) if weighted else None
    each = [
        judge.accuracy_score(targets[:, j], predictions[:, j] > 0.5, sample_weight=weights)
        for j in range(m)
    ]
    got = evaluate("accuracy", predictions, targets, weights, "probabilities")
    assert got == pytest.approx(np.mean(each), rel=1e-12)


def test_accuracy_depends_on_what_the_targets_are():
    predictions = [[0.2, 0.4], [0.9, 0.6]]
    targets = [[0.0, 1.0], [1.0, 0.0]]
    assert evaluate("accuracy", predictions, targets, kind="classes") == 1.0
    assert evaluate("accuracy", predictions, targets, kind="probabilities") == 0.5


def test_accuracy_of_sides_is_the_largest_output_or_each_one_s_side_of_zero():
    # Every row names one class: the places of the largest.
    predictions = [[-0.5, -0.2], [3.0, 0.5]]
    one_each = [[0.0, 1.0], [1.0, 0.0]]
    assert evaluate("accuracy", predictions, one_each, kind="sides") == 1.0
    # Several at once, or none: each output for itself.
    several = [[0.0, 1.0], [1.0, 1.0]]
    assert evaluate("accuracy", predictions, several, kind="sides") == 0.75
    weights = np.array([1.0, 3.0])
    assert evaluate("accuracy", predictions, several, weights, kind="sides") == 0.875
    assert (
        evaluate("accuracy", [[0.1], [-0.1], [2.0]], [[1.0], [0.0], [0.0]], kind="sides") == 2 / 3
    )
    assert math.isnan(evaluate("accuracy", [[math.nan]], [[1.0]], kind="sides"))


def test_one_half_is_not_yet_a_yes():
    assert evaluate("accuracy", [[0.5]], [[0.0]], kind="probabilities") == 1.0
    assert evaluate("accuracy", [[0.5]], [[1.0]], kind="probabilities") == 0.0


def test_figures_worked_out_by_hand():
    predictions, targets = [[1.0], [2.0], [3.0]], [[1.0], [4.0], [7.0]]
    assert evaluate("mean_squared_error", predictions, targets) == pytest.approx(20 / 3)
    assert evaluate("rmse", predictions, targets) == pytest.approx(math.sqrt(20 / 3))
    assert evaluate("mae", predictions, targets) == 2.0
    assert evaluate("r2", predictions, targets) == pytest.approx(1 - 20 / 18)
    weights = np.array([2.0, 1.0, 0.0])
    assert evaluate("mse", predictions, targets, weights) == pytest.approx(4 / 3)
    assert evaluate("mae", predictions, targets, weights) == pytest.approx(2 / 3)
    assert evaluate("r2", predictions, targets, weights) == pytest.approx(1 - 4 / 6)


@pytest.mark.parametrize("weighted", [False, True])
def test_r2_of_constant_targets(weighted):
    # The mean of these is rounded, so that their spread is not zero.
    targets = np.full((3, 1), 0.1)
    weights = np.ones(3) if weighted else None
    assert np.average(targets[:, 0], weights=weights) != 0.1
    assert evaluate("r2", targets.copy(), targets, weights) == 1.0
    assert evaluate("r2", targets + 1.0, targets, weights) == 0.0


def test_r2_counts_a_constant_output_beside_others():
    targets = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    predictions = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 6.0]])
    assert evaluate("r2", predictions, targets) == 0.5


def test_r2_needs_two_examples():
    assert math.isnan(evaluate("r2", [[1.0]], [[1.0]]))
    two = np.array([[1.0], [2.0]])
    assert math.isnan(evaluate("r2", two, two, np.array([1.0, 0.0])))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_not_a_number_is_passed_on(name, kind):
    if METRICS[name].needs == "one class" and kind != "classes":
        pytest.skip("for one class of several")
    targets = np.eye(3, dtype=np.float32)
    predictions = targets.copy()
    predictions[1, 1] = np.nan
    assert math.isnan(evaluate(name, predictions, targets, kind=kind))


def test_not_a_number_where_targets_are_constant():
    assert math.isnan(evaluate("r2", [[np.nan], [1.0]], [[1.0], [1.0]]))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("weighted", [False, True])
def test_huge_predictions_do_not_warn(name, value, weighted):
    targets = np.eye(3)
    predictions = targets.copy()
    predictions[1, 1] = value
    result = evaluate(name, predictions, targets, np.ones(3) if weighted else None, "classes")
    assert isinstance(result, float)


@pytest.mark.parametrize("name", SINGLE)
def test_weights_of_zero_give_nan(name):
    assert math.isnan(evaluate(name, np.eye(3), np.eye(3), np.zeros(3), "classes"))


@pytest.mark.parametrize("name", REAL)
def test_float32_is_computed_in_float64(name, rng):
    targets = (1000.0 + rng.normal(size=(257, 3))).astype(np.float32)
    predictions = (targets + rng.normal(size=(257, 3))).astype(np.float32)
    exact = evaluate(name, predictions.astype(float), targets.astype(float))
    assert evaluate(name, predictions, targets) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("name", SINGLE)
def test_arrays_are_left_alone(name, rng):
    arrays = [rng.random((9, 2)), rng.random((9, 2)), rng.random(9)]
    for array in arrays:
        array.flags.writeable = False
    evaluate(name, *arrays, kind="classes")


def test_resolve_takes_one_many_and_functions():
    assert resolve((), "real") == ()
    assert [row.name for row in resolve("accuracy", "classes")] == ["accuracy"]
    rows = resolve(iter(["rmse", own, "r2"]), "real")
    assert [row.name for row in rows] == ["rmse", "own", "r2"]
    assert [row.greater_is_better for row in rows] == [False, None, True]
    (row,) = resolve(own, "classes")
    assert row.function(np.array([[3.0]]), np.array([[1.0]]), np.array([5.0])) == 2.0


def test_rows_can_be_pickled():
    rows = resolve(["accuracy", own], "probabilities")
    assert pickle.loads(pickle.dumps(rows)) == rows


@pytest.mark.parametrize("value", [1, np.float32(1), np.array(1.0), True])
def test_what_an_own_metric_may_give(value):
    def mine(targets, predictions):
        return value

    got = resolve(mine, "real")[0].function(np.ones((1, 1)), np.ones((1, 1)), None)
    assert got == 1.0
    assert type(got) is float


@pytest.mark.parametrize("value", [None, "1", np.ones(2), 1j])
def test_what_an_own_metric_may_not_give(value):
    def mine(targets, predictions):
        return value

    (row,) = resolve(mine, "real")
    with pytest.raises(TypeError, match=r"metrics must give one real number each; 'mine' gave "):
        row.function(np.ones((1, 1)), np.ones((1, 1)), None)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"^metrics must be one of .*; got 'acuracy'\. Did you"):
        resolve("acuracy", "classes")
    with pytest.raises(ValueError, match=r"Did you mean 'r2'\?"):
        resolve(["mse", "r_2"], "real")


@pytest.mark.parametrize("metrics", [3, None, [3], [None], ["mse", ["mae"]]])
def test_other_things_are_refused(metrics):
    with pytest.raises(TypeError, match=r"^metrics must be "):
        resolve(metrics, "real")


def test_a_function_without_a_name_is_refused():
    with pytest.raises(TypeError, match=r"^metrics must be names or functions that have a __name_"):
        resolve(functools.partial(own), "real")


@pytest.mark.parametrize("name", ["loss", "val_own"])
def test_a_function_named_like_another_key_is_refused(name):
    def mine(targets, predictions):
        return 0.0

    mine.__name__ = name
    with pytest.raises(ValueError, match=rf"metrics must not be .* got a function named '{name}'"):
        resolve(mine, "real")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["mse", "mse"], r"got 'mse' twice\.$"),
        (["mse", "mae", "mean_squared_error"], r"got 'mse' and 'mean_squared_error', two names"),
        ([own, own], r"got 'own' twice\.$"),
    ],
)
def test_duplicates_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        resolve(asked, "real")


@pytest.mark.parametrize("kind", ["real", "counts"])
def test_accuracy_is_refused_for_real_numbers(kind):
    with pytest.raises(ValueError, match=r"^metrics must suit the loss; got 'accuracy', .*'r2'"):
        resolve(["mse", "accuracy"], kind)


def test_which_way_is_better():
    assert greater_is_better("accuracy") is True
    assert greater_is_better("val_r2") is True
    assert greater_is_better("val_loss") is False
    assert greater_is_better("val_mse") is False
    assert greater_is_better("val_f1_macro") is True
    assert greater_is_better("top_3_accuracy") is True
    assert greater_is_better("log_loss") is False
    assert greater_is_better("f1_auto") is None
    assert greater_is_better("top_0_accuracy") is None
    assert greater_is_better("mine") is None


def test_everything_public_is_listed():
    assert set(metrics.__all__) == {
        "F1", "METRICS", "Metric", "MetricLike", "Precision", "Recall", "TopK",
        "greater_is_better", "of_known", "resolve",
    }  # fmt: skip


def test_own_functions_see_targets_first_and_vectors_where_there_is_one_output():
    seen = []

    def mine(targets, predictions):
        seen.append((targets, predictions))
        return 0.0

    (row,) = resolve(mine, "real")
    for shape, wanted in (((4, 1), (4,)), ((4, 3), (4, 3))):
        row.function(np.ones(shape), np.zeros(shape), None)
        targets, predictions = seen[-1]
        assert targets.shape == predictions.shape == wanted
        assert targets.all()
        assert not predictions.any()


@pytest.mark.parametrize(
    "name",
    [
        "r2_score", "mean_absolute_percentage_error", "mean_squared_log_error",
        "explained_variance_score", "mean_tweedie_deviance", "median_absolute_error",
    ],
)  # fmt: skip
@pytest.mark.parametrize("m", [1, 2])
def test_functions_of_scikit_learn_may_be_passed_directly(name, m, rng):
    judge = pytest.importorskip("sklearn.metrics")
    if name == "mean_tweedie_deviance" and m == 2:
        pytest.skip("for one output only")
    targets = 1.0 + rng.random((50, m))
    predictions = targets * rng.uniform(0.9, 1.3, (50, m))
    theirs = getattr(judge, name)
    (row,) = resolve(theirs, "real")
    assert row.name == name
    found = row.function(targets, predictions, None)
    assert found == pytest.approx(theirs(targets, predictions), rel=1e-12)


def test_classes_come_as_one_hot_rows_beside_probabilities(rng):
    judge = pytest.importorskip("sklearn.metrics")
    labels = rng.integers(0, 3, 50)
    P = rng.dirichlet(np.ones(3), 50)
    rows = resolve([judge.log_loss, judge.roc_auc_score], "classes")
    values = [row.function(one_hot(labels, 3), P, None) for row in rows]
    assert values[0] == pytest.approx(judge.log_loss(labels, P))
    assert values[1] == pytest.approx(judge.roc_auc_score(one_hot(labels, 3), P))
    (row,) = resolve(judge.accuracy_score, "classes")
    with pytest.raises(ValueError, match="mix of") as caught:
        row.function(one_hot(labels, 3), P, None)
    assert "one-hot rows" in caught.value.__notes__[0]
    assert "argmax" in caught.value.__notes__[0]


def test_functions_of_one_name_are_numbered():
    rows = resolve([lambda t, p: 1.0, "mse", lambda t, p: 2.0, lambda t, p: 3.0], "real")
    assert [row.name for row in rows] == ["<lambda>", "mse", "<lambda>_2", "<lambda>_3"]
    one = np.ones((1, 1))
    assert [row.function(one, one, None) for row in rows] == [1.0, 0.0, 2.0, 3.0]


@pytest.mark.parametrize("given", [lambda t: 0.0, lambda model, X, y: 0.0])
def test_a_function_of_other_arguments_is_refused(given):
    with pytest.raises(TypeError, match=r"two arguments, targets and predictions; got <lambda>\("):
        resolve(given, "real")


# Metrics of classes, beside scikit-learn's, over random cases.

AVERAGED = [
    f"{score}{average}"
    for score in ("precision", "recall", "f1")
    for average in ("", "_macro", "_micro", "_weighted")
]


def theirs_of(name):
    """scikit-learn's function of a score, and its average; that of an automatic one is None."""
    judge = pytest.importorskip("sklearn.metrics")
    score, _, average = name.partition("_")
    return getattr(judge, f"{score}_score"), average or None


def case(seed, classes, absent=()):
    """Labels, some classes of which do not occur, tied predictions and weights."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 60))
    present = [c for c in range(classes) if c not in absent]
    labels = draw.choice(present, n)
    P = draw.integers(1, 5, (n, classes)) / 4.0
    P += draw.random((n, classes)) * (seed % 3 > 0)
    return labels, P / P.sum(axis=1, keepdims=True), draw.uniform(0.1, 3.0, n)


@pytest.mark.parametrize("name", [*AVERAGED, "balanced_accuracy"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scores_of_classes_agree_with_scikit_learn(name, weighted, classes):
    judge = pytest.importorskip("sklearn.metrics")
    for seed in range(12):
        labels, P, weights = case(seed, classes, absent=(1, 4) if seed % 4 == 1 else ())
        w, places = weights if weighted else None, P.argmax(axis=1)
        if name == "balanced_accuracy":
            expected = judge.balanced_accuracy_score(labels, places, sample_weight=w)
        else:
            function, average = theirs_of(name)
            average = average or ("binary" if classes == 2 else "macro")
            expected = function(labels, places, average=average, sample_weight=w, zero_division=0)
        found = evaluate(name, P, one_hot(labels, classes), w, "classes")
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15), seed


@pytest.mark.parametrize("name", [*AVERAGED, "balanced_accuracy"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "half"), [("probabilities", 0.5), ("sides", 0.0)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scores_of_one_output_agree_with_scikit_learn(name, weighted, kind, half):
    judge = pytest.importorskip("sklearn.metrics")
    for seed in range(12):
        labels, P, weights = case(seed, 2, absent=(1,) if seed % 4 == 1 else ())
        w, values = weights if weighted else None, P[:, 1:] + half - 0.5
        if name == "balanced_accuracy":
            expected = judge.balanced_accuracy_score(labels, values[:, 0] > half, sample_weight=w)
        else:
            function, average = theirs_of(name)
            expected = function(
                labels, values[:, 0] > half, average=average or "binary", sample_weight=w,
                zero_division=0,
            )  # fmt: skip
        found = evaluate(name, values, labels[:, np.newaxis] + 0.0, w, kind)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15), seed


@pytest.mark.parametrize("name", [*AVERAGED, "balanced_accuracy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_several_outputs_agree_with_scikit_learn(name, weighted):
    judge = pytest.importorskip("sklearn.metrics")
    for seed in range(12):
        draw = np.random.default_rng(seed)
        Y, P = draw.integers(0, 2, (20, 3)), draw.integers(0, 5, (20, 3)) / 4.0
        Y[:, 2] &= seed % 3 > 0
        w = draw.uniform(0.1, 3.0, 20) if weighted else None
        if name == "balanced_accuracy":
            if not Y[:, 2].any():
                continue
            parts = [
                judge.balanced_accuracy_score(Y[:, j], P[:, j] > 0.5, sample_weight=w)
                for j in range(3)
            ]
            expected = np.mean(parts)
        else:
            function, average = theirs_of(name)
            expected = function(
                Y, P > 0.5, average=average or "macro", sample_weight=w, zero_division=0
            )
        found = evaluate(name, P, Y + 0.0, w, "probabilities")
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15), seed


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_areas_agree_with_scikit_learn(name, weighted, classes):
    judge = pytest.importorskip("sklearn.metrics")
    area = getattr(judge, f"{name}_score")
    for seed in range(7):
        labels, P, weights = case(seed, classes)
        w = weights if weighted else None
        if len(np.unique(labels)) < classes:
            labels[:classes] = np.arange(min(classes, len(labels)))
        # Classes that do not occur have no area.
        parts = [
            area(labels == c, P[:, c], sample_weight=w)
            for c in (range(classes) if classes > 2 else (1,))
            if 0 < (labels == c).sum() < len(labels)
        ]
        expected = np.mean(parts)
        found = evaluate(name, P, one_hot(labels, classes), w, "classes")
        assert found == pytest.approx(expected, rel=1e-12), seed
        if len(np.unique(labels)) == classes > 2 and not (name == "roc_auc" and seed % 3 == 0):
            more = {"multi_class": "ovr"} if name == "roc_auc" else {}
            whole = area(labels, P, sample_weight=w, **more)
            assert found == pytest.approx(whole, rel=1e-12), seed
        for kind in ("probabilities", "sides"):
            Y = (np.median(P) < P) ^ (one_hot(labels, classes) > 0)
            expected = area(Y, P, sample_weight=w)
            assert evaluate(name, P, Y + 0.0, w, kind) == pytest.approx(expected, rel=1e-12), seed


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_an_output_that_no_example_belongs_to_has_no_area(name):
    P = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.1]])
    Y = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert evaluate(name, P, Y, kind="probabilities") == 1.0
    assert math.isnan(evaluate(name, P, 0.0 * Y, kind="probabilities"))
    assert math.isnan(evaluate("roc_auc", P, 0.0 * Y + 1.0, kind="probabilities"))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 6])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_top_k_agrees_with_scikit_learn(k, weighted):
    judge = pytest.importorskip("sklearn.metrics")
    for seed in range(15):
        labels, P, weights = case(seed, 6)
        w = weights if weighted else None
        expected = judge.top_k_accuracy_score(labels, P, k=k, sample_weight=w, labels=np.arange(6))
        for asked in (f"top_{k}_accuracy", fn.TopK(k)):
            found = evaluate(asked, P, one_hot(labels, 6), w, "classes")
            assert found == pytest.approx(expected, rel=1e-12), seed


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_log_loss_agrees_with_scikit_learn(weighted, classes):
    judge = pytest.importorskip("sklearn.metrics")
    for seed in range(12):
        labels, P, weights = case(seed, classes, absent=(1,) if seed % 4 == 1 else ())
        w = weights if weighted else None
        P[0], P[1] = one_hot(0, classes), one_hot(1, classes)
        expected = judge.log_loss(labels, P, sample_weight=w, labels=np.arange(classes))
        found = evaluate("log_loss", P, one_hot(labels, classes), w, "classes")
        assert found == pytest.approx(expected, rel=1e-12), seed
        Y = one_hot(labels, classes)
        parts = [
            judge.log_loss(Y[:, j], P[:, j], sample_weight=w, labels=[0, 1]) for j in range(classes)
        ]
        found = evaluate("log_loss", P, Y, w, "probabilities")
        assert found == pytest.approx(np.mean(parts), rel=1e-12), seed


def test_percentages_of_zero_are_scikit_learn_s():
    judge = pytest.importorskip("sklearn.metrics")
    targets, predictions = np.array([[0.0], [2.0], [-4.0]]), np.array([[1e-3], [1.0], [-5.0]])
    expected = judge.mean_absolute_percentage_error(targets, predictions)
    assert evaluate("mape", predictions, targets) == pytest.approx(expected, rel=1e-12)


def test_records_are_checked_and_have_the_names_that_strings_have():
    for record in (
        fn.F1(),
        fn.F1("macro"),
        fn.Precision("micro"),
        fn.Recall("weighted"),
        fn.TopK(),
    ):
        assert resolve(record, "classes") == resolve(record.name, "classes")
    with pytest.raises(ValueError, match=r"^average must be one of .*; got 'makro'\. Did you mean"):
        fn.F1(average="makro")
    with pytest.raises(ValueError, match=r"^k must be an integer of at least 1; got 0"):
        fn.TopK(0)
    with pytest.raises(TypeError, match=r"'averaging'\. Did you mean 'average'\?"):
        fn.F1(averaging="macro")
    with pytest.raises(TypeError, match=r"an object of that class\?$"):
        resolve([fn.F1], "classes")


@pytest.mark.parametrize(
    ("name", "kind", "outputs", "words"),
    [
        ("f1", "real", 1, "compares classes, with a loss for real numbers"),
        ("top_3_accuracy", "probabilities", 4, "one class of several"),
        ("log_loss", "sides", 1, "needs probabilities"),
        ("f1_binary", "classes", 3, "with 3 outputs. Take one of 'f1_macro'"),
        ("recall_binary", "probabilities", 2, "with 2 outputs"),
    ],
)
def test_metrics_that_do_not_suit_are_refused(name, kind, outputs, words):
    with pytest.raises(ValueError, match=r"^metrics must suit") as caught:
        resolve(name, kind, outputs)
    assert words in str(caught.value)


def test_one_of_two_classes_is_asked_for():
    P, Y = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert evaluate("f1_binary", P, Y, kind="classes") == evaluate("f1", P, Y, kind="classes")
    assert evaluate("precision", P, Y, kind="classes") == 1.0
    assert evaluate("recall", P, Y, kind="classes") == 0.5
