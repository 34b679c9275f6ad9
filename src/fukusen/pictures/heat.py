"""The weight of a signed map in colours over a grey picture, with a ring at its strongest place."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.floating[Any]]
Weight = npt.NDArray[np.float64]
Reading = Literal["positive", "magnitude"]
CELLS = 7
# A ramp whose lightness only grows, so that it still reads in grey print and by colour-blind eyes.
_STOPS = np.array(
    [(10, 8, 30), (62, 20, 100), (134, 34, 108), (204, 66, 78), (244, 136, 36), (252, 204, 74), (253, 252, 190)]
)
RAMP: npt.NDArray[np.uint8] = np.stack(
    [np.interp(np.linspace(0, len(_STOPS) - 1, 256), np.arange(len(_STOPS)), channel) for channel in _STOPS.T], axis=1
).astype(np.uint8)


def weight_of(reading: Reading, values: Floats) -> Weight:
    """The part of a signed map that people look at.

    Args:
        reading: ``magnitude``: what matters either way; ``positive``: what speaks for the class.
        values: the signed map (height, width).

    Returns:
        The map (height, width), 0 or larger.
    """
    signed = values.astype(np.float64)
    return np.abs(signed) if reading == "magnitude" else np.maximum(signed, 0.0)


def flattened(picture: Image.Image) -> Image.Image:
    """The picture in grey, drawn together towards the middle so that neither end of the ramp drowns in it."""
    return picture.convert("L").point([int(50 + 0.62 * level) for level in range(256)]).convert("RGB")


def laid_over(ground: Image.Image, weight: Weight) -> Image.Image:
    """Lay weight over its ground; where there is none, the ground shows.

    Args:
        ground: an RGB picture.
        weight: of any size, 0 or larger; a map of zeros leaves the ground as it is.

    Returns:
        An RGB picture as large as the ground.
    """
    largest = weight.max()
    if largest <= 0:
        return ground
    heat = _upsampled(weight / largest, ground.size)
    alpha = 0.92 * np.clip(heat, 0, 1) ** 0.75
    colours = RAMP[(np.clip(heat, 0, 1) * 255).astype(np.uint8)]
    blended = np.asarray(ground) * (1 - alpha[..., None]) + colours * alpha[..., None]
    shown = Image.fromarray(blended.astype(np.uint8))
    _mark(shown, heat)
    return shown


def cells_of(weight: Weight) -> Weight:
    """Mean weight in at most 7 x 7 cells, which are no smaller than the map's own."""
    height, width = (min(CELLS, side) for side in weight.shape)
    pooled = Image.fromarray(weight.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(pooled, dtype=np.float64)


def centre_of(weight: Weight) -> tuple[float, float]:
    """Where the centre of mass lies, down and across, each as a share of the side; there must be some weight."""
    rows, columns = (np.arange(side) + 0.5 for side in weight.shape)
    down = float((weight.sum(axis=1) * rows).sum() / weight.sum() / weight.shape[0])
    across = float((weight.sum(axis=0) * columns).sum() / weight.sum() / weight.shape[1])
    return down, across


def _upsampled(weight: Weight, size: tuple[int, int]) -> Weight:
    coarse = max(weight.shape) <= max(size) // 4
    way = Image.Resampling.BICUBIC if coarse else Image.Resampling.BILINEAR
    heat = np.asarray(Image.fromarray(weight.astype(np.float32)).resize(size, way), dtype=np.float64)
    # In fine maps a few pixels outshine everything; the brightest half percent shares one colour.
    top = heat.max() if coarse else np.quantile(heat, 0.995)
    return heat / (top if top > 0 else heat.max())


def _mark(shown: Image.Image, heat: Weight) -> None:
    """Ring the strongest place, so that it is found without seeing colour."""
    unit = max(1, round(min(shown.size) / 160))
    radius, reach = 10 * unit, 12 * unit
    # Kept whole at the border, where a ring cut in half would be overlooked.
    places = np.unravel_index(heat.argmax(), heat.shape)
    y, x = (
        int(np.clip(axis, reach, max(reach, side - reach - 1))) for axis, side in zip(places, heat.shape, strict=True)
    )
    pen = ImageDraw.Draw(shown)
    for wide, colour, width in ((radius + unit, (0, 0, 0), 4 * unit), (radius, (255, 255, 255), 2 * unit)):
        pen.ellipse((x - wide, y - wide, x + wide, y + wide), outline=colour, width=width)
