"""Digits at random places on a larger canvas, with their boxes, and a small network that reads them.

Shared by benchmarks that need a network of their own and the true place of what it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fukusen.models import Classifier, wrap

CANVAS, ZOOM = 40, 2


@dataclass(frozen=True, eq=False)
class Digits:
    """Images (b, 1, 40, 40) from 0 to 1, their labels (b,), and 1 where a digit's box is, shape (b, 40, 40)."""

    images: Tensor
    labels: Tensor
    boxes: Tensor

    def part(self, first: int, last: int | None) -> Digits:
        return Digits(self.images[first:last], self.labels[first:last], self.boxes[first:last])


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


def network(seed: int) -> nn.Sequential:
    """Four convolutions, global average pooling and a linear head for ten classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = [1, 16, 32, 64, 64]
        layers: list[nn.Module] = []
        for depth, (below, above) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(below, above, 3, padding=1), nn.BatchNorm2d(above), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if depth in (0, 1) else []
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def trained(data: Digits, seed: int, epochs: int = 8) -> Classifier:
    """The network trained on some digits, wrapped; ``accuracy`` says how well it reads others."""
    net, chance = network(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    batch = 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, epochs * -(-len(data.images) // batch))
    for _ in range(epochs):
        for which in torch.randperm(len(data.images), generator=chance).split(batch):
            loss = nn.functional.cross_entropy(net(data.images[which]), data.labels[which])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    # Behind the last ReLU, where a linear head adds up what Grad-CAM shows.
    layer = str(len(net) - 4)
    classes = [str(digit) for digit in range(10)]
    return wrap(net.eval(), classes=classes, input_size=(1, CANVAS, CANVAS), head="softmax", layer=layer)


def accuracy(model: Classifier, data: Digits) -> float:
    """The share of digits that are read right."""
    return float((model.logits(data.images).argmax(dim=1) == data.labels).double().mean())
