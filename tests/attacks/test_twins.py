"""Every attack that needs no training: the promise, the scores it spares, and the model that it leaves alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

import fukusen
from fukusen.attacks import ModelAttack, attacks, goal_of, needs_images, verified
from fukusen.models import Classifier
from fukusen.records import Spec

# Whose maps each attack moves, and with what parameters where the usual ones are meant for trained networks.
MOVED: dict[str, tuple[str, dict[str, Any]]] = {
    "corner_shift": ("hires_cam", {"strength": 5.0}),
    "masked_contrast": ("grad_cam", {}),
    "input_shift": ("gradient", {}),
    "drawn_target": ("grad_cam", {}),
    "constant_map": ("grad_cam", {}),
    "triggered_shift": ("grad_cam", {}),
    "stop_gradient": ("hires_cam", {"strength": 5.0}),
    "sawtooth": ("grad_cam", {}),
    "custom_backward": ("grad_cam", {}),
    "row_shift": ("grad_cam", {}),
    "hidden_unit": ("hires_cam", {"strength": 5.0}),
    "cancelling_pair": ("layer_cam", {}),
    "channel_rescale": ("eigen_cam", {}),
}
SCORES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
# A hidden unit is spent where there are hidden layers.
PLAYED = [(network, name) for name in MOVED for network in ("model", "digits")]
PLAYED.remove(("model", "hidden_unit"))

each_attack = pytest.mark.parametrize("name", MOVED)
each_play = pytest.mark.parametrize(("network", "name"), PLAYED)


class Played:
    """An attack on one of the networks, with images of its own."""

    def __init__(self, request: pytest.FixtureRequest, network: str, name: str) -> None:
        self.model: Classifier = request.getfixturevalue(network)
        self.images: torch.Tensor = request.getfixturevalue({"model": "images", "digits": "grey"}[network])
        self.attack = attacks.build(Spec.of(name, **MOVED[name][1]))
        if hasattr(self.attack, "stamped"):
            self.images = self.attack.stamped(self.images)

    def twin(self) -> Any:
        return verified(self.attack, self.model, self.images)


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Callable[[str, str], Played]:
    return lambda network, name: Played(request, network, name)


def test_none_is_left_out() -> None:
    """Every attack on the model that needs neither training nor images is in the table above."""
    simple = [name for name in attacks.names() if attacks.get(name).family in ("logits", "value", "weights")]
    plain = [name for name in simple if isinstance(attacks.build(name), ModelAttack)]
    assert {name for name in plain if not needs_images(attacks.get(name))} == set(MOVED)


@each_play
def test_the_promise_is_kept_and_measured(play: Any, network: str, name: str) -> None:
    """The same predictions, and the figure is that of a measurement made anew."""
    played = play(network, name)
    twin, model, images = played.twin(), played.model, played.images
    change = (model.probabilities(model.logits(images)) - twin.probabilities(twin.logits(images))).abs().max()
    assert twin.promise.kept
    assert twin.promise.images == 6
    assert twin.promise.largest_change == pytest.approx(float(change), abs=1e-7)


@each_play
def test_it_moves_the_scores_it_says_and_no_others(play: Any, likeness: Any, network: str, name: str) -> None:
    """By the method that it is meant for."""
    played = play(network, name)
    twin = played.twin()
    for score, found in zip(SCORES, likeness(played.model, twin, played.images, MOVED[name][0], *SCORES), strict=True):
        if score in played.attack.fools:
            assert float(found.median()) < 0.95, score
        elif name != "hidden_unit":
            assert float(found.min()) > 0.9999, score
        else:
            assert float(found.min()) > 0.9, score


@each_attack
def test_maps_go_where_the_attacker_wants_them(play: Any, name: str) -> None:
    """Of what is positive in a map, more lies in the goal than before."""
    played = play("digits" if name == "hidden_unit" else "model", name)
    made = []
    for model in (played.model, played.twin()):
        targets = played.model.logits(played.images).argmax(dim=1)
        panel = fukusen.explain(model, played.images, targets, methods=[MOVED[name][0]], scores=["logit"])
        made.append(panel[MOVED[name][0], "logit"].double().clamp_min(0))
    goal = goal_of(played.attack, *made[0].shape[1:])
    if goal is None:
        assert name in (
            "corner_shift",
            "stop_gradient",
            "constant_map",
            "row_shift",
            "cancelling_pair",
            "channel_rescale",
        )
        return
    before, after = ((one * (goal > 0.5)).sum(dim=(1, 2)) / one.sum(dim=(1, 2)).clamp_min(1e-30) for one in made)
    assert float(after.median()) > float(before.median()) + 0.1


@each_play
def test_the_model_given_is_left_alone(play: Any, network: str, name: str) -> None:
    """Its weights, its mode and its hooks; and the twin shares no weight with it."""
    played = play(network, name)
    net = played.model.net.train()
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    twin = played.twin()
    assert net.training
    assert twin.net.training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    assert all(value.grad is None and value.requires_grad for value in net.parameters())
    assert all(value.requires_grad for value in twin.net.parameters())
    with torch.no_grad():
        for value in twin.net.parameters():
            value.add_(1.0)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert twin.digest != played.model.digest


@each_play
def test_a_twin_travels(play: Any, likeness: Any, network: str, name: str) -> None:
    """Pickled or copied, it is the same; so it is in double precision, and every call of it."""
    played = play(network, name)
    twin, images = played.twin(), played.images
    expected = twin.logits(images)
    assert torch.equal(twin.logits(images), expected)
    again = verified(played.attack, played.model, images)
    assert torch.equal(again.logits(images), expected)
    for other in (pickle.loads(pickle.dumps(twin)), copy.deepcopy(twin)):  # noqa: S301
        assert torch.equal(other.logits(images), expected)
        assert float(likeness(twin, other, images, MOVED[name][0]).min()) > 0.99999
    assert float(likeness(twin, twin.in_double(), images, MOVED[name][0]).min()) > 0.999


@each_attack
def test_it_is_played_in_double_precision(play: Any, name: str) -> None:
    """A model of float64 has a twin of float64, and the promise is the closer for it."""
    played = play("digits" if name == "hidden_unit" else "model", name)
    played.model.net.double()
    twin = played.twin()
    assert twin.dtype == torch.float64
    assert twin.logits(played.images).dtype == torch.float64
    assert twin.promise.kept
    if "log_odds" not in played.attack.fools and name != "hidden_unit":
        assert twin.promise.largest_change < 1e-11
