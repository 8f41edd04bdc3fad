"""What a fit leaves behind: one float an epoch for the loss and for every metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fastnn.progress import format_seconds

__all__ = ["History"]


class History(Mapping[str, list[float]]):
    """What a fit recorded, epoch by epoch: a read-only mapping of names to lists of floats.

    `Sequential.fit` gives one back, and callbacks see it grow.

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
        Why the fit ended before its time: ``"early stopping"``, ``"interrupted"``, or the reason
        that a callback gave; None where it ran to its end.
    best_epoch : int or None
        The epoch, counted from 1, that `EarlyStopping` found best; None without it.

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
        self._columns: dict[str, list[float]] = {name: [] for name in names}
        self._epochs = 0
        self.seconds: float = 0.0
        self.stopped: str | None = None
        self.best_epoch: int | None = None

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return self._epochs

    def append(self, logs: Mapping[str, float]) -> None:
        """Add what one epoch gave; training calls this.

        Parameters
        ----------
        logs : mapping of str to float
            One value for every key of the history, and no others.

        Raises
        ------
        ValueError
            If `logs` has other keys than the history. The history is then as it was.
        """
        if not self._columns and not self._epochs:
            self._columns = {name: [] for name in logs}
        if logs.keys() != self._columns.keys():
            raise ValueError(
                f"logs must hold {_listed(self._columns)}, every epoch alike; got {_listed(logs)}."
            )
        row = {name: float(value) for name, value in logs.items()}
        for name, value in row.items():
            self._columns[name].append(value)
        self._epochs += 1

    def to_dict(self) -> dict[str, list[float]]:
        """Copy the lists into a plain dict.

        Returns
        -------
        dict of str to list of float
            As ``pandas.DataFrame``, ``polars.DataFrame`` and ``json.dump`` take it.

        Examples
        --------
        >>> history = History()
        >>> history.append({"loss": 0.5})
        >>> history.to_dict()
        {'loss': [0.5]}
        """
        return {name: list(values) for name, values in self._columns.items()}

    def __getitem__(self, name: str) -> list[float]:
        try:
            return list(self._columns[name])
        except KeyError:
            raise KeyError(f"history has {_listed(self._columns)}; got {name!r}.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        count = "1 epoch" if self._epochs == 1 else f"{self._epochs} epochs"
        parts = [f"{count} in {format_seconds(self.seconds)}"]
        if self._epochs:
            last = (f"{name} {values[-1]:.4g}" for name, values in self._columns.items())
            parts.append(", ".join(last))
        if self.best_epoch is not None:
            parts.append(f"best epoch {self.best_epoch}")
        if self.stopped is not None:
            parts.append(f"stopped: {self.stopped}")
        return f"{type(self).__name__}({'; '.join(parts)})"


def _listed(names: Iterable[str]) -> str:
    """Write names as an error message lists them."""
    return ", ".join(repr(name) for name in names) or "nothing"
