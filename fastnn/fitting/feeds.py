"""Passes over blocks of examples, in windows that lie in memory together, read one ahead."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastnn.blocks import Blocks
from fastnn.data import Data, Window
from fastnn.gate import Targets
from fastnn.names import describe
from fastnn.scaling import Moments
from fastnn.sparse import SparseRows, joined
from fastnn.target_scale import TargetMoments, TargetScale

__all__ = ["Ahead", "Feed", "Survey", "read_blocks"]

Item = TypeVar("Item")
Floats = NDArray[np.floating]

# Seconds that the end of a fit waits for a reading thread which is inside the user's code.
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pass over all examples found.

    Attributes
    ----------
    rows : int
        How many there are.
    features : tuple of ndarray, or None
        Means and deviations of features, where they were asked for.
    """

    rows: int
    features: tuple[NDArray[Any], NDArray[Any]] | None


class Feed:
    """The examples of a fit, pass by pass, of which a window lies in memory at a time.

    Parameters
    ----------
    blocks : Blocks
        What gives them.
    take : callable
        Leads a block through the gate: of what came, and its place in its pass, `Data`.

    Attributes
    ----------
    rows : int
        Examples of a pass.
    size : int
        Of them in a window; the last one may have fewer.
    window : Window
        The present one.
    fingerprint : int
        By which the examples are recognised.
    survey : Survey or None
        What a pass before the first one found.
    scale : TargetScale or None
        To which targets are brought, where they are.
    """

    rows: int
    size: int
    window: Window
    fingerprint: int
    survey: Survey | None = None
    scale: TargetScale | None = None

    def __init__(self, blocks: Blocks, take: Callable[[Any, int], Data]) -> None:
        self._blocks, self._take = blocks, take
        self._rooms: list[_Room] = []
        self._windows: Ahead[Window] | Generator[Window] | None = None
        self._made: object = None  # the iterator of the pass before

    def read(self) -> Generator[Data]:
        """Read a pass, block by block, in the thread that calls."""
        return read_blocks(self._blocks, self._take, self._check_new)

    def look(self, features: bool, targets: TargetMoments | None) -> None:
        """Read a pass to count its examples, and to measure their features and targets."""
        moments, rows = None, 0
        with contextlib.closing(self.read()) as blocks:
            for block in blocks:
                rows += len(block)
                if features:
                    if moments is None:
                        moments = Moments(block.X.shape[1], block.X.dtype)
                    # A sparse matrix has been refused by then.
                    moments.add(np.asarray(block.X), block.weights)
                if targets is not None:
                    targets.add(block)
        self.survey = Survey(rows, None if moments is None else moments.found())

    def begun(self, batch: int) -> Data:
        """Begin the first pass, in windows of whole batches; return the first one's examples."""
        survey, said = self.survey, self._blocks.rows
        if survey is not None and said is not None and survey.rows != said:
            raise ValueError(
                f"rows must be how many examples a pass has; got {said}, where make_iterator gives "
                f"{survey.rows}."
            )
        rows = survey.rows if survey is not None else said
        assert rows is not None
        self.rows, self._batch = rows, min(batch, rows)
        window = self._blocks.window
        if window < self._batch:
            raise ValueError(
                f"window must be at least batch_size, {batch}, as a step takes its examples from "
                f"one window; got {window}."
            )
        self.size = rows if rows <= window else window // self._batch * self._batch
        self.begin()
        self.fingerprint = self.window.data.fingerprint()
        return self.window.data

    @property
    def windows(self) -> int:
        """How many of them a pass has."""
        return -(-self.rows // self.size)

    @property
    def steps(self) -> int:
        """Steps of every window but the last."""
        return -(-self.size // self._batch)

    def begin(self) -> None:
        """Begin a pass, with its first window."""
        self.close()
        windows = self._filled()
        self._windows = Ahead(windows) if self._blocks.prefetch else windows
        self.advance()

    def advance(self) -> None:
        """Go on to the next window; what the last one had is written over."""
        assert self._windows is not None
        self.window = next(self._windows)
        if self.window.last:
            # Nothing is left but to let the iterator end.
            for _ in self._windows:
                raise AssertionError

    def close(self) -> None:
        """End the pass under way, and close what it reads from."""
        windows, self._windows = self._windows, None
        if windows is not None:
            windows.close()

    def _check_new(self, made: object) -> None:
        """Refuse the iterator of the pass before, which is at its end."""
        if made is self._made:
            raise ValueError(
                "make_iterator must return a new iterator whenever it is called; it returned the "
                f"same one again ({type(made).__name__}), of which nothing is left."
            )
        self._made = made

    def _filled(self) -> Generator[Window]:
        """Fill windows with a pass's blocks; two rooms by turns, as one of them is in use."""
        place, done, weight, first = 0, 0, 0.0, None
        with contextlib.closing(self.read()) as blocks:
            for number, block in enumerate(blocks):
                first = first or block
                _check_kinds(block, first, number)
                if done + len(block) > self.rows:
                    raise ValueError(f"{self._wrong_rows} has more. {self._advice}")
                at, weight = 0, weight + block.total
                while at < len(block):
                    room = self._room(place, block)
                    count = min(self.size - room.filled, len(block) - at)
                    room.add(block.part(slice(at, at + count)))
                    at, done = at + count, done + count
                    if room.filled == self.size and done < self.rows:
                        yield Window(room.taken(), place * self.steps, False)
                        place += 1
        if done < self.rows:
            raise ValueError(f"{self._wrong_rows} has {done}. {self._advice}")
        if weight == 0.0:
            raise ValueError("blocks must have at least one example of a weight above 0; got none.")
        yield Window(self._rooms[place % 2].taken(), place * self.steps, True)

    def _room(self, place: int, like: Data) -> _Room:
        """Return the room of a window."""
        if len(self._rooms) <= place % 2:
            self._rooms.append(_Room(like, self.size))
        return self._rooms[place % 2]

    @property
    def _wrong_rows(self) -> str:
        """The beginning of what is said of a pass with another number of examples."""
        said = "rows says" if self._blocks.rows is not None else "the pass before had"
        return f"make_iterator must give as many examples in every pass: {said} {self.rows}; this"

    @property
    def _advice(self) -> str:
        """Its end."""
        if self._blocks.rows is None:
            return "The blocks of an iterator must not depend on how often it was made."
        return "Leave rows out, and they are counted; of an endless iterator, itertools.islice."


def read_blocks(
    blocks: Blocks, take: Callable[[Any, int], Item], check: Callable[[object], None] | None = None
) -> Generator[Item]:
    """Read what a new iterator gives, and close it at the end, whichever it is.

    Parameters
    ----------
    blocks : Blocks
        What makes it.
    take : callable
        What is to become of each block, given too its place.
    check : callable, optional
        Called with the iterator; may refuse it.
    """
    made = blocks.make_iterator()
    try:
        iterator = iter(made)
    except TypeError:
        raise TypeError(
            f"make_iterator must return an iterator of blocks; got {describe(made)}."
        ) from None
    if check is not None:
        check(iterator)
    place = -1
    try:
        for place, block in enumerate(iterator):
            yield take(block, place)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    if place < 0:
        raise ValueError("make_iterator must give at least one block; its iterator gave none.")


def _check_kinds(block: Data, first: Data, place: int) -> None:
    """Refuse a block whose parts are of other kinds than the first one's."""
    for mine, theirs in zip(_kinds(block), _kinds(first), strict=True):
        if mine != theirs:
            raise ValueError(
                f"blocks must be alike; block {place} has {mine}, and block 0 has {theirs}."
            )


def _kinds(data: Data) -> tuple[str, str, str]:
    """Return in words of which kinds the parts of examples are."""
    return (
        "a sparse X" if isinstance(data.X, SparseRows) else "a dense X",
        "integer classes as y" if data.targets.labels.size else "numbers by output as y",
        "sample weights" if data.weights.size else "no sample weights",
    )


class _Room:
    """Where the examples of a window are put together."""

    def __init__(self, like: Data, size: int) -> None:
        self.filled = 0
        self._dense: Floats | None = None
        self._sparse: list[SparseRows] = []
        if not isinstance(like.X, SparseRows):
            self._dense = np.empty((size, like.X.shape[1]), like.X.dtype)
        labels, values = like.targets.labels, like.targets.values
        self._labels = np.empty(size if labels.size else 0, np.int64)
        self._values = np.empty((0 if labels.size else size, values.shape[1]), values.dtype)
        self._weights = np.empty(size if like.weights.size else 0, like.weights.dtype)
        self._missing = False

    def add(self, part: Data) -> None:
        """Put copies of examples behind those that are there."""
        begin, end = self.filled, self.filled + len(part)
        if isinstance(part.X, SparseRows):
            self._sparse.append(part.X.copy())
        elif self._dense is not None:
            self._dense[begin:end] = part.X
        for room, array in (
            (self._labels, part.targets.labels),
            (self._values, part.targets.values),
            (self._weights, part.weights),
        ):
            if len(room):
                room[begin:end] = array
        self._missing = self._missing or part.targets.missing
        self.filled = end

    def taken(self) -> Data:
        """Return views of what was put there, read-only, and begin anew."""
        rows = slice(0, self.filled)
        X = joined(self._sparse) if self._dense is None else _read_only(self._dense[rows])
        labels, values = _read_only(self._labels[rows]), _read_only(self._values[rows])
        data = Data(X, Targets(labels, values, self._missing), _read_only(self._weights[rows]))
        self.filled, self._missing = 0, False
        self._sparse = []
        return data


def _read_only(view: NDArray[Any]) -> NDArray[Any]:
    """Lock a view."""
    view.flags.writeable = False
    return view


class Ahead(Generic[Item]):
    """Items of an iterator, one of which a thread prepares while the last one is in use.

    The thread asks for an item when the one before it was taken, so that at this moment nobody uses
    the one before that.  What the iterator raises is raised by who takes the item.

    Parameters
    ----------
    items : generator
        Used, and closed, in the thread alone.
    """

    def __init__(self, items: Generator[Item]) -> None:
        self._turn = threading.Condition()
        self._ready: list[Item] = []
        self._problem: BaseException | None = None
        self._over = self._closed = False
        # What a context variable says, such as `numpy.errstate`, it says in there too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work, items), name="fastnn-blocks", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._turn:
            self._turn.wait_for(lambda: self._ready or self._over)
            if self._ready:
                item = self._ready.pop()
                self._turn.notify_all()
                return item
            problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        raise StopIteration

    def close(self) -> None:
        """Let the thread end; wait a moment, as it may be in the user's code."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._thread.join(_PATIENCE)

    def _work(self, items: Generator[Item]) -> None:
        """Prepare items; the thread's own."""
        try:
            with contextlib.closing(items):
                while self._is_wanted():
                    item = next(items)
                    with self._turn:
                        self._ready.append(item)
                        self._turn.notify_all()
                    del item
        except StopIteration:
            pass
        except BaseException as problem:  # for who takes the item
            self._problem = problem
        finally:
            with self._turn:
                self._over = True
                self._turn.notify_all()

    def _is_wanted(self) -> bool:
        """Wait until the last item was taken; return whether another one is wanted."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed or not self._ready)
            return not self._closed
