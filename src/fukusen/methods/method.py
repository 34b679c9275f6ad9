"""What a method is: a frozen dataclass whose fields are its parameters, and which holds no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

from fukusen.arrays import Maps
from fukusen.records import Undefined
from fukusen.registry import Registry
from fukusen.scores import Score
from fukusen.tape import Tape

Track = Literal["inner", "outer"]
Family = Literal["cam", "gradient", "path", "relevance", "attention", "perturbation"]
Reading = Literal["positive", "magnitude"]
Explained = Maps | Undefined


@runtime_checkable
class Method(Protocol):
    """A way to make maps.

    ``track``: whether it reads the network's insides or its behaviour alone. ``reading``: which part of the signed map
    people look at. ``cost``: its passes in words. ``fits``: the networks that it can be right on, in words.
    ``single_pass``: whether it needs no pass beyond the tape's own. ``at_input``: whether it needs gradients at the
    input.

    Two facts are given only where they differ from the usual: ``leak_share``, see below, and ``class_agnostic = True``
    where the maps are the same for every class and score, because no gradient of a score is read.
    """

    name: ClassVar[str]
    track: ClassVar[Track]
    family: ClassVar[Family]
    reading: ClassVar[Reading]
    source: ClassVar[str]
    cost: ClassVar[str]
    fits: ClassVar[str]
    single_pass: ClassVar[bool]
    at_input: ClassVar[bool]

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """One signed map per image for each score, or why there is none.

        All scores are given at once, so that the passes they can share are shared.

        Args:
            tape: the forward pass to explain.
            scores: what about the target class is explained.

        Returns:
            For each score maps of shape (b, h, w) at native resolution, positive where the evidence speaks for the
            class; or ``Undefined``.
        """
        ...


methods: Registry[Method] = Registry("method")


def is_class_agnostic(method: Method) -> bool:
    """Whether the maps are the same for every class and score."""
    return bool(getattr(method, "class_agnostic", False))


def leak_share(method: Method) -> float:
    """How much of a score's shift leak enters the method's maps.

    Returns:
        1 for most methods; 0 where no score is read, or where what is explained cancels every shift; in between where
        it cancels a part.
    """
    return 0.0 if is_class_agnostic(method) else float(getattr(method, "leak_share", 1.0))
