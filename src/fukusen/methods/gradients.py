"""Gradients at the input: how the score answers to each pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.arrays import Gradients, Images, Maps
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import INPUT
from fukusen.scores import Score
from fukusen.tape import Tape


class _AtInput(ABC):
    """The walk that gradient maps share; proportional scores share one map."""

    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "the tape's own passes, back to the input"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = True
    at_input: ClassVar[bool] = True

    @abstractmethod
    def read(self, images: Images, gradients: Gradients) -> Maps:
        """Images and gradients (b, c, h, w) to signed maps (b, h, w)."""

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, one for each score."""
        images = tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)
        made: dict[Score, Maps] = {}
        found: list[Explained] = []
        for score in scores:
            direction, scale = tape.factors(score)
            if direction not in made:
                made[direction] = self.read(images, tape.direction_gradient(direction, INPUT))
            own = made[direction]
            found.append(own if direction == score else own * scale.to(own.dtype)[:, None, None])
        return found


@methods.register
@dataclass(frozen=True)
class Gradient(_AtInput):
    """The gradient at the input, summed over the channels; people look at its magnitude.

    Source: simonyan2014saliency.
    """

    name: ClassVar[str] = "gradient"
    source: ClassVar[str] = "simonyan2014saliency"
    reading: ClassVar[Reading] = "magnitude"

    def read(self, images: Images, gradients: Gradients) -> Maps:  # noqa: ARG002 - needs no image
        """sum_c g_c, in score per unit of preprocessed pixel."""
        return gradients.sum(dim=1)


@methods.register
@dataclass(frozen=True)
class InputXGradient(_AtInput):
    """Input times gradient, summed over the channels: the first-order share of each pixel against a zero image.

    Source: shrikumar2016not.
    """

    name: ClassVar[str] = "input_x_gradient"
    source: ClassVar[str] = "shrikumar2016not"
    reading: ClassVar[Reading] = "positive"

    def read(self, images: Images, gradients: Gradients) -> Maps:
        """sum_c x_c g_c, in units of the score."""
        return torch.einsum("bchw,bchw->bhw", images, gradients)
