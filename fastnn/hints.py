"""What a word that is not known here most likely means, said where it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import update_wrapper
from types import FunctionType
from typing import Any, NoReturn, TypeVar

from fastnn.names import nearest

__all__ = [
    "advise", "advised", "arguments_wanted", "check_hooks", "hint_for", "refuse",
    "tell_arguments", "understands",
]  # fmt: skip

AnyClass = TypeVar("AnyClass", bound=type)
Answer = TypeVar("Answer")


def hint_for(name: str, words: Mapping[str, str], known: Iterable[str]) -> str:
    """Say what a word that is not known here most likely means, as the end of a message.

    Parameters
    ----------
    name : str
        The word that was used: of an argument, an attribute, a public name.
    words : mapping of str to str
        Words of other libraries, and what to say of each: a name, said where it is among those
        that are right here, or a whole sentence.
    known : iterable of str
        The names that are right here.

    Returns
    -------
    str
        A sentence that begins with a space, or nothing where nothing is near.

    Examples
    --------
    >>> hint_for("lr", {"lr": "learning_rate"}, ["learning_rate", "momentum"])
    " Did you mean 'learning_rate'?"
    >>> hint_for("lr", {"lr": "learning_rate"}, ["momentum"])
    ''
    >>> hint_for("momentun", {}, ["learning_rate", "momentum"])
    " Did you mean 'momentum'?"
    >>> hint_for("colour", {}, ["learning_rate", "momentum"])
    ''
    """
    said = words.get(name)
    if said is not None and not said.isidentifier():
        return f" {said}"
    known = tuple(known)
    near = said if said in known else nearest(name, known)
    return "" if near is None else f" Did you mean {near!r}?"


def refuse(
    name: str, parameters: Iterable[str], words: Mapping[str, str], unknown: Iterable[str]
) -> NoReturn:
    """Say that a function has no such argument, and which one is most likely meant.

    Parameters
    ----------
    name : str
        What the function is called in messages.
    parameters : iterable of str
        The arguments that it has.
    words : mapping of str to str
        Words of other libraries, as in `hint_for`.
    unknown : iterable of str
        Arguments that were given by name; the first one that is not a parameter is told.

    Raises
    ------
    TypeError
        Always.
    """
    known = [one for one in parameters if one not in ("self", "unknown")]
    first = next(one for one in unknown if one not in known)
    hint = hint_for(first, words, known) or f" It has {', '.join(known) or 'none'}."
    raise TypeError(f"{name}() has no argument {first!r}.{hint}")


def advise(function: FunctionType, words: Mapping[str, str], name: str) -> FunctionType:
    """Have a function say what an argument that it does not have most likely means.

    Parameters
    ----------
    function : function
        Of a module or a class.  One that takes ``**unknown`` itself, and refuses it, is left as it
        is but for its signature: no call stands around its own.
    words : mapping of str to str
        Words of other libraries, as in `hint_for`.
    name : str
        What the function is called in messages.

    Returns
    -------
    function
        The same; where an unknown argument by name is given, the TypeError names what is near and
        what there is.

    Examples
    --------
    >>> def draw(size, colour="black"):
    ...     return size, colour
    >>> advise(draw, {"hue": "colour"}, "draw")(3, hue="red")
    Traceback (most recent call last):
    ...
    TypeError: draw() has no argument 'hue'. Did you mean 'colour'?
    """
    signature = inspect.signature(function)
    if "unknown" in signature.parameters:
        kept = [one for key, one in signature.parameters.items() if key != "unknown"]
        marked: Any = function
        marked.__signature__ = signature.replace(parameters=kept)
        return function
    taken = frozenset(signature.parameters)
    parameters = tuple(signature.parameters)
    say = refuse

    def template(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not kwargs.keys() <= taken:
            say(name, parameters, words, kwargs)
        return function(*args, **kwargs)

    # With the module of the function it stands for, so that its examples are found and run.
    advised = FunctionType(
        template.__code__, function.__globals__, function.__name__, None, template.__closure__
    )
    update_wrapper(advised, function)
    # For those too who do not look at what is wrapped.
    marked = advised
    marked.__signature__ = signature
    return advised


def advised(
    words: Mapping[str, str], name: str
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Return `advise` as a decorator.

    Parameters
    ----------
    words : mapping of str to str
        As there.
    name : str
        As there.
    """

    def decorate(function: Callable[..., Answer]) -> Callable[..., Answer]:
        assert isinstance(function, FunctionType)
        return advise(function, words, name)

    return decorate


def arguments_wanted(function: object, count: int) -> str | None:
    """Return what a function must be called with, if not with so many arguments by place.

    Parameters
    ----------
    function : callable
        A user's function.
    count : int
        How many arguments it is to be called with.

    Returns
    -------
    str or None
        Its signature where it does not take so many; None where it does, or does not tell.

    Examples
    --------
    >>> arguments_wanted(lambda run: None, 1) is None
    True
    >>> arguments_wanted(lambda epoch, logs: None, 1)
    '(epoch, logs)'
    """
    try:
        # What a decorator wraps may take others than what it returns does.
        signature = inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return str(signature)
    return None


def check_hooks(callback: object, hooks: Sequence[str], words: Mapping[str, str]) -> None:
    """Refuse hooks that nothing calls, and such as take other arguments than the run.

    Parameters
    ----------
    callback : object
        Whose methods named ``on_...`` are looked at.
    hooks : sequence of str
        Those that are called, with one argument.
    words : mapping of str to str
        Hooks of other libraries, and which of these is meant.

    Raises
    ------
    TypeError
        If there is another hook, or one that cannot be called with the run alone.
    """
    kind = type(callback).__name__
    for name in dir(callback):
        if not name.startswith("on_") or not callable(getattr(callback, name)):
            continue
        if name not in hooks:
            meant = words.get(name) or nearest(name, hooks)
            hint = "" if meant is None else f" Did you mean {meant!r}?"
            raise TypeError(
                f"a callback must have no hooks but {', '.join(map(repr, hooks))}; "
                f"got {name!r} of {kind}, which nothing calls.{hint}"
            )
        wanted = arguments_wanted(getattr(callback, name), 1)
        if wanted is not None:
            raise TypeError(
                f"{name} must take one argument beside self, the run, which has epoch, logs and "
                f"network; got {kind}.{name}{wanted}."
            )


def tell_arguments(
    cls: Any, arguments: Mapping[str, str], methods: Mapping[str, Mapping[str, str]]
) -> None:
    """Have a class and some of its methods say what arguments that they do not take mean.

    Parameters
    ----------
    cls : type
        Changed.
    arguments : mapping of str to str
        What to say of the arguments that it is made with; as in `hint_for`.
    methods : mapping of str to mapping of str to str
        What to say of those of these methods.

    Examples
    --------
    >>> class Pen:
    ...     def draw(self, size):
    ...         return size
    >>> tell_arguments(Pen, {}, {"draw": {"width": "size"}})
    >>> Pen().draw(width=3)
    Traceback (most recent call last):
    ...
    TypeError: Pen.draw() has no argument 'width'. Did you mean 'size'?
    """
    if isinstance(cls.__init__, FunctionType):
        cls.__init__ = advise(cls.__init__, arguments, cls.__name__)
    for method, words in methods.items():
        advised = advise(getattr(cls, method), words, f"{cls.__name__}.{method}")
        setattr(cls, method, advised)


def understands(
    arguments: Mapping[str, str],
    attributes: Mapping[str, str] | None = None,
    methods: Mapping[str, Mapping[str, str]] | None = None,
) -> Callable[[AnyClass], AnyClass]:
    """Have a class say what words of other libraries mean here.

    Parameters
    ----------
    arguments : mapping of str to str
        What to say of arguments that it does not take; as in `hint_for`.
    attributes : mapping of str to str, optional
        What to say of attributes that its objects do not have; by default the same.
    methods : mapping of str to mapping of str to str, optional
        What to say of arguments that these methods do not take.

    Returns
    -------
    callable
        A decorator of classes.

    Examples
    --------
    >>> @understands({"colour": "ink"}, {"draw": "Give it to a printer."})
    ... class Pen:
    ...     def __init__(self, ink):
    ...         self.ink = ink
    >>> Pen(colour="red")
    Traceback (most recent call last):
    ...
    TypeError: Pen() has no argument 'colour'. Did you mean 'ink'?
    >>> Pen("red").draw
    Traceback (most recent call last):
    ...
    AttributeError: 'Pen' object has no attribute 'draw'. Give it to a printer.
    """
    said = arguments if attributes is None else attributes

    def decorate(cls: AnyClass) -> AnyClass:
        made: Any = cls
        tell_arguments(made, arguments, methods or {})

        def __getattr__(self: Any, name: str) -> Any:
            hint = ""
            if not name.startswith("_"):
                known = [*dir(type(self)), *getattr(self, "__dict__", ())]
                hint = hint_for(name, said, [one for one in known if not one.startswith("_")])
            stop = "." if hint else ""
            message = f"{type(self).__name__!r} object has no attribute {name!r}{stop}{hint}"
            raise AttributeError(message, name=name, obj=self)

        made.__getattr__ = __getattr__
        return cls

    return decorate
