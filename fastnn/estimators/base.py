"""How both estimators are fitted: from the start, further, or one epoch more.

The flow is scikit-learn's, step by step and draw by draw, so that the same ``random_state``
gives the same weights; what computes is the library's engine, through the rooms `training`,
`paths` and `network`.

The file is long because the order of a fit's steps, in which it draws, is to be seen in one place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from fastnn import gate, paths
from fastnn.data import Data
from fastnn.estimators.elsewhere import ELSEWHERE, Elsewhere, refuse_overrides
from fastnn.estimators.examples import check_total, examples, penalty_of, scaled
from fastnn.estimators.fitted import Fitted
from fastnn.estimators.gaps import known_examples, parts_known
from fastnn.estimators.increment import Drawn, Increment
from fastnn.estimators.judge import Judge, Measure
from fastnn.estimators.layered import Asked, Layered, asked_of
from fastnn.estimators.pace import Pace, schedule_of
from fastnn.estimators.parameters import (
    SOLVERS,
    THEIRS,
    Objective,
    check_sizes,
    hidden_sizes,
    plain,
)
from fastnn.estimators.reading import reading, weights_of
from fastnn.estimators.stochastic import NOT_FINITE, Epochs
from fastnn.estimators.strategies import Strategy, Task, strategy_of
from fastnn.estimators.watchers import Watchers
from fastnn.estimators.weights import Weights, draw, draw_key, given, hidden_dropouts
from fastnn.fitting.jobs import Job
from fastnn.fitting.tallies import Counting
from fastnn.fitting.validation import Given, warn_of_scales
from fastnn.fitting.validation import given as given_to_validate
from fastnn.gate import Targets
from fastnn.hints import hint_for
from fastnn.notices import warn
from fastnn.target_scale import check_loss
from fastnn.words import ESTIMATOR

__all__ = ["Perceptron"]

Array = NDArray[Any]
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Held:
    """Validation examples: for the engine, and as the user has them."""

    known: Data
    y: Array
    weights: Array | None


class Perceptron(Fitted, ABC):
    """Base of `MLPClassifier` and `MLPRegressor`; not to be used itself."""

    _parameter_constraints: ClassVar[dict[str, Any]]
    _score_name: ClassVar[str]

    # What scikit-learn's classes have no parameter of: a subclass that sets theirs by itself, and
    # calls no __init__ of ours, has these.
    monitor: Any = None
    monitor_mode: Any = "auto"
    callbacks: Any = None
    coefs_init: Any = None
    intercepts_init: Any = None
    max_time: Any = None
    dtype: Any = None
    clip_norm: Any = None
    dropout: Any = 0.0
    weight_decay: Any = None
    rho: Any = None
    n_threads: Any = None
    search: Any = "own"
    layers: Any = None
    standardize: Any = False
    missing_targets: Any = "error"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        refuse_overrides(cls)

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params
            Parameters of the class.

        Returns
        -------
        MLPClassifier or MLPRegressor
            The estimator itself.

        Raises
        ------
        ValueError
            If there is no such parameter; the message names the nearest.
        """
        known = self._get_param_names()
        for name in params:
            if name.partition("__")[0] not in known:
                hint = hint_for(name, ESTIMATOR, known) or f" It has {', '.join(known)}."
                kind = type(self).__name__
                raise ValueError(f"Invalid parameter {name!r} for estimator {kind}.{hint}")
        chosen: Self = super().set_params(**params)
        return chosen

    def _validate_params(self) -> None:
        """Refuse parameters that are not of their kind or out of their range."""
        check_sizes(self.get_params(deep=False))
        super()._validate_params()

    # What the two differ in.

    @property
    @abstractmethod
    def _objective(self) -> Objective:
        """The row of what is being minimised."""

    @abstractmethod
    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Array]:
        """Return X and y as scikit-learn validates them."""

    @abstractmethod
    def _learn_targets(self, y: Array, *, incremental: bool) -> None:
        """Take up what y says about classes, or refuse it."""

    @abstractmethod
    def _targets(self, y: Array, dtype: np.dtype[Any], argument: str = "y") -> Targets:
        """Return what the engine compares with."""

    @abstractmethod
    def _quick_score(self, found: Floats, known: Data, y: Array, weights: Array | None) -> float:
        """Return the score of outputs, without asking a scorer."""

    @abstractmethod
    def _counted(self, known: Data) -> int | None:
        """Return what the engine counts for the same score; None where it would differ."""

    @abstractmethod
    def _targets_at_once(self, y: Any, rows: int, dtype: np.dtype[Any]) -> Targets | None:
        """Return what the engine compares with, as `_targets`; None where it takes more looks."""

    def _are_classes(self, classes: Any) -> bool:
        """Tell at one look whether these are the classes that are known."""
        return False

    def _known(self, X: Any, y: Any, weights: Any, argument: str = "y") -> tuple[Any, Any, Any]:
        """Return examples without those that have no target, where that may be."""
        if self.missing_targets != "ignore":
            return X, y, weights
        return known_examples(X, y, weights, argument)

    def _weigh(self, y: Array, targets: Targets, weights: Array | None) -> Array | None:
        """Return the weights of examples to train with."""
        return weights

    def _strata(self, targets: Targets) -> Array | None:
        """Return what a split for early stopping shall keep the proportions of."""
        return None

    # Fitting.

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        validation_data: Any = None,
    ) -> Self:
        """Train on examples.

        Parameters
        ----------
        X : array-like or sparse matrix (CSR or CSC), shape (n, p)
            Examples, one per row.  Of a sparse one only the entries take time and memory.
        y : array-like, shape (n,) or (n, m)
            Class labels of any kind, rows of 0 and 1 for several labels at once, or numbers for
            the regressor.
        sample_weight : array-like, shape (n,), optional
            How much each example counts.
        X_val, y_val : array-like, shapes as those of X and y, optional
            Examples that are scored after every epoch and never trained on; with
            ``early_stopping=True`` in place of a fraction that is drawn.  A `Pipeline` transforms
            ``X_val`` like X where it is made with ``transform_input=["X_val"]``, and the estimator
            asks for it by ``set_fit_request(X_val=True, y_val=True)``, with scikit-learn's
            ``enable_metadata_routing``.  A warning says so where their scale is another than that
            of X.
        sample_weight_val : array-like, optional
            How much each of these counts.
        validation_data : (X, y) or (X, y, sample_weight), optional
            The same in one argument, which no Pipeline transforms.

        Returns
        -------
        MLPClassifier or MLPRegressor
            The estimator itself, fitted.

        Raises
        ------
        TypeError, ValueError
            If an argument or a parameter is not of its kind or out of its range.
        DivergenceError
            If the weights turn infinite or NaN: a ValueError too.
        """
        theirs = given_to_validate(validation_data, X_val, y_val, sample_weight_val)
        if theirs is None:
            # As scikit-learn calls it, whatever a subclass has made of it.
            return self._fit(X, y, sample_weight)
        return self._fit(X, y, sample_weight, validation=theirs)

    def _check_solver(self) -> Literal[True]:
        """Let `partial_fit` be where single epochs make sense."""
        if SOLVERS.get(self.solver) is None:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        *,
        validation: Given | None = None,
    ) -> Self:
        """Fit from the start, go on from the weights there are, or take one epoch more."""
        refuse_overrides(type(self))  # A method may have been put there since.
        if not incremental:
            self.__dict__.pop("_increment", None)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        X, y, sample_weight = self._known(X, y, sample_weight)
        strategy = strategy_of(self.solver)
        strategy.check(self)
        schedule_of(self, None)  # Refuses what is no learning_rate before anything is changed.
        as_given = X, y, sample_weight
        sizes = hidden_sizes(self.hidden_layer_sizes)
        asked = asked_of(self, sizes)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        with reading(X=X, y=y):
            X, y = self._checked(X, y, reset=first)
        if asked is not None:
            asked.check(X, searching=not strategy.steps)
        sample_weight = weights_of(X, sample_weight)
        self._learn_targets(y, incremental=incremental)
        dtype = self._dtype(X, strategy, first=first)
        exact = self._exact(asked, dtype, first=first)
        targets = self._targets(y, exact)
        held = None if validation is None else self._held_out(validation, dtype, exact)
        self._random_state = check_random_state(self.random_state)
        if first:
            units = [X.shape[1], *sizes, self._objective.units(self.n_outputs_)]
            self._start(units, dtype, asked)
        else:
            self._go_on(sizes, dtype, asked)
        weights, power = scaled(_shared(self._weigh(y, targets, sample_weight), targets))
        known = examples(X, targets, _as_weights(weights, dtype), dtype)
        if held is not None and validation is not None:
            numeric = self._objective.row.numeric
            warn_of_scales(known, held.known, validation.names, numeric and not is_classifier(self))
        if self.early_stopping and held is None and strategy.steps:
            known, held = self._split(known, y, weights)
        known, held = self._scaled_inside(known, held)
        alpha = penalty_of(plain(self.alpha, "alpha"), power, known)
        measure = self._measure(0.0 if strategy.penalises else alpha)
        judge = None if held is None else Judge(self, held.known, held.y, held.weights, measure)
        self._open_records(judge, strategy, first=first)
        watchers = Watchers() if incremental else self._watchers(judge, strategy, as_given)
        strategy.run(self, Task(known, measure, alpha, judge, watchers, first, incremental))
        watchers.fit_ends()
        if not np.isfinite(measure.vector).all():
            raise ValueError(NOT_FINITE)
        if incremental and not power:
            self._keep_plan(measure, len(known))
        return self

    def _keep_plan(self, measure: Measure, rows: int) -> None:
        """Keep what a `partial_fit` went by, unless it was kept before."""
        kept: Increment | None = self.__dict__.pop("_increment", None)
        if kept is None or not kept.serves(self, rows):
            # A subclass's own way into a fit is not left out.
            own = type(self)._fit is not Perceptron._fit
            kept = None if own else Increment.of(self, measure, rows)
        if kept is not None:
            self._increment = kept

    def _exact(
        self, asked: Asked | None, dtype: np.dtype[Any], *, first: bool
    ) -> np.dtype[Any]:  # fmt: skip
        """Return what to take targets in: float64 where they are scaled before they are rounded."""
        scales = asked is not None and asked.scale_targets
        if not first and "_weights" in self.__dict__:
            scales = self._weights.network.scale_targets
        if scales:
            check_loss(self._objective.row)
        return np.dtype(np.float64) if scales else dtype

    def _scaled_inside(self, known: Data, held: Held | None) -> tuple[Data, Held | None]:
        """Check examples, have the network measure them, and bring targets to unit scale.

        Features and targets of the training examples of the first fit count.
        """
        network, dtype = self._weights.network, self._weights.network.dtype
        network._readable(known.X)
        check_total(known, "the training examples")
        if held is not None:
            network._readable(held.known.X, "X_val")
            check_total(held.known, "the validation examples")
        if network._unmeasured:
            network._measure(known.X, known.weights)
        if not network.scale_targets:
            return known, held
        scale = network.layout.scale
        if scale is None:
            scale = network._scale_measured(known)
            network._take_scale(scale)
        if held is not None:
            held = replace(held, known=scale.inside(held.known, dtype))
        return scale.inside(known, dtype), held

    def _drops(self) -> bool:
        """Tell whether a step drops anything."""
        asked = None if self.layers is None else asked_of(self, ())
        if asked is not None:
            return asked.drops
        several = isinstance(self.dropout, list | tuple)
        return any(hidden_dropouts(self.dropout, len(self.dropout) if several else 1))

    def _dtype(self, X: Any, strategy: type[Strategy], *, first: bool) -> np.dtype[Any]:
        """Return what to compute in: as asked, or as scikit-learn would."""
        chosen: Any = X.dtype if strategy.steps else np.float64
        if self.dtype is not None:
            chosen = self.dtype
        if not first and strategy.steps:
            chosen = self._current().network.dtype
        dtype: np.dtype[Any] = np.dtype(chosen)
        return dtype

    def _start(self, units: list[int], dtype: np.dtype[Any], asked: Asked | None) -> None:
        """Begin with new weights: drawn, or given."""
        self.n_iter_ = 0
        self.t_ = 0
        out_activation = self._objective.out_activation
        if asked is None:
            weights = Weights(units, self.activation, out_activation, self.dropout, dtype)
        else:
            seed = int(self._random_state.randint(2**31)) if asked.own else 0
            weights = Layered.begun(asked, units[0], units[-1], out_activation, dtype, seed)
        self.n_layers_ = len(weights.units)
        drawn = self.coefs_init is not None and self.intercepts_init is not None
        if not drawn and (asked is None or not asked.own):
            draw(weights, self.activation, self._random_state)
        if self.coefs_init is not None:
            given(weights.coefs, self.coefs_init, "coefs_init")
        if self.intercepts_init is not None:
            given(weights.intercepts, self.intercepts_init, "intercepts_init")
        self._adopt(weights, out_activation_=out_activation)

    def _go_on(self, sizes: list[int], dtype: np.dtype[Any], asked: Asked | None) -> None:
        """Make sure that what was learnt so far can be learnt on."""
        weights = self._current(dtype)
        _, *hidden, outputs = weights.units
        present = weights.before if isinstance(weights, Layered) else None
        if present != (None if asked is None else (asked.layers, asked.scale_targets)):
            warn(
                "layers, standardize and scale_targets, and hidden_layer_sizes with them, have no "
                f"effect on a fit that goes on: its network is {weights.network!r}."
            )
        elif asked is None and hidden != sizes:
            warn(
                f"hidden_layer_sizes={self.hidden_layer_sizes} has no effect on a fit that goes "
                f"on with layers of {hidden}."
            )
        needed = self._objective.units(self.n_outputs_)
        if outputs != needed:
            raise ValueError(
                f"y and loss must need a last layer of {outputs} units, as in the fit that goes on;"
                f" got loss={self.loss!r} and {self.n_outputs_} outputs of y, which need {needed}."
            )
        if self._objective.out_activation != self.out_activation_:
            raise ValueError(
                "the loss must be the one of the fit that goes on, whose last layer has "
                f"activation {self.out_activation_!r}; got one for "
                f"{self._objective.out_activation!r}."
            )
        self._adopt(weights)

    def _measure(self, l2: float) -> Measure:
        """Return how the loss of the present weights is measured, with the engine's own L2."""
        weights, row = self._weights, self._objective
        return Measure(
            layout=weights.layout(l2),
            vector=weights.vector,
            loss=row.row,
            conventions=row.conventions(self.n_outputs_, weights.network.dtype, self.solver),
            constant=row.constant,
            path=paths.asked(),
            shown=weights.network._shown,
        )

    def _held_out(self, theirs: Given, dtype: np.dtype[Any], exact: np.dtype[Any]) -> Held:
        """Return validation examples that the user gives, with targets in another dtype."""
        of_X, of_y, of_weights = theirs.names
        X, y, theirs_weights = self._known(theirs.X, theirs.y, theirs.weights, of_y)
        with reading(**{of_X: X, of_y: y}):
            try:
                X, y = self._checked(X, y, reset=False)
            except (TypeError, ValueError) as problem:
                # scikit-learn calls them X and y.
                raise _like(problem)(f"in {of_X} and {of_y}: {problem}") from problem
        targets = self._targets(y, exact, of_y)
        weights, _ = scaled(_shared(weights_of(X, theirs_weights, of_weights), targets))
        return Held(examples(X, targets, _as_weights(weights, dtype), dtype), y, weights)

    def _split(self, known: Data, y: Array, weights: Array | None) -> tuple[Data, Held]:
        """Part examples into those to train on and those to score, as scikit-learn draws them."""
        train, rows = train_test_split(
            np.arange(len(known)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._strata(known.targets),
        )
        if len(rows) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        theirs, _ = scaled(None if weights is None else weights[rows])
        part = known.take(rows)
        held = examples(part.X, part.targets, _as_weights(theirs, known.X.dtype), known.X.dtype)
        return known.take(train), Held(held, y[rows], theirs)

    def _open_records(self, judge: Judge | None, strategy: type[Strategy], *, first: bool) -> None:
        """Begin the curves anew, or see to it that they can go on."""
        stochastic = strategy.steps
        if stochastic and (first or not hasattr(self, "loss_curve_")):
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_: float | None = np.inf
        if stochastic and (self.best_loss_ is None) != self.early_stopping:
            self.best_loss_ = None if self.early_stopping else np.inf
        if judge is None and stochastic:
            self.validation_scores_: list[float] | None = None
            self.validation_loss_curve_: list[float] | None = None
            self.best_validation_score_: float | None = None
        elif judge is not None and (first or getattr(self, "validation_scores_", None) is None):
            self.validation_scores_ = []
            self.validation_loss_curve_ = []
            self.best_validation_score_ = judge.worst

    def _watchers(
        self, judge: Judge | None, strategy: type[Strategy], as_given: tuple[Any, Any, Any]
    ) -> Watchers:
        """Return the watchers, which are called after every epoch."""

        def snapshot() -> dict[str, Any]:
            coefs, intercepts = self._weights.coefs, self._weights.intercepts
            return {
                "coefs_": [W.copy() for W in coefs],
                "intercepts_": [b.copy() for b in intercepts],
            }

        # One more than may be run: L-BFGS begins an iteration before it knows that it is done.
        steps = self.max_iter + (not strategy.steps)
        network = self._weights.network
        return Watchers.of(self, steps, _recorded(judge), network, as_given, snapshot)

    def _descend(
        self,
        known: Data,
        measure: Measure,
        judge: Judge | None,
        watchers: Watchers,
        *,
        first: bool,
        incremental: bool,
        drawn: Drawn | None = None,
    ) -> None:
        """Run a stochastic solver, whose first epoch may be drawn already."""
        batch = self._batch(len(known))
        measure.layout.check_batch(batch)
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = Pace(self, measure.vector, schedule_of(self, judge))
        pace = self._optimizer
        pace.check(measure.vector)
        pace.begin(_recorded(judge))

        clip_norm = None if self.clip_norm is None else plain(self.clip_norm, "clip_norm")
        if drawn is None:
            drawn = Drawn(None, draw_key(self._random_state) if self._drops() else 0)
        # Counted on from the examples seen, of which an epoch has more than steps.
        steps_before = self.t_ - pace.state.steps

        job = Job(
            layout=measure.layout,
            parameters=measure.vector,
            loss=measure.loss,
            data=known,
            validation=None,
            metrics=(),
            batch_size=batch,
            state=pace.state,
            path=measure.path,
            clip_norm=clip_norm,
            mask_key=drawn.mask_key,
            steps_before=steps_before,
            threads=self.n_threads,
            conventions=measure.conventions,
            shown=measure.shown,
            counting=self._counting(judge),
        )
        fallback = measure.vector.copy() if first and self.early_stopping else None
        epochs = Epochs(self, job, pace, measure, judge, watchers, fallback)
        epochs.run(self.max_iter, incremental=incremental, order=drawn.order)

    def _counting(self, judge: Judge | None) -> Counting | None:
        """Return what has the engine score validation examples, where it does."""
        best = self.best_validation_score_
        return None if judge is None or best is None else judge.counting(best, self.early_stopping)

    def _batch(self, examples: int) -> int:
        """Return the examples of a step."""
        if isinstance(self.batch_size, str):
            return min(200, examples)
        if self.batch_size > examples:
            warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                module=THEIRS,
            )
        return int(min(self.batch_size, examples))


def _shared(weights: Array | None, targets: Targets) -> Array | None:
    """Return weights of examples, each times the part of its targets that is known."""
    if not targets.missing:
        return weights
    parts = parts_known(targets.values)
    return parts if weights is None else np.asarray(weights * parts)


for _name in ELSEWHERE:
    setattr(Perceptron, _name, Elsewhere(_name))


def _like(problem: Exception) -> type[TypeError] | type[ValueError]:
    """Return the plain class of an error."""
    return TypeError if isinstance(problem, TypeError) else ValueError


def _recorded(judge: Judge | None) -> tuple[str, ...]:
    """Return the names of what every epoch gives."""
    names = ("loss",) if judge is None else ("loss", "val_loss", judge.name)
    return tuple(dict.fromkeys(names))


def _as_weights(weights: Array | None, dtype: np.dtype[Any]) -> Floats:
    """Return weights of examples in the engine's dtype; of length 0 for None."""
    if weights is None:
        return np.empty(0, dtype)
    return gate.parameters(weights, weights.shape, dtype, "sample_weight")
