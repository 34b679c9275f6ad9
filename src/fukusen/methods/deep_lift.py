"""Differences from a reference image, carried back layer by layer: DeepLIFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Maps, Scales
from fukusen.methods.differences import Kept, multiplying, recording
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Capture
from fukusen.records import Undefined
from fukusen.scores import Score, value_of
from fukusen.scores.score import readout, spread, zero_sum
from fukusen.tape import Tape

_POINTS = (16, 64, 256)
_EXACT, _ROUNDING = 1e-6, 1e-12
_SHARE, _NOISE = 1e-2, 4e-6


def _start(tape: Tape, score: Score, before: Logits, change: Scales) -> Cotangents:
    """The score's own multiplier: its mean cotangent on the way from the reference's logits to the image's.

    It adds up to the score's change, and is zero-sum where the score's cotangents are: no shift of all logits enters.
    """
    head = tape.classifier.head
    near, where = readout(score, head, tape.logits, tape.targets)
    first = readout(score, head, before, tape.targets)[0].double()
    run = near.double() - first
    mean = torch.zeros_like(run)
    for count in _POINTS:
        nodes, weights = (torch.from_numpy(part).to(run) / 2 for part in np.polynomial.legendre.leggauss(count))
        points = first + (nodes + 0.5)[:, None, None] * run
        each = score.cotangent(points.flatten(0, 1), where.repeat(count)).reshape(points.shape).double()
        mean = torch.einsum("n,nbk->bk", weights, each)
        if bool((((mean * run).sum(dim=1) - change).abs() <= _EXACT * change.abs()).all()):
            break
    if bool((mean.sum(dim=1).abs() <= _ROUNDING * mean.abs().sum(dim=1)).all()):
        mean = zero_sum(mean, where, tape.logits.dtype)
    return spread(score, head, mean.to(tape.logits.dtype), tape.logits, tape.targets)


def _adds_up(found: Maps, change: Scales, logits: Logits) -> bool:
    """Whether every map sums to its change, up to a share of it, or to what rounding does to the map and the logits."""
    exact = found.double()
    total, mass = exact.sum(dim=(1, 2)), exact.abs().sum(dim=(1, 2))
    rounding = _NOISE * mass + 32 * torch.finfo(logits.dtype).eps * logits.double().abs().amax(dim=1)
    bound = torch.maximum(_SHARE * torch.maximum(total.abs(), change.abs()), rounding)
    return bool(((total - change).abs() <= bound).all())


@methods.register
@dataclass(frozen=True)
class DeepLift:
    """DeepLIFT under its rescale rule: the score's difference from a reference image's, shared out to the pixels.

    Each activation hands back its change over its input's change in place of its derivative, wherever and however often
    it is used. What has several inputs hands back its mean gradient between reference and image, of which the rescale
    rule is the case of one input; a maximum gives its change to the places that held it before and after. Summed over
    the channels. Undefined where the map does not add up to the score's difference: something in the network has no
    rule. Source: shrikumar2017deeplift.

    Args:
        baseline: every preprocessed pixel of the reference image; 0 is the mean colour for most networks.
    """

    baseline: float = 0.0
    name: ClassVar[str] = "deep_lift"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "relevance"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "shrikumar2017deeplift"
    cost: ClassVar[str] = "2 forward passes, and 1 backward pass for each score"
    fits: ClassVar[str] = "networks whose every step has a rule"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, in units of the score; each sums to its difference."""
        if not scores:
            return []
        model = tape.classifier
        images = tape.batch.images.to(model.device, model.dtype)
        reference = torch.full_like(images, self.baseline)
        kept: list[Kept] = []
        with recording(kept):
            before = model.logits(reference)
        with multiplying(kept):
            capture = model.run(images, (), "input")
        return [self._one(tape, capture, score, before, images - reference) for score in scores]

    def _one(self, tape: Tape, capture: Capture, score: Score, before: Logits, away: Tensor) -> Explained:
        change = tape.value(score) - value_of(score, tape.classifier.head, before, tape.targets)
        start = _start(tape, score, before, change)
        (multipliers,) = torch.autograd.grad(
            capture.logits, capture.images, start, retain_graph=True, materialize_grads=True
        )
        found = torch.einsum("bchw,bchw->bhw", away, multipliers)
        if not _adds_up(found, change, tape.logits):
            total, asked = float(found.double().sum(dim=(1, 2))[0]), float(change[0])
            return Undefined(f"a step of the network has no rule: the map sums to {total:.3g}, not to {asked:.3g}")
        return found
