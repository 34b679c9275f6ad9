"""Attacks that need no training: what they promise, what they keep, what they move."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fukusen
from fukusen.attacks import CornerShift, Promise, StopGradient, attacks, verified
from fukusen.errors import CallError, ModelError, UnknownName
from fukusen.models import Classifier, wrap
from fukusen.registry import spec_of


@pytest.fixture
def model() -> Classifier:
    """A small softmax network."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    return wrap(net.eval(), input_size=(3, 16, 16), head="softmax")


@pytest.mark.parametrize("name", attacks.names())
def test_the_promise_is_kept_and_measured(model: Classifier, name: str) -> None:
    """Same probabilities, on images that the attack has not seen."""
    images = torch.rand(6, 3, 16, 16)
    twin = fukusen.attack(model, name, images, strength=2.0)
    change = (model.probabilities(model.logits(images)) - twin.probabilities(twin.logits(images))).abs().max()
    assert twin.promise.kept
    assert twin.promise.images == 6
    assert twin.promise.largest_change == pytest.approx(float(change), abs=1e-7)


def test_a_broken_promise_is_reported(model: Classifier) -> None:
    """Strong enough, single precision cannot keep it."""
    twin = verified(CornerShift(1e9), model, torch.rand(6, 3, 16, 16))
    assert twin.promise.largest_change > twin.promise.tolerance
    assert not twin.promise.kept
    assert not Promise(1e-4, 0.0, flips=1, images=3).kept


def test_the_shift_is_the_papers(model: Classifier) -> None:
    """z + K sum_k A_k(0,0) on every logit."""
    images = torch.rand(2, 3, 16, 16)
    corner = model.net[0](images)[:, :, 0, 0].sum(dim=1, keepdim=True)
    torch.testing.assert_close(CornerShift(3.0).twin(model).logits(images), model.logits(images) + 3 * corner)


@pytest.mark.parametrize(
    ("attack", "moved"), [(CornerShift(50.0), ["logit"]), (StopGradient(50.0), ["logit", "log_odds"])]
)
def test_it_moves_the_scores_it_says(model: Classifier, attack: object, moved: list[str]) -> None:
    """The corner shift leaves the log-odds alone; a gradient without a value spares nothing."""
    images = torch.rand(2, 3, 16, 16)
    twin = verified(attack, model, images)  # type: ignore[arg-type]
    before, after = (fukusen.explain(one, images, methods=["hires_cam"]) for one in (model, twin))
    for score in ("logit", "log_odds"):
        pair = before["hires_cam", score].flatten(1), after["hires_cam", score].flatten(1)
        likeness = torch.cosine_similarity(*pair)
        assert bool((likeness < 0.9).all()) if score in moved else bool((likeness > 0.9999).all())


def test_the_model_given_is_left_alone(model: Classifier) -> None:
    """The twin is a copy, with hooks of its own."""
    weights = {name: value.clone() for name, value in model.net.state_dict().items()}
    twin = fukusen.attack(model, "corner_shift", strength=10)
    with torch.no_grad():
        next(iter(twin.net.parameters())).add_(1.0)
    assert all(torch.equal(value, weights[name]) for name, value in model.net.state_dict().items())
    assert twin.digest != model.digest


def test_an_attack_is_its_spec() -> None:
    """Built again from name and parameters, it is equal."""
    for attack in (CornerShift(3.0), StopGradient(0.5)):
        assert attacks.build(spec_of(attack)) == attack


def test_bad_calls_are_refused(model: Classifier) -> None:
    """With one sentence each."""
    with pytest.raises(CallError) as zero:
        CornerShift(0.0)
    assert str(zero.value) == (
        "The 'strength' parameter of CornerShift must be a finite number other than 0. Got 0.0 instead."
    )
    with pytest.raises(UnknownName) as name:
        fukusen.attack(model, "corner_shfit")
    assert str(name.value) == (
        "There is no attack named 'corner_shfit'. Did you mean 'corner_shift'? Known: corner_shift, stop_gradient."
    )
    labels = wrap(model.net, input_size=(3, 16, 16), head="sigmoid")
    with pytest.raises(ModelError, match=r"^Only logits of classes that exclude each other \(softmax\) can be shifted"):
        fukusen.attack(labels, "corner_shift")
