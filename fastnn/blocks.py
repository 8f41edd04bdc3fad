"""Examples that are too many for memory: blocks of them, which a function of the user's gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fastnn.hints import understands
from fastnn.names import check_bool, check_integer, describe

__all__ = ["Blocks"]

_WORDS = {
    "batch_size": "Steps have the batch_size of fit, whatever the blocks' sizes.",
    "buffer_size": "It is called window.",
    "shuffle": "fit(shuffle=) says whether the examples of a window are shuffled.",
    "steps_per_epoch": "rows says how many examples an epoch has.",
}


@understands(_WORDS)
@dataclass(frozen=True, slots=True, repr=False)
class Blocks:
    """Examples that come block by block, read anew in every epoch: in place of X and y.

    ``net.fit(fn.Blocks(read))`` trains on more examples than memory holds.  Steps have
    ``batch_size`` examples, whatever the blocks' sizes: batches go on from one block into the
    next.  Examples are shuffled within windows of consecutive ones.  In memory are two windows, of
    the network's dtype, and the block that is being read.

    Parameters
    ----------
    make_iterator : callable
        Called without arguments once per epoch, and returns an iterator, or what `iter` takes:
        most easily a generator function.  That gives blocks, tuples ``(X, y)`` or ``(X, y,
        sample_weight)`` of what `Sequential.fit` takes, of any numbers of examples; X dense
        throughout, or a sparse matrix throughout.  Every pass must give as many examples.
    rows : int, optional
        How many examples a pass gives.  Left out, they are counted in a pass of its own before
        the first epoch.  Such a pass is also made where a network is to measure the features
        (`Standardize`) or the targets (``scale_targets``) first.
    window : int, default 16384
        How many consecutive examples are shuffled together, at least ``batch_size``; rounded down
        to whole batches, where there are more examples.  With as many as there are examples, or
        more, a fit has the very bits of one on arrays.
    prefetch : bool, default True
        Whether a thread reads ahead, up to one window, while steps are taken.  All of the
        iterator's code then runs in that thread.  False for what must run in the thread of the
        caller.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.

    See Also
    --------
    Sequential.fit, Sequential.evaluate, Sequential.predict

    Notes
    -----
    Blocks should be mixed already: a window that has examples of one class only stays so.  What the
    iterator raises reaches the caller with its traceback.  The iterator is closed (``close()``)
    when a pass or the fit ends, however it ends.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fn
    >>> def read():
    ...     for seed in range(3):
    ...         X = np.random.default_rng(seed).normal(size=(1000, 2))
    ...         yield X, X[:, 0] - X[:, 1]
    >>> net = fn.Sequential([fn.Dense(1)], inputs=2)
    >>> net.fit(fn.Blocks(read, rows=3000), optimizer="sgd", epochs=5)["loss"][-1] < 0.01
    True
    """

    make_iterator: Callable[[], Iterable[Any]]
    rows: int | None = None
    window: int = 16384
    prefetch: bool = True

    def __post_init__(self) -> None:
        """Check every field once, when the record is made."""
        make: Any = self.make_iterator
        if isinstance(make, Iterator):
            raise TypeError(
                "make_iterator must be a function that returns a new iterator for every epoch; got "
                f"an iterator ({type(make).__name__}), of which nothing is left after one. Give "
                "the function that made it: Blocks(read), not Blocks(read())."
            )
        if not callable(make):
            listed = isinstance(make, Iterable)
            hint = " For blocks in a list: Blocks(lambda: iter(blocks))." if listed else ""
            raise TypeError(
                "make_iterator must be a function without arguments that returns an iterator; got "
                f"{describe(make)}.{hint}"
            )
        if self.rows is not None:
            object.__setattr__(self, "rows", check_integer(self.rows, "rows", 1))
        object.__setattr__(self, "window", check_integer(self.window, "window", 1))
        check_bool(self.prefetch, "prefetch")

    def __repr__(self) -> str:
        name = getattr(self.make_iterator, "__name__", type(self.make_iterator).__name__)
        return (
            f"{type(self).__name__}({name}, rows={self.rows}, window={self.window}, "
            f"prefetch={self.prefetch})"
        )


def parts_of(block: Any, place: int) -> tuple[Any, Any, Any]:
    """Return X, y and weights of a block, None for weights that it has not."""
    if not isinstance(block, (tuple, list)) or len(block) not in (2, 3):
        raise TypeError(
            f"block {place} must be (X, y) or (X, y, sample_weight); got {describe(block)}."
        )
    X, y, *rest = block
    return X, y, rest[0] if rest else None
