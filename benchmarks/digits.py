"""Digits at random places on a larger canvas, with their boxes, and a small network that reads them.

Shared by benchmarks that need a network of their own and the true place of what it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fukusen.models import Classifier, wrap

Optimiser = Literal["adam", "sgd"]
Kind = Literal["softmax", "sigmoid"]
Start = Literal["fresh", "tuned"]

CANVAS, ZOOM = 40, 2


@dataclass(frozen=True, eq=False)
class Digits:
    """Images (b, 1, 40, 40) from 0 to 1, their labels (b,), and 1 where a digit's box is, shape (b, 40, 40)."""

    images: Tensor
    labels: Tensor
    boxes: Tensor

    def part(self, first: int, last: int | None) -> Digits:
        return Digits(self.images[first:last], self.labels[first:last], self.boxes[first:last])

    def below(self, classes: int) -> Digits:
        """The digits from 0 to one less than that."""
        kept = self.labels < classes
        return Digits(self.images[kept], self.labels[kept], self.boxes[kept])


def placed(seed: int) -> Digits:
    """Scikit-learn's 1,797 digits, twice as large as they are there, shuffled and placed by chance."""
    chance = torch.Generator().manual_seed(seed)
    data = load_digits()
    order = torch.randperm(len(data.images), generator=chance)
    small = torch.tensor(data.images, dtype=torch.float32)[order] / 16
    digits = small.repeat_interleave(ZOOM, dim=1).repeat_interleave(ZOOM, dim=2)
    side = digits.shape[1]
    corners = torch.randint(0, CANVAS - side + 1, (len(digits), 2), generator=chance).tolist()
    images, boxes = torch.zeros(len(digits), 1, CANVAS, CANVAS), torch.zeros(len(digits), CANVAS, CANVAS)
    for number, (top, left) in enumerate(corners):
        place = (slice(top, top + side), slice(left, left + side))
        images[number, 0][place] = digits[number]
        boxes[number][place] = 1
    return Digits(images, torch.tensor(data.target)[order], boxes)


def network(seed: int, classes: int = 10) -> nn.Sequential:
    """Four convolutions, global average pooling and a linear head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = [1, 16, 32, 64, 64]
        layers: list[nn.Module] = []
        for depth, (below, above) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(below, above, 3, padding=1), nn.BatchNorm2d(above), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if depth in (0, 1) else []
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: from which seed, for how many classes and epochs, how, and for what kind of labels.

    ``start``: from random weights, or from a network that tells how digits are turned, with a random head instead of
    its own.
    """

    seed: int = 0
    classes: int = 10
    epochs: int = 8
    optimiser: Optimiser = "adam"
    head: Kind = "softmax"
    start: Start = "fresh"

    @property
    def name(self) -> str:
        tuned = ", tuned" if self.start == "tuned" else ""
        return f"{self.classes} classes, {self.optimiser}, {self.head}{tuned}, seed {self.seed}"


def trained(data: Digits, recipe: Recipe) -> Classifier:
    """The network trained on some digits, wrapped; ``accuracy`` says how well it reads others."""
    net = network(recipe.seed, recipe.classes)
    if recipe.start == "tuned":
        head = net[-1]
        net = network(recipe.seed, 4)
        _learn(net, _turned(data), replace(recipe, head="softmax"))
        net[-1] = head
    _learn(net, data, recipe, slower=4 if recipe.start == "tuned" else 1)
    # Behind the last ReLU, where a linear head adds up what Grad-CAM shows.
    layer = str(len(net) - 4)
    classes = [str(digit) for digit in range(recipe.classes)]
    return wrap(net.eval(), seen, classes, input_size=(1, CANVAS, CANVAS), head=recipe.head, layer=layer)


def _turned(data: Digits) -> Digits:
    """Each image turned by 0 to 3 quarters, and that number as its label."""
    quarters = torch.arange(len(data.images)) % 4
    turned = [torch.rot90(image, int(times), (1, 2)) for image, times in zip(data.images, quarters, strict=True)]
    return Digits(torch.stack(turned), quarters, data.boxes)


def _learn(net: nn.Sequential, data: Digits, recipe: Recipe, *, slower: float = 1) -> None:
    """Train a network in place, at a rate that is so many times lower than a fresh network's."""
    chance = torch.Generator().manual_seed(recipe.seed)
    steepest = (6e-3 if recipe.optimiser == "adam" else 0.1) / slower
    optimiser: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), lr=steepest)
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(net.parameters(), lr=steepest, momentum=0.9, weight_decay=1e-4)
    batch = 64
    steps = recipe.epochs * -(-len(data.images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, steepest, steps)
    for _ in range(recipe.epochs):
        for which in torch.randperm(len(data.images), generator=chance).split(batch):
            loss = _loss(net(data.images[which]), data.labels[which], recipe.head)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def _loss(logits: Tensor, labels: Tensor, head: Kind) -> Tensor:
    if head == "softmax":
        return nn.functional.cross_entropy(logits, labels)
    wanted = nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted)


def seen(picture: Image.Image) -> Tensor:
    """A picture as the network sees it, (1, 40, 40)."""
    grey = picture.convert("L").resize((CANVAS, CANVAS))
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)[None]


def accuracy(model: Classifier, data: Digits) -> float:
    """The share of digits that are read right."""
    return float((model.logits(data.images).argmax(dim=1) == data.labels).double().mean())
