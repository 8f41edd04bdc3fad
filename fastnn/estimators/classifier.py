"""`MLPClassifier`: scikit-learn's, on the library's engine.

The file is long because the class's documentation stands here, with every parameter and
attribute.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn.data import Data
from fastnn.estimators import conversion
from fastnn.estimators.base import Perceptron
from fastnn.estimators.examples import FORMATS
from fastnn.estimators.gaps import filled, has_gaps, with_gaps
from fastnn.estimators.increment import labels_at_once, numbers_at_once, repeating
from fastnn.estimators.judge import accuracy
from fastnn.estimators.layered import Asked
from fastnn.estimators.parameters import CLASSIFIER, Objective, class_objective, method_words, plain
from fastnn.estimators.reading import reading
from fastnn.gate import Targets
from fastnn.hints import advised, tell_arguments
from fastnn.kernels import codes
from fastnn.names import describe
from fastnn.network import Sequential
from fastnn.words import ESTIMATOR

__all__ = ["MLPClassifier"]

Array = NDArray[Any]
Floats = NDArray[np.floating]


_WORDS = method_words("MLPClassifier", CLASSIFIER)


class MLPClassifier(ClassifierMixin, Perceptron):  # type: ignore[misc]
    """A multilayer perceptron that tells classes apart; scikit-learn's, faster and with more.

    Parameters, attributes, methods, warnings and errors are those of scikit-learn 1.9's class of
    this name, and so are the weights, for float64 and the same ``random_state``.  What is more
    stands at the end of the parameters and is off by default.  Needs the extra ``sklearn``.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of each hidden layer; ``()`` for none.
    activation : str or sequence of str, default "relu"
        Of the hidden layers: "identity", "logistic", "tanh", "relu", or any other of the
        library; more than scikit-learn: several names, one per layer.
    solver : str, default "adam"
        How weights are found: "adam", "sgd" for stochastic gradient descent, or "lbfgs" for
        SciPy's L-BFGS-B on all examples at once; more than scikit-learn: "adamw", "nadam",
        "radam", "rmsprop", "adagrad", "rprop", "adadelta", "adamax", "amsgrad" and "lion", the
        library's.
    alpha : float, default 0.0001
        L2 regularisation, ``alpha / 2 * sum(W**2)``, divided by the examples of each batch (or
        their weights).
    batch_size : int or "auto", default "auto"
        Examples per step; "auto" is 200, or all where there are fewer.  Not used when
        ``solver="lbfgs"``.
    learning_rate : str, Schedule or callable, default "constant"
        How the learning rate goes.  scikit-learn's three ways are only used when
        ``solver="sgd"``: "constant" is ``learning_rate_init`` throughout; with "invscaling" it is
        divided by ``t ** power_t``, where t counts the examples seen; with "adaptive" it is
        divided by 5 whenever nothing improves.  More than scikit-learn, for every solver but
        "lbfgs": a schedule of the library, as "one_cycle", "cosine", "plateau", "step",
        "exponential", "inverse_scaling" or "warmup", or as an object such as ``fn.OneCycle()``;
        a list or an array of factors, one per epoch, of which the last one stays; or a function of
        the epochs so far, a float, that gives a factor.  These are laid out for
        ``max_iter`` epochs, with ``learning_rate_init`` for their base.  "plateau" takes a tenth
        of the rate whenever the score of examples held out, or else the loss, has for half of
        ``n_iter_no_change`` epochs not got better by more than ``tol``.
    learning_rate_init : float, default 0.001
        The first learning rate, or what a schedule takes parts of: the greatest for "one_cycle".
        Not used when ``solver="lbfgs"``.
    power_t : float, default 0.5
        The exponent of "invscaling".  Only used when ``solver="sgd"``.
    max_iter : int, default 200
        Most epochs, or iterations of "lbfgs".
    shuffle : bool, default True
        Whether every epoch has an order of its own.  Not used when ``solver="lbfgs"``.
    random_state : None, int or RandomState, default None
        Where first weights, the split for early stopping, and orders are drawn from.
    tol : float, default 0.0001
        By how much loss or score must get better to count; for "lbfgs" the gradient's tolerance.
    verbose : bool or int, default False
        Whether every epoch prints a line.
    warm_start : bool, default False
        Whether a further `fit` goes on from the weights there are.  Optimizer and schedule begin
        anew.
    momentum : float, default 0.9
        0 to 1.  Only used when ``solver="sgd"``.
    nesterovs_momentum : bool, default True
        Whether momentum looks ahead.  Only used when ``solver="sgd"`` and ``momentum > 0``.
    early_stopping : bool, default False
        Whether to hold examples out, to stop when their score gets no better, and to end with
        the weights of the best score.  Not used when ``solver="lbfgs"``.
    validation_fraction : float, default 0.1
        The share that is held out.  Only used when ``early_stopping=True``.
    beta_1, beta_2 : float, default 0.9 and 0.999
        How much is kept of the running means of gradients and of their squares.  Only used when
        ``solver`` is "adam", "adamw", "nadam" or "radam".
    epsilon : float, default 1e-8
        What "adam" adds to the root of the second mean, before it is corrected; the library's
        others add it to what they divide by.  Not used when ``solver`` is "sgd", "rprop" or
        "lbfgs".
    n_iter_no_change : int, default 10
        Epochs without improvement after which a fit stops; infinity for never.  Not used when
        ``solver="lbfgs"``.
    max_fun : int, default 15000
        Most evaluations.  Only used when ``solver="lbfgs"``.
    class_weight : dict, list of dict, "balanced" or None, default None
        How much the examples of each class count, beside ``sample_weight``; "balanced" lets all
        classes count alike.  A list has one dict for each of several labels.
    monitor : None, "loss", str or callable, default None
        What is scored on examples held out: accuracy, their loss, or any scorer of scikit-learn
        by name or as a function of estimator, X and y.
    monitor_mode : {"auto", "min", "max"}, default "auto"
        Which score is better; "auto" is the smaller for "loss" and the greater for scorers.
    callbacks : Callback, callable or list of them, default None
        The library's callbacks, run after every epoch.  scikit-learn's own are set with
        ``set_callbacks``.
    coefs_init, intercepts_init : list of array-like, default None
        First weights and biases, like ``coefs_`` and ``intercepts_``, in place of drawn ones.
    max_time : float, default None
        Seconds after which a fit ends with its epoch, and a warning.
    dtype : {"float32", "float64"}, default None
        What to compute in; None follows X.
    clip_norm : float, default None
        Most length of a step's gradient, over all weights and biases: a longer one is scaled
        down to it.  Refused when ``solver="lbfgs"``.
    dropout : float or sequence of float, default 0.0
        The part of each hidden layer's units that a step drops at random, at least 0 and less
        than 1; several numbers, one per layer.  Scores and predictions drop nothing.  Refused when
        ``solver="lbfgs"``.
    weight_decay : float, default None
        By which part of itself, times the learning rate, each weight shrinks a step, beside
        ``alpha``; None is 0.01.  Only used when ``solver="adamw"``.
    rho : float, default None
        How much is kept of the running mean of squares; None is 0.9.  Only used when
        ``solver="rmsprop"``.
    n_threads : int, default None
        How many threads may compute the steps of a fit; None for what `set_threads` and the
        machine allow.  Results do not depend on it.
    search : {"own", "continued", "scipy"}, default "own"
        What ``solver="lbfgs"`` searches by: the library's L-BFGS or SciPy's, which take the same
        steps but for rounding; the library's takes less time.  With "continued" it is the
        library's, and a warm start begins with the curvature that the last fit has found, not with
        none as in scikit-learn, so that many short fits are one long fit.
    loss : str, Huber or Focal, default "log_loss"
        What is minimised.  "log_loss" is scikit-learn's: cross-entropy, of softmax or logistic
        outputs.  The library's "mean_squared_error" (the Brier score), "mean_absolute_error",
        "huber" or ``fn.Huber(delta)``, and "log_cosh" compare the same outputs with 0 and 1.
        "hinge" asks of identity outputs that they lie beyond 1 or -1, each class against the
        rest; it gives `decision_function` and no probabilities.  ``fn.Focal(gamma)`` counts
        examples less that are classified well already.
    label_smoothing : float, default 0.0
        How much of each target is spread over all classes, at least 0 and less than 1; see
        `CrossEntropy`.  Only with ``loss="log_loss"``.
    layers : list of layers, default None
        The library's, such as ``[fn.Dense(64, "relu"), fn.Dropout(0.2)]``, in place of
        ``hidden_layer_sizes``, ``activation`` and ``dropout``, which then stay at their defaults.
        The last layer is added.  First weights are drawn by the layers' initializers;
        ``coefs_`` and ``intercepts_`` are those of the `Dense` layers, and ``alpha`` penalises
        these weights alone.
    standardize : bool, default False
        Whether features are brought to mean 0 and standard deviation 1 inside, by a `Standardize`
        before all other layers, which the first fit measures, or the first `partial_fit`.
    missing_targets : {"error", "ignore"}, default "error"
        What NaN, None or a mask in y (and in validation targets) stands for.  With "ignore" it is
        a class that is missing, and its example is left out; of several labels one that is missing
        adds nothing to loss, gradient and score, and the loss is a mean over those that are known.

    Attributes
    ----------
    classes_ : ndarray, or list of them
        Class labels, in the order of the outputs.
    coefs_, intercepts_ : list of ndarray
        Weights (in, out) and biases (out,) of each layer.
    loss_, best_loss_ : float
        Loss of the last epoch, and the least of all (None with early stopping).
    loss_curve_ : list of float
        Loss of every epoch.  Not with "lbfgs", like the ones that follow.
    validation_scores_, best_validation_score_ : list of float, float
        What examples held out scored, and the best of it; None where there are none.
    validation_loss_curve_ : list of float
        Their loss, without L2; None where there are none.
    t_, n_iter_ : int
        Examples seen, and epochs or iterations of the last fit.
    n_features_in_, n_layers_, n_outputs_ : int
        Columns of X, layers with input and output, outputs.
    feature_names_in_ : ndarray
        Names of the columns, where X had some.
    out_activation_ : str
        "softmax" for several classes, "logistic" for two and for several labels; "identity" with
        ``loss="hinge"``.
    network_ : Sequential
        The fitted network.

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
    >>> from sklearn.datasets import make_moons
    >>> import fastnn as fn
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> clf = fn.MLPClassifier(32, solver="lbfgs", random_state=0).fit(X[:150], y[:150])
    >>> clf.score(X[150:], y[150:])
    1.0
    >>> clf.predict([[0.0, 1.0], [1.0, -0.5]])
    array([0, 1])
    >>> clf.predict_proba([[0.0, 1.0], [1.0, -0.5]]).round(2)
    array([[1., 0.],
           [0., 1.]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CLASSIFIER
    _score_name: ClassVar[str] = "accuracy"

    # Defaults of a subclass that calls no __init__ of ours.
    class_weight: Any = None
    loss: Any = "log_loss"
    label_smoothing: Any = 0.0

    def __init__(
        self,
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
        class_weight: Any = None,
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
        loss: Any = "log_loss",
        label_smoothing: Any = 0.0,
        layers: Any = None,
        standardize: Any = False,
        missing_targets: Any = "error",
    ) -> None:
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
        self.class_weight = class_weight
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
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.layers = layers
        self.standardize = standardize
        self.missing_targets = missing_targets

    # Learning.

    def _start(self, units: list[int], dtype: np.dtype[Any], asked: Asked | None) -> None:
        super()._start(units, dtype, asked)
        # Kept apart from out_activation_, which a user may set to see the weighted sums.
        self._margins = self.out_activation_ == "identity"

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @advised(_WORDS, "MLPClassifier.partial_fit")
    @repeating
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Take one epoch over these examples, keeping weights and the optimizer's state.

        A schedule of the learning rate counts on: each call is one of its ``max_iter`` epochs.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like, optional
            All classes that will ever come; needed in the first call, unless `fit` came before.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        AttributeError
            With ``solver="lbfgs"``, which has no such steps.
        TypeError, ValueError, DivergenceError
            As in `fit`; a ValueError with ``early_stopping=True`` and ``class_weight="balanced"``,
            which need to see all examples, and where a ``learning_rate`` that depends on
            ``max_iter`` is asked for more epochs.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all examples at once, which partial_fit does not "
                "see. Give it as a dict, from sklearn.utils.class_weight.compute_class_weight."
            )
        X, y, sample_weight = self._known(X, y, sample_weight)
        with reading(X=X, y=y, classes=classes):
            first = self._first_call(classes)
        if first:
            labels = filled(y) if has_gaps(y) else y
            several = type_of_target(labels).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(labels if several else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def _first_call(self, classes: Any) -> bool:
        """Take up the classes of the first `partial_fit`, or hold later ones against them."""
        known = getattr(self, "classes_", None)
        if classes is None:
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return False
        found = unique_labels(classes)
        if known is None:
            self.classes_ = found
            return True
        if not np.array_equal(known, found):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{known!r}"
            )
        return False

    @property
    def _objective(self) -> Objective:
        several = self._label_binarizer.y_type_ == "multiclass"
        return class_objective(self.loss, several, plain(self.label_smoothing, "label_smoothing"))

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Array]:
        if self.missing_targets == "ignore" and has_gaps(y):
            X = validate_data(
                self, X, accept_sparse=FORMATS, dtype=(np.float64, np.float32), reset=reset
            )
            y = with_gaps(X, y)
            self._check_weightless(y)
            return X, y
        X, y = validate_data(
            self, X, y, accept_sparse=FORMATS, multi_output=True,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _check_weightless(self, y: Array) -> None:
        """Refuse what needs all labels of an example, and others than 0 and 1, where some miss."""
        if self.class_weight is not None:
            raise ValueError(
                "class_weight needs all labels of an example, as it is their product that counts; "
                "got some that are missing beside others. Leave those examples out, or give "
                f"sample_weight in place of class_weight={describe(self.class_weight)}."
            )
        if not np.isin(y[~np.isnan(y)], (0, 1)).all():
            raise ValueError(
                "y must hold rows of 0 and 1 where labels of an example may be missing; got others."
            )

    def _learn_targets(self, y: Array, *, incremental: bool) -> None:
        if has_gaps(y):
            y = filled(y)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            found = unique_labels(y)
            if self.warm_start and not incremental and set(found) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {self.classes_}, `y` has {found}"
                )
            self._check_known(found, "`y`")
        kind = self._label_binarizer.y_type_
        self.n_outputs_ = 1 if kind == "binary" else len(self._label_binarizer.classes_)

    def _check_known(self, found: Array, argument: str) -> None:
        """Refuse classes that have never come."""
        if len(np.setdiff1d(found, self.classes_, assume_unique=True)):
            raise ValueError(
                f"{argument} has classes not in `self.classes_`. `self.classes_` has "
                f"{self.classes_}. 'y' has {found}."
            )

    def _targets(self, y: Array, dtype: np.dtype[Any], argument: str = "y") -> Targets:
        if has_gaps(y):
            if not self._label_binarizer.y_type_.startswith("multilabel"):
                raise ValueError(
                    f"{argument} must hold one class for each example, as in the fit that goes "
                    f"on; got shape {y.shape}."
                )
            whole = self._targets(filled(y), np.dtype(np.float64), argument).values
            values = np.where(np.isnan(y), np.nan, whole).astype(dtype)
            return Targets(np.empty(0, np.int64), values, True)
        if argument != "y":
            self._check_known(unique_labels(y), argument)
        binarizer = self._label_binarizer
        if binarizer.y_type_ not in ("binary", "multiclass"):
            # Whatever number says that a label is there, as in scikit-learn.
            values = binarizer.transform(y) != 0
        elif y.ndim != 1:
            raise ValueError(
                f"{argument} must hold one class for each example, as in the fit that goes on; "
                f"got shape {y.shape}."
            )
        else:
            labels = np.searchsorted(binarizer.classes_, y).astype(np.int64)
            if binarizer.y_type_ == "multiclass":
                return Targets(labels, np.empty((0, self.n_outputs_), dtype))
            values = labels[:, np.newaxis]
        return Targets(np.empty(0, np.int64), np.ascontiguousarray(values, dtype=dtype))

    def _targets_at_once(self, y: Any, rows: int, dtype: np.dtype[Any]) -> Targets | None:
        binarizer = self._label_binarizer
        if binarizer.y_type_ == "multilabel-indicator":
            values = numbers_at_once(y, (rows, self.n_outputs_), dtype)
            if values is None or not ((values == 0) | (values == 1)).all():
                return None
            return Targets.of_values(values)
        labels = labels_at_once(y, binarizer.classes_)
        if labels is None or len(labels) != rows:
            return None
        if binarizer.y_type_ == "multiclass":
            return Targets.of_labels(labels, self.n_outputs_, dtype)
        return Targets.of_values(labels[:, np.newaxis].astype(dtype))

    def _are_classes(self, classes: Any) -> bool:
        places = labels_at_once(classes, self.classes_)
        return places is not None and len(np.unique(places)) == len(self.classes_)

    def _weigh(self, y: Array, targets: Targets, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
        if isinstance(self.class_weight, str):
            return _balanced(targets, weights)
        self._check_class_weight()
        try:
            by_class = self._by_class(y)
        except (TypeError, ValueError, OverflowError) as problem:
            raise ValueError(
                f"class_weight does not suit y: {problem}; got {describe(self.class_weight)}."
            ) from problem
        if not np.isfinite(by_class).all():
            raise ValueError(
                f"class_weight must give every class a finite number; got {self.class_weight!r}."
            )
        return by_class if weights is None else np.asarray(by_class * weights)

    def _check_class_weight(self) -> None:
        """Hold that there is one dict, or for several labels one for each."""
        given = self.class_weight
        if not self._label_binarizer.y_type_.startswith("multilabel"):
            if not isinstance(given, dict):
                raise ValueError(
                    "class_weight must be a dict from class to weight, 'balanced' or None, where "
                    f"each example has one class; got {describe(given)}."
                )
        elif isinstance(given, dict) or not all(isinstance(one, dict) for one in given):
            raise ValueError(
                f"class_weight must be a list of {self.n_outputs_} dicts, one for each label, "
                f"'balanced' or None; got {describe(given)}."
            )

    def _by_class(self, y: Any) -> Array:
        """Return what ``class_weight`` gives each example."""
        several = self._label_binarizer.y_type_.startswith("multilabel")
        y = y.toarray() if sparse.issparse(y) else y
        # All classes come before the examples, of which those of one `partial_fit` may lack some.
        every = np.repeat([[0], [1]], y.shape[1], axis=1) if several else self.classes_
        found = compute_sample_weight(self.class_weight, np.concatenate([every, y]))
        return np.asarray(found[len(every) :], np.float64)

    def _strata(self, targets: Targets) -> Array | None:
        if self.n_outputs_ != 1:
            return None
        sides = targets.values.astype(bool)
        # Of columns scikit-learn makes a string of every row first; its error then names a class
        # that has too few members as it names it everywhere.
        few = min(np.count_nonzero(sides), np.count_nonzero(~sides)) < 2
        return sides if few else sides[:, 0]

    def _quick_score(self, found: Floats, known: Data, y: Array, weights: Array | None) -> float:
        if known.targets.labels.size:
            right = found.argmax(axis=1) == known.targets.labels
        elif len(self.classes_) == 1:
            right = np.ones(len(found), bool)
        else:
            values = known.targets.values
            right = ((found > self._edge) == (values > 0.5)) | np.isnan(values)
            right = right.all(axis=1)
        return accuracy(right, weights)

    def _counted(self, known: Data) -> int | None:
        if known.targets.labels.size:
            return codes.PLACES | codes.FINISHED
        if len(self.classes_) == 1:
            return None
        return codes.ALL_SIDES | codes.FINISHED | (codes.SIDES_OF_HALF if self._edge else 0)

    def _name_outputs(self, network: Sequential) -> None:
        # Labels that no file holds, such as dates, are not handed over.
        with suppress(TypeError, ValueError):
            network.classes = self.classes_

    # Predicting.

    @property
    def _probable(self) -> bool:
        """Whether outputs are probabilities: of the weights there are, else of those to come."""
        if "_margins" in self.__dict__:
            return not self._margins
        return not (isinstance(self.loss, str) and self.loss == "hinge")

    @property
    def _edge(self) -> float:
        """Beyond which output an example belongs to a class."""
        return 0.5 if self._probable else 0.0

    def _check_probable(self) -> Literal[True]:
        """Let probabilities be where there are some."""
        if not self._probable:
            raise AttributeError(
                "probability estimates are not available for loss='hinge'; use decision_function."
            )
        return True

    def _check_margins(self) -> Literal[True]:
        """Let margins be where there are no probabilities, as in scikit-learn's class."""
        if self._probable:
            raise AttributeError(
                f"decision_function is for loss='hinge'; with loss={self.loss!r} use predict_proba."
            )
        return True

    def predict(self, X: Any) -> Any:
        """Return the class of every example.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.

        Returns
        -------
        ndarray, shape (n,) or (n, m)
            Labels, or rows of 0 and 1 where there are several labels at once.
        """
        found = self._forward(X)
        binarizer = self._label_binarizer
        classes = binarizer.classes_
        if binarizer.y_type_ == "multiclass":
            return classes.take(found.argmax(axis=1))
        if binarizer.y_type_ != "binary":
            return binarizer.inverse_transform(found, self._edge)
        if len(classes) == 1:
            return np.repeat(classes, len(found))
        return classes.take(found[:, 0] > self._edge)

    @available_if(lambda estimator: estimator._check_margins())  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Floats:
        """Return on which side of every class an example lies, and how far.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.

        Returns
        -------
        ndarray, shape (n,) or (n, classes)
            The outputs: above 0 for the second of two classes, and for each of several labels
            that an example bears; the greatest for the likeliest of several classes.

        Raises
        ------
        AttributeError
            With any loss but "hinge"; those give probabilities.
        """
        found = self._forward(X)
        return found.ravel() if self.n_outputs_ == 1 else found

    @available_if(lambda estimator: estimator._check_probable())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of every class.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.

        Returns
        -------
        ndarray, shape (n, classes)
            In the order of ``classes_``.  Rows sum to 1, but for several labels at once.

        Raises
        ------
        AttributeError
            With ``loss="hinge"``, which gives no probabilities.
        """
        return self._at_once(lambda one: one._probabilities(X))

    def _probabilities(self, X: Any) -> Floats:
        """Return the probability of every class, by one question or two."""
        found = self._forward(X)
        if self.n_outputs_ == 1:
            likely = found[:, 0]
            other = 1 - likely
            certain = other == 0.0
            if self.out_activation_ == "logistic" and certain.any():
                # What is left to 1 is not 0, as its logarithm tells.
                other[certain] = np.exp(_log_sigmoid(-self._forward(X, linear=True)[certain, 0]))
            return np.vstack([other, likely]).T
        return found

    @available_if(lambda estimator: estimator._check_probable())  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Floats:
        """Return the logarithm of the probability of every class.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.

        Returns
        -------
        ndarray, shape (n, classes)
            ``log(predict_proba(X))``; of probabilities up to a half computed from the last layer's
            weighted sums, and so right where the probability itself is rounded to 0.

        Raises
        ------
        AttributeError
            With ``loss="hinge"``, which gives no probabilities.
        """
        check_is_fitted(self)
        if self.out_activation_ not in ("softmax", "logistic"):  # Set by hand to another.
            return np.asarray(np.log(self.predict_proba(X)))
        likely, Z = self._at_once(lambda one: (one.predict_proba(X), one._forward(X, linear=True)))
        if self.out_activation_ == "softmax":
            logs = _log_softmax(Z)
        else:
            logs = _log_sigmoid(np.hstack([-Z, Z]) if self.n_outputs_ == 1 else Z)
        # What goes with the probabilities, of which the greatest may be 1 by rounding.
        probable = likely > 0.5
        logs[probable] = np.log(likely[probable])
        return logs

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of examples, by weight, whose class (or all whose labels) are right.

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
                right = ((self.predict(X) > 0) == (y > 0.5)) | np.isnan(y)
                return accuracy(right.all(axis=1), sample_weight)
            return float(super().score(X, y, sample_weight))

    # Changing sides.

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return scikit-learn's fitted estimator as one of this class.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPClassifier
            It stays as it is.

        Returns
        -------
        MLPClassifier
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
        >>> from sklearn.neural_network import MLPClassifier as Theirs
        >>> import fastnn as fn
        >>> theirs = Theirs(4, solver="lbfgs", random_state=0).fit([[0.0], [1.0]], [0, 1])
        >>> fn.MLPClassifier.from_sklearn(theirs).predict([[0.0], [1.0]])
        array([0, 1])
        """
        return conversion.from_sklearn(cls, fitted)

    def to_sklearn(self) -> Any:
        """Return a fitted estimator of scikit-learn's class of this name.

        Returns
        -------
        sklearn.neural_network.MLPClassifier
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
        >>> ours = fn.MLPClassifier(4, solver="lbfgs", random_state=0).fit([[0.0], [1.0]], [0, 1])
        >>> type(ours.to_sklearn()).__module__.split(".")[0]
        'sklearn'
        """
        return conversion.to_sklearn(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _log_softmax(Z: Floats) -> Floats:
    """Return the logarithms of softmax, shape (n, m), from weighted sums of that shape."""
    with np.errstate(all="ignore"):
        logs: Floats = Z - Z.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return logs


def _log_sigmoid(Z: Floats) -> Floats:
    """Return the logarithms of the logistic function: ``min(Z, 0) - log(1 + exp(-|Z|))``."""
    with np.errstate(all="ignore"):
        logs: Floats = np.minimum(Z, 0.0) - np.log1p(np.exp(-np.abs(Z)))
    return logs


def _balanced(targets: Targets, weights: Array | None) -> Array:
    """Return weights of examples by which all classes count alike, in each column of targets."""
    columns = [targets.labels] if targets.labels.size else list(targets.values.T)
    balanced = np.ones(len(targets)) if weights is None else np.array(weights, np.float64)
    # Examples without weight may as well not be there.
    kept = balanced != 0.0
    w = balanced[kept]
    for column in columns:
        classes, places = np.unique(column[kept], return_inverse=True)
        factors = compute_class_weight(
            "balanced", classes=classes, y=classes[places], sample_weight=w
        )
        balanced[kept] *= factors[places]
    return balanced


tell_arguments(MLPClassifier, ESTIMATOR, dict.fromkeys(("fit", "predict", "score"), _WORDS))
