"""Rows and columns of a sequence of tokens: supposed from its length, believed when a touch of the image says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fukusen.arrays import Images

Point = tuple[float, float]
# Where images are touched, as shares of their height and width: no two alike when rows and columns are exchanged.
_POINTS: tuple[Point, ...] = ((0.1, 0.7), (0.8, 0.2), (0.4, 0.9), (0.6, 0.45))


@dataclass(frozen=True)
class Grid:
    """How tokens may lie in space.

    Args:
        rows: of the grid.
        columns: of the grid.
        prefix: how many tokens stand before the first cell's.
    """

    rows: int
    columns: int
    prefix: int

    def cell(self, point: Point) -> tuple[int, int]:
        """Row and column of the cell around a point."""
        return int(point[0] * self.rows), int(point[1] * self.columns)

    def token(self, point: Point) -> int:
        """Which token is the one of the cell around a point."""
        row, column = self.cell(point)
        return self.prefix + row * self.columns + column


def possible_grids(count: int, maps: Sequence[tuple[int, int]], images: torch.Size) -> list[Grid]:
    """The grids that so many tokens may have, likeliest first.

    Args:
        count: how many tokens.
        maps: rows and columns of the spatial outputs that ran before, the last first: patches are often embedded by a
            convolution.
        images: the shape of the images; where no map fits, cells are as square as their pixels.

    Returns:
        Grids with more than one cell that take up at least half of the tokens.
    """
    sizes = [*maps, *_of_aspect(count, images[2], images[3])]
    fitting = [(rows, columns) for rows, columns in sizes if 1 < rows * columns <= count <= 2 * rows * columns]
    return [Grid(rows, columns, count - rows * columns) for rows, columns in dict.fromkeys(fitting)]


def _of_aspect(count: int, height: int, width: int) -> Iterator[tuple[int, int]]:
    """Rows and columns in the image's own proportion, with as few tokens left over as can be."""
    for cells in range(count, (count - 1) // 2, -1):
        rows, columns = round((cells * height / width) ** 0.5), round((cells * width / height) ** 0.5)
        if rows * columns == cells and rows * width == columns * height:
            yield rows, columns


def touched(images: Images, grids: Sequence[Grid]) -> tuple[Images, list[Point]]:
    """The images, each with other pixels in one small square, and where each square's middle is.

    The square is the upper left quarter of a cell of the finest grid, in the upper left corner of a cell of the
    coarsest one. There, the nearest token is the cell's own whether patches lie side by side, each in its cell, or
    overlap and are centred on corners, as behind convolutions with padding.

    Args:
        images: at least one.
        grids: those that are to be told apart, at least one.
    """
    coarsest, finest = (pick(grids, key=lambda grid: grid.rows * grid.columns) for pick in (min, max))
    altered = images.clone()
    height, width = images.shape[2:]
    down, across = max(1, height // finest.rows // 2), max(1, width // finest.columns // 2)
    middles = []
    for number in range(len(images)):
        row, column = coarsest.cell(_POINTS[number % len(_POINTS)])
        top, left = row * height // coarsest.rows, column * width // coarsest.columns
        place = (number, slice(None), slice(top, top + down), slice(left, left + across))
        altered[place] = 1 - images[place]
        middles.append(((top + down / 2) / height, (left + across / 2) / width))
    return altered, middles


def follows(grid: Grid, before: Tensor, after: Tensor, points: Sequence[Point]) -> bool:
    """Whether the token that a touch moves most is the touched cell's, in every image.

    Args:
        grid: how the tokens are supposed to lie.
        before: the tokens (b, n, c) of the images.
        after: those of the touched images.
        points: where each was touched.
    """
    moved = (after - before).double().norm(dim=2)
    strongest, which = moved.max(dim=1)
    return bool((strongest > 0).all()) and which.tolist() == [grid.token(point) for point in points]
