"""The demonstration: handwritten digits, learnt, compared and drawn.

``python -m fastnn demo`` runs it.  It needs scikit-learn, for the images and for its own
multilayer perceptron, and matplotlib, for the picture; both come with the extra ``demo``.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fn

__all__ = ["Outcome", "run"]

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

_SIDE = 8
_BRIGHTEST = 16.0
_CLASSES = 10
_TEST_FRACTION = 0.2
_VALIDATION_FRACTION = 0.1
_HIDDEN = 256
_LEARNING_RATE = 0.001
_BATCH_SIZE = 32
_PATIENCE = 15

_PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}

# Blue and orange of Okabe and Ito's palette, which colour-blind readers tell apart, and a red
# that a frame and a second figure accompany wherever it means something.
_TRAINING, _VALIDATION, _WRONG = "#0072B2", "#E69F00", "#C8102E"
_INK, _PALE, _FAINT = "#222222", "#767676", "#D9D9D9"
_ROWS, _COLUMNS = 5, 8
_LEFT, _BOTTOM, _TOP = 0.05, 0.08, 0.79  # shares of the picture


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demonstration measured.

    Attributes
    ----------
    accuracy : float
        Share of the held-out images that fastnn reads rightly, 0 to 1.
    seconds : float
        Time of its fit, without the first call's compilation.
    epochs : int
        Epochs of that fit.
    sklearn_accuracy, sklearn_seconds : float or None
        The same of scikit-learn's MLPClassifier; None where it was left out.
    picture : Path
        The picture that was written.
    """

    accuracy: float
    seconds: float
    epochs: int
    sklearn_accuracy: float | None
    sklearn_seconds: float | None
    picture: Path


@dataclass(frozen=True, slots=True)
class _Digits:
    """The images in three parts, a row of 64 pixels from 0 to 1 each, and their labels."""

    X: Floats
    y: Labels
    X_validation: Floats
    y_validation: Labels
    X_test: Floats
    y_test: Labels


def run(
    output: str | os.PathLike[str] = "fastnn-demo.png",
    *,
    epochs: int = 30,
    seed: int = 0,
    compare: bool = True,
    backend: str | None = None,
) -> Outcome:
    """Train on scikit-learn's handwritten digits, report and draw how well it went.

    Parameters
    ----------
    output : path, default "fastnn-demo.png"
        Where the picture goes; the ending chooses its format.
    epochs : int, default 30
        Epochs at most; training stops before where the validation loss no longer falls.
    seed : int, default 0
        Seed of the parts, the first weights and the order of examples, 0 to 2**32 - 1.
    compare : bool, default True
        Whether to give the same job to scikit-learn's MLPClassifier.
    backend : {None, "native", "reference"}, default None
        Which path computes; None follows `fastnn.backend`.

    Returns
    -------
    Outcome
        The figures that were printed.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn or matplotlib is missing; the message is the command that installs them.
    OSError
        If the picture cannot be written.

    Notes
    -----
    Each training image is also shown moved by half a pixel in the eight directions.  Both
    libraries get the same rows in float32, and one thread.  fastnn keeps the weights of the
    epoch with the lowest validation loss, scikit-learn those of its last.

    Examples
    --------
    >>> import fastnn.demo
    >>> outcome = fastnn.demo.run("digits.png")  # doctest: +SKIP
    """
    _check_packages()
    from threadpoolctl import threadpool_limits

    digits = _load(seed)
    print(
        f"fastnn {fn.__version__}: handwritten digits, {_SIDE} x {_SIDE} pixels\n"
        f"  {len(digits.y):,} images to train on (each also moved by half a pixel, 8 ways), "
        f"{len(digits.y_validation):,} to validate, {len(digits.y_test):,} held out\n"
        f"  {_SIDE**2}-{_HIDDEN}-{_CLASSES} network, relu and softmax, float32; "
        f"Adam, batches of {_BATCH_SIZE}, at most {epochs} epochs\n",
        flush=True,
    )
    X, y = _moved(digits)
    print("First call, which compiles the kernels once on a machine ... ", end="", flush=True)
    print(f"{_compile(backend):.2f} s", flush=True)
    # On matrices this small a second thread costs more than it gains, on a busy machine tenfold.
    with threadpool_limits(1):
        net, history, seconds = _train(digits, X, y, epochs, seed, backend)
        theirs = _train_sklearn(digits, X, y, history.epochs, seed) if compare else None
    predicted = np.argmax(net.predict(digits.X_test, backend=backend), axis=1)
    accuracy = float(np.mean(predicted == digits.y_test))

    print(f"\n{'':14}{'held-out accuracy':>19}{'time of fit':>13}")
    _print_row("fastnn", accuracy, seconds, len(digits.y_test))
    if theirs is not None:
        _print_row("scikit-learn", *theirs, len(digits.y_test))
    print(
        f"\nTimed: {history.epochs} epochs of {len(y):,} rows on one thread, without compiling; "
        "fastnn's time\nincludes measuring accuracies and validation loss after every epoch."
    )
    picture = Path(output)
    _draw(digits, predicted, history, _subtitle(history, len(y), seconds, theirs)).savefig(
        picture, dpi=150, facecolor="white"
    )
    print(f"Picture: {picture.resolve()}")
    return Outcome(
        accuracy=accuracy,
        seconds=seconds,
        epochs=history.epochs,
        sklearn_accuracy=None if theirs is None else theirs[0],
        sklearn_seconds=None if theirs is None else theirs[1],
        picture=picture,
    )


def _check_packages() -> None:
    """Say in one line what is missing and how to get it."""
    missing = [name for module, name in _PACKAGES.items() if not find_spec(module)]
    if missing:
        raise ModuleNotFoundError(
            f"the demo needs {' and '.join(missing)}: python -m pip install {' '.join(missing)}"
        )


def _load(seed: int) -> _Digits:
    """Part scikit-learn's digits, class by class, into training, validation and test images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / _BRIGHTEST).astype(np.float32)
    X, X_test, y, y_test = train_test_split(
        images, labels, test_size=_TEST_FRACTION, stratify=labels, random_state=seed
    )
    X, X_validation, y, y_validation = train_test_split(
        X, y, test_size=_VALIDATION_FRACTION, stratify=y, random_state=seed
    )
    return _Digits(X, y, X_validation, y_validation, X_test, y_test)


def _moved(digits: _Digits) -> tuple[Floats, Labels]:
    """Return the training images, and each again moved by half a pixel in eight directions."""
    images = np.pad(digits.X.reshape(-1, _SIDE, _SIDE), ((0, 0), (1, 1), (1, 1)))
    versions = []
    for down in (0, -1, 1):
        lowered = (images + np.roll(images, down, axis=1)) / 2
        versions += [(lowered + np.roll(lowered, right, axis=2)) / 2 for right in (0, -1, 1)]
    X = np.concatenate([version[:, 1:-1, 1:-1] for version in versions])
    return X.reshape(-1, _SIDE**2), np.tile(digits.y, len(versions))


def _network(seed: int) -> fn.Sequential:
    """Describe the network."""
    layers = [fn.Dense(_HIDDEN, activation="relu"), fn.Dense(_CLASSES, activation="softmax")]
    return fn.Sequential(layers, inputs=_SIDE**2, dtype="float32", rng=seed)


def _compile(backend: str | None) -> float:
    """Have everything compiled, on a network of no use; return the seconds that it took."""
    began = time.perf_counter()
    X, y = np.zeros((_CLASSES, _SIDE**2), np.float32), np.arange(_CLASSES)
    net = _network(0)
    net.fit(X, y, epochs=1, validation_data=(X, y), progress=False, backend=backend)
    net.predict(X, backend=backend)
    return time.perf_counter() - began


def _train(
    digits: _Digits, X: Floats, y: Labels, epochs: int, seed: int, backend: str | None
) -> tuple[fn.Sequential, fn.History, float]:
    """Train the network; return it with its history and the seconds that the fit took."""
    net = _network(seed)
    began = time.perf_counter()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        history = net.fit(
            X,
            y,
            optimizer=fn.Adam(_LEARNING_RATE),
            epochs=epochs,
            batch_size=_BATCH_SIZE,
            validation_data=(digits.X_validation, digits.y_validation),
            metrics="accuracy",
            callbacks=fn.EarlyStopping(patience=_PATIENCE),
            progress=True,
            backend=backend,
        )
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    return net, history, time.perf_counter() - began


def _train_sklearn(
    digits: _Digits, X: Floats, y: Labels, epochs: int, seed: int
) -> tuple[float, float]:
    """Give the same job to scikit-learn; return its held-out accuracy and seconds."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    theirs = MLPClassifier(
        hidden_layer_sizes=(_HIDDEN,),
        activation="relu",
        solver="adam",
        alpha=0.0,
        batch_size=_BATCH_SIZE,
        learning_rate_init=_LEARNING_RATE,
        max_iter=epochs,
        n_iter_no_change=epochs,
        tol=0.0,
        random_state=seed,
    )
    began = time.perf_counter()
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        theirs.fit(X, y)
    seconds = time.perf_counter() - began
    return float(theirs.score(digits.X_test, digits.y_test)), seconds


def _print_row(name: str, accuracy: float, seconds: float, images: int) -> None:
    """Print a line of the comparison."""
    wrong = round((1 - accuracy) * images)
    print(f"{name:14}{accuracy:>19.2%}{seconds:>11.2f} s   {wrong} of {images} wrong")


def _subtitle(
    history: fn.History, rows: int, seconds: float, theirs: tuple[float, float] | None
) -> str:
    """Say in a line what was done, for the picture."""
    line = (
        f"fastnn, a {_SIDE**2}-{_HIDDEN}-{_CLASSES} network: "
        f"{history.epochs} epochs of {rows:,} images in {seconds:.2f} s"
    )
    if theirs is not None:
        line += (
            f".  scikit-learn's MLPClassifier, the same job: {theirs[0]:.1%} in {theirs[1]:.2f} s"
        )
    return line


def _draw(digits: _Digits, predicted: Labels, history: fn.History, subtitle: str) -> Any:
    """Draw learning curves and test images; return the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.8, 7.2))
    share = np.mean(predicted == digits.y_test)
    title = f"{share:.1%} of {len(predicted)} held-out handwritten digits read correctly"
    figure.text(_LEFT, 0.925, title, size=21, weight="bold", color=_INK)
    figure.text(_LEFT, 0.88, subtitle, size=11, color=_PALE)
    curves = figure.add_gridspec(2, 1, left=_LEFT, right=0.36, bottom=_BOTTOM, top=_TOP, hspace=0.4)
    _draw_loss(figure.add_subplot(curves[0]), history)
    _draw_accuracy(figure.add_subplot(curves[1]), history)
    _draw_images(figure, digits, predicted)
    return figure


def _draw_loss(axes: Any, history: fn.History) -> None:
    """Draw the losses on a logarithmic axis, and say which line is which."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    _draw_curves(axes, history, "loss", "Loss (cross-entropy)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=10, labelcolor=_INK, loc="lower left")


def _draw_accuracy(axes: Any, history: fn.History) -> None:
    """Draw the accuracies, in per cent."""
    from matplotlib.ticker import FuncFormatter

    _draw_curves(axes, history, "accuracy", "Accuracy")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    if history.best_epoch is not None:
        late = history.best_epoch > history.epochs / 2
        axes.annotate(
            f"lowest validation loss,\nweights kept: epoch {history.best_epoch}",
            xy=(history.best_epoch, 0.06),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if late else 6, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            size=9.5,
            color=_PALE,
        )


def _draw_curves(axes: Any, history: fn.History, name: str, title: str) -> None:
    """Draw one quantity for training and validation images, epoch by epoch."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", size=12, weight="bold", color=_INK, pad=9)
    epochs = np.arange(1, history.epochs + 1)
    # A line through one point is invisible.
    marker = "o" if history.epochs == 1 else ""
    for key, label, colour in (
        (name, "training", _TRAINING),
        (f"val_{name}", "validation", _VALIDATION),
    ):
        axes.plot(epochs, history[key], color=colour, lw=2.2, marker=marker, label=label)
    if history.best_epoch is not None:
        axes.axvline(history.best_epoch, color=_PALE, lw=1, ls=(0, (4, 3)), zorder=0)
    axes.grid(axis="y", color=_FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_PALE)
    axes.tick_params(which="both", colors=_PALE, labelsize=9.5, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch", size=10, color=_PALE)


def _draw_images(figure: Any, digits: _Digits, predicted: Labels) -> None:
    """Draw test images, the wrong ones first, with what was read under each."""
    wrong = np.flatnonzero(predicted != digits.y_test)
    right = np.flatnonzero(predicted == digits.y_test)
    shown = np.concatenate([wrong, right])[: _ROWS * _COLUMNS]
    grid = figure.add_gridspec(
        _ROWS, _COLUMNS, left=0.42, right=0.975, bottom=_BOTTOM, top=_TOP, wspace=0.22, hspace=0.4
    )
    for place, image in enumerate(shown):
        axes = figure.add_subplot(grid[divmod(place, _COLUMNS)])
        axes.imshow(digits.X_test[image].reshape(_SIDE, _SIDE), cmap="Greys", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        if place == 0:
            title = "Held-out images and what was read, the mistakes first"
            axes.set_title(title, loc="left", size=12, weight="bold", color=_INK, pad=9)
        mistaken = predicted[image] != digits.y_test[image]
        axes.spines[:].set(color=_WRONG if mistaken else _FAINT, linewidth=3 if mistaken else 0.8)
        axes.set_xlabel(
            f"{predicted[image]}, is {digits.y_test[image]}" if mistaken else predicted[image],
            size=12, weight="bold" if mistaken else "normal",
            color=_WRONG if mistaken else _INK, labelpad=4,
        )  # fmt: skip
