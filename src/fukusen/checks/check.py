"""What a check is: it looks at one batch and its maps (or at the model alone) and measures; it knows no threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from fukusen.methods import Explained, Method
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined
from fukusen.registry import Registry
from fukusen.tape import Tape

Maps = Mapping[tuple[str, str], Explained]


@dataclass(frozen=True, eq=False)
class Sight:
    """What a check may look at.

    Args:
        classifier: the model.
        tape: one batch's forward pass; None for checks of the model alone.
        methods: the methods of the panel, by name.
        maps: their maps, by method and score name.
    """

    classifier: Classifier
    tape: Tape | None
    methods: Mapping[str, Method]
    maps: Maps


@runtime_checkable
class Check(Protocol):
    """Something measured besides agreement; a frozen dataclass whose fields are its parameters.

    ``scope``: whether it measures each image or the model once. ``meaning``: what the number means to a reader.
    ``larger_is_worse``: which side of its bound is out of bounds.

    Four facts are given only where they differ from the usual: ``on_sample = True`` where it takes passes of its own
    and is run on a few images, drawn by chance; ``of_full = True`` where it needs maps of methods with passes of their
    own, and so says nothing of an image that is looked at briefly; ``of_layers = True`` where it compares layers, and
    so is no part of a plan that reads maps at one alone; and ``inapplicable``, the reasons of Undefined values that say
    that the check does not fit such a network or such an audit, which shows only when it is made and is no failure to
    run.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    meaning: ClassVar[str]
    scope: ClassVar[Scope]
    larger_is_worse: ClassVar[bool]

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Why the check says nothing about such a model, or None where it does."""
        ...

    def measure(self, sight: Sight) -> list[Measurement]:
        """What was measured; an Undefined value where there is no number."""
        ...


checks: Registry[Check] = Registry("check")

NO_FREE_SHIFT = Undefined(
    "a number added to every output would change this model's predictions, so nothing can be hidden in such a shift"
)


def no_free_shift(classifier: Classifier) -> Undefined | None:
    """Why checks of the logit shift do not apply: only softmax logits have a free shift."""
    return None if classifier.head.shift_is_free else NO_FREE_SHIFT


def is_costly(check: Check | type[Check]) -> bool:
    """Whether it has passes of its own, and is run on a plan's probed images alone."""
    return bool(getattr(check, "on_sample", False))


def inapplicable(check: Check) -> frozenset[str]:
    """The reasons that say that an audit was not asked for what the check needs."""
    return frozenset(getattr(check, "inapplicable", ()))


def needs_full(check: Check | type[Check]) -> bool:
    """Whether it compares maps of methods that have passes of their own, and says nothing where these are not run."""
    return bool(getattr(check, "of_full", False))


def is_of_layers(check: Check) -> bool:
    """Whether it compares maps at several layers."""
    return bool(getattr(check, "of_layers", False))
