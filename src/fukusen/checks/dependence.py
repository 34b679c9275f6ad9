"""What a heatmap depends on: the image, and the class that is explained."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from fukusen.agreement import Cosine, compare
from fukusen.arrays import Targets
from fukusen.checks.check import Sight, checks
from fukusen.checks.heat import Shares, cosine_of, rows_of
from fukusen.methods import Method
from fukusen.methods.cam import GradCam, HiResCam, XGradCam
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import Logit, LogOdds, Score
from fukusen.tape import Tape

FEWEST = 4
TOO_FEW = Undefined(f"fewer than {FEWEST} images were looked at together")
LINEAR = (GradCam, HiResCam, XGradCam)
"""Class activation maps that add up with their scores; those that keep what is positive alone look alike for all
classes of an honest network."""
NO_CAM = Undefined("no class activation map was asked for whose sign speaks for or against a class")
NEGATION = Undefined("with two classes, the log-odds of one are the negative of the other's, and so are their heatmaps")
ALONE = Undefined("the model has one class only")
RUNNER_UP = "runner_up"
RANDOM = "random_class"


@checks.register
@dataclass(frozen=True)
class InputDependence:
    """How alike an image's heatmap is to the mean heatmap of the other images, per method and score: their cosine.

    The images are those that are computed together. 1 on all images is a heatmap that is the same whatever the image
    shows. Source: viering2019manipulate.
    """

    name: ClassVar[str] = "input_dependence"
    title: ClassVar[str] = "Heatmaps depend on the image"
    source: ClassVar[str] = "viering2019manipulate"
    meaning: ClassVar[str] = (
        "cosine between the heatmap of an image and the mean heatmap of others; 1 on all images is the same heatmap "
        "whatever the image shows"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({TOO_FEW.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One cosine (0 to 1) for each image, method and score.

        Undefined when: the heatmap is empty or not finite, or fewer than four images of the batch have one.
        """
        if sight.tape is None:
            return []
        items = sight.tape.batch.items
        return [
            Measurement(self.name, value, item, row.method, row.score)
            for row in rows_of(sight)
            for item, value in zip(items, likeness_to_others(row.shares), strict=True)
        ]


def likeness_to_others(shares: Sequence[Shares | Undefined]) -> list[Value]:
    """The cosine of each heatmap with the sum of all others, in which each weighs the same."""
    there = [one for one in shares if not isinstance(one, Undefined)]
    if len(there) < FEWEST:
        return [one if isinstance(one, Undefined) else TOO_FEW for one in shares]
    whole = torch.stack(there).sum(dim=0)
    return [one if isinstance(one, Undefined) else cosine_of(one, whole - one) for one in shares]


@checks.register
@dataclass(frozen=True)
class ClassSpecificity:
    """How alike the signed map of the explained class is to that of another class: their cosine, per method and score.

    The other class is the runner-up, and one of the rest that is drawn by chance. A number that is added to every logit
    makes the logit maps of all classes the same; in an honest network what speaks for one class speaks against
    others. Source: sixt2020when, adebayo2018sanity.

    Args:
        seed: of the draw.
    """

    seed: int = 0
    name: ClassVar[str] = "class_specificity"
    title: ClassVar[str] = "Heatmaps of different classes differ"
    source: ClassVar[str] = "sixt2020when"
    meaning: ClassVar[str] = (
        "cosine between the maps of the explained class and of another class; 1 is the same map whichever class is "
        "explained, -1 is its opposite"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({NO_CAM.reason, NEGATION.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only where there are classes to tell apart."""
        return ALONE if len(classifier.classes) < 2 else None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One cosine (-1 to 1) for each image, other class, and class activation map that is linear in its gradient.

        Undefined when: a map is zero everywhere; and in the log-odds of two classes, where it is -1 by definition.
        """
        tape = sight.tape
        if tape is None:
            return []
        rows = list(linear_rows(sight))
        if not rows:
            return [Measurement(self.name, NO_CAM, item) for item in tape.batch.items]
        found = []
        for against, targets in self._others(tape).items():
            other = tape.explaining(targets)
            for method, score in rows:
                for item, value in zip(tape.batch.items, _alike(method, score, tape, other), strict=True):
                    found.append(Measurement(self.name, value, item, method.name, score.name, against))
        return found

    def _others(self, tape: Tape) -> dict[str, Targets]:
        """The runner-up of each image and, of more than two classes, another one."""
        order = tape.logits.argsort(dim=1, descending=True).tolist()
        rest = [[one for one in ranked if one != own] for ranked, own in zip(order, tape.targets.tolist(), strict=True)]
        chosen = {RUNNER_UP: [ranked[0] for ranked in rest]}
        if len(rest[0]) > 1:
            chosen[RANDOM] = [
                self._drawn(sorted(ranked[1:]), image) for ranked, image in zip(rest, tape.batch.images, strict=True)
            ]
        return {name: torch.tensor(classes, device=tape.logits.device) for name, classes in chosen.items()}

    def _drawn(self, classes: list[int], image: torch.Tensor) -> int:
        """One of the classes, the same whichever images are looked at together."""
        pixels = image.detach().cpu().float().contiguous().numpy().tobytes()
        return classes[int(np.random.default_rng([self.seed, zlib.crc32(pixels)]).integers(len(classes)))]


def linear_rows(sight: Sight) -> Iterator[tuple[Method, Score]]:
    """The panel's class activation maps that are linear in their gradient, in the logit and in the log-odds."""
    for name, method in sight.methods.items():
        for score in (Logit(), LogOdds()):
            if isinstance(method, LINEAR) and isinstance(sight.maps.get((name, score.name)), torch.Tensor):
                yield method, score


def _alike(method: Method, score: Score, tape: Tape, other: Tape) -> Sequence[Value]:
    if score == LogOdds() and tape.logits.shape[1] == 2 and tape.classifier.head.shift_is_free:
        return [NEGATION] * len(tape.batch.items)
    (own,), (others,) = method.maps(tape, [score]), method.maps(other, [score])
    if isinstance(own, Undefined) or isinstance(others, Undefined):
        why = own if isinstance(own, Undefined) else others
        return [why] * len(tape.batch.items)  # type: ignore[list-item]
    return compare(Cosine(), own.detach(), others.detach())
