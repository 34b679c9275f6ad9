"""What is known of a model before any image was looked at, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fukusen.models import Classifier


@dataclass(frozen=True)
class ModelFacts:
    """A model as the judge and the reports know it.

    Args:
        spec: how it was asked for.
        digest: its name over weights, code and preprocessing.
        classes: how many.
        head: ``softmax``, ``sigmoid``, ``probabilities`` or ``unknown``.
        head_assumed: whether the kind could not be read off the numbers.
        shift_is_free: whether a number added to every output leaves the predictions alone.
        layer: where class activation maps are read, or None.
        layer_size: rows and columns there.
        input: channels, rows and columns of one image.
        parameters: how many numbers were trained.
        notes: what was assumed, in sentences.
    """

    spec: str
    digest: str
    classes: int
    head: str
    head_assumed: bool
    shift_is_free: bool
    layer: str | None
    layer_size: tuple[int, int] | None
    input: tuple[int, int, int]
    parameters: int
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The model as it stands in audit.json."""
        return {
            "spec": self.spec,
            "digest": self.digest,
            "classes": self.classes,
            "head": self.head,
            "head_assumed": self.head_assumed,
            "layer": self.layer,
            "layer_size": list(self.layer_size) if self.layer_size else None,
            "input": list(self.input),
            "parameters": self.parameters,
            "notes": list(self.notes),
        }


def facts_of(model: Classifier) -> ModelFacts:
    """The facts about a classifier."""
    place = model.layer
    return ModelFacts(
        spec=model.spec,
        digest=model.digest,
        classes=len(model.classes),
        head=model.head.public,
        head_assumed=model.head.assumed,
        shift_is_free=model.head.shift_is_free,
        layer=str(place) if place else None,
        layer_size=place.shape[1:] if place else None,
        input=model.input_shape,
        parameters=sum(value.numel() for value in model.net.parameters()),
        notes=model.notes,
    )
