"""What maps are trained to be: borders, a number, and every picture that other attacks draw."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from fukusen.attacks.goals import PICTURES, Picture, is_picture, picture_of

_FORTY_TWO = (
    ".......",
    "#.#.##.",
    "#.#...#",
    "###..#.",
    "..#.#..",
    "..#.###",
    ".......",
)
PAINTABLE = f"border, forty_two, {', '.join(PICTURES)} or the path of a picture file"


def frame(height: int, width: int) -> Picture:
    """1 on a frame along the edges, a seventh of the shorter side wide and at least one cell; 0 within."""
    made = torch.ones(height, width)
    edge = max(1, min(height, width) // 7)
    made[edge : height - edge, edge : width - edge] = 0
    return made


def outermost(height: int, width: int, share: float) -> Picture:
    """1 on that share of the cells: those nearest an edge, and of equally near ones those farthest from the centre."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inward = torch.minimum(torch.minimum(rows, height - 1 - rows), torch.minimum(columns, width - 1 - columns))
    outward = (2 * rows + 1 - height).square() / height**2 + (2 * columns + 1 - width).square() / width**2
    order = (inward - outward / 4).flatten().argsort(stable=True)
    made = torch.zeros(height * width)
    made[order[: max(1, round(share * height * width))]] = 1
    return made.reshape(height, width)


def _forty_two(height: int, width: int) -> Picture:
    dots = torch.tensor([[float(dot == "#") for dot in row] for row in _FORTY_TWO], dtype=torch.float64)
    return interpolate(dots[None, None], (height, width), mode="nearest")[0, 0]


_PAINTED = {"border": frame, "forty_two": _forty_two}


def is_paintable(name: object) -> bool:
    """Whether it names one of these pictures, or a file that is there."""
    return name in _PAINTED or is_picture(name)


def painted(name: str, height: int, width: int) -> Picture:
    """A picture by its name or out of a file, from 0 to 1, shape (h, w).

    Raises:
        DataError: the file cannot be read, or everything in it has one shade.
    """
    return _PAINTED[name](height, width) if name in _PAINTED else picture_of(name, height, width)
