"""Gradients against behaviour: honest networks agree with themselves, tricks do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fukusen.arrays import Batch
from fukusen.attacks import CornerShift, StopGradient
from fukusen.checks import GradientTruth, Sight
from fukusen.checks.truth import DROWNED, NEARBY, PATH, relative_error
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.tape import Tape


def _worst(sight: Sight, against: str, at_input: bool = False) -> float:
    found = GradientTruth().measure(sight)
    return max(one.value for one in found if one.against == against and (one.layer == "input") == at_input)


class Sawtooth(nn.Module):
    """r - period floor(r / period) added to the winning logit: a small value with a steep slope."""

    def __init__(self, net: nn.Sequential, period: float) -> None:
        super().__init__()
        self.net = net
        self.period = period

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.net[:4](images)
        logits = self.net[4:](features)
        ramp = 5 * features[:, :, 0, 0].sum(dim=1)
        winner = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
        return logits + winner * (ramp - self.period * torch.floor(ramp / self.period))[:, None]


class BentBackward(torch.autograd.Function):
    """The identity, with a gradient of its own."""

    @staticmethod
    def forward(_ctx: object, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(_ctx: object, *above: torch.Tensor) -> torch.Tensor:
        return above[0].flip(-1)


class Bent(nn.Module):
    """A network whose input is bent on the way back only."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(BentBackward.apply(images))


def test_an_honest_network_agrees_with_itself(small: Classifier, see: Callable[..., Sight]) -> None:
    """Close by in float64, and along the line."""
    assert _worst(see(small), NEARBY) < 1e-5
    assert _worst(see(small), PATH) < 1e-3
    assert _worst(see(small), NEARBY, at_input=True) < 1e-3


@pytest.mark.parametrize("target", [0, 1, 2])
def test_an_honest_network_of_independent_labels_agrees_with_itself(
    small: Classifier, images: torch.Tensor, target: int
) -> None:
    """Whichever label is explained."""
    model = wrap(small.net, input_size=(3, 24, 24), head="sigmoid")
    batch = Batch(tuple(map(str, range(len(images)))), images, torch.full((len(images),), target))
    sight = Sight(model, Tape(model, batch), {}, {})
    assert max(_worst(sight, NEARBY), _worst(sight, PATH), _worst(sight, NEARBY, at_input=True)) < 1e-3


def test_a_shift_is_no_lie_about_the_log_odds(
    small: Classifier, images: torch.Tensor, see: Callable[..., Sight]
) -> None:
    """The log-odds do not see it, neither their gradient."""
    sight = see(CornerShift(10.0).twin(small, images))
    assert _worst(sight, NEARBY) < 1e-3
    assert _worst(sight, PATH) < 1e-2


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_a_gradient_without_a_value_shows(
    small: Classifier, images: torch.Tensor, see: Callable[..., Sight], strength: float
) -> None:
    """At the layer and at the input."""
    sight = see(StopGradient(strength).twin(small, images))
    assert _worst(sight, NEARBY) > 0.1
    assert _worst(sight, PATH) > 0.1
    assert _worst(sight, NEARBY, at_input=True) > 0.1


@pytest.mark.parametrize("period", [1e-4, 1e-2])
def test_a_sawtooth_shows(small: Classifier, see: Callable[..., Sight], period: float) -> None:
    """Its teeth are too small to see close by where the step is smaller still; the line crosses many."""
    assert _worst(see(wrap(Sawtooth(small.net, period), input_size=(3, 24, 24), head="softmax")), PATH) > 0.1


def test_a_custom_backward_before_the_layer_shows_at_the_input(small: Classifier, see: Callable[..., Sight]) -> None:
    """What is bent in front of the layer cannot be seen behind it."""
    sight = see(wrap(Bent(small.net), input_size=(3, 24, 24), head="softmax"))
    assert _worst(sight, NEARBY) < 1e-5
    assert _worst(sight, NEARBY, at_input=True) > 0.5


def test_a_network_wired_by_closures_is_probed_as_it_is(small: Classifier, see: Callable[..., Sight]) -> None:
    """Its copy would read the original's activations; the check falls back to single precision and stays right."""
    kept: list[torch.Tensor] = []
    small.net[3].register_forward_hook(lambda _module, _inputs, output: kept.append(output))

    class Wired(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small.net

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = self.net(images)
            return logits + kept.pop().mean(dim=(1, 2, 3))[:, None].to(logits.dtype)

    assert _worst(see(wrap(Wired(), input_size=(3, 24, 24), head="softmax")), NEARBY) < 1e-2


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12, 1e-15])
def test_rounding_is_not_taken_for_a_lie(small: Classifier, see: Callable[..., Sight], size: float) -> None:
    """A network that hardly answers, as untrained deep ones do, is measured right or not at all."""

    class Faint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small.net

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images) * size

    found = GradientTruth().measure(see(wrap(Faint(), input_size=(3, 24, 24), head="softmax")))
    assert found
    for measurement in found:
        assert measurement.value == DROWNED or (isinstance(measurement.value, float) and measurement.value < 1e-2)
    assert size < 1e-8 or any(measurement.value != DROWNED for measurement in found)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_lie_shows_at_any_size_of_the_logits(
    small: Classifier, images: torch.Tensor, see: Callable[..., Sight], size: float
) -> None:
    """What is claimed is large then, too."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = StopGradient(10.0).twin(small, images).net

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.net(images) * size

    assert _worst(see(wrap(Scaled(), input_size=(3, 24, 24), head="softmax")), NEARBY) > 0.1


def test_the_relative_error_of_nothing_is_undefined() -> None:
    """Two lists of zeros have no relative error."""
    nothing = torch.zeros(3)
    assert relative_error(nothing, nothing) == Undefined("the log-odds do not change here at all")
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])) == pytest.approx(0.8)


@pytest.fixture
def flat() -> torch.Tensor:
    """A picture that is black but for a square of noise, as product photographs and scans are."""
    images = torch.zeros(2, 3, 24, 24)
    images[:, :, 8:16, 6:14] = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return images


def _pooling(layer: str | None = None) -> Classifier:
    """An honest network whose poolings compare numbers that are the same where the picture is flat."""
    torch.manual_seed(4)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()
    net = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 36, 10)).eval()
    with torch.no_grad():
        net[0].bias += 0.3
        net[3].bias += 0.3
    return wrap(net, input_size=(3, 24, 24), head="softmax", layer=layer)


def _seen(model: Classifier, images: torch.Tensor) -> Sight:
    return Sight(model, Tape(model, Batch(("a", "b"), images)), {}, {})


@pytest.mark.parametrize("layer", [None, "1", "4"])
def test_flat_pictures_are_no_lie(flat: torch.Tensor, layer: str | None) -> None:
    """Although a pooling's gradient is one of several where its numbers are tied."""
    sight = _seen(_pooling(layer), flat)
    assert _worst(sight, NEARBY) < 1e-3
    assert _worst(sight, NEARBY, at_input=True) < 1e-5


def test_a_lie_is_one_on_flat_pictures_too(flat: torch.Tensor) -> None:
    """At the layer and at the pixels."""
    honest = _pooling("4")
    assert _worst(_seen(StopGradient(10.0).twin(honest, flat), flat), NEARBY) > 1e-2
    assert _worst(_seen(wrap(Bent(honest.net), input_size=(3, 24, 24)), flat), NEARBY, at_input=True) > 0.1
