"""`net.diagnose`: networks that are built to be ill, and what it says of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fastnn as fn

BACKENDS = ("native", "reference")
both_backends = pytest.mark.parametrize("backend", BACKENDS)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6))
Y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]


def network(*layers, dtype="float32"):
    return fn.Sequential([*layers, fn.Dense(1)], inputs=6, dtype=dtype)


def said(report, *words):
    """The one finding with all of these words."""
    found = [one for one in report.findings if all(word in one for word in words)]
    assert len(found) == 1, report.findings
    return found[0]


# What ails it.


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_healthy_network_has_nothing_said_of_it(dtype, backend):
    for net in (
        network(fn.Dense(32, "relu"), fn.Dense(32, "relu"), dtype=dtype),
        network(fn.Dense(32, "tanh"), fn.Dense(16, "tanh"), fn.Dense(8, "tanh"), dtype=dtype),
        network(dtype=dtype),
    ):
        report = net.diagnose(X, Y, backend=backend)
        assert report.findings == ()
        assert str(report).endswith("- Nothing is wrong here.")


@both_backends
def test_healthy_classifiers_have_nothing_said_of_them(backend):
    y = np.digitize(Y, [-0.5, 0.5])
    net = fn.Sequential([fn.Dense(32, "relu"), fn.Dense(3, "softmax")], inputs=6)
    for _ in range(2):
        assert net.diagnose(X, y, backend=backend).findings == ()
        net.fit(X, y, epochs=20, backend=backend)
    net = fn.Sequential([fn.Dense(16, "tanh"), fn.Dense(1, "sigmoid")], inputs=6)
    assert net.diagnose(X, y > 1, backend=backend).findings == ()


@both_backends
def test_deep_sigmoids_vanish(backend):
    net = network(*[fn.Dense(10, "sigmoid", initializer="glorot_uniform") for _ in range(8)])
    report = net.diagnose(X, Y, backend=backend)
    finding = said(report, "vanish")
    assert finding.startswith("Gradients vanish: ")
    assert "layer 0" in finding
    assert "relu" in finding, "what to try"
    norms = [layer.error_norm for layer in report.layers]
    assert norms[0] < 1e-3 * norms[-1]
    assert f"{norms[0] / norms[-1]:.1e}" in finding
    assert norms == sorted(norms)


@both_backends
def test_so_deep_that_nothing_is_left_still_vanishes(backend):
    """In float32 the gradient of a hundred sigmoid layers is not small but zero."""
    net = network(*[fn.Dense(10, "sigmoid", initializer="glorot_uniform") for _ in range(100)])
    report = net.diagnose(X, Y, backend=backend)
    assert report.layers[0].error_norm == 0
    assert report.findings[0].startswith("Gradients vanish")
    assert not any("units of layer" in one for one in report.findings), "nothing has died"


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_weights_explode(dtype, backend):
    net = network(*[fn.Dense(10) for _ in range(5)], dtype=dtype)
    for W in net.weights:
        W *= 20
    report = net.diagnose(X, Y, backend=backend)
    finding = said(report, "explode")
    assert finding.startswith("Gradients explode: ")
    assert "layer 0" in finding
    assert "initializer" in finding, "what to try"
    norms = [layer.error_norm for layer in report.layers]
    assert norms[0] > 1e3 * norms[-1]
    assert f"{norms[0] / norms[-1]:.1e}" in finding


@both_backends
def test_an_explosion_below_a_narrow_place_is_found(backend):
    """All weights alike: the last layer's cancel out, and from there on the gradient grows."""
    alike = [fn.Dense(10, initializer=2.0) for _ in range(5)]
    net = fn.Sequential([*alike, fn.Dense(1, initializer="glorot_uniform")], inputs=6)
    report = net.diagnose(X, Y, backend=backend)
    norms = [layer.error_norm for layer in report.layers]
    assert norms[0] < 1e3 * norms[-1]
    assert norms[0] > 5e3 * norms[3]
    assert "layer 0" in said(report, "explode")


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_explosion_beyond_all_numbers_is_a_finding_too(dtype, backend):
    """Just then a report is wanted, and not an error."""
    large = {"float32": 1e10, "float64": 1e80}[dtype]
    net = network(*[fn.Dense(10, initializer=large) for _ in range(6)], dtype=dtype)
    report = net.diagnose(X, Y, backend=backend)
    assert not np.isfinite(report.loss)
    finding = said(report, "explode")
    assert "not finite" in finding
    assert "layer 3" in finding, "where it begins"
    assert "Try" in finding
    assert len(str(report).splitlines()) >= 9


@both_backends
def test_an_update_that_overflows_is_a_finding_too(backend):
    net = network(fn.Dense(8, "tanh"))
    report = net.diagnose(X, Y, optimizer=fn.SGD(1e39), backend=backend)
    assert np.isfinite(report.loss)
    assert any("learning_rate" in one for one in report.findings)


@both_backends
def test_a_loss_that_overflows_is_a_finding_too(backend):
    report = network(fn.Dense(8, "tanh")).diagnose(X, 1e30 * Y, backend=backend)
    assert report.loss == np.inf
    assert any("targets" in one for one in report.findings)


@both_backends
def test_relu_with_negative_biases_dies(backend):
    net = network(fn.Dense(8, "relu"), fn.Dense(8, "relu"))
    net.biases[1][:] = -100
    report = net.diagnose(X, Y, backend=backend)
    assert [layer.dead for layer in report.layers] == [0.0, 1.0, None]
    finding = said(report, "100% of the units of layer 1 are dead")
    assert "Try" in finding
    finding = said(report, "Gradients vanish", "layer 1")
    assert "zero" in finding
    assert report.layers[0].error_norm == 0


@both_backends
def test_half_of_the_units_dead_is_worth_a_word_and_a_few_are_not(backend):
    for count, told in ((2, False), (4, True), (6, True)):
        net = network(fn.Dense(8, "relu"))
        net.biases[0][:] = 0.5
        net.biases[0][:count] = -100
        report = net.diagnose(X, Y, backend=backend)
        assert report.layers[0].dead == count / 8
        assert any("are dead" in one for one in report.findings) == told


@both_backends
@pytest.mark.parametrize(
    ("activation", "ends"), [("tanh", (-0.98, 0.98)), ("sigmoid", (0.01, 0.99))]
)
def test_large_weights_saturate(activation, ends, backend):
    net = network(fn.Dense(8, activation), dtype="float64")
    net.weights[0][:] *= 100
    report = net.diagnose(X, Y, backend=backend)
    A = net.hidden(X)
    share = ((ends[0] > A) | (ends[1] < A)).mean()
    assert share > 0.9
    assert report.layers[0].saturated == pytest.approx(share, abs=1e-12)
    finding = said(report, "saturated")
    assert finding.startswith(f"{share:.0%} of the activations of layer 0 are saturated")
    assert activation in finding
    assert "Try" in finding
    assert report.layers[1].saturated is None


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_sure_units_of_a_network_that_learnt_well_are_no_trouble(activation):
    classes = np.digitize(X[:, 0], [-0.5, 0.5])
    net = fn.Sequential([fn.Dense(16, activation), fn.Dense(3, "softmax")], inputs=6, rng=0)
    net.fit(X, classes, epochs=600, optimizer=fn.Adam(0.2), progress=False)
    report = net.diagnose(X, classes)
    assert report.layers[0].saturated > 0.5
    assert report.findings == ()
    y = np.random.default_rng(1).permutation(classes)
    assert any("saturated" in one for one in net.diagnose(X, y).findings)


def test_a_sure_last_layer_is_not_called_saturated():
    net = fn.Sequential([fn.Dense(1, "sigmoid")], inputs=6)
    net.weights[0][:] = 100
    report = net.diagnose(X, X.sum(axis=1) > 0)
    assert report.layers[0].saturated > 0.9
    assert not any("saturated" in one for one in report.findings)


@both_backends
def test_steps_too_large_and_too_small_are_told(backend):
    net = network(fn.Dense(8, "tanh"))
    large = net.diagnose(X, Y, optimizer=fn.Adam(10.0), backend=backend)
    assert "smaller learning_rate" in said(large, "One step changes the weights")
    small = net.diagnose(X, Y, optimizer=fn.SGD(1e-9), backend=backend)
    assert "larger learning_rate" in said(small, "One step changes no layer's weights")


def test_examples_that_are_met_exactly_are_told():
    net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=6)
    report = net.diagnose(X, np.zeros(200))
    assert report.loss == 0
    said(report, "met exactly")


@both_backends
def test_weights_of_zero_stop_every_gradient_but_the_last(backend):
    net = network(fn.Dense(8, "tanh", initializer="zeros"), fn.Dense(8, "tanh"))
    net.weights[2][:] = 0
    report = net.diagnose(X, Y, backend=backend)
    assert "layer 1" in said(report, "Gradients vanish")
    assert not any("learning_rate" in one for one in report.findings), "no rate helps"
    assert report.layers[0].update_ratio is None, "there is no weight to compare with"
    assert str(report)


# The numbers.


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_are_what_they_are_called(dtype, backend):
    eta = 0.05
    net = network(fn.Dense(7, "relu"), fn.Dense(5, "tanh", bias=False), dtype=dtype)
    t = net.trace(X, Y)
    report = net.diagnose(X, Y, optimizer=fn.SGD(eta), backend=backend)
    rel = {"float32": 1e-4, "float64": 1e-11}[dtype]
    assert report.loss == pytest.approx(t.loss, rel=rel)
    assert [layer.place for layer in report.layers] == [0, 1, 2]
    assert [layer.units for layer in report.layers] == [7, 5, 1]
    assert [layer.activation for layer in report.layers] == ["relu", "tanh", "identity"]
    for place, layer in enumerate(report.layers):
        A = t.A[place]
        assert layer.mean == pytest.approx(A.mean(), rel=rel, abs=rel)
        assert layer.spread == pytest.approx(A.std(), rel=rel)
        parts = [part for part in (t.dW[place], t.db[place]) if part is not None]
        norm = np.sqrt(sum((part.astype(float) ** 2).sum() for part in parts))
        assert layer.gradient_norm == pytest.approx(norm, rel=rel)
        assert layer.error_norm == pytest.approx(np.linalg.norm(t.dZ[place]), rel=rel)
        # A step of plain SGD is eta times the gradient.
        ratio = eta * np.linalg.norm(t.dW[place]) / np.linalg.norm(net.weights[place])
        assert layer.update_ratio == pytest.approx(ratio, rel=10 * rel)
    assert report.layers[0].dead == (t.A[0] == 0).all(axis=0).mean()
    assert [layer.dead is None for layer in report.layers] == [False, True, True]
    assert [layer.saturated is None for layer in report.layers] == [True, False, True]


@both_backends
@pytest.mark.parametrize("optimizer", [fn.Adam(0.01), fn.SGD(0.1, momentum=0.9)])
def test_the_step_is_the_optimizer_s_first_one_whatever_was_trained_before(optimizer, backend):
    net = network(fn.Dense(7, "relu"))
    for _ in range(5):
        net.train_on_batch(X, Y, optimizer=optimizer)
    fresh = network(fn.Dense(7, "relu"))
    fresh.parameters[:] = net.parameters
    assert net.diagnose(X, Y, optimizer=optimizer, backend=backend) == fresh.diagnose(
        X, Y, optimizer=optimizer, backend=backend
    )


def test_both_paths_report_the_same():
    net = network(fn.Dense(7, "relu"), fn.Dense(5, "sigmoid"), dtype="float64")
    reports = [str(net.diagnose(X, Y, backend=backend)) for backend in BACKENDS]
    assert reports[0] == reports[1]


def test_the_regularisation_is_no_part_of_the_reported_loss():
    net = network(fn.Dense(7, "relu", l2=10.0), dtype="float64")
    assert net.diagnose(X, Y).loss == pytest.approx(net.evaluate(X, Y)["loss"], rel=1e-12)


# Nothing is changed.


@both_backends
def test_neither_network_nor_training_state_is_changed(backend):
    net, twin = (network(fn.Dense(7, "relu")) for _ in range(2))
    for each in (net, twin):
        each.fit(X, Y, epochs=1)
        each.train_on_batch(X, Y)
    before = pickle.dumps(net)
    for optimizer in (fn.Adam(), fn.SGD(0.1, 0.9)):
        net.diagnose(X, Y, optimizer=optimizer, backend=backend)
        assert pickle.dumps(net) == before
    for each in (net, twin):
        each.train_on_batch(X, Y)
        each.fit(X, Y, epochs=1, batch_size=16)
    np.testing.assert_array_equal(net.parameters, twin.parameters)


def test_a_network_may_be_diagnosed_while_it_is_fitted():
    net, reports = network(fn.Dense(7, "relu")), []
    net.fit(X, Y, epochs=3, callbacks=lambda run: reports.append(run.network.diagnose(X, Y)))
    assert len(reports) == 3
    assert reports[-1].loss == pytest.approx(net.evaluate(X, Y)["loss"], rel=1e-6)


# In words.


def test_the_report_is_a_tidy_table():
    net = network(fn.Dense(128, "relu"), fn.Dense(5, "sigmoid"))
    net.biases[0][:64] = -100
    text = str(net.diagnose(X, Y))
    first, head, *rows = text.split("\n")
    assert first.startswith("loss ")
    assert head.split() == ["layer", "units", "activation", "mean", "spread", "dead", "saturated",
                            "|grad|", "|dZ|", "update/weight"]  # fmt: skip
    table, findings = rows[:3], rows[3:]
    assert {len(line) for line in (head, *table)} == {len(head)}, "columns line up"
    assert len(head) <= 100
    assert [line.split()[0] for line in table] == ["0", "1", "2"]
    # Every column ends where its heading ends.
    ends = [
        place for place, mark in enumerate(head + " ") if mark == " " and head[place - 1] != " "
    ]
    for line in table:
        assert all(line[end - 1] != " " for end in ends)
        assert all(line[end : end + 1] in ("", " ") for end in ends)
    assert table[0].split()[5] == "50%"
    assert [line.split()[5] for line in table[1:]] == ["-", "-"]
    assert findings
    assert all(line.startswith("- ") for line in findings)
    assert text == text.rstrip()
    assert len(findings) == len(net.diagnose(X, Y).findings)


def test_a_report_may_be_kept():
    report = network(fn.Dense(7, "relu")).diagnose(X, Y)
    assert pickle.loads(pickle.dumps(report)) == report
    assert isinstance(report, fn.Diagnosis)
    with pytest.raises(AttributeError):
        report.loss = 0.0
    with pytest.raises(AttributeError):
        report.layers[0].mean = 0.0


# What users meet most.

R = np.random.default_rng(0)
A3 = R.normal(size=(500, 3))
B3 = A3.sum(axis=1)
DAY = 1.6e9 + 86_400 * R.random((500, 1))

# Features, targets, what the finding names, and what it says to do.
TROUBLES = {
    "targets near 5e6": (A3, 1e6 * (5 + B3), ("targets", "y has the mean 4.9", "y = (y - ")),
    "targets 1e6 wide": (A3, 1e6 * B3, ("targets", "root mean square of 1.", "y = (y - ")),
    "targets + 1e5": (A3, B3 + 1e5, ("far from 0", "y has the mean 1e+05", "y = (y - ")),
    "features x 1e4": (A3 * 1e4, B3, ("All 3 columns of X", "e+04", "X = (X - ")),
    "one feature x 1e5": (A3 * [1, 1e5, 1], B3, ("Column 1 of X", "X[:, 1]", "X = (X - ")),
    "one feature small": (A3 * [1, 1, 1e-5], B3, ("Column 2 of X", "X[:, 2]", "X = (X - ")),
    "scales that differ": (A3 * [0.004, 1, 20], B3, ("differ in scale", "X[:, 2]", "X = (X - ")),
    "features near -1000": (A3 - 1000, B3, ("All 3 columns of X", "the mean -1000", "X = (X - ")),
    "time stamps": (np.hstack([A3, DAY]), B3, ("float32 can tell", "steps of 128", "X - X.mean")),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::fastnn.FitWarning")
@pytest.mark.parametrize("epochs", [0, 5])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_scales_are_told_by_column_with_what_to_do(trouble, epochs):
    features, targets, words = TROUBLES[trouble]
    net = fn.Sequential([fn.Dense(16, "relu"), fn.Dense(1)], inputs=features.shape[1])
    if epochs:
        net.fit(features, targets, epochs=epochs)
    said(net.diagnose(features, targets), *words)


@both_backends
@pytest.mark.parametrize("first", [0.1, 0.01, "constant", "zeros", "rank 1", "one input"])
@pytest.mark.parametrize("epochs", [0, 20])
def test_units_that_are_all_alike_are_told(first, epochs, backend):
    features = A3[:, :1] if first == "one input" else A3
    start = {"rank 1": "auto", "one input": 0.1}.get(first, first)
    layers = [fn.Dense(16, "relu", initializer=start), fn.Dense(1)]
    net = fn.Sequential(layers, inputs=features.shape[1])
    if first == "rank 1":
        net.weights[0][:] = np.outer([1, 2, -1], np.linspace(-1, 1, 16))
    if epochs and first not in ("zeros", "rank 1", "one input"):
        net.fit(features, B3, epochs=1, backend=backend)
    assert "initializer='auto'" in said(net.diagnose(features, B3), "All units of layer 0")


@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_units_of_few_inputs_are_not_called_alike(inputs, activation):
    net = fn.Sequential([fn.Dense(8, activation), fn.Dense(8, activation), fn.Dense(1)])
    net.fit(A3[:, :inputs], B3, epochs=20)
    assert not any("alike" in one or "All units" in one for one in net.diagnose(
        A3[:, :inputs], B3).findings)  # fmt: skip


def test_a_loss_no_better_than_a_constant_is_told():
    noise = np.random.default_rng(1).normal(size=(500, 3))
    net = fn.Sequential([fn.Dense(1)], inputs=3)
    net.fit(noise, B3, epochs=1)
    finding = said(net.diagnose(noise, B3), "no better than that of predicting the mean of y")
    assert f"{B3.var():.4g}" in finding
    labels = np.random.default_rng(2).choice(3, 500, p=[0.2, 0.7, 0.1])
    net = fn.Sequential([fn.Dense(3, "softmax")], inputs=3)
    assert net.diagnose(noise, labels).findings == (), "nothing was trained yet"
    net.fit(noise, labels, epochs=1)
    said(net.diagnose(noise, labels), "share of each class", "class, 1, has")


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("epochs", [0, 30])
def test_no_false_alarm_at_adam_with_a_tenth(activation, epochs):
    net = fn.Sequential([fn.Dense(16, activation), fn.Dense(16, activation), fn.Dense(1)], 3)
    if epochs:
        net.fit(A3, B3, epochs=epochs, optimizer=fn.Adam(0.01))
    assert net.diagnose(A3, B3, optimizer=fn.Adam(0.1)).findings == ()


def test_nothing_is_advised_that_is_set_already():
    cases = [
        fn.Sequential([fn.Dense(16, "relu"), fn.Dense(1)], 3, "float64"),
        fn.Sequential([fn.Dense(16, "relu"), fn.Dense(16, "relu"), fn.Dense(1)], 3, "float64"),
    ]
    for net in cases:
        net.biases[0][:12] = -100
        for W in net.weights[1:]:
            W *= 1e-30
        told = " ".join(net.diagnose(A3, B3).findings)
        assert "dead" in told
        for set_already in ("he_uniform", "initializer='auto'", "float64", "relu in place"):
            assert set_already not in told
    net = fn.Sequential([fn.Dense(16, "relu", initializer="zeros"), fn.Dense(1)], 3)
    assert "initializer='auto'" in " ".join(net.diagnose(A3, B3).findings)
