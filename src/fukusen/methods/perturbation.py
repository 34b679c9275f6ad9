"""Behaviour alone: hide a part of the image, and see what becomes of the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.arrays import Images, Maps
from fukusen.errors import require
from fukusen.methods.behaviour import Values, images_of, values_of
from fukusen.methods.fills import Fill, hiding, require_fill
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.scores import Score
from fukusen.tape import Tape

Window = tuple[slice, slice]


def falls_of(tape: Tape, scores: Sequence[Score], windows: Sequence[Window], fill: Fill, seed: int) -> list[Values]:
    """By how much each score falls when one window after another is hidden: for each score shape (b, n), float64."""
    images = images_of(tape)
    before = [tape.value(score)[:, None] for score in scores]
    shown = hiding(images, fill, seed)

    def altered() -> Iterator[Images]:
        for rows, columns in windows:
            keep = torch.ones(1, *images.shape[2:], dtype=images.dtype, device=images.device)
            keep[:, rows, columns] = 0
            yield shown.through(keep)

    after = values_of(tape, scores, altered()) if scores else []
    return [start - end for start, end in zip(before, after, strict=True)]


@methods.register
@dataclass(frozen=True)
class Occlusion:
    """Occlusion: how much the score falls when a square around one cell of a grid over the image is painted over.

    Squares larger than their cells overlap; they hide whole parts of things, and are less noisy than single cells. A
    cell has its own square's number; for the mean over all squares that hide a pixel see ``sliding_occlusion``.
    Source: zeiler2014occlusion.

    Args:
        grid: cells a side, from 1 to the image's side.
        window: side of the square, in cells, at least 1.
        fill: what a cell is painted with: ``mean``, the image's own mean colour; ``zero`` in preprocessed units;
            ``blur``, ``noise`` or ``inpaint``.
        seed: of the noise, at least 0.
    """

    grid: int = 7
    window: float = 2.0
    fill: Fill = "mean"
    seed: int = 0
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
        require_fill("Occlusion", self.fill)
        require(type(self.seed) is int and self.seed >= 0, "Occlusion", "seed", "an int >= 0", self.seed)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, grid, grid), in units of the score; all scores share the forward passes."""
        count, *_, rows, columns = tape.batch.images.shape
        require(self.grid <= min(rows, columns), "Occlusion", "grid", f"at most {min(rows, columns)} here", self.grid)
        windows = [(self._edges(i, rows), self._edges(j, columns)) for i in range(self.grid) for j in range(self.grid)]
        falls = falls_of(tape, scores, windows, self.fill, self.seed)
        shape = (count, self.grid, self.grid)
        found: list[Maps] = [fall.reshape(shape).to(tape.classifier.dtype) for fall in falls]
        return list(found)

    def _edges(self, number: int, side: int) -> slice:
        """The pixels of a square along one axis, cut off at the image's edge."""
        beyond = (self.window - 1) / 2
        first, last = (number - beyond) * side / self.grid, (number + 1 + beyond) * side / self.grid
        return slice(max(0, round(first)), min(side, round(last)))


@methods.register
@dataclass(frozen=True)
class SlidingOcclusion:
    """Sliding occlusion: how much the score falls, on average over the squares of a sliding window that hide a pixel.

    The window starts at the upper left corner and moves in strides until it has reached the other edge, where what lies
    beyond is cut off; sizes in pixels, as captum's Occlusion has them. Source: zeiler2014occlusion.

    Args:
        size: side of the window in pixels, at least 1; one larger than the image hides all of it.
        stride: pixels from one window to the next, from 1 to the window's side, so that every pixel is hidden once.
        fill: ``mean``, the image's own mean colour; ``zero`` in preprocessed units; ``blur``, ``noise`` or ``inpaint``.
        seed: of the noise, at least 0.
    """

    size: int = 32
    stride: int = 16
    fill: Fill = "mean"
    seed: int = 0
    name: ClassVar[str] = "sliding_occlusion"
    track: ClassVar[Track] = "outer"
    family: ClassVar[Family] = "perturbation"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "zeiler2014occlusion"
    cost: ClassVar[str] = "1 forward pass for each place of the window"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        owner = "SlidingOcclusion"
        require(type(self.size) is int and self.size >= 1, owner, "size", "an int >= 1", self.size)
        near = type(self.stride) is int and 1 <= self.stride <= self.size
        require(near, owner, "stride", f"an int from 1 to the size, {self.size}", self.stride)
        require_fill(owner, self.fill)
        require(type(self.seed) is int and self.seed >= 0, owner, "seed", "an int >= 0", self.seed)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, in units of the score; all scores share the passes."""
        rows, columns = tape.batch.images.shape[2:]
        windows = [(down, across) for down in self._places(rows) for across in self._places(columns)]
        falls = falls_of(tape, scores, windows, self.fill, self.seed)
        return [self._spread(fall.to(tape.classifier.dtype), windows, (rows, columns)) for fall in falls]

    def _places(self, side: int) -> list[slice]:
        """The window's places along one axis."""
        count = max(0, -(-(side - self.size) // self.stride)) + 1
        return [slice(number * self.stride, min(side, number * self.stride + self.size)) for number in range(count)]

    @staticmethod
    def _spread(falls: Tensor, windows: Sequence[Window], shape: tuple[int, int]) -> Maps:
        """Each pixel the mean over the windows that hide it."""
        total = falls.new_zeros(len(falls), *shape)
        times = falls.new_zeros(shape)
        for fall, (rows, columns) in zip(falls.T, windows, strict=True):
            total[:, rows, columns] += fall[:, None, None]
            times[rows, columns] += 1
        return total / times
