"""`MLPRegressor`: scikit-learn's, on the library's engine.

The file is long because the class's documentation stands here, with every parameter and
attribute.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn import gate
from fastnn.data import Data
from fastnn.estimators import conversion
from fastnn.estimators.base import Perceptron
from fastnn.estimators.examples import FORMATS
from fastnn.estimators.gaps import has_gaps, parts_known, with_gaps
from fastnn.estimators.increment import numbers_at_once, repeating
from fastnn.estimators.judge import r2
from fastnn.estimators.parameters import REGRESSOR, Objective, method_words, objective_of
from fastnn.estimators.reading import reading
from fastnn.gate import Targets
from fastnn.hints import advised, tell_arguments
from fastnn.kernels import codes
from fastnn.metrics import METRICS, of_known
from fastnn.words import ESTIMATOR

__all__ = ["MLPRegressor"]

Array = NDArray[Any]
Floats = NDArray[np.floating]


_WORDS = method_words("MLPRegressor", REGRESSOR)


class MLPRegressor(RegressorMixin, Perceptron):  # type: ignore[misc]
    """A multilayer perceptron that predicts numbers; scikit-learn's, faster and with more.

    Parameters, attributes, methods, warnings and errors are those of scikit-learn 1.9's class of
    this name, and so are the weights, for float64 and the same ``random_state``.  What is more
    stands at the end of the parameters and is off by default.  Needs the extra ``sklearn``.

    Parameters
    ----------
    loss : str, Huber, Quantile, Quantiles or Tweedie, default "squared_error"
        "squared_error" is scikit-learn's: half of it, and for several outputs the loss is their
        mean but its gradient that of their sum.  "poisson" predicts through an exponential, for
        y of at least 0.  More than scikit-learn: the library's "mean_squared_error",
        "mean_absolute_error", "huber", "log_cosh" and "quantile", whose gradients are those of
        the loss; ``fn.Huber(delta)`` and ``fn.Quantile(quantile)`` set their numbers;
        "gamma", "tweedie" and ``fn.Tweedie(power)``, which predict through an exponential;
        "gaussian_nll", which learns the variance of each output beside its mean; and "quantiles"
        and ``fn.Quantiles(quantiles)``, several quantiles of one y, which never cross.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init
        As in `MLPClassifier`.
    power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum
        As in `MLPClassifier`.
    nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon
        As in `MLPClassifier`.
    n_iter_no_change, max_fun, monitor_mode, callbacks, coefs_init, intercepts_init, max_time, dtype
        As in `MLPClassifier`.
    clip_norm, dropout, weight_decay, rho, n_threads, search, layers, standardize
        As in `MLPClassifier`.
    monitor : None, "loss", str or callable, default None
        What is scored on examples held out: R^2, their loss, or any scorer of scikit-learn by
        name or as a function of estimator, X and y.
    scale_targets : bool, default False
        Whether targets are brought to mean 0 and standard deviation 1 inside, each by itself, as
        the first fit measures them, or the first `partial_fit`; for losses with an identity behind
        the last layer.  Predictions and scores are in the targets' units; ``loss_``, its curves
        and the numbers of a loss's record are at unit scale.
    missing_targets : {"error", "ignore"}, default "error"
        What NaN, None or a mask in y (and in validation targets) stands for.  With "ignore" it is
        a target that is missing: it adds nothing to loss and gradient, which are means over those
        that are known, and R^2 is the mean over outputs of each, of the examples that have its
        target.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, t_, n_iter_
        As in `MLPClassifier`.
    validation_scores_, best_validation_score_, validation_loss_curve_
        As in `MLPClassifier`; a score is R^2 unless ``monitor`` says otherwise.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, network_
        As in `MLPClassifier`.  With ``loss="gaussian_nll"`` the network has twice as many outputs:
        means, followed by the logarithms of the variances; with ``fn.Quantiles`` one for each.
    out_activation_ : str
        "identity", "exp" with ``loss="poisson"``, or "increasing" with several quantiles.

    Raises
    ------
    ImportError
        Where scikit-learn 1.9 or newer is missing.

    See Also
    --------
    fastnn.Sequential : The layer API.

    Notes
    -----
    docs/sklearn.md lists what is the same, what is more, and every difference.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> X = np.linspace(-2, 2, 100)[:, np.newaxis]
    >>> y = np.sin(2 * X[:, 0])
    >>> reg = fn.MLPRegressor("squared_error", 20, "tanh", solver="lbfgs", random_state=0)
    >>> bool(reg.fit(X, y).score(X, y) > 0.99)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = REGRESSOR
    _score_name: ClassVar[str] = "r2"

    # What scikit-learn's class has no parameter of; see `Perceptron`.
    scale_targets: Any = False

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        monitor: Any = None,
        monitor_mode: Any = "auto",
        callbacks: Any = None,
        coefs_init: Any = None,
        intercepts_init: Any = None,
        max_time: Any = None,
        dtype: Any = None,
        clip_norm: Any = None,
        dropout: Any = 0.0,
        weight_decay: Any = None,
        rho: Any = None,
        n_threads: Any = None,
        search: Any = "own",
        layers: Any = None,
        standardize: Any = False,
        scale_targets: Any = False,
        missing_targets: Any = "error",
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.monitor = monitor
        self.monitor_mode = monitor_mode
        self.callbacks = callbacks
        self.coefs_init = coefs_init
        self.intercepts_init = intercepts_init
        self.max_time = max_time
        self.dtype = dtype
        self.clip_norm = clip_norm
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.rho = rho
        self.n_threads = n_threads
        self.search = search
        self.layers = layers
        self.standardize = standardize
        self.scale_targets = scale_targets
        self.missing_targets = missing_targets

    # Learning.

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @advised(_WORDS, "MLPRegressor.partial_fit")
    @repeating
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take one epoch over these examples, keeping weights and the optimizer's state.

        A schedule of the learning rate counts on: each call is one of its ``max_iter`` epochs.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        AttributeError
            With ``solver="lbfgs"``, which has no such steps.
        TypeError, ValueError, DivergenceError
            As in `fit`; a ValueError with ``early_stopping=True``, and where a ``learning_rate``
            that depends on ``max_iter`` is asked for more epochs.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    @property
    def _objective(self) -> Objective:
        return objective_of(self.loss)

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except InvalidParameterError as problem:
            sizes = isinstance(self.loss, (tuple, list, Integral))
            if not sizes or "'loss' parameter" not in str(problem):
                raise
            raise InvalidParameterError(
                f"{problem} The first parameter is the loss, as in scikit-learn; sizes are given "
                f"by name: MLPRegressor(hidden_layer_sizes={self.loss!r})."
            ) from None

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Array]:
        if self.missing_targets == "ignore" and has_gaps(y):
            X = validate_data(
                self, X, accept_sparse=FORMATS, dtype=(np.float64, np.float32), reset=reset
            )
            return X, with_gaps(X, y)
        X, y = validate_data(
            self, X, y, accept_sparse=FORMATS, multi_output=True, y_numeric=True,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        y = y.toarray() if sparse.issparse(y) else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _learn_targets(self, y: Array, *, incremental: bool) -> None:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if outputs > 1 and self._objective.row.ordered:
            raise ValueError(
                f"loss={self.loss!r} predicts quantiles of one target, so that y must be of shape "
                f"(n,); got shape {y.shape}. Fit an estimator for each column."
            )
        self.n_outputs_ = outputs

    @property
    def _quantiles(self) -> int:
        """How many quantiles the fitted network predicts; 0 where it predicts none."""
        return self._weights.units[-1] if self.out_activation_ == "increasing" else 0

    def _middle(self, found: Floats) -> Floats:
        """Return the outputs that are compared with y."""
        if not self._quantiles:
            return found[:, : self.n_outputs_]
        row = self._objective.row
        # The loss may have been set to another one since.
        place = row.given.middle if row.outputs == found.shape[1] else (found.shape[1] - 1) // 2
        return found[:, place : place + 1]

    def _targets(self, y: Array, dtype: np.dtype[Any], argument: str = "y") -> Targets:
        take: Any = gate.targets
        if self.missing_targets == "ignore":
            take = gate.targets_with_gaps
        found = take(y, "real", self.n_outputs_, y.shape[0], dtype, argument)
        targets: Targets = found if take is gate.targets else found[0]
        return targets

    def _targets_at_once(self, y: Any, rows: int, dtype: np.dtype[Any]) -> Targets | None:
        outputs = self.n_outputs_
        values = numbers_at_once(y, (rows,) if outputs == 1 else (rows, outputs), dtype)
        if values is None:
            return None
        return Targets.of_values(values.reshape(rows, outputs))

    def _quick_score(self, found: Floats, known: Data, y: Array, weights: Array | None) -> float:
        middle = self._middle(found)
        if known.targets.missing:
            return of_known(METRICS["r2"].function)(y, middle, weights)
        return r2(y, middle, weights) if np.isfinite(found).all() else float("nan")

    def _counted(self, known: Data) -> int | None:
        # In float32 the engine has targets that are rounded; and it compares the first outputs.
        return codes.ERRORS if known.X.dtype == np.float64 and not self._quantiles else None

    # Predicting.

    def predict(self, X: Any, *, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Return what is expected for every example.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.
        return_std : bool, default False
            Whether to return standard deviations too; needs ``loss="gaussian_nll"``.

        Returns
        -------
        means : ndarray, shape (n,), (n, m) or (n, k)
            Flat where there is one output; with several quantiles a column for each, in their
            order.
        deviations : ndarray, shape (n,) or (n, m)
            How far y is expected to lie from the means; only with ``return_std=True``.

        Raises
        ------
        ValueError
            If deviations are asked of an estimator that was fitted with another loss.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> rng = np.random.default_rng(0)
        >>> X = rng.uniform(-1, 1, (1000, 1))
        >>> y = X[:, 0] + np.where(X[:, 0] > 0, 0.5, 0.1) * rng.normal(size=1000)
        >>> reg = fn.MLPRegressor("gaussian_nll", 20, learning_rate_init=0.01, random_state=0)
        >>> means, deviations = reg.fit(X, y).predict([[-0.5], [0.5]], return_std=True)
        >>> bool(deviations[0] < 0.25 < deviations[1])
        True
        """
        found = self._forward(X)
        groups = 1 if self._quantiles else found.shape[1] // self.n_outputs_
        parts = np.split(found, groups, axis=1)
        means, *logs = (part.ravel() if part.shape[1] == 1 else part for part in parts)
        if not return_std:
            return means
        if not logs:
            raise ValueError(
                "return_std=True needs an estimator fitted with loss='gaussian_nll', which learns "
                f"variances too; got one of loss={self.loss!r}."
            )
        return means, np.exp(0.5 * logs[0])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination, R^2, of predictions, a mean over outputs.

        Of several quantiles it is that of the one that is nearest to the median.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.
        y : array-like, shape (n,) or (n, m)
            What is right.
        sample_weight : array-like, shape (n,), optional
            How much each example counts.

        Returns
        -------
        float
            At most 1, for the best.
        """
        X, y, sample_weight = self._known(X, y, sample_weight)
        with reading(X=X, y=y, sample_weight=sample_weight):
            if self.missing_targets == "ignore" and has_gaps(y):
                weights = parts_known(y)
                if sample_weight is not None:
                    weights = weights * np.asarray(sample_weight)
                found: Any = self._middle(self._forward(X))
                return of_known(METRICS["r2"].function)(y, found, weights)
            check_is_fitted(self)
            if self._quantiles:
                middle = self._middle(self._forward(X))
                return float(r2_score(y, middle, sample_weight=sample_weight))
            return float(super().score(X, y, sample_weight))

    # Changing sides.

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return scikit-learn's fitted estimator as one of this class.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPRegressor
            It stays as it is.

        Returns
        -------
        MLPRegressor
            With the same parameters, weights, curves and state of the optimizer, so that
            `partial_fit` goes on where the other would.

        Raises
        ------
        TypeError
            If it is no such estimator.
        NotFittedError
            If it is not fitted.

        Examples
        --------
        >>> from sklearn.neural_network import MLPRegressor as Theirs
        >>> import fastnn as fn
        >>> theirs = Theirs(hidden_layer_sizes=4, solver="lbfgs").fit([[0.0], [1.0]], [0.0, 1.0])
        >>> ours = fn.MLPRegressor.from_sklearn(theirs)
        >>> bool(abs(ours.predict([[0.5]]) - theirs.predict([[0.5]])) < 1e-12)
        True
        """
        return conversion.from_sklearn(cls, fitted)

    def to_sklearn(self) -> Any:
        """Return a fitted estimator of scikit-learn's class of this name.

        Returns
        -------
        sklearn.neural_network.MLPRegressor
            It shares nothing with this one.

        Raises
        ------
        NotFittedError
            If this one is not fitted.
        ValueError
            If a parameter means something that scikit-learn's class cannot do.

        Examples
        --------
        >>> import fastnn as fn
        >>> ours = fn.MLPRegressor(hidden_layer_sizes=4, solver="lbfgs", random_state=0)
        >>> type(ours.fit([[0.0], [1.0]], [0.0, 1.0]).to_sklearn()).__name__
        'MLPRegressor'
        """
        return conversion.to_sklearn(self)


tell_arguments(MLPRegressor, ESTIMATOR, dict.fromkeys(("fit", "predict", "score"), _WORDS))
