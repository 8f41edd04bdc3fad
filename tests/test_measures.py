"""What the engine measures at the end of epochs: metrics, validation, and the rule to stop by."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import Dense, EarlyStopping, Sequential, metrics
from fastnn.data import Data
from fastnn.fitting.tallies import Counting
from fastnn.gate import Targets
from fastnn.losses import LOSSES, resolve_loss

# As many as the engine measures at once, in two groups.
HITS = (
    "accuracy", "balanced_accuracy", "precision_macro", "recall_weighted", "f1", "f1_micro", "r2",
)  # fmt: skip
ERRORS = (
    "mean_squared_error", "root_mean_squared_error", "mean_absolute_error",
    "mean_absolute_percentage_error", "r2",
)  # fmt: skip
NAMES = (*ERRORS, "accuracy", "f1")
RANKS = ("log_loss", "top_1_accuracy", "top_2_accuracy", "accuracy", "mape", "precision", "recall")
rng = np.random.default_rng(3)
N, HELD = 53, 19
X, V = rng.normal(size=(N, 5)), rng.normal(size=(HELD, 5))
WEIGHTS = rng.integers(0, 4, N + HELD) / 3.0

# Last activation, outputs, loss, targets of the training and the validation examples, metrics.
CASES = {
    "real": ("identity", 1, "mse", rng.normal(size=(N + HELD, 1)), ERRORS),
    "several": ("tanh", 3, "mean_absolute_error", rng.normal(size=(N + HELD, 3)), ERRORS),
    "a flat target": ("identity", 2, "huber", np.ones((N + HELD, 2)), ERRORS),
    "counts": ("exp", 2, "poisson", rng.integers(0, 5, (N + HELD, 2)), ERRORS),
    "means": ("identity", 4, "gaussian_nll", rng.normal(size=(N + HELD, 2)), ERRORS),
    "classes": ("softmax", 3, "cross_entropy", rng.integers(0, 3, N + HELD), NAMES),
    "many classes": ("softmax", 37, "cross_entropy", rng.integers(0, 37, N + HELD), NAMES),
    "rows": ("softmax", 3, "cross_entropy", rng.dirichlet(np.ones(3), N + HELD), NAMES),
    "binary": ("sigmoid", 1, "binary_cross_entropy", rng.integers(0, 2, N + HELD), NAMES),
    "labels": ("sigmoid", 3, "binary_cross_entropy", rng.integers(0, 2, (N + HELD, 3)), NAMES),
    "sides": ("identity", 1, "hinge", rng.integers(0, 2, N + HELD), NAMES),
    "sides of classes": ("identity", 3, "hinge", rng.integers(0, 3, N + HELD), NAMES),
    "hits of classes": ("softmax", 3, "cross_entropy", rng.integers(0, 3, N + HELD), HITS),
    "hits of two": ("softmax", 2, "cross_entropy", rng.integers(0, 2, N + HELD), HITS),
    "hits of many": ("softmax", 37, "cross_entropy", rng.integers(0, 9, N + HELD), HITS),
    "hits of one output": (
        "sigmoid", 1, "binary_cross_entropy", rng.integers(0, 2, N + HELD), HITS
    ),
    "hits of labels": (
        "sigmoid", 3, "binary_cross_entropy", rng.integers(0, 2, (N + HELD, 3)), HITS
    ),
    "hits of one label": ("sigmoid", 2, "binary_cross_entropy", np.eye(2)[[1] * (N + HELD)], HITS),
    "hits of a side": ("identity", 1, "hinge", rng.integers(0, 2, N + HELD), HITS),
    "hits of sides": ("identity", 3, "hinge", rng.integers(0, 3, N + HELD), HITS),
    "ranks": ("softmax", 3, "cross_entropy", rng.integers(0, 3, N + HELD), RANKS),
    "ranks of many": ("softmax", 37, "cross_entropy", rng.integers(0, 37, N + HELD), RANKS),
    "ranks of rows": ("softmax", 3, "cross_entropy", rng.dirichlet(np.ones(3), N + HELD), RANKS),
    "logs": (
        "sigmoid", 3, "binary_cross_entropy", rng.uniform(size=(N + HELD, 3)), ("log_loss", "mae")
    ),
}  # fmt: skip


def network(last, outputs, dtype="float64"):
    layers = [Dense(11, "tanh"), fn.Dropout(0.0), Dense(outputs, last)]
    return Sequential(layers, inputs=5, rng=4, dtype=dtype)


def counted(net, loss, names):
    """Whether the engine measures these by itself."""
    row = resolve_loss(loss, net.layers[-1].activation)
    targets = row.width(net.outputs)
    answers = Targets(np.zeros(0, np.int64), np.eye(targets)[np.arange(6) % targets])
    data = Data(np.zeros((6, 5)), answers, np.zeros(0))
    rows = metrics.resolve(names, row.targets, targets)
    return Counting.of(rows, row, net.layout, data, None) is not None


def close(dtype):
    return {"rel": 1e-9 if dtype == "float64" else 2e-4, "nan_ok": True, "abs": 1e-6}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_engine_measures_what_the_table_of_metrics_defines(case, weighted, dtype):
    last, outputs, loss, y, names = CASES[case]
    net = network(last, outputs, dtype)
    assert counted(net, loss, names)
    w, v = (WEIGHTS[:N], WEIGHTS[N:]) if weighted else (None, None)
    # No step changes a weight.
    still = fn.SGD(learning_rate=1e-30)
    before = net.parameters.copy()
    history = net.fit(
        X, y[:N], epochs=2, batch_size=7, optimizer=still, loss=loss, metrics=names,
        sample_weight=w, X_val=V, y_val=y[N:], sample_weight_val=v, progress=False,
    )  # fmt: skip
    assert net.parameters == pytest.approx(before, abs=1e-25)
    known = net.evaluate(X, y[:N], loss=loss, metrics=names, sample_weight=w)
    held = net.evaluate(V, y[N:], loss=loss, metrics=names, sample_weight=v)
    for name, value in known.items():
        assert history[name] == pytest.approx([value] * 2, **close(dtype)), name
    for name, value in held.items():
        assert history[f"val_{name}"] == pytest.approx([value] * 2, **close(dtype)), name


@pytest.mark.parametrize("case", ["classes", "labels", "several"])
def test_both_paths_record_the_same_of_a_fit(case):
    last, outputs, loss, y, names = CASES[case]
    found = {
        path: network(last, outputs).fit(
            X, y[:N], epochs=3, batch_size=9, loss=loss, metrics=names, X_val=V, y_val=y[N:],
            backend=path, progress=False,
        )
        for path in ("native", "reference")
    }  # fmt: skip
    assert list(found["native"]) == list(found["reference"])
    for name, values in found["reference"].items():
        assert found["native"][name] == pytest.approx(values, rel=1e-7), name


@pytest.mark.parametrize("batch", [7, 53, 3000])
def test_no_number_of_threads_shows_in_what_is_measured(batch):
    many = np.resize(X, (3000, 5)) + np.arange(3000)[:, None] % 7
    labels = np.arange(3000) % 3
    found = []
    for threads in (1, 2, 3):
        net = network("softmax", 3)
        history = net.fit(
            many, labels, epochs=2, batch_size=batch, metrics=NAMES, X_val=many[:777],
            y_val=labels[:777], threads=threads, progress=False,
        )  # fmt: skip
        found.append((history.to_dict(), net.parameters.tobytes()))
    assert found[0] == found[1] == found[2]


def test_examples_that_dropout_meets_in_training_are_validated_whole():
    _, _, _, y, _ = CASES["classes"]
    layers = [fn.Dropout(0.3), Dense(11, "relu"), fn.Dropout(0.5), Dense(3, "softmax")]
    net = Sequential(layers, inputs=5, rng=4, dtype="float64")
    history = net.fit(X, y[:N], epochs=2, metrics=NAMES, X_val=V, y_val=y[N:], progress=False)
    for name, value in net.evaluate(V, y[N:], metrics=NAMES).items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-9), name


def test_accuracy_of_numbers_that_are_not_finite_is_no_number():
    net = network("softmax", 3, "float32")
    far = V.copy()
    far[0] = 3e38
    net.set_weights([W * 3.0 for W in net.get_weights()])
    labels = rng.integers(0, 3, N + HELD)
    history = net.fit(
        X, labels[:N], epochs=1, metrics="accuracy", X_val=far, y_val=labels[N:], progress=False,
        optimizer=fn.SGD(learning_rate=1e-30),
    )  # fmt: skip
    shown = net.evaluate(far, labels[N:], metrics="accuracy")["accuracy"]
    assert history["val_accuracy"] == pytest.approx([shown], nan_ok=True)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [3, 37])
@pytest.mark.parametrize("held", [1300, 1999])
def test_validation_examples_may_take_several_chunks(held, outputs, dtype, threads):
    far, labels = rng.normal(size=(held, 5)), rng.integers(0, outputs, held)
    net = network("softmax", outputs, dtype)
    history = net.fit(
        X, labels[:N], epochs=1, metrics=NAMES, X_val=far, y_val=labels, threads=threads,
        progress=False,
    )  # fmt: skip
    for name, value in net.evaluate(far, labels, metrics=NAMES).items():
        assert history[f"val_{name}"] == pytest.approx([value], **close(dtype)), name


def test_an_example_of_no_weight_is_of_no_class():
    weights, y = np.ones(N), np.where(np.arange(N) < 3, 2, np.arange(N) % 2)
    weights[:3] = 0.0
    net = network("softmax", 3)
    history = net.fit(
        X, y, epochs=1, optimizer=fn.SGD(1e-30), metrics=HITS, sample_weight=weights,
        progress=False,
    )  # fmt: skip
    for name, value in net.evaluate(X, y, metrics=HITS, sample_weight=weights).items():
        assert history[name] == pytest.approx([value], rel=1e-12), name


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_what_the_engine_cannot_measure_is_measured_beside_the_rest(metric):
    _, _, _, y, _ = CASES["classes"]
    net, plain = network("softmax", 3), network("softmax", 3)
    asked = {"X_val": V, "y_val": y[N:], "epochs": 3, "progress": False}
    history = net.fit(X, y[:N], metrics=[metric, "f1", fn.TopK(2)], **asked)
    other = plain.fit(X, y[:N], metrics=["f1", "top_2_accuracy"], **asked)
    assert (net.parameters == plain.parameters).all()
    assert not counted(net, "cross_entropy", [metric])
    for name, values in other.items():
        assert history[name] == pytest.approx(values, rel=1e-12), name
    held = net.evaluate(V, y[N:], metrics=metric)[metric]
    assert history[f"val_{metric}"][-1] == pytest.approx(held, rel=1e-12)


def test_more_metrics_than_the_engine_has_room_for_are_measured_all_the_same():
    _, _, _, y, _ = CASES["classes"]
    names = [*HITS, "mse"]
    net = network("softmax", 3)
    assert counted(net, "cross_entropy", names[:-1])
    assert not counted(net, "cross_entropy", names)
    history = net.fit(X, y[:N], metrics=names, epochs=2, progress=False, validation_data=(V, y[N:]))
    for name, value in net.evaluate(V, y[N:], metrics=names).items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("case", CASES)
def test_measuring_changes_no_weight(case):
    last, outputs, loss, y, names = CASES[case]
    plain, measured = network(last, outputs), network(last, outputs)
    plain.fit(X, y[:N], epochs=3, batch_size=8, loss=loss, progress=False)
    measured.fit(
        X, y[:N], epochs=3, batch_size=8, loss=loss, metrics=names, X_val=V, y_val=y[N:],
        progress=False,
    )  # fmt: skip
    assert (plain.parameters == measured.parameters).all()


class ByHand(EarlyStopping):
    """The same rule, in a callback that looks at every epoch."""


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "loss", "r2"])
@pytest.mark.parametrize(("patience", "delta"), [(2, 0.0), (3, 0.01), (100, 0.0)])
def test_the_engine_stops_where_the_callback_does(monitor, patience, delta, restore):
    _, _, _, y, _ = CASES["classes"]
    found = []
    for kind in (EarlyStopping, ByHand):
        net, rule = network("softmax", 3), kind(monitor, patience, delta, restore_best=restore)
        history = net.fit(
            X, y[:N], epochs=40, batch_size=16, metrics=["accuracy", "r2"], X_val=V, y_val=y[N:],
            callbacks=rule, optimizer=fn.Adam(learning_rate=0.05), progress=False,
        )  # fmt: skip
        found.append(
            (history.to_dict(), history.stopped, history.best_epoch, net.parameters.tobytes())
        )
    assert found[0] == found[1]


def test_a_fit_that_stops_gives_the_next_one_the_same_orders():
    _, _, _, y, _ = CASES["classes"]
    found = []
    for kind in (EarlyStopping, ByHand):
        net = network("softmax", 3)
        for _ in range(2):
            history = net.fit(
                X, y[:N], epochs=60, batch_size=16, X_val=V, y_val=y[N:],
                callbacks=kind(patience=2), optimizer=fn.Adam(learning_rate=0.05), progress=False,
            )  # fmt: skip
        found.append((history.to_dict(), net.parameters.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("loss", [row for row in LOSSES.values() if row.outputs == 1])
def test_the_engine_measures_every_metric_of_the_table(loss):
    known = fn.Sequential([Dense(2, loss.activation or "identity")], inputs=5, rng=0)
    answers = Targets(np.zeros(0, np.int64), np.eye(2)[X[:, 0].astype(int) % 2])
    data = Data(X, answers, X[:0, 0])
    names = NAMES if loss.targets in ("classes", "probabilities", "sides") else ERRORS
    rows = metrics.resolve(names, loss.targets)
    counting = Counting.of(rows, loss, known.layout, data, None)
    assert counting is not None
    assert set(counting.places) == {"loss", *names}
