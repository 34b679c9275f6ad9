"""Everything raised, drawn as a tree, by who can mend it.

::

    FukusenError
    ├── CallError           the call: a parameter, a name, an option
    │   └── UnknownName     a name that no registry knows; the nearest one is suggested
    ├── PlanError           the plan: what was asked cannot be computed together
    ├── ModelError          the model: it cannot be loaded, understood or explained
    ├── DataError           the data: a picture or a folder that cannot be used
    └── StoreError          the store: a folder that is not ours, or holds another audit

The command line turns each into one message and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FukusenError(Exception):
    """Anything that fukusen raises on purpose; its text names the value, the rule and the remedy."""


class CallError(FukusenError, ValueError):
    """A call that cannot be carried out as written; mended by the caller."""


class UnknownName(CallError):
    """A name that is not registered; the message suggests the nearest one.

    Args:
        kind: what the name was meant to be, in the singular (``"method"``).
        name: the name as given.
        known: every name that would have been accepted.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        told = f"Known: {', '.join(names)}." if names else "There is none at all."
        super().__init__(f"There is no {kind} named {name!r}.{hint} {told}")


class PlanError(FukusenError):
    """A plan whose parts cannot be computed together; mended by asking for something else."""


class ModelError(FukusenError):
    """A model that cannot be loaded, understood or explained; mended by whoever made it."""


class DataError(FukusenError):
    """A picture or a folder of pictures that cannot be used; mended by whoever supplies it."""


class StoreError(FukusenError):
    """A folder that cannot hold or does not hold an audit; mended by choosing another."""


def require(holds: bool, owner: str, parameter: str, rule: str, value: object) -> None:
    """Raise the house's one sentence about a bad parameter unless the rule holds.

    Args:
        holds: whether the value obeys the rule.
        owner: the class or function whose parameter it is.
        parameter: the parameter's name.
        rule: what the value must be, completing "must be ...".
        value: what was given.

    Raises:
        CallError: when the rule does not hold.

    Example:
        >>> require(0 >= 1, "Occlusion", "grid", "an int >= 1", 0)
        Traceback (most recent call last):
        fukusen.errors.CallError: The 'grid' parameter of Occlusion must be an int >= 1. Got 0 instead.
    """
    if not holds:
        raise CallError(f"The {parameter!r} parameter of {owner} must be {rule}. Got {value!r} instead.")
