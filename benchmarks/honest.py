"""What an audit says of honest networks of many shapes: their status, and how many images wait for a person.

Each network learns digits at random places of a canvas, from a seed of its own, and is then audited as it is on
pictures that it has not been trained on. Nobody manipulated it: what an audit finds is a false alarm, or true of an
honest network. Written as a table between two marks of docs/explanation/detection.md with ``--write``.

    python benchmarks/honest.py --classes 2 10 --seeds 1 --write
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from detection import pictures_of, table, written
from digits import CANVAS, Digits, accuracy, placed, seen
from torch import nn

import fukusen
from fukusen.models import Classifier, wrap
from fukusen.repairs import repaired

MARK = "honest"
IMAGES = 40
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
class Case:
    """A shape, for how many classes, from which seed, and whether repaired before the audit."""

    shape: str
    classes: int
    seed: int
    repaired: bool = False

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.shape}, {self.classes} classes, seed {self.seed}" + (", repaired" if self.repaired else "")


def _moved(images: torch.Tensor) -> torch.Tensor:
    """All images shifted by the same few pixels."""
    wide = nn.functional.pad(images, (FURTHEST,) * 4)
    top, left = torch.randint(2 * FURTHEST + 1, (2,)).tolist()
    return wide[..., top : top + CANVAS, left : left + CANVAS]


def trained(case: Case, data: Digits) -> Classifier:
    """The network, trained with AdamW and wrapped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        net = SHAPES[case.shape](case.classes)
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.02)
        steps = STEPS.get(case.shape, USUAL_STEPS)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, STEEPEST.get(case.shape, 3e-3), steps)
        for _ in range(steps):
            which = torch.randint(len(data.images), (BATCH,))
            loss = nn.functional.cross_entropy(net(_moved(data.images[which])), data.labels[which])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    classes = [str(digit) for digit in range(case.classes)]
    return wrap(net.eval(), seen, classes, input_size=(1, CANVAS, CANVAS), head="softmax")


def row_of(case: Case, budget: str) -> list[str]:
    """What an audit says of one network."""
    own = placed(case.seed).below(case.classes)
    model = trained(case, own.part(0, -IMAGES))
    rest = own.part(-IMAGES, None)
    if case.repaired:
        model = repaired(model, [rest.images])
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = pictures_of(rest, Path(made) / "pictures", IMAGES)
        done = fukusen.audit(model, folder, Path(made) / "audit", budget=budget)
    told = [one for one in done.findings if one["scope"] == "model"]
    (shift,) = (row["value"] for row in done.verdict["checks"] if row["check"] == "shift_in_map")
    claims = ", ".join(sorted({f"{one['check']} ({one['method']})" if one["method"] else one["check"] for one in told}))
    queue = f"{len(done.queue)} of {done.verdict['images']['audited']}"
    return [case.name, f"{accuracy(model, rest):.2f}", done.status, queue, f"{shift:.2f}", claims or "none"]


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=tuple(SHAPES), default=tuple(SHAPES))
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--repaired", action="store_true", help="audit them without what all their logits share")
    parser.add_argument("--write", action="store_true", help="into docs/explanation/detection.md")
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.first, asked.first + asked.seeds):
        for classes in asked.classes:
            for shape in asked.shape:
                rows.append(row_of(Case(shape, classes, seed, asked.repaired), asked.budget))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    found = table(
        ("network", "accuracy", "status", "images in the queue", "shift_in_map", "findings about the model"), rows
    )
    print(found)
    if asked.write:
        written(MARK, f"Measured at the budget {asked.budget} on {len(rows)} models.\n\n{found}")


if __name__ == "__main__":
    main()
