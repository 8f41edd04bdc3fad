"""Early stopping of the estimators: what the engine scores is what a call of the judge scores."""

import numpy as np
import pytest

import fastnn as fn
from fastnn.estimators.judge import Judge
from fastnn.fitting.steppers import NativeStepper

rng = np.random.default_rng(11)
N = 150
X = rng.normal(size=(N, 6))
_line = X @ rng.normal(size=6) + 0.1 * rng.normal(size=N)
TARGETS = {
    "several classes": (fn.MLPClassifier, rng.integers(0, 4, N)),
    "many classes": (fn.MLPClassifier, rng.permutation(np.arange(N) % 37)),
    "two classes": (fn.MLPClassifier, (_line > 0).astype(int)),
    "labels": (fn.MLPClassifier, rng.integers(0, 2, (N, 3))),
    "a number": (fn.MLPRegressor, _line),
    "numbers": (fn.MLPRegressor, np.c_[_line, rng.normal(size=N)]),
    "a flat number": (fn.MLPRegressor, np.c_[_line, np.ones(N)]),
}
SETTINGS = {
    "as it is": {},
    "the loss": {"monitor": "loss"},
    "sgd": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.05},
    "dropout": {"dropout": 0.2, "batch_size": 17},
    "again": {"warm_start": True, "max_iter": 6},
    "far off": {"solver": "sgd", "learning_rate_init": 1e3},
    "two threads": {"n_threads": 2},
}


def outcome(name, setting, dtype):
    kind, y = TARGETS[name]
    settings = {
        "hidden_layer_sizes": (13, 9), "max_iter": 40, "random_state": 3, "n_iter_no_change": 4,
        "early_stopping": True, "validation_fraction": 0.2,
    } | SETTINGS[setting]  # fmt: skip
    one = kind(**settings)
    with np.errstate(all="ignore"):
        for _ in range(2 if setting == "again" else 1):
            one.fit(X.astype(dtype), y)
    return one


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", TARGETS)
def test_the_engine_scores_as_a_call_does(name, setting, dtype, monkeypatch):
    inside = outcome(name, setting, dtype)
    monkeypatch.setattr(Judge, "counting", lambda *_: None)
    outside = outcome(name, setting, dtype)
    for here, there in zip(inside.coefs_, outside.coefs_, strict=True):
        assert (here == there).all()
    assert inside.n_iter_ == outside.n_iter_
    assert inside.validation_loss_curve_ == pytest.approx(
        outside.validation_loss_curve_, rel=0, abs=0, nan_ok=True
    )
    # r2 is a sum, taken in another order.
    exact = isinstance(inside, fn.MLPClassifier) or setting == "the loss"
    close = {"rel": 0, "abs": 0} if exact else {"rel": 1e-12, "abs": 1e-13}
    for of in ("validation_scores_", "best_validation_score_"):
        assert getattr(inside, of) == pytest.approx(getattr(outside, of), **close, nan_ok=True), of


@pytest.mark.filterwarnings("ignore")
def test_the_engine_scores_where_it_can(monkeypatch):
    asked = []

    def scored(judge):
        asked.append(judge)
        return 0.5, 0.5

    monkeypatch.setattr(Judge, "__call__", scored)
    for name, (kind, y) in TARGETS.items():
        settings = {"early_stopping": True, "max_iter": 2, "random_state": 0}
        kind(**settings).fit(X, y)
        assert not asked, name
    fn.MLPClassifier(**settings, monitor="roc_auc").fit(X, TARGETS["two classes"][1])
    fn.MLPRegressor(**settings).fit(X, _line, np.ones(N) + np.arange(N) % 2)
    assert len(asked) == 4


def test_callbacks_see_the_weights_that_were_scored():
    X_val, y_val = X[:40], TARGETS["two classes"][1][:40]
    seen = []

    def look(run):
        seen.append((run.logs["val_accuracy"], one.score(X_val, y_val)))

    one = fn.MLPClassifier(
        early_stopping=True, callbacks=look, max_iter=5, n_iter_no_change=9, random_state=0
    )
    with pytest.warns(Warning, match="Maximum iterations"):
        one.fit(X[40:], TARGETS["two classes"][1][40:], X_val=X_val, y_val=y_val)
    assert len(seen) == 5
    assert all(logged == scored for logged, scored in seen)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("monitor", [None, "loss"])
@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_an_interruption_at_the_end_of_the_best_epoch_leaves_weights_with_their_score(
    epoch, monitor, monkeypatch, tmp_path
):
    run, ends = NativeStepper.run, []

    def interrupted(stepper, first, last, *more):
        done = run(stepper, first, last, *more)
        if last * 32 >= N:
            ends.append(last)
            if len(ends) == epoch:
                raise KeyboardInterrupt
        return done

    monkeypatch.setattr(NativeStepper, "run", interrupted)
    one = fn.MLPRegressor(
        hidden_layer_sizes=9, early_stopping=True, batch_size=32, random_state=0, monitor=monitor,
        solver="sgd", learning_rate_init=0.01,
    )  # fmt: skip
    targets = X @ np.arange(1.0, 1 + X.shape[1])
    held, wanted = X[:40] + 0.1, targets[:40]
    one.fit(X, targets, X_val=held, y_val=wanted)
    assert one.n_iter_ == len(one.validation_scores_) == epoch - 1
    if monitor is None:
        assert one.best_validation_score_ == pytest.approx(one.score(held, wanted))
    else:
        error = one.predict(held) - wanted
        assert one.best_validation_score_ == pytest.approx(np.square(error).mean() / 2)
    one.save(tmp_path / "kept")
    again = fn.load_estimator(tmp_path / "kept")
    assert again.best_validation_score_ == one.best_validation_score_
