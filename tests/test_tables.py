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
from fastnn.kernels import codes
from fastnn.losses import LOSSES, resolve_loss
from fastnn.names import lookup
from fastnn.optimizers import OPTIMIZERS, hyperparameters, row_of

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
    assert row.initializer in INITIALIZERS
    assert row.loss in LOSSES
    # What "auto" chooses can be computed.
    assert resolve_loss("auto", name) is LOSSES[row.loss]
    assert LOSSES[row.loss].activation in (None, name)


def test_auto_loss_follows_the_last_layer():
    special = {"sigmoid": "binary_cross_entropy", "softmax": "cross_entropy", "exp": "poisson"}
    assert {name: row.loss for name, row in ACTIVATIONS.items()} == {
        name: special.get(name, "mean_squared_error") for name in ACTIVATIONS
    }


def test_the_names_are_the_field_s():
    assert set(ACTIVATIONS) == {
        "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "mish",
        "softsign", "tanh", "sigmoid", "hard_sigmoid", "exp", "sin", "softmax",
    }  # fmt: skip
    aliases = {alias: row.name for row in ACTIVATIONS.values() for alias in row.aliases}
    assert aliases == {"linear": "identity", "logistic": "sigmoid", "swish": "silu"}
    assert set(LOSSES) == {
        "mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "cross_entropy",
        "binary_cross_entropy", "poisson", "quantile", "gaussian_nll", "hinge",
    }  # fmt: skip
    assert set(OPTIMIZERS) == {
        "SGD", "RMSprop", "Adagrad", "Adam", "AdamW", "Nadam", "RAdam", "Rprop",
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
def test_a_loss_s_record_holds_its_number(name):
    row = LOSSES[name]
    last = row.activation or "identity"
    if row.record is None:
        assert (row.number, row.settings) == (0.0, {})
        return
    (field,) = dataclasses.fields(row.record)
    assert getattr(fn, row.record.__name__) is row.record
    assert row.number == field.default
    assert resolve_loss(row.record(), last) == row
    other = resolve_loss(row.record(0.25), last)
    assert other == dataclasses.replace(row, number=0.25)
    assert other.settings == {field.name: 0.25}


@pytest.mark.parametrize(
    ("record", "number", "kind", "message"),
    [
        (fn.Huber, 0.0, ValueError, "delta must be a finite number greater than 0"),
        (fn.Huber, "1", TypeError, "delta must be a finite number greater than 0"),
        (fn.Quantile, 0, ValueError, "quantile must be a number in"),
        (fn.Quantile, 1.0, ValueError, "quantile must be a number in"),
        (fn.Quantile, (0.1, 0.9), TypeError, "quantile must be a number in"),
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
    assert len(numbers) == len(hyperparameters(record))
    assert set(numbers) <= set(range(codes.NUMBERS)) - {codes.STEPS}
    assert numbers[codes.LEARNING_RATE] == record.learning_rate
    for field, value in hyperparameters(record).items():
        assert numbers[getattr(codes, field.upper())] == value


def test_defaults_of_the_optimizers():
    betas = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    assert fn.SGD() == fn.SGD(learning_rate=0.01, momentum=0.0, nesterov=False)
    assert fn.Adam() == fn.Adam(learning_rate=0.001, **betas)
    assert fn.RMSprop() == fn.RMSprop(learning_rate=0.001, rho=0.9, epsilon=1e-8)
    assert fn.Adagrad() == fn.Adagrad(learning_rate=0.01, epsilon=1e-10)
    assert fn.AdamW() == fn.AdamW(learning_rate=0.001, **betas, weight_decay=0.01)
    assert fn.Nadam() == fn.Nadam(learning_rate=0.002, **betas)
    assert fn.RAdam() == fn.RAdam(learning_rate=0.001, **betas)
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


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_auto_is_the_initializer_of_the_activation(name):
    chosen = ACTIVATIONS[name].initializer
    bounded = ("identity", "sigmoid", "tanh", "softmax", "softsign", "hard_sigmoid", "exp")
    expected = "glorot_uniform" if name in bounded else "he_uniform"
    assert chosen == ("lecun_normal" if name == "selu" else expected)
    auto, named = (
        fn.Sequential([fn.Dense(7, name, initializer=how)], 5, rng=3) for how in ("auto", chosen)
    )
    assert auto.parameters.tobytes() == named.parameters.tobytes()
    other = fn.Sequential([fn.Dense(7, name, initializer="he_normal")], 5, rng=3)
    assert auto.parameters.tobytes() != other.parameters.tobytes()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_float32_network_starts_at_its_float64_twin_s_rounded_weights(name):
    narrow, wide = (
        fn.Sequential([fn.Dense(7, initializer=name), fn.Dense(2, initializer=name)], 5, d, rng=3)
        for d in DTYPES
    )
    assert narrow.parameters.tobytes() == wide.parameters.astype(np.float32).tobytes()


def test_biases_start_at_zero():
    net = fn.Sequential([fn.Dense(7, "relu"), fn.Dense(2)], 5, rng=3)
    assert not any(b.any() for b in net.biases)


def test_layers_draw_weights_of_their_own_and_seeds_change_them():
    net, other = (
        fn.Sequential([fn.Dense(5), fn.Dense(5)], 5, "float64", rng=seed) for seed in (3, 4)
    )
    again = fn.Sequential([fn.Dense(5), fn.Dense(5)], 5, "float64", rng=3)
    assert net.parameters.tobytes() == again.parameters.tobytes()
    drawn = [*net.weights[0].ravel(), *net.weights[1].ravel(), *other.weights[0].ravel()]
    assert len(set(drawn)) == len(drawn)
