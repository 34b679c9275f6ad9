"""A heatmap laid over its picture, as a small data URI, with its alternative in words."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from fukusen.pictures import Floats, cells_of, centre_of, flattened, laid_over, weight_of

SIDE = 160
MAGNITUDE = frozenset({"gradient", "smooth_grad"})


@dataclass(frozen=True)
class Picture:
    """A map as it is shown.

    Args:
        uri: the overlay, as a ``data:`` URI.
        row: third of the picture in which the centre of the weight lies, 0 (top) to 2; None for an empty map.
        column: the same from left to right.
        share: share of the weight in the strongest of the cells, 0 to 1.
        cells: how many cells the picture was divided into for that.
    """

    uri: str
    row: int | None
    column: int | None
    share: float
    cells: int


def overlay(thumbnail: bytes | None, method: str, values: Floats) -> Picture:
    """Lay a map over its picture.

    Args:
        thumbnail: the picture as the network saw it; a plain ground where there is none.
        method: the method's name; of gradients the magnitude is drawn, of all others the positive part.
        values: its signed map (height, width).

    Returns:
        The overlay and where its weight lies.
    """
    drawn = weight_of("magnitude" if method.partition("(")[0] in MAGNITUDE else "positive", values)
    grid = cells_of(drawn)
    uri = _uri(laid_over(_grey(thumbnail), drawn))
    if drawn.max() <= 0:
        return Picture(uri, None, None, 0.0, grid.size)
    row, column = (min(int(share * 3), 2) for share in centre_of(grid))
    return Picture(uri, row, column, float(grid.max() / grid.sum()), grid.size)


def photograph(thumbnail: bytes) -> str | None:
    """The picture itself as a ``data:`` URI, or None where the bytes are no picture."""
    picture = _opened(thumbnail)
    return None if picture is None else _uri(picture)


@lru_cache(maxsize=1)  # an image's maps are drawn one after another
def _opened(thumbnail: bytes) -> Image.Image | None:
    try:
        return Image.open(BytesIO(thumbnail)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, OSError):
        return None


def _grey(thumbnail: bytes | None) -> Image.Image:
    picture = None if thumbnail is None else _opened(thumbnail)
    return Image.new("RGB", (SIDE, SIDE), (150, 150, 150)) if picture is None else flattened(picture)


def _uri(picture: Image.Image) -> str:
    sink = BytesIO()
    picture.save(sink, "WEBP", quality=62, method=4)
    return f"data:image/webp;base64,{base64.b64encode(sink.getvalue()).decode()}"
