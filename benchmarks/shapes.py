"""Networks of many shapes that learn digits at random places of a canvas, each from a seed of its own.

Shared by benchmarks that ask whether what is true of one kind of network is true of others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from digits import CANVAS, Digits, seen
from torch import nn

from fukusen.models import Classifier, wrap

STEPS = {"vit": 2000, "vit_pooled": 2000, "mobilenet": 1200}
USUAL_STEPS, BATCH = 600, 64
STEEPEST = {"vit": 1e-3, "vit_pooled": 1e-3}
FURTHEST = 4


def _convolutions(*widths: int) -> list[nn.Module]:
    """Pairs of convolutions, each with a half of the last one's side."""
    layers: list[nn.Module] = []
    below = 1
    for width in widths:
        for before in (below, width):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        below = width
    return layers


def _like_vgg(classes: int) -> nn.Module:
    head = [nn.Linear(64 * 25, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, classes)]
    return nn.Sequential(*_convolutions(16, 32, 64), nn.Flatten(), *head)


def _deep_head(classes: int) -> nn.Module:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes)]
    return nn.Sequential(*_convolutions(16, 32, 64), *pooled, *head)


class _Cosines(nn.Module):
    """Sixteen times the cosine between the features and each class's direction."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 16 * nn.functional.normalize(features) @ nn.functional.normalize(self.directions).T


class _Distances(nn.Module):
    """How far the features are from each class's prototype: minus the squared distance."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(0.3 * torch.randn(classes, features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(features, self.prototypes).square()


def _headed(head: Callable[[int, int], nn.Module]) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*_convolutions(16, 32, 64), *pooled, head(64, classes))

    return build


def _from_timm(name: str, **settings: object) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        return timm.create_model(name, num_classes=classes, in_chans=1, **settings)

    return build


_TOKENS = {"img_size": CANVAS, "patch_size": 5, "embed_dim": 64, "depth": 4, "num_heads": 4}
SHAPES: dict[str, Callable[[int], nn.Module]] = {
    "vgg": _like_vgg,
    "deep_head": _deep_head,
    "resnet": _from_timm("resnet10t", channels=(16, 32, 64, 64), stem_width=16, output_stride=8),
    "densenet": _from_timm("densenet121", growth_rate=12, block_config=(3, 3)),
    "mobilenet": _from_timm("mobilenetv2_035", output_stride=8),
    "vit": _from_timm("vit_tiny_patch16_224", **_TOKENS),
    "vit_pooled": _from_timm("vit_tiny_patch16_224", **_TOKENS, global_pool="avg", class_token=False),
    "cosine_head": _headed(_Cosines),
    "distance_head": _headed(_Distances),
}
"""Smaller than their namesakes, so that their maps have as many cells on a canvas of 40 pixels as on a photograph."""


@dataclass(frozen=True)
class Kind:
    """A shape, for how many classes, and from which seed."""

    shape: str
    classes: int
    seed: int

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.shape}, {self.classes} classes, seed {self.seed}"


def _moved(images: torch.Tensor) -> torch.Tensor:
    """All images shifted by the same few pixels."""
    wide = nn.functional.pad(images, (FURTHEST,) * 4)
    top, left = torch.randint(2 * FURTHEST + 1, (2,)).tolist()
    return wide[..., top : top + CANVAS, left : left + CANVAS]


def learnt(kind: Kind, data: Digits) -> Classifier:
    """The network, trained with AdamW and wrapped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(kind.seed)
        net = SHAPES[kind.shape](kind.classes)
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.02)
        steps = STEPS.get(kind.shape, USUAL_STEPS)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, STEEPEST.get(kind.shape, 3e-3), steps)
        for _ in range(steps):
            which = torch.randint(len(data.images), (BATCH,))
            loss = nn.functional.cross_entropy(net(_moved(data.images[which])), data.labels[which])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    classes = [str(digit) for digit in range(kind.classes)]
    return wrap(net.eval(), seen, classes, input_size=(1, CANVAS, CANVAS), head="softmax")
