"""Layouts and programs: where everything lies, and that nothing lies on top of another."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from cases import DTYPES, PAIRS, SHAPES, data, error, network
from hypothesis import given
from hypothesis import strategies as st

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes
from fastnn.layout import Layout, Program, Tiling, aligned_zeros
from fastnn.losses import LOSSES
from fastnn.optimizers import OPTIMIZERS
from fastnn.predicting.predictor import Table
from fastnn.tuning import tuning

LINE = 16
TILINGS = {"sse": Tiling(8, 6, 4), "avx2": Tiling(16, 6, 4), "avx512": Tiling(32, 8, 8)}
TILING = TILINGS["avx2"]

LAYERS = [
    fn.Dense(17, "relu", l2=0.1),
    fn.Dense(3, "tanh", bias=False),
    fn.Dropout(0.5),
    fn.Dense(5, "softmax", l2=0.2),
]


@pytest.fixture
def layout():
    return Layout.of(4, LAYERS)


# Vectors.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 3, 16, 1001, (1 << 20) - 1, 1 << 20, 1_234_567])
def test_aligned_zeros_start_at_a_cache_line(size, dtype):
    vectors = [aligned_zeros(size, dtype) for _ in range(5)]
    for vector in vectors:
        assert size == 0 or vector.ctypes.data % 64 == 0
        assert vector.shape == (size,)
        assert vector.dtype == dtype
        assert vector.flags.carray
        assert not vector.any()
    for one, other in combinations(vectors, 2):
        assert not np.shares_memory(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_s_vector_stays_aligned_however_it_came_about(dtype, tmp_path):
    net = network(SHAPES[-1], "relu", "softmax", dtype)
    net.save(tmp_path / "net")
    for twin in (net, net.copy(), fn.load(tmp_path / "net")):
        assert twin.parameters.ctypes.data % 64 == 0
        assert twin.parameters.flags.carray


# Names, offsets, shapes.


def test_arrays_follow_each_other_without_padding(layout):
    assert layout.names == ("0.W", "0.b", "1.W", "3.W", "3.b")
    assert [(entry.name, entry.offset, entry.shape, entry.size) for entry in layout] == [
        ("0.W", 0, (4, 17), 68),
        ("0.b", 68, (17,), 17),
        ("1.W", 85, (17, 3), 51),
        ("3.W", 136, (3, 5), 15),
        ("3.b", 151, (5,), 5),
    ]
    assert layout.size == 156
    assert len(layout) == 5
    assert (layout.inputs, layout.outputs) == (4, 5)
    assert layout["1.W"].shape == (17, 3)
    assert "3.b (5,)" in repr(layout)
    assert "156 parameters" in repr(layout)
    with pytest.raises(KeyError):
        layout["1.b"]


def test_blocks_hold_what_computing_needs(layout):
    found = [(b.place, b.inputs, b.outputs, b.activation, b.l2) for b in layout.operations]
    assert found == [
        (0, 4, 17, "relu", 0.1),
        (1, 17, 3, "tanh", 0.0),
        (2, 3, 3, "identity", 0.0),
        (3, 3, 5, "softmax", 0.2),
    ]
    assert [b.kind.name for b in layout.operations] == ["Dense", "Dense", "Dropout", "Dense"]
    assert [b.layer for b in layout.operations] == LAYERS
    assert [b.place for b in layout.blocks] == [0, 1, 3]
    assert [b.W for b in layout.blocks] == [layout[name] for name in ("0.W", "1.W", "3.W")]
    assert [b.b for b in layout.blocks] == [layout["0.b"], None, layout["3.b"]]


def test_views_share_the_vector_and_cover_it(layout):
    vector = np.arange(layout.size, dtype=np.float64)
    assert layout.view(vector, "1.W").tolist() == np.arange(85.0, 136.0).reshape(17, 3).tolist()
    assert layout.view(vector, layout["0.b"]).tolist() == list(range(68, 85))
    weights, biases = layout.weights(vector), layout.biases(vector)
    assert [W.shape for W in weights] == [(4, 17), (17, 3), (3, 5)]
    assert [None if b is None else b.shape for b in biases] == [(17,), None, (5,)]
    for array in (*weights, biases[0], biases[2]):
        assert np.shares_memory(array, vector)
        array[...] = -1.0
    assert (vector == -1.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_s_weights_and_biases_are_views_of_its_vector(dtype):
    net = network(SHAPES[-1], "relu", "softmax", dtype)
    net.weights[1][0, 0] = 5.0
    net.biases[2][0] = 6.0
    assert net.parameters[net.layout["1.W"].offset] == 5.0
    assert net.parameters[net.layout["2.b"].offset] == 6.0


# Programs.


def panels(rows, columns, tiling):
    """Return the elements of a panel matrix."""
    return rows * -(-columns // tiling.panel) * tiling.panel


def buffers(program, tiling):
    """Return (start, end) of every thread's buffers, in elements of workspace."""
    found = []
    for plan, table in zip(program.plan, program.table, strict=True):
        dense = table[table["operation"] == codes.DENSE]
        height, chunk, widest = plan["height"], plan["chunk"], dense["outputs"].max()
        gradient = table["dresult"][0] != codes.NONE
        sizes = {
            "flat_at": chunk * widest,
            "dflat_at": chunk * widest if gradient else 0,
            "losses": chunk,
            "shares": chunk,
            "tiles": len(program.plan) * tiling.panel * tiling.units,
            "rates_at": codes.RATES,
        }
        found += [(plan[entry], plan[entry] + size) for entry, size in sizes.items()]
        for row in table:
            inputs, outputs = row["inputs"], row["outputs"]
            sizes = {
                "source": panels(height, inputs, tiling),
                "Z": panels(height, outputs, tiling),
                "result": panels(height, outputs, tiling),
                "dresult": panels(height, outputs, tiling),
                "transposed": panels(outputs, inputs, tiling),
            }
            # Narrow weights lie as their transpose already; a dropout has neither.
            assert row["narrow"] != 1 or row["transposed"] == codes.NONE
            found += [
                (row[entry], row[entry] + size)
                for entry, size in sizes.items()
                if row[entry] != codes.NONE
            ]
    return found


def packed(program, tiling, gradients):
    """Return (start, end) of packed weights and biases, of their moments and of gradients."""
    plan, found = program.plan[0], []
    for vector in range(1 + plan["moments"] + gradients):
        shift = vector * plan["state"]
        for row in program.table[0]:
            if row["operation"] == codes.DROPOUT:
                continue
            inputs, outputs = row["inputs"], row["outputs"]
            weights = panels(-(-inputs // tiling.units) * tiling.units, outputs, tiling)
            assert row["narrow"] == (outputs <= tiling.panel // 8)
            if row["narrow"]:
                weights = panels(codes.NARROW_ROWS, inputs, tiling)
            for entry, size in (
                ("packed", weights),
                ("biases", panels(1, outputs, tiling)),
            ):
                start = row[entry] + shift
                assert start + size <= shift + plan["state"]
                found.append((start, start + size))
    return found


def check_rooms(found, workspace):
    """Hold that buffers begin at cache lines, fit, and do not overlap unless they are the same."""
    for start, end in found:
        assert start % LINE == 0
        assert 0 <= start <= end <= workspace
    for (start, end), (other_start, other_end) in combinations(sorted(set(found)), 2):
        assert end <= other_start
        assert start < other_start or end == start or other_end == other_start


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("loss", [None, *LOSSES])
@pytest.mark.parametrize("rows", [1, 17, 1000, 5000])
@pytest.mark.parametrize("width", TILINGS)
def test_no_two_buffers_overlap(width, rows, loss, gradient, keep, layout):
    row, tiling = None if loss is None else LOSSES[loss], TILINGS[width]
    for moments, clipping, threads in ((0, False, 1), (1, False, 3), (2, True, 2)):
        program = Program.of(
            layout.blocks, rows, tiling, loss=row, gradient=gradient, keep=keep, moments=moments,
            clipping=clipping, threads=threads,
        )  # fmt: skip
        plan = program.plan[0]
        chunk = plan["chunk"]
        assert chunk <= plan["height"] < chunk + tiling.rows
        assert plan["height"] % tiling.rows == 0
        assert plan["tile_size"] == tiling.panel * tiling.units
        # A gradient is kept where somebody asks for it, or more than one chunk adds to it.
        kept = gradient and (moments == 0 or clipping or chunk < rows)
        vectors = packed(program, tiling, kept * plan["groups"])
        check_rooms(buffers(program, tiling) + vectors, program.workspace)


@st.composite
def networks(draw):
    """Draw layers of any number and width, and a loss that may stand at their end."""
    hidden = draw(st.lists(st.integers(1, 300), max_size=5))
    loss = draw(st.sampled_from([None, *LOSSES.values()]))
    last = draw(st.sampled_from(list(ACTIVATIONS)))
    if loss is not None and loss.activation is not None:
        last = loss.activation
    outputs = draw(st.integers(1, 80)) * (1 if loss is None else loss.outputs)
    activations = draw(st.lists(st.sampled_from(list(ACTIVATIONS)), min_size=5, max_size=5))
    layers = []
    for units, activation in zip(
        [*hidden, outputs], [*activations[: len(hidden)], last], strict=True
    ):
        layers += [fn.Dropout(0.5)] * draw(st.integers(0, 2))
        layers.append(
            fn.Dense(units, activation, draw(st.booleans()), trainable=draw(st.booleans()))
        )
    return Layout.of(draw(st.integers(1, 1000)), layers).operations, loss


@given(
    made=networks(),
    rows=st.integers(1, 50_000),
    width=st.sampled_from(list(TILINGS)),
    gradient=st.booleans(),
    keep=st.booleans(),
    dropping=st.booleans(),
    clipping=st.booleans(),
    moments=st.integers(0, 3),
    threads=st.integers(1, 9),
)
def test_whatever_is_planned_no_two_buffers_overlap(
    made, rows, width, gradient, keep, dropping, clipping, moments, threads
):
    (operations, loss), tiling = made, TILINGS[width]
    blocks = [one for one in operations if isinstance(one.layer, fn.Dense)]
    # Everything is kept of batches that fit; no run keeps a million rows in many threads.
    rows = min(rows, 300) if keep else rows
    program = Program.of(
        operations, rows, tiling, loss=loss, gradient=gradient, keep=keep, dropping=dropping,
        clipping=clipping, moments=moments, threads=threads,
    )  # fmt: skip
    plan = program.plan[0]
    assert plan["batch"] == rows
    assert 1 <= plan["chunk"] <= rows
    assert plan["groups"] == 1 or gradient
    kept = gradient and (moments == 0 or clipping or plan["chunk"] < rows)
    found = buffers(program, tiling) + packed(program, tiling, kept * plan["groups"])
    check_rooms(found, program.workspace)
    # Each weight that learns belongs to one unit of work of one layer, and each layer reads the
    # one below.
    dense = program.table[0][program.table["operation"][0] == codes.DENSE]
    assert dense["inputs"].tolist() == [block.inputs for block in blocks]
    assert dense["outputs"].tolist() == [block.outputs for block in blocks]
    units = np.diff(dense["units"], append=plan["unit_count"])
    assert ((units > 0) == [block.trainable for block in blocks]).all()
    above = program.table[0, 1:]
    assert (above["source"] == program.table["result"][0, :-1]).all()


@pytest.mark.parametrize("width", TILINGS)
def test_threads_have_activations_of_their_own_only_where_they_share_no_chunk(width, layout):
    options = {"loss": LOSSES["cross_entropy"], "gradient": True, "moments": 2, "threads": 3}
    for rows, apart in ((5000, True), (1000, False)):
        program = Program.of(layout.blocks, rows, TILINGS[width], **options)
        assert (program.plan["groups"][0] > 1) == apart
        own = ["source", "Z", "result", "dsource", "dresult"]
        first = program.table[0]
        for table in program.table[1:]:
            for name in table.dtype.names:
                if name not in own:
                    assert (table[name] == first[name]).all()
                else:
                    # The first operation asks for no gradient of what it reads.
                    assert (table[name][1:] != first[name][1:]).all() == apart
        for name in ("flat_at", "dflat_at", "losses", "shares"):
            assert len(set(program.plan[name])) == (3 if apart else 1)
        for name in ("chunk", "groups", "state", "tiles", "rates_at"):
            assert (program.plan[name] == program.plan[name][0]).all()


def test_groups_follow_from_the_shape_alone(layout):
    def groups(rows, blocks=layout.blocks, **options):
        plans = [
            Program.of(blocks, rows, TILING, gradient=True, threads=threads, **options).plan
            for threads in (1, 2, 7)
        ]
        assert len({plan["groups"][0] for plan in plans}) == 1
        return plans[0]["groups"][0]

    chunk = 2**15 // 29
    assert groups(3 * chunk) == 1
    assert groups(3 * chunk + 1) == 4
    assert groups(10 * chunk) == 10
    assert groups(1000 * chunk) == 16
    assert groups(10 * chunk, moments=2, clipping=True) == 10
    # Weights of which sixteen copies would not stay in the cache are summed once.
    heavy = Layout.of(500, [fn.Dense(500, "relu")]).blocks
    assert groups(10**6, heavy) == 1
    # Nothing is summed on the way forward, and where everything is kept there is one chunk.
    assert Program.of(layout.blocks, 10 * chunk, TILING).plan["groups"][0] == 1
    assert groups(10 * chunk, keep=True) == 1


@pytest.mark.parametrize("gradient", [False, True])
def test_each_operation_reads_what_the_one_below_wrote(gradient, layout):
    program = Program.of(layout.blocks, 17, TILING, loss=LOSSES["cross_entropy"], gradient=gradient)
    below, table = program.table[0, :-1], program.table[0, 1:]
    assert (table["source"] == below["result"]).all()
    assert (table["dsource"] == below["dresult"]).all()
    # Nobody asks for the gradient of X.
    assert program.table["dsource"][0, 0] == codes.NONE
    assert ((program.table["dresult"] == codes.NONE) == (not gradient)).all()


def test_the_table_says_what_the_layout_says(layout):
    program = Program.of(layout.blocks, 17, TILING, gradient=True)
    assert program.table.shape == (1, 3)
    table = program.table[0]
    assert (table["operation"] == codes.DENSE).all()
    assert table["inputs"].tolist() == [4, 17, 3]
    assert table["outputs"].tolist() == [17, 3, 5]
    assert table["W"].tolist() == [0, 85, 136]
    assert table["b"].tolist() == [68, codes.NONE, 151]
    # Tiles of four inputs by a panel of sixteen outputs.
    assert table["units"].tolist() == [0, 2, 7]
    assert program.plan["unit_count"][0] == 8
    names = ("relu", "tanh", "softmax")
    assert table["activation"].tolist() == [ACTIVATIONS[name].code for name in names]
    assert program.table[0]["l2"].tolist() == [0.1, 0.0, 0.2]
    without = Program.of(layout.blocks, 17, TILING, gradient=True, penalty=False)
    assert not without.table["l2"].any()


@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_a_matched_loss_takes_the_last_activation_over(last, loss):
    row = LOSSES[loss]
    blocks = Layout.of(2, [fn.Dense(3, last), fn.Dense(3, last)]).blocks
    found = Program.of(blocks, 1, TILING, loss=row).table["activation"][0].tolist()
    ends = "identity" if row.activation == last else last
    assert found == [ACTIVATIONS[last].code, ACTIVATIONS[ends].code]
    assert Program.of(blocks, 1, TILING).table["activation"][0, 1] == ACTIVATIONS[last].code


def test_a_part_of_a_network_is_a_network(layout):
    program = Program.of(layout.blocks[:2], 17, TILING)
    assert len(program.table[0]) == 2
    assert program.table["W"][0, 1] == 85


def test_z_has_a_place_of_its_own_only_where_it_is_asked_for(layout):
    table = Program.of(layout.blocks, 17, TILING, gradient=True).table[0]
    assert (table["Z"] == table["result"]).all()
    table = Program.of(layout.blocks, 17, TILING, gradient=True, keep=True).table[0]
    assert (table["Z"] != table["result"]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_may_ask_for_z(name, dtype, monkeypatch):
    net = network(SHAPES[-1], name, "identity", dtype)
    examples = data(SHAPES[-1], "mean_squared_error")
    before = net.loss_and_gradient(examples.X, examples.y)[1]
    monkeypatch.setitem(ACTIVATIONS, name, replace(ACTIVATIONS[name], derivative_from="Z"))
    table = Program.of(net.layout.blocks, 5, TILING, gradient=True).table[0]
    assert (table["Z"][:2] != table["result"][:2]).all()
    table = Program.of(net.layout.blocks, 5, TILING).table[0]
    assert (table["Z"] == table["result"]).all()
    assert error(net.loss_and_gradient(examples.X, examples.y)[1], before) <= 1e-6


def test_a_program_shows_its_operations_by_their_names(layout):
    program = Program.of(layout.operations, 17, TILING, gradient=True, dropping=True)
    head, *rows, foot = (line.split() for line in str(program).splitlines())
    assert head[:4] == ["operation", "activation", "inputs", "outputs"]
    assert [row[1:5] for row in rows] == [
        ["dense", "relu", "4", "17"],
        ["dense", "tanh", "17", "3"],
        ["dropout", "identity", "3", "3"],
        ["dense", "softmax", "3", "5"],
    ]
    for name in ("W", "b", "source", "result", "packed", "transposed"):
        numbers = program.table[0][name]
        shown = [row[1 + head.index(name)] for row in rows]
        assert shown == ["-" if n == codes.NONE else str(n) for n in numbers]
    assert str(program.workspace) in foot


# Programs that are kept.

KEPT_PLANNING = {"gradient": True, "dropping": True, "moments": 2}


def same(program, other):
    """Say whether two programs are the same in every number."""
    sizes = ("workspace", "integers", "parts")
    return (
        program.table.tobytes() == other.table.tobytes()
        and program.plan.tobytes() == other.plan.tobytes()
        and program.known.tobytes() == other.known.tobytes()
        and all(getattr(program, name) == getattr(other, name) for name in sizes)
    )


@pytest.mark.parametrize("loss", [None, *LOSSES])
def test_a_kept_program_is_that_which_would_be_planned(layout, loss):
    row = None if loss is None else LOSSES[loss]
    for rows, threads in ((5, 1), (5000, 3)):
        asked = {**KEPT_PLANNING, "loss": row, "threads": threads}
        wanted = Program.of(layout.operations, rows, TILING, **asked)
        for _ in range(2):
            assert same(Program.kept(layout.operations, rows, TILING, **asked), wanted)


def test_layers_of_all_kinds_are_planned_once(monkeypatch):
    layers = [
        fn.Standardize(), fn.Dense(9, "relu"), fn.BatchNorm(), fn.PReLU(), fn.Dropout(0.1),
        fn.Residual([fn.Dense(9), fn.LayerNorm(), fn.RMSNorm()]), fn.Dense(2),
    ]  # fmt: skip
    first = Program.kept(Layout.of(3, layers).operations, 7, TILING, **KEPT_PLANNING)
    monkeypatch.setattr("fastnn.layout._Planner", None)
    # Of another layout of the same layers too.
    again = Program.kept(Layout.of(3, layers).operations, 7, TILING, **KEPT_PLANNING)
    assert same(first, again)
    with pytest.raises(TypeError, match="not callable"):
        Program.kept(Layout.of(4, layers).operations, 7, TILING, **KEPT_PLANNING)


def test_what_a_run_writes_into_its_program_is_not_kept(layout):
    wanted = Program.of(layout.operations, 7, TILING)
    program = Program.kept(layout.operations, 7, TILING)
    program.plan["order_key"] = 1
    program.table["number"] = 0.25
    assert same(Program.kept(layout.operations, 7, TILING), wanted)


def test_a_kept_program_is_for_the_figures_in_force(layout):
    def chunk():
        return Program.kept(layout.operations, 10**5, TILING).plan["chunk"][0]

    before = chunk()
    with tuning(chunk_elements=600, smallest_chunk=1):
        assert chunk() == 20
    assert chunk() == before != 20


def test_a_program_for_sparse_examples_is_planned_for_them(layout):
    for entries in (10, 1000):
        asked = {"entries": lambda rows, most=entries: most}
        wanted = Program.of(layout.operations, 7, TILING, **asked)
        assert same(Program.kept(layout.operations, 7, TILING, **asked), wanted)


# Codes that no kernel knows.


def test_an_unknown_operation_is_refused(layout, monkeypatch):
    unknown = codes.OPERATIONS[-1] + 1
    operations = [replace(one, kind=replace(one.kind, code=unknown)) for one in layout.operations]
    with pytest.raises(
        ValueError, match=f"no operation of code {unknown}; they know 0 to {unknown - 1}"
    ):
        Program.of(operations, 5, TILING, dropping=True)


def test_an_unknown_activation_is_refused(layout, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], code=99))
    with pytest.raises(ValueError, match="no activation of code 99"):
        Program.of(layout.blocks, 5, TILING)
    with pytest.raises(ValueError, match="no activation of code 99"):
        Table.of(layout.blocks, np.dtype("float32"))


def test_an_unknown_loss_is_refused(layout):
    loss = replace(LOSSES["hinge"], code=-1)
    with pytest.raises(ValueError, match="no loss of code -1"):
        Program.of(layout.blocks, 5, TILING, loss=loss)


def test_an_unknown_optimizer_is_refused(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "Adam", replace(OPTIMIZERS["Adam"], code=99))
    net = fn.Sequential([fn.Dense(1)], 1, rng=0)
    for learn in (net.train_on_batch, net.fit):
        with pytest.raises(ValueError, match="no optimizer of code 99"):
            learn([[1.0]], [1.0], optimizer="adam", backend="native")


def test_kernels_have_an_arm_for_every_code_that_is_known():
    from fastnn.kernels.curves import CURVES
    from fastnn.kernels.output import _LOSSES
    from fastnn.kernels.pointwise import POINTWISE

    assert {*CURVES, codes.SOFTMAX, codes.INCREASING} == set(codes.ACTIVATIONS)
    assert {*POINTWISE, *_LOSSES, codes.QUANTILES, codes.NO_LOSS} == set(codes.LOSS_CODES)
    assert {row.code for row in OPTIMIZERS.values()} == set(codes.OPTIMIZERS)


# Chunks and workspace.


def test_a_chunk_is_the_batch_or_what_stays_in_the_cache():
    narrow, wide = ([fn.Dense(units, "relu")] for units in (9, 60_000))
    blocks = Layout.of(1, narrow).blocks
    assert Program.of(blocks, 17, TILING).plan["chunk"][0] == 17
    assert Program.of(blocks, 10**6, TILING).plan["chunk"][0] == 2**15 // 10
    assert Program.of(blocks, 10**6, TILING, keep=True).plan["chunk"][0] == 10**6
    # However wide a network, enough rows go together for its matrix products.
    assert Program.of(Layout.of(1, wide).blocks, 10**6, TILING).plan["chunk"][0] == 512
    assert Program.of(Layout.of(1, wide).blocks, 17, TILING).plan["chunk"][0] == 17


def test_a_chunk_follows_from_the_shape_alone(layout):
    chunks = {
        Program.of(
            layout.blocks, 10**6, TILING, loss=loss, gradient=gradient, penalty=penalty,
            threads=threads, moments=moments,
        ).plan["chunk"][0]
        for loss in (None, LOSSES["cross_entropy"])
        for gradient in (False, True)
        for penalty in (False, True)
        for threads in (1, 5)
        for moments in (0, 2)
    }  # fmt: skip
    assert chunks == {2**15 // 29}


def test_a_million_rows_need_no_more_room_than_some(layout):
    options = {"loss": LOSSES["cross_entropy"], "gradient": True}
    million = Program.of(layout.blocks, 10**6, TILING, **options).workspace
    assert million == Program.of(layout.blocks, 10**7, TILING, **options).workspace
    # Z, A and dZ in whole panels: less than twice what the activations themselves fill.
    assert million < 7 * 2**15


def test_forward_needs_less_room_than_the_gradient(layout):
    forward = Program.of(layout.blocks, 100, TILING).workspace
    gradient = Program.of(
        layout.blocks, 100, TILING, loss=LOSSES["cross_entropy"], gradient=True
    ).workspace
    kept = Program.of(
        layout.blocks, 100, TILING, loss=LOSSES["cross_entropy"], gradient=True, keep=True
    ).workspace
    assert forward < gradient < kept
    # Four buffers of whole panels for 100 rows, and a packed network.
    assert forward < 102 * (16 + 32 + 16 + 16) + 100 * 17 + 3000


@pytest.mark.parametrize("dtype", DTYPES)
def test_whatever_the_workspace_held_does_not_matter(dtype, monkeypatch):
    """Fill every vector that a run asks for with NaN instead of zeros; only results may differ."""
    net = network(SHAPES[-1], "sigmoid", "softmax", dtype, l2=0.1)
    examples = data(SHAPES[-1], "cross_entropy")

    def results():
        loss, gradient = net.loss_and_gradient(examples.X, examples.y, sample_weight=examples.w)
        return loss, gradient.tobytes(), net.predict(examples.X).tobytes()

    before = results()

    def dirty(size, kind):
        vector = aligned_zeros(size, kind)
        vector[:] = np.nan
        return vector

    monkeypatch.setattr("fastnn.fitting.runs.aligned_zeros", dirty)
    assert results() == before
