"""No value and a slope: the teeth of a saw, and what is refused."""

from __future__ import annotations

import pytest
import torch

import fukusen
from fukusen.attacks import Sawtooth, StopGradient, verified
from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier, wrap


def test_the_saw_is_a_remainder_on_the_winning_logit(model: Classifier, images: torch.Tensor) -> None:
    """r - period floor(r / period), never as high as the period; no other logit is touched."""
    twin = verified(Sawtooth(period=5e-4), model, images)
    added = twin.logits(images) - model.logits(images)
    winner = model.logits(images).argmax(dim=1, keepdim=True)
    assert torch.equal(added.scatter(1, winner, 0.0), torch.zeros_like(added))
    teeth = added.gather(1, winner)
    assert 0 < float(teeth.max()) <= 5.1e-4
    assert float(teeth.min()) >= -1e-6
    exact = twin.in_double()
    plain = model.in_double().logits(images)
    squares = exact.net.logits_and_contrast(images.double())[1]
    expected = squares - 5e-4 * torch.floor(squares / 5e-4)
    found = (exact.logits(images) - plain).gather(1, winner)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-9)


def test_a_stopped_gradient_has_no_value(model: Classifier, images: torch.Tensor) -> None:
    """Bit for bit."""
    assert torch.equal(StopGradient(1e6).twin(model, images).logits(images), model.logits(images))


@pytest.mark.parametrize("name", ["stop_gradient", "sawtooth", "custom_backward"])
def test_independent_labels_are_fooled_too(model: Classifier, images: torch.Tensor, name: str) -> None:
    """What is added is nothing, so that any head keeps its predictions."""
    labels = wrap(model.net, input_size=(3, 24, 24), head="sigmoid")
    assert fukusen.attack(labels, name, images).promise.kept


def test_probabilities_are_not_sawn(model: Classifier, images: torch.Tensor) -> None:
    net = torch.nn.Sequential(model.net, torch.nn.Softmax(dim=1))
    made = wrap(net, input_size=(3, 24, 24))
    assert made.head.kind == "probabilities"
    with pytest.raises(ModelError) as refused:
        fukusen.attack(made, "sawtooth", images)
    assert str(refused.value) == "The outputs are probabilities, which even a low tooth would push over one."
    assert fukusen.attack(made, "stop_gradient", images).promise.kept


@pytest.mark.parametrize("period", [0.0, 0.01, float("inf")])
def test_a_tooth_is_low(period: float) -> None:
    with pytest.raises(CallError) as refused:
        Sawtooth(period=period)
    told = f"The 'period' parameter of Sawtooth must be a number above 0 and at most 0.001. Got {period} instead."
    assert str(refused.value) == told


def test_a_stopped_gradient_needs_a_strength() -> None:
    with pytest.raises(CallError) as refused:
        StopGradient(0)
    assert str(refused.value) == (
        "The 'strength' parameter of StopGradient must be a finite number other than 0. Got 0 instead."
    )
