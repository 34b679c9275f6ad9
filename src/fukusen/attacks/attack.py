"""What an attack is, and how the promise of its twin is checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from fukusen.arrays import Images
from fukusen.models import Classifier
from fukusen.registry import Registry


@dataclass(frozen=True)
class Promise:
    """How well a twin keeps the predictions of the model it was made from, as measured.

    Args:
        tolerance: the largest change of any probability that was promised.
        largest_change: the largest change of any probability that was found, 0 to 1.
        flips: how many predictions changed.
        images: on how many images it was measured.
    """

    tolerance: float
    largest_change: float
    flips: int
    images: int

    @property
    def kept(self) -> bool:
        """Whether the promise held on every image."""
        return self.flips == 0 and self.largest_change <= self.tolerance


@dataclass(frozen=True, eq=False, kw_only=True)
class Twin(Classifier):
    """A changed model, to be explained like any other.

    Args:
        promise: what was promised about its predictions, and what was measured.
    """

    promise: Promise


@runtime_checkable
class Attack(Protocol):
    """A way to change a model; a frozen dataclass whose fields are its parameters.

    ``threat``: who could do this and how, in one sentence. ``fools``: the scores whose maps it should redraw.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    threat: ClassVar[str]
    fools: ClassVar[tuple[str, ...]]
    tolerance: ClassVar[float]

    def twin(self, model: Classifier) -> Classifier:
        """A changed copy; the model given is not touched."""
        ...


attacks: Registry[Attack] = Registry("attack")


def verified(attack: Attack, model: Classifier, images: Images) -> Twin:
    """The attack's twin with its promise measured.

    Args:
        attack: what to do.
        model: the model, left as it is.
        images: preprocessed images to measure the promise on, shape (b, c, h, w).

    Returns:
        The twin; ``twin.promise.kept`` says whether its predictions are the model's.
    """
    made = attack.twin(model)
    before, after = (one.probabilities(one.logits(images)) for one in (model, made))
    promise = Promise(
        tolerance=attack.tolerance,
        largest_change=float((before - after).abs().max()),
        flips=int((before.argmax(dim=1) != after.argmax(dim=1)).sum()),
        images=len(images),
    )
    parts = (made.net, made.head, made.classes, made.layer, made.input_shape, made.preprocess, made.spec, made.notes)
    return Twin(*parts, promise=promise)
