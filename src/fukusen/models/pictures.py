"""A picture file made an RGB picture, or one sentence why it cannot be."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fukusen.errors import DataError
from fukusen.models.reasons import reason

SMALLEST_SIDE = 8
# Pillow hands these to other programs, which run what is written in the file.
_PROGRAMS = ("EPS", "WMF")


def _full_scale(picture: Image.Image, highest: float) -> float:
    """The value that is white: the format's own where it has one, else the least usual one that nothing exceeds."""
    if picture.mode.startswith("I;16"):
        return 65535.0
    usual = (1.0, 255.0, 65535.0) if picture.mode == "F" else (65535.0,)
    return next((full for full in usual if highest <= full), highest)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey pictures to 8 bits; Pillow's own conversion would cut them off at 255."""
    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError("it holds pixel values that are not finite")
    full = _full_scale(picture, float(values.max()))
    return Image.fromarray((np.clip(values / full, 0.0, 1.0) * 255).round().astype(np.uint8))


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 - the notes beside a picture may be damaged in any way; its pixels are not
        return picture.copy()


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture upright, in RGB with 8 bits a channel, transparency laid on white.

    Raises:
        DataError: smaller than 8 pixels on a side, or with pixel values that are not finite.
    """
    picture = _upright(picture)
    if min(picture.size) < SMALLEST_SIDE:
        raise DataError(f"it is {picture.width} x {picture.height} pixels; at least {SMALLEST_SIDE} a side are needed")
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _eight_bits(picture)
    if {"A", "a"} & set(picture.getbands()) or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return picture.convert("RGB")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError("it is a folder, not a picture")
    if not path.exists():
        raise DataError("there is no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError("the file is empty")


def _check_opened(picture: Image.Image) -> None:
    if picture.format in _PROGRAMS:
        raise DataError(f"it is a program that draws a picture ({picture.format}); save it as PNG")
    pixels = picture.width * picture.height
    # Warnings are a setting of the whole process, which another thread may change meanwhile: count for ourselves, too.
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{pixels} pixels, at most {Image.MAX_IMAGE_PIXELS} are read")


def open_picture(path: str | Path) -> Image.Image:
    """Read a picture file whole and make it RGB.

    Args:
        path: a file in any format that Pillow reads itself; CMYK, palette, grey, 16-bit and transparent pictures are
            converted, and of several frames the first is taken.

    Raises:
        DataError: the file is missing, empty, cut off, not a picture or too small; the text completes "PATH: ...".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_file(Path(path))
            with Image.open(path) as picture:
                _check_opened(picture)
                picture.load()
                return as_rgb(picture)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("it is not a picture in a format that can be read") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"it is too large to open safely ({reason(error)})") from None
    except Exception as error:  # a damaged file makes Pillow's readers raise anything
        raise DataError(f"it cannot be read ({reason(error)})") from error
