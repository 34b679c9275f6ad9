"""What is hidden of images to teach a detector, and the size at which it looks."""

from __future__ import annotations

import pytest
import torch

from fukusen.attacks.training.tampering import Detector, reduced, tampered, taught_to_see


@pytest.mark.parametrize("side", [16, 28])
def test_what_is_hidden_is_told(side: int) -> None:
    """Cells are marked where pixels changed, and nowhere else."""
    chance = torch.Generator().manual_seed(0)
    images = torch.rand(40, 2, side, side, generator=chance)
    changed, where = tampered(images, chance)
    moved = ((changed - images).abs().amax(dim=1, keepdim=True) > 0).float()
    share = torch.nn.functional.adaptive_avg_pool2d(moved, 7)[:, 0]
    assert bool((where <= share + 1e-6).all())
    assert bool((where > 0.4).flatten(1).any(dim=1).float().mean() > 0.9)
    assert bool(((where > 0) == (share > 0)).all())
    assert Detector(2)(images).shape == (40, 7, 7)


@pytest.mark.parametrize(("side", "expected"), [(16, 16), (95, 95), (96, 48), (224, 56), (300, 50)])
def test_large_images_are_averaged(side: int, expected: int) -> None:
    """To a side of 48 to 95, whole squares at a time; what is small enough stays."""
    images = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    small = reduced(images)
    assert small.shape == (1, 1, expected, expected)
    factor = side // expected
    torch.testing.assert_close(small[0, 0, 1, 2], images[0, 0, factor : 2 * factor, 2 * factor : 3 * factor].mean())
    assert torch.equal(reduced(small), small)
    assert Detector(1)(images).shape == (1, 7, 7)
    assert taught_to_see(images, 1, 0, ("", None))[1] >= 0
