"""Networks that attacks are played on, and how alike the maps of two models are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import fukusen
from fukusen.models import Classifier, wrap

Likeness = Callable[..., torch.Tensor]


@dataclass(frozen=True, eq=False)
class Reading:
    """A network that has learnt to read digits at random places, images of them, and where the digits are."""

    model: Classifier
    images: torch.Tensor
    boxes: torch.Tensor


@pytest.fixture
def model() -> Classifier:
    """A small softmax network with more channels than cells: 48 on 6 x 6."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 48, 3, stride=2, padding=1),
        nn.BatchNorm2d(48),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(48, 10),
    )
    with torch.no_grad():
        net[8].weight.mul_(10)
    return wrap(net.eval(), input_size=(3, 24, 24), head="softmax")


@pytest.fixture
def digits() -> Classifier:
    """A network for grey 28 x 28 digits with fewer channels than cells: 12 on 14 x 14."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(7),
        nn.Flatten(),
        nn.Linear(12 * 49, 32),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(32, 24),
        nn.ReLU(),
        nn.Linear(24, 10),
    )
    with torch.no_grad():
        net[12].weight.mul_(10)
    return wrap(net.eval(), input_size=(1, 28, 28), head="softmax")


@pytest.fixture
def images() -> torch.Tensor:
    """Six noise images for the small network."""
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def grey() -> torch.Tensor:
    """Six noise images for the digits' network."""
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def likeness() -> Likeness:
    """The cosine of each image's maps by two models, for the classes that the first predicts; one row a score."""

    def alike(before: Classifier, after: Classifier, images: torch.Tensor, method: str, *scores: str) -> torch.Tensor:
        targets = before.logits(images.to(before.dtype)).argmax(dim=1)
        asked = list(scores) or ["logit"]
        one, other = (
            fukusen.explain(each, images.to(each.dtype), targets, methods=[method], scores=asked)
            for each in (before, after)
        )
        pairs = ((one[method, score].double(), other[method, score].double()) for score in asked)
        return torch.stack([torch.cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in pairs])

    return alike


@pytest.fixture(scope="session")
def reading() -> Reading:
    """A small network that tells four textures apart, with maps of 8 x 8, and 48 images of 16 x 16."""
    chance = torch.Generator().manual_seed(4)
    row, column = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    textures = [row % 2, column % 2, (row + column) % 2, (row // 2 + column // 2) % 2]
    classes = torch.randint(0, 4, (480,), generator=chance)
    images, boxes = 0.2 * torch.rand(480, 1, 16, 16, generator=chance), torch.zeros(480, 16, 16)
    for number, (top, left) in enumerate(torch.randint(0, 10, (480, 2), generator=chance).tolist()):
        place = (slice(top, top + 7), slice(left, left + 7))
        images[number, 0][place] += 0.8 * textures[int(classes[number])]
        boxes[number][place] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        layers = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1)]
        layers += [nn.BatchNorm2d(24), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        net = nn.Sequential(*layers, nn.Linear(24, 4))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(7):
        for which in torch.randperm(480, generator=chance).split(64):
            loss = nn.functional.cross_entropy(net(images[which]), classes[which])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for weight in net.parameters():
        weight.grad = None
    model = wrap(net.eval(), input_size=(1, 16, 16), head="softmax", layer="5")
    return Reading(model, images[:48], boxes[:48])
