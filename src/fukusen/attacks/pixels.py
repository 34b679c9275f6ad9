"""What one level of a picture, a 255th of its range, is in a model's own units, and how far pixels may go."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fukusen.arrays import Images
from fukusen.models import Classifier

LEVELS = 255
PerChannel = Float[Tensor, "c 1 1"]


@dataclass(frozen=True, eq=False)
class Pixels:
    """The range of a model's preprocessed pixels, channel by channel.

    Args:
        level: how much one level of 255 is.
        low: the smallest value of a pixel.
        high: the largest.
    """

    level: PerChannel
    low: PerChannel
    high: PerChannel

    def within(self, images: Images, originals: Images, budget: float) -> Images:
        """Images brought back to within so many levels of their originals, and to pixels that a picture can have.

        Args:
            images: to bring back, shape (b, c, h, w).
            originals: what they were made from; pixels of theirs beyond the range may stay so.
            budget: in levels.
        """
        reach = budget * self.level
        nearest = torch.minimum(torch.maximum(images, originals - reach), originals + reach)
        low, high = torch.minimum(self.low, originals), torch.maximum(self.high, originals)
        return torch.minimum(torch.maximum(nearest, low), high)


def pixels_of(model: Classifier, images: Images) -> Pixels:
    """What the model's own preprocessing makes of a black and of a white picture.

    Args:
        model: asked for its preprocessing; without one, the range of the images' own values is taken for a picture's.
        images: preprocessed, shape (b, c, h, w).
    """
    if model.preprocess is None:
        low, high = (value.expand(images.shape[1], 1, 1) for value in (images.min(), images.max()))
        return Pixels((high - low) / LEVELS, low, high)
    size = (model.input_shape[2], model.input_shape[1])
    ends = [model.preprocess(Image.new("RGB", size, (shade,) * 3)).to(images) for shade in (0, LEVELS)]
    black, white = (end.mean(dim=(1, 2))[:, None, None] for end in ends)
    return Pixels((white - black).abs() / LEVELS, torch.minimum(black, white), torch.maximum(black, white))
