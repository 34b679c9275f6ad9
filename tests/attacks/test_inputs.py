"""Attacks on images: within their budget, with the class kept, and with another map by the network as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import fukusen
from fukusen.attacks import DombrowskiTarget, GhorbaniCenter, GhorbaniTopK, attacks, goal_of, needs_images, verified
from fukusen.attacks.inputs import InputAttack
from fukusen.errors import CallError, ModelError
from fukusen.models import wrap
from fukusen.registry import spec_of

KINDS = (GhorbaniTopK, GhorbaniCenter, DombrowskiTarget)
each_attack = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def _map(reading: Any, images: torch.Tensor, attack: InputAttack, targets: torch.Tensor) -> torch.Tensor:
    panel = fukusen.explain(reading.model, images, targets, methods=[attack.method], scores=[attack.score])
    found = panel[attack.method, attack.score]
    return found.abs() if attack.method == "gradient" else found


@each_attack
@pytest.mark.parametrize(("method", "score"), [("gradient", "logit"), ("grad_cam", "log_odds")])
def test_the_map_moves_within_the_budget(reading: Any, kind: type[InputAttack], method: str, score: str) -> None:
    """Measured anew by the library's own maps; at worst an image stays what it was."""
    images, attack = reading.images[:5], kind(16.0, method=method, score=score, steps=8)
    told: list[int] = []
    made = verified(attack, reading.model, images, lambda *one: told.append(one[0]))
    targets = reading.model.logits(images).argmax(dim=1)
    before, after = (_map(reading, one, attack, targets) for one in (images, made.images))
    gain = attack.distance(before, before) - attack.distance(after, before)
    assert float(gain.min()) > -1e-4
    assert float(gain.mean()) > 0
    level = float(images.max() - images.min()) / 255
    assert made.budget == pytest.approx(16 * level, rel=1e-5)
    assert 0 < made.distance <= 16 * level * (1 + 1e-5)
    assert float(made.images.min()) >= float(images.min())
    assert float(made.images.max()) <= float(images.max())
    assert torch.equal(reading.model.logits(made.images).argmax(dim=1), targets)
    assert made.promise.kept
    assert told == list(range(1, 17))


def test_a_larger_budget_buys_more(reading: Any) -> None:
    """Of the hottest pixels' share less is left."""
    images, targets = reading.images[:4], reading.model.logits(reading.images[:4]).argmax(dim=1)
    left = []
    for budget in (2.0, 32.0):
        attack = GhorbaniTopK(budget, steps=15)
        made = verified(attack, reading.model, images)
        before, after = (_map(reading, one, attack, targets) for one in (images, made.images))
        left.append(float((attack.distance(after, before) / attack.distance(before, before)).mean()))
    assert left[1] < left[0] < 1
    assert left[1] < 0.7


@each_attack
def test_a_seed_is_one_result_and_nothing_else_is_touched(reading: Any, kind: type[InputAttack]) -> None:
    """The images given, the model's weights and gradients, and the global generator stay."""
    images, state = reading.images[:2].clone(), torch.get_rng_state()
    weights = copy.deepcopy(reading.model.net.state_dict())
    first, again = (verified(kind(steps=5), reading.model, images).images for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(images, reading.images[:2])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in reading.model.net.state_dict().items())
    assert all(weight.grad is None for weight in reading.model.net.parameters())


def test_it_is_played_in_double_precision(reading: Any) -> None:
    model = reading.model.in_double()
    made = verified(GhorbaniTopK(steps=5), model, reading.images[:2])
    assert made.images.dtype == torch.float64
    assert made.promise.kept


@each_attack
def test_it_says_what_it_is(kind: type[InputAttack]) -> None:
    """Its spec makes it again, it needs images, and one of the three has a picture in mind."""
    attack = kind(4.0, method="grad_cam", score="log_odds", steps=3, seed=2)
    assert attacks.build(spec_of(attack)) == attack
    assert needs_images(kind)
    assert (goal_of(attack, 7, 7) is not None) == (kind is DombrowskiTarget)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (GhorbaniTopK, {"budget": 0}, "'budget' parameter of GhorbaniTopK must be a finite number > 0. Got 0"),
        (
            GhorbaniTopK,
            {"share": 1.0},
            "'share' parameter of GhorbaniTopK must be a share above 0 and below 1. Got 1.0",
        ),
        (GhorbaniCenter, {"score": "p"}, "'score' parameter of GhorbaniCenter must be 'logit' or 'log_odds'. Got 'p'"),
        (
            GhorbaniCenter,
            {"method": "lrp"},
            "'method' parameter of GhorbaniCenter must be 'gradient' or 'grad_cam'. Got 'lrp'",
        ),
        (GhorbaniCenter, {"steps": 0}, "'steps' parameter of GhorbaniCenter must be an int >= 1. Got 0"),
        (DombrowskiTarget, {"keep": -1}, "'keep' parameter of DombrowskiTarget must be a finite number > 0. Got -1"),
        (
            DombrowskiTarget,
            {"picture": "x"},
            (
                "'picture' parameter of DombrowskiTarget must be border, forty_two, corner, smiley, decoy or the path "
                "of a picture file. Got 'x'"
            ),
        ),
    ],
)
def test_bad_parameters_are_refused(kind: type[InputAttack], given: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError) as found:
        kind(**given)
    assert str(found.value) == f"The {message} instead."


def test_what_cannot_be_played_is_refused(reading: Any) -> None:
    """No images, and no layer for Grad-CAM."""
    with pytest.raises(CallError) as missing:
        fukusen.attack(reading.model, "ghorbani_top_k")
    assert str(missing.value) == (
        "The attack 'ghorbani_top_k' works on real images of the model's kind. Give it some: images=..."
    )
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3))
    flat = wrap(net, input_size=(1, 16, 16), head="softmax")
    with pytest.raises(ModelError) as found:
        fukusen.attack(flat, "ghorbani_top_k", reading.images[:2], method="grad_cam")
    assert str(found.value) == "The network has no layer with rows and columns, so there is no Grad-CAM to be redrawn."
