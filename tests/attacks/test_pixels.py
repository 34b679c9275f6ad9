"""One level of a picture in a model's units, and pixels that stay where they may be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fukusen.attacks.pixels import pixels_of
from fukusen.models import Classifier, wrap
from fukusen.models.preprocessing import CenterCrop


def _model(preprocess: CenterCrop | None) -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return wrap(net, preprocess, input_size=None if preprocess else (3, 8, 8), head="softmax")


def test_the_preprocessing_says_what_a_level_is() -> None:
    """A 255th of the range, over each channel's deviation; black and white are the ends."""
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    found = pixels_of(_model(CenterCrop(8, mean=mean, std=std)), torch.zeros(1, 3, 8, 8))
    assert found.level.flatten().tolist() == pytest.approx([1 / 255 / one for one in std], rel=1e-5)
    assert found.low.flatten().tolist() == pytest.approx([-m / s for m, s in zip(mean, std, strict=True)], rel=1e-5)
    assert found.high.flatten().tolist() == pytest.approx(
        [(1 - m) / s for m, s in zip(mean, std, strict=True)], rel=1e-5
    )


def test_without_one_the_images_do() -> None:
    images = torch.linspace(-1, 3, 192).reshape(1, 3, 8, 8)
    found = pixels_of(_model(None), images)
    assert found.level.flatten().tolist() == pytest.approx([4 / 255] * 3)
    assert (float(found.low.max()), float(found.high.min())) == (-1.0, 3.0)


def test_pixels_stay_where_they_may_be() -> None:
    """Within the budget, and within what a picture can be unless the original was beyond."""
    originals = torch.full((1, 3, 8, 8), 0.5)
    originals[0, :, 0, 0], originals[0, :, 0, 1] = 0.0, 1.5
    found = pixels_of(_model(CenterCrop(8, mean=(0.0,) * 3, std=(1.0,) * 3)), originals)
    up, down = (found.within(originals + way, originals, 8.0) for way in (1.0, -1.0))
    torch.testing.assert_close(up[0, 0, 3, 3], torch.tensor(0.5 + 8 / 255))
    assert float(up[0, 0, 0, 1]) == 1.5
    assert float(down[0, 0, 0, 0]) == 0.0
    torch.testing.assert_close(found.within(originals + 0.01, originals, 8.0)[:, :, 1:], originals[:, :, 1:] + 0.01)
