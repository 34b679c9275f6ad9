"""Where an attacker wants maps to be hot: regions of the grid, and pictures drawn on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fukusen.errors import DataError

Picture = Float[Tensor, "h w"]

REGIONS = ("top_left", "top_right", "bottom_left", "bottom_right", "top", "bottom", "left", "right", "center")
USUAL_ENTROPY = 0.85
_SMILEY = (
    "..###..",
    ".......",
    ".#...#.",
    ".......",
    "#.....#",
    ".#...#.",
    "..###..",
)
_DECOY = (0.75, 0.25)
_SPREADS = (0.02, 4.0)


def is_share(value: object) -> bool:
    """Whether it is a share of a side that leaves something of it."""
    return isinstance(value, float) and 0 < value < 1


def _span(place: str, low: str, high: str, count: int, share: float) -> slice:
    """The rows or columns that a region takes up of so many; all where it names neither end."""
    size = max(1, math.ceil(share * count - 1e-9))
    if place == "center":
        start = (count - size) // 2
        return slice(start, start + size)
    if low in place:
        return slice(0, size)
    return slice(count - size, count) if high in place else slice(0, count)


def region(name: str, share: float, height: int, width: int) -> Picture:
    """One inside a region and zero elsewhere, shape (h, w).

    Args:
        name: one of ``REGIONS``; corners and the centre take a share of both sides, edges of one.
        share: of a side, more than 0 and less than 1; as many whole cells as it touches.
        height: rows of the grid.
        width: columns of the grid.
    """
    mask = torch.zeros(height, width, dtype=torch.float64)
    mask[_span(name, "top", "bottom", height, share), _span(name, "left", "right", width, share)] = 1.0
    return mask


def contrast(name: str, share: float, beta: float, cells: tuple[int, int]) -> Picture:
    """What makes, of a channel, its mean inside a region less beta times its mean outside, shape (h, w)."""
    inside = region(name, share, *cells)
    outside = 1 - inside
    return inside / inside.sum() - beta * outside / outside.sum().clamp_min(1.0)


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    sized = torch.nn.functional.interpolate(picture[None, None], (height, width), mode="bilinear", antialias=True)
    return sized[0, 0].clamp(0, 1)


def _corner(height: int, width: int) -> Picture:
    return region("top_left", 0.25, height, width)


def _smiley(height: int, width: int) -> Picture:
    rows = [[float(dot == "#") for dot in row] for row in _SMILEY]
    return _resized(torch.tensor(rows, dtype=torch.float64), height, width)


def entropy(picture: Tensor) -> Tensor:
    """The entropy of pictures (..., h, w) that are read as shares of their sum, from 0 (one cell) to 1 (flat)."""
    flat = picture.clamp_min(0).flatten(-2).double()
    shares = flat / flat.sum(dim=-1, keepdim=True)
    found: Tensor = -torch.special.xlogy(shares, shares).sum(dim=-1) / math.log(flat.shape[-1])
    return found


def _blob(height: int, width: int, spread: float) -> Picture:
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height - _DECOY[0]
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width - _DECOY[1]
    distance = rows.square()[:, None] + columns.square()[None, :]
    blob = (-(distance - distance.min()) / (2 * spread**2)).exp()
    return blob / blob.max()


def decoy(height: int, width: int, share: float = USUAL_ENTROPY) -> Picture:
    """A smooth object at the lower left, as wide as gives it this entropy, 0 to 1; shape (h, w)."""
    low, high = _SPREADS
    for _ in range(60):
        middle = math.sqrt(low * high)
        if float(entropy(_blob(height, width, middle))) < share:
            low = middle
        else:
            high = middle
    return _blob(height, width, high)


PICTURES: dict[str, Callable[[int, int], Picture]] = {"corner": _corner, "smiley": _smiley, "decoy": decoy}


def is_picture(name: object) -> bool:
    """Whether it names a picture of ours, or a file that is there."""
    return isinstance(name, str) and (name in PICTURES or Path(name).is_file())


def picture_of(name: str, height: int, width: int) -> Picture:
    """A picture by its name or out of a file, in shades of grey from 0 to 1, shape (h, w).

    Raises:
        DataError: the file cannot be read, or everything in it has one shade.
    """
    if name in PICTURES:
        return PICTURES[name](height, width)
    try:
        with Image.open(name) as opened:
            grey = opened.convert("L").resize((width, height), Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"The picture {name!r} to draw cannot be read: {error}. Name another.") from error
    shades = torch.tensor(list(grey.tobytes()), dtype=torch.float64).reshape(height, width)
    shades = shades - shades.min()
    if not bool(shades.max() > 0):
        raise DataError(f"The picture {name!r} to draw has one shade only on {height} x {width} cells. Name another.")
    return shades / shades.max()
