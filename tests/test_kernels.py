"""Native against reference: every row of the tables, through the public surface."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from cases import (
    DTYPES,
    EVERY_PAIR,
    JIT,
    NETWORKS,
    PAIRS,
    SHAPES,
    TARGETS,
    Shape,
    data,
    error,
    fitted,
    flat,
    network,
    shapes,
)

import fastnn as fn
from fastnn import layout
from fastnn.activations import ACTIVATIONS
from fastnn.kernels._jit import entry, intrinsic
from fastnn.kernels.dense import block_rows
from fastnn.kernels.matmul import BLOCK_ROWS, DEPTH
from fastnn.kernels.micro_kernels import BATCH_ROWS, UNIT_ROWS
from fastnn.kernels.panels import PANEL_BYTES
from fastnn.kernels.tiles import band_rows, tile_after, tile_at
from fastnn.kernels.views import matrix
from fastnn.losses import LOSSES

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

BACKENDS = ("native", "reference")

MIDDLE = SHAPES[len(SHAPES) // 2]
SMALL = Shape(9, 3, 5, 2, 3)


def both(function):
    """Return what a function of the backend gives natively, and what it gives on the reference."""
    native, reference = (function(backend=backend) for backend in BACKENDS)
    return native, reference


def agree(function, dtype, more=1):
    """Say whether native and reference give the same numbers, or how far they are apart."""
    native, reference = both(function)
    assert getattr(native, "dtype", dtype) == dtype
    found = error(native, reference)
    assert found <= more * TOLERANCE[dtype]


def agree_on_gradient(net, examples, loss, dtype, weights):
    """Hold loss and gradient, with their penalty, against the reference."""
    (loss_n, grad_n), (loss_r, grad_r) = both(
        lambda backend: net.loss_and_gradient(
            examples.X, examples.y, loss, sample_weight=weights, backend=backend
        )
    )
    assert grad_n.dtype == dtype
    assert error(loss_n, loss_r) <= TOLERANCE[dtype]
    assert error(grad_n, grad_r) <= TOLERANCE[dtype]


def test_the_pairs_hold_every_row_of_both_tables():
    assert {last for last, _ in PAIRS} == set(ACTIVATIONS)
    assert {loss for _, loss in PAIRS} == set(LOSSES)
    assert {loss for _, loss, _ in TARGETS} == set(LOSSES)


# Every row.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("hidden", "last", "loss"), NETWORKS)
def test_every_intermediate_is_the_reference_s(hidden, last, loss, dtype):
    for shape in shapes(loss):
        for bias in (True, False):
            net, examples = network(shape, hidden, last, dtype, bias=bias), data(shape, loss)
            native, reference = both(
                lambda backend, net=net, examples=examples: net.trace(
                    examples.X, examples.y, loss, backend=backend
                )
            )
            assert error(native.loss, reference.loss) <= TOLERANCE[dtype]
            for part in ("Z", "A", "dZ"):
                for found, expected in zip(
                    getattr(native, part), getattr(reference, part), strict=True
                ):
                    assert found.dtype == dtype
                    assert error(found, expected) <= TOLERANCE[dtype], (part, shape)
            assert [b is None for b in native.db] == [not bias] * 3
            assert [W.shape for W in native.dW] == [W.shape for W in net.weights]
            for part in ("dW", "db") if bias else ("dW",):
                found, expected = flat(getattr(native, part)), flat(getattr(reference, part))
                assert found.dtype == dtype
                assert error(found, expected) <= TOLERANCE[dtype], (part, shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("hidden", "last", "loss"), NETWORKS)
def test_loss_and_gradient_are_the_reference_s(hidden, last, loss, dtype):
    for shape in shapes(loss):
        examples = data(shape, loss)
        for bias, weights, l2 in (
            (True, None, 0.1),
            (False, examples.w, 0.0),
            (True, examples.w, 0.3),
        ):
            net = network(shape, hidden, last, dtype, bias=bias, l2=l2)
            agree_on_gradient(net, examples, loss, dtype, weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "loss", [fn.Huber(0.3), fn.Huber(2.5), fn.Quantile(0.05), fn.Quantile(0.9)]
)
def test_a_loss_s_own_number_reaches_both_paths(loss, dtype):
    for shape in SHAPES:
        net, examples = network(shape, "tanh", "identity", dtype), data(shape, "mean_squared_error")
        for weights in (None, examples.w):
            agree_on_gradient(net, examples, loss, dtype, weights)
        value = net.evaluate(examples.X, examples.y, loss)["loss"]
        E = net.predict(examples.X).astype(float) - examples.y
        if isinstance(loss, fn.Huber):
            far = np.abs(E) > loss.delta
            each = np.where(far, loss.delta * (np.abs(E) - loss.delta / 2), E**2 / 2)
        else:
            each = np.where(E < 0, -loss.quantile, 1 - loss.quantile) * E
        assert error(value, each.mean()) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss"), EVERY_PAIR)
def test_every_pair_can_be_computed(last, loss, dtype):
    shape = fitted(SMALL, loss)
    net, examples = network(shape, "tanh", last, dtype), data(shape, loss)
    agree_on_gradient(net, examples, loss, dtype, examples.w)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss", "form"), TARGETS)
def test_every_form_of_targets_gives_what_the_reference_gives(last, loss, form, dtype):
    for shape in shapes(loss):
        net, examples = network(shape, "tanh", last, dtype), data(shape, loss, form)
        for weights in (None, examples.w):
            agree_on_gradient(net, examples, loss, dtype, weights)
            agree(
                lambda backend, net=net, examples=examples, weights=weights: net.evaluate(
                    examples.X, examples.y, loss, sample_weight=weights, backend=backend
                )["loss"],
                dtype,
            )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", ACTIVATIONS)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_predictions_and_hidden_layers_are_the_reference_s(hidden, last, dtype):
    # Sums of many grow large, and so do their rounding errors.
    more = 5 if hidden == "increasing" else 1
    for shape in SHAPES:
        net = network(shape, hidden, last, dtype)
        X = data(shape, "mean_squared_error").X
        agree(lambda backend, net=net, X=X: net.predict(X, backend=backend), dtype, more)
        for layer in (0, 1, 2, -1, -2, -3):
            agree(
                lambda backend, net=net, X=X, layer=layer: net.hidden(X, layer, backend=backend),
                dtype, more,
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fast_path_gives_the_bits_of_predict(dtype):
    for shape in SHAPES:
        net = network(shape, "relu", "softmax", dtype)
        X = data(shape, "mean_squared_error").X.astype(dtype)
        expected = net.predict(X)
        assert net(X).tobytes() == expected.tobytes()
        assert np.stack([net(x) for x in X]).tobytes() == expected.tobytes()
        out = np.full((shape.n, shape.m), np.nan, dtype)
        assert net.predict(X, out=out) is out
        assert out.tobytes() == expected.tobytes()
        assert net.hidden(X, -1).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_that_miss_one_by_a_little_agree(dtype):
    for shape in SHAPES:
        net = network(shape, "tanh", "softmax", dtype)
        examples = data(shape, "cross_entropy", "probabilities")
        examples.y = examples.y * np.linspace(0.9991, 0.9999, shape.n)[:, None]
        agree_on_gradient(net, examples, "cross_entropy", dtype, None)


# Networks of other forms.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_a_network_without_hidden_layers_agrees(last, loss, dtype):
    for shape in shapes(loss):
        net = fn.Sequential([fn.Dense(shape.m, last, l2=0.1)], shape.p, dtype, rng=3)
        net.parameters[:] *= 0.2 if last == "exp" else 1.0
        examples = data(shape, loss)
        agree_on_gradient(net, examples, loss, dtype, examples.w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_deep_network_of_every_activation_agrees(dtype):
    rng = np.random.default_rng(4)
    layers = [
        fn.Dense(units, activation, bias=bool(place % 2), l2=0.01 * place)
        for place, (activation, units) in enumerate(
            zip([*ACTIVATIONS, *ACTIVATIONS], rng.permutation(np.arange(2, 40)), strict=False)
        )
    ]
    net = fn.Sequential([*layers, fn.Dense(3, "softmax")], MIDDLE.p, dtype, rng=5)
    examples = data(replace(MIDDLE, m=3), "cross_entropy")
    agree_on_gradient(net, examples, "cross_entropy", dtype, examples.w)
    agree_on_gradient(net, examples, "cross_entropy", dtype, None)


# Weights of examples.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_a_whole_weight_counts_like_that_many_examples(last, loss, dtype):
    middle = fitted(MIDDLE, loss)
    net, examples = network(middle, "tanh", last, dtype), data(middle, loss)
    counts = np.arange(MIDDLE.n) % 4
    twice, rows = 2.0 * counts, np.repeat(np.arange(MIDDLE.n), counts)
    loss_w, gradient_w = net.loss_and_gradient(examples.X, examples.y, loss, sample_weight=twice)
    loss_c, gradient_c = net.loss_and_gradient(examples.X[rows], examples.y[rows], loss)
    assert error(loss_w, loss_c) <= TOLERANCE[dtype]
    assert error(gradient_w, gradient_c) <= TOLERANCE[dtype]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "far"), [("float32", 1e30), ("float64", 1e200)])
def test_an_example_of_no_weight_has_no_say_not_even_with_an_infinite_loss(dtype, far, backend):
    net = fn.Sequential([fn.Dense(2)], 3, dtype)
    X, y, weights = np.full((3, 3), 0.5), np.ones((3, 2)), [1.0, 0.0, 2.0]
    X[1] = far
    rows = [0, 2]
    with np.errstate(all="ignore"):
        found = net.loss_and_gradient(X, y, sample_weight=weights, backend=backend)
        alone = net.evaluate(X, y, sample_weight=weights, backend=backend)["loss"]
    expected = net.loss_and_gradient(X[rows], y[rows], sample_weight=[1.0, 2.0], backend=backend)
    assert error(found[0], expected[0]) <= TOLERANCE[dtype]
    assert error(found[1], expected[1]) <= TOLERANCE[dtype]
    assert error(alone, expected[0]) <= TOLERANCE[dtype]


# Batches of several chunks.


def chunk_of(net, rows):
    """Return how many rows of a batch go through a network together."""
    program = layout.Program.of(net.layout.blocks, rows, layout.Tiling(16, 6, 4))
    return program.plan["chunk"][0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss", "form"), TARGETS)
def test_chunks_of_a_batch_add_up_to_it(last, loss, form, dtype, tuned):
    shape = fitted(SHAPES[-1], loss)
    net, examples = network(shape, "sigmoid", last, dtype, l2=0.1), data(shape, loss, form)

    def results():
        return [
            net.predict(examples.X),
            *net.loss_and_gradient(examples.X, examples.y, loss),
            *net.loss_and_gradient(examples.X, examples.y, loss, sample_weight=examples.w),
            net.evaluate(examples.X, examples.y, loss, sample_weight=examples.w)["loss"],
        ]

    whole = results()
    for chunk in (1, 2, shape.n - 1):
        tuned(chunk_elements=1, smallest_chunk=chunk)
        assert chunk_of(net, shape.n) == chunk
        for found, expected in zip(results(), whole, strict=True):
            assert error(found, expected) <= TOLERANCE[dtype]
        agree_on_gradient(net, examples, loss, dtype, examples.w)


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_batch_goes_through_in_chunks(dtype):
    shape = Shape(20_011, 3, 5, 4, 3)
    net, examples = network(shape, "tanh", "softmax", dtype), data(shape, "cross_entropy")
    assert chunk_of(net, shape.n) < shape.n
    agree_on_gradient(net, examples, "cross_entropy", dtype, examples.w)
    agree(lambda backend: net.predict(examples.X, backend=backend), dtype)
    # One of them decays weights and not biases.
    for optimizer in (fn.SGD(0.5), fn.AdamW(0.1, weight_decay=0.5)):
        trained = []
        for backend in BACKENDS:
            twin = net.copy()
            twin.fit(
                examples.X, examples.y, epochs=2, batch_size=shape.n, optimizer=optimizer,
                backend=backend,
            )  # fmt: skip
            trained.append(twin.parameters)
        assert error(*trained) <= TOLERANCE[dtype]


# Blocks of a product: more of the inner index, and more rows, than go through together.

BLOCKS = [
    Shape(2 * BLOCK_ROWS + 7, 2 * DEPTH + 88, DEPTH + 14, 40, 5),
    Shape(BLOCK_ROWS + 1, DEPTH + 1, 3 * DEPTH, 9, 2 * DEPTH + 3),
    Shape(BLOCK_ROWS, DEPTH, DEPTH, DEPTH, DEPTH),
]


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("hidden", "shape"),
    [
        (hidden, shape)
        for hidden in ACTIVATIONS
        for shape in BLOCKS
        # The reference's matrix for each column of a wide softmax takes its time.
        if hidden != "softmax" or shape.first < 2 * DEPTH
        # Sums of so many increments are too large to be trained on.
        if hidden != "increasing"
    ],
    ids=str,
)
def test_products_of_several_blocks_are_the_reference_s(hidden, shape, dtype):
    net, examples = network(shape, hidden, "softmax", dtype, l2=0.01), data(shape, "cross_entropy")
    agree_on_gradient(net, examples, "cross_entropy", dtype, examples.w)
    agree(lambda backend: net.predict(examples.X, backend=backend), dtype)
    expected = net.predict(examples.X)
    found = [net(x.astype(dtype)) for x in examples.X[:3]]
    assert np.stack(found).tobytes() == expected[:3].tobytes()
    rates = {"optimizer": fn.SGD(0.1), "epochs": 2, "batch_size": shape.n - 3}
    trained = [net.copy() for _ in BACKENDS]
    for twin, backend in zip(trained, BACKENDS, strict=True):
        twin.fit(examples.X, examples.y, backend=backend, **rates)
    assert error(*[twin.parameters for twin in trained]) <= 10 * TOLERANCE[dtype]


@pytest.mark.jit
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_layers_of_every_part_of_a_panel_are_the_reference_s(hidden, dtype):
    """Half a panel and less is computed as one vector; a whole one as two."""
    panel = PANEL_BYTES // np.dtype(dtype).itemsize
    for width in sorted({1, 2, panel // 2 - 1, panel // 2, panel // 2 + 1, panel - 1, panel,
                         panel + 1, 3 * panel // 2, 3 * panel // 2 + 1}):  # fmt: skip
        shape = Shape(2 * BATCH_ROWS + 1, width, width + 1, width, width)
        net, examples = network(shape, hidden, "sigmoid", dtype, l2=0.1), data(
            shape, "binary_cross_entropy"
        )  # fmt: skip
        agree_on_gradient(net, examples, "binary_cross_entropy", dtype, examples.w)
        agree(lambda backend, net=net, X=examples.X: net.predict(X, backend=backend), dtype)


# Numbers at the edge.


LOGITS = np.array(
    [
        [1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [88.0, -88.0, 104.0], [-1e4, -1e4, -1e4],
        [1e4, 1e4, 1e4], [710.0, -745.0, 1.0], [-20.0, 17.0, 37.0],
    ]
)  # fmt: skip


def identity_network(last, dtype):
    """Return a network of one layer whose Z is its X."""
    net = fn.Sequential([fn.Dense(3, last)], 3, dtype)
    net.set_weights([np.eye(3), np.zeros(3)])
    return net


# An exponential of 10 000 has no finite value, whatever is done with it.
BOUNDED = [target for target in TARGETS if target[0] != "exp" and target[1] != "gaussian_nll"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("last", "loss", "form"), BOUNDED)
def test_enormous_logits_give_finite_losses_and_gradients(last, loss, form, dtype):
    net = identity_network(last, dtype)
    y = data(Shape(len(LOGITS), 3, 1, 1, 3), loss, form).y
    for x, wanted in zip(LOGITS[:, None], y[:, None], strict=True):
        (value, gradient), (value_r, gradient_r) = both(
            lambda backend, x=x, y=wanted: net.loss_and_gradient(x, y, loss, backend=backend)
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert np.isfinite(net.predict(x)).all()
        assert error(value, value_r) <= TOLERANCE[dtype]
        # Where softmax is flat its own derivative is a difference of numbers near one, and the
        # logit that comes in multiplies what is left.
        lost = 1e-3 * np.abs(x).max() if last == "softmax" else 1.0
        tolerance = TOLERANCE[dtype] * max(1.0, lost, np.abs(gradient_r).max())
        assert np.abs(gradient - gradient_r).max() <= tolerance
    net.fit(LOGITS, y, loss, fn.SGD(1e-6), epochs=2, batch_size=2)
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_matched_losses_of_enormous_logits_are_the_exact_ones(dtype):
    net = identity_network("softmax", dtype)
    assert net.loss_and_gradient([[1e4, -1e4, 0.0]], [1])[0] == 2e4
    assert net.loss_and_gradient([[1e4, -1e4, 0.0]], [0])[0] == 0.0
    assert net.trace([[1e4, -1e4, 0.0]], [1]).dZ[0].tolist() == [[1.0, -1.0, 0.0]]
    net = identity_network("sigmoid", dtype)
    assert net.loss_and_gradient([[1e4, -1e4, 1e4]], [[0, 0, 1]])[0] == pytest.approx(1e4 / 3)
    found = net.trace([[1e4, -1e4, 1e4]], [[0, 0, 1]]).dZ[0]
    assert error(found, [[1 / 3, 0.0, 0.0]]) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_nan_in_one_weight_reaches_every_prediction(hidden, dtype):
    net = network(MIDDLE, hidden, "identity", dtype)
    net.weights[0][0, 0] = np.nan
    X = data(MIDDLE, "mean_squared_error").X
    first = net.hidden(X, 0)
    assert np.isnan(first[:, 0]).all()
    whole_rows = hidden in ("softmax", "increasing")
    assert np.isnan(first[:, 1:]).all() == (whole_rows or first.shape[1] == 1)
    assert np.isnan(net.hidden(X, 1)).all()
    assert np.isnan(net.predict(X)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_nan_in_a_weight_shows_in_the_loss_and_stops_training(last, loss, place, dtype):
    shape = fitted(replace(MIDDLE, m=3), loss)
    for hidden in ("relu", "hard_sigmoid", "gelu", "softmax"):
        net, examples = network(shape, hidden, last, dtype), data(shape, loss, seed=6)
        net.weights[place][0, 0] = np.nan
        before = net.parameters.tobytes()
        assert np.isnan(net.evaluate(examples.X, examples.y, loss)["loss"])
        value, gradient = net.loss_and_gradient(examples.X, examples.y, loss)
        assert np.isnan(value)
        assert np.isnan(net.layout.view(gradient, "2.W")).any()
        with pytest.raises(fn.DivergenceError):
            net.fit(examples.X, examples.y, loss, epochs=1)
        assert net.parameters.tobytes() == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nan_at", [0, 1, 2])
def test_softmax_is_nan_wherever_the_nan_stands(nan_at, dtype):
    net = identity_network("softmax", dtype)
    net.biases[0][nan_at] = np.nan
    assert np.isnan(net.predict(LOGITS)).all()
    for label in range(3):
        assert np.isnan(net.evaluate(LOGITS[:1], [label])["loss"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_and_its_derivative_are_zero_at_the_kink(dtype):
    net = fn.Sequential([fn.Dense(1, "relu", initializer=1.0)], 1, dtype)
    t = net.trace([[-0.0], [0.0], [2.0]], [1.0, 1.0, 1.0])
    assert t.A[0].ravel().tolist() == [0.0, 0.0, 2.0]
    assert t.dZ[0].ravel() == pytest.approx([0.0, 0.0, 2 / 3])


# Views into the workspace.


def _read_and_mark(buffer, offset, rows, columns, values):
    view = matrix(buffer, offset, rows, columns)
    for i in range(rows):
        for j in range(columns):
            values[i, j] = view[i, j]
            view[i, j] = -1.0
    return view.shape, view.strides


@pytest.fixture(scope="module")
def read_and_mark():
    """Return a native function that reads a view of a buffer and writes -1 all over it."""
    with pytest.MonkeyPatch.context() as patch:
        # A file on disk would not notice an edit of this one.
        patch.setenv("FASTNN_CACHE", "0")
        return entry(_read_and_mark)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("offset", "rows", "columns"), [(0, 1, 1), (3, 2, 5), (16, 0, 5), (29, 1, 3)]
)
def test_a_view_reads_and_writes_its_part_of_the_buffer(
    offset, rows, columns, dtype, read_and_mark
):
    buffer = np.arange(32, dtype=dtype)
    values = np.zeros((rows, columns), dtype)
    found = read_and_mark(buffer, offset, rows, columns, values)
    assert found == ((rows, columns), (columns * buffer.itemsize, buffer.itemsize))
    expected = np.arange(32, dtype=dtype)
    seen = expected[offset : offset + rows * columns]
    assert values.ravel().tolist() == seen.tolist()
    seen[:] = -1.0
    assert buffer.tolist() == expected.tolist()


# What a call leaves alone.


@pytest.mark.parametrize("backend", BACKENDS)
def test_examples_and_parameters_are_left_as_they_are(backend):
    net, examples = network(MIDDLE, "tanh", "softmax", "float64"), data(MIDDLE, "cross_entropy")
    kept = [array.tobytes() for array in (examples.X, examples.y, examples.w, net.parameters)]
    net.predict(examples.X, backend=backend)
    net.trace(examples.X, examples.y, backend=backend)
    net.evaluate(examples.X, examples.y, sample_weight=examples.w, backend=backend)
    net.loss_and_gradient(examples.X, examples.y, sample_weight=examples.w, backend=backend)
    assert [
        array.tobytes() for array in (examples.X, examples.y, examples.w, net.parameters)
    ] == kept
    net.fit(examples.X, examples.y, sample_weight=examples.w, epochs=1, backend=backend)
    assert [array.tobytes() for array in (examples.X, examples.y, examples.w)] == kept[:3]
    assert net.parameters.tobytes() != kept[3]


def test_results_of_a_call_are_the_caller_s_own():
    net, examples = network(MIDDLE, "tanh", "softmax", "float64"), data(MIDDLE, "cross_entropy")
    first, again = (net.trace(examples.X, examples.y) for _ in range(2))
    for part in ("Z", "A", "dZ", "dW", "db"):
        for mine, other in zip(getattr(first, part), getattr(again, part), strict=True):
            assert mine.tobytes() == other.tobytes()
            mine[...] = 7.0
            assert not (other == 7.0).any()
    assert (
        net.parameters.tobytes()
        == network(MIDDLE, "tanh", "softmax", "float64").parameters.tobytes()
    )


def test_the_shapes_are_the_small_ones_without_the_compiler():
    assert (max(shape.n for shape in SHAPES) > 100) == JIT


@entry
def tiles_at(places, followed, inputs, outputs, panel, chunk):
    """Write the first row and column of each tile of a weight gradient, found in both ways."""
    band = band_rows(UNIT_ROWS, chunk)
    after, i, j = 0, 0, 0
    for unit in range(len(places)):
        top, first, column = tile_at(unit, inputs, outputs, panel, UNIT_ROWS, band)
        places[unit, 0], places[unit, 1], places[unit, 2] = top, first, column
        followed[unit, 0], followed[unit, 1], followed[unit, 2] = after, i, j
        after, i, j = tile_after(after, i, j, inputs, outputs, panel, UNIT_ROWS, band)


@pytest.mark.parametrize(
    ("inputs", "outputs", "chunk"),
    [(1, 1, 1), (9, 33, 64), (130, 70, 1 << 12), (129, 65, 1 << 11), (40, 32, 1 << 20)],
)
def test_bands_of_tiles_hold_every_tile_once(inputs, outputs, chunk):
    down, across = -(-inputs // UNIT_ROWS), -(-outputs // 32)
    places, followed = np.full((2, down * across, 3), -1)
    tiles_at(places, followed, inputs, outputs, 32, chunk)
    assert places.tolist() == followed.tolist()
    places = places[:, 1:]
    wanted = {(UNIT_ROWS * i, 32 * j) for i in range(down) for j in range(across)}
    assert {tuple(place) for place in places.tolist()} == wanted
    if chunk == 1 << 12 and UNIT_ROWS == 8:
        # Two tiles of each panel, before the panel beside it.
        assert places[:4].tolist() == [[0, 0], [8, 0], [0, 32], [8, 32]]


@entry
def blocks_of(blocks):
    """Write how many rows a product takes at a time, for each number of them."""
    for rows in range(len(blocks)):
        blocks[rows] = block_rows(rows)


def test_blocks_of_rows_are_whole_tiles_and_none_is_small():
    blocks = np.zeros(1200, np.int64)
    blocks_of(blocks)
    for rows, block in enumerate(blocks.tolist()):
        assert block % BATCH_ROWS == 0
        assert block <= BLOCK_ROWS
        if rows:
            count = -(-rows // BLOCK_ROWS)
            assert -(-rows // block) == count
            assert block - rows / count < BATCH_ROWS


# Compiling.


@pytest.mark.jit
@pytest.mark.parametrize(("own", "meanwhile"), [(700, 10_000), (20_000, 20_000), (0, 0)])
def test_garbage_is_looked_for_seldom_only_while_kernels_compile(own, meanwhile, monkeypatch):
    monkeypatch.setenv("FASTNN_CACHE", "0")
    seen = []

    @intrinsic(lambda x: x)
    def watched(typing, x):
        seen.append(gc.get_threshold())
        return x(x), lambda context, builder, signature, arguments: arguments[0]

    @entry
    def same(x):
        return watched(x)

    @entry
    def broken(x):
        return watched(x) + no_such_name  # noqa: F821

    before = gc.get_threshold()
    try:
        gc.set_threshold(own, 9, 8)
        whole = gc.get_threshold()
        assert same(3) == 3
        with pytest.raises(Exception, match="no_such_name"):
            broken(3)
        assert gc.get_threshold() == whole
    finally:
        gc.set_threshold(*before)
    assert seen
    assert set(seen) == {(meanwhile, *whole[1:])}
