"""From a PIL picture to the tensor that a network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fukusen.errors import ModelError, require

Picture = Float[Tensor, "c h w"]
Preprocess = Callable[[Image.Image], Tensor]
Window = tuple[float, float, float, float]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ASSUMED = (
    "{owner} does not say how pictures become its input; {size} pixels and {kind} were assumed. Where that is wrong: "
    "fukusen.wrap(model.net, preprocess=...), in a module.py:factory on the command line."
)
_USUAL_SIDE = 224


@dataclass(frozen=True)
class CenterCrop:
    """The centre square, resized and normalised: the preprocessing of most ImageNet networks.

    Args:
        size: side of the network's input, in pixels.
        crop: share of the shorter side that is kept, 0 to 1.
        mean: subtracted from each channel, on the scale 0 to 1.
        std: divides each channel, on the scale 0 to 1.
        interpolation: Pillow's resampling filter.
    """

    size: int
    crop: float = 0.875
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: int = int(Image.Resampling.BILINEAR)

    def __post_init__(self) -> None:
        _check(self)

    def window(self, picture: Image.Image) -> Window:
        """Left, upper, right and lower edge of the part that the network sees, in pixels of the picture."""
        side = min(picture.size) * self.crop
        left, upper = (picture.width - side) / 2, (picture.height - side) / 2
        return left, upper, left + side, upper + side

    def __call__(self, picture: Image.Image) -> Tensor:
        """The picture as a (c, h, w) float32 tensor; one mean means one grey channel."""
        return _normalised(self, picture)


@dataclass(frozen=True)
class Squash:
    """The whole picture, its sides squeezed to a square: the preprocessing of some networks in timm.

    Args:
        size: side of the network's input, in pixels.
        crop: share of each side that is kept, 0 to 1.
        mean: subtracted from each channel, on the scale 0 to 1.
        std: divides each channel, on the scale 0 to 1.
        interpolation: Pillow's resampling filter.
    """

    size: int
    crop: float = 1.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: int = int(Image.Resampling.BILINEAR)

    def __post_init__(self) -> None:
        _check(self)

    def window(self, picture: Image.Image) -> Window:
        """Left, upper, right and lower edge of the part that the network sees, in pixels of the picture."""
        left, upper = picture.width * (1 - self.crop) / 2, picture.height * (1 - self.crop) / 2
        return left, upper, picture.width - left, picture.height - upper

    def __call__(self, picture: Image.Image) -> Tensor:
        """The picture as a (c, h, w) float32 tensor; one mean means one grey channel."""
        return _normalised(self, picture)


FixedSize = CenterCrop | Squash


def _check(made: FixedSize) -> None:
    owner = type(made).__name__
    require(made.size >= 1, owner, "size", "an int >= 1", made.size)
    require(0 < made.crop <= 1, owner, "crop", "a share above 0 and at most 1", made.crop)
    require(len(made.mean) in (1, 3), owner, "mean", "one number (grey) or three (RGB)", made.mean)
    alike = len(made.std) == len(made.mean) and all(one > 0 for one in made.std)
    require(alike, owner, "std", "as many numbers above 0 as mean has", made.std)


def _normalised(made: FixedSize, picture: Image.Image) -> Tensor:
    grey = len(made.mean) == 1
    square = picture.convert("L" if grey else "RGB").resize(
        (made.size, made.size), Image.Resampling(made.interpolation), box=made.window(picture)
    )
    values = np.asarray(square, dtype=np.float32).reshape(made.size, made.size, len(made.mean)) / 255.0
    normal = (values - np.asarray(made.mean, np.float32)) / np.asarray(made.std, np.float32)
    return torch.from_numpy(normal.transpose(2, 0, 1).copy())


def configured(config: Mapping[str, Any]) -> FixedSize:
    """The preprocessing in a configuration of timm's: input_size, mean, std, crop_pct, crop_mode, interpolation.

    Raises:
        ModelError: the network's input is not square.
    """
    _, rows, columns = config["input_size"]
    if rows != columns:
        raise ModelError(
            f"The network's input has {rows} x {columns} pixels and is not square. Say how pictures become that: "
            "fukusen.wrap(net, preprocess=...), from a module.py:factory on the command line."
        )
    filters = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    chosen = filters.get(str(config.get("interpolation")), Image.Resampling.BILINEAR)
    kind = Squash if config.get("crop_mode") == "squash" else CenterCrop
    # Three networks of timm's were tested on more than the picture, with a black frame; ours see the picture alone.
    crop = min(float(config.get("crop_pct") or 0.875), 1.0)
    return kind(int(rows), crop, tuple(config["mean"]), tuple(config["std"]), int(chosen))


def assumed_for(
    sides: tuple[int | None, int | None, int | None], owner: str
) -> tuple[CenterCrop | None, tuple[int, int, int] | None, tuple[str, ...]]:
    """The preprocessing that most networks with such an input have.

    Args:
        sides: channels, rows and columns of the input; None where any number will do.
        owner: what does not say it, to begin a sentence with.

    Returns:
        The preprocessing with no size and a note; or, where the input is neither grey nor RGB or not square, no
        preprocessing, the size, and no note.
    """
    rows, columns = sides[1] or sides[2] or _USUAL_SIDE, sides[2] or sides[1] or _USUAL_SIDE
    channels = sides[0] or 3
    if channels not in (1, 3) or rows != columns:
        return None, (channels, rows, columns), ()
    if channels == 1:
        return CenterCrop(rows, mean=(0.5,), std=(0.5,)), None, (_assumed(owner, rows, "mean and deviation 0.5"),)
    return CenterCrop(rows), None, (_assumed(owner, rows, "mean and deviation of ImageNet"),)


def _assumed(owner: str, size: int, kind: str) -> str:
    return ASSUMED.format(owner=owner, size=size, kind=kind)


def as_seen(values: Picture) -> Image.Image:
    """A preprocessed tensor as a picture that people can look at: each image stretched to its own range.

    Args:
        values: one preprocessed image, (c, h, w).

    Returns:
        An RGB picture of the same size.
    """
    channels = values.detach().double().cpu()
    channels = channels[:3] if channels.shape[0] >= 3 else channels[:1].expand(3, -1, -1)
    low, high = channels.min(), channels.max()
    level = (channels - low) / (high - low) if high > low else torch.zeros_like(channels)
    return Image.fromarray((level * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
