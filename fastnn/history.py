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
        self._names = tuple(names)
        # One row per epoch, as one append is all done or not at all, also where Ctrl-C strikes.
        self._rows: list[tuple[float, ...]] = []
        self.seconds: float = 0.0
        self.stopped: str | None = None
        self.best_epoch: int | None = None

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self._rows)

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
        if not self._names and not self._rows:
            self._names = tuple(logs)
        if logs.keys() != set(self._names):
            raise ValueError(
                f"logs must hold {_listed(self._names)}, every epoch alike; got {_listed(logs)}."
            )
        self._rows.append(tuple(float(logs[name]) for name in self._names))

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
        return {name: self[name] for name in self._names}

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._names:
            raise KeyError(f"history has {_listed(self._names)}; got {name!r}.")
        place = self._names.index(name)
        return [row[place] for row in self._rows]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        parts = [f"{count} in {format_seconds(self.seconds)}"]
        if self._rows:
            last = zip(self._names, self._rows[-1], strict=True)
            parts.append(", ".join(f"{name} {value:.4g}" for name, value in last))
        if self.best_epoch is not None:
            parts.append(f"best epoch {self.best_epoch}")
        if self.stopped is not None:
            parts.append(f"stopped: {self.stopped}")
        return f"{type(self).__name__}({'; '.join(parts)})"


def _listed(names: Iterable[str]) -> str:
    """Write names as an error message lists them."""
    return ", ".join(repr(name) for name in names) or "nothing"
