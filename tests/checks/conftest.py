"""A small network and what checks look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fukusen.arrays import Batch
from fukusen.checks import Sight
from fukusen.methods import methods
from fukusen.models import Classifier, wrap
from fukusen.scores import scores
from fukusen.tape import Tape


@pytest.fixture
def images() -> torch.Tensor:
    """Three noise images of 24 x 24."""
    return torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def small() -> Classifier:
    """An honest network with ten classes, two convolutions and a linear head."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return wrap(net.eval(), input_size=(3, 24, 24), head="softmax")


@pytest.fixture
def see(images: torch.Tensor) -> Callable[..., Sight]:
    """The three images through a model, with the maps of the methods that are named."""

    def look(model: Classifier, *names: str) -> Sight:
        tape = Tape(model, Batch(("a", "b", "c"), images))
        made = {name: methods.build(name) for name in names}
        spaces = [scores.build(name) for name in scores.names()]
        maps = {
            (name, score.name): found
            for name, method in made.items()
            for score, found in zip(spaces, method.maps(tape, spaces), strict=True)
        }
        return Sight(model, tape, made, maps)

    return look
