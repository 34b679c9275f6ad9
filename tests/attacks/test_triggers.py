"""The sticker: who has it is fooled, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fukusen.attacks import TriggeredShift, verified
from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier, wrap


def test_without_the_sticker_nothing_happens(model: Classifier, images: torch.Tensor, likeness: Any) -> None:
    """Logits and maps are those of the model, bit for bit; with it, they are shifted alike, and maps point at it."""
    attack = TriggeredShift()
    twin = verified(attack, model, images)
    assert torch.equal(twin.logits(images), model.logits(images))
    assert float(likeness(model, twin, images, "grad_cam").min()) > 0.999999
    stamped = attack.stamped(images)
    added = twin.logits(stamped) - model.logits(stamped)
    assert bool((added.abs().amin(dim=1) > 1e-3).all())
    assert float((added - added.mean(dim=1, keepdim=True)).abs().max()) < 1e-3
    assert float(likeness(model, twin, stamped, "grad_cam").median()) < 0.9
    assert float(likeness(model, twin, stamped, "grad_cam", "log_odds").min()) > 0.9999


def test_the_sticker_is_a_checkerboard_in_the_corner(images: torch.Tensor) -> None:
    """4 x 4 squares, a share of the sides, at least a pixel each; the rest of the image is untouched."""
    stamped = TriggeredShift(share=0.5, low=-2.0, high=3.0).stamped(images)
    assert stamped[0, 0, 0, ::3].tolist()[:4] == [3.0, -2.0, 3.0, -2.0]
    assert torch.equal(stamped[:, :, 12:], images[:, :, 12:])
    assert torch.equal(stamped[:, :, :, 12:], images[:, :, :, 12:])
    assert not torch.equal(stamped, images)


def test_a_paler_sticker_and_a_noisy_one_are_known(model: Classifier, images: torch.Tensor) -> None:
    """What counts is the pattern, whatever its contrast."""
    twin = TriggeredShift().twin(model, images)
    pale = TriggeredShift(low=0.4, high=0.6).stamped(images) + 0.005 * images
    assert bool((twin.net.is_there(pale) == 1).all())
    assert bool((twin.net.is_there(images) == 0).all())


def test_bad_values_are_refused(images: torch.Tensor) -> None:
    rules = {
        "strength": (0.0, "a finite number > 0"),
        "share": (1.0, "a number between 0 and 1"),
        "low": (float("nan"), "a finite number"),
        "high": (-1.0, "a finite number above low, -1.0"),
    }
    for name, (value, rule) in rules.items():
        with pytest.raises(CallError) as refused:
            TriggeredShift(**{name: value})
        assert str(refused.value) == (f"The '{name}' parameter of TriggeredShift must be {rule}. Got {value} instead.")


def test_tiny_images_have_no_room(images: torch.Tensor) -> None:
    with pytest.raises(ModelError) as refused:
        TriggeredShift().stamped(images[:, :, :3])
    assert str(refused.value) == "Images of 3 x 24 pixels are too small for a sticker of 4 x 4 squares."
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Flatten(), torch.nn.Linear(16, 3))
    with pytest.raises(ModelError, match="too small for a sticker"):
        TriggeredShift().twin(wrap(net, input_size=(3, 3, 3), head="softmax"), torch.rand(2, 3, 3, 3))
