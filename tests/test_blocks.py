"""Fits on blocks of examples, of which a window lies in memory at a time."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import threading
import traceback

import numpy as np
import pytest
from scipy import sparse

import fastnn as fn

BACKENDS = ["native", "reference"]
both_backends = pytest.mark.parametrize("backend", BACKENDS)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(203, 5))
Y = np.tanh(X @ RNG.normal(size=5)) + 0.1 * RNG.normal(size=203)
CLASSES = (Y > 0).astype(int) + (Y > 0.8)
WEIGHTS = RNG.random(203) * (RNG.random(203) > 0.2)
GAPS = np.where(RNG.random(203) < 0.2, np.nan, Y)


def cut(*arrays, size=30, make=np.asarray):
    """Return a function that gives blocks of arrays, the first of which may be made sparse."""

    def read():
        for start in range(0, len(arrays[0]), size):
            part = slice(start, start + size)
            yield (make(arrays[0][part]), *(array[part] for array in arrays[1:]))

    return read


def regression(dtype="float32", layers=None, **more):
    layers = layers or [fn.Dense(7, "tanh", l2=0.01), fn.Dropout(0.2), fn.Dense(1)]
    return fn.Sequential(layers, dtype=dtype, rng=3, **more)


def classes(dtype="float32"):
    return fn.Sequential([fn.Dense(6, "relu"), fn.Dense(3, "softmax")], dtype=dtype, rng=3)


def settings(backend="native", **more):
    common = {"batch_size": 8, "epochs": 3, "optimizer": fn.Adam(0.01), "backend": backend}
    return common | more


def same(one, other):
    return one.parameters.tobytes() == other.parameters.tobytes()


def fitted(net, *given, **asked):
    return net, net.fit(*given, **asked)


HELD = {"validation_data": (X[:40], Y[:40])}
# What is asked of a fit, on arrays and on blocks.
CASES = {
    "plain": {},
    "no order is drawn": {"shuffle": False, "optimizer": fn.SGD(0.05, momentum=0.9)},
    "counted": {"metrics": ["mse", "mae", "r2"], **HELD},
    "metrics made in Python": {"metrics": lambda y, p: np.abs(y - p).max(), **HELD},
    "schedule": {"schedule": "cosine", "clip_norm": 0.5},
    "plateau": {"schedule": fn.ReduceOnPlateau("loss", patience=1), "optimizer": fn.SGD(0.3)},
    "early stopping": {"callbacks": fn.EarlyStopping(patience=1), "epochs": 9, **HELD},
    "averaged over epochs": {"average": fn.SWA(1), "metrics": "mse", **HELD},
    "averaged over steps": {"average": fn.EMA(0.9), **HELD},
    "batches of all": {"batch_size": 1000},
    "three threads": {"threads": 3, "batch_size": 64},
}


@both_backends
@pytest.mark.parametrize("case", CASES)
def test_one_window_gives_the_bits_of_a_fit_on_arrays(case, backend):
    asked = settings(backend, **CASES[case])
    expected, history = fitted(regression(), X, Y, **asked)
    for blocks in (
        fn.Blocks(cut(X, Y)),
        fn.Blocks(cut(X, Y, size=203), rows=203, window=203),
        fn.Blocks(cut(X, Y, size=1), prefetch=False, rows=203),
    ):
        found, recorded = fitted(regression(), blocks, **asked)
        assert same(expected, found)
        assert recorded.to_dict() == history.to_dict()
        assert recorded.learning_rates == history.learning_rates
        assert found._streams == expected._streams


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_so_it_is_with_classes_and_weights(dtype, backend):
    asked = settings(backend, metrics=["accuracy", "f1_macro"], class_weight={0: 2.0})
    expected, history = fitted(classes(dtype), X, CLASSES, sample_weight=WEIGHTS, **asked)
    found, recorded = fitted(classes(dtype), fn.Blocks(cut(X, CLASSES, WEIGHTS)), **asked)
    assert same(expected, found)
    assert recorded.to_dict() == history.to_dict()


@both_backends
def test_so_it_is_with_sparse_examples(backend):
    thin = np.where(np.abs(X) > 1, X, 0.0)
    expected, history = fitted(classes(), sparse.csr_array(thin), CLASSES, **settings(backend))
    blocks = fn.Blocks(cut(thin, CLASSES, make=sparse.csr_matrix))
    found, recorded = fitted(classes(), blocks, **settings(backend))
    assert same(expected, found)
    assert recorded.to_dict() == history.to_dict()


@both_backends
def test_so_it_is_with_missing_targets(backend):
    asked = settings(backend, missing_targets="ignore", metrics="mse")
    expected, history = fitted(regression(), X, GAPS, **asked)
    found, recorded = fitted(regression(), fn.Blocks(cut(X, GAPS, size=7)), **asked)
    assert same(expected, found)
    assert recorded.to_dict() == history.to_dict()


def measuring(**more):
    return regression(layers=[fn.Standardize(), fn.Dense(7, "tanh"), fn.Dense(1)], **more)


@both_backends
def test_so_it_is_with_features_and_targets_that_are_measured(backend):
    asked = settings(backend, metrics="mse", validation_data=(X[:40] * 9 + 50, Y[:40] * 70))
    given = X * 9 + 50, Y * 70
    expected, history = fitted(measuring(scale_targets=True), *given, **asked)
    whole = fn.Blocks(cut(*given, size=203))
    found, recorded = fitted(measuring(scale_targets=True), whole, **asked)
    assert same(expected, found)
    assert recorded.to_dict() == history.to_dict()
    # Of several blocks the moments are combined, and so may be rounded in another way.
    other, recorded = fitted(measuring(scale_targets=True), fn.Blocks(cut(*given)), **asked)
    for one, two in zip(expected.target_scale, other.target_scale, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)
    np.testing.assert_allclose(expected.parameters, other.parameters, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(history["val_mse"], recorded["val_mse"], rtol=1e-3)


# Several windows.


def by_hand(net, arrays, window, epochs=3, batch=8, backend="native"):
    """Fit on the windows one after the other, each as a fit of an epoch of its own."""
    losses = []
    for _ in range(epochs):
        summed = 0.0
        for start in range(0, len(arrays[0]), window):
            part = [array[start : start + window] for array in arrays]
            history = net.fit(*part, epochs=1, batch_size=batch, backend=backend, **OPTIMIZER)
            summed += history["loss"][0] * len(part[0])
        losses.append(summed / len(arrays[0]))
    return losses


OPTIMIZER = {"optimizer": fn.SGD(0.05)}  # has nothing that a fit would begin anew


@both_backends
@pytest.mark.parametrize("size", [1, 30, 72, 203])
@pytest.mark.parametrize("window", [8, 79, 80])
def test_windows_are_trained_one_after_the_other(window, size, backend):
    expected, found = regression(), regression()
    whole = window // 8 * 8
    losses = by_hand(expected, (X, Y), whole, backend=backend)
    blocks = fn.Blocks(cut(X, Y, size=size), window=window)
    history = found.fit(blocks, epochs=3, batch_size=8, backend=backend, **OPTIMIZER)
    assert same(expected, found)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    assert found._streams == expected._streams


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_and_the_length_of_slices_change_no_bit(threads, tuned):
    asked = settings(batch_size=64, metrics=["mse", "r2"], **HELD)
    expected, history = fitted(regression(), fn.Blocks(cut(X, Y), window=70), **asked)
    tuned(slice_seconds=0.0)
    blocks = fn.Blocks(cut(X, Y), window=70)
    found, recorded = fitted(regression(), blocks, threads=threads, **asked)
    assert same(expected, found)
    assert recorded.to_dict() == history.to_dict()


@pytest.mark.parametrize("average", [fn.SWA(1), fn.EMA(0.9)])
def test_an_average_over_windows_is_that_of_the_textbook(average):
    blocks = fn.Blocks(cut(X, Y), window=40)
    native, reference = (
        fitted(regression("float64"), blocks, **settings(backend, average=average, **HELD))
        for backend in BACKENDS
    )
    np.testing.assert_allclose(native[0].parameters, reference[0].parameters, rtol=1e-9)
    np.testing.assert_allclose(native[1]["val_loss"], reference[1]["val_loss"], rtol=1e-9)


METRICS = ["mse", "mae", "r2", lambda y, p: np.abs(y - p).max()]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("window", [8, 72])
def test_metrics_are_those_of_the_whole_epoch(window, weighted):
    given = (X, Y, WEIGHTS) if weighted else (X, Y)
    blocks = fn.Blocks(cut(*given), window=window)
    native, reference = (
        fitted(regression("float64"), blocks, **settings(backend, metrics=metrics, **HELD))[1]
        for backend, metrics in (("native", METRICS[:3]), ("reference", METRICS))
    )
    for name in native:
        np.testing.assert_allclose(native[name], reference[name], rtol=1e-9, err_msg=name)


@both_backends
def test_metrics_of_classes_are_those_of_the_whole_epoch(backend):
    blocks = fn.Blocks(cut(X, CLASSES, WEIGHTS), window=24)
    seen = []

    def spy(y, p):
        seen.append(len(y))
        return float((y.argmax(axis=1) == p.argmax(axis=1)).mean())

    names = ["accuracy", "f1_macro", "balanced_accuracy", "log_loss"]
    by_counts = fitted(classes("float64"), blocks, **settings(metrics=names))[1]
    in_python = fitted(classes("float64"), blocks, **settings(backend, metrics=[*names, spy]))[1]
    assert seen == [203] * 3
    for name in by_counts:
        np.testing.assert_allclose(by_counts[name], in_python[name], rtol=1e-9, err_msg=name)


@both_backends
def test_early_stopping_ends_and_restores(backend):
    asked = settings(backend, epochs=30, optimizer=fn.SGD(0.5), **HELD)
    blocks = fn.Blocks(cut(X, Y), window=56)
    net = regression()
    seen = []
    stopping = fn.EarlyStopping(patience=3)
    history = net.fit(blocks, callbacks=[stopping, lambda run: seen.append(run.epoch)], **asked)
    alone, recorded = fitted(regression(), blocks, callbacks=fn.EarlyStopping(patience=3), **asked)
    assert history.stopped == recorded.stopped == "early stopping"
    assert history.best_epoch == recorded.best_epoch
    assert same(net, alone)
    assert seen == list(range(1, len(seen) + 1))


def test_sparse_windows_of_more_entries_than_the_first_one_find_room():
    thin = np.where(RNG.random((200, 40)) < np.linspace(0.01, 0.9, 200)[:, None], 1.0, 0.0)
    y = thin[:, 0] + thin[:, 1]
    stopping = {"callbacks": fn.EarlyStopping(patience=99), "validation_data": (thin, y)}
    nets = [regression(), regression()]
    for net, make in zip(nets, (sparse.csr_array, np.asarray), strict=True):
        blocks = fn.Blocks(cut(thin, y, make=make), window=24)
        net.fit(blocks, metrics=["mse"], **settings(epochs=4, **stopping))
    assert same(*nets)


def test_standardize_combines_what_differs_from_block_to_block():
    # Sorted: each column is constant within every block.
    given = np.repeat(np.arange(7.0), 29)[:, None] * [1.0, 1e6, 0.0] + [1e3, 0.0, 5.0]
    nets = [measuring(dtype="float64"), measuring(dtype="float64")]
    nets[0].fit(given, Y, **settings())
    nets[1].fit(fn.Blocks(cut(given, Y, size=29)), **settings())
    np.testing.assert_allclose(nets[0].parameters[:6], nets[1].parameters[:6], rtol=1e-12)


# Memory, order and threads.


def test_a_block_may_be_written_over_when_the_next_one_is_read():
    def reused():
        room, answers = np.empty((29, 5)), np.empty(29)
        for start in range(0, 203, 29):
            room[:], answers[:] = X[start : start + 29], Y[start : start + 29]
            yield room, answers
        room[:] = answers[:] = np.nan

    expected = fitted(regression(), fn.Blocks(cut(X, Y), window=40), **settings())[0]
    for prefetch in (True, False):
        blocks = fn.Blocks(reused, window=40, prefetch=prefetch)
        assert same(expected, fitted(regression(), blocks, **settings())[0])


@pytest.mark.parametrize("rows", [None, 203])
def test_the_function_is_called_once_per_epoch_and_its_iterators_are_closed(rows):
    made, closed, threads = [], [], set()

    def read():
        made.append(1)
        threads.add(threading.current_thread())
        try:
            yield from cut(X, Y)()
        finally:
            closed.append(1)

    regression().fit(fn.Blocks(read, rows=rows, window=40), **settings(epochs=4))
    assert len(made) == len(closed) == 4 + (rows is None)
    assert (threading.main_thread() in threads) == (rows is None)
    threads.clear()
    regression().fit(fn.Blocks(read, rows=203, prefetch=False), **settings())
    assert threads == {threading.main_thread()}


def reading_threads():
    return [one for one in threading.enumerate() if one.name == "fastnn-blocks"]


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_what_the_iterator_raises_reaches_the_caller(place, prefetch):
    closed = []

    def broken():
        try:
            for number, block in enumerate(itertools.cycle(cut(X, Y)())):
                if number == place:
                    _fail()
                yield block
        finally:
            closed.append(1)

    net = regression()
    with pytest.raises(OSError, match="the disk is gone") as caught:
        net.fit(fn.Blocks(broken, rows=1000, window=64, prefetch=prefetch), **settings())
    assert "_fail" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert closed == [1]
    assert not reading_threads()
    if net._layout is not None:
        assert np.isfinite(net.parameters).all()
    net.fit(X, Y, **settings())


def _fail():
    raise OSError("the disk is gone")


@pytest.mark.parametrize("prefetch", [True, False])
def test_ctrl_c_keeps_the_weights_and_ends_the_thread(prefetch):
    class Pressed(fn.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                raise KeyboardInterrupt

    net = regression()
    blocks = fn.Blocks(cut(X, Y), window=40, prefetch=prefetch)
    with pytest.warns(UserWarning, match="interrupted after 2 of 5 epochs"):
        history = net.fit(blocks, callbacks=Pressed(), **settings(epochs=5))
    assert history.stopped == "interrupted"
    assert same(net, fitted(regression(), blocks, **settings(epochs=2))[0])
    assert not reading_threads()


def test_ctrl_c_ends_a_wait_for_a_block():
    code = """
        import os, signal, threading, time
        import numpy as np, fastnn as fn
        # A shell that has started this in the background has it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def read():
            for n in range(10):
                if n == 3:
                    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
                    time.sleep(30)
                yield np.ones((8, 2)), np.ones(8)
        net = fn.Sequential([fn.Dense(1)])
        began = time.monotonic()
        history = net.fit(fn.Blocks(read, rows=80, window=8), batch_size=8, backend="reference")
        print(history.stopped, time.monotonic() - began < 20)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["interrupted", "True"], done.stderr


def test_reading_goes_on_while_steps_are_taken():
    ahead = threading.Event()

    def read():
        yield from cut(X[:40], Y[:40], size=40)()
        ahead.set()
        yield from cut(X[40:80], Y[40:80], size=40)()

    seen = []

    class Watching(fn.Checkpoint):
        def is_due(self, epoch, ended):
            if not epoch and not ended:
                # Within the first epoch: the thread is in the second window's block by itself.
                seen.append(ahead.wait(10))
            return False

        def write(self, save):
            pass

    watching = Watching("nowhere", every=1e9, unit="seconds")
    blocks = fn.Blocks(read, rows=80, window=40)
    regression().fit(blocks, callbacks=watching, **settings(epochs=1, batch_size=8))
    assert seen
    assert all(seen)


# Going on.


@both_backends
@pytest.mark.parametrize("metrics", [(), "mse"])
def test_ten_fits_of_one_epoch_are_one_fit_of_ten(metrics, backend):
    asked = settings(backend, metrics=metrics)
    blocks = fn.Blocks(cut(X, Y), window=40)
    whole, parts = regression(), regression()
    expected = whole.fit(blocks, **asked | {"epochs": 10})
    for _ in range(10):
        found = parts.fit(blocks, resume=True, **asked | {"epochs": 1})
    assert same(whole, parts)
    assert expected.to_dict() == found.to_dict()


@pytest.mark.parametrize("metrics", [(), ["mse", "r2"]])
def test_a_fit_goes_on_within_an_epoch(metrics, tmp_path, tuned):
    tuned(slice_seconds=0.0)
    asked, copies = settings(metrics=metrics, **HELD), []
    blocks = fn.Blocks(cut(X, Y), window=40)

    class Copying(fn.Checkpoint):
        def write(self, save):
            copies.append(tmp_path / str(len(copies)))
            save(str(copies[-1]))

    kept = Copying(tmp_path / "state", every=1e-9, unit="seconds")
    whole, expected = fitted(measuring(scale_targets=True), blocks, callbacks=kept, **asked)
    assert len(copies) > 3 * 20
    for copy in copies[1:-1:5]:
        other, found = fitted(measuring(scale_targets=True), blocks, resume=copy, **asked)
        assert same(whole, other), copy
        assert expected.to_dict() == found.to_dict(), copy


def test_where_it_cannot_go_on_it_says_so(tmp_path, tuned):
    tuned(slice_seconds=0.0)
    blocks, path = fn.Blocks(cut(X, Y), window=40), tmp_path / "state"

    class Pressed(fn.Checkpoint):
        def is_due(self, epoch, ended):
            if epoch == 1 and not ended:
                self.count = getattr(self, "count", 0) + 1
                if self.count == 12:
                    raise KeyboardInterrupt
            return False

    asked = settings(metrics=lambda y, p: 0.0)
    net = regression()
    with pytest.warns(UserWarning, match="interrupted"):
        net.fit(blocks, callbacks=Pressed(path, every=1e9, unit="seconds"), **asked)
    with pytest.raises(ValueError, match="ended with an epoch, where metrics are made of all"):
        net.fit(blocks, resume=True, **asked)
    net.fit(blocks, **settings())
    for other, message in (
        (fn.Blocks(cut(X, Y), window=48), r"window \(40 there, 48 here\)"),
        (fn.Blocks(cut(X, Y)), r"window \(40 there, none here\)"),
        (fn.Blocks(cut(X[1:], Y[1:]), window=40), r"examples \(203 there, 202 here\)"),
        (fn.Blocks(cut(X + 1, Y), window=40), "differs in the examples' contents"),
    ):
        with pytest.raises(ValueError, match=message):
            net.fit(other, resume=True, **settings())
    # A fit in one window is one on arrays.
    net.fit(fn.Blocks(cut(X, Y)), **settings())
    assert net.fit(X, Y, resume=True, **settings()).epochs == 6


@both_backends
def test_a_divergence_says_where_and_keeps_finite_weights(backend):
    given = np.where(np.arange(203)[:, None] == 150, 1e30, X)
    net = regression(layers=[fn.Dense(4), fn.Dense(1)])
    blocks = fn.Blocks(cut(given, Y), window=40)
    with pytest.raises(fn.DivergenceError, match=r"epoch 1, step \d+ of 26") as caught:
        net.fit(blocks, shuffle=False, optimizer=fn.SGD(0.1), batch_size=8, backend=backend)
    assert caught.value.step == 150 // 8 + 1
    assert np.isfinite(net.parameters).all()
    expected = regression(layers=[fn.Dense(4), fn.Dense(1)])
    expected.fit(
        given[:144], Y[:144], shuffle=False, optimizer=fn.SGD(0.1), batch_size=8, epochs=1,
        backend=backend,
    )  # fmt: skip
    assert same(net, expected)


# Predictions.


@both_backends
def test_predictions_and_evaluations_are_those_of_the_whole(backend):
    net = regression(scale_targets=True)
    net.fit(X, Y, **settings())
    expected = net.predict(X, backend=backend)
    for read in (cut(X, Y), cut(X, Y, WEIGHTS), lambda: (block for block, *_ in cut(X, Y)())):
        parts = net.predict(fn.Blocks(read), backend=backend)
        assert [len(part) for part in parts] == [30] * 6 + [23]
        whole = np.concatenate(list(net.predict(fn.Blocks(read), backend=backend)))
        np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
    for given in ((X, Y), (X, Y, WEIGHTS)):
        names = {"metrics": ["mse", "r2"], "backend": backend}
        weights = given[2] if len(given) > 2 else None
        one = net.evaluate(X, Y, sample_weight=weights, **names)
        two = net.evaluate(fn.Blocks(cut(*given)), **names)
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(one.values()), list(two.values()), rtol=1e-5)


# What is refused.


def numbers(blocks):
    return fn.Blocks(lambda: iter(blocks))


GOOD = (np.ones((10, 5)), np.ones(10))


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ([GOOD, (np.ones((10, 4)), np.ones(10))], ValueError, "X of block 1 has 4 features"),
        ([GOOD, (np.ones((10, 5)), np.ones(9))], ValueError, "y of block 1 has 9"),
        ([GOOD, (np.ones((10, 5)), np.full(10, np.nan))], ValueError, "y of block 1 has NaN"),
        ([GOOD, (np.full((10, 5), "a"), np.ones(10))], TypeError, "X of block 1 must hold real"),
        ([GOOD, np.ones((10, 6))], TypeError, r"block 1 must be \(X, y\) or"),
        ([GOOD, (np.ones((10, 5)),)], TypeError, r"block 1 must be \(X, y\) or"),
        ([GOOD, (*GOOD, np.ones(10))], ValueError, "block 1 has sample weights, and block 0"),
        ([GOOD, (sparse.csr_array(GOOD[0]), GOOD[1])], ValueError, "block 1 has a sparse X, and"),
        ([(*GOOD, np.zeros(10))], ValueError, "at least one example of a weight above 0"),
        ([(*GOOD, -np.ones(10))], ValueError, "weights of block 0 has -1.0"),
        ([GOOD, (np.ones((0, 5)), np.ones(0))], ValueError, "X of block 1 must hold at least one"),
        ([], ValueError, "must give at least one block"),
    ],
)
@both_backends
def test_wrong_blocks_are_refused(blocks, error, message, backend):
    net = regression()
    with pytest.raises(error, match=message):
        net.fit(numbers(blocks), **settings(backend))
    assert net._layout is None
    assert not reading_threads()


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        (cut(X, Y)(), {}, "got an iterator .generator., of which nothing is left after one"),
        ([GOOD], {}, "must be a function.* For blocks in a list"),
        (None, {}, "make_iterator must be a function"),
        (cut(X, Y), {"rows": 0}, "rows must be an integer of at least 1"),
        (cut(X, Y), {"rows": 1.5}, "rows must be an integer"),
        (cut(X, Y), {"window": 0}, "window must be an integer of at least 1"),
        (cut(X, Y), {"prefetch": 1}, "prefetch must be True or False"),
        (cut(X, Y), {"buffer_size": 9}, "no argument 'buffer_size'"),
    ],
)
def test_wrong_parameters_are_refused(make, more, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fn.Blocks(make, **more)


def test_another_number_of_examples_than_was_said_is_refused():
    for rows, message in ((100, "rows says 100; this has more"), (999, "this has 203")):
        for window in (40, 16384):
            with pytest.raises(ValueError, match=message):
                regression().fit(fn.Blocks(cut(X, Y), rows=rows, window=window), **settings())
    with pytest.raises(ValueError, match="got 999, where make_iterator gives 203"):
        measuring().fit(fn.Blocks(cut(X, Y), rows=999), **settings())
    counts = iter([203, 203, 150, 203])

    def fewer():
        count = next(counts)
        return cut(X[:count], Y[:count])()

    with pytest.raises(ValueError, match="the pass before had 203; this has 150"):
        regression().fit(fn.Blocks(fewer), **settings())


def test_an_iterator_that_comes_again_is_refused():
    kept = cut(X, Y)()
    with pytest.raises(ValueError, match="it returned the same one again"):
        regression().fit(fn.Blocks(lambda: kept, rows=203), **settings())
    with pytest.raises(TypeError, match="must return an iterator of blocks; got 3"):
        regression().fit(fn.Blocks(lambda: 3), **settings())
    blocks = list(cut(X, Y)())
    regression().fit(fn.Blocks(lambda: blocks), **settings())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"y": Y}, "y must be left out with Blocks"),
        ({"sample_weight": WEIGHTS}, "sample_weight must be left out with Blocks"),
        ({"validation_fraction": 0.1}, "validation_fraction draws from all examples"),
        (
            {"validation_data": (fn.Blocks(cut(X, Y)), None)},
            r"validation_data\[0\] must hold arrays, .* got Blocks\(.* memory maps .* callback",
        ),
        (
            {"validation_data": fn.Blocks(cut(X, Y))},
            r"validation_data must hold arrays, .* got Blocks\(.*evaluate\(blocks\)",
        ),
        ({"X_val": fn.Blocks(cut(X, Y))}, r"X_val must hold arrays, .* got Blocks\("),
        ({"optimizer": fn.LBFGS()}, "LBFGS needs all examples at once"),
        ({"optimizer": fn.LevenbergMarquardt()}, "LevenbergMarquardt needs all examples at once"),
        ({"measure": "after", "metrics": "mse"}, "measure='after' predicts all examples"),
        ({"batch_size": 50}, "window must be at least batch_size, 50"),
    ],
)
def test_what_blocks_cannot_do_is_refused(asked, message):
    made = []

    def read():
        made.append(1)
        return cut(X, Y)()

    net = regression()
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit(fn.Blocks(read, rows=203, window=40), **settings() | asked)
    assert net._layout is None
    assert len(made) <= 1


def test_blocks_are_validated_on_in_a_callback_as_the_error_says():
    """And the very same numbers as of arrays."""
    asked, seen = settings() | {"epochs": 3}, []
    watched, given = regression(), regression()
    blocks = fn.Blocks(cut(X[:50], Y[:50]))
    watched.fit(
        fn.Blocks(cut(X, Y)), callbacks=lambda run: seen.append(run.network.evaluate(blocks)),
        **asked,
    )  # fmt: skip
    history = given.fit(X, Y, validation_data=(X[:50], Y[:50]), **asked)
    np.testing.assert_allclose([one["loss"] for one in seen], history["val_loss"], rtol=1e-5)


def test_class_weights_that_need_all_examples_are_refused():
    with pytest.raises(ValueError, match="class_weight='balanced' needs all examples at once"):
        classes().fit(fn.Blocks(cut(X, CLASSES)), class_weight="balanced", **settings())


def test_blocks_are_refused_where_arrays_are_wanted():
    net, blocks = regression(), fn.Blocks(cut(X, Y))
    net.fit(X, Y, **settings())
    for call in (
        lambda: net.train_on_batch(blocks, Y),
        lambda: net.loss_and_gradient(blocks, Y),
        lambda: net.hidden(blocks),
        lambda: fn.MLPRegressor().fit(blocks, Y),
        lambda: fn.MLPClassifier().fit(blocks, Y),
        lambda: fn.MLPRegressor().partial_fit(blocks, Y),
    ):
        with pytest.raises(TypeError, match="Blocks"):
            call()
    with pytest.raises(ValueError, match="out is for the predictions of one array"):
        net.predict(blocks, out=np.zeros((203, 1), "f4"))
    with pytest.raises(TypeError, match="y must be an array of numbers; got None"):
        net.fit(X)


# Memory.

FLAT = """
    import sys
    import numpy as np, fastnn as fn

    size, columns, rows = float(sys.argv[1]), 100, 10_000
    count = int(size / (4 * rows * columns))
    base = np.random.default_rng(0).normal(size=(rows, columns)).astype("f4")
    slope = np.random.default_rng(1).normal(size=columns).astype("f4")

    def read():
        for n in range(count):
            X = base + np.float32(n % 7)
            yield X, (X @ slope > 0).astype(np.int64)

    def peak():
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    net = fn.Sequential([fn.Dense(8, "relu"), fn.Dense(2, "softmax")])
    blocks = fn.Blocks(read, rows=count * rows)
    asked = {"epochs": 1, "batch_size": 256, "metrics": "accuracy", "progress": False}
    # What the code itself takes.
    net.fit(*next(read()), **asked)
    before = peak()
    history = net.fit(blocks, **asked)
    print(peak() - before, history["accuracy"][0])
"""


def memory_of_a_fit(size):
    """Return by how much a fit on so many bytes raised the most memory that a process had."""
    command = [sys.executable, "-c", textwrap.dedent(FLAT), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, accuracy = map(float, done.stdout.split())
    assert accuracy > 0.7
    return grown


@pytest.mark.jit
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat():
    assert memory_of_a_fit(150e6) < 40e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_four_gigabytes_go_through_three_hundred_megabytes():
    assert memory_of_a_fit(4e9) < 300e6
