"""Behaviour alone: many random masks over the image, and which places the score goes along with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Maps
from fukusen.errors import require
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.scores import Score, value_of
from fukusen.tape import Tape

Masks = Float[Tensor, "n h w"]


def random_masks(shape: tuple[int, int], cells: int, keep: float, seed: int) -> Iterator[Masks]:
    """One random mask after another, the same ones for the same arguments.

    Args:
        shape: rows and columns of the image.
        cells: a side of the coarse grid.
        keep: the chance of a cell to be kept.
        seed: from which all follow.

    Yields:
        Masks (1, h, w) from 0 to 1: the coarse grid enlarged bilinearly and shifted by up to one of its cells.
    """
    chance = torch.Generator().manual_seed(seed)
    steps = [-(-side // cells) for side in shape]
    large = [(cells + 1) * step for step in steps]
    while True:
        grid = (torch.rand(1, 1, cells, cells, generator=chance) < keep).double()
        grown = torch.nn.functional.interpolate(grid, large, mode="bilinear", align_corners=False)[0]
        top, left = (int(torch.randint(0, step, (1,), generator=chance)) for step in steps)
        yield grown[:, top : top + shape[0], left : left + shape[1]]


@methods.register
@dataclass(frozen=True)
class Rise:
    """RISE: where random masks let the image through when the score is high.

    The paper averages the masks weighted by the score, which adds the mean score everywhere; here it is taken off
    first, so that the map is signed and no score's zero matters: 1/(N keep) sum_i (s_i - mean s) M_i. What a mask hides
    becomes the preprocessed value zero, as in the paper: the mean colour for most networks. Same masks for every image
    and score. Source: petsiuk2018rise.

    Args:
        masks: how many, at least 2.
        cells: a side of the coarse grid that masks are drawn on, at least 1.
        keep: the chance of a cell to be kept, between 0 and 1.
        seed: from which the masks follow.
    """

    masks: int = 256
    cells: int = 7
    keep: float = 0.5
    seed: int = 0
    name: ClassVar[str] = "rise"
    track: ClassVar[Track] = "outer"
    family: ClassVar[Family] = "perturbation"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "petsiuk2018rise"
    cost: ClassVar[str] = "1 forward pass for each mask"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(type(self.masks) is int and self.masks >= 2, "Rise", "masks", "an int >= 2", self.masks)
        require(type(self.cells) is int and self.cells >= 1, "Rise", "cells", "an int >= 1", self.cells)
        require(0 < self.keep < 1, "Rise", "keep", "a number between 0 and 1", self.keep)
        require(type(self.seed) is int and self.seed >= 0, "Rise", "seed", "an int >= 0", self.seed)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, in units of the score; all scores share the passes."""
        if not scores:
            return []
        model = tape.classifier
        images = tape.batch.images.to(model.device, model.dtype)
        shape = (int(images.shape[2]), int(images.shape[3]))
        draws = random_masks(shape, self.cells, self.keep, self.seed)
        used: list[Masks] = []
        values: list[list[Tensor]] = [[] for _ in scores]
        for mask, _ in zip(draws, range(self.masks), strict=False):
            used.append(mask)
            logits = model.logits(images * mask.to(model.device, model.dtype))
            for score, found in zip(scores, values, strict=True):
                found.append(value_of(score, model.head, logits, tape.targets))
        stack = torch.cat(used).to(model.device, model.dtype)
        return [self._averaged(torch.stack(found, dim=1), stack) for found in values]

    def _averaged(self, values: Float[Tensor, "b n"], masks: Masks) -> Maps:
        """The masks averaged with the scores' distances from their mean."""
        away = (values - values.mean(dim=1, keepdim=True)).to(masks.dtype)
        maps: Maps = torch.einsum("bn,nhw->bhw", away, masks) / (self.masks * self.keep)
        return maps
