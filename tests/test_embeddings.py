"""Vectors in place of codes: native, reference, by differences, and PyTorch's."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cases import differences, error

import fastnn as fn
from fastnn.embeddings import pieces
from fastnn.kernels import codes
from fastnn.kinds import from_dict, to_dict
from fastnn.optimizers import OPTIMIZERS

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")
SIZES = {1: 7, 3: 40, 6: 3}

STACKS = {
    "alone": [fn.Embedding(SIZES), fn.Dense(20, "tanh"), fn.Dense(3, "softmax")],
    "scaled, and dropped": [
        fn.Standardize(), fn.Embedding(SIZES, {3: 33, 6: 1}), fn.Dropout(0.2),
        fn.Dense(17, "gelu", l2=0.1), fn.Dropout(0.1), fn.Dense(3, "softmax", l2=0.01),
    ],
    "before other layers": [
        fn.Embedding({0: 65, **SIZES}, 17), fn.LayerNorm(), fn.Residual([fn.Dense(72, "tanh")]),
        fn.Dense(9), fn.PReLU(), fn.Dense(3, "softmax"),
    ],
    "of codes alone": [
        fn.Embedding(dict.fromkeys(range(8), 65), {2: 1, 5: 70}), fn.Dense(3, "softmax"),
    ],
    "frozen": [fn.Embedding(SIZES, 5, trainable=False), fn.Dense(9, "relu"),
               fn.Dense(3, "softmax")],
}  # fmt: skip


def network(stack="alone", dtype="float64", seed=0):
    """Return a network, measured if it is to be, whose weights are none of those at the start."""
    net = fn.Sequential(STACKS[stack], inputs=8, dtype=dtype, rng=seed)
    rng = np.random.default_rng(seed)
    net.parameters[:] += 0.1 * rng.normal(size=net.parameters.size)
    if isinstance(net.layers[0], fn.Standardize):
        net.adapt(examples(net)[0])
    return net


def examples(net, n=53):
    rng = np.random.default_rng(7)
    X = 2.0 + 3.0 * rng.normal(size=(n, 8))
    for column, size in net.layout.coded:
        X[:, column] = rng.integers(size, size=n)
    return X, rng.integers(3, size=n)


# What it is.


def test_an_embedding_is_sizes_and_a_dimension():
    layer = fn.Embedding({4: 9, 1: 3}, {4: 2})
    assert layer == fn.Embedding({1: 3, 4: 9}, {4: 2}) == fn.Embedding([(1, 3), (4, 9)], [(4, 2)])
    assert hash(layer) == hash(copy.deepcopy(layer))
    assert repr(layer) == "Embedding({1: 3, 4: 9}, dimension={4: 2})"
    assert repr(fn.Embedding({0: 2}, trainable=False)) == (
        "Embedding({0: 2}, dimension='auto', trainable=False)"
    )
    for one in (layer, fn.Embedding({0: np.int64(2)}, np.int32(3), trainable=False)):
        assert eval(repr(one), {"Embedding": fn.Embedding}) == one
        assert pickle.loads(pickle.dumps(one)) == one
        assert from_dict(json.loads(json.dumps(to_dict(one)))) == one


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({},), r"sizes must be a dict from columns .* got none"),
        ((5,), r"sizes must be a dict"),
        (("12",), r"sizes must be a dict"),
        (([1, 2, 3],), r"sizes must be a dict"),
        (([(1, 2, 3)],), r"sizes must be a dict"),
        (({-1: 5},), r"a column in sizes must be"),
        (({"city": 5},), r"a column in sizes must be"),
        (({True: 5},), r"a column in sizes must be"),
        (({0: 0},), r"sizes\[0\] must be"),
        (({0: 2.5},), r"sizes\[0\] must be"),
        (({0: 2**24 + 1},), r"sizes\[0\] must be at most 2\*\*24"),
        (([(0, 2), (0, 3)],), r"each column once"),
        (({0: 2}, 0), r"dimension must be"),
        (({0: 2}, "big"), r"dimension must be 'auto'"),
        (({0: 2}, {1: 3}), r"dimension must name coded columns, 0; got 1"),
        (({0: 2}, {0: 0}), r"dimension\[0\] must be"),
        (({0: 2}, None), r"dimension must be"),
        (({0: 2}, 2, 1), r"trainable must be"),
    ],
    ids=str,
)
def test_what_is_no_embedding_is_refused(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        fn.Embedding(*arguments)


def test_words_of_other_libraries_say_what_is_meant():
    with pytest.raises(TypeError, match="dimension"):
        fn.Embedding({0: 2}, embedding_dim=3)


def test_columns_that_pass_come_first_then_vectors_in_the_order_of_columns():
    net = network()
    X, _ = examples(net)
    assert net.layout.names[:3] == ("0.table_1", "0.table_3", "0.table_6")
    tables = {column: net.layout.view(net.parameters, f"0.table_{column}") for column in SIZES}
    assert [table.shape for table in tables.values()] == [(7, 4), (40, 20), (3, 2)]
    wanted = np.hstack([
        X[:, [0, 2, 4, 5, 7]],
        *(table[X[:, column].astype(int)] for column, table in tables.items()),
    ])  # fmt: skip
    for backend in BACKENDS:
        assert (net.hidden(X, 0, backend=backend) == wanted).all()
    assert net.summary().splitlines()[1].split() == [
        "0", "Embedding", "3", "columns", "(n,", "31)", "834"
    ]  # fmt: skip
    assert "?" in fn.Sequential(STACKS["alone"]).summary()


def test_auto_is_half_the_codes_and_at_most_fifty():
    layer = fn.Embedding({0: 1, 1: 2, 2: 3, 3: 98, 4: 99, 5: 100_000}, {1: 9})
    net = fn.Sequential([layer, fn.Dense(1)], inputs=6)
    found = [entry.shape[1] for entry in net.layout if "table" in entry.name]
    assert found == [1, 9, 2, 49, 50, 50]


def test_vectors_begin_small_and_differ_by_seed():
    layers = [fn.Embedding({0: 5000}, 16), fn.Dense(1)]
    nets = [fn.Sequential(layers, inputs=1, rng=seed) for seed in (0, 0, 1)]
    tables = [net.layout.view(net.parameters, "0.table_0") for net in nets]
    assert (tables[0] == tables[1]).all()
    assert (tables[0] != tables[2]).any()
    assert abs(tables[0].std() * 4 - 0.3) < 0.01
    assert abs(tables[0].mean()) < 0.001


@pytest.mark.parametrize("panel", [4, 8, 32])
@pytest.mark.parametrize("inputs", [8, 50])
def test_pieces_are_all_columns_once_and_none_straddles_two_panels(panel, inputs):
    layer = fn.Embedding(SIZES, {1: 3, 3: 70})
    found = pieces(layer, inputs, panel)
    to, count = found[:, codes.P_TO], found[:, codes.P_COUNT]
    assert to.tolist() == [0, *np.cumsum(count)[:-1].tolist()]
    assert to[-1] + count[-1] == inputs - 3 + 3 + 70 + 2
    assert (to // panel == (to + count - 1) // panel).all()
    read = found[found[:, codes.P_SIZE] == 0]
    first, last = read[:, codes.P_FROM], read[:, codes.P_FROM] + read[:, codes.P_COUNT] - 1
    assert (first // panel == last // panel).all()
    assert len(found) < inputs + 3 + 75 // panel + 3


# Where it may stand, and what it refuses.


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([fn.Dense(3), fn.Embedding({0: 2}), fn.Dense(1)], r"layers\[1\] .* must be the first"),
        ([fn.Dropout(0.1), fn.Embedding({0: 2}), fn.Dense(1)], r"before it stands Dropout"),
        ([fn.Residual([fn.Embedding({0: 2}), fn.Dense(3)]), fn.Dense(1)], r"stands a block"),
        ([fn.Embedding({0: 2}), fn.Standardize(), fn.Dense(1)], r"Standardize\(\), which measures"),
        ([fn.Embedding({0: 2}), fn.Embedding({1: 2}), fn.Dense(1)], r"before it stands Embedding"),
        ([fn.Embedding({0: 2})], r"must end with a Dense"),
    ],
    ids=str,
)
def test_it_reads_x_or_what_is_standardised(layers, said):
    with pytest.raises(ValueError, match=said):
        fn.Sequential(layers)


def test_there_must_be_such_columns():
    layers = [fn.Embedding({5: 3}), fn.Dense(1)]
    with pytest.raises(ValueError, match="embeds column 5, but there are 5 columns"):
        fn.Sequential(layers, inputs=5)
    net = fn.Sequential(layers)
    with pytest.raises(ValueError, match="X has 5 features, but column 5"):
        net.fit(np.zeros((4, 5)), np.zeros(4))
    assert net.inputs is None


WRONG = {"too large": 40.0, "negative": -1.0, "not whole": 2.5, "far too large": 1e30}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("stack", ["alone", "scaled, and dropped", "before other layers"])
def test_whatever_reads_x_refuses_codes_that_there_are_not(stack, wrong, backend):
    net = network(stack, "float32")
    X, y = (array.astype(kind) for array, kind in zip(examples(net), ("f4", int), strict=True))
    bad = X.copy()
    bad[5, 3] = WRONG[wrong]
    before = net.parameters.copy()
    frozen = net.freeze()
    calls = {
        "X": [net.predict, net.hidden, net.jacobian, net.adapt] + [
            lambda X, ask=ask: ask(X, y)
            for ask in (net.fit, net.train_on_batch, net.evaluate, net.trace, net.objective,
                        net.loss_and_gradient, net.diagnose)
        ],
        "x": [net, frozen],
    }  # fmt: skip
    if stack != "scaled, and dropped":
        calls["X"].remove(net.adapt)
    value = f"{float(bad[5, 3]):.9g}".replace("+", r"\+")
    with fn.backend(backend):
        for name, asked in calls.items():
            for call in asked:
                with pytest.raises(ValueError, match=f"{name} has {value} at row 5, column 3"):
                    call(bad)
        for call in (net, frozen):
            with pytest.raises(ValueError, match=f"x has {value} at row 0, column 3"):
                call(bad[5])
        for name, given in (("X_val", {"X_val": bad, "y_val": y}),
                            (r"validation_data\[0\]", {"validation_data": (bad, y)})):  # fmt: skip
            with pytest.raises(ValueError, match=f"{name} has {value} at row 5, column 3"):
                net.fit(X, y, progress=False, **given)
    assert (net.parameters == before).all()


def test_integers_and_frames_are_codes():
    net = network()
    X = np.random.default_rng(0).integers(3, size=(20, 8))
    wanted = net.predict(X.astype(float))
    assert (net.predict(X) == wanted).all()
    assert (net.predict(X.tolist()) == wanted).all()
    pandas = pytest.importorskip("pandas")
    assert (net.predict(pandas.DataFrame(X)) == wanted).all()


def test_the_largest_code_of_float32_has_its_own_vector():
    net = fn.Sequential([fn.Embedding({0: 2**24}, 1), fn.Dense(1)], inputs=1)
    table = net.layout.view(net.parameters, "0.table_0")
    X = np.array([[2**24 - 1], [2**24 - 2]], np.int64)
    assert (net.hidden(X, 0)[:, 0] == table[[-1, -2], 0]).all()
    with pytest.raises(ValueError, match="X has 16777216 at row 0"):
        net.predict([[2**24 + 1]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_standardize_leaves_codes_alone(backend):
    net = fn.Sequential(STACKS["scaled, and dropped"], inputs=8, dtype="float64")
    X, y = examples(net)
    net.fit(X, y, epochs=1, progress=False, backend=backend)
    mean, deviation = net.parameters[:8], net.parameters[8:16]
    coded = list(SIZES)
    assert mean[coded].tolist() == [0.0] * 3
    assert deviation[coded].tolist() == [1.0] * 3
    others = [column for column in range(8) if column not in SIZES]
    assert error(mean[others], X[:, others].mean(axis=0)) <= 1e-12
    assert (net.hidden(X, 0, backend=backend)[:, coded] == X[:, coded]).all()


def test_scales_of_codes_are_none_of_anybody_s_business(recwarn):
    net = fn.Sequential([fn.Embedding({0: 10**5}, 2), fn.Dense(1)], inputs=2)
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(10**5 - 2000, 10**5, size=300), rng.normal(size=300)], axis=1)
    y, few = rng.normal(size=300), X.copy()
    few[:, 0] = rng.integers(3, size=300)
    net.fit(X, y, epochs=1, progress=False, validation_data=(few, y))
    assert not recwarn.list
    assert not [one for one in net.diagnose(X, y).findings if "of X" in one or "X[" in one]


# What it computes.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_are_those_of_differences(stack, backend):
    net = network(stack)
    X, y = examples(net, 11)
    gradient = net.loss_and_gradient(X, y, backend=backend)[1].copy()
    places, still = [], []
    rng = np.random.default_rng(0)
    for one in net.layout.operations:
        for entry in one.parameters:
            some = entry.offset + rng.permutation(entry.size)[:25]
            (places if one.trainable else still).extend(some)
    for column, _ in net.layout.coded:
        entry = next(e for e in net.layout if e.name.endswith(f"table_{column}"))
        if net.layers[0] == fn.Embedding(SIZES, 5, trainable=False):
            continue
        rows = np.unique(X[:, column]).astype(int)[:3]
        places.extend(entry.offset + rows * entry.shape[1])
    found = differences(net, places, X, y, backend=backend)
    assert error(found, gradient[places]) < 1e-7
    assert not gradient[still].any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", STACKS)
def test_native_is_the_reference_in_any_number_of_threads(stack, optimizer):
    net = network(stack)
    X, y = examples(net, 200)
    options = {
        "optimizer": OPTIMIZERS[optimizer].record(), "epochs": 2, "progress": False,
        "batch_size": 64, "clip_norm": 0.5 if optimizer in ("Adam", "SGD") else None,
    }  # fmt: skip
    nets = [net.copy() for _ in range(4)]
    for one, threads in zip(nets, (1, 2, 3, 8), strict=True):
        one.fit(X, y, threads=threads, **options)
        assert (one.parameters == nets[0].parameters).all()
    net.fit(X, y, backend="reference", **options)
    assert error(nets[0].parameters, net.parameters) <= (1e-6 if optimizer == "Rprop" else 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 40), (5, 40), (700, 3000), (6000, 40)])
def test_batches_of_many_chunks_give_the_reference_s_gradient(rows, size, dtype):
    layers = [fn.Embedding({2: size}, 11), fn.Dense(20, "tanh"), fn.Dense(3, "softmax")]
    net = fn.Sequential(layers, inputs=8, dtype=dtype)
    X, y = examples(net, rows)
    (loss, gradient), (wanted, other) = (
        net.loss_and_gradient(X, y, backend=backend) for backend in BACKENDS
    )
    limit = 1e-12 if dtype == "float64" else 1e-4
    assert loss == pytest.approx(wanted, rel=limit)
    assert error(gradient, other) <= limit
    options = [{"threads": 1}, {"threads": 2}, {"threads": 7}, {"backend": "reference"}]
    nets = [net.copy() for _ in options]
    for one, more in zip(nets, options, strict=True):
        one.fit(X, y, optimizer=fn.SGD(0.1), batch_size=rows, epochs=2, progress=False, **more)
    for one in nets[1:3]:
        assert (one.parameters == nets[0].parameters).all()
    assert error(nets[0].parameters, nets[3].parameters) <= limit


def test_codes_that_do_not_occur_move_as_moments_say():
    net = fn.Sequential([fn.Embedding({0: 6}, 3), fn.Dense(1)], inputs=1, dtype="float64")
    table = net.layout.view(net.parameters, "0.table_0")
    first, y = np.array([[0.0], [1.0], [5.0]]), np.ones(3)
    start = table.copy()
    net.train_on_batch(first, y, optimizer=fn.Adam(0.1))
    assert (table[[2, 3, 4]] == start[[2, 3, 4]]).all()
    middle = table.copy()
    net.train_on_batch(first[:1], y[:1], optimizer=fn.Adam(0.1))
    assert (table[[0, 1, 5]] != middle[[0, 1, 5]]).all()
    assert (table[[2, 3, 4]] == start[[2, 3, 4]]).all()


def test_vectors_neither_decay_nor_count_for_l2():
    layers = [fn.Embedding({0: 6}, 3), fn.Dense(1, l2=0.5)]
    net = fn.Sequential(layers, inputs=1, dtype="float64")
    table, W = net.layout.view(net.parameters, "0.table_0").copy(), net.weights[0]
    loss, _ = net.loss_and_gradient([[2.0]], [0.0])
    plain = net.evaluate([[2.0]], [0.0])["loss"]
    assert loss == pytest.approx(plain + 0.25 * (W**2).sum(), rel=1e-12)
    net.fit([[2.0]], [0.0], optimizer=fn.AdamW(0.1, weight_decay=0.5), epochs=1, progress=False)
    found = net.layout.view(net.parameters, "0.table_0")
    assert (found[[0, 1, 3, 4, 5]] == table[[0, 1, 3, 4, 5]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_predictions_are_the_same_bits_however_they_are_asked_for(stack, dtype):
    net = network(stack, dtype)
    X = examples(net, 300)[0].astype(dtype)
    X.flags.writeable = False
    wanted = net.predict(X)
    assert error(wanted, net.predict(X, backend="reference")) <= (
        1e-12 if dtype == "float64" else 1e-5
    )
    assert (net(X) == wanted).all()
    assert (net.freeze()(X[:9]) == wanted[:9]).all()
    for n in (0, 1, 299):
        assert (net(X[n]) == wanted[n]).all()
        assert (net.freeze()(X[n].copy()) == wanted[n]).all()
        assert (net.predict(X[n : n + 1]) == wanted[n]).all()
    out = np.empty_like(wanted)
    assert (net.predict(X, out=out) == wanted).all()
    assert (net.hidden(X, -1) == wanted).all()
    for place in range(len(net.layers)):
        found = [net.hidden(X, place, backend=backend) for backend in BACKENDS]
        assert error(*found) <= (1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("stack", STACKS)
def test_traces_evaluations_and_reports_are_those_of_the_reference(stack):
    net = network(stack)
    X, y = examples(net)
    native, textbook = (net.trace(X, y, backend=backend) for backend in BACKENDS)
    for field in ("Z", "A", "dZ", "dW", "db"):
        for one, other in zip(getattr(native, field), getattr(textbook, field), strict=True):
            assert error(one, other) <= 1e-11
    assert error(native.dX, textbook.dX) <= 1e-11
    assert not native.dX[:, [column for column, _ in net.layout.coded]].any()
    for asked in ((), ("accuracy",)):
        found = [net.evaluate(X, y, metrics=asked, backend=backend) for backend in BACKENDS]
        assert found[0] == pytest.approx(found[1], rel=1e-11)
    reports = [net.diagnose(X, y, backend=backend) for backend in BACKENDS]
    assert reports[0].findings == reports[1].findings
    f = net.objective(X, y)
    (loss, gradient), (wanted, other) = f(net.parameters), net.loss_and_gradient(X, y)
    assert loss == wanted
    assert (gradient == other).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fit_validates_measures_and_keeps_the_best(backend):
    nets, histories = [network("scaled, and dropped") for _ in range(2)], []
    X, y = examples(nets[0], 120)
    for net, path in zip(nets, (backend, "reference"), strict=True):
        histories.append(net.fit(
            X, y, epochs=6, progress=False, metrics="accuracy", validation_data=(X[:40], y[:40]),
            callbacks=fn.EarlyStopping(patience=2), backend=path,
        ))  # fmt: skip
    best = min(histories[0]["val_loss"])
    assert nets[0].evaluate(X[:40], y[:40])["loss"] == pytest.approx(best, rel=1e-9)
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert histories[0][name] == pytest.approx(histories[1][name], rel=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_targets_may_come_to_unit_scale_too(backend):
    layers = [fn.Standardize(), fn.Embedding(SIZES), fn.Dense(9, "tanh"), fn.Dense(1)]
    net = fn.Sequential(layers, inputs=8, dtype="float64", scale_targets=True)
    X, _ = examples(net)
    y = 500.0 + 30.0 * X[:, 0] + 20.0 * X[:, 3]
    net.fit(X, y, epochs=3, progress=False, backend=backend)
    wanted = net.predict(X, backend="reference")
    assert abs(wanted.mean() - y.mean()) < y.std()
    assert error(net.predict(X), wanted) <= 1e-12
    assert error(net(X[3]), wanted[3]) <= 1e-12


def test_what_a_callback_writes_to_x_reads_no_other_memory():
    net = network("alone", "float32")
    X = examples(net)[0].astype(np.float32)
    y = np.zeros(len(X), int)

    class Spoil(fn.Callback):
        def on_epoch_end(self, *_):
            X[:, 3] = np.resize([np.nan, 1e30, -5.0, 77.0], len(X))

    net.fit(X, y, epochs=3, progress=False, callbacks=Spoil())
    assert np.isfinite(net.parameters).all()


# Derivatives.


@pytest.mark.parametrize("stack", STACKS)
def test_derivatives_are_those_by_numbers(stack):
    net = network(stack)
    X, _ = examples(net, 4)
    J = net.jacobian(X)
    coded = [column for column, _ in net.layout.coded]
    assert not J[:, :, coded].any()
    for column in (column for column in range(8) if column not in coded):
        up, down = X.copy(), X.copy()
        up[:, column] += 1e-5
        down[:, column] -= 1e-5
        slope = (net.predict(up) - net.predict(down)) / 2e-5
        assert error(J[:, :, column], slope) < 1e-7
    U = np.random.default_rng(0).normal(size=(4, 3))
    assert error(net.vjp(X, U), np.einsum("nkj,nk->nj", J, U)) <= 1e-12
    assert net.parameter_jacobian(X).shape == (4, 3, net.layout.size)
    with pytest.raises(ValueError, match="attribute goes from a baseline"):
        net.attribute(X, output=0)


def test_hessians_times_vectors_are_differences_of_gradients():
    net = network()
    X, y = examples(net)
    v = np.random.default_rng(0).normal(size=net.layout.size)
    found, base = net.hessian_vector_product(X, y, v), net.parameters.copy()
    slopes = []
    for step in (1e-5, -1e-5):
        net.parameters = base + step * v
        slopes.append(net.loss_and_gradient(X, y)[1].copy())
    assert error(found, (slopes[0] - slopes[1]) / 2e-5) < 1e-6


# Keeping, and leaving.


@pytest.mark.parametrize("stack", STACKS)
def test_files_copies_and_pickles_go_on_to_the_same_bits(stack, tmp_path):
    net = network(stack, "float32")
    X, y = examples(net)
    net.fit(X, y, epochs=1, progress=False)
    net.save(tmp_path / "net")
    twins = [fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        assert twin.layers == net.layers
        assert (twin.parameters == net.parameters).all()
    weights = net.get_weights()
    assert [one.shape for one in weights] == [entry.shape for entry in net.layout]
    other = fn.Sequential(STACKS[stack], inputs=8, rng=5)
    other.set_weights(weights)
    assert (other.predict(X) == net.predict(X)).all()
    net.fit(X, y, epochs=2, progress=False)
    for twin in twins:
        twin.fit(X, y, epochs=2, progress=False)
        assert (twin.parameters == net.parameters).all()


def test_a_file_may_hold_a_table_for_each_of_many_columns(tmp_path):
    layers = [fn.Embedding(dict.fromkeys(range(300), 1), {7: 2}), fn.Dense(1)]
    net = fn.Sequential(layers, inputs=300)
    net.save(tmp_path / "net")
    assert (fn.load(tmp_path / "net").parameters == net.parameters).all()


def test_a_fit_goes_on_to_the_same_bits(tmp_path):
    nets = [network("scaled, and dropped", "float32") for _ in range(2)]
    X, y = examples(nets[0])
    nets[0].fit(X, y, epochs=4, progress=False)
    nets[1].fit(X, y, epochs=2, progress=False, callbacks=fn.Checkpoint(tmp_path / "c", every=2))
    twin = network("scaled, and dropped", "float32", seed=9)
    twin.fit(X, y, epochs=4, progress=False, resume=tmp_path / "c")
    assert (twin.parameters == nets[0].parameters).all()


def test_compiled_code_refuses_it_by_name():
    net = network()
    for call in (net.jitted, net.cfunc, lambda: net.predict_many(net.parameters[None], [[0] * 8])):
        with pytest.raises(ValueError, match="got an Embedding as layer 0"):
            call()


def test_sparse_examples_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    net = network()
    with pytest.raises(ValueError, match="X must be dense"):
        net.predict(sparse.csr_array(examples(net)[0]))


@pytest.mark.parametrize("stack", ["alone", "scaled, and dropped", "of codes alone"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exports_compute_the_same(stack, dtype, tmp_path):
    net = network(stack, dtype)
    X = examples(net)[0].astype(dtype)
    limit = 1e-11 if dtype == "float64" else 2e-5
    wanted = net.predict(X)
    for given in (None, X):
        net.to_python(tmp_path / "net.py", given)
        subprocess.run([sys.executable, tmp_path / "net.py"], check=True, capture_output=True)
    module = {"__name__": "net"}
    exec((tmp_path / "net.py").read_text(), module)
    assert error(module["predict"](X), wanted) <= limit
    bad = X.copy()
    bad[3, 3] = -1
    with pytest.raises(ValueError, match="column 3 must hold codes from 0"):
        module["predict"](bad)
    compiler = shutil.which("cc")
    for options in ({}, {"X": X}, {"X": X, "quantize": "int8"}):
        net.to_c(tmp_path / "net.c", **options)
        if compiler:
            build = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1",
                     "-DNETWORK_SELF_TEST", "net.c", "-lm", "-o", "net"]  # fmt: skip
            subprocess.run(build, check=True, cwd=tmp_path, capture_output=True)
            subprocess.run(["./net"], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_onnx_files_compute_the_same(dtype, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    stacks = ["alone", "of codes alone"]
    # The runtime has no erf of float64.
    for stack in (["scaled, and dropped"] if dtype == "float32" else []) + stacks:
        net = network(stack, dtype)
        X = examples(net)[0].astype(dtype)
        net.to_onnx(tmp_path / "net.onnx")
        session = runtime.InferenceSession(tmp_path / "net.onnx")
        (found,) = session.run(None, {"X": X})
        assert error(found, net.predict(X)) <= (1e-11 if dtype == "float64" else 2e-5)


# PyTorch's.


def test_it_is_pytorch_s():
    torch = pytest.importorskip("torch")
    layers = [fn.Embedding(SIZES, {3: 33}), fn.Dense(30, "tanh"), fn.Dense(3)]
    net = fn.Sequential(layers, inputs=8, rng=3)
    X = examples(net, 40)[0].astype(np.float32)
    targets = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    module = net.to_torch()
    assert [type(one).__name__ for one in module] == ["Embed", "Linear", "Tanh", "Linear"]
    predicted = module(torch.from_numpy(X))
    assert np.abs(net.predict(X) - predicted.detach().numpy()).max() <= 1e-5
    torch.nn.functional.mse_loss(predicted, torch.from_numpy(targets)).backward()
    gradient = net.loss_and_gradient(X, targets)[1]
    theirs = {
        **{f"0.table_{column}": table.weight.grad
           for column, table in zip(SIZES, module[0].tables, strict=True)},
        "1.W": module[1].weight.grad.T, "1.b": module[1].bias.grad,
    }  # fmt: skip
    for name, wanted in theirs.items():
        assert np.abs(net.layout.view(gradient, name) - wanted.numpy()).max() <= 1e-5
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for start in (0, 7, 20):
        part = slice(start, start + 13)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(torch.from_numpy(X[part])),
                                            torch.from_numpy(targets[part]))  # fmt: skip
        loss.backward()
        optimizer.step()
        net.train_on_batch(X[part], targets[part], optimizer=fn.Adam(0.01))
    for column, table in zip(SIZES, module[0].tables, strict=True):
        own = net.layout.view(net.parameters, f"0.table_{column}")
        assert np.abs(own - table.weight.detach().numpy()).max() <= 1e-4
