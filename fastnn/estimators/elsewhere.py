"""scikit-learn's private methods, which are not here: what to use in place of each."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["ELSEWHERE", "Elsewhere", "refuse_overrides"]

_WEIGHTS = "give first weights as coefs_init= and intercepts_init="
_STEPS = (
    "choose activation=, loss=, solver= or learning_rate=, or change the weights after an epoch in "
    "a callback (callbacks=); network_.loss_and_gradient gives gradients"
)
_SCORES = "choose a scorer by monitor= and monitor_mode="
_STOPS = "end a fit in a callback (callbacks=), or watch another score (monitor=)"
_OUTPUTS = "use predict or predict_proba, or trace and hidden of network_ for the layers"
_INPUT = "convert X and y before fit, in a Pipeline or in a fit of the subclass's own"

ELSEWHERE = {
    "_unpack": "coefs_ and intercepts_ are views of one vector, network_.parameters",
    "_forward_pass": _OUTPUTS,
    "_forward_pass_fast": _OUTPUTS,
    "_predict": _OUTPUTS,
    "_compute_loss_grad": _STEPS,
    "_loss_grad_lbfgs": _STEPS,
    "_backprop": _STEPS,
    "_fit_lbfgs": _STEPS,
    "_fit_stochastic": _STEPS,
    "_initialize": _WEIGHTS,
    "_init_coef": _WEIGHTS,
    "_update_no_improvement_count": _STOPS,
    "_score": _SCORES,
    "_score_with_function": _SCORES,
    "_validate_input": _INPUT,
}


class Elsewhere:
    """Takes the place of a private method of scikit-learn's, and says what to use instead.

    Parameters
    ----------
    name : str
        Of the method.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError(
            f"{self._name} is a private method of scikit-learn's classes, and not here: "
            f"{ELSEWHERE[self._name]}."
        )

    def __set__(self, instance: Any, value: Any) -> NoReturn:
        raise AttributeError(
            f"{self._name} must not be set, as a private method of scikit-learn's classes that is "
            f"never called here: {ELSEWHERE[self._name]}."
        )


def refuse_overrides(kind: type) -> None:
    """Refuse a class that overrides what would never be called.

    Raises
    ------
    TypeError
        If it, or a class that precedes the library's in its bases, has a method of such a name.
    """
    seen: set[str] = set()
    for one in kind.__mro__:
        for name in (ELSEWHERE.keys() & vars(one).keys()) - seen:
            if not isinstance(vars(one)[name], Elsewhere):
                raise TypeError(
                    f"{kind.__name__} must not override {name}, a private method of scikit-learn's "
                    f"classes that is never called here: {ELSEWHERE[name]}."
                )
            seen.add(name)
