"""scikit-learn's own tests of its perceptrons, run on ours.

The installed test module is executed once more with the two class names replaced; nothing of it
stands here.
"""

from __future__ import annotations

import importlib.util

import pytest

pytest.importorskip("sklearn.callback")

import sklearn.neural_network

import fastnn as fn

# What scikit-learn reports of fits that are too short is not what is tested here.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.global_random]

# It calls a private method with arrays of scikit-learn's own backward pass.
PRIVATE = {"test_gradient"}


def upstream():
    """Return the tests of the installed scikit-learn as functions about our classes."""
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if found is None or found.loader is None:
        pytest.skip("this scikit-learn comes without its tests", allow_module_level=True)
    module = importlib.util.module_from_spec(found)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLPClassifier", "MLPRegressor"):
            patch.setattr(sklearn.neural_network, name, getattr(fn, name))
        found.loader.exec_module(module)
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


UPSTREAM = upstream()
globals().update({name: test for name, test in UPSTREAM.items() if name not in PRIVATE})


@pytest.fixture
def global_random_seed():
    """Stand in for scikit-learn's fixture of this name."""
    return 42


def test_the_tests_are_about_our_classes():
    assert UPSTREAM.keys() > PRIVATE
    assert len(UPSTREAM) >= 40
    names = UPSTREAM["test_alpha"].__globals__
    assert names["MLPClassifier"] is fn.MLPClassifier
    assert names["MLPRegressor"] is fn.MLPRegressor
