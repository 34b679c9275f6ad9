"""Pictures that look like the one they are made from: noisier, saved again, one pixel on, mirrored; and their maps."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fukusen.arrays import Maps
from fukusen.attacks.pixels import LEVELS, pixels_of
from fukusen.models import Classifier
from fukusen.records import Undefined

Picture = Float[Tensor, "c h w"]
Changed = Picture | Undefined
NO_JPEG = Undefined("a JPEG holds one channel or three, and this network's images have another number of them")
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Disturbance:
    """A change of a picture that a person hardly sees, and the way back for its map.

    Args:
        changed: the picture (c, h, w) after it, given what black and white are in each channel, (2, c, 1, 1); or why
            there is none.
        back: the maps (b, h, w) of changed pictures where they would lie on the originals, given the originals' rows
            and columns.
    """

    changed: Callable[[Picture, Tensor], Changed]
    back: Callable[[Maps, tuple[int, int]], Maps]


def shades_of(model: Classifier, image: Picture) -> Tensor:
    """The darkest and the brightest value of each channel, (2, c, 1, 1).

    They are what the model's preprocessing makes of a black and of a white picture. Without one, or where it makes the
    same of both, the range of the image's own values is taken; values of the image beyond them widen the range.
    """
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    known = pixels_of(model, image[None])
    if not bool(known.level.isfinite().all() and (known.level > 0).all()):
        return torch.stack([low.amin(), high.amax()])[:, None, None, None].expand(2, len(image), 1, 1)
    return torch.stack([torch.minimum(known.low, low), torch.maximum(known.high, high)])


def noisy(levels: float, seed: int) -> Disturbance:
    """Normal noise of so many levels of 255, drawn anew for each picture by its own content; clipped to its shades."""

    def changed(picture: Picture, shades: Tensor) -> Changed:
        pixels = picture.detach().cpu().float().contiguous().numpy().tobytes()
        drawn = np.random.default_rng([seed, zlib.crc32(pixels)]).standard_normal(picture.shape)
        dark, bright = shades
        noise = torch.from_numpy(drawn).to(picture) * (bright - dark) * (levels / LEVELS)
        return torch.minimum(torch.maximum(picture + noise, dark), bright)

    return Disturbance(changed, _as_it_is)


def saved(quality: int) -> Disturbance:
    """Rounded to 255 levels and saved as a JPEG of that quality, 1 to 95, by Pillow."""

    def changed(picture: Picture, shades: Tensor) -> Changed:
        if len(picture) not in _MODES:
            return NO_JPEG
        dark, bright = shades
        wide = (bright - dark).clamp_min(torch.finfo(picture.dtype).tiny)
        levels = ((picture - dark) / wide * LEVELS).round().clamp(0, LEVELS).to(torch.uint8).permute(1, 2, 0)
        file = io.BytesIO()
        seen = levels.cpu().numpy()
        Image.fromarray(seen[..., 0] if len(picture) == 1 else seen).save(file, "JPEG", quality=quality)
        again = torch.from_numpy(np.array(Image.open(file))).reshape(seen.shape).permute(2, 0, 1).to(picture)
        made: Tensor = dark + again / LEVELS * (bright - dark)
        return made

    return Disturbance(changed, _as_it_is)


def shifted() -> Disturbance:
    """One pixel to the right and one down; what lay along the upper and left edge stays there as well."""

    def changed(picture: Picture, shades: Tensor) -> Changed:  # noqa: ARG001 - the same in all shades
        framed: Tensor = torch.nn.functional.pad(picture[None], (1, 0, 1, 0), mode="replicate")[0, :, :-1, :-1]
        return framed

    def back(maps: Maps, size: tuple[int, int]) -> Maps:
        return _up(_up(maps, size[0]).mT, size[1]).mT

    return Disturbance(changed, back)


def mirrored() -> Disturbance:
    """Left and right changed over."""
    return Disturbance(lambda picture, _: picture.flip(2), lambda maps, _: maps.flip(2))


def _as_it_is(maps: Maps, size: tuple[int, int]) -> Maps:  # noqa: ARG001 - the way back of what moves nothing
    return maps


def _up(maps: Maps, rows: int) -> Maps:
    """Maps of a picture with so many rows, one of these rows further up: cells are coarser, and are mixed linearly."""
    step = min(1.0, maps.shape[1] / rows)
    below = torch.cat([maps[:, 1:], maps[:, -1:]], dim=1)
    return below if step == 1 else torch.lerp(maps, below, step)
