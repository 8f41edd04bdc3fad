"""A fitted estimator: its weights, its predictions, and its pickles."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn import pickles
from fastnn.estimators import files, onnx_files
from fastnn.estimators.examples import FORMATS
from fastnn.estimators.layered import Layered, asked_of
from fastnn.estimators.pace import Pace
from fastnn.estimators.parameters import hidden_sizes
from fastnn.estimators.reading import frame_at_once, reading
from fastnn.estimators.weights import Weights, check_lists
from fastnn.network import Sequential

__all__ = ["Fitted"]

# What scikit-learn's binarizer of labels learns.
_BINARIZER = ("y_type_", "sparse_input_", "classes_")

# The lists that a fit appends to.
_CURVES = ("loss_curve_", "validation_scores_", "validation_loss_curve_")

Floats = NDArray[np.floating]
Answer = TypeVar("Answer")

_COMPRESSED = (sparse.csr_array, sparse.csr_matrix)


class Fitted(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """The part of an estimator that works once there are weights."""

    # Parameters and what validation learns, which scikit-learn's classes set.
    activation: Any
    dropout: Any
    hidden_layer_sizes: Any
    dtype: Any
    n_features_in_: int
    out_activation_: str

    # Predicting.

    def _forward(self, X: Any, *, linear: bool = False) -> Floats:
        """Return the last layer's outputs for the examples, (n, m), or its weighted sums."""
        quick = self._as_it_is(X, linear=linear)
        if quick is not None:
            return quick
        weights, X = self._asked(X)
        outputs: Floats = (weights.linear if linear else weights.network).predict(X)
        return outputs

    def _at_once(self, ask: Callable[[Self], Answer]) -> Answer:
        """Return what a function of the estimator gives that asks it more than once, of one state.

        Should another thread's fit show a new one in between, a copy is asked instead.
        """
        weights: Weights | None = self.__dict__.get("_weights")
        if weights is None:
            return ask(self)
        shown = weights.network._shown
        turn = shown.turn
        if turn:
            answer = ask(self)
            if shown.turn is turn and self.__dict__.get("_weights") is weights:
                return answer
        return ask(copy.copy(self))

    def _asked(self, X: Any) -> tuple[Weights, Any]:
        """Return the weights to predict with, and the examples as scikit-learn validates them."""
        check_is_fitted(self)
        with reading(X=X):
            X = validate_data(self, X, accept_sparse=FORMATS, reset=False)
        own = self.__dict__.get("_weights")
        if own is None or not own.are(*self._described()):
            check_lists(self.coefs_, self.intercepts_)
        dtype = np.result_type(X.dtype, *(np.asarray(W).dtype for W in self.coefs_))
        single = dtype in (np.float16, np.float32)
        return self._current(self.dtype or (np.float32 if single else np.float64)), X

    def _as_it_is(self, X: Any, *, linear: bool = False) -> Floats | None:
        """Return the outputs for an array that needs no conversion and no error, else None.

        scikit-learn's validation costs more than a small network; arrays that pass here would pass
        there too.
        """
        if type(X) in _COMPRESSED:
            return self._entries_as_they_are(X, linear=linear)
        weights = self.__dict__.get("_weights")
        if weights is None:
            return None
        names = self.__dict__.get("feature_names_in_")
        if names is not None:
            # Only a frame has names too.
            X = frame_at_once(X, names, weights.network.dtype)
        if (
            type(X) is not np.ndarray
            or X.ndim != 2
            or X.dtype != weights.network.dtype
            or X.shape[1] != self.n_features_in_
            or not (X.size and X.flags.c_contiguous and X.flags.aligned)
            or not weights.are(*self._described())
        ):
            return None
        network = weights.linear if linear else weights.network
        found: Floats
        if len(X) == 1:
            # The network is fastest with a single example as a vector.
            if not np.isfinite(X).all():
                return None
            found = network(X[0])[np.newaxis]
            return found
        with np.errstate(all="ignore"):
            if not np.isfinite(X.sum()):
                return None
        found = network(X)
        return found

    def _entries_as_they_are(self, X: Any, *, linear: bool = False) -> Floats | None:
        """Return the outputs for CSR that needs no conversion and no error, else None.

        The gate checks every number and every index, and once is enough.
        """
        weights = self.__dict__.get("_weights")
        if (
            weights is None
            or X.dtype != weights.network.dtype
            or X.shape[1:] != (self.n_features_in_,)
            or "feature_names_in_" in self.__dict__
            or not weights.are(*self._described())
        ):
            return None
        with suppress(TypeError, ValueError):
            found: Floats = (weights.linear if linear else weights.network).predict(X)
            return found
        return None

    def _adopt(self, weights: Weights, **learnt: Any) -> None:
        """Make these the estimator's weights, and write what else was learnt with them.

        In one call of compiled code, so that another thread finds all of it or nothing.
        """
        self.__dict__.update(
            _weights=weights,
            # Copies of the lists, so that an array put into one is noticed.
            coefs_=list(weights.coefs),
            intercepts_=list(weights.intercepts),
            **learnt,
        )

    def _current(self, dtype: DTypeLike | None = None) -> Weights:
        """Return the weights as they are, also where the user has set them by hand."""
        weights: Weights | None = self.__dict__.get("_weights")
        described = self._described()
        if isinstance(weights, Layered):
            return weights.present(*described[:2], described[3], dtype)
        if weights is None or not weights.hold(*described[:2]):
            # Another thread's fit may have exchanged all of it in between.
            again = self.__dict__.get("_weights")
            if again is not weights:
                return self._current(dtype)
            return Weights.of(*described, dtype)
        if (dtype is None or weights.network.dtype == dtype) and weights.are(*described):
            return weights
        return Weights.of(*weights.taken(), *described[2:], dtype)

    def _described(self) -> tuple[Any, Any, Any, Any, Any]:
        """Return what `Weights` are of: read without a call, so that no thread comes in between."""
        return (
            self.coefs_, self.intercepts_, self.activation, self.out_activation_, self.dropout
        )  # fmt: skip

    @property
    def network_(self) -> Sequential:
        """The fitted network: a `Sequential` that shares its weights with ``coefs_``.

        Its layers carry no L2: ``alpha`` is the estimator's, and is divided by each batch.
        """
        check_is_fitted(self)
        network = self._current().network
        self._name_outputs(network)
        return network

    def _name_outputs(self, network: Sequential) -> None:
        """Give the network the labels of its outputs, where it has some."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that holds no code.

        The file is a safetensors container: an 8-byte length, a JSON header, raw data.  It is
        written whole or not at all; an existing file is replaced.  It holds parameters, weights,
        classes, names of features, curves and the optimizer's state, so that what
        `fastnn.load_estimator` reads predicts with the same bits and goes on to the same bits.

        Parameters
        ----------
        path : path-like
            Where to write.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        OSError
            If the file cannot be written.
        TypeError
            If it holds what no file without code can: a function as ``learning_rate``,
            ``callbacks`` or ``monitor``, or an attribute of the user's own that is no plain value;
            or if it is of a subclass.
        ValueError
            If a parameter is out of its range, or attributes set by hand do not fit each other.

        See Also
        --------
        fastnn.load_estimator : The way back.

        Notes
        -----
        A ``random_state`` that is a RandomState is kept with its state.  Private attributes that
        other packages attach are left out.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import fastnn as fn
        >>> model = fn.MLPRegressor(hidden_layer_sizes=4, solver="lbfgs", random_state=0)
        >>> model = model.fit([[0.0], [1.0]], [0.0, 1.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "model.fastnn"
        ...     model.save(path)
        ...     again = fn.load_estimator(path)
        >>> bool((again.predict([[0.5]]) == model.predict([[0.5]])).all())
        True
        """
        files.save(self, path)

    def to_onnx(self, path: str | os.PathLike[str], *, dtype: DTypeLike | None = None) -> None:
        """Write the fitted estimator as an ONNX file, with the outputs that skl2onnx would give it.

        The input is ``X`` (n, p).  A classifier's outputs are ``label`` and ``probabilities``
        (n, classes), plain tensors without a ZipMap; with ``loss="hinge"`` the second is
        ``scores``, what `decision_function` returns.  A regressor's output is ``variable`` (n, m).
        Labels are int64 for whole numbers and truth values, float64 for other numbers, or texts;
        rows of 0 and 1 where there are several labels at once.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced.
        dtype : {"float32", "float64"}, optional
            What the file takes and computes in; left out, that of the weights.

        Raises
        ------
        ImportError
            If the package ``onnx`` is not installed.
        NotFittedError
            If the estimator is not fitted.
        OSError
            If the file cannot be written.
        TypeError
            If classes are neither numbers nor texts.
        ValueError
            If the dtype is another, or weights are not finite in it.

        Examples
        --------
        >>> import fastnn as fn
        >>> model = fn.MLPClassifier(4, solver="lbfgs", random_state=0).fit([[0.0], [1.0]], [0, 1])
        >>> model.to_onnx("model.onnx", dtype="float32")  # doctest: +SKIP
        """
        onnx_files.write(self, path, dtype)

    # What other packages see.

    def onnx_parser(self) -> Any:
        """Return what skl2onnx asks for the outputs of a model that it does not know."""
        return lambda scope=None, inputs=None: onnx_files.parse(scope, self, inputs)

    def onnx_shape_calculator(self) -> Any:
        """Return what skl2onnx asks for their types and shapes."""
        return onnx_files.shape

    def onnx_converter(self) -> Any:
        """Return what skl2onnx asks for the operators."""
        return onnx_files.convert

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether there are weights: a fit that was refused leaves other attributes."""
        return hasattr(self, "coefs_")

    def __getstate__(self) -> dict[str, Any]:
        """Return plain values, but for parameters; what follows from the rest is left out.

        Weights and optimizer are of one state that was shown, whatever another thread trains.
        """
        while True:
            weights: Weights | None = self.__dict__.get("_weights")
            if weights is None:
                return self._taken_down()
            state = weights.network._shown.copied(self._taken_down)
            if self.__dict__.get("_weights") is weights:
                return state

    def _taken_down(self) -> dict[str, Any]:
        """Return what makes this estimator; it shares no numbers that a fit writes."""
        state = dict(super().__getstate__())
        weights: Weights | None = state.pop("_weights", None)
        state.pop("_increment", None)
        state.pop("_curvature", None)
        if isinstance(weights, Layered):
            state["_beyond"] = weights.to_plain()
        if weights is not None and weights.hold(state.get("coefs_"), state.get("intercepts_")):
            # Not by `taken`, which would wait for a writer within `copied`.
            state["coefs_"], state["intercepts_"] = weights.views(weights.vector.copy())
        for name in _CURVES:
            if isinstance(state.get(name), list):
                state[name] = list(state[name])
        if "_optimizer" in state:
            state["_optimizer"] = state["_optimizer"].to_plain()
        if "_label_binarizer" in state:
            state["_label_binarizer"] = {
                name: getattr(state["_label_binarizer"], name) for name in _BINARIZER
            }
        return pickles.sealed(state)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickles.reduced(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = pickles.opened(state)
        if "_optimizer" in state:
            state["_optimizer"] = Pace.of_plain(state["_optimizer"])
        if "_label_binarizer" in state:
            kept = state["_label_binarizer"]
            state["_label_binarizer"] = binarizer = LabelBinarizer()
            for name in _BINARIZER:
                setattr(binarizer, name, kept[name])
        beyond = state.pop("_beyond", None)
        self.__dict__.update(state)
        if beyond is not None:
            self._weights = Layered.of_plain(beyond)
        if "coefs_" in state and "out_activation_" in state:
            # Weights set by hand may be none of a network yet; then they stay as they are, and so
            # do those of a dtype that none computes in.
            with suppress(TypeError, ValueError):
                weights = self._current()
                kept = (*self.coefs_, *self.intercepts_)
                if all(np.asarray(part).dtype == weights.network.dtype for part in kept):
                    self._adopt(weights)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        with suppress(TypeError, ValueError):  # A fit says what is wrong.
            asked = asked_of(self, hidden_sizes(self.hidden_layer_sizes))
            tags.input_tags.sparse = asked is None or asked.whole is None
        return tags
