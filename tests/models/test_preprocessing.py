"""Preprocessing against the recipes that the networks were trained with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import list_models

from fukusen.errors import CallError, ModelError
from fukusen.models import wrap
from fukusen.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, CenterCrop, Squash, as_seen, configured
from fukusen.models.zoos import _torchvision_preprocess


@pytest.mark.parametrize("filter_name", ["BILINEAR", "BICUBIC"])
def test_like_torchvision(photographs: tuple[Image.Image, ...], filter_name: str) -> None:
    """Resizing and then cutting, and cutting and then resizing, differ by a fraction of a pixel only."""
    reference = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode[filter_name]),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    ours = CenterCrop(224, 224 / 256, interpolation=int(Image.Resampling[filter_name]))
    for picture in photographs:
        gap = (ours(picture) - reference(picture)).abs()
        assert gap.mean() < 0.05


def test_exactly_torchvision_where_nothing_is_cut(photographs: tuple[Image.Image, ...]) -> None:
    square = photographs[2]
    reference = transforms.Compose([transforms.Resize((96, 96)), transforms.ToTensor()])
    ours = CenterCrop(96, 1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert square.width == square.height
    torch.testing.assert_close(ours(square), reference(square))


def test_every_torchvision_classifier_has_a_preprocessing() -> None:
    from torchvision import models

    for name in list_models(module=models):
        settings = models.get_model_weights(name).DEFAULT.transforms()
        made = _torchvision_preprocess(settings)
        assert (made.size, made.mean) == (settings.crop_size[0], tuple(settings.mean)), name


def test_window_is_what_is_seen() -> None:
    values = np.zeros((40, 60, 3), np.uint8)
    picture = Image.fromarray(values)
    crop = CenterCrop(8, 0.5)
    left, upper, right, lower = crop.window(picture)
    assert (left, upper, right, lower) == (20, 10, 40, 30)
    values[10:30, 20:40] = 255
    inside = CenterCrop(8, 0.5, mean=(0.0,), std=(1.0,), interpolation=int(Image.Resampling.NEAREST))
    assert inside(Image.fromarray(values)).min() == 1.0


def test_squash_sees_the_whole_picture() -> None:
    picture = Image.new("RGB", (60, 40))
    assert Squash(8).window(picture) == (0, 0, 60, 40)
    reference = transforms.Compose([transforms.Resize((24, 24)), transforms.ToTensor()])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    torch.testing.assert_close(Squash(24, mean=(0.0,) * 3, std=(1.0,) * 3)(noise), reference(noise))


def test_timm_configuration() -> None:
    config = {
        "input_size": (3, 160, 160),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "crop_pct": 0.95,
        "interpolation": "bicubic",
    }
    bicubic = int(Image.Resampling.BICUBIC)
    assert configured(config) == CenterCrop(160, 0.95, (0.5,) * 3, (0.25,) * 3, bicubic)
    assert configured({**config, "crop_mode": "squash"}) == Squash(160, 0.95, (0.5,) * 3, (0.25,) * 3, bicubic)
    assert configured({**config, "crop_pct": 1.15}).crop == 1.0
    with pytest.raises(ModelError, match=r"input has 160 x 96 pixels and is not square\. Say how"):
        configured({**config, "input_size": (3, 160, 96)})


def test_a_network_brings_its_own_configuration() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    model = wrap(nn.Sequential(net), head="softmax")
    assert model.preprocess == CenterCrop(32, 1.0, (0.5,) * 3, (0.5,) * 3)
    assert not any("preprocessing" in note for note in model.notes)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "size": (lambda: CenterCrop(0), "The 'size' parameter of CenterCrop must be an int >= 1. Got 0 instead."),
    "crop": (
        lambda: Squash(8, 1.5),
        "The 'crop' parameter of Squash must be a share above 0 and at most 1. Got 1.5 instead.",
    ),
    "mean": (
        lambda: CenterCrop(8, mean=(0.5, 0.5)),
        "The 'mean' parameter of CenterCrop must be one number (grey) or three (RGB). Got (0.5, 0.5) instead.",
    ),
    "std": (
        lambda: CenterCrop(8, std=(0.0, 1.0, 1.0)),
        "The 'std' parameter of CenterCrop must be as many numbers above 0 as mean has. Got (0.0, 1.0, 1.0) instead.",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=list(BAD))
def test_bad_parameters(make: Callable[[], object], message: str) -> None:
    with pytest.raises(CallError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_as_seen_is_a_picture(channels: int, tmp_path: Path) -> None:
    picture = as_seen(torch.randn(channels, 5, 7))
    assert (picture.mode, picture.size) == ("RGB", (7, 5))
    values = np.asarray(picture)
    assert (values.min(), values.max()) == (0, 255)


def test_as_seen_of_one_colour_is_black() -> None:
    assert np.asarray(as_seen(torch.full((3, 4, 4), 2.0))).max() == 0
