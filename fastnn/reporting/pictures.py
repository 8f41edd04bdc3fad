"""Pictures by matplotlib, which is loaded when one is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["figure_of", "plot_decision", "plot_history"]

# Panels beside each other.
_COLUMNS = 3
_INCHES = 4.0, 3.0
# Points along each side of a picture of decisions, and how far it goes beyond the examples.
_POINTS = 200
_MARGIN = 0.08


def figure_of(what: str, size: tuple[float, float]) -> Any:
    """Return a new figure of so many inches, or say what it takes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise ImportError(
            f"{what} needs matplotlib: python -m pip install matplotlib."
        ) from problem
    return Figure(figsize=size, layout="constrained")


def plot_history(history: Any, figure: Any = None) -> Any:
    """Draw what a fit recorded; see `History.plot`.

    Parameters
    ----------
    history : History
        Of the fit.
    figure : matplotlib.figure.Figure or None
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in history)) or ["loss"]
    rates = history.learning_rates
    varying = len(rates) == history.epochs and len(set(rates)) > 1
    if varying:
        panels.append("learning rate")
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    if figure is None:
        figure = figure_of("plot", (_INCHES[0] * columns, _INCHES[1] * rows))
    epochs = np.arange(1, history.epochs + 1)
    for place, panel in enumerate(panels, 1):
        ax = figure.add_subplot(rows, columns, place)
        if varying and place == len(panels):
            ax.plot(epochs, rates)
        for name, style, label in ((panel, "-", "training"), (f"val_{panel}", "--", "validation")):
            if name in history:
                # One epoch is a point.
                marker = "o" if history.epochs == 1 else None
                ax.plot(epochs, history[name], style, label=label, marker=marker)
        if history.best_epoch is not None:
            ax.axvline(history.best_epoch, color="0.5", lw=0.8, ls=":", label="best epoch")
        ax.set(xlabel="epoch", title=panel)
        if panel in history or f"val_{panel}" in history:
            ax.legend()
    return figure


def plot_decision(
    predict: Any, X: NDArray[np.floating], classes: NDArray[np.intp] | None, labels: Any, ax: Any
) -> Any:
    """Draw which class, or value, is predicted for two features; see `Sequential.plot_decision`.

    Parameters
    ----------
    predict : callable
        From points (k, 2) to class numbers (k,), where `classes` are given, else to values (k,).
    X : ndarray (n, 2)
        Examples.
    classes : ndarray (n,) or None
        The class number of each, or None where targets are numbers.
    labels : sequence
        Names of the classes; of numbers, the targets (n,).
    ax : matplotlib.axes.Axes or None
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is None:
        ax = figure_of("plot_decision", (5.0, 4.2)).add_subplot()
    low, high = X.min(axis=0), X.max(axis=0)
    # A feature that does not vary has some room as well.
    room = np.where(high > low, _MARGIN * (high - low), 1.0)
    sides = [
        np.linspace(start - more, end + more, _POINTS)
        for start, end, more in zip(low, high, room, strict=True)
    ]
    across, up = np.meshgrid(*sides)
    found = predict(np.column_stack([across.ravel(), up.ravel()])).reshape(across.shape)
    if classes is None:
        surface = ax.contourf(across, up, found, levels=12, cmap="viridis")
        vmin, vmax = surface.get_clim()
        ax.scatter(*X.T, c=labels, cmap="viridis", vmin=vmin, vmax=vmax, edgecolor="white", lw=0.5)
        ax.figure.colorbar(surface, ax=ax)
    else:
        colours = [f"C{number % 10}" for number in range(len(labels))]
        edges = np.arange(len(labels) + 1) - 0.5
        ax.contourf(across, up, found, levels=edges, colors=colours, alpha=0.3)
        for number, (label, colour) in enumerate(zip(labels, colours, strict=True)):
            mine = X[classes == number]
            if len(mine):
                ax.scatter(*mine.T, color=colour, edgecolor="white", lw=0.5, label=str(label))
        ax.legend()
    ax.set(xlabel="feature 0", ylabel="feature 1")
    return ax
