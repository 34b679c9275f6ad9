"""Behaviour alone: many random masks over the image, and which places the score goes along with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Images, Maps
from fukusen.errors import require
from fukusen.methods.behaviour import Estimate, Estimated, Values, images_of, values_of
from fukusen.methods.fills import Fill, hiding, require_fill
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.scores import Score
from fukusen.tape import Tape

Masks = Float[Tensor, "n h w"]
_AT_ONCE = 64


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
    becomes the preprocessed value zero, as in the paper: the mean colour for most networks; or another fill. Same masks
    for every image and score, and those of fewer masks are the first of those of more. Source: petsiuk2018rise.

    Args:
        masks: how many, at least 2.
        cells: a side of the coarse grid that masks are drawn on, at least 1.
        keep: the chance of a cell to be kept, between 0 and 1.
        fill: what is seen where nothing is let through: ``zero`` in preprocessed units; ``mean``, the image's own mean
            colour; ``blur``, ``noise`` or ``inpaint``.
        seed: from which the masks follow, and the noise.
    """

    masks: int = 256
    cells: int = 7
    keep: float = 0.5
    fill: Fill = "zero"
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
        require_fill("Rise", self.fill)
        require(type(self.seed) is int and self.seed >= 0, "Rise", "seed", "an int >= 0", self.seed)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, in units of the score; all scores share the passes."""
        images = images_of(tape)
        return [self._averaged(self._away(values), images) for values in self._values(tape, scores, images)]

    def estimates(self, tape: Tape, scores: Sequence[Score]) -> list[Estimated]:
        """The maps, each with its standard error; no forward pass more than the maps take.

        The error falls with the square root of the number of masks, so four times as many halve it.
        """
        images = images_of(tape)
        found: list[Estimated] = []
        for values in self._values(tape, scores, images):
            away = self._away(values)
            maps = self._averaged(away, images)
            found.append(Estimate(maps, self._error(away, maps, images)))
        return found

    def _drawn(self, images: Images) -> Iterator[Masks]:
        """The masks, one after another."""
        shape = (int(images.shape[2]), int(images.shape[3]))
        return islice(random_masks(shape, self.cells, self.keep, self.seed), self.masks)

    def _stacks(self, images: Images) -> Iterator[tuple[slice, Masks]]:
        """The masks, some at once, and which they are; they are drawn again, for all of them would fill the memory."""
        drawn = self._drawn(images)
        for first in range(0, self.masks, _AT_ONCE):
            stack = torch.cat(list(islice(drawn, _AT_ONCE))).to(images.dtype).to(images.device)
            yield slice(first, first + len(stack)), stack

    def _values(self, tape: Tape, scores: Sequence[Score], images: Images) -> list[Values]:
        if not scores:
            return []
        shown = hiding(images, self.fill, self.seed)
        return values_of(tape, scores, (shown.through(mask) for mask in self._drawn(images)))

    @staticmethod
    def _away(values: Values) -> Values:
        """The scores' distances from their mean."""
        return values - values.mean(dim=1, keepdim=True)

    def _averaged(self, away: Values, images: Images) -> Maps:
        """The masks averaged with the scores' distances from their mean."""
        weights = away.to(images.dtype)
        total = images.new_zeros(images.shape[0], *images.shape[2:])
        for which, stack in self._stacks(images):
            total += torch.einsum("bn,nhw->bhw", weights[:, which], stack)
        return total / (self.masks * self.keep)

    def _error(self, away: Values, maps: Maps, images: Images) -> Maps:
        """The spread of what the masks add to the mean, over the root of their number."""
        mean = torch.stack([stack.sum(dim=0) for _, stack in self._stacks(images)]).sum(dim=0) / self.masks
        squares = away.square().to(images.dtype)
        total = torch.zeros_like(maps)
        for which, stack in self._stacks(images):
            total += torch.einsum("bn,nhw->bhw", squares[:, which], (stack - mean).square())
        spread = total / (self.masks * self.keep**2) - maps.square()
        return (spread.clamp_min(0) / (self.masks - 1)).sqrt()
