"""A class activation map whose weights are integrated over the layer's own path, as the image fades in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.arrays import Activations, Batch, Gradients
from fukusen.errors import require
from fukusen.methods.cam import NO_LAYER
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Layer
from fukusen.scores import Score
from fukusen.tape import Tape

Point = tuple[Activations, list[Gradients]]


def _point(tape: Tape, layer: Layer, scores: Sequence[Score]) -> Point:
    return tape.activations(layer), [tape.gradient(score, layer) for score in scores]


def shares(tape: Tape, layer: Layer, scores: Sequence[Score], steps: int, baseline: float) -> list[Gradients]:
    """For each score the integral of its gradient over the layer's activations along the way, shape (b, c, h, w).

    The image moves in a straight line, the layer as it will; the sum over a step takes the mean of the gradients at its
    ends times the activation's change. Each sums to the score's change where every path to the logits leads through the
    layer, up to the sampling error. The last point is the tape's own pass.
    """
    images = tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)
    away = images - baseline
    totals: list[Gradients] = []
    before: Point | None = None
    for number in range(steps + 1):
        if number < steps:
            here = Batch(tape.batch.items, baseline + away * (number / steps), tape.targets)
            after = _point(Tape(tape.classifier, here, layers=(layer,), at_input=False), layer, scores)
        else:
            after = _point(tape, layer, scores)
        if before is not None:
            moved = after[0] - before[0]
            parts = [(one + other) / 2 * moved for one, other in zip(before[1], after[1], strict=True)]
            totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
        before = after
    return totals


@methods.register
@dataclass(frozen=True)
class RsiGradCam:
    """RSI-Grad-CAM: Grad-CAM with the gradients integrated over the layer as the image fades in.

    The integral over the layer's activations is a Riemann-Stieltjes sum. A score that saturates at the image has its
    gradients counted where it had not yet, so the paper takes the probability. Every cell counts with its sign, as in
    the formula; the authors' programs leave out those whose integral or change is negative. All scores share the
    points. Source: lucas2022rsigradcam.

    Args:
        steps: how many steps from the baseline image to the image, at least 1.
        baseline: every preprocessed pixel of the image it starts from; 0 is the mean colour for most networks.
    """

    steps: int = 50
    baseline: float = 0.0
    name: ClassVar[str] = "rsi_grad_cam"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "cam"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "lucas2022rsigradcam"
    cost: ClassVar[str] = "1 forward pass and 3 passes back to the layer for each step"
    fits: ClassVar[str] = "any network with rows and columns"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(isinstance(self.steps, int) and self.steps >= 1, "RsiGradCam", "steps", "an int >= 1", self.steps)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the layer's resolution, in score times activation."""
        layer = tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        if not scores:
            return []
        activations = tape.activations(layer)
        return [
            torch.einsum("bchw,bc->bhw", activations, share.mean(dim=(2, 3)))
            for share in shares(tape, layer, scores, self.steps, self.baseline)
        ]
