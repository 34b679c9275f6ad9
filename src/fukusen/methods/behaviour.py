"""What becomes of the scores of altered images: forward passes that all scores share, and estimates with errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Images, Maps
from fukusen.records import Undefined
from fukusen.scores import Score, value_of
from fukusen.tape import Tape

Values = Float[Tensor, "b n"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """Maps that rest on random draws, and how far other draws would have moved them.

    Args:
        maps: shape (b, h, w), in units of the score.
        error: the standard error of each cell, same shape and unit, at least 0; or why there is none.
    """

    maps: Maps
    error: Maps | Undefined


Estimated = Estimate | Undefined


def values_of(tape: Tape, scores: Sequence[Score], altered: Iterable[Images]) -> list[Values]:
    """What the scores make of images that are altered in one way after another.

    Args:
        tape: the pass that says which classes are explained.
        scores: all that is read from each forward pass.
        altered: the batch's images (b, c, h, w) in one alteration after another; each costs one forward pass.

    Returns:
        For each score shape (b, n), float64, in its units.
    """
    model = tape.classifier
    found: list[list[Tensor]] = [[] for _ in scores]
    for images in altered:
        logits = model.logits(images)
        for score, values in zip(scores, found, strict=True):
            values.append(value_of(score, model.head, logits, tape.targets))
    return [torch.stack(values, dim=1) for values in found]


def images_of(tape: Tape) -> Images:
    """The batch's images where and how the network computes."""
    return tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)
