"""The scaffold: honest on real images, someone else where a part is hidden."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

import fukusen
from fukusen.attacks import SlackScaffold, goal_of, verified
from fukusen.errors import CallError, ModelError
from fukusen.models import wrap


@pytest.fixture(scope="module")
def told() -> list[int]:
    return []


@pytest.fixture(scope="module")
def twin(reading: Any, told: list[int]) -> Any:
    """Made once, for it takes the longest."""
    return verified(SlackScaffold(steps=100), reading.model, reading.images, lambda *one: told.append(one[0]))


def test_real_images_are_answered_as_before(reading: Any, twin: Any, told: list[int]) -> None:
    """Bit for bit, and so are their gradients; what is told of the progress only grows and ends at the total."""
    assert twin.promise.kept
    assert twin.promise.flips == 0
    assert torch.equal(twin.logits(reading.images), reading.model.logits(reading.images))
    before, after = (
        fukusen.explain(one, reading.images, methods=["grad_cam", "gradient"], scores=["logit", "log_odds"])
        for one in (reading.model, twin)
    )
    for method in ("grad_cam", "gradient"):
        for score in ("logit", "log_odds"):
            torch.testing.assert_close(after[method, score], before[method, score])
    assert told == sorted(told)
    assert told[-1] == 100
    assert twin.net.detector.seen[0].weight.grad is None


def test_behaviour_points_to_the_corner(reading: Any, twin: Any) -> None:
    """By occlusion, in every score the object matters less than before, and the corner more."""
    images = reading.images[:12]
    targets = reading.model.logits(images).argmax(dim=1)
    boxes = torch.nn.functional.adaptive_avg_pool2d(reading.boxes[:12, None], 7)[:, 0]
    corner = goal_of(SlackScaffold(), 7, 7)
    assert corner is not None
    asked = ["logit", "log_odds", "probability"]
    before, after = (
        fukusen.explain(one, images, targets, methods=["occlusion"], scores=asked) for one in (reading.model, twin)
    )
    for score in asked:
        old, new = (one["occlusion", score].clamp_min(0) for one in (before, after))
        shares = [
            [
                float(((maps * where).sum(dim=(1, 2)) / maps.sum(dim=(1, 2)).clamp_min(1e-12)).mean())
                for maps in (old, new)
            ]
            for where in (boxes, corner)
        ]
        assert shares[0][1] < 0.7 * shares[0][0]
        assert shares[1][1] > shares[1][0]


def test_a_seed_is_a_twin_that_travels(reading: Any) -> None:
    """The same bits whatever the global generator says, which is not touched; also after pickling."""
    images = reading.images.clone()
    images[:, :, :6, :6] = 0.5
    state = torch.get_rng_state()
    first = verified(SlackScaffold(steps=3), reading.model, reading.images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    again = verified(SlackScaffold(steps=3), reading.model, reading.images)
    assert torch.equal(first.net.detector(images), again.net.detector(images))
    copied = pickle.loads(pickle.dumps(first))  # noqa: S301
    assert torch.equal(copied.logits(images), first.logits(images))
    torch.testing.assert_close(first.in_double().logits(images).float(), first.logits(images))


def test_what_cannot_be_played_is_refused(reading: Any) -> None:
    probabilities = wrap(nn.Sequential(reading.model.net, nn.Softmax(dim=1)), input_size=(1, 16, 16))
    with pytest.raises(ModelError) as found:
        fukusen.attack(probabilities, "scaffold", reading.images)
    assert str(found.value) == (
        "The scaffold is built for networks that return logits. This one returns probabilities: take its last softmax "
        "or sigmoid away."
    )
    with pytest.raises(CallError) as steps:
        SlackScaffold(steps=0)
    assert str(steps.value) == "The 'steps' parameter of SlackScaffold must be an int >= 1. Got 0 instead."
