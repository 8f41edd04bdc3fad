"""The record of a fit: one float per epoch for the loss and for every metric."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Mapping, ValuesView
from typing import Any

from fastnn.reporting.progress import format_seconds

__all__ = ["History"]


class History(dict[str, list[float]]):
    """What a fit recorded, epoch by epoch: names and lists of floats, as a dict that only grows.

    `Sequential.fit` returns one, and callbacks see it grow.  ``pandas.DataFrame(history)``,
    ``polars.DataFrame(history)`` and ``json.dump`` take it as it is: a column per name, a row per
    epoch.

    Parameters
    ----------
    names : iterable of str, default ()
        The keys, in the order in which they are shown: ``"loss"``, the metrics, and each with
        ``val_`` in front where there are validation data. Left out, the first epoch sets them.

    Attributes
    ----------
    epochs : int
        How many epochs were finished; every list is this long.
    seconds : float
        How long the whole fit took, in seconds; 0.0 until it ends.
    stopped : str or None
        Why the fit ended early: ``"early stopping"``, ``"interrupted"``, or the reason
        that a callback gave; None where it ran to its end.
    learning_rates : list of float
        The learning rate of every epoch's last step; empty where nothing recorded it.
    best_epoch : int or None
        The epoch, counted from 1, that `EarlyStopping` found best; None without it.

    Raises
    ------
    KeyError
        From ``history[name]``, if nothing of that name was recorded.
    TypeError
        If a key is set or taken away.

    Examples
    --------
    >>> history = History(["loss", "val_loss"])
    >>> history.append({"loss": 0.5, "val_loss": 0.625})
    >>> history.append({"loss": 0.25, "val_loss": 0.375})
    >>> history["val_loss"], history.epochs
    ([0.625, 0.375], 2)
    >>> history
    History(2 epochs in 0 s; loss 0.25, val_loss 0.375)
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__((name, []) for name in names)
        # One row per epoch, as one append is all done or not at all, also where Ctrl-C strikes; the
        # lists follow.
        self._rows: list[tuple[float, ...]] = []
        # What a schedule has found out about the epochs so far, so that it need not ask again.
        self.memo: dict[object, Any] = {}
        self.seconds: float = 0.0
        self.stopped: str | None = None
        self.best_epoch: int | None = None
        self.learning_rates: list[float] = []

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self._rows)

    def append(self, logs: Mapping[str, float]) -> None:
        """Add the values of one epoch; training calls this.

        Parameters
        ----------
        logs : mapping of str to float
            One value for every key of the history, and no others.

        Raises
        ------
        ValueError
            If `logs` has other keys than the history. The history is then as it was.
        """
        if not self and not self._rows:
            for name in logs:
                super().__setitem__(name, [])
        if logs.keys() != self.keys():
            raise ValueError(
                f"logs must hold {_listed(self)}, every epoch alike; got {_listed(logs)}."
            )
        self._rows.append(tuple(float(logs[name]) for name in self))
        self.mend()

    def extend(self, rows: Iterable[Iterable[float]]) -> None:
        """Add what several epochs gave, in the order of the names; training calls this.

        Parameters
        ----------
        rows : iterable of iterables of float
            Of each epoch one value for every key of the history.
        """
        self._rows.extend([tuple(row) for row in rows])
        self.mend()

    def until(self, epochs: int) -> History:
        """Return the record up to an epoch; this one is unchanged."""
        earlier = History(self)
        earlier._rows = self._rows[:epochs]
        earlier.learning_rates = self.learning_rates[:epochs]
        earlier.mend()
        return earlier

    def mend(self) -> None:
        """Bring every list up to date, also after an interruption; training calls this."""
        for name in self:
            self[name]

    def to_dict(self) -> dict[str, list[float]]:
        """Copy the lists into a plain dict.

        Returns
        -------
        dict of str to list of float
            As ``json.dump`` takes it.

        Examples
        --------
        >>> history = History()
        >>> history.append({"loss": 0.5})
        >>> history.to_dict()
        {'loss': [0.5]}
        """
        return {name: list(self[name]) for name in self}

    def to_frame(self) -> Any:
        """Return the record as a pandas frame, with the learning rate in a column of its own.

        Returns
        -------
        pandas.DataFrame
            A row per epoch, counted from 1; columns as here, then ``learning_rate`` where it is
            known.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> history = History()
        >>> history.append({"loss": 0.5})
        >>> history.to_frame().loc[1, "loss"].item()
        0.5
        """
        try:
            from pandas import DataFrame, RangeIndex
        except ImportError as problem:
            raise ImportError("to_frame needs pandas: python -m pip install pandas.") from problem
        columns = self.to_dict()
        if len(self.learning_rates) == self.epochs:
            columns["learning_rate"] = self.learning_rates
        return DataFrame(columns, index=RangeIndex(1, self.epochs + 1, name="epoch"))

    def plot(self, figure: Any = None) -> Any:
        """Draw the curves: the loss and each metric in a panel, validation dashed beside it.

        The best epoch, where there is one, is marked; a learning rate that changes has a panel of
        its own.

        Parameters
        ----------
        figure : matplotlib.figure.Figure, optional
            Where to draw; a new one if left out.

        Returns
        -------
        matplotlib.figure.Figure
            Shown by notebooks; ``figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> history = History()
        >>> history.append({"loss": 0.5, "val_loss": 0.75})
        >>> len(history.plot().axes)
        1
        """
        from fastnn.reporting.pictures import plot_history

        return plot_history(self, figure)

    def _repr_html_(self) -> str:
        """Show a notebook the curves and the last values."""
        from fastnn.reporting.drawing import history_html

        return history_html(self)

    def copy(self) -> dict[str, list[float]]:
        """Copy the lists into a plain dict, as `to_dict` does."""
        return self.to_dict()

    def __getitem__(self, name: str) -> list[float]:
        if name not in self:
            raise KeyError(f"history has {_listed(self)}; got {name!r}.")
        values, recorded = super().__getitem__(name), len(self._rows)
        if len(values) != recorded:
            # Behind by the last epoch, or by what an interruption cut off; or changed by a user.
            place = list(self).index(name)
            kept = len(values) if len(values) < recorded else 0
            values[kept:] = [row[place] for row in self._rows[kept:]]
        return values

    def values(self) -> ValuesView[list[float]]:  # type: ignore[override]
        """Return the lists."""
        self.mend()
        return super().values()

    def items(self) -> ItemsView[str, list[float]]:  # type: ignore[override]
        """Return names and lists."""
        self.mend()
        return super().items()

    def get(self, name: object, default: Any = None) -> Any:
        """Return the list of that name, or something else where there is none."""
        return self[name] if isinstance(name, str) and name in self else default

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse to be changed."""
        raise TypeError("a history only grows, by what a fit records; change history.to_dict().")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name != "memo"}
        return _restored, (self.to_dict(), state)

    def __repr__(self) -> str:
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        parts = [f"{count} in {format_seconds(self.seconds)}"]
        if self.epochs:
            last = zip(self, self._rows[-1], strict=True)
            parts.append(", ".join(f"{name} {value:.4g}" for name, value in last))
        if self.best_epoch is not None:
            parts.append(f"best epoch {self.best_epoch}")
        if self.stopped is not None:
            parts.append(f"stopped: {self.stopped}")
        return f"{type(self).__name__}({'; '.join(parts)})"


def _restored(columns: dict[str, list[float]], state: dict[str, Any]) -> History:
    """Return a history that was pickled or copied."""
    history = History()
    dict.update(history, columns)
    vars(history).update(state)
    return history


def _listed(names: Iterable[str]) -> str:
    """Write names as an error message lists them."""
    return ", ".join(repr(name) for name in names) or "nothing"
