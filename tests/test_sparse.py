"""Sparse examples: the bits of dense ones, in whatever form they come, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from cases import DTYPES, JIT, RULES, error, through
from scipy import sparse

import fastnn as fn
from fastnn import gate
from fastnn.machine import threads
from fastnn.sparse import SparseRows
from fastnn.tuning import tuning

BACKENDS = ("native", "reference")
STEP_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

# Hidden widths, last activation and outputs: layers of few outputs, of half a panel and of
# several, first or last; widths that are multiples of nothing.
ALL_NETWORKS = {
    "1": ((), "sigmoid", 1),
    "2": ((), "softmax", 2),
    "4": ((), "identity", 4),
    "5": ((), "softmax", 5),
    "1-3": ((1,), "softmax", 3),
    "2-1": ((2,), "sigmoid", 1),
    "3-33": ((3,), "softmax", 33),
    "17-3": ((17,), "softmax", 3),
    "40-7-2": ((40, 7), "softmax", 2),
    "131-3": ((131,), "softmax", 3),
    "300": ((), "softmax", 300),
}
NETWORKS = ALL_NETWORKS if JIT else {name: ALL_NETWORKS[name] for name in ("1", "2-1", "17-3")}

N, P = (61, 83) if JIT else (9, 11)
BATCH = 23 if JIT else 4

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_network = pytest.mark.parametrize("kind", NETWORKS)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def examples(n=N, p=P, share=0.2, seed=0):
    """Return sparse examples, of which some have no entries and one has all."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, p)) < share, rng.normal(size=(n, p)), 0.0)
    X[n // 2] = rng.normal(size=p)
    X[n // 3] = X[-1] = 0.0
    # Columns in which nothing stands.
    X[:, p // 3 : p // 2] = 0.0
    return X


def network(kind="17-3", dtype="float64", *, hidden="tanh", l2=0.01, drop=0.0, p=P):
    """Return a network, and integer or real targets that suit it."""
    widths, last, m = ALL_NETWORKS[kind]
    layers = [fn.Dense(width, hidden, l2=l2) for width in widths]
    layers.append(fn.Dense(m, last, l2=l2))
    if drop:
        layers.insert(0, fn.Dropout(drop))
    return fn.Sequential(layers, p, dtype, rng=3)


def targets(net, n=N):
    """Return targets that suit a network."""
    rng = np.random.default_rng(1)
    if net._last.activation in ("softmax", "sigmoid"):
        return rng.integers(0, max(net.outputs, 2), n)
    return rng.normal(size=(n, net.outputs))


class Bits:
    """Numbers of all kinds that are equal where their bits are; a zero has no sign.

    Without the compiler sums are NumPy's, whose order follows their length: there they are equal
    to rounding.
    """

    def __init__(self, *found):
        self.found = [np.asarray(one) + 0.0 for one in found]

    def __eq__(self, other):
        if JIT:
            return [one.tobytes() for one in self.found] == [one.tobytes() for one in other.found]
        tolerance = max(STEP_TOLERANCE[str(one.dtype)] for one in self.found)
        pairs = zip(self.found, other.found, strict=True)
        return all(error(one, expected) <= 10 * tolerance for one, expected in pairs)


def everything(net, X, y, **options):
    """Return all that a network makes of examples: predictions, losses, gradients, weights."""
    weights = np.random.default_rng(2).random(len(y)).round(1)
    loss, gradient = net.loss_and_gradient(X, y, sample_weight=weights)
    measured = net.evaluate(X, y, sample_weight=weights)
    before = net.predict(X), net.hidden(X, 0)
    history = net.fit(X, y, epochs=2, batch_size=BATCH, sample_weight=weights, **options)
    step = net.train_on_batch(X, y)
    # The engine counts metrics of dense validation examples, but not of sparse ones.
    lines = [
        np.round(values, 12) if name.startswith("val_") and name != "val_loss" else values
        for name, values in history.items()
    ]
    return Bits(*before, loss, gradient, *measured.values(), *lines, step, net.parameters)


@contextmanager
def team(monkeypatch, count, **figures):
    """Use so many threads, however little there is to do, on any machine."""
    with (
        monkeypatch.context() as patch,
        tuning(step_share=1e-9, call_share=1e-9, helper_share=1e-9, awake_share=1e-9, **figures),
    ):
        patch.setattr(threads, "usable_cores", lambda: 64)
        fn.set_threads(count)
        try:
            yield
        finally:
            fn.set_threads(None)


# The same bits as with their zeros.


@each_dtype
@each_network
def test_sparse_examples_give_the_bits_of_dense_ones(kind, dtype):
    X = examples()
    for options in (
        {}, {"optimizer": fn.SGD(0.1, 0.9, nesterov=True)}, {"clip_norm": 0.01},
    ):  # fmt: skip
        dense, thin = network(kind, dtype), network(kind, dtype)
        y = targets(dense)
        assert everything(thin, sparse.csr_array(X), y, **options) == everything(
            dense, X, y, **options
        )


@each_dtype
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_steps_the_same(rule, dtype):
    X = examples()
    dense, thin = network(dtype=dtype), network(dtype=dtype)
    y = targets(dense)
    for net, known in ((dense, X), (thin, sparse.csr_array(X))):
        net.fit(known, y, optimizer=RULES[rule], epochs=2, batch_size=BATCH)
    assert Bits(thin.parameters) == Bits(dense.parameters)


@each_dtype
@pytest.mark.parametrize("hidden", ["relu", "sigmoid", "softmax", "gelu", "exp"])
def test_every_activation_of_the_first_layer_is_the_same(hidden, dtype):
    X = 0.1 * examples()
    dense, thin = (network(dtype=dtype, hidden=hidden) for _ in range(2))
    y = targets(dense)
    assert everything(thin, sparse.csr_array(X), y) == everything(dense, X, y)


@each_dtype
@pytest.mark.parametrize("kind", ["2-1", "17-3"])
def test_inputs_are_dropped_as_those_of_dense_examples(kind, dtype):
    X = examples()
    dense, thin = (network(kind, dtype, drop=0.3) for _ in range(2))
    y = targets(dense)
    assert everything(thin, sparse.csr_array(X), y) == everything(dense, X, y)
    assert Bits(thin.parameters) != Bits(network(kind, dtype).parameters)


@pytest.mark.parametrize("kind", ["2-1", "17-3", "40-7-2"])
@pytest.mark.parametrize(
    "way",
    [through(1, 7 if JIT else 3, 99), through(1, 5 if JIT else 2, 2)],
    ids=["chunks", "groups"],
)
def test_no_bit_depends_on_chunks_or_threads(kind, way, monkeypatch, tuned):
    tuned(**way)
    X = examples()
    for options in ({}, {"clip_norm": 0.01}, {"drop": 0.3}):
        drop = options.pop("drop", 0.0)
        dense = network(kind, drop=drop)
        y = targets(dense)
        expected = everything(dense, X, y, **options)
        for count in (1, 2, 5):
            with team(monkeypatch, count):
                found = everything(
                    network(kind, drop=drop), sparse.csr_array(X), y, threads=count, **options
                )
            assert found == expected


@pytest.mark.jit
@each_dtype
@pytest.mark.parametrize("kind", ["1", "17-3", "131-3", "300"])
@pytest.mark.parametrize("columns", [1, 200, 2048])
def test_no_bit_depends_on_how_many_columns_are_gone_through_at_a_time(
    columns, kind, dtype, monkeypatch, tuned
):
    # So many rows in a chunk that its columns are several bands.
    X = examples(600, 700, share=0.05)
    X[:, 300:420] = 0.0
    answers = []
    for known, count in ((X, 1), (sparse.csr_array(X), 1), (sparse.csr_array(X), 3)):
        net = network(kind, dtype, p=700)
        y = targets(net, 600)
        if known is not X:
            tuned(spread_columns=columns)
        with team(monkeypatch, count):
            slope = net.loss_and_gradient(known, y)
            net.fit(known, y, epochs=1, batch_size=400, threads=count)
            net.fit(known, y, epochs=1, batch_size=600, clip_norm=0.01, threads=count)
        answers.append(Bits(*slope, net.parameters))
    assert answers[1] == answers[0]
    assert answers[2] == answers[0]


@pytest.mark.jit
def test_many_rows_and_columns_go_through_in_parts_and_give_the_same(monkeypatch):
    X = sparse.random_array((3000, 700), density=0.02, format="csr", rng=np.random.default_rng(0))
    dense, thin = (network("40-7-2", p=700) for _ in range(2))
    y = targets(dense, 3000)
    for count in (1, 3):
        with team(monkeypatch, count, hidden_elements=40 * 999, part_work=1000):
            assert Bits(thin.predict(X)) == Bits(dense.predict(X.toarray()))
    assert everything(thin, X, y, validation_fraction=0.2, metrics="accuracy") == everything(
        dense, X.toarray(), y, validation_fraction=0.2, metrics="accuracy"
    )


@each_dtype
@each_network
def test_the_native_path_is_the_reference_s(kind, dtype):
    X, found = sparse.csr_array(examples()), []
    for backend in BACKENDS:
        net = network(kind, dtype)
        y = targets(net)
        loss, gradient = net.loss_and_gradient(X, y, backend=backend)
        value = net.evaluate(X, y, backend=backend)["loss"]
        before = net.predict(X, backend=backend)
        history = net.fit(X, y, epochs=2, batch_size=BATCH, backend=backend)
        found.append([before, [loss, value], gradient, history["loss"], net.parameters])
    for native, expected in zip(*found, strict=True):
        assert error(native, expected) <= 10 * STEP_TOLERANCE[dtype]


@each_network
def test_gradients_are_central_differences(kind):
    X, net = sparse.csr_array(examples()), network(kind)
    y = targets(net)
    gradient = net.loss_and_gradient(X, y)[1].copy()
    step, places = 1e-5, np.random.default_rng(0).permutation(net.parameters.size)[:60]
    for place in places:
        kept, ends = net.parameters[place], []
        for shift in (step, -step):
            net.parameters[place] = kept + shift
            ends.append(net.loss_and_gradient(X, y)[0])
        net.parameters[place] = kept
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


# In whatever form they come.


def unsorted(X):
    """Return CSR whose rows' entries stand in no order."""
    whole = sparse.csr_array(X)
    order = np.concatenate([
        part[np.random.default_rng(1).permutation(len(part))]
        for part in np.split(np.arange(whole.nnz), whole.indptr[1:-1])
    ]).astype(int)  # fmt: skip
    return sparse.csr_array((whole.data[order], whole.indices[order], whole.indptr), X.shape)


def with_duplicates(X):
    """Return CSR in which every number is the sum of two entries, one at each end of its row."""
    whole = sparse.csr_array(X)
    parts = np.split(np.arange(whole.nnz), whole.indptr[1:-1])
    order = np.concatenate([np.concatenate([part, part[::-1]]) for part in parts]).astype(int)
    return sparse.csr_array(
        (whole.data[order] / 2, whole.indices[order], 2 * whole.indptr), X.shape
    )


def with_zeros(X):
    """Return CSR in which every zero is an entry."""
    n, p = X.shape
    return sparse.csr_array((X.ravel(), np.tile(np.arange(p), n), np.arange(n + 1) * p), X.shape)


def with_room(X):
    """Return CSR whose arrays are longer than they need to be, and read-only."""
    whole = sparse.csr_array(X)
    whole.data = np.append(whole.data, [np.nan] * 3)
    whole.indices = np.append(whole.indices, [-1] * 3).astype(np.int32)
    for part in (whole.data, whole.indices, whole.indptr):
        part.flags.writeable = False
    return whole


def with_long_indices(X):
    """Return CSR with indices of 64 bits."""
    whole = sparse.csr_array(X)
    whole.indices, whole.indptr = whole.indices.astype(np.int64), whole.indptr.astype(np.int64)
    return whole


class Compressed:
    """CSR of a library that is not SciPy."""

    format = "csr"
    nnz = property(lambda self: len(self.data))

    def __init__(self, X):
        whole = sparse.csr_array(X)
        self.shape, self.data = whole.shape, whole.data
        self.indices, self.indptr = whole.indices, whole.indptr

    def toarray(self):
        raise AssertionError("nobody asked for the zeros")


FORMS = {
    **{name: getattr(sparse, name) for name in (
        "csr_array", "csr_matrix", "csc_array", "csc_matrix", "coo_array", "bsr_array",
        "dok_array", "lil_array", "dia_array",
    )},
    "unsorted": unsorted, "duplicates": with_duplicates, "explicit zeros": with_zeros,
    "longer arrays": with_room, "long indices": with_long_indices, "another library": Compressed,
}  # fmt: skip


@each_dtype
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
def test_every_form_is_read(form, dtype):
    X = examples()
    expected = network(dtype=dtype).predict(X)
    assert Bits(network(dtype=dtype).predict(FORMS[form](X))) == Bits(expected)
    rows = gate.sparse_or_dense(FORMS[form](X), dtype, P)
    assert Bits(rows.toarray()) == Bits(X.astype(dtype))
    assert (
        np.diff(rows.columns)[np.setdiff1d(np.arange(rows.entries - 1), rows.starts - 1)] > 0
    ).all()
    assert not any(part.flags.writeable for part in (rows.starts, rows.columns, rows.values))


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "u1", "?", "longdouble"])
def test_every_type_of_number_is_read(kind):
    X = (examples() > 1).astype(kind)
    found = network().predict(sparse.csr_array(X))
    assert Bits(found) == Bits(network().predict(X))


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 18])
def test_order_is_seen_across_the_parts_that_are_looked_at(chunk, tuned):
    tuned(checked_elements=chunk)
    X = examples()
    for form in ("csr_array", "unsorted", "duplicates"):
        assert Bits(gate.sparse_or_dense(FORMS[form](X), "float64", P).toarray()) == Bits(X)


@pytest.mark.parametrize("shape", [(1, 1), (1, P), (N, 1), (5, P)])
@each_backend
def test_rows_without_entries_are_examples_too(shape, backend):
    net, nothing = network(p=shape[1]), sparse.csr_array(shape)
    y = targets(net, shape[0])
    dense = np.zeros(shape)
    assert Bits(net.predict(nothing, backend=backend)) == Bits(net.predict(dense, backend=backend))
    twin = net.copy()
    net.fit(nothing, y, epochs=2, backend=backend)
    twin.fit(dense, y, epochs=2, backend=backend)
    assert Bits(net.parameters) == Bits(twin.parameters)


def test_what_fits_is_not_copied_and_nothing_is_changed():
    X = sparse.csr_array(examples())
    rows = gate.sparse_or_dense(X, "float64", P)
    assert np.shares_memory(rows.values, X.data)
    assert np.shares_memory(rows.columns, X.indices)
    for form in ("csr_array", "unsorted", "duplicates", "explicit zeros"):
        given = FORMS[form](examples())
        kept = [part.copy() for part in (given.data, given.indices, given.indptr)]
        net = network()
        everything(net, given, targets(net))
        for part, before in zip((given.data, given.indices, given.indptr), kept, strict=True):
            assert part.tobytes() == before.tobytes()
            assert part.flags.writeable


@each_backend
def test_predictions_go_where_they_are_wanted(backend):
    X, net = sparse.csr_array(examples(share=0.9)), network()
    out = np.empty((N, net.outputs))
    assert net.predict(X, out=out, backend=backend) is out
    assert Bits(out) == Bits(net.predict(X, backend=backend))
    # Into the very numbers that are read.
    out = X.data[: N * net.outputs].reshape(N, -1)
    expected = net.predict(X.copy(), backend=backend)
    assert Bits(net.predict(X, out=out, backend=backend)) == Bits(expected)


@each_backend
def test_validation_examples_may_be_of_either_kind(backend):
    X, found = examples(), []
    for known in (X, sparse.csr_array(X)):
        for held in (X[:9], sparse.csr_array(X[:9])):
            net = network()
            y = targets(net)
            history = net.fit(
                known, y, epochs=2, validation_data=(held, y[:9]), metrics="accuracy",
                backend=backend,
            )  # fmt: skip
            found.append(Bits(*history.values(), net.parameters))
    assert all(one == found[0] for one in found)


def test_rows_are_chosen_and_parted():
    X = examples()
    rows = gate.sparse_or_dense(sparse.csr_array(X), "float64", P)
    for chosen in (slice(2, 7), slice(0, 0), slice(3, None), np.array([4, 0, 4, N - 1])):
        assert Bits(rows[chosen].toarray()) == Bits(X[chosen])
        assert rows[chosen].shape == X[chosen].shape
    inner = rows[3:][np.array([1, 0])]
    assert Bits(inner.toarray()) == Bits(X[[4, 3]])
    lengths = np.sort((X != 0).sum(axis=1))
    assert [rows.most(count) for count in (1, 3, N, 2 * N)] == [
        lengths[-1:].sum(), lengths[-3:].sum(), lengths.sum(), lengths.sum(),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::fastnn.FitWarning")
def test_a_sparse_fit_that_diverges_says_where_and_goes_back():
    X = examples()
    X[BATCH, 5] = 1e200
    ends = []
    for known in (X, sparse.csr_array(X)):
        net = network()
        with pytest.raises(fn.DivergenceError, match=r"the largest in X is 1e\+200") as caught:
            net.fit(
                known, targets(net), optimizer=fn.SGD(1e150), batch_size=BATCH, shuffle=False
            )  # fmt: skip
        ends.append((caught.value.epoch, caught.value.step, Bits(net.parameters)))
    assert ends[0] == ends[1]


# What is refused.


def changed(value):
    """Return examples with a value in row 7, column 5."""
    X = examples()
    X[7, 5] = value
    return sparse.csr_array(X)


def broken(**parts):
    """Return CSR in which arrays were exchanged behind SciPy's back."""
    X = sparse.csr_array(examples())
    for name, part in parts.items():
        setattr(X, name, part(getattr(X, name)))
    return X


def put(place, value):
    """Return what writes a value into a copy of an array."""

    def write(array):
        array = array.copy()
        array[place] = value
        return array

    return write


REFUSED = {
    "NaN": (lambda: changed(np.nan), ValueError, "X has NaN at row 7, column 5 (1 non-finite"),
    "infinity": (lambda: changed(-np.inf), ValueError, "X has -infinity at row 7, column 5"),
    "too large": (
        lambda: changed(1e300), ValueError, "X has 1e+300 at row 7, column 5, which does not fit"
    ),
    "NaN, unsorted": (
        lambda: unsorted(changed(np.nan).toarray()), ValueError, "X has NaN at row 7, column 5"
    ),
    "width": (
        lambda: sparse.csr_array(examples(p=P + 1)), ValueError, f"X has {P + 1} features, but this"
    ),
    "no rows": (lambda: sparse.csr_array((0, P)), ValueError, "got shape (0, "),
    "vector": (lambda: sparse.coo_array([1.0, 0.0]), ValueError, "X must be 2-D"),
    "complex": (lambda: changed(1.0).astype(complex), TypeError, "X must hold real numbers; got c"),
    "column": (lambda: broken(indices=put(3, P)), ValueError, f"got the column {P} among its"),
    "negative": (lambda: broken(indices=put(3, -2)), ValueError, "got the column -2 among its"),
    "falling": (lambda: broken(indptr=put(2, 10**6)), ValueError, "got an indptr that does not"),
    "beginning": (lambda: broken(indptr=put(0, 1)), ValueError, "got an indptr that does not"),
    "short": (lambda: broken(indptr=lambda a: a[:-1]), ValueError, "got indptr of shape"),
    "short data": (lambda: broken(data=lambda a: a[:-1]), ValueError, "got an indptr that does"),
    "real indices": (lambda: broken(indices=lambda a: a * 1.0), ValueError, "got indices of dtype"),
}  # fmt: skip


@each_backend
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused(case, backend):
    make, kind, words = REFUSED[case]
    net, X = network(dtype="float32"), make()
    before = Bits(net.parameters)
    asked = [
        lambda: net.predict(X, backend=backend),
        lambda: net.fit(X, np.zeros(N, int), backend=backend),
        lambda: net.evaluate(X, np.zeros(N, int), backend=backend),
        lambda: net.loss_and_gradient(X, np.zeros(N, int), backend=backend),
        lambda: net.train_on_batch(X, np.zeros(N, int), backend=backend),
    ]
    for ask in asked:
        with pytest.raises(kind) as caught:
            ask()
        assert words in str(caught.value)
    assert Bits(net.parameters) == before


def test_validation_examples_are_refused_by_their_own_name():
    net, X = network(), sparse.csr_array(examples())
    with pytest.raises(ValueError, match=r"validation_data\[0\] has NaN at row 7, column 5"):
        net.fit(X, targets(net), validation_data=(changed(np.nan), targets(net)))


def test_what_shows_every_number_wants_a_dense_array():
    net, X = network(), sparse.csr_array(examples())
    y = targets(net)
    for ask in (lambda: net.trace(X, y), lambda: net.diagnose(X, y)):
        with pytest.raises(TypeError, match=r"X must be a dense array; got a sparse one"):
            ask()
    with pytest.raises(TypeError, match=r"x must be a C-contiguous NumPy array"):
        net(X)
    with pytest.raises(TypeError, match=r"y must be a dense array; got a sparse one"):
        net.fit(X, sparse.csr_array(np.eye(3)[y]))


# Memory, and what is loaded.


@pytest.mark.jit
def test_examples_are_never_written_out_with_their_zeros():
    n, p = 3000, 4000
    X = sparse.random_array((n, p), density=0.001, format="csr", rng=np.random.default_rng(0))
    net = network("2-1", p=p)
    y = targets(net, n)
    everything(net, X[:50], y[:50])
    tracemalloc.start()
    try:
        everything(net, X, y, validation_fraction=0.2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n * p * 8 / 20


@pytest.mark.jit
def test_sparse_examples_compile_no_second_engine():
    from fastnn.kernels.epoch import engine
    from fastnn.kernels.first_layer import first_layer

    net = network()
    net.fit(examples(), targets(net), epochs=1)
    net.predict(sparse.csr_array(examples()))
    before = len(engine.signatures), len(first_layer.signatures)
    everything(net, sparse.csr_array(examples()), targets(net))
    assert (len(engine.signatures), len(first_layer.signatures)) == before


def test_scipy_is_not_loaded_for_them():
    program = """
import sys
import numpy as np
import fastnn as fn

class Compressed:
    format, nnz, shape = "csr", 2, (2, 3)
    indptr, indices, data = np.array([0, 1, 2]), np.array([2, 0]), np.array([1.0, 2.0])
    def toarray(self): raise AssertionError

net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=3)
with fn.backend("reference"):
    print(net.predict(Compressed()).ravel().tolist(), "scipy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[0.5,", "1.0]", "False"]


def test_sparse_rows_show_what_they_are():
    rows = SparseRows(np.array([0, 1]), np.array([2], np.int32), np.array([1.5]), 4)
    assert (len(rows), rows.shape, rows.dtype, rows.entries) == (1, (1, 4), np.float64, 1)
    assert rows.T.tolist() == [[0.0], [0.0], [1.5], [0.0]]
    assert rows.copy().values is not rows.values
