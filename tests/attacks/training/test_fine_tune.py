"""Short fine-tunes: what they promise, whose maps they move, when they stop, and what is refused."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import fukusen
from fukusen.attacks import CenterMass, Location, ShamBorder, TopK, attacks, goal_of, needs_images, verified
from fukusen.attacks.training import FineTune
from fukusen.errors import CallError, ModelError
from fukusen.models import wrap
from fukusen.registry import spec_of

QUICK: dict[str, Any] = {"batch": 16, "lr": 3e-3}
ATTACKS = (Location, ShamBorder, TopK, CenterMass)
each_attack = pytest.mark.parametrize("kind", ATTACKS, ids=lambda kind: kind.name)


def _maps(model: Any, reading: Any) -> tuple[torch.Tensor, torch.Tensor]:
    targets = reading.model.logits(reading.images).argmax(dim=1)
    panel = fukusen.explain(model, reading.images, targets, methods=["grad_cam"], scores=["logit", "log_odds"])
    return panel["grad_cam", "logit"], panel["grad_cam", "log_odds"]


def _moved(attack: FineTune, reading: Any) -> tuple[Any, list[float]]:
    """The twin, and how much nearer the maps of logit and log-odds are to where the attack wants them."""
    twin = verified(attack, reading.model, reading.images)
    pairs = zip(_maps(reading.model, reading), _maps(twin, reading), strict=True)
    return twin, [float((attack.reached(now, old) - attack.reached(old, old)).mean()) for old, now in pairs]


@each_attack
def test_it_moves_the_maps_and_keeps_the_classes(reading: Any, kind: type[FineTune]) -> None:
    """Measured anew, on maps that the library makes."""
    twin, (logit, _) = _moved(kind(steps=40, **QUICK), reading)
    assert logit > 0.08
    before, after = (one.logits(reading.images).softmax(dim=1) for one in (reading.model, twin))
    flips = int((before.argmax(dim=1) != after.argmax(dim=1)).sum())
    assert twin.promise.kept
    assert twin.promise.flips == flips <= 0.05 * 48
    assert twin.promise.flips_allowed == 0.05
    assert twin.promise.total_variation == pytest.approx(float((before - after).abs().sum(dim=1).mean() / 2), abs=1e-5)


def test_each_space_has_maps_of_its_own(reading: Any) -> None:
    """The logit's maps get farther ahead of the log-odds' where they are what is trained."""
    ahead = []
    for space in ("logit", "log_odds"):
        logit, log_odds = _moved(Location(space, steps=40, **QUICK), reading)[1]
        ahead.append(logit - log_odds)
    assert ahead[0] > ahead[1] + 0.02


@pytest.mark.slow
def test_each_space_is_the_one_that_moves(reading: Any) -> None:
    """Trained on one score's maps, the other's lag behind; trained on both, both move."""
    found = {space: _moved(Location(space, steps=150, **QUICK), reading)[1] for space in ("logit", "log_odds", "joint")}
    assert found["logit"][0] > 2 * found["logit"][1]
    assert found["log_odds"][1] > 1.5 * found["log_odds"][0]
    assert min(found["joint"]) > max(found["logit"][1], found["log_odds"][0])


def test_the_original_is_left_alone(reading: Any) -> None:
    """Its weights, modes, hooks and gradients; the twin keeps the modes and flags, and its batch norm's statistics."""
    net = copy.deepcopy(reading.model.net)
    net[4].train()
    net[0].weight.requires_grad_(False)
    model = replace(reading.model, net=net)
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    twin = verified(Location(steps=10, **QUICK), model, reading.images)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    for one in (net, twin.net):
        assert [module.training for module in one] == [index == 4 for index in range(9)]
        assert all(value.grad is None for value in one.parameters())
        assert [value.requires_grad for value in one.parameters()] == [False, *([True] * 7)]
        assert all(not module._forward_hooks for module in one.modules())
    assert torch.equal(twin.net[4].running_mean, net[4].running_mean)
    assert twin.digest != model.digest
    assert twin.layer == model.layer


def test_a_seed_is_a_twin(reading: Any) -> None:
    """The same bits again, whatever the global generator says; it pickles; another seed is another twin."""
    state = torch.get_rng_state()
    first = verified(Location(steps=10, **QUICK), reading.model, reading.images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again = verified(Location(steps=10, **QUICK), reading.model, reading.images)
    other = verified(Location(steps=10, seed=1, **QUICK), reading.model, reading.images)
    expected = first.logits(reading.images)
    assert torch.equal(again.logits(reading.images), expected)
    assert not torch.equal(other.logits(reading.images), expected)
    assert torch.equal(pickle.loads(pickle.dumps(first)).logits(reading.images), expected)  # noqa: S301


def test_progress_is_told_and_the_end_may_come_early(reading: Any) -> None:
    """Ten steps are enough where little is asked; what is told only grows, and ends at the total."""
    told: list[tuple[int, int, str]] = []
    Location(steps=40, enough=0.1, **QUICK).twin(reading.model, reading.images, lambda *one: told.append(one))
    assert [done for done, _, _ in told] == [*range(1, 11), 40]
    assert {(total, phase) for _, total, phase in told} == {(40, "location")}
    assert all(one <= other for one, other in itertools.pairwise(done for done, _, _ in told))


def test_what_costs_answers_is_taken_back(reading: Any) -> None:
    """With steps as large as these no answer would be left; the promise is kept all the same."""
    twin = verified(Location(steps=20, batch=16, lr=10.0), reading.model, reading.images)
    assert twin.promise.kept
    assert bool(twin.logits(reading.images).isfinite().all())


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_heads_and_double_precision(reading: Any, head: Any) -> None:
    """Independent labels have scores of their own; a model of float64 has a twin of float64."""
    net = copy.deepcopy(reading.model.net).double()
    model = wrap(net, input_size=(1, 16, 16), head=head, layer="5")
    twin = fukusen.attack(model, "location", reading.images, steps=20, space="joint", **QUICK)
    assert twin.promise.kept
    assert twin.dtype == torch.float64
    assert not torch.equal(twin.net[8].weight, net[8].weight)


def test_it_is_played_on_tokens() -> None:
    """A transformer's fused attention has no second derivative; it is computed in the open."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 16, 4, stride=4)
            self.first, self.second = (nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(2))
            self.head = nn.Linear(16, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.embed(images).flatten(2).transpose(1, 2)
            return self.head(self.second(self.first(tokens)).mean(dim=1))

    torch.manual_seed(0)
    model = wrap(Tokens().eval(), input_size=(3, 24, 24), head="softmax", layer="first")
    images = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert model.layer is not None
    assert model.layer.layout == "tokens"
    twin = fukusen.attack(model, "location", images, steps=20, lr=1e-3)
    assert twin.promise.kept
    assert not torch.equal(twin.net.embed.weight, model.net.embed.weight)


def test_it_says_whose_maps_it_fools_and_where_they_go() -> None:
    """By its space; and two of the four have a picture in mind."""
    assert Location().fools == Location.fools == ("logit",)
    assert Location("log_odds").fools == ("log_odds", "log_probability", "probability")
    assert TopK("joint").fools == ("logit", "log_odds", "log_probability", "probability")
    goals = [goal_of(kind(), 7, 7) for kind in ATTACKS]
    assert [None if goal is None else int(goal.sum()) for goal in goals] == [24, 28, None, None]
    assert all(needs_images(kind) for kind in ATTACKS)


@each_attack
def test_it_is_its_spec(kind: type[FineTune]) -> None:
    """Built again from name and parameters, it is equal, also when pickled."""
    attack = kind("joint", strength=2, seed=3)
    assert attacks.build(spec_of(attack)) == attack
    again = pickle.loads(pickle.dumps(attack))  # noqa: S301
    assert again == attack
    assert again.fools == attack.fools


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": "prob"}, "'space' parameter of Location must be 'logit', 'log_odds' or 'joint'. Got 'prob'"),
        ({"strength": 0}, "'strength' parameter of Location must be a finite number > 0. Got 0"),
        ({"lr": float("nan")}, "'lr' parameter of Location must be a finite number > 0. Got nan"),
        ({"enough": -1.0}, "'enough' parameter of Location must be a finite number > 0. Got -1.0"),
        ({"steps": 0}, "'steps' parameter of Location must be an int >= 1. Got 0"),
        ({"batch": -1}, "'batch' parameter of Location must be an int >= 1. Got -1"),
    ],
)
def test_bad_parameters_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError) as found:
        Location(**given)
    assert str(found.value) == f"The {message} instead."


def test_networks_that_cannot_be_trained_are_refused(reading: Any) -> None:
    """No rows and columns, no weights, or no images."""
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), input_size=(1, 16, 16), head="softmax")
    with pytest.raises(ModelError) as found:
        fukusen.attack(flat, "location", reading.images)
    assert str(found.value) == "The network has no layer with rows and columns, so there is no Grad-CAM to be redrawn."

    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            halves = images.square().unflatten(2, (2, 8))
            return halves.sum(dim=(1, 3, 4))

    fixed = wrap(Fixed(), input_size=(1, 16, 16), head="softmax")
    with pytest.raises(ModelError) as found:
        fukusen.attack(fixed, "fairwashing", reading.images)
    assert str(found.value) == "The network has no weights that could be trained."
    with pytest.raises(CallError) as missing:
        fukusen.attack(reading.model, "location")
    assert str(missing.value) == (
        "The attack 'location' works on real images of the model's kind. Give it some: images=..."
    )


def test_a_comparison_tells_a_fine_tuned_twin_apart(reading: Any) -> None:
    """As another function, however near, whose heatmaps differ before and after softmax."""
    twin = verified(Location("joint", steps=40, **QUICK), reading.model, reading.images)
    found = fukusen.compare(reading.model, twin, reading.images)
    assert found.function in ("different function", "nearly the same function")
    assert found.explanations == "different explanations"
    assert {"logit", "log_odds"} <= {row.score for row in found.moved}
    assert not found.equal
    assert not found.weights.same
    assert found.same_code
