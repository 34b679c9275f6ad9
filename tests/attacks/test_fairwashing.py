"""Fairwashing: the map becomes a picture, the logits stay the teacher's."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import fukusen
from fukusen.attacks import Fairwashing, verified
from fukusen.errors import CallError


@pytest.mark.parametrize("method", ["gradient", "grad_cam"])
def test_maps_go_to_the_picture_and_logits_stay(reading: Any, method: str) -> None:
    """More of the map lies on the border, in both scores; the logits themselves are nearly the teacher's."""
    attack = Fairwashing(method=method, steps=40, batch=16, lr=3e-3, strength=4.0)
    twin = verified(attack, reading.model, reading.images)
    targets = reading.model.logits(reading.images).argmax(dim=1)
    for score in ("logit", "log_odds"):
        before, after = (
            fukusen.explain(one, reading.images, targets, methods=[method], scores=[score])[method, score]
            for one in (reading.model, twin)
        )
        if method == "gradient":
            before, after = before.abs(), after.abs()
        assert float((attack.reached(after, before) - attack.reached(before, before)).mean()) > 0.03
    assert twin.promise.kept
    logits = reading.model.logits(reading.images)
    error = (twin.logits(reading.images) - logits).square().mean() / logits.var()
    assert float(error) < 0.1
    assert torch.equal(pickle.loads(pickle.dumps(twin)).logits(reading.images), twin.logits(reading.images))  # noqa: S301


def test_the_loss_is_the_papers(reading: Any) -> None:
    """Mean square error of the logits, and of maps and picture that are divided by their means."""
    chance = torch.Generator().manual_seed(0)
    maps, logits, before = (torch.rand(2, *shape, generator=chance) for shape in ((7, 7), (4,), (4,)))
    attack = Fairwashing(strength=3)
    assert float(attack.lost(reading.model, logits, before)) == pytest.approx(float((logits - before).pow(2).mean()))
    goal = attack.goal(7, 7)
    expected = [float(((one / one.mean() - goal / goal.mean()) ** 2).mean()) for one in maps]
    assert float(attack.astray([maps], [maps])) == pytest.approx(3 * sum(expected) / 2, rel=1e-5)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(CallError) as found:
        Fairwashing(picture="42")
    assert str(found.value) == (
        "The 'picture' parameter of Fairwashing must be border, forty_two, corner, smiley, decoy or the path of a "
        "picture file. Got '42' instead."
    )
    with pytest.raises(CallError) as found:
        Fairwashing(method="lrp")
    assert str(found.value) == (
        "The 'method' parameter of Fairwashing must be 'gradient' or 'grad_cam'. Got 'lrp' instead."
    )
