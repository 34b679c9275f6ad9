"""What every registered check keeps to: numbers or reasons, the same again, and a model left as it was found."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fukusen.arrays import Batch
from fukusen.checks import Check, Sight, checks
from fukusen.methods import layers_of, methods
from fukusen.models import Classifier, wrap
from fukusen.records import Measurement, Undefined
from fukusen.scores import Logit, LogOdds
from fukusen.tape import Tape

PANEL = ("grad_cam", "hires_cam", "gradient", "occlusion", "grad_cam@2")
# What a check says of one image by looking at the others too.
TOGETHER = ("input_dependence",)
NAMES = ("a", "b", "c", "d")
each_check = pytest.mark.parametrize("name", checks.names())
Key = tuple[str | None, ...]


@pytest.fixture(scope="module")
def model() -> Classifier:
    """Two convolutions and a linear head for five classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 5),
        )
    with torch.no_grad():
        net[7].weight.mul_(100)  # or its predictions would hardly move, and nothing could be said of how they do
    return wrap(net.eval(), input_size=(3, 14, 14), head="softmax")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Noise, with something bright in the middle that can be hidden."""
    found = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(8))
    found[:, :, 4:10, 4:10] += 3
    return found


def _seen(model: Classifier, images: torch.Tensor, names: tuple[str, ...] = NAMES) -> Sight:
    made = {name: methods.build(name) for name in PANEL}
    tape = Tape(model, Batch(names, images), layers=layers_of(list(made.values()), model))
    asked = (Logit(), LogOdds())
    maps = {
        (name, score.name): found
        for name, method in made.items()
        for score, found in zip(asked, method.maps(tape, asked), strict=True)
    }
    return Sight(model, tape, made, maps)


def _by_key(found: list[Measurement]) -> dict[Key, float | str]:
    values = {
        (one.item, one.method, one.score, one.against, one.layer): (
            one.value.reason if isinstance(one.value, Undefined) else one.value
        )
        for one in found
    }
    assert len(values) == len(found), "no two measurements are about the same thing"
    return values


@each_check
def test_it_says_what_it_measures(name: str) -> None:
    check = checks.build(name)
    assert isinstance(check, Check)
    assert check.scope in ("model", "image")
    assert len(check.meaning.split()) > 5
    assert check.title[0].isupper()
    assert not check.title.endswith(".")
    for reason in getattr(check, "inapplicable", ()):
        assert not reason.endswith(".")


@each_check
def test_it_measures_finite_numbers_of_the_images_or_of_the_model(
    name: str, model: Classifier, images: torch.Tensor
) -> None:
    check = checks.build(name)
    assert check.applies(model) is None
    found = check.measure(_seen(model, images) if check.scope == "image" else Sight(model, None, {}, {}))
    assert found
    assert {one.check for one in found} == {name}
    assert {one.item for one in found} == (set(NAMES) if check.scope == "image" else {None})
    assert all(isinstance(one.value, Undefined) or math.isfinite(one.value) for one in found)
    assert any(isinstance(one.value, float) for one in found)


@each_check
def test_without_a_batch_an_image_is_not_measured(name: str, model: Classifier) -> None:
    check = checks.build(name)
    if check.scope == "image":
        assert check.measure(Sight(model, None, {}, {})) == []


@each_check
def test_it_says_the_same_again_and_leaves_the_model_alone(name: str, model: Classifier, images: torch.Tensor) -> None:
    check, state = checks.build(name), {key: value.clone() for key, value in model.net.state_dict().items()}
    random = torch.random.get_rng_state()
    once, again = (_by_key(check.measure(_seen(model, images))) for _ in range(2))
    assert once == again
    assert torch.random.get_rng_state().equal(random)
    assert all(value.equal(state[key]) for key, value in model.net.state_dict().items())
    assert not model.net.training
    assert all(value.grad is None and value.requires_grad for value in model.net.parameters())
    assert not any(module._forward_hooks for module in model.net.modules())


@each_check
def test_it_says_of_each_image_what_it_says_of_it_alone(name: str, model: Classifier, images: torch.Tensor) -> None:
    check = checks.build(name)
    if check.scope == "model" or name in TOGETHER:
        return
    together = _by_key(check.measure(_seen(model, images)))
    alone = _by_key(check.measure(_seen(model, images[2:3], NAMES[2:3])))
    assert alone
    for key, value in alone.items():
        assert together[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-5))
