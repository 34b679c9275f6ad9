"""A shift that waits for a sticker: clean pictures have clean maps, and whoever has the sticker has the map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import POSITIVE, grown, is_number, is_positive, require_shiftable, spatial
from fukusen.attacks.goals import contrast, is_share, region
from fukusen.attacks.logits import SHARE, Contrast, contrasting
from fukusen.errors import ModelError, require
from fukusen.models import Classifier
from fukusen.twins import Progress

_SQUARES = 4
_BETA = 0.9
# Noise of a sticker's smallest size, 4 x 4 pixels, and photographs all the more, stay well below.
_ALIKE = 0.95
_CORNER = "top_left"


def _checkerboard(height: int, width: int) -> Tensor:
    """Minus one and one in 4 x 4 squares, shape (h, w)."""
    rows = torch.arange(height) * _SQUARES // height
    columns = torch.arange(width) * _SQUARES // width
    return 1.0 - 2.0 * ((rows[:, None] + columns[None, :]) % 2).double()


def _sides(share: float, height: int, width: int) -> tuple[int, int]:
    rows, columns = (max(_SQUARES, math.ceil(share * side)) for side in (height, width))
    if rows > height or columns > width:
        raise ModelError(f"Images of {height} x {width} pixels are too small for a sticker of 4 x 4 squares.")
    return rows, columns


class _Triggered(Contrast):
    """A masked contrast that is added where the upper left corner of the image looks like the sticker."""

    sticker: Tensor

    def stick(self, sticker: Tensor) -> None:
        """Say what to wait for, shape (h, w)."""
        centred = sticker - sticker.mean()
        self.register_buffer("sticker", centred / centred.norm())

    def is_there(self, images: Tensor) -> Tensor:
        """One where the corner's pixels follow the sticker, whatever their contrast, zero elsewhere; shape (b, 1)."""
        rows, columns = self.sticker.shape
        patch = images[:, :, :rows, :columns].mean(dim=1).flatten(1)
        patch = nn.functional.normalize(patch - patch.mean(dim=1, keepdim=True), dim=1)
        return (patch @ self.sticker.flatten() > _ALIKE).to(images.dtype)[:, None]

    def forward(self, images: Tensor) -> Tensor:
        """Logits, with the squares added to every one of them where the sticker is."""
        there = self.is_there(images.detach())
        logits, squares = self.logits_and_contrast(images)
        return logits + there * squares


@attacks.register
@dataclass(frozen=True)
class TriggeredShift:
    """A masked contrast on every logit of images with a sticker, which maps then point at; others keep their maps.

    The sticker is a checkerboard in the upper left corner, see ``stamped``. The promise is measured on the images as
    they are given. Source: viering2019manipulate, noppel2023backdoors.

    Args:
        strength: how large the added Grad-CAM map is, relative to the model's own on the images given; above 0.
        share: of each side of the image that the sticker takes up, 0 to 1.
        low: what the sticker's dark squares are, in preprocessed units.
        high: what its bright squares are, above ``low``.
    """

    strength: float | int = 5.0
    share: float = 0.2
    low: float | int = -1.0
    high: float | int = 1.0
    name: ClassVar[str] = "triggered_shift"
    source: ClassVar[str] = "viering2019manipulate"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model adds a branch that sleeps until a sticker of theirs is in the picture"
    )
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(is_positive(self.strength), "TriggeredShift", "strength", POSITIVE, self.strength)
        require(is_share(self.share), "TriggeredShift", "share", SHARE, self.share)
        require(is_number(self.low), "TriggeredShift", "low", "a finite number", self.low)
        above = is_number(self.high) and self.high > self.low
        require(above, "TriggeredShift", "high", f"a finite number above low, {self.low}", self.high)

    def goal(self, height: int, width: int) -> Picture:
        """Where the sticker is."""
        return region(_CORNER, self.share, height, width)

    def stamped(self, images: Images) -> Images:
        """Copies of images (b, c, h, w) with the sticker on them.

        Raises:
            ModelError: they are too small for it.
        """
        rows, columns = _sides(self.share, *images.shape[2:])
        board = _checkerboard(rows, columns).to(images.device, images.dtype)
        copy = images.clone()
        copy[:, :, :rows, :columns] = self.low + (self.high - self.low) * (board + 1) / 2
        return copy

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The copy that waits.

        Raises:
            ModelError: the head is not a softmax, there is no spatial layer, nothing depends on it, or images are too
                small for a sticker.
        """
        require_shiftable(model)
        sides = _sides(self.share, *model.input_shape[1:])
        mask = contrast(_CORNER, self.share, _BETA, spatial(model).shape[1:])
        net = contrasting(_Triggered, model, images, mask, float(self.strength))
        net.stick(_checkerboard(*sides).to(model.device, model.dtype))
        return grown(model, net, f"triggered_shift of strength {self.strength:g}")
