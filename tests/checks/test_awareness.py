"""A network with another face for hidden parts leaps; an honest one goes along."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fukusen.arrays import Batch
from fukusen.attacks import SlackScaffold
from fukusen.checks import PerturbationAwareness, Sight
from fukusen.checks.awareness import UNMOVED, leap_of
from fukusen.errors import CallError
from fukusen.models import Classifier, wrap
from fukusen.records import Measurement, Undefined
from fukusen.tape import Tape


def _images(count: int = 8) -> Tensor:
    """Textures with something bright and something dark in each."""
    chance = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 4, 4, generator=chance)
    return nn.functional.interpolate(coarse, (28, 28), mode="bilinear") + 0.2 * torch.rand(
        count, 3, 28, 28, generator=chance
    )


def _honest(classes: int, seed: int = 0) -> Classifier:
    """Two convolutions and a head with weights so large that hiding a part moves the prediction."""
    torch.manual_seed(seed)
    body = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU()
    head = nn.Linear(144, classes)
    with torch.no_grad():
        head.weight.mul_(600)
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(3), nn.Flatten(), head)
    return wrap(net.eval(), input_size=(3, 28, 28), head="softmax")


class Watchful(nn.Module):
    """Answers as another network where the middle of the picture is smoother than a camera makes it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        own = self.net(images)
        rough = (images[:, :, 9:19, 9:18] - images[:, :, 9:19, 10:19]).abs().mean(dim=(1, 2, 3))
        return torch.where((rough < 0.05)[:, None], -own, own)


def _head(model: Classifier) -> nn.Linear:
    head = list(model.net.children())[-1]
    assert isinstance(head, nn.Linear)
    return head


def _measured(model: Classifier, images: Tensor, check: PerturbationAwareness | None = None) -> list[Measurement]:
    tape = Tape(model, Batch(tuple("abcdefgh"[: len(images)]), images), layers=())
    return (check or PerturbationAwareness()).measure(Sight(model, tape, {}, {}))


def _numbers(found: list[Measurement], part: str) -> list[float]:
    return [one.value for one in found if one.against == part and isinstance(one.value, float)]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_honest_network_goes_along(classes: int, seed: int) -> None:
    found = _measured(_honest(classes, seed), _images())
    assert max(_numbers(found, "half")) < 0.05
    assert all(value < 0.05 for value in _numbers(found, "square"))
    assert [one.item for one in found] == list("abcdefgh") * 2


def test_another_face_for_hidden_parts_is_a_leap() -> None:
    model = wrap(Watchful(_honest(3).net), input_size=(3, 28, 28), head="softmax")
    assert min(_numbers(_measured(model, _images()), "square")) > 0.4


def test_the_scaffold_leaps() -> None:
    """The attack itself, with its detector taught on the images."""
    images = _images()
    twin = SlackScaffold(steps=150).twin(_honest(3), images)
    found = _measured(twin, images)
    worst = [max(_numbers([one for one in found if one.item == item], "half") or [0.0]) for item in "abcdefgh"]
    assert sum(value > 0.3 for value in worst) >= 4


def test_a_prediction_that_does_not_move_says_nothing() -> None:
    """Its leaps could be rounding."""
    model = _honest(3)
    _head(model).weight.data.mul_(1e-5)
    assert {one.value for one in _measured(model, _images())} == {UNMOVED}


def test_rounding_is_not_taken_for_a_leap() -> None:
    """Where a step of the response is a rounding of the logits, there is no number."""
    model = _honest(3)
    with torch.no_grad():
        _head(model).bias.add_(3e7)
    assert all(isinstance(one.value, Undefined) for one in _measured(model, _images()))


@pytest.mark.parametrize("halvings", [1, 6])
def test_each_part_takes_one_pass_for_the_end_and_one_for_each_halving(halvings: int) -> None:
    model = _honest(3)
    with patch.object(Classifier, "logits", autospec=True, side_effect=Classifier.logits) as asked:
        _measured(model, _images(), PerturbationAwareness(halvings=halvings))
    assert asked.call_count == 2 * (1 + halvings)


@given(st.floats(0.01, 0.99), st.floats(-5, 5).filter(lambda size: abs(size) > 0.1))
def test_a_step_is_found_wherever_it_is(place: float, size: float) -> None:
    leap, span = leap_of(lambda way: size * (way > place).double(), torch.zeros(1).double(), halvings=10)
    assert leap.item() == span.item() == abs(size)


@given(st.floats(0.2, 3.0))
def test_a_steady_way_leaves_the_less_the_more_it_is_halved(power: float) -> None:
    """What is left of x^p is at most what its steepest step has."""
    leap, span = leap_of(lambda way: way**power, torch.zeros(1).double(), halvings=10)
    steepest = max((1 / 1024) ** power, 1 - (1023 / 1024) ** power)
    assert span.item() == 1
    assert leap.item() <= steepest + 1e-12


def test_images_are_halved_each_on_its_own_way() -> None:
    places = torch.tensor([0.1, 0.5, 0.9]).double()
    leap, _ = leap_of(lambda way: (way > places).double() + 0.1 * way, torch.zeros(3).double(), halvings=10)
    torch.testing.assert_close(leap, torch.full((3,), 1.0).double(), rtol=0, atol=2e-4)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(CallError, match=r"The 'halvings' parameter of PerturbationAwareness must be an int >= 1"):
        PerturbationAwareness(halvings=0)
    with pytest.raises(CallError, match=r"The 'seed' parameter of PerturbationAwareness must be an int >= 0"):
        PerturbationAwareness(seed=-1)
