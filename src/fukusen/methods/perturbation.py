"""Behaviour alone: hide a part of the image, and see what becomes of the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from fukusen.arrays import Images, Maps
from fukusen.errors import require
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.scores import Score, value_of
from fukusen.tape import Tape

Fill = Literal["mean", "zero"]


@methods.register
@dataclass(frozen=True)
class Occlusion:
    """Occlusion: how much the score falls when a square around one cell of a grid over the image is painted over.

    Squares larger than their cells overlap; they hide whole parts of things, and are less noisy than single cells.
    Source: zeiler2014occlusion.

    Args:
        grid: cells a side, from 1 to the image's side.
        window: side of the square, in cells, at least 1.
        fill: what a cell is painted with: ``mean``, the image's own mean colour, or ``zero`` in preprocessed units.
    """

    grid: int = 7
    window: float = 2.0
    fill: Fill = "mean"
    name: ClassVar[str] = "occlusion"
    track: ClassVar[Track] = "outer"
    family: ClassVar[Family] = "perturbation"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "zeiler2014occlusion"
    cost: ClassVar[str] = "1 forward pass for each cell of the grid"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(isinstance(self.grid, int) and self.grid >= 1, "Occlusion", "grid", "an int >= 1", self.grid)
        require(self.window >= 1, "Occlusion", "window", "a number >= 1", self.window)
        require(self.fill in get_args(Fill), "Occlusion", "fill", "'mean' or 'zero'", self.fill)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, grid, grid), in units of the score; all scores share the forward passes."""
        model = tape.classifier
        images = tape.batch.images.to(model.device, model.dtype)
        rows, columns = images.shape[2:]
        require(self.grid <= min(rows, columns), "Occlusion", "grid", f"at most {min(rows, columns)} here", self.grid)
        before = [tape.value(score) for score in scores]
        falls: list[list[torch.Tensor]] = [[] for _ in scores]
        for hidden in self._hidden(images):
            logits = model.logits(hidden)
            for score, start, fall in zip(scores, before, falls, strict=True):
                fall.append(start - value_of(score, model.head, logits, tape.targets))
        shape = (images.shape[0], self.grid, self.grid)
        found: list[Maps] = [torch.stack(fall, dim=1).reshape(shape).to(model.dtype) for fall in falls]
        return list(found)

    def _hidden(self, images: Images) -> Iterator[Images]:
        """The images with the square around one cell after another painted over, row by row."""
        rows, columns = images.shape[2:]
        paint = images.mean(dim=(2, 3), keepdim=True) if self.fill == "mean" else torch.zeros_like(images[:, :, :1, :1])
        for i in range(self.grid):
            top, bottom = self._edges(i, rows)
            for j in range(self.grid):
                left, right = self._edges(j, columns)
                hidden = images.clone()
                hidden[:, :, top:bottom, left:right] = paint
                yield hidden

    def _edges(self, number: int, side: int) -> tuple[int, int]:
        """First and last pixel of a square along one axis, cut off at the image's edge."""
        beyond = (self.window - 1) / 2
        first, last = (number - beyond) * side / self.grid, (number + 1 + beyond) * side / self.grid
        return max(0, round(first)), min(side, round(last))
