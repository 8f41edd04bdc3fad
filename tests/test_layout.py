"""Layouts and programs: where everything lies, and that nothing lies on top of another."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from cases import DTYPES, PAIRS, SHAPES, data, error, network

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.kernels import codes
from fastnn.layout import Layout, Program, Tiling, aligned_zeros
from fastnn.losses import LOSSES

LINE = 16
TILINGS = {"sse": Tiling(8, 6, 4), "avx2": Tiling(16, 6, 4), "avx512": Tiling(32, 8, 8)}
TILING = TILINGS["avx2"]

DESCRIBED = [(0, 17, "relu", True, 0.1), (1, 3, "tanh", False, 0.0), (3, 5, "softmax", True, 0.2)]


@pytest.fixture
def layout():
    return Layout.of(4, DESCRIBED)


# Vectors.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 3, 16, 1001])
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
    found = [(b.place, b.inputs, b.outputs, b.activation, b.l2) for b in layout.blocks]
    assert found == [
        (0, 4, 17, "relu", 0.1),
        (1, 17, 3, "tanh", 0.0),
        (3, 3, 5, "softmax", 0.2),
    ]
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


def buffers(program, tiling):
    """Return (start, end) of every buffer, in elements of workspace."""

    def panels(rows, columns):
        return rows * -(-columns // tiling.panel) * tiling.panel

    found = []
    height = program.plan[codes.HEIGHT]
    for row in program.table:
        inputs, outputs = row[codes.INPUTS], row[codes.OUTPUTS]
        sizes = {
            codes.SOURCE: panels(height, inputs),
            codes.Z: panels(height, outputs),
            codes.RESULT: panels(height, outputs),
            codes.DRESULT: panels(height, outputs),
            # Behind the weights a row of biases; a tile may read on past the last row.
            codes.PACKED: panels(inputs + tiling.units, outputs),
            codes.TRANSPOSED: panels(outputs, inputs),
        }
        for column, size in sizes.items():
            if row[column] != codes.NONE:
                found.append((row[column], row[column] + size))
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
@pytest.mark.parametrize("rows", [1, 17, 1000])
@pytest.mark.parametrize("width", TILINGS)
def test_no_two_buffers_overlap(width, rows, loss, gradient, keep, layout):
    row, tiling = None if loss is None else LOSSES[loss], TILINGS[width]
    program = Program.of(layout.blocks, rows, tiling, loss=row, gradient=gradient, keep=keep)
    chunk, plan = program.plan[codes.CHUNK], program.plan
    assert chunk <= plan[codes.HEIGHT] < chunk + tiling.rows
    assert plan[codes.HEIGHT] % tiling.rows == 0
    sizes = {
        codes.FLAT: chunk * 17,
        codes.DFLAT: chunk * 17 if gradient else 0,
        codes.TILE: tiling.panel * tiling.units,
        codes.UPDATE: codes.RATES,
        codes.LOSSES: chunk,
        codes.SHARES: chunk,
    }
    rooms = [(plan[entry], plan[entry] + size) for entry, size in sizes.items()]
    check_rooms(buffers(program, tiling) + rooms, program.workspace)


@pytest.mark.parametrize("gradient", [False, True])
def test_each_operation_reads_what_the_one_below_wrote(gradient, layout):
    program = Program.of(layout.blocks, 17, TILING, loss=LOSSES["cross_entropy"], gradient=gradient)
    below, table = program.table[:-1], program.table[1:]
    assert (table[:, codes.SOURCE] == below[:, codes.RESULT]).all()
    assert (table[:, codes.DSOURCE] == below[:, codes.DRESULT]).all()
    # Nobody asks for the gradient of X.
    assert program.table[0, codes.DSOURCE] == codes.NONE
    assert ((program.table[:, codes.DRESULT] == codes.NONE) == (not gradient)).all()


def test_the_table_says_what_the_layout_says(layout):
    program = Program.of(layout.blocks, 17, TILING, gradient=True)
    table = program.table
    assert table.shape == (3, codes.TABLE_COLUMNS)
    assert table.dtype == np.int64
    assert (table[:, codes.OPERATION] == codes.DENSE).all()
    assert table[:, codes.INPUTS].tolist() == [4, 17, 3]
    assert table[:, codes.OUTPUTS].tolist() == [17, 3, 5]
    assert table[:, codes.W].tolist() == [0, 85, 136]
    assert table[:, codes.B].tolist() == [68, codes.NONE, 151]
    names = ("relu", "tanh", "softmax")
    assert table[:, codes.ACTIVATION].tolist() == [ACTIVATIONS[name].code for name in names]
    assert program.constants.shape == (3, codes.CONSTANT_COLUMNS)
    assert program.constants.dtype == np.float64
    assert program.constants[:, codes.L2].tolist() == [0.1, 0.0, 0.2]
    without = Program.of(layout.blocks, 17, TILING, gradient=True, penalty=False)
    assert not without.constants.any()


@pytest.mark.parametrize(("last", "loss"), PAIRS)
def test_a_matched_loss_takes_the_last_activation_over(last, loss):
    row = LOSSES[loss]
    blocks = Layout.of(2, [(0, 3, last, True, 0.0), (1, 3, last, True, 0.0)]).blocks
    found = Program.of(blocks, 1, TILING, loss=row).table[:, codes.ACTIVATION].tolist()
    ends = "identity" if row.activation == last else last
    assert found == [ACTIVATIONS[last].code, ACTIVATIONS[ends].code]
    assert Program.of(blocks, 1, TILING).table[1, codes.ACTIVATION] == ACTIVATIONS[last].code


def test_a_part_of_a_network_is_a_network(layout):
    program = Program.of(layout.blocks[:2], 17, TILING)
    assert len(program.table) == len(program.constants) == 2
    assert program.table[1, codes.W] == 85


def test_z_has_a_place_of_its_own_only_where_it_is_asked_for(layout):
    table = Program.of(layout.blocks, 17, TILING, gradient=True).table
    assert (table[:, codes.Z] == table[:, codes.RESULT]).all()
    table = Program.of(layout.blocks, 17, TILING, gradient=True, keep=True).table
    assert (table[:, codes.Z] != table[:, codes.RESULT]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_may_ask_for_z(name, dtype, monkeypatch):
    net = network(SHAPES[-1], name, "identity", dtype)
    examples = data(SHAPES[-1], "mean_squared_error")
    before = net.loss_and_gradient(examples.X, examples.y)[1]
    monkeypatch.setitem(ACTIVATIONS, name, replace(ACTIVATIONS[name], derivative_from="Z"))
    table = Program.of(net.layout.blocks, 5, TILING, gradient=True).table
    assert (table[:2, codes.Z] != table[:2, codes.RESULT]).all()
    table = Program.of(net.layout.blocks, 5, TILING).table
    assert (table[:, codes.Z] == table[:, codes.RESULT]).all()
    assert error(net.loss_and_gradient(examples.X, examples.y)[1], before) <= 1e-6


# Chunks and workspace.


def test_a_chunk_is_the_batch_or_what_stays_in_the_cache():
    narrow, wide = ([(0, units, "relu", True, 0.0)] for units in (9, 60_000))
    blocks = Layout.of(1, narrow).blocks
    assert Program.of(blocks, 17, TILING).plan[codes.CHUNK] == 17
    assert Program.of(blocks, 10**6, TILING).plan[codes.CHUNK] == 2**18 // 10
    assert Program.of(blocks, 10**6, TILING, keep=True).plan[codes.CHUNK] == 10**6
    # However wide a network, enough rows go together for its matrix products.
    assert Program.of(Layout.of(1, wide).blocks, 10**6, TILING).plan[codes.CHUNK] == 64
    assert Program.of(Layout.of(1, wide).blocks, 17, TILING).plan[codes.CHUNK] == 17


def test_a_chunk_follows_from_the_shape_alone(layout):
    chunks = {
        Program.of(
            layout.blocks, 10**6, TILING, loss=loss, gradient=gradient, penalty=penalty
        ).plan[codes.CHUNK]
        for loss in (None, LOSSES["cross_entropy"])
        for gradient in (False, True)
        for penalty in (False, True)
    }
    assert chunks == {2**18 // 29}


def test_a_million_rows_need_no_more_room_than_some(layout):
    options = {"loss": LOSSES["cross_entropy"], "gradient": True}
    million = Program.of(layout.blocks, 10**6, TILING, **options).workspace
    assert million == Program.of(layout.blocks, 10**7, TILING, **options).workspace
    # Z, A and dZ in whole panels: less than twice what the activations themselves fill.
    assert million < 7 * 2**18


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

    monkeypatch.setattr("fastnn.prediction.aligned_zeros", dirty)
    assert results() == before
