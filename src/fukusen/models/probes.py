"""A few pictures that no two networks may see differently: noise to learn from what a network makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fukusen.arrays import Images
from fukusen.errors import CallError, require
from fukusen.models.preprocessing import Preprocess
from fukusen.models.reasons import reason

PROBES = 4
_GRAINS = (4, 16, 64, 256)
_SIZES = ((256, 256), (320, 240), (240, 320), (280, 200))
_NEEDED = "preprocess must make a float tensor of shape (c, h, w) of a PIL picture."


def check_size(input_size: Sequence[int]) -> tuple[int, int, int]:
    """An input size as (channels, rows, columns).

    Raises:
        CallError: it is not three positive integers.
    """
    sides = tuple(input_size) if isinstance(input_size, Sequence) and not isinstance(input_size, str) else ()
    right = len(sides) == 3 and all(type(side) is int and side > 0 for side in sides)
    require(right, "wrap", "input_size", "three integers >= 1: (channels, rows, columns)", input_size)
    return sides  # type: ignore[return-value]


def probe_images(preprocess: Preprocess | None, input_size: tuple[int, int, int] | None) -> Images:
    """Four images that differ from each other: noise of four grains, the same on every machine.

    Args:
        preprocess: what makes a tensor of a picture; None for noise in the network's own units.
        input_size: channels, rows and columns; pictures of that size where there is a preprocessing, too.

    Raises:
        CallError: the preprocessing does not make one float tensor of one shape of every picture.
    """
    noise = np.random.default_rng(0)
    if preprocess is None:
        return torch.from_numpy(noise.standard_normal((PROBES, *(input_size or (3, 224, 224)))).astype(np.float32))
    sizes = _SIZES if input_size is None else ((input_size[2], input_size[1]),) * PROBES
    pictures = []
    for grain, size in zip(_GRAINS, sizes, strict=True):
        dots = noise.integers(0, 256, (grain, grain, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(dots).resize(size, Image.Resampling.BICUBIC))
    made = [_preprocessed(preprocess, picture) for picture in pictures]
    shapes = list(dict.fromkeys(tuple(one.shape) for one in made))
    if len(shapes) > 1:
        raise CallError(
            f"preprocess must make tensors of one shape of pictures of any size. It made {shapes[0]} and {shapes[1]}. "
            "Crop or resize to one size in it, or give input_size=(channels, rows, columns) where all pictures have it."
        )
    if input_size is not None:
        require(shapes[0] == input_size, "wrap", "input_size", f"what preprocess makes, {shapes[0]}", input_size)
    if not torch.equal(made[0], _preprocessed(preprocess, pictures[0])):
        raise CallError(
            "preprocess must make the same of the same picture each time. It made two different tensors: take random "
            "augmentation out of it."
        )
    return torch.stack(made)


def _preprocessed(preprocess: Preprocess, picture: Image.Image) -> Tensor:
    try:
        made = preprocess(picture.copy())
    except Exception as error:
        raise CallError(f"{_NEEDED} It raised {type(error).__name__}: {reason(error)}.") from error
    if not isinstance(made, Tensor):
        raise CallError(f"{_NEEDED} It made a {type(made).__name__}.")
    if made.dim() != 3 or not made.is_floating_point():
        raise CallError(f"{_NEEDED} It made one of shape {tuple(made.shape)} and type {_type(made)}.")
    if not bool(made.isfinite().all()):
        raise CallError(f"{_NEEDED} It made one with NaN or infinite values.")
    return made.detach().cpu()


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
