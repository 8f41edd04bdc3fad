"""`Sequential`: layers, one parameter vector, and methods that delegate the computing.

This file is long because the public surface stands here, every method with its shapes,
errors and example.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Never, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastnn import backends, gate, notices, paths, pickles, training, words
from fastnn.averages import Average, Averaging, averaging
from fastnn.blocks import Blocks, parts_of
from fastnn.callbacks import CallbackLike
from fastnn.checkpoints import newest
from fastnn.data import Data
from fastnn.differentiable import Differentiable
from fastnn.errors import DivergenceError, FitWarning, ModelFileError
from fastnn.fitting import kept
from fastnn.fitting.epochs import metric_values
from fastnn.fitting.feeds import Feed, read_blocks
from fastnn.fitting.fitstate import FitState, Resumed
from fastnn.fitting.jobs import Job
from fastnn.fitting.measuring import evaluated
from fastnn.fitting.settings import Settings
from fastnn.fitting.splitting import split
from fastnn.fitting.states import Streams, TrainingState
from fastnn.fitting.validation import Given, given, warn_of_scales
from fastnn.formats import safetensors
from fastnn.gate import Targets
from fastnn.hints import refuse, understands
from fastnn.history import History
from fastnn.initializers import draw_start
from fastnn.kernels import codes
from fastnn.kinds import coded_columns, from_dict, kind_of, spelt, to_dict
from fastnn.labels import check_labels, labels_of, labels_to_plain
from fastnn.layers import Dense, Dropout, Layer, named, own_activations, starts
from fastnn.layout import Layout, aligned_zeros
from fastnn.losses import LOSSES, Loss, LossLike, resolve_loss
from fastnn.machine.system import write_atomically
from fastnn.metrics import Metric, MetricLike, resolve
from fastnn.names import check_bool, check_integer, check_real, describe
from fastnn.optimizers import Adam, Optimizer, OptimizerLike, check_decays, resolve_optimizer
from fastnn.path import Path
from fastnn.predicting import compiled
from fastnn.predicting.folded import FoldedPredictor, Folder
from fastnn.predicting.folding import Folding
from fastnn.predicting.frozen import Frozen
from fastnn.predicting.predictor import Predictor
from fastnn.predicting.sampling import DropoutPrediction, in_passes
from fastnn.predicting.walking import AnyPredictor, predictor_of
from fastnn.reporting.decisions import plot_decision
from fastnn.reporting.description import summary
from fastnn.reporting.diagnosis import TRIAL_STEPS, Diagnosis, Facts, diagnose
from fastnn.reporting.drawing import Svg, diagram, network_html
from fastnn.reporting.scales import Columns, hopeless
from fastnn.schedules import ScheduleLike
from fastnn.sharing import Shown, next_turn, this_thread
from fastnn.sparse import SparseRows
from fastnn.stacks import check_layers
from fastnn.target_scale import (
    TargetMoments,
    TargetScale,
    check_last,
    check_loss,
    measured_targets,
    target_scale_of,
)
from fastnn.tracing import Trace

if TYPE_CHECKING:
    from fastnn.exports.plain import PlainNetwork

__all__ = ["Sequential", "load"]

Floats = NDArray[np.floating]
Rng: TypeAlias = int | np.random.SeedSequence | np.random.Generator | None
ClassWeight: TypeAlias = Mapping[int, float] | Sequence[Mapping[int, float]] | Literal["balanced"]

# Of a single step: the loss before it, parameters and state after it, and where such exist the run
# that took it and moments that it may write to next.
_Taken: TypeAlias = tuple[float, Floats, TrainingState, "kept.Room | None"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
_LEAST_BYTES = min(dtype.itemsize for dtype in _DTYPES.values())
_WANTED_RNG = "rng must be None, an integer of at least 0, a SeedSequence or a Generator"
_SEEDS = (np.random.SeedSequence, np.random.BitGenerator, np.random.Generator)
# The attributes of a network's own; what others a user sets is kept beside them.  The vector of
# parameters has the buffers at its end, so that whatever takes one state takes both.
_OWN = {
    "layers", "dtype", "_weights_rng", "_streams", "_state", "_layout", "_parameters", "_shown",
    "_fit_state", "_fitting", "_predictor", "_plans", "_classes", "_embedded", "_scale_targets",
    "_coded",
}  # fmt: skip
_FORMAT = "fastnn"
_ESTIMATOR = "fastnn-estimator"  # what the estimators' files say in its place
_FORMAT_VERSION = 1
# A file of more arrays must describe a network that has as many, before they are looked at.
_FEW_ARRAYS = 100
# As far as is known before a description is read.
_ARRAYS_OF_A_LAYER = 4
# What the names of a fit's arrays begin with, and those of a scale of targets.
_OF_FIT = "fit."
_OF_TARGETS = "targets."
# Mean and deviation of a column that is not measured.
_UNMEASURED = (0.0, 1.0)
_OTHER_ARRAYS = "its arrays are not those of its layers."


@understands(
    words.NETWORK_ARGUMENTS,
    words.NETWORK,
    {
        "fit": words.FIT,
        "train_on_batch": words.FIT,
        "evaluate": words.PREDICT,
        "predict": words.PREDICT,
        "trace": words.PREDICT,
        "loss_and_gradient": words.PREDICT,
        "objective": words.PREDICT,
        "diagnose": words.PREDICT,
        "hidden": words.PREDICT,
        "predict_many": words.PREDICT,
    },
)
class Sequential(Differentiable):
    """A multilayer perceptron: layers, one after the other.

    Parameters
    ----------
    layers : list of layers
        At least one; the last one is a Dense and gives the predictions.
    inputs : int, optional
        Number of features, p.  Left out, it is taken from X at the first fit.  From then on it
        is fixed.
    dtype : {"float32", "float64"}, default "float32"
        What parameters and everything computed are.
    rng : None, int, SeedSequence, BitGenerator or Generator, default 0
        Seed of the first weights, of the order of examples and of what `Dropout` drops; None
        takes a fresh one.
    scale_targets : bool, default False
        Whether targets are brought to mean 0 and standard deviation 1 inside, each column by
        itself, for a last layer of activation "identity", or "increasing" with several quantiles,
        and losses of targets that are any numbers.  Means and deviations are those of the training
        targets of the first fit, by their weights, or of `adapt`, and are kept in files, copies
        and pickles; a column of one value is left alone.  Predictions, their derivatives, metrics
        and `evaluate` are in the targets' own units.  What is trained is at unit scale, and so are
        the history's "loss" and "val_loss", the numbers of a loss's record, `train_on_batch`,
        `loss_and_gradient`, `objective`, `hessian_vector_product`, `trace` and `diagnose`.

    Attributes
    ----------
    layers : tuple of layers
        As given.
    inputs : int or None
        Number of features; None before it is known.
    outputs : int
        Number of outputs, m.
    dtype : numpy.dtype
        As given.
    scale_targets : bool
        As given.
    target_scale : tuple of ndarray, or None
        Means and deviations of the targets, (m,) in float64; None where they are not scaled, or
        not measured yet.
    classes : ndarray or None
        Labels of the outputs, or of 0 and 1 where there is one output: those of an estimator's
        network, or as you set them.  Nothing is computed with them; files and copies keep them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind or out of its range.

    Examples
    --------
    >>> import fastnn as fn
    >>> net = fn.Sequential([fn.Dense(8, activation="tanh"), fn.Dense(1)], inputs=2)
    >>> net.parameters.shape
    (33,)
    >>> net.predict([[0.0, 1.0], [1.0, 0.0]]).shape
    (2, 1)
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        inputs: int | None = None,
        dtype: DTypeLike = "float32",
        rng: Any = 0,
        *,
        scale_targets: bool = False,
    ) -> None:
        self.layers = check_layers(layers)
        self.dtype = _check_dtype(dtype)
        self._scale_targets = check_bool(scale_targets, "scale_targets")
        if scale_targets:
            check_last(self._last.activation)
        self._weights_rng, *others = _streams(rng)
        self._streams = Streams(*(int(other.integers(2**64, dtype=np.uint64)) for other in others))
        self._state: TrainingState | None = None
        self._fit_state: FitState | None = None
        self._classes: NDArray[Any] | None = None
        self._layout: Layout | None = None
        self._parameters = aligned_zeros(0, self.dtype)
        self._share_with_nobody()
        if inputs is not None:
            self._build(check_integer(inputs, "inputs", 1))

    def _share_with_nobody(self) -> None:
        """Begin with what is this network's alone, which no copy takes over."""
        self._shown = Shown()
        # Columns of X that hold codes, and how many codes each has.
        self._coded = coded_columns(self.layers)
        # The thread that fits it, by process: a fit of the parent does not block a forked child.
        self._fitting: dict[int, object] = {}
        self._predictor: AnyPredictor | None = None
        self._plans: kept.Plans | None = None
        self._embedded: compiled.Embedded | None = None

    def _build(self, inputs: int) -> None:
        """Fix the input width and draw the first weights."""
        layout = Layout.of(inputs, self.layers)
        self._check_numbers()
        rng = copy.deepcopy(self._weights_rng)
        try:
            parameters = aligned_zeros(layout.size + layout.buffer_size, self.dtype)
        except (MemoryError, ValueError, OverflowError):
            raise MemoryError(
                f"these units and inputs make {layout.size:,} parameters of {self.dtype}, more "
                "than this machine can hold."
            ) from None
        parts = zip(
            starts(self.layers), layout.weights(parameters), layout.biases(parameters), strict=True
        )
        with np.errstate(over="ignore"):
            for start, W, b in parts:
                draw_start(start, W, b, rng)
                if not isinstance(start.initializer, str) and not np.isfinite(W).all():
                    raise ValueError(
                        f"initializer must be a number that fits {self.dtype}; got "
                        f"{start.initializer!r}."
                    )
        for one in layout.operations:
            one.begin(layout, parameters, rng)

        def build() -> None:
            self._weights_rng, self._parameters, self._layout = rng, parameters, layout

        self._shown.write(build)

    def _check_numbers(self) -> None:
        """Refuse numbers of layers that would become infinite, or 0, in the network's dtype."""
        for place, layer in named(self.layers):
            if kind_of(layer).form not in (codes.SPANS, codes.ONE_SPAN):
                continue
            for name, value in to_dict(layer).items():
                if not isinstance(value, float) or value == 0.0:
                    continue
                with np.errstate(over="ignore", under="ignore"):
                    held = abs(self.dtype.type(value))
                if not 0.0 < held < math.inf:
                    raise ValueError(
                        f"{name} of {spelt(place)} must be a number that fits {self.dtype}; "
                        f"got {value!r}."
                    )

    # What it is.

    @property
    def inputs(self) -> int | None:
        """Number of features; None before it is known."""
        return None if self._layout is None else self._layout.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self._last.units

    @property
    def classes(self) -> NDArray[Any] | None:
        """Labels of the outputs, or of 0 and 1 where there is one output; None where unknown."""
        return self._classes

    @classes.setter
    def classes(self, labels: ArrayLike | None) -> None:
        self._classes = None if labels is None else check_labels(labels, self.outputs)

    @property
    def scale_targets(self) -> bool:
        """Whether targets are brought to unit scale inside."""
        return self._scale_targets

    @property
    def target_scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Means and deviations of the targets; None where there are none, or not yet."""
        scale = None if self._layout is None else self._layout.scale
        return None if scale is None else (scale.mean.copy(), scale.deviation.copy())

    @property
    def _last(self) -> Dense:
        """The layer that gives the predictions."""
        last = self.layers[-1]
        assert isinstance(last, Dense)
        return last

    @property
    def layout(self) -> Layout:
        """Names, offsets and shapes of everything in `parameters`."""
        if self._layout is None:
            raise ValueError(
                "this network has no weights yet: its number of inputs is not known. Give "
                "inputs= to Sequential, or fit it first."
            )
        return self._layout

    @property
    def parameters(self) -> Floats:
        """All parameters in one flat, writable vector: W1, b1, W2, b2, ... row-major."""
        layout = self.layout
        return self._parameters[: layout.size] if layout.buffer_size else self._parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        found = gate.parameters(values, (self.layout.size,), self.dtype, "parameters")
        self._shown.write(lambda: np.copyto(self._parameters[: found.size], found))

    @property
    def buffers(self) -> Floats:
        """What layers hold beside their parameters, in one flat, writable vector; often empty.

        It is the running mean and variance of each `BatchNorm`, one layer after the other.
        """
        return self._parameters[self.layout.size :]

    @buffers.setter
    def buffers(self, values: ArrayLike) -> None:
        size = self.layout.size
        found = gate.parameters(values, (self.layout.buffer_size,), self.dtype, "buffers")
        self._shown.write(lambda: np.copyto(self._parameters[size:], found))

    @property
    def _everything(self) -> Floats:
        """All parameters, and the buffers behind them."""
        return self._parameters

    @_everything.setter
    def _everything(self, values: Floats) -> None:
        self._shown.write(lambda: np.copyto(self._parameters, values))

    @property
    def weights(self) -> list[Floats]:
        """Views of the W of each layer, shape (h_in, h_out), in `parameters`."""
        return self.layout.weights(self._parameters)

    @property
    def biases(self) -> list[Floats | None]:
        """Views of the b of each layer, shape (h_out,), in `parameters`; None without bias."""
        return self.layout.biases(self._parameters)

    def get_weights(self) -> list[Floats]:
        """Return copies of all parameters: ``[W1, b1, W2, b2, ...]``, biases where they exist.

        Returns
        -------
        list of ndarray
            In the order of `parameters`.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(3), fn.Dense(1, bias=False)], inputs=2)
        >>> [w.shape for w in net.get_weights()]
        [(2, 3), (3,), (3, 1)]
        """
        layout = self.layout
        parameters = self._shown.copied(self._parameters.copy)
        return [layout.view(parameters, entry).copy() for entry in layout]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Set all parameters from ``[W1, b1, W2, b2, ...]``, as `get_weights` gives them.

        Parameters
        ----------
        weights : list of array-like
            One array for each in `layout`, of its shape; copied.

        Raises
        ------
        TypeError, ValueError
            If number, shapes or contents do not fit; nothing is changed then.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1)], inputs=2)
        >>> net.set_weights([[[1.0], [2.0]], [0.5]])
        >>> net.parameters
        array([1. , 2. , 0.5], dtype=float32)
        """
        entries = list(self.layout)
        if not isinstance(weights, (list, tuple)):
            raise TypeError(f"weights must be a list of arrays; got {describe(weights)}.")
        if len(weights) != len(entries):
            raise ValueError(
                f"weights must hold {len(entries)} arrays, {', '.join(self.layout.names)}; "
                f"got {len(weights)}."
            )
        found = [
            gate.parameters(values, entry.shape, self.dtype, f"weights ({entry.name})")
            for entry, values in zip(entries, weights, strict=True)
        ]
        joined = np.concatenate([array.reshape(-1) for array in found])
        self._shown.write(lambda: np.copyto(self._parameters[: joined.size], joined))

    def summary(self) -> str:
        """Describe the network, one line per layer.

        Returns
        -------
        str
            A table of layers, shapes and numbers of parameters.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(8, "relu"), fn.Dense(3, "softmax")], inputs=4)
        >>> print(net.summary())
        layer  kind   activation  output  parameters
            0  Dense  relu        (n, 8)          40
            1  Dense  softmax     (n, 3)          27
        4 inputs, 3 outputs, 67 parameters of float32 (268 bytes)
        """
        text = summary(self.layers, self.inputs, self.dtype)
        return f"{text}\ntargets at unit scale inside" if self.scale_targets else text

    def diagram(self) -> Svg:
        """Draw the layers, from the inputs down to the outputs, as the text of an SVG picture.

        Returns
        -------
        str
            Which notebooks show; ``pathlib.Path("net.svg").write_text(net.diagram())`` keeps it.
            Its colours suit light and dark surroundings.  Of more than 25 layers those in the
            middle are counted, not drawn.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(8, "relu"), fn.Dense(3, "softmax")], inputs=4)
        >>> net.diagram()[:28]
        '<svg xmlns="http://www.w3.or'
        """
        return diagram(self.layers, self.inputs, self.dtype)

    def _repr_html_(self) -> str:
        """Show a notebook the diagram."""
        return network_html(self.layers, self.inputs, self.dtype)

    def plot_decision(self, X: ArrayLike, y: ArrayLike, ax: Any = None) -> Any:
        """Draw what is predicted over the plane of two features, and the examples.

        Parameters
        ----------
        X : array-like, shape (n, 2)
            Examples.
        y : array-like
            Their targets, as in `fit`: classes where the outputs together name one, or a single
            output is a probability, else numbers of one output.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure's if left out.

        Returns
        -------
        matplotlib.axes.Axes
            ``ax.figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If there are other than two features, X or y do not fit, or several outputs are numbers.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(2, "softmax")], inputs=2)
        >>> ax = net.plot_decision([[0, 0], [1, 2]], [0, 1])
        >>> ax.get_xlabel()
        'feature 0'
        """
        return plot_decision(self, X, y, ax)

    def __repr__(self) -> str:
        layers = ", ".join(repr(layer) for layer in self.layers)
        more = ", scale_targets=True" if self.scale_targets else ""
        return f"Sequential([{layers}], inputs={self.inputs}, dtype={str(self.dtype)!r}{more})"

    # Learning.

    def fit(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        loss: LossLike = "auto",
        optimizer: OptimizerLike = Adam(),  # noqa: B008  (a frozen record)
        epochs: int = 10,
        batch_size: int = 32,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_fraction: float = 0.0,
        metrics: MetricLike | Iterable[MetricLike] = (),
        schedule: ScheduleLike | None = None,
        clip_norm: float | None = None,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
        shuffle: bool = True,
        threads: int | None = None,
        progress: Any = "auto",
        backend: str | None = None,
        measure: Literal["during", "after"] = "during",
        missing_targets: Literal["error", "ignore"] = "error",
        resume: bool | str | os.PathLike[str] = False,
        average: Average | None = None,
    ) -> History:
        """Train on examples, from the present parameters, with a fresh optimizer state.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.  A sparse matrix or array, SciPy's or alike, is best CSR;
            other formats are converted once.  Only its entries take time and memory, and the
            weights are, to the bit, those of the same examples with their zeros.  Or `Blocks`,
            which bring X, y and sample weights block by block, for examples that are too many for
            memory.
        y : array-like, shape (n,), (n, 1) or (n, m)
            Targets, left out with Blocks: integer classes, one-hot rows or rows of probabilities
            for cross-entropy; 0 to 1 for binary cross-entropy; -1 and 1, 0 and 1 or integer classes
            for hinge; numbers of at least 0 for Poisson; numbers for the others.  ``(n,)`` where
            there is one output, and for integer classes.  For gaussian_nll half as many as outputs.
        loss : str or a loss's record, default "auto"
            With any last layer "mean_squared_error", "mean_absolute_error", "huber", "log_cosh",
            "quantile" or "hinge"; "cross_entropy" with softmax, "binary_cross_entropy" with
            sigmoid, "poisson" with exp, and "gaussian_nll" with identity, whose outputs are then
            the means followed by the logarithms of the variances.  "auto" follows the last layer:
            these pairs, and mean squared error for identity and the others.
        optimizer : SGD, Adam, RMSprop, Adagrad, AdamW, Nadam, RAdam, Rprop or str, default Adam()
            The update rule and its numbers; a name, such as "adam", stands for the record with
            its defaults.  Or a search over all examples at once, `LBFGS` or `LevenbergMarquardt`:
            an epoch is an iteration, whatever ``batch_size`` and ``shuffle`` say, metrics are
            measured after it, and the fit ends where the search does.
        epochs : int, default 10
            How often to go through the examples.
        batch_size : int, default 32
            Examples per step.  The last batch of an epoch may be short; above n means n.
        sample_weight : array-like, shape (n,), optional
            Weight of each example, at least 0, in the loss and in the metrics that have a name.
            A batch of zero weight takes no step.
        X_val, y_val : array-like or sparse matrix, shapes as those of X and y, optional
            Examples that are measured after every epoch and never trained on.  A warning says so
            where their scale is another than that of X.
        sample_weight_val : array-like, optional
            Weight of each of these.
        validation_data : (X, y) or (X, y, sample_weight), optional
            The same in one argument.
        validation_fraction : float, default 0.0
            Share of the examples to hold out instead, drawn before the first epoch, class by
            class where y holds integer classes.
        metrics : str, record, callable or list of them, default ()
            What else to record after every epoch, for the training examples and, with ``val_``
            in front, for the validation examples: "accuracy", "balanced_accuracy", "precision",
            "recall", "f1" (with "_macro", "_micro" or "_weighted" behind, or as `Precision`,
            `Recall`, `F1`), "top_5_accuracy" (or `TopK`), "log_loss", "roc_auc",
            "average_precision"; "mean_squared_error", "root_mean_squared_error",
            "mean_absolute_error", "mean_absolute_percentage_error", "r2"; or functions
            ``f(targets, predictions)``, scikit-learn's among them, recorded under their names.
            These see ``(n,)`` where there is one output, else ``(n, m)``; one-hot rows for
            classes; no weights.  Areas under curves and functions end every epoch in Python, and
            so do more than seven metrics; the others cost next to nothing.
        callbacks : Callback, callable or list of them, default ()
            What runs after every epoch, such as `EarlyStopping`.
        shuffle : bool, default True
            Whether every epoch draws a new order.
        progress : {"auto", True, False}, default "auto"
            A line on stderr with losses and time left; "auto" shows it at a terminal or in a
            notebook only.
        backend : {None, "native", "reference"}, default None
            Which path computes; None follows `fastnn.backend`.
        measure : {"during", "after"}, default "during"
            When metrics of the training examples are taken.  "during" takes what training itself
            predicts, each example at its own step, before the update and with dropout, which
            costs next to nothing, as Keras does; "after" predicts all of them anew at the end of
            the epoch, as `evaluate` does.  Validation is always measured at the end.
        missing_targets : {"error", "ignore"}, default "error"
            What NaN, None and a mask in y (and in validation targets) stand for.  With "ignore" it
            is a target that is missing: it adds nothing to the loss and its gradient, and the mean
            is over those that are known, each by its example's weight.  Of metrics the mean over
            outputs is taken, each over the examples that have its target.  A class that is missing
            leaves its example out.
        clip_norm : float or None, default None
            Above 0; a gradient of all parameters (with the L2 penalty's) that is longer is
            shortened to this Euclidean norm.
        threads : int or None, default None
            How many threads may compute; None for what `set_threads` and the machine allow.
            A step that is too small to gain from more uses fewer; no bit depends on it.
        schedule : Schedule, callable, array-like, str or None, default None
            How the learning rate goes: a record such as `CosineDecay`, its name, a function of
            the epochs so far that gives a factor, or a list of factors, one per epoch, of which
            the last one stays; None for the optimizer's own rate throughout.
        class_weight : dict, list of dict, "balanced" or None, default None
            What ``sample_weight`` is multiplied by, by the example's class: ``{1: 5.0}``, where
            classes that are left out have 1; or "balanced", ``n / (classes * count)``, with
            weights counted as they are, so that all classes count alike.  For integer classes,
            one-hot rows, or 0 and 1 (-1 and 1 for hinge) of one output; for those of several
            outputs "balanced" or a list with a dict for each, whose factors are multiplied.
            Examples held out by ``validation_fraction`` are weighed like the rest; those given to
            validate on count as ``sample_weight_val`` says.
        resume : bool or path-like, default False
            Where to begin.  False: from the present parameters, with a fresh state.  True: where
            this network's last fit ended, with its optimizer's state, orders and history, for so
            many ``epochs`` more: ten fits of one epoch are one of ten, bit for bit.  Without such
            a fit, or after a step of `train_on_batch`, it begins afresh.  A path: where the fit
            was whose state `Checkpoint`, or ``save(path, state=True)``, wrote there, up to
            ``epochs`` in all, to the bits of the fit that was never interrupted.  The other
            arguments and the examples must be those of that fit.
        average : EMA, SWA or None, default None
            What the fit ends with, if not with the weights of its last step: the exponential
            moving average of those after each step (`EMA`), or the mean of those at the ends of
            the last epochs (`SWA`), which validation and callbacks see too.  A fit that goes on
            (``resume``) goes on with both, but not from an average that was changed by hand; a
            part of all epochs, as ``SWA(0.75)``, may begin anew (see there).  Not with a search.

        Returns
        -------
        History
            A mapping of "loss", "val_loss" and metrics to one float per epoch each.  "loss" is
            the mean over the epoch's batches, each before its update, with the L2 penalty;
            "val_loss" is without it.  With ``scale_targets`` both are of targets at unit scale,
            metrics are in the targets' units.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind, shape or range; if the fit that ``resume`` names is
            another in its network, optimizer, settings or examples: the message says in what.
        DivergenceError
            If training turns non-finite; the last finite weights are kept.
        ModelFileError, OSError
            If the file that ``resume`` names is damaged, of another kind, or cannot be read.
        RuntimeError
            If this network is being fitted already.

        Warns
        -----
        FitWarning
            Once for a network that was not trained yet, where a column of X, or of y where it
            holds real numbers, is beyond 1e4 of unit scale: its largest magnitude, among at most
            256 rows that are evenly spread, is above 1e4, or is below 1e-4 and not 0.

        Notes
        -----
        Ctrl-C ends a fit with a warning and keeps the weights reached so far; the history's
        ``stopped`` says "interrupted".

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> net = fn.Sequential([fn.Dense(8, "tanh"), fn.Dense(1, "sigmoid")], rng=1)
        >>> history = net.fit(X, [0, 1, 1, 0], optimizer=fn.Adam(0.05), epochs=200)
        >>> history["loss"][-1] < 0.1
        True
        >>> net.predict(X).round().ravel()
        array([0., 1., 1., 0.], dtype=float32)
        """
        me, process, fitting = object(), os.getpid(), self._fitting
        try:
            _begin_fit(fitting, process, me)
            with ExitStack() as reading:
                with self._unchanged_if_refused():
                    asked = Settings.of(
                        self._last, loss=loss, optimizer=optimizer, metrics=metrics,
                        callbacks=callbacks, epochs=epochs, batch_size=batch_size, shuffle=shuffle,
                        validation_fraction=validation_fraction, measure=measure,
                        clip_norm=clip_norm, threads=threads, backend=backend, schedule=schedule,
                        average=average,
                    )  # fmt: skip
                    missing = _check_missing(missing_targets)
                    resumed, epochs = self._resumed(resume, asked)
                    feed: Feed | None = None
                    if isinstance(X, Blocks):
                        asked.check_fed(y, sample_weight, class_weight)
                        feed = self._feed(X, asked, class_weight, missing, resumed)
                        reading.callback(feed.close)
                        data = feed.begun(asked.batch_size)
                    else:
                        data = self._data(
                            X, y, asked.loss, sample_weight, self.inputs,
                            class_weight=class_weight, missing=missing,
                        )  # fmt: skip
                    theirs = given(validation_data, X_val, y_val, sample_weight_val)
                    held = self._held_out(theirs, asked, data, missing, feed)
                    if self._layout is None:
                        self._build(data.X.shape[1])
                    split_at, data, held = self._parted(asked, data, held, resumed)
                    self._state = self._fit_state = None
                    self._warn_if_hopeless(data, asked.loss)
                    data, held, scale = self._scaled(data, held, feed, resumed)
                    averaged = averaging(asked.average, epochs, more=resume is True)
                    job = self._job(asked, data, held, scale, feed, averaged)
                    state = None
                    if resumed is not None:
                        job, state = resumed.job(job), resumed.state
                    run = training.begin(job, self, epochs, asked.callbacks, progress, state)
                    run.split_at = split_at
                if scale is not None:
                    self._take_scale(scale)
                if resumed is not None:
                    self._take_over(resumed)
                if self._unmeasured:
                    self._measure(data.X, data.weights, feed)
                history = training.fit(job, run, self._streams)
            self._fit_state = run.state if asked.search is None else None
            return history
        finally:
            # No call may stand here, as one that a signal follows would not be undone.
            if process in fitting and fitting[process] is me:
                del fitting[process]

    def train_on_batch(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: LossLike = "auto",
        optimizer: OptimizerLike = Adam(),  # noqa: B008  (a frozen record)
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        backend: str | None = None,
        missing_targets: Literal["error", "ignore"] = "error",
        **unknown: Never,
    ) -> float:
        """Take one step on these examples, keeping the optimizer's state between calls.

        A record of another rule than the call before starts with a fresh state; so does the
        first call after a fit.

        Parameters
        ----------
        X, y, loss, optimizer, sample_weight, backend, missing_targets
            As in `fit`.
        class_weight : dict, list of dict or None, default None
            As in `fit`, but for "balanced", which needs to see all examples.

        Returns
        -------
        float
            The loss before the step, with the L2 penalty.

        Raises
        ------
        TypeError, ValueError, DivergenceError, RuntimeError
            As in `fit`; a ValueError too where features or targets are still to be measured, which
            a single batch says too little of: `fit` or `adapt` does it.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
        >>> sgd = fn.SGD(0.25)
        >>> [net.train_on_batch([[1.0]], [2.0], optimizer=sgd) for _ in range(3)]
        [4.0, 0.0, 0.0]
        """
        if unknown:
            # Not around this call, as others do: a step is taken, or interrupted, in here.
            known = inspect.signature(self.train_on_batch).parameters
            refuse("Sequential.train_on_batch", known, words.FIT, unknown)

        def take() -> _Taken:
            row = resolve_loss(loss, self._last.activation)
            rule = resolve_optimizer(optimizer)
            if isinstance(class_weight, str) and class_weight == "balanced":
                raise ValueError(
                    "class_weight='balanced' needs all examples at once, which train_on_batch "
                    "does not see. Give a dict from class to weight."
                )
            path = paths.asked(backend)
            return self._stepped(
                row, rule, path, (X, y, sample_weight, class_weight), missing_targets
            )

        return self._one_step(take)

    def apply_gradient(
        self,
        gradient: ArrayLike,
        optimizer: OptimizerLike = Adam(),  # noqa: B008  (a frozen record)
        *,
        clip_norm: float | None = None,
        backend: str | None = None,
    ) -> None:
        """Take one step by a gradient that was computed before, keeping the optimizer's state.

        `loss_and_gradient` and this, one after the other, are what `train_on_batch` does in one
        call, but for dropout, and for layers that follow the batches, such as `BatchNorm`, which
        are refused.  Between the two a gradient can be changed, or added up: that of a
        batch whose parts lie on several machines, or are too many for one call, is the mean of the
        parts' gradients, each weighted by its share of the examples' weights.

        Parameters
        ----------
        gradient : array-like, shape (parameters,)
            Of the training loss with L2, in the order of `parameters`; finite numbers.  What
            belongs to frozen layers does not count.
        optimizer : one of the optimizers or its name, default Adam()
            One that takes steps.  A record of another rule than the call before starts with a
            fresh state, as in `train_on_batch`.
        clip_norm : float or None, default None
            The norm to which the gradient is limited.
        backend
            As in `fit`.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.
        DivergenceError
            If a weight or a moment becomes non-finite; the network is then as before.
        RuntimeError
            If the network is being fitted.

        Examples
        --------
        Two halves of a batch, then one step:

        >>> import numpy as np
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=1)
        >>> X, y = [[1.0], [2.0]], [2.0, 4.0]
        >>> parts = slice(0, 1), slice(1, 2)
        >>> gradients = [net.loss_and_gradient(X[part], y[part])[1] for part in parts]
        >>> net.apply_gradient(np.mean(gradients, axis=0), fn.SGD(0.1))
        >>> net.parameters
        array([1. , 0.6], dtype=float32)
        """

        def take() -> _Taken:
            rule = resolve_optimizer(optimizer)
            layout, dtype = self.layout, self.dtype
            following = next((one.layer for one in layout.operations if one.whole), None)
            if following is not None:
                raise ValueError(
                    f"apply_gradient moves parameters alone, and not what {following!r} keeps of "
                    "the batches that training sees, by which it predicts. train_on_batch and fit "
                    "do; fastnn.LayerNorm() keeps nothing, nor does a layer with trainable=False."
                )
            vector = gate.parameters(gradient, (layout.size,), dtype, "gradient")
            limit = clip_norm
            if limit is not None:
                limit = check_real(limit, "clip_norm", low=0.0, low_open=True)
            state, path = self._continued(rule), paths.asked(backend)
            if path.by_engine:
                room = self._plans_of().update(self._parameters, state)
                numbers = room.take(self._parameters, state, vector, limit)
                if numbers is not None:
                    after = TrainingState(rule, room.moments, numbers)
                    return math.nan, room.parameters, after, (room, state.moments)
            # By the textbook; or it is to be said what is wrong.
            nothing = np.empty((0, layout.inputs), dtype)
            nothing.flags.writeable = False
            job = Job(
                layout=layout,
                parameters=self._parameters,
                loss=resolve_loss("auto", self._last.activation),
                data=Data.unanswered(nothing),
                validation=None,
                metrics=(),
                batch_size=1,
                state=state,
                path=path,
                clip_norm=limit,
            )
            stepped = training.step_by(job, vector)
            return stepped.loss, stepped.parameters, stepped.state, None

        self._one_step(take)

    def _one_step(self, take: Callable[[], _Taken]) -> float:
        """Take a single step, or none where it is interrupted."""
        me, process, fitting = object(), os.getpid(), self._fitting
        try:
            _begin_fit(fitting, process, me)
            value, parameters, after, room = take()
            # An attribute of a class that has `__getattr__` costs three times a dictionary's key.
            mine = self.__dict__
            streams, shown = mine["_streams"], mine["_shown"]
            steps, turn, writer = (streams.steps + 1) % 2**64, next_turn(), this_thread()
            vector = mine["_parameters"]
            # From here on no call: Ctrl-C finds a step that was never taken, or all of it.
            shown.writer = writer
            shown.turn = 0
            vector[:] = parameters
            mine["_state"] = after
            mine["_fit_state"] = None
            streams.steps = steps
            shown.turn = turn
            if room is not None:
                room[0].moments = room[1]
            return value
        finally:
            # Nor here, as one that a signal follows would not be undone.
            if process in fitting and fitting[process] is me:
                del fitting[process]

    def _stepped(
        self,
        loss: Loss,
        rule: Optimizer,
        path: Path,
        given: tuple[Any, Any, Any, Any],
        missing: str,
    ) -> _Taken:
        """Return what a step on the examples given leads to; nothing is written."""
        mine, (X, y, sample_weight, class_weight) = self.__dict__, given
        batch, data, taken, plans = None, None, None, None
        plain = sample_weight is None and class_weight is None and missing == "error"
        plain = plain and not mine["_scale_targets"]
        if plain and path.by_engine and mine["_layout"] is not None:
            plans = self._plans_of()
            batch = plans.batch(X, y, loss)
        if batch is None:
            data = self._data(
                X, y, loss, sample_weight, self.inputs, class_weight=class_weight,
                missing=_check_missing(missing),
            )  # fmt: skip
            if self._layout is None:
                with self._unchanged_if_refused():
                    self._build(data.X.shape[1])
            if mine["_scale_targets"]:
                self._refuse_unscaled()
                data = self._inside(data, self.layout.scale)
        streams, parameters = mine["_streams"], mine["_parameters"]
        state = self._continued(rule)
        if batch is not None and plans is not None:
            room = plans.step(loss, len(batch[0]), parameters, state)
            taken = room.at_once(parameters, state, batch, streams.mask_key, streams.steps)
            if taken is None:
                # The first of its kind, or something is wrong with it.
                data = self._data(X, y, loss, None, self.inputs)
        if data is not None and path.by_engine and kept.Plans.suit(data):
            room = self._plans_of().step(loss, len(data), parameters, state)
            taken = room.take(parameters, state, data, streams.mask_key, streams.steps)
        if taken is None:
            assert data is not None
            return *self._single_step(loss, data, state, path), None
        value, numbers = taken
        # Equal to the state's record; kept so that `_continued` finds it by identity next time.
        after = TrainingState(rule, room.moments, numbers)
        return value, room.parameters, after, (room, state.moments)

    def _continued(self, rule: Optimizer) -> TrainingState:
        """Return the state with which the next single step by a rule begins."""
        mine = self.__dict__
        state: TrainingState | None = mine["_state"]
        if state is None:
            self._refuse_unmeasured()
        elif state.optimizer is not rule and state.optimizer != rule:
            state = state.continued(rule)
        if state is None:
            check_decays(rule, [one.layer for one in self.layout.operations])
            state = TrainingState.fresh(rule, mine["_parameters"])
        return state

    def adapt(
        self,
        X: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        y: ArrayLike | None = None,
        missing_targets: Literal["error", "ignore"] = "error",
    ) -> None:
        """Measure the features anew, for a network that begins with `Standardize`.

        And the targets, for one with ``scale_targets``.  The first fit does both by itself.

        Parameters
        ----------
        X : array-like, shape (n, p)
            Examples, all that there are.
        sample_weight : array-like, shape (n,), optional
            Weight of each.
        y : array-like, shape (n,) or (n, m), optional
            Their targets; needed where targets are to be measured, and nothing else is.
        missing_targets : {"error", "ignore"}, default "error"
            As in `fit`.

        Raises
        ------
        TypeError, ValueError
            If X or y does not fit, or there is nothing to measure.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Standardize(), fn.Dense(1, initializer=1.0)], inputs=1)
        >>> net.adapt([[10.0], [30.0]])
        >>> net.predict([[10.0], [20.0]]).ravel().tolist()
        [-1.0, 0.0]
        """
        if not self._measuring and not self.scale_targets:
            raise ValueError(
                "adapt is for networks that begin with a layer that measures the features, such "
                f"as fastnn.Standardize(), or that have scale_targets=True; this one begins with "
                f"{self.layers[0]!r}."
            )
        if y is None and not self._measuring:
            raise ValueError("adapt needs y= where targets are what is to be measured; got None.")
        if y is not None and not self.scale_targets:
            raise ValueError(
                "y is for networks with scale_targets=True; this one has scale_targets=False. "
                "Leave y out."
            )
        missing = _check_missing(missing_targets)
        if y is None:
            features = gate.sparse_or_dense(X, self.dtype, self.inputs)
            weights = gate.sample_weights(sample_weight, len(features), self.dtype, "sample_weight")
            known = Data(self._readable(features), Data.unanswered(features).targets, weights)
        else:
            known = self._data(X, y, self._loss_of(y), sample_weight, self.inputs, missing=missing)
        scale = None if y is None else self._scale_measured(known)
        if self._layout is None:
            self._build(known.X.shape[1])
        if self._measuring:
            weights = gate.sample_weights(sample_weight, len(known), self.dtype, "sample_weight")
            self._measure(known.X, weights)
        if scale is not None:
            self._take_scale(scale)

    def _loss_of(self, y: object) -> Loss:
        """Return a loss that takes as many targets as there are, whatever goes with each."""
        values: Any = y
        try:
            shape = np.shape(values)
        except ValueError:
            # The gate words it.
            shape = ()
        columns = 1 if len(shape) < 2 else shape[1]
        each = self.outputs if self._last.activation == "increasing" else 1
        if columns != self.outputs and 2 * columns == self.outputs and each == 1:
            each = 2
        return replace(LOSSES["mean_squared_error"], outputs=each)

    def _scale_measured(self, data: Data) -> TargetScale:
        """Return the scale of the targets of examples."""
        return measured_targets(data, self.dtype, self._last.activation)

    def _scale_of_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> TargetScale:
        """Return the scale of targets that a file or a pickle holds, checked."""
        return target_scale_of(arrays, self.outputs, self._last.activation)

    def _known_scale(self, resumed: Resumed | None) -> TargetScale | None:
        """Return the scale of targets that a fit goes by, where there is one before it."""
        if resumed is not None:
            return resumed.scale
        return None if self._layout is None else self._layout.scale

    def _scaled(
        self, data: Data, held: Data | None, feed: Feed | None, resumed: Resumed | None
    ) -> tuple[Data, Data | None, TargetScale | None]:
        """Return examples with targets at unit scale, where that is asked for, and the scale."""
        if not self.scale_targets:
            return data, held, None
        if feed is not None:
            # What it gives is at unit scale already.
            scale = feed.scale
        else:
            scale = self._known_scale(resumed) or self._scale_measured(data)
            data = self._inside(data, scale)
        return data, None if held is None else self._inside(held, scale), scale

    def _job(
        self, asked: Settings, data: Data, held: Data | None, scale: TargetScale | None,
        feed: Feed | None, averaged: Averaging | None,
    ) -> Job:  # fmt: skip
        """Return what a fit trains."""
        layout = self.layout.with_scale(None)
        layout.check_batch(min(asked.batch_size, len(data)))
        given = layout, self._parameters, data, held, self._streams, self._shown
        return asked.job(*given, scale, averaged, feed)

    def _feed(
        self, blocks: Blocks, asked: Settings, class_weight: object, missing: str,
        resumed: Resumed | None,
    ) -> Feed:  # fmt: skip
        """Return what reads blocks for a fit, after a look at all of them where that needs one."""
        inputs = self.inputs

        def take(block: Any, place: int) -> Data:
            nonlocal inputs
            data = self._block(block, place, asked.loss, missing, feed.scale, inputs, class_weight)
            inputs = data.X.shape[1]
            return data

        feed = Feed(blocks, take)
        scale = self._known_scale(resumed) if self.scale_targets else None
        measuring = self._unmeasured and resumed is None
        targets = None
        if self.scale_targets and scale is None:
            targets = TargetMoments(self.dtype, self._last.activation)
        if measuring or targets is not None or blocks.rows is None:
            feed.look(measuring, targets)
        feed.scale = scale if targets is None else targets.scale()
        return feed

    def _block(
        self, block: Any, place: int, loss: Loss, missing: str, scale: TargetScale | None,
        inputs: int | None = None, class_weight: object = None,
    ) -> Data:  # fmt: skip
        """Lead a block of examples through the gate, with targets at unit scale where it is known.

        The width is that of the network, or of the first block.
        """
        X, y, weights = parts_of(block, place)
        X_name, y_name, w_name = (f"{name} of block {place}" for name in ("X", "y", "weights"))
        data = self._data(
            X, y, loss, weights, self.inputs or inputs, (X_name, y_name, w_name), class_weight,
            missing=missing, whole=False,
        )  # fmt: skip
        return data if scale is None else self._inside(data, scale, y_name)

    def _inside(self, data: Data, scale: TargetScale | None, argument: str = "y") -> Data:
        """Return examples with targets at unit scale; as they are before it is known."""
        columns = data.targets.values.shape[1]
        if scale is None:
            scale = TargetScale(np.zeros(columns), np.ones(columns))
        if len(scale.mean) != columns:
            raise ValueError(
                f"{argument} must have {len(scale.mean)} columns, as the targets of the first fit "
                f"had; got {columns} for a last layer of {self.outputs} units and this loss."
            )
        return scale.inside(data, self.dtype, argument)

    def _take_scale(self, scale: TargetScale) -> None:
        """Bring predictions to the units of targets from now on."""
        layout = self.layout.with_scale(scale)

        def write() -> None:
            self._layout = layout

        self._shown.write(write)

    def _refuse_unscaled(self) -> None:
        """Refuse a step where the scale of the targets is not known yet."""
        if self.layout.scale is None:
            raise ValueError(
                "this network has not seen the targets yet, and a single batch says too little of "
                "their scale. Call net.adapt(X, y=y) with all examples, or fit, first."
            )

    @property
    def _measuring(self) -> bool:
        """Whether the first layer takes its parameters from the features."""
        return kind_of(self.layers[0]).measured is not None

    @property
    def _unmeasured(self) -> bool:
        """Whether the first layer is to take them, and has not done so."""
        if not self._measuring or self._layout is None:
            return self._measuring
        return not any(
            self._layout.view(self._parameters, entry).any()
            for entry in self._layout.operations[0].parameters
        )

    def _refuse_unmeasured(self) -> None:
        """Refuse a step where the first layer has not seen the features yet."""
        if self._unmeasured:
            raise ValueError(
                f"{self.layers[0]!r} has not seen the features yet, and a single batch says "
                "too little of them. Call net.adapt(X) with all examples, or fit, first."
            )

    def _measure(
        self, features: Floats | SparseRows, weights: Floats, feed: Feed | None = None
    ) -> None:
        """Let the first layer take its parameters from the features, which are dense."""
        first, layout = self.layout.operations[0], self.layout
        assert first.kind.measured is not None
        if feed is None or feed.survey is None:
            found = first.kind.measured(features, weights)
        else:
            assert feed.survey.features is not None
            found = feed.survey.features
        coded = [column for column, _ in self._coded]
        for values, left in zip(found, _UNMEASURED, strict=True):
            values[coded] = left

        def write() -> None:
            for entry, values in zip(first.parameters, found, strict=True):
                layout.view(self._parameters, entry)[:] = values

        self._shown.write(write)

    def _single_step(
        self, loss: Loss, data: Data, state: TrainingState, path: Path
    ) -> tuple[float, Floats, TrainingState]:
        """Return what a step leads to, or say where it went wrong."""
        self.layout.check_batch(len(data))
        streams = self._streams
        job = Job(
            layout=self.layout,
            parameters=self._parameters,
            loss=loss,
            data=data,
            validation=None,
            metrics=(),
            batch_size=len(data),
            state=state,
            path=path,
            mask_key=streams.mask_key,
            steps_before=streams.steps - state.steps,
        )
        stepped = training.single_step(job)
        return stepped.loss, stepped.parameters, stepped.state

    def _plans_of(self) -> kept.Plans:
        """Return what single calls planned."""
        mine = self.__dict__
        plans: kept.Plans | None = mine["_plans"]
        if plans is None or plans.layout is not mine["_layout"]:
            plans = self._plans = kept.Plans(self.layout, self.dtype)
        return plans

    @contextmanager
    def _unchanged_if_refused(self) -> Iterator[None]:
        """Take back what getting ready did, should an argument be refused."""
        kept = (self._layout, self._parameters, self._weights_rng)
        state, fit, streams = self._state, self._fit_state, replace(self._streams)
        try:
            yield
        except BaseException:
            self._layout, self._parameters, self._weights_rng = kept
            self._state, self._fit_state, self._streams = state, fit, streams
            raise

    def _resumed(self, resume: object, asked: Settings) -> tuple[Resumed | None, int]:
        """Return where a fit goes on, None for its beginning, and to which epoch."""
        epochs = asked.epochs
        if resume is False:
            return None, epochs
        asked.check_resumable("resume")
        if resume is True:
            if self._fit_state is None:
                return None, epochs
            found = Resumed.here(self._fit_state, self._parameters)
            found = replace(found, scale=self.layout.scale)
            return found, found.state.history.epochs + epochs
        if not isinstance(resume, (str, os.PathLike)):
            raise TypeError(f"resume must be True, False or a path; got {describe(resume)}.")
        path = newest(resume)
        other = load(path)
        if other._fit_state is None:
            raise ValueError(
                f"resume must name a file with the state of a fit, as Checkpoint and "
                f"save(path, state=True) write it; {path} has a network alone. Read it with "
                "fastnn.load(path), and fit that."
            )
        if other.scale_targets is not self.scale_targets:
            raise ValueError(
                f"scale_targets must be as in the fit that goes on, {other.scale_targets}; "
                f"got {self.scale_targets}."
            )
        state, scale = other._fit_state, other.layout.scale
        return Resumed(state, state.beginning(other._parameters), path, scale), epochs

    def _parted(
        self, asked: Settings, data: Data, held: Data | None, resumed: Resumed | None
    ) -> tuple[int, Data, Data | None]:
        """Hold out examples to validate on where that is asked; say by which order."""
        if resumed is not None:
            self._streams = replace(resumed.state.streams, drawn=resumed.state.split_at)
        split_at = self._streams.drawn
        if asked.fraction > 0.0:
            data, held = split(data, asked.loss, asked.fraction, self._streams, path=asked.path)
        if resumed is not None:
            self._streams = replace(resumed.state.streams)
        return split_at, data, held

    def _take_over(self, resumed: Resumed) -> None:
        """Begin with the parameters of a fit that goes on."""
        self._shown.write(lambda: np.copyto(self._parameters, resumed.parameters))

    def _warn_if_hopeless(self, data: Data, loss: Loss) -> None:
        """Warn of examples of a scale that no first fit gets along with."""
        if self._streams.steps:
            return
        values: Any = data.targets.values
        if loss.targets != "real" or self.scale_targets:
            values = None
        coded = [column for column, _ in self._coded]
        warning = hopeless(None if self._measuring else data.X, values, coded)
        if warning is not None:
            notices.warn(warning, FitWarning)

    def _data(
        self,
        X: object,
        y: object,
        loss: Loss,
        sample_weight: object,
        inputs: int | None,
        names: tuple[str, str, str] = ("X", "y", "sample_weight"),
        class_weight: object = None,
        dense: bool = False,
        missing: str = "error",
        whole: bool = True,
    ) -> Data:
        """Lead examples through the gate; `names` are those of the arguments they came in.

        Sparse ones are let through unless they must be dense.  Where more will come, these are not
        the whole.
        """
        take = gate.features if dense else gate.sparse_or_dense
        features = self._readable(take(X, self.dtype, inputs, names[0]), names[0])
        n = len(features)
        loss.width(self.outputs)
        dtype: Any = self.dtype
        if self.scale_targets:
            # Brought to unit scale before they are rounded.
            check_loss(loss)
            dtype = np.float64
        asked = loss.targets, self.outputs, n, dtype, names[1], names[0]
        known = None
        if missing == "ignore":
            targets, known = gate.targets_with_gaps(y, *asked, each=loss.outputs)
            if not whole:
                # As others may have gaps.
                known = np.ones(n) if known is None else known
                targets = Targets(targets.labels, targets.values, True)
        else:
            targets = gate.targets(y, *asked, each=loss.outputs)
        weights = gate.sample_weights(sample_weight, n, self.dtype, names[2], names[0], whole=whole)
        if known is not None:
            weights = gate.known_only(weights, known, self.dtype, names[1], whole=whole)
        if class_weight is not None:
            weights = gate.class_weights(
                class_weight, targets, weights, loss.targets, self.dtype, whole=whole
            )
        return Data(features, targets, weights)

    def _readable(self, features: Floats | SparseRows, name: str = "X") -> Any:
        """Return features that the first layer can read: sparse ones if that is a Dense."""
        if not isinstance(features, SparseRows):
            return gate.codes(features, self._coded, name) if self._coded else features
        first, *_ = [layer for layer in self.layers if not kind_of(layer).in_training]
        if not isinstance(first, Dense):
            raise ValueError(
                f"{name} must be dense where the first layer is no Dense, as it reads all features "
                f"of an example; got a sparse matrix, and {first!r} as the first layer. "
                f"Give {name}.toarray()."
            )
        return features

    def _held_out(
        self, theirs: Given | None, asked: Settings, known: Data, missing: str,
        feed: Feed | None = None,
    ) -> Data | None:  # fmt: skip
        """Lead validation examples through the gate."""
        if theirs is None:
            return None
        loss = asked.loss
        if asked.fraction > 0.0:
            way = theirs.names[0].partition("[")[0]
            raise ValueError(f"{way} and validation_fraction exclude each other; got both.")
        inputs = known.X.shape[1]
        held = self._data(
            theirs.X, theirs.y, loss, theirs.weights, inputs, theirs.names, missing=missing
        )
        coded = [column for column, _ in self._coded]
        if feed is not None and feed.scale is not None:
            values = feed.scale.outside(known.targets.values)
            known = Data(known.X, Targets.of_values(values), known.weights)
        warn_of_scales(known, held, theirs.names, loss.numeric, coded)
        return held

    # Predicting.

    @overload
    def predict(
        self, X: Blocks, out: None = None, *, backend: str | None = None,
        dropout: Literal[False] = False, samples: int = 100, rng: Rng = None,
    ) -> Iterator[Floats]: ...  # fmt: skip

    @overload
    def predict(
        self, X: ArrayLike, out: Floats | None = None, *, backend: str | None = None,
        dropout: Literal[False] = False, samples: int = 100, rng: Rng = None,
    ) -> Floats: ...  # fmt: skip

    @overload
    def predict(
        self, X: ArrayLike, out: None = None, *, backend: str | None = None,
        dropout: Literal[True], samples: int = 100, rng: Rng = None,
    ) -> DropoutPrediction: ...  # fmt: skip

    def predict(
        self, X: ArrayLike | Blocks, out: Floats | None = None, *, backend: str | None = None,
        dropout: bool = False, samples: int = 100, rng: Rng = None,
    ) -> Floats | DropoutPrediction | Iterator[Floats]:  # fmt: skip
        """Return ``f(Z)`` of the last layer for every example.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.  Or `Blocks`, whose blocks are X alone, or as for `fit`; they are
            read as predictions are taken, in the thread that takes them.
        out : ndarray, shape (n, m), optional
            Where to write, in the network's dtype; a new array if left out.
        backend : {None, "native", "reference"}, default None
            Which path computes.
        dropout : bool, default False
            Whether to predict many times with the `Dropout` layers at work, as in training, and to
            return how predictions vary: Monte Carlo dropout (Gal & Ghahramani 2016).
        samples : int, default 100
            How many times, at least 2; for ``dropout=True``.
        rng : None, int, SeedSequence or Generator, default None
            What is dropped follows from it, on both paths alike; None draws anew at every call.
            The network's own stream of random numbers stays where it is.

        Returns
        -------
        ndarray, shape (n, m)
            Always two-dimensional; ``out`` if it was given.  With ``dropout=True`` a
            `DropoutPrediction`: ``mean`` and ``spread``, both (n, m), in the targets' units.  With
            Blocks an iterator of arrays, one per block.

        Raises
        ------
        TypeError, ValueError
            If X or out is not of its kind or shape, or the network has no weights yet; with
            ``dropout=True`` if no layer drops anything, or if out is given.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.predict([[1, 2], [3, 4]])
        array([[1.5],
               [3.5]], dtype=float32)
        >>> doubtful = fn.Sequential([fn.Dropout(0.5), fn.Dense(1, initializer=0.5)], inputs=2)
        >>> found = doubtful.predict([[1, 2]], dropout=True, samples=1000, rng=0)
        >>> found.mean.round(1), found.spread.round(1)
        (array([[1.5]], dtype=float32), array([[1.1]], dtype=float32))
        """
        if dropout is not False and check_bool(dropout, "dropout"):
            return self._sampled(X, out, backend, samples, rng)
        if rng is not None:
            raise ValueError("rng says what dropout drops: give dropout=True too, or leave it out.")
        mine = self.__dict__
        layout, dtype = mine["_layout"], mine["dtype"]
        if (
            out is None
            and backend is None
            and layout is not None
            and type(X) is np.ndarray
            and not layout.coded
            and gate.lies_ready(X, layout.inputs, dtype)
            and backends.natively()
        ):
            predictor, shown = self._predictor_of(layout), mine["_shown"]
            rows, out = len(X), np.empty((len(X), predictor.outputs), dtype)
            turn = shown.turn
            if rows == 1:
                predictor.single(mine["_parameters"], X[0], out[0])
            else:
                predictor(mine["_parameters"], X, out)
            if turn is not shown.turn or not turn:
                self._again(X, out)
            return out
        layout = self.layout
        if isinstance(X, Blocks):
            return self._predicted(X, out, backend)
        features = self._readable(gate.sparse_or_dense(X, self.dtype, layout.inputs))
        if out is not None:
            out = gate.output_buffer(out, (len(features), self.outputs), self.dtype)
        if out is None:
            out = np.empty((len(features), self.outputs), self.dtype)
        elif (
            features.shares_memory(out)
            if isinstance(features, SparseRows)
            else (np.may_share_memory(out, features))
        ):
            # Chunks are written while later rows are still to be read.
            features = features.copy()
        if paths.asked(backend).by_engine:
            predictor, shown = self._predictor_of(layout), self._shown
            turn = shown.turn
            if isinstance(features, SparseRows):
                predictor.sparse(self._parameters, features, out)
            else:
                predictor(self._parameters, features, out)
            if turn is not shown.turn or not turn:
                self._again(features, out)
            return out
        return self._by_the_book(features, out)

    def _predicted(self, blocks: Blocks, out: object, backend: str | None) -> Iterator[Floats]:
        """Return an iterator of the predictions for blocks."""
        if out is not None:
            raise ValueError(
                "out is for the predictions of one array; with Blocks each block has its own. "
                "Leave it out."
            )

        def predicted(block: Any, place: int) -> Floats:
            X = block[0] if isinstance(block, (tuple, list)) and len(block) in (2, 3) else block
            features: Any = gate.sparse_or_dense(X, self.dtype, self.inputs, f"X of block {place}")
            found: Floats = self.predict(features, backend=backend)
            return found

        return read_blocks(blocks, predicted)

    def _sampled(
        self, X: object, out: object, backend: str | None, samples: object, rng: object
    ) -> DropoutPrediction:
        """Return the moments of predictions with dropout, by one state of the parameters."""
        layout, path = self.layout, paths.asked(backend)
        if not any(isinstance(one.layer, Dropout) for one in layout.operations):
            raise ValueError(
                "dropout=True needs layers that drop units; this network has no fastnn.Dropout, so "
                "that all of its predictions are the same. predict(X) returns them."
            )
        if out is not None:
            raise ValueError(
                "out is for the predictions of predict(X); with dropout=True a new record of mean "
                "and spread is returned. Leave it out."
            )
        if isinstance(X, Blocks):
            raise TypeError(
                "X must be an array of numbers with dropout=True; got Blocks. Predict each block."
            )
        count = check_integer(samples, "samples", 2)
        key = int(_generator(rng).integers(2**64, dtype=np.uint64))
        features = self._readable(gate.sparse_or_dense(X, self.dtype, layout.inputs))
        if layout.coded and not isinstance(features, SparseRows):
            gate.codes(features, layout.coded, "x")
        layout, parameters = self._shown.copied(lambda: (self.layout, self._parameters.copy()))
        return in_passes(path, layout, parameters, features, count, key)

    def _by_the_book(self, features: Floats | SparseRows, out: Floats | None = None) -> Floats:
        """Return the reference's predictions of one state."""
        return self._shown.read(
            lambda parameters: paths.TEXTBOOK.predictions(
                self.layout, parameters, features, out=out
            ),
            self._parameters,
        )

    def _again(self, features: Floats | SparseRows, out: Floats) -> None:
        """Predict from a copy of one state, as another thread has shown a new one meanwhile."""
        layout, parameters = self._shown.copied(lambda: (self.layout, self._parameters.copy()))
        predictor = self._predictor_of(layout)
        if isinstance(features, SparseRows):
            predictor.sparse(parameters, features, out)
        else:
            predictor(parameters, features, out)

    def _predictor_of(self, layout: Layout) -> AnyPredictor:
        """Return what keeps the room that predictions take."""
        predictor: AnyPredictor | None
        predictor = self.__dict__["_predictor"]
        if predictor is None or predictor.layout is not layout:
            predictor = self._predictor = predictor_of(layout, self.dtype)
        return predictor

    def __call__(self, x: Floats, out: Floats | None = None) -> Floats:
        """Return the prediction for an array that needs no conversion: the short way in.

        Parameters
        ----------
        x : ndarray, shape (p,) or (n, p)
            In the network's dtype and C-contiguous; values are not checked, except for codes that
            an `Embedding` reads.
        out : ndarray, shape (m,) or (n, m), optional
            Where the result shall lie; nothing is allocated then but for the first calls.

        Returns
        -------
        ndarray, shape (m,) or (n, m)
            One prediction for one example, else one per row.

        Raises
        ------
        TypeError, ValueError
            If x or out is no such array; `predict` takes any array-like.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net(np.array([1, 2], dtype=np.float32))
        array([1.5], dtype=float32)
        """
        # What serves a single row asks only what it must: every look costs a twentieth of it, and
        # an attribute of a class that has `__getattr__` three times a key of a dictionary.
        mine = self.__dict__
        predictor, dtype = mine["_predictor"], mine["dtype"]
        if (
            predictor is not None
            and predictor.layout is mine["_layout"]
            and type(x) is np.ndarray
            and x.dtype is dtype
            and x.flags.carray
            and backends.natively()
        ):
            shape = x.shape
            if shape == predictor.row and (out is None or gate.takes(out, (predictor.outputs,), x)):
                if out is None:
                    out = np.empty(predictor.outputs, dtype)
                shown, parameters = mine["_shown"], mine["_parameters"]
                turn = shown.turn
                predictor.single(parameters, x, out)
                if turn is not shown.turn or not turn:
                    self._again(x, out)
                return out
            if len(shape) == 2 and shape[1] == predictor.inputs and shape[0]:
                results = shape[0], predictor.outputs
                if out is None or gate.takes(out, results, x):
                    if out is None:
                        out = np.empty(results, dtype)
                    shown, parameters = mine["_shown"], mine["_parameters"]
                    turn = shown.turn
                    predictor(parameters, x, out)
                    if turn is not shown.turn or not turn:
                        self._again(x, out)
                    return out
        layout = self.layout
        rows, out = gate.rows_and_results(x, out, layout.inputs, layout.outputs, dtype)
        if backends.in_force() == "native":
            predictor, shown = self._predictor_of(layout), self._shown
            turn = shown.turn
            predictor(self._parameters, rows, out)
            if shown.turn is not turn or not turn:
                self._again(rows, out)
        else:
            out[...] = self._by_the_book(rows.reshape(-1, layout.inputs)).reshape(out.shape)
        return out

    def freeze(self, weights: str | None = None) -> Frozen:
        """Return a callable that predicts as the network does now, from weights packed once.

        For many calls on fixed weights: ``frozen(x)`` and ``frozen(x, out=y)`` give the bits of
        ``net(x)``, under the same rules.  It takes a copy of the weights, so that later training,
        and writing to `parameters`, do not reach it.

        Parameters
        ----------
        weights : {None, "bfloat16"}
            As what weights are kept.  None, the default: as they are.  "bfloat16": rounded to the
            upper half of a float32, to 8 bits of precision, ties to even; biases, sums and all that
            lies between two layers stay float32.  That halves the bytes which a prediction reads,
            and about the time of one or two rows where weights are larger than the L2 cache;
            outputs change by some tenths of a percent (docs/serving.md).  For networks of float32,
            of `Dense` layers, with `Dropout` between them, `BatchNorm` that a `Dense` beside it
            takes in, and a `Standardize` and an `Embedding` in front.

        Returns
        -------
        Frozen
            With `inputs`, `outputs` and `dtype`.  It may be called from several threads at once.

        Raises
        ------
        TypeError
            If `weights` is no text, or is "bfloat16" and the network is of float64.
        ValueError
            If the network has no weights yet, `weights` is unknown, or it is "bfloat16" and there
            is a layer of another kind.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.freeze()(np.array([1, 2], dtype=np.float32))
        array([1.5], dtype=float32)
        >>> net.freeze(weights="bfloat16")(np.array([1, 2], dtype=np.float32))
        array([1.5], dtype=float32)
        """
        return self._shown.read(
            lambda parameters: Frozen(self.layout, parameters, weights), self._parameters
        )

    def jitted(self, gradient: bool = False) -> tuple[Any, ...]:
        """Return the prediction of one example as a function to be called inside ``numba.njit``.

        ``forward(weights, x, out)`` writes the prediction for x (p,) to out (m,), with the bits of
        ``net(x)``.  It takes contiguous vectors of the network's dtype; out may be x.  It allocates
        nothing, may be called from several threads at once (``prange`` too), and is compiled once
        for all networks of a dtype, so that a function with ``cache=True`` serves them all, in
        later processes too.  Python may call it as well.

        Parameters
        ----------
        gradient : bool, default False
            Whether to return the vector-Jacobian product too: ``vjp(weights, x, v, dx)`` writes
            v^T J to dx (p,), for v (m,) and the Jacobian J (m, p) of the prediction at x.  It
            computes the prediction on its way, so that it needs no call of `forward` before.

        Returns
        -------
        forward : callable
            To be called by name, or passed to a compiled function.
        weights : tuple of ndarray
            `parameters` itself, not a copy, and what describes the layers.  Pass it to your
            function as an argument: Numba would copy a global into the compiled code.
        vjp : callable
            If `gradient` is true.

        Raises
        ------
        TypeError, ValueError
            If the network has no weights yet, or layers of other kinds than `Dense`, `Dropout` and
            those of `BatchNorm` that a `Dense` beside them takes in, or layers too wide for the
            stack (more than 32 768 units in float32; fewer for `vjp`).  The functions raise them
            where vectors are of other types or lengths: types when your function is compiled,
            lengths when it is run.

        Notes
        -----
        `weights` shares the network's memory: after further training, or `set_weights`, the next
        call computes with the new weights.  There is no lock between your compiled code and a fit
        that runs at the same time in another thread: it writes the vector whenever it shows a new
        state (see `fit`), and a call meanwhile may read some old weights and some new ones.  For a
        state that stays, ``net.copy().jitted()``.  For another vector of weights with the same
        layers, ``(vector, *weights[1:])``, of the network's dtype and contiguous, also inside
        compiled code.

        With ``scale_targets``, or a `BatchNorm`, the first of the weights is a copy, whose last
        layer gives the targets' units, and which takes norms in: results agree with ``net(x)`` to
        rounding, and further training does not reach it.

        A function that Numba has kept on disk is compiled anew under a version of fastnn whose
        kernels differ, as these are part of it.  Subnormal numbers count as zero in it, as in
        ``net(x)``.

        Examples
        --------
        >>> import numba
        >>> import numpy as np
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(2, initializer=0.5)], inputs=2)
        >>> forward, weights = net.jitted()
        >>> @numba.njit
        ... def iterate(weights, x, steps):
        ...     for _ in range(steps):
        ...         forward(weights, x, x)
        >>> x = np.array([1, 3], dtype=np.float32)
        >>> iterate(weights, x, 10)
        >>> x
        array([2., 2.], dtype=float32)
        """
        check_bool(gradient, "gradient")
        made = own_activations(self.layers)
        if made:
            raise ValueError(
                f"jitted() is for the library's own activations; got {made[0]!r}, whose code lies "
                "in this process alone, where Numba may keep your function on disk. Use cfunc(), "
                "freeze() or net(x)."
            )
        embedded, parameters = self._embedded_alone("jitted")
        weights = embedded.weights(parameters, "jitted", gradient)
        forward, vjp = compiled.functions()
        return (forward, weights, vjp) if gradient else (forward, weights)

    def cfunc(self) -> compiled.CFunction:
        """Return the prediction of one example as a C function, ``void f(const T *x, T *out)``.

        For ctypes, SciPy's ``LowLevelCallable`` and everything else that calls a function by its
        address; T is ``float`` or ``double``, as the network's dtype is.

        Returns
        -------
        CFunction
            Has `address` and `ctypes`.  The function is there as long as this object or what its
            `ctypes` gave; the network need not be kept.

        Raises
        ------
        ValueError
            As `jitted`.

        Notes
        -----
        The function gives the bits of ``net(x)``.  It reads `parameters` in place, so that further
        training takes effect at once; what `jitted` says of a fit at the same time, and of
        ``scale_targets`` and `BatchNorm`, holds here too.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1)], inputs=2, dtype="float64")
        >>> function = net.cfunc()
        >>> function.inputs, function.outputs, function.address > 0
        (2, 1, True)
        """
        embedded, parameters = self._embedded_alone("cfunc")
        return compiled.CFunction(embedded, embedded.weights(parameters, "cfunc"))

    def predict_many(
        self,
        parameters: ArrayLike,
        X: ArrayLike,
        out: Floats | None = None,
        *,
        backend: str | None = None,
    ) -> Floats:
        """Predict with many vectors of parameters, such as the candidates of a search.

        Parameters
        ----------
        parameters : array-like, shape (k, size)
            One vector per row, each as `parameters` is, all beside the network's `buffers`.  Its
            values are not checked, and not copied where the array is contiguous and of the
            network's dtype.
        X : array-like, shape (n, p) or (k, n, p)
            Examples: the same for every vector, or n for each of them.
        out : ndarray, shape (k, n, m), optional
            Where to write, in the network's dtype; a new array if left out.
        backend : {None, "native", "reference"}, default None
            Which path computes.

        Returns
        -------
        ndarray, shape (k, n, m)
            With the bits that ``net.predict(X)`` gives when the network has those parameters;
            ``out`` if it was given.  The network's own parameters are not touched.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind or shape, or the network has no weights yet, or layers
            of other kinds than `Dense`, `Dropout` and those of `BatchNorm` that a `Dense` takes in.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, bias=False)], inputs=2)
        >>> net.predict_many([[1, 0], [0, 1], [1, 1]], [[2, 3]])[:, 0, 0]
        array([2., 3., 5.], dtype=float32)
        >>> net.predict_many([[1, 0], [0, 1]], [[[2, 3]], [[4, 5]]])[:, 0, 0]
        array([2., 5.], dtype=float32)
        """
        layout = self.layout
        path = paths.asked(backend)
        P = gate.parameter_vectors(parameters, layout.size, self.dtype)
        rows = gate.rows_for_each(X, len(P), self.dtype, layout.inputs)
        shape = (len(P), rows.shape[1], self.outputs)
        if out is None:
            out = np.empty(shape, self.dtype)
        else:
            out = gate.output_buffer(out, shape, self.dtype)
            P, rows = (
                given.copy() if np.may_share_memory(out, given) else given for given in (P, rows)
            )
        if path.by_engine:
            self._check_embedded("predict_many")
            predictor = self._predictor_of(layout)
            if isinstance(predictor, FoldedPredictor):
                predictor.each(P, self.buffers, rows, out)
            else:
                # As all of its layers are known.
                assert isinstance(predictor, Predictor)
                predictor.each(P, rows, out)
        else:
            for k, vector in enumerate(P):
                features = rows[k if len(rows) > 1 else 0]
                whole = np.concatenate([vector, self.buffers])
                path.predictions(layout, whole, features, out=out[k])
        return out

    def _check_embedded(self, method: str) -> None:
        """Refuse layers that compiled code cannot compute."""
        layout = self.layout
        folding = Folding.of(layout)
        for one in layout.operations if folding is None else folding.layout.operations:
            if not (one.kind.answered or one.kind.in_training):
                raise ValueError(
                    f"{method} computes networks of Dense and Dropout layers, and of BatchNorm "
                    "layers that a Dense beside them takes in; got "
                    f"{'an' if one.kind.name[0] in 'AEIOU' else 'a'} {one.kind.name} as layer "
                    f"{one.name}. net(x), net.predict and net.freeze() compute every network."
                )

    def _embedded_alone(self, method: str) -> tuple[compiled.Embedded, Floats]:
        """Return what compiled code needs, which knows neither units nor norms.

        Those are in the weights, then a copy of their own.
        """
        layout, embedded = self.layout, self._embedded
        if layout.scale is not None or layout.buffer_size:
            self._check_embedded(method)
            layout, parameters = self._shown.read(self._folded, self._parameters)
            return compiled.Embedded(layout, self.dtype), parameters
        if embedded is None or embedded.layout is not layout:
            self._check_embedded(method)
            embedded = self._embedded = compiled.Embedded(layout, self.dtype)
        return embedded, self._parameters

    def _folded(self, parameters: Floats) -> tuple[Layout, Floats]:
        """Return layout and parameters of a network that needs neither norms nor units."""
        layout, scale = self.layout, self.layout.scale
        folding = Folding.of(layout)
        if folding is not None:
            layout, parameters = folding.layout, Folder(folding, self.dtype).take(parameters)[0]
        if scale is None:
            return layout, parameters
        layers: list[Any] = [one.layer for one in layout.operations]
        size = layout.size
        layers[-1] = replace(layers[-1], bias=True)
        layout = Layout.of(layout.inputs, layers)
        vector = aligned_zeros(layout.size, self.dtype)
        vector[:size] = parameters[:size]
        W, b = layout.weights(vector)[-1], layout.biases(vector)[-1]
        assert b is not None
        W[:], b[:] = scale.folded(W, b)
        return layout, vector

    def hidden(self, X: ArrayLike, layer: int | str = -2, *, backend: str | None = None) -> Floats:
        """Return the output of a layer, counted in the layer list.

        Parameters
        ----------
        X : array-like or sparse matrix, shape (n, p)
            Examples, one per row.
        layer : int or str, default -2
            Place of the layer; negative places count from the end, so that -2 is the last
            hidden layer and -1 gives the predictions.  A text such as "1.0" names the first layer
            inside the one at place 1.
        backend : {None, "native", "reference"}, default None
            Which path computes.

        Returns
        -------
        ndarray, shape (n, units of the layer)
            Its activations; what a `Dropout` passes on is what it reads.  Those of the last layer
            are the predictions, with ``scale_targets`` too.

        Raises
        ------
        TypeError, ValueError
            If X does not fit or there is no such layer.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(5, "relu"), fn.Dense(2)], inputs=3)
        >>> net.hidden([[1.0, 2.0, 3.0]]).shape
        (1, 5)
        """
        layout = self.layout
        wanted = _place_of(layer, len(self.layers), [one.name for one in layout.operations])
        features = self._readable(gate.sparse_or_dense(X, self.dtype, layout.inputs))
        chosen = [one for one in layout.operations[: wanted + 1] if not one.kind.in_training]
        if not chosen:
            # A dropout of inputs leaves them as they are.
            return features.toarray() if isinstance(features, SparseRows) else features.copy()
        path = paths.asked(backend)
        return self._shown.read(
            lambda parameters: path.predictions(layout, parameters, features, operations=chosen),
            self._parameters,
        )

    def evaluate(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        loss: LossLike = "auto",
        metrics: MetricLike | Iterable[MetricLike] = (),
        sample_weight: ArrayLike | None = None,
        *,
        backend: str | None = None,
        missing_targets: Literal["error", "ignore"] = "error",
    ) -> dict[str, float]:
        """Return the loss, without L2, and metrics for some examples.

        Parameters
        ----------
        X, y, loss, metrics, sample_weight, backend, missing_targets
            As in `fit`.  Of `Blocks` targets and predictions are kept where there are metrics,
            until all are read.

        Returns
        -------
        dict of str to float
            "loss" and each metric.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> net.evaluate([[1, 2], [3, 4]], [1.5, 2.5], metrics="mean_absolute_error")
        {'loss': 0.5, 'mean_absolute_error': 0.5}
        """
        if isinstance(X, Blocks):
            Settings.check_weights(y, sample_weight)
            return self._evaluated_blocks(X, loss, metrics, backend, missing_targets)
        plain = sample_weight is None and backend is None and type(metrics) is tuple and not metrics
        if plain and not self.scale_targets and backends.natively():
            row, plans, shown = self._short_way(loss)
            batch, turn = plans.batch(X, y, row), shown.turn
            if batch is not None:
                value = plans.mean_loss(self._parameters, row, batch)
                if value == value and turn and shown.turn is turn:
                    return {"loss": value}
        row, data, path = self._asked(X, y, loss, sample_weight, backend, missing=missing_targets)
        layout = self.layout
        targets = row.width(layout.outputs)
        measured = resolve(metrics, row.targets, targets, quantiles=row.ordered)
        if layout.scale is not None:
            return self._evaluated(row, data, measured, path)
        if measured:
            # Functions of the user's are called once.
            parameters = self._shown.copied(self._parameters.copy)
            value = path.mean_loss(layout, parameters, row, data)()
            return {"loss": value} | metric_values(
                measured, layout, parameters, row, data, path=path
            )
        if path.by_engine and kept.Plans.suit(data):
            plans = self._plans_of()
            value = self._shown.read(
                lambda parameters: plans.mean_loss_of(parameters, row, data), self._parameters
            )
        else:
            value = self._shown.read(
                lambda parameters: path.mean_loss(layout, parameters, row, data)(),
                self._parameters,
            )
        return {"loss": value}

    def _evaluated_blocks(
        self, blocks: Blocks, loss: LossLike, metrics: MetricLike | Iterable[MetricLike],
        backend: str | None, missing: str,
    ) -> dict[str, float]:  # fmt: skip
        """Return the loss and metrics of blocks: of the state that is shown at the beginning."""
        row, path = resolve_loss(loss, self._last.activation), paths.asked(backend)
        targets = row.width(self.layout.outputs)
        measured = resolve(metrics, row.targets, targets, quantiles=row.ordered)
        missing = _check_missing(missing)
        layout, parameters = self._shown.copied(lambda: (self.layout, self._parameters.copy()))

        def take(block: Any, place: int) -> Data:
            return self._block(block, place, row, missing, layout.scale)

        return evaluated(read_blocks(blocks, take), layout, parameters, row, measured, path)

    def _evaluated(
        self, loss: Loss, data: Data, metrics: Sequence[Metric], path: Path
    ) -> dict[str, float]:
        """Return the loss and metrics in the units of targets, which come at unit scale."""
        layout, parameters = self._shown.copied(lambda: (self.layout, self._parameters.copy()))
        scale = layout.scale
        assert scale is not None
        outputs = path.predictions(layout.with_scale(None), parameters, data.X)
        value = scale.mean_loss(loss, outputs, data)
        found = metric_values(metrics, layout, parameters, loss, data, path=path, scale=scale)
        return {"loss": value} | found

    def _short_way(self, loss: object) -> tuple[Loss, kept.Plans, Shown]:
        """Return what a question about plain arrays is answered with."""
        plans = self._plans_of()
        return resolve_loss(loss, self._last.activation), plans, self._shown

    def _asked(
        self,
        X: object,
        y: object,
        loss: object,
        sample_weight: object,
        backend: str | None,
        dense: bool = False,
        missing: str = "error",
    ) -> tuple[Loss, Data, Path]:
        """Return the loss's row, the examples and the path that a question is answered with."""
        inputs = self.layout.inputs
        row = resolve_loss(loss, self._last.activation)
        path = paths.asked(backend)
        missing = _check_missing(missing)
        data = self._data(X, y, row, sample_weight, inputs, dense=dense, missing=missing)
        if self.scale_targets:
            data = self._inside(data, self.layout.scale)
        return row, data, path

    def trace(
        self, X: ArrayLike, y: ArrayLike, loss: LossLike = "auto", *, backend: str | None = None
    ) -> Trace:
        """Return the textbook's intermediates of one forward and backward pass.

        Parameters
        ----------
        X, y, loss, backend
            As in `fit`, X dense; the examples are taken as one batch.

        Returns
        -------
        Trace
            ``loss``, and lists by Dense layer from 0: ``Z``, ``A`` and ``dZ`` of shape (n, h),
            ``dW`` of shape (h_in, h_out), ``db`` of shape (h_out,).  L2 is left out.  With
            ``scale_targets`` all is of targets at unit scale.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, "sigmoid", initializer="zeros")], inputs=2)
        >>> t = net.trace([[0.5, 0.2]], [1])
        >>> t.A[-1], t.dZ[-1]
        (array([[0.5]], dtype=float32), array([[-0.5]], dtype=float32))
        """
        row, data, path = self._asked(X, y, loss, None, backend, dense=True)
        return self._shown.read(
            lambda parameters: path.trace(self.layout, parameters, row, data), self._parameters
        )

    def loss_and_gradient(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: LossLike = "auto",
        *,
        sample_weight: ArrayLike | None = None,
        backend: str | None = None,
        missing_targets: Literal["error", "ignore"] = "error",
    ) -> tuple[float, Floats]:
        """Return the training loss of some examples, with L2, and its gradient.

        Parameters
        ----------
        X, y, loss, sample_weight, backend, missing_targets
            As in `fit`; the examples are taken as one batch.

        Returns
        -------
        loss : float
            What training minimises, with the L2 penalty.
        gradient : ndarray, shape (parameters,)
            Aligned with `parameters`, L2 included.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer="zeros")], inputs=2)
        >>> net.loss_and_gradient([[1.0, 2.0]], [3.0])
        (9.0, array([ -6., -12.,  -6.], dtype=float32))
        """
        plain = sample_weight is None and backend is None and not self.scale_targets
        if plain and backends.natively():
            row, plans, shown = self._short_way(loss)
            batch, turn = plans.batch(X, y, row), shown.turn
            if batch is not None:
                value, gradient = plans.loss_and_gradient(self._parameters, row, batch)
                if value == value and turn and shown.turn is turn:
                    return value, gradient
        row, data, path = self._asked(X, y, loss, sample_weight, backend, missing=missing_targets)
        if path.by_engine and kept.Plans.suit(data):
            plans = self._plans_of()
            return self._shown.read(
                lambda parameters: plans.loss_and_gradient_of(parameters, row, data),
                self._parameters,
            )
        return self._shown.read(
            lambda parameters: path.slope(self.layout, parameters, row, data)(), self._parameters
        )

    def objective(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: LossLike = "auto",
        *,
        sample_weight: ArrayLike | None = None,
        backend: str | None = None,
        missing_targets: Literal["error", "ignore"] = "error",
    ) -> kept.Objective:
        """Return the training loss of some examples as a function of the flat parameters.

        For optimizers and samplers of other libraries, such as ``scipy.optimize.minimize`` with
        ``jac=True``: X and y are checked once, and a call costs little more than its arithmetic.

        Parameters
        ----------
        X, y, loss, sample_weight, backend, missing_targets
            As in `fit`; the examples are taken as one batch.  They are copied: arrays that are
            changed afterwards change nothing.

        Returns
        -------
        callable
            ``f(vector) -> (loss, gradient)`` for a vector of shape (parameters,) in the order of
            `parameters`, of any numbers: what `loss_and_gradient` gives a network of these
            parameters, L2 included.  The gradient is a new array in the network's dtype.  The
            network itself is neither read nor changed, and several threads may call it at once.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import fastnn as fn
        >>> from scipy.optimize import minimize
        >>> net = fn.Sequential([fn.Dense(1)], inputs=1, dtype="float64")
        >>> f = net.objective([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
        >>> net.parameters = minimize(f, net.parameters, jac=True).x
        >>> net.parameters.round(3)
        array([2., 1.])
        """
        row, data, path = self._asked(X, y, loss, sample_weight, backend, missing=missing_targets)
        buffers = self._shown.copied(self.buffers.copy)
        return kept.Objective(self.layout, self.dtype, row, data.copy(), path, buffers)

    def diagnose(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: LossLike = "auto",
        *,
        optimizer: OptimizerLike = Adam(),  # noqa: B008  (a frozen record)
        backend: str | None = None,
    ) -> Diagnosis:
        """Look into every layer: activations, dead and saturated units, gradients, in words too.

        Parameters
        ----------
        X, y, loss, backend
            As in `fit`, X dense; the examples are taken as one batch.
        optimizer : one of the optimizers or its name, default Adam()
            Whose first step the update-to-weight ratio is measured with.  The network itself is
            not changed.

        Returns
        -------
        Diagnosis
            Numbers by layer in ``layers``, sentences in ``findings``; printing it shows both.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or the network has no weights yet.

        Examples
        --------
        >>> import numpy as np
        >>> import fastnn as fn
        >>> X = np.random.default_rng(0).normal(size=(100, 5))
        >>> layer = fn.Dense(10, "sigmoid", initializer="glorot_uniform")
        >>> report = fn.Sequential([*[layer] * 8, fn.Dense(1)], inputs=5).diagnose(X, X[:, 0])
        >>> report.findings[0][:16]
        'Gradients vanish'
        """
        layout = self.layout
        rule = resolve_optimizer(optimizer)
        stepped = self.copy()
        if self.scale_targets and layout.scale is None:
            stepped.adapt(X, y=y)
        row, data, path = stepped._asked(X, y, loss, None, backend, dense=True)
        if stepped._unmeasured:
            stepped._measure(data.X, data.weights)
        before = stepped._parameters.copy()
        seen = path.trace(layout.predicting(), before, row, data)
        stepped._state = None
        # Steps without dropout, as all else here is measured without it.
        stepped._layout = stepped.layout.without_training()
        after, trial = None, []
        try:
            for _ in range(TRIAL_STEPS + 1):
                trial.append(stepped.train_on_batch(X, y, loss, rule, backend=path.name))
                after = stepped._parameters.copy() if after is None else after
        except DivergenceError:
            trial += [math.inf] * (TRIAL_STEPS + 1 - len(trial))
        targets = data.targets.as_rows(row.width(self.outputs), self.dtype)
        columns = []
        if not self._measuring:
            features = gate.features(X, "float64", layout.inputs)
            if self._coded:
                # Codes have no scale.
                features = features.copy()
                features[:, [column for column, _ in self._coded]] = 0.0
            columns.append(Columns.of("X", features, self.dtype))
        if row.targets == "real" and not self.scale_targets:
            exact = gate.targets(y, "real", self.outputs, len(data), "float64", each=row.outputs)
            columns.append(Columns.of("y", exact.values, self.dtype))
        facts = Facts(
            layout=layout,
            layers=tuple(layer for _, layer in named(self.layers) if isinstance(layer, Dense)),
            parameters=before,
            stepped=after,
            trial=tuple(trial),
            loss=row,
            targets=targets,
            columns=tuple(columns),
            trained=self._trained,
        )
        return diagnose(facts, seen)

    @property
    def _trained(self) -> bool:
        """Whether the parameters are other than drawn, as far as can be told."""
        biases = any(
            b is not None and b.any()
            for start, b in zip(starts(self.layers), self.biases, strict=True)
            if not start.spread  # Those start other than at zero.
        )
        return self._streams.steps > 0 or biases

    # Keeping.

    def copy(self) -> Sequential:
        """Return a network of its own with the same layers, parameters, states and streams.

        Returns
        -------
        Sequential
            It shares nothing with this one.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1)], inputs=2)
        >>> twin = net.copy()
        >>> twin.parameters[:] = 0
        >>> bool(net.parameters.any())
        True
        """
        twin = copy.deepcopy(self)
        # Nothing writes to it.
        twin._fit_state = self._fit_state
        return twin

    def __copy__(self) -> Sequential:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return pickles.reduced(self)

    def __getstate__(self) -> dict[str, Any]:
        return self._shown.copied(self._taken_down)

    def _taken_down(self) -> dict[str, Any]:
        """Return what makes this network, in plain values, sharing nothing that a fit writes."""
        streams = self._streams
        theirs = {name: value for name, value in vars(self).items() if name not in _OWN}
        size = 0 if self._layout is None else self._layout.size
        parameters, buffers = self._parameters[:size], self._parameters[size:]
        return pickles.sealed(
            {
                # First, as layers name them.
                **({"own": made} if (made := own_activations(self.layers)) else {}),
                "layers": [to_dict(layer, functions=True) for layer in self.layers],
                "inputs": self.inputs,
                "dtype": str(self.dtype),
                # A plain copy: what is pickled or copied shall not carry the alignment's padding.
                "parameters": parameters.copy(),
                **({"buffers": buffers.copy()} if buffers.size else {}),
                **({"target_scale": self.target_scale} if self.scale_targets else {}),
                "weights_rng": self._weights_rng,
                "order_key": streams.order_key,
                "orders_drawn": streams.drawn,
                "mask_key": streams.mask_key,
                "steps_taken": streams.steps,
                "training": pickles.state_to_plain(self._state),
                "classes": self._classes,
                "attributes": theirs,
            }
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = pickles.opened(state)
        self.__dict__.update(state["attributes"])
        self.layers = check_layers([from_dict(layer) for layer in state["layers"]])
        self.dtype = _check_dtype(state["dtype"])
        self._weights_rng = state["weights_rng"]
        self._streams = Streams(
            *(state[name] for name in ("order_key", "mask_key", "orders_drawn", "steps_taken"))
        )
        self._state = pickles.state_of(state["training"])
        self._fit_state = None
        self._classes = state["classes"]
        self._share_with_nobody()
        inputs, values = state["inputs"], state["parameters"]
        self._layout = None if inputs is None else Layout.of(inputs, self.layers)
        self._scale_targets = "target_scale" in state
        scale = state.get("target_scale")
        if scale is not None and self._layout is not None:
            arrays = dict(zip(("mean", "deviation"), scale, strict=True))
            self._layout = self._layout.with_scale(self._scale_of_arrays(arrays))
        held = state.get("buffers", values[:0])
        self._parameters = aligned_zeros(values.size + held.size, values.dtype)
        np.concatenate([values, held], out=self._parameters)

    def save(self, path: str | os.PathLike[str], *, state: bool = False) -> None:
        """Write architecture, parameters, dtype and `classes` to a file that holds no code.

        The file is a safetensors container: an 8-byte length, a JSON header, raw data.  It is
        written whole or not at all; an existing file is replaced.

        Parameters
        ----------
        path : path-like
            Where to write.
        state : bool, default False
            Whether to write the state of the last fit too: moments, orders, history and what
            callbacks know, so that a fit may go on from it (``resume``), here or in a network
            that was read from the file.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError
            If a callback's state holds what no file can.
        ValueError
            If the network has no weights yet, or ``state`` is asked for and there is none.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1)], inputs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "net.fastnn"
        ...     net.save(path)
        ...     bool((fn.load(path).parameters == net.parameters).all())
        True
        """
        check_bool(state, "state")
        known = self._fit_state if state else None
        if state and known is None:
            raise ValueError(
                "state must be False for a network that keeps no state of a fit: there was none, "
                "it failed, steps of train_on_batch came after it, or a pickle left it out."
            )
        # One state, whatever another thread trains meanwhile: sums are taken, and bytes written,
        # of the same copy.
        parameters, streams = self._shown.copied(
            lambda: (self._parameters.copy(), replace(self._streams))
        )
        self._write_file(path, parameters, streams, known)

    def _write(self, path: str, parameters: Floats, state: FitState) -> None:
        """Write a file with other parameters in their place, and with a fit's state."""
        self._write_file(path, parameters, state.streams, state)

    def _write_file(
        self, path: str | os.PathLike[str], parameters: Floats, streams: Streams,
        state: FitState | None,
    ) -> None:  # fmt: skip
        """Write these parts into a file."""
        layout = self.layout
        description = {
            "version": _FORMAT_VERSION,
            "layers": [to_dict(layer) for layer in self.layers],
            "inputs": layout.inputs,
            "dtype": str(self.dtype),
            # Python's integers are exact, JSON readers' need not be.
            "order_key": str(streams.order_key),
            "orders_drawn": streams.drawn,
            "mask_key": str(streams.mask_key),
            "steps_taken": streams.steps,
        }
        if self._classes is not None:
            description["classes"] = labels_to_plain(self._classes)
        if self.scale_targets:
            description["scale_targets"] = True
        tensors: dict[str, NDArray[Any]] = {
            entry.name: layout.view(parameters, entry)
            for entry in (*layout, *layout.buffers.values())
        }
        if layout.scale is not None:
            tensors[f"{_OF_TARGETS}mean"] = layout.scale.mean
            tensors[f"{_OF_TARGETS}deviation"] = layout.scale.deviation
        texts = {"format": _FORMAT, "network": json.dumps(description)}
        if state is not None:
            texts["fit"], arrays = state.to_plain()
            tensors |= {f"{_OF_FIT}{name}": array for name, array in arrays.items()}
        safetensors.write(path, tensors, texts)

    def to_c(
        self,
        path: str | os.PathLike[str],
        X: ArrayLike | None = None,
        *,
        name: str = "network",
        quantize: str | None = None,
    ) -> None:
        """Write the network as one file of C99 that needs no more than ``math.h``.

        The file defines ``void network_predict(const float *x, float *y)`` for one example
        (``double`` in a network of float64) and, where its outputs together name one class,
        ``int network_class(const float *x)``, the place of that class in ``network_classes``, the
        labels of `classes`.  It allocates nothing, keeps nothing between calls, and its weights
        are constants.  With ``NETWORK_SELF_TEST`` defined it has a ``main`` that compares its
        answers for some rows with this network's.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced.
        X : array-like, shape (n, p), optional
            Examples: the first ones are the rows of the self-test, drawn where none are given;
            on all of them the cost of ``quantize`` is measured.
        name : str, default "network"
            What every name in the file begins with.
        quantize : {None, "int8"}, default None
            With "int8" a weight takes a byte: it is a whole number from -127 to 127 times a scale
            for each unit.  Biases and sums stay in the network's dtype.  How far the outputs then
            lie from those of full precision on X is written into the head of the file.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If an argument is not of its kind; if the network has no weights yet, or some that are
            not finite; if ``quantize`` is given without X.

        Notes
        -----
        Answers agree with `predict` to rounding: sums are taken in another order.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "net.c"
        ...     net.to_c(path, name="half")
        ...     "void half_predict(const float *x, float *y);" in path.read_text()
        True
        """
        if quantize not in (None, "int8"):
            raise ValueError(f"quantize must be None or 'int8'; got {describe(quantize)}.")
        if quantize and X is None:
            raise ValueError(
                "quantize='int8' needs X: examples like those that will come, on which its cost "
                "is measured."
            )
        from fastnn.exports.c_source import c_source, check_identifier
        from fastnn.exports.plain import Quantized, Trial

        name = check_identifier(name)
        plain, rows = self._exported(X)
        levels = Quantized.of(plain, rows) if quantize and rows is not None else None
        trial = Trial.of(plain if levels is None else levels.network, rows)
        text = c_source(plain, name, trial, levels)
        write_atomically(path, [text.encode("ascii")])

    def to_python(self, path: str | os.PathLike[str], X: ArrayLike | None = None) -> None:
        """Write the network as one module of Python that needs NumPy alone.

        The module has ``predict(X)`` and, where the outputs together name one class,
        ``classify(X)``, which gives labels of `classes` or numbers.  Run as a program, it compares
        its answers for some rows with this network's.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced.
        X : array-like, shape (n, p), optional
            Examples, of which the first ones are the rows of the self-test; drawn if left out.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If X is not of its kind, or the network has no weights yet, or some that are not
            finite.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1, initializer=0.5)], inputs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "half.py"
        ...     net.to_python(path)
        ...     module = {"__name__": "half"}
        ...     exec(path.read_text(), module)
        >>> module["predict"]([[1, 2], [3, 4]])
        array([[1.5],
               [3.5]], dtype=float32)
        """
        from fastnn.exports.plain import Trial
        from fastnn.exports.python_source import python_source

        plain, rows = self._exported(X)
        text = python_source(plain, Trial.of(plain, rows))
        write_atomically(path, [text.encode()])

    def to_torch(self) -> Any:
        """Return a ``torch.nn.Sequential`` that computes what the network does.

        Returns
        -------
        torch.nn.Sequential
            Of ``Linear``, activation, norm, ``PReLU`` and ``Dropout`` modules, and of a few of this
            library's for what PyTorch has no module for, with copies of the weights, in the
            network's dtype and in the mode of evaluation.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If the network has no weights yet, or some that are not finite.

        See Also
        --------
        fastnn.from_torch : The way back.

        Examples
        --------
        >>> import fastnn as fn
        >>> module = fn.Sequential([fn.Dense(1)], inputs=2).to_torch()  # doctest: +SKIP
        """
        plain, _ = self._exported(None, apart=True)
        try:
            from fastnn.exports.torch_out import to_torch
        except ImportError as problem:
            raise ImportError("to_torch needs PyTorch: see https://pytorch.org.") from problem
        return to_torch(plain)

    def to_keras(self) -> Any:
        """Return a ``keras.Sequential`` that predicts what the network does.

        Returns
        -------
        keras.Sequential
            With copies of the weights, in the network's dtype, on whichever backend Keras has.

        Raises
        ------
        ImportError
            If Keras, or a backend of it, is not installed.
        ValueError
            If the network has no weights yet, or some that are not finite, or a layer that a
            ``Sequential`` of Keras's has not: `Residual`, `Embedding`, `NumericEmbedding`, and the
            activations "sin" and "increasing".

        See Also
        --------
        fastnn.from_keras : The way back.

        Examples
        --------
        >>> import fastnn as fn
        >>> model = fn.Sequential([fn.Dense(1)], inputs=2).to_keras()  # doctest: +SKIP
        """
        plain, _ = self._exported(None, apart=True)
        try:
            from fastnn.exports.keras_out import to_keras
        except ImportError as problem:
            raise ImportError("to_keras needs Keras: see https://keras.io.") from problem
        return to_keras(plain)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as an ONNX file: a ``Gemm`` and its activation's operators per `Dense`.

        The input is ``X`` (n, p), the output ``Y`` (n, m), in the network's dtype; labels of
        `classes` stand in the metadata.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced.

        Raises
        ------
        ImportError
            If the package ``onnx`` is not installed.
        OSError
            If the file cannot be written.
        ValueError
            If the network has no weights yet, or some that are not finite.

        See Also
        --------
        fastnn.from_onnx : The way back.

        Examples
        --------
        >>> import fastnn as fn
        >>> net = fn.Sequential([fn.Dense(1)], inputs=2)
        >>> net.to_onnx("net.onnx")  # doctest: +SKIP
        """
        plain, _ = self._exported(None)
        try:
            from fastnn.exports.onnx_out import onnx_model
        except ImportError as problem:
            raise ImportError("to_onnx needs onnx: python -m pip install onnx.") from problem
        write_atomically(path, [onnx_model(plain)])

    def _exported(
        self, X: ArrayLike | None, apart: bool = False
    ) -> tuple[PlainNetwork, Floats | None]:
        """Return the network as plain arrays, of one state, and checked rows if there are any."""
        from fastnn.exports.plain import PlainNetwork

        layout = self.layout
        rows = None if X is None else self._readable(gate.features(X, self.dtype, layout.inputs))
        parameters = self._shown.copied(self._parameters.copy)
        return PlainNetwork.of(layout, parameters, self._classes, apart), rows


def _place_of(layer: int | str, count: int, names: Sequence[str]) -> int:
    """Return which of the operations is that of a layer: one of so many, or by its name."""
    if isinstance(layer, str):
        if layer not in names:
            known = ", ".join(sorted(names, key=lambda name: [int(n) for n in name.split(".")]))
            raise ValueError(f"layer must name a layer, one of {known}; got {describe(layer)}.")
        return names.index(layer)
    place = check_integer(layer, "layer", -count)
    if place >= count:
        raise ValueError(
            f"layer must be a place in a list of {count} layers, {-count} to {count - 1}; "
            f"got {describe(layer).removesuffix(' (int)')}."
        )
    return names.index(str(range(count)[place]))


def _begin_fit(fitting: dict[int, object], process: int, me: object) -> None:
    """Take a network's turn to be fitted, or refuse a second fit at the same time.

    An interruption may come as soon as the turn is taken; only the thread that took it ends it.
    """
    if fitting.setdefault(process, me) is not me:
        raise RuntimeError(
            "this network is being fitted already; two fits on one network at once would "
            "write over each other. Fit a copy: net.copy()."
        )


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a network that `Sequential.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Sequential
        With the same layers, parameters, dtype and `classes`; a later fit draws the orders, and
        drops the units, that the saved network would have drawn and dropped.

    Raises
    ------
    ModelFileError
        If the file is damaged, or is not a fastnn network.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import fastnn as fn
    >>> fn.load("no-such-file.fastnn")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'no-such-file.fastnn'
    """
    saved: _Saved | None = None

    def accept(texts: dict[str, str], room: int, count: int) -> bool:
        # A file of few arrays may first say that it is damaged; many cost time and memory.
        nonlocal saved
        # Those of a fit are few beside the network's.
        count -= _FEW_ARRAYS if "fit" in texts else 0
        count -= 2 if '"scale_targets"' in texts.get("network", "") else 0
        if count > _FEW_ARRAYS:
            _check_kind(path, texts)
            # No layer has many arrays, or one without numbers.
            most = _ARRAYS_OF_A_LAYER * texts["network"].count('"layer"')
            # But for one that lists their sizes.
            most += texts["network"].count(",") // 2
            if count * _LEAST_BYTES > room or count > most:
                raise _not_ours(path, _OTHER_ARRAYS)
            saved = _described(path, texts, room, count)
            if count > len(saved.layout) + len(saved.layout.buffers):
                raise _not_ours(path, _OTHER_ARRAYS)
        # What is not ours is told so first, whatever else it lacks.
        return texts.get("format") == _FORMAT

    tensors, texts = safetensors.read(path, accept)
    fit = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_OF_FIT)}
    scale = {
        name.removeprefix(_OF_TARGETS): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(_OF_TARGETS)
    }
    if saved is None:
        _check_kind(path, texts)
        room = sum(array.nbytes for array in tensors.values())
        saved = _described(path, texts, room, len(tensors))
    try:
        net = _rebuilt(saved, tensors, scale)
        if fit or "fit" in texts:
            known = {name.removeprefix(_OF_FIT): array for name, array in fit.items()}
            plain = safetensors.parse(texts["fit"].encode(), "the fit's state")
            net._fit_state = FitState.of_plain(plain, known, net._parameters)
        return net
    except (TypeError, ValueError, KeyError) as problem:
        raise _not_ours(path, problem) from problem


def _not_ours(path: str | os.PathLike[str], problem: object) -> ModelFileError:
    """Return what a file gets that does not describe the network that it holds."""
    return ModelFileError(
        f"{os.fspath(path)}: expected the description of a network that fastnn saved; "
        f"got one that does not hold together: {problem}"
    )


class _Saved(NamedTuple):
    """A network as a file describes it, checked but for its labels."""

    layers: tuple[Layer, ...]
    inputs: int
    dtype: np.dtype[Any]
    layout: Layout
    streams: Streams
    description: dict[str, Any]


def _check_kind(path: str | os.PathLike[str], texts: dict[str, str]) -> None:
    """Refuse a file of which the texts do not say that it is a network."""
    found = texts.get("format")
    if found != _FORMAT or "network" not in texts:
        hint = " Estimators are read by fastnn.load_estimator." if found == _ESTIMATOR else ""
        raise ModelFileError(
            f"{os.fspath(path)}: expected a network that fastnn saved; got a safetensors file "
            f"of another kind (format {describe(found)}).{hint}"
        )


def _described(
    path: str | os.PathLike[str], texts: dict[str, str], room: int, count: int
) -> _Saved:
    """Return what a file of so many bytes of data in so many arrays says of its network."""
    try:
        # Layers without arrays, such as dropouts and blocks, are not many beside the others; the
        # network and its labels are objects too.  There is an output for each label, a number for
        # each output.
        objects, most = 4 * count + _FEW_ARRAYS, room // _LEAST_BYTES
        text = texts["network"].encode()
        return _saved(safetensors.parse(text, "the description", objects, most))
    except (TypeError, ValueError, KeyError) as problem:
        raise _not_ours(path, problem) from problem


def _saved(description: Any) -> _Saved:
    """Return the network of a file's description, or raise what does not fit."""
    expected = {
        "version", "layers", "inputs", "dtype", "order_key", "orders_drawn", "mask_key",
        "steps_taken",
    }  # fmt: skip
    optional = {"classes", "scale_targets"}
    if not isinstance(description, dict) or description.keys() - optional != expected:
        came = describe(description)
        if isinstance(description, dict):
            came = " and ".join(
                f"{how} {describe(sorted(names))}"
                for how, names in (
                    ("no", expected - description.keys()),
                    ("also", description.keys() - expected - optional),
                )
                if names
            )
        raise ValueError(f"a network must have {', '.join(sorted(expected))}; got {came}.")
    version = check_integer(description["version"], "version", 1)
    if version != _FORMAT_VERSION:
        raise ValueError(f"version must be {_FORMAT_VERSION}; got {version}.")
    keys = [_key(description, name) for name in ("order_key", "mask_key")]
    counts = [_count(description, name) for name in ("orders_drawn", "steps_taken")]
    dtype = _check_dtype(description["dtype"])
    layers = check_layers(_layers(description["layers"]))
    inputs = check_integer(description["inputs"], "inputs", 1)
    streams = Streams(*keys, *counts)
    return _Saved(layers, inputs, dtype, Layout.of(inputs, layers), streams, description)


def _layers(plain: Iterable[Any]) -> list[Layer]:
    """Return the layers that a file describes; those alike are checked once."""
    known: dict[Any, Layer] = {}
    found = []
    for data in plain:
        if not isinstance(data, dict) or any(isinstance(v, (dict, list)) for v in data.values()):
            found.append(from_dict(data))
            continue
        # True and 1 are equal, and only one of them is a flag.
        key = (*data.items(), *map(type, data.values()))
        if key not in known:
            known[key] = from_dict(data)
        found.append(known[key])
    return found


def _rebuilt(
    saved: _Saved, tensors: dict[str, NDArray[Any]], scale: dict[str, NDArray[Any]]
) -> Sequential:
    """Return the network of a file's description and arrays, or raise what does not fit."""
    scaled = check_bool(saved.description.get("scale_targets", False), "scale_targets")
    if scale and not scaled:
        raise ValueError("a network without scale_targets must not have a scale of targets.")
    shapes = {name: array.shape for name, array in tensors.items()}
    # Checked before any weight is drawn: a lying description must not cost memory.
    entries = [*saved.layout, *saved.layout.buffers.values()]
    if shapes != {entry.name: entry.shape for entry in entries}:
        raise ValueError(_OTHER_ARRAYS)
    if any(array.dtype != saved.dtype for array in tensors.values()):
        raise ValueError(f"its arrays are not of its dtype, {saved.dtype}.")
    net = Sequential(saved.layers, saved.inputs, saved.dtype, scale_targets=scaled)
    if scale:
        net._layout = net.layout.with_scale(net._scale_of_arrays(scale))
    for entry in entries:
        saved.layout.view(net._parameters, entry)[:] = tensors[entry.name]
    net._streams = saved.streams
    if "classes" in saved.description:
        net.classes = labels_of(saved.description["classes"])
    return net


def _key(description: dict[str, Any], name: str) -> int:
    """Return the key of a stream from a file's description."""
    key = description[name]
    if not isinstance(key, str) or not (key.isascii() and key.isdigit() and len(key) <= 20):
        raise ValueError(f"{name} must be a string of digits; got {describe(key)}.")
    return int(key) % 2**64


def _count(description: dict[str, Any], name: str) -> int:
    """Return how far a stream is from a file's description."""
    count = check_integer(description[name], name, 0)
    if count >= 2**63:
        raise ValueError(f"{name} must be below 2**63; got {count}.")
    return count


def _check_missing(missing_targets: object) -> str:
    """Return what is to be done with NaN among targets, or say what may be."""
    if missing_targets not in ("error", "ignore"):
        raise ValueError(
            f"missing_targets must be 'error' or 'ignore'; got {describe(missing_targets)}."
        )
    return str(missing_targets)


def _check_dtype(dtype: object) -> np.dtype[Any]:
    """Return the network's dtype, or say which there are."""
    if isinstance(dtype, str):
        name = dtype
    else:
        name = str(dtype) if isinstance(dtype, np.dtype) else getattr(dtype, "__name__", "")
    if name not in _DTYPES:
        raise ValueError(f"dtype must be 'float32' or 'float64'; got {describe(dtype)}.")
    return _DTYPES[name]


def _streams(rng: object) -> list[np.random.Generator]:
    """Return the streams of first weights, of orders and of what dropout keeps."""
    if isinstance(rng, np.random.SeedSequence):
        # Spawning counts in the sequence itself, which stays the caller's.
        rng = copy.deepcopy(rng)
    generator = _generator(rng)
    try:
        return generator.spawn(3)
    except TypeError:
        raise TypeError(
            f"{_WANTED_RNG}; got a Generator of which no other can be spawned. Give one that "
            "numpy.random.default_rng made, or its seed."
        ) from None


def _generator(rng: object) -> np.random.Generator:
    """Return the generator that an argument stands for."""
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, (bool, np.timedelta64)):
        if rng < 0:
            raise ValueError(f"{_WANTED_RNG}; got {describe(rng)}.")
    elif rng is not None and not isinstance(rng, _SEEDS):
        # NumPy would take more, and fail at some of it with words of its own.
        raise TypeError(f"{_WANTED_RNG}; got {describe(rng)}.")
    return np.random.default_rng(rng)
