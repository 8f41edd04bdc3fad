"""The tables: every row complete, known to kernels and reference, and what its words say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from cases import DTYPES, FORMS

import fastnn as fn
from fastnn import reference
from fastnn.activations import ACTIVATIONS, Activation
from fastnn.initializers import INITIALIZERS, draw_weights
from fastnn.kernels import codes, records
from fastnn.losses import LOSSES, resolve_loss
from fastnn.names import lookup
from fastnn.optimizers import OPTIMIZERS, OptimizerRow, hyperparameters, row_of

TABLES = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initializer": INITIALIZERS,
}
CODED = [name for name in TABLES if name != "initializer"]
ROWS = [(table, name) for table, rows in TABLES.items() for name in rows]

NUMBERS = np.linspace(-60.0, 60.0, 481)


# Every table.


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_row_stands_under_its_name_and_cannot_be_changed(table, name):
    row = TABLES[table][name]
    assert row.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.name = "other"


@pytest.mark.parametrize("table", CODED)
def test_codes_are_unique_and_those_of_the_kernels(table):
    rows = TABLES[table]
    assert len({row.code for row in rows.values()}) == len(rows)
    for name, row in rows.items():
        assert row.code == getattr(codes, name.upper())


def test_the_code_for_no_loss_is_nobody_s():
    assert codes.NO_LOSS not in {row.code for row in LOSSES.values()}


@pytest.mark.parametrize("table", TABLES)
def test_aliases_are_unique_and_lead_to_their_row(table):
    rows = TABLES[table]
    aliases = [alias for row in rows.values() for alias in getattr(row, "aliases", ())]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & set(rows)
    for row in rows.values():
        for alias in getattr(row, "aliases", ()):
            assert lookup(rows, alias, table) is row


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ("activation", reference.ACTIVATIONS),
        ("loss", reference.LOSSES),
        ("optimizer", reference.OPTIMIZERS),
    ],
)
def test_the_reference_knows_the_same_names(table, known):
    assert list(known) == list(TABLES[table])


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, name in ROWS if table in ("activation", "loss")]
)
def test_formula_and_source_are_given(table, name):
    row = TABLES[table][name]
    assert row.formula.strip()
    assert any(letter.isdigit() for letter in row.source)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initializer_names_its_source(name):
    assert INITIALIZERS[name].source.strip()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_s_record_names_its_source(name):
    assert "References\n" in OPTIMIZERS[name].record.__doc__


# Activations.


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_s_defaults_are_rows_of_the_other_tables(name):
    row = ACTIVATIONS[name]
    assert row.derivative_from in ("A", "Z")
    assert row.initializer in (*INITIALIZERS, "isometry", "pairs")
    assert row.loss in LOSSES
    # What "auto" chooses can be computed.
    assert resolve_loss("auto", name) is LOSSES[row.loss]
    assert LOSSES[row.loss].activation in (None, name)


def test_auto_loss_follows_the_last_layer():
    special = {
        "sigmoid": "binary_cross_entropy", "softmax": "cross_entropy", "exp": "poisson",
        "increasing": "quantiles",
    }  # fmt: skip
    assert {name: row.loss for name, row in ACTIVATIONS.items()} == {
        name: special.get(name, "mean_squared_error") for name in ACTIVATIONS
    }


def test_the_names_are_the_field_s():
    assert set(ACTIVATIONS) == {
        "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "mish",
        "softsign", "tanh", "sigmoid", "hard_sigmoid", "exp", "sin", "softmax",
        "increasing",
    }  # fmt: skip
    aliases = {alias: row.name for row in ACTIVATIONS.values() for alias in row.aliases}
    assert aliases == {"linear": "identity", "logistic": "sigmoid", "swish": "silu"}
    assert set(LOSSES) == {
        "mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "cross_entropy",
        "binary_cross_entropy", "poisson", "quantile", "gaussian_nll", "hinge", "focal",
        "binary_focal", "gamma", "tweedie", "quantiles",
    }  # fmt: skip
    assert set(OPTIMIZERS) == {
        "SGD", "RMSprop", "Adagrad", "Adam", "AdamW", "Nadam", "RAdam", "Rprop", "Adadelta",
        "Adamax", "AMSGrad", "Lion",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_what_its_formula_says(name, dtype):
    net = fn.Sequential([fn.Dense(2, name, initializer=0.0)], 1, dtype)
    net.weights[0][0, 0] = 1.0
    found = net.predict(NUMBERS[:, None])[:, 0]
    formula = ACTIVATIONS[name].formula
    if name == "softmax":
        # The other unit's z is zero.
        assert formula == "exp(z_j) / sum_k exp(z_k), over the units of the layer"
        formula = "exp(z) / (exp(z) + exp(0 * z))"
    if name == "increasing":
        # The second unit; the first one's z is zero.
        assert formula == "z_1, then a_(j-1) + log1p(exp(z_j)), over the units of the layer"
        net.weights[0][0] = 0.0, 1.0
        found, formula = net.predict(NUMBERS[:, None])[:, 1], "log1p(exp(z))"
    names = {"max": np.maximum, "min": np.minimum, "erfc": np.vectorize(math.erfc), "z": NUMBERS}
    names |= {f: getattr(np, f) for f in ("abs", "exp", "expm1", "log1p", "sin", "sqrt", "tanh")}
    expected = eval(formula, {"__builtins__": {}}, names)
    # A last bit of the argument may be a wave's whole value.
    absolute = 1e-15 if name == "sin" else 1e-37
    relative = 1e-5 if dtype == "float32" else 1e-13
    assert found == pytest.approx(expected, rel=relative, abs=absolute)


@pytest.mark.parametrize("name", [n for n, row in ACTIVATIONS.items() if row.saturation])
def test_saturation_is_where_the_activation_is_flat(name):
    low, high = ACTIVATIONS[name].saturation
    f, backward = reference.ACTIVATIONS[name]
    Z = NUMBERS[None]
    A = f(Z)
    slopes = backward(np.ones_like(Z), Z, A)
    outside = (low > A) | (high < A)
    assert outside.any()
    assert slopes[outside].max() < 0.05 * slopes.max()
    assert A.min() < low < high < A.max()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_can_die_where_it_and_its_slope_are_zero(name):
    f, backward = reference.ACTIVATIONS[name]
    Z = np.array([[-5.0], [-3.0]])
    A = f(Z)
    dead = not A.any() and not backward(np.ones_like(Z), Z, A).any()
    assert ACTIVATIONS[name].can_die == dead


def test_what_an_activation_leaves_out_has_a_default():
    row = Activation("f", 99, "z", "zeros", "mean_squared_error", "2026")
    assert (row.aliases, row.derivative_from, row.saturation, row.can_die) == ((), "A", None, False)


# Losses.


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_names_what_it_goes_with(name):
    row = LOSSES[name]
    assert row.targets in FORMS
    assert row.activation is None or row.activation in ACTIVATIONS
    matched = dict(reference.MATCHED.keys())
    assert matched.get(name) == row.activation


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_s_record_holds_its_numbers(name):
    row = LOSSES[name]
    last = row.activation or "identity"
    if row.given is None:
        assert row.settings == {}
        return
    record = type(row.given)
    (field,) = dataclasses.fields(record)
    assert getattr(fn, record.__name__) is record
    assert field.name in records.PLAN.names
    assert resolve_loss(record(), last) == row
    number = {fn.Tweedie: 1.25, fn.Quantiles: (0.25, 0.5)}.get(record, 0.25)
    other = resolve_loss(record(number), last)
    outputs = 2 if record is fn.Quantiles else row.outputs
    assert other == dataclasses.replace(row, given=record(number), outputs=outputs)
    assert other.settings == {field.name: number}


def test_a_record_of_two_losses_stands_for_that_of_the_last_layer():
    for record in (fn.CrossEntropy(0.1), fn.Focal()):
        for last in ("softmax", "sigmoid"):
            assert resolve_loss(record, last).activation == last
        with pytest.raises(ValueError, match="is computed together with a last layer"):
            resolve_loss(record, "identity")


def test_a_tweedie_loss_has_limits_that_are_other_losses():
    assert resolve_loss(fn.Tweedie(1), "exp") is LOSSES["poisson"]
    assert resolve_loss(fn.Tweedie(2), "exp") is LOSSES["gamma"]
    assert resolve_loss(fn.Tweedie(3), "exp").targets == "positive"


@pytest.mark.parametrize(
    ("record", "number", "kind", "message"),
    [
        (fn.Huber, 0.0, ValueError, "delta must be a finite number greater than 0"),
        (fn.Huber, "1", TypeError, "delta must be a finite number greater than 0"),
        (fn.Quantile, 0, ValueError, "quantile must be a number in"),
        (fn.Quantile, 1.0, ValueError, "quantile must be a number in"),
        (fn.Quantile, (0.1, 0.9), TypeError, "quantile must be a number in"),
        (fn.CrossEntropy, 1.0, ValueError, "label_smoothing must be a number in"),
        (fn.CrossEntropy, -0.1, ValueError, "label_smoothing must be a number in"),
        (fn.Focal, -1.0, ValueError, "gamma must be"),
        (fn.Tweedie, 0.5, ValueError, "power must be"),
        (fn.Tweedie, float("inf"), ValueError, "power must be"),
    ],
)
def test_a_loss_s_number_is_checked(record, number, kind, message):
    with pytest.raises(kind, match=message):
        record(number)


def test_a_loss_s_class_is_not_a_loss():
    with pytest.raises(TypeError, match=r"Did you mean fastnn.Huber\(\)\?"):
        resolve_loss(fn.Huber, "identity")


def test_a_loss_of_two_outputs_for_each_target_needs_an_even_number():
    row = LOSSES["gaussian_nll"]
    assert row.width(6) == 3
    with pytest.raises(ValueError, match="needs 2 outputs for each target; got a last layer of 3"):
        row.width(3)
    net = fn.Sequential([fn.Dense(1)], 2)
    with pytest.raises(ValueError, match="got a last layer of 1 unit"):
        net.fit([[1.0, 2.0]], [1.0], "gaussian_nll")


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_goes_with_its_activation_only(name):
    row = LOSSES[name]
    for last in ACTIVATIONS:
        if row.activation in (None, last):
            assert resolve_loss(name, last) is row
        else:
            with pytest.raises(ValueError, match=f"^loss='{name}' is computed together with"):
                resolve_loss(name, last)


@pytest.mark.parametrize("record", [fn.CrossEntropy(0.1), fn.Focal(2.0)], ids=str)
def test_a_record_of_two_losses_names_the_activations_of_both(record):
    with pytest.raises(ValueError, match="together with a last layer of activation") as caught:
        resolve_loss(record, "identity")
    said = str(caught.value)
    assert said.startswith(f"loss={record} ")
    assert "'softmax'" in said
    assert "'sigmoid'" in said


# Optimizers.


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_s_record_fits_its_row(name):
    row = OPTIMIZERS[name]
    record = row.record()
    assert row.record.__name__ == name
    assert getattr(fn, name) is row.record
    assert row_of(record) is row
    assert row.moments >= 1
    numbers = row.numbers(record)
    own = hyperparameters(record)
    for name in numbers.dtype.names:
        assert numbers[name] == own.get(name, 0.0)


@pytest.mark.parametrize("name", ["steps", "clip_norm", "acceleration"])
def test_a_number_that_the_engine_has_no_place_for_is_refused(name):
    own = ["learning_rate", "momentum", "beta_1"]
    known = dataclasses.make_dataclass("Known", own, frozen=True)
    numbers = OptimizerRow("Known", known, codes.SGD, moments=1).numbers(known(0.1, 0.9, 0.8))
    assert [numbers[field] for field in own] == [0.1, 0.9, 0.8]
    unknown = dataclasses.make_dataclass("Unknown", [*own, name], frozen=True)
    with pytest.raises(ValueError, match=f"numbers of Unknown must be fields.*; got {name}"):
        OptimizerRow("Unknown", unknown, codes.SGD, moments=1)


def test_defaults_of_the_optimizers():
    betas = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    assert fn.SGD() == fn.SGD(learning_rate=0.01, momentum=0.0, nesterov=False)
    assert fn.Adam() == fn.Adam(learning_rate=0.001, **betas)
    assert fn.RMSprop() == fn.RMSprop(learning_rate=0.001, rho=0.9, epsilon=1e-8)
    assert fn.Adagrad() == fn.Adagrad(learning_rate=0.01, epsilon=1e-10)
    assert fn.AdamW() == fn.AdamW(learning_rate=0.001, **betas, weight_decay=0.01)
    assert fn.Nadam() == fn.Nadam(learning_rate=0.002, **betas)
    assert fn.RAdam() == fn.RAdam(learning_rate=0.001, **betas)
    assert fn.Adadelta() == fn.Adadelta(learning_rate=1.0, rho=0.9, epsilon=1e-6)
    assert fn.Adamax() == fn.Adamax(learning_rate=0.002, **betas)
    assert fn.AMSGrad() == fn.AMSGrad(learning_rate=0.001, **betas)
    assert fn.Lion() == fn.Lion(learning_rate=0.0001, beta_1=0.9, beta_2=0.99, weight_decay=0.0)
    assert fn.Rprop() == fn.Rprop(
        learning_rate=0.01, decrease=0.5, increase=1.2, smallest=1e-6, largest=50.0
    )


@pytest.mark.parametrize(
    ("record", "numbers", "message"),
    [
        (fn.RMSprop, {"rho": 1.0}, "rho must be a number in"),
        (fn.RMSprop, {"epsilon": 0.0}, "epsilon must be"),
        (fn.Adagrad, {"learning_rate": 0.0}, "learning_rate must be"),
        (fn.AdamW, {"weight_decay": -1.0}, "weight_decay must be"),
        (fn.AdamW, {"beta_1": 1.0}, "beta_1 must be"),
        (fn.Nadam, {"beta_2": -0.1}, "beta_2 must be"),
        (fn.AMSGrad, {"beta_1": 1.0}, "beta_1 must be"),
        (fn.Adamax, {"epsilon": 0.0}, "epsilon must be"),
        (fn.Adadelta, {"rho": 1.0}, "rho must be"),
        (fn.Lion, {"weight_decay": -1.0}, "weight_decay must be"),
        (fn.Lion, {"beta_2": 1.0}, "beta_2 must be"),
        (fn.RAdam, {"epsilon": -1.0}, "epsilon must be"),
        (fn.Rprop, {"decrease": 1.0}, "decrease must be"),
        (fn.Rprop, {"increase": 1.0}, "increase must be"),
        (fn.Rprop, {"smallest": 0.0}, "smallest must be"),
        (fn.Rprop, {"smallest": 1.0, "largest": 0.5}, "largest must be"),
    ],
)
def test_an_optimizer_s_numbers_are_checked(record, numbers, message):
    with pytest.raises(ValueError, match=message):
        record(**numbers)


# Initializers.

FANS = (300, 200)

# Variance and limit of a weight by the papers, for `FANS`.
VARIANCES = {
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300,
    "lecun_normal": 1 / 300,
}
CONSTANTS = {"zeros": 0.0, "constant": 0.1}


def test_every_initializer_is_tried():
    assert [*VARIANCES, "orthogonal", *CONSTANTS] == list(INITIALIZERS)


@pytest.mark.parametrize("fans", [FANS, FANS[::-1], (7, 7), (1, 5), (5, 1), (1, 1)])
def test_an_orthogonal_matrix_has_orthonormal_rows_or_columns(fans):
    W = draw_weights("orthogonal", *fans, np.random.default_rng(0))
    assert W.shape == fans
    assert W.flags.c_contiguous
    products = W @ W.T if fans[0] < fans[1] else W.T @ W
    assert products == pytest.approx(np.eye(min(fans)), abs=1e-13)


def test_orthogonal_matrices_are_drawn_evenly():
    # Of a plane's rotations and reflections: no direction of the first column is preferred.
    rng = np.random.default_rng(1)
    drawn = np.array([draw_weights("orthogonal", 2, 2, rng) for _ in range(4000)])
    angles = np.arctan2(drawn[:, 1, 0], drawn[:, 0, 0])
    counts = np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0]
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)
    assert abs(np.linalg.det(drawn).sum()) < 5 * math.sqrt(4000)


@pytest.mark.parametrize("name", VARIANCES)
def test_an_initializer_has_the_variance_of_its_paper(name):
    W = draw_weights(name, *FANS, np.random.default_rng(0))
    assert W.shape == FANS
    assert W.dtype == np.float64
    variance = VARIANCES[name]
    # Five standard deviations of the mean and of the variance of 60 000 weights.
    assert abs(W.mean()) < 5 * math.sqrt(variance / W.size)
    assert W.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / W.size))
    fourth = np.mean(W**4) / variance**2
    if name.endswith("uniform"):
        limit = math.sqrt(3 * variance)
        assert 0.999 * limit < np.abs(W).max() <= limit
        assert fourth == pytest.approx(9 / 5, rel=0.03)
    else:
        assert np.abs(W).max() > 4 * math.sqrt(variance)
        assert fourth == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_initializer_gives_its_value(name):
    assert (draw_weights(name, 3, 2, np.random.default_rng(0)) == CONSTANTS[name]).all()


def test_a_number_is_where_every_weight_starts():
    W = draw_weights(-0.25, 3, 2, np.random.default_rng(0))
    assert W.dtype == np.float64
    assert W.tolist() == [[-0.25, -0.25]] * 3


# The default: rotations, of pairs where an activation has two different sides.

PLAIN = {
    "selu": "lecun_normal",
    "softmax": "glorot_uniform",
    "exp": "glorot_uniform",
    "increasing": "glorot_uniform",
}
ODD = ("identity", "tanh", "softsign", "sin")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_auto_in_a_hidden_layer_follows_the_activation(name):
    chosen = ACTIVATIONS[name].initializer
    assert chosen == PLAIN.get(name, "isometry" if name in ODD else "pairs")
    auto, plain = (
        fn.Sequential([fn.Dense(7, name, initializer=how), fn.Dense(2)], 5, rng=3)
        for how in ("auto", PLAIN.get(name, "orthogonal"))
    )
    same = auto.weights[0].tobytes() == plain.weights[0].tobytes()
    assert same == (name in PLAIN)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in PLAIN])
def test_a_gain_undoes_the_slope_at_zero(name):
    row, h = ACTIVATIONS[name], 1e-6
    f = reference.ACTIVATIONS[name][0]
    below, above = (float(f(np.array([[z]]))[0, 0]) for z in (-h, h))
    # The odd part of a pair counts twice, once for each of its units.
    slope = (above - below) / h if row.initializer == "pairs" else (above - below) / (2 * h)
    assert row.gain * slope == pytest.approx(1.0, abs=1e-5)


def begun(name: str, units: list[int], inputs: int, **rest) -> fn.Sequential:
    layers = [fn.Dense(h, name, **rest) for h in units[:-1]]
    return fn.Sequential([*layers, fn.Dense(units[-1])], inputs, "float64", rng=5)


def mirrored(units: int) -> tuple[slice, slice]:
    """Return where the z of the pairs of a layer stand, and where the -z do."""
    return slice(units // 2), slice(units - units // 2, units)


@pytest.mark.parametrize("units", [1, 2, 3, 6, 31, 40, 300])
def test_pairs_mirror_weights_and_biases_exactly(units):
    net = begun("relu", [units, units, 2], 5)
    first, second = mirrored(units)
    for W, b in zip(net.weights[:2], net.biases[:2], strict=True):
        assert (W[:, first] == -W[:, second]).all()
        assert (b[first] == -b[second]).all()
    for W in net.weights[1:]:
        assert (W[first] == -W[second]).all()
    assert all(W.any(axis=0).all() for W in net.weights), "no unit is left out"


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "softplus", "leaky_relu"])
@pytest.mark.parametrize("depth", [1, 2, 24])
def test_a_network_of_pairs_starts_linear_and_keeps_lengths_at_any_depth(name, depth):
    net = begun(name, [64] * depth + [32], 32)
    net.biases[0][:] = 0.0
    rng = np.random.default_rng(0)
    X, other = rng.normal(size=(2, 10, 32))
    together, apart = net.predict(X + other), net.predict(X) + net.predict(other)
    assert together == pytest.approx(apart, abs=1e-9)
    # 32 features turned into 32 outputs: every length is that of the first layer's scale.
    ratios = np.linalg.norm(net.predict(X), axis=1) / np.linalg.norm(X, axis=1)
    assert ratios == pytest.approx(np.full(10, 32**-0.25), rel=1e-9)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in PLAIN])
def test_small_signals_and_gradients_keep_their_size_through_24_layers(name):
    net = begun(name, [40] * 24 + [3], 6)
    net.biases[0][:] = 0.0
    X = 1e-3 * np.random.default_rng(1).normal(size=(50, 6))
    moved = net.predict(X) - net.predict(np.zeros((1, 6)))
    assert 0.1 < np.linalg.norm(moved) / np.linalg.norm(X) < 3.0
    found = net.trace(X, np.ones((50, 3)))
    sizes = [np.linalg.norm(dZ) for dZ in found.dZ[:-1]]
    assert 0.3 < sizes[0] / sizes[-1] < 3.0


@pytest.mark.parametrize("fans", [(1, 1), (1, 9), (9, 1), (15, 15), (16, 16), (40, 7), (7, 40)])
@pytest.mark.parametrize("large", [0, 200])
def test_an_isometry_has_orthonormal_rows_or_columns(fans, large):
    inputs, units = fans[0] + large, fans[1] + large
    W = begun("identity", [units, 2], inputs).weights[0]
    products = W @ W.T if inputs < units else W.T @ W
    assert products == pytest.approx(np.eye(len(products)), abs=1e-13)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(("inputs", "units"), [(1, 8), (3, 64), (12, 400), (300, 40), (500, 600)])
def test_sums_of_a_first_layer_have_the_scale_of_its_features_number(name, inputs, units):
    net = begun(name, [units, 1], inputs)
    scale = ACTIVATIONS[name].gain * inputs**-0.25
    assert np.linalg.norm(net.weights[0], axis=0) == pytest.approx(np.full(units, scale))
    # Biases: one from each of as many equal parts of an interval of that standard deviation.
    count = units - (units // 2 if ACTIVATIONS[name].initializer == "pairs" else 0)
    steps = np.diff(np.sort(net.biases[0][:count]))
    assert steps == pytest.approx(np.full(count - 1, 2 * math.sqrt(3) * scale / count))
    assert net.biases[0][:count].mean() == pytest.approx(0.0, abs=1e-12)
    assert not net.biases[-1].any()


def test_only_the_first_hidden_layer_spreads_its_biases_and_only_where_it_has_some():
    net = begun("relu", [8, 8, 2], 3)
    assert [bool(b.any()) for b in net.biases] == [True, False, False]
    assert begun("relu", [8, 8, 2], 3, bias=False).biases[:2] == [None, None]
    assert not begun("identity", [8, 2], 3).biases[0].any()
    assert not fn.Sequential([fn.Dense(3, "softmax")], 4).biases[0].any()


@pytest.mark.parametrize("units", [8, 64, 400])
def test_units_of_a_first_layer_look_in_all_directions(units):
    """Of two features, each eighth of the circle has about its share of units, over seeds."""
    counts = np.zeros(8)
    seeds = 3200 // units
    for seed in range(seeds):
        net = fn.Sequential([fn.Dense(units, "tanh"), fn.Dense(1)], 2, "float64", rng=seed)
        angles = np.arctan2(net.weights[0][1], net.weights[0][0])
        counts += np.histogram(angles, bins=8, range=(-np.pi, np.pi))[0]
    assert 250 < counts.min() <= counts.max() < 560


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "elu"])
def test_default_weights_of_float32_are_those_of_float64_rounded(name):
    nets = [
        fn.Sequential([fn.Dense(37, name), fn.Dense(300, name), fn.Dense(3)], 5, dtype, rng=3)
        for dtype in DTYPES
    ]
    narrow, wide = (net.parameters for net in nets)
    assert narrow.tobytes() == wide.astype(np.float32).tobytes()


@pytest.mark.parametrize("units", [1, 2, 9, 40])
def test_default_weights_follow_the_seed(units):
    drawn = {begin(units, seed).tobytes() for seed in range(20)}
    assert len(drawn) > 10
    assert begin(units, 3).tobytes() == begin(units, 3).tobytes()


def begin(units: int, seed: int) -> np.ndarray:
    return fn.Sequential([fn.Dense(units, "relu"), fn.Dense(1)], 2, rng=seed).parameters


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_float32_network_starts_at_its_float64_twin_s_rounded_weights(name):
    narrow, wide = (
        fn.Sequential([fn.Dense(7, initializer=name), fn.Dense(2, initializer=name)], 5, d, rng=3)
        for d in DTYPES
    )
    assert narrow.parameters.tobytes() == wide.parameters.astype(np.float32).tobytes()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_biases_of_a_given_initializer_start_at_zero(name):
    net = fn.Sequential([fn.Dense(7, "relu", initializer=name), fn.Dense(2)], 5, rng=3)
    assert not any(b.any() for b in net.biases)


def test_layers_draw_weights_of_their_own_and_seeds_change_them():
    net, other = (
        fn.Sequential([fn.Dense(5), fn.Dense(5)], 5, "float64", rng=seed) for seed in (3, 4)
    )
    again = fn.Sequential([fn.Dense(5), fn.Dense(5)], 5, "float64", rng=3)
    assert net.parameters.tobytes() == again.parameters.tobytes()
    drawn = [net.weights[0], net.weights[1], other.weights[0], other.weights[1]]
    assert len({W.tobytes() for W in drawn}) == len(drawn)
    for how in ("he_uniform", "he_normal"):
        layers = [fn.Dense(5, initializer=how)] * 2
        values = [*fn.Sequential(layers, 5, "float64").parameters.reshape(2, -1)[:, :25].ravel()]
        assert len(set(values)) == len(values)
