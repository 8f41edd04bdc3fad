"""Threads of other libraries, beside and inside the estimators."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from sklearn.datasets import make_regression
from threadpoolctl import ThreadpoolController, threadpool_limits

from fastnn import MLPRegressor
from fastnn.estimators.blas import one_blas_thread

X, Y = make_regression(60, 5, random_state=0)


def blas_threads():
    """Return how many threads each BLAS library would use."""
    found = ThreadpoolController().select(user_api="blas").info()
    return [library["num_threads"] for library in found]


def searching(callback):
    """Return a regressor that tells a callback of its search."""
    return MLPRegressor(
        hidden_layer_sizes=(4,), solver="lbfgs", search="scipy", max_fun=500, tol=10.0,
        random_state=0, callbacks=[callback],
    )  # fmt: skip


@pytest.fixture(autouse=True)
def several():
    """Let BLAS use several threads, on any machine."""
    with threadpool_limits(3, user_api="blas"):
        if set(blas_threads()) != {3}:
            pytest.skip("this BLAS has no threads")
        yield
        assert set(blas_threads()) == {3}


def test_a_search_by_lbfgs_asks_blas_for_one_thread_and_gives_the_others_back():
    found = []
    model = searching(lambda run: found.extend(blas_threads()))
    model.fit(X, Y)
    assert set(found) == {1}


def test_a_search_that_is_interrupted_gives_them_back():
    def stop(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searching(stop).fit(X, Y)
    assert set(blas_threads()) == {3}


def test_searches_that_overlap_give_them_back():
    """The second one finds what the first one has set: one."""
    begun, go_on = threading.Event(), threading.Event()

    def search():
        with one_blas_thread():
            begun.set()
            assert go_on.wait(60)

    with one_blas_thread():
        other = threading.Thread(target=search)
        other.start()
        assert begun.wait(60)
        assert set(blas_threads()) == {1}
    go_on.set()
    other.join(60)
    assert set(blas_threads()) == {3}


def test_products_of_the_user_keep_their_threads_in_other_fits():
    MLPRegressor(hidden_layer_sizes=(4,), max_iter=500, random_state=0, tol=1.0).fit(
        X, np.zeros(len(X))
    )
    assert set(blas_threads()) == {3}
