"""A class activation map of what sets a class apart from those most like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Maps, Targets
from fukusen.errors import require
from fukusen.methods.cam import NO_LAYER, GradCam
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.records import Undefined
from fukusen.scores import Score, cotangent_of, zero_sum
from fukusen.tape import Tape

_SAME = 1e-10


def similar(logits: Logits, targets: Targets, count: int) -> Int64[Tensor, "b n"]:
    """The classes whose logits are nearest the target's, nearest first; fewer than ``count`` where there are no more.

    Only differences of logits are looked at, so that a shift of all of them does not change the choice.
    """
    exact, column = logits.double(), targets[:, None]
    apart = (exact - exact.gather(1, column)).abs().scatter(1, column, torch.inf)
    return apart.argsort(dim=1, stable=True)[:, : min(count, logits.shape[1] - 1)]


@methods.register
@dataclass(frozen=True)
class FinerCam:
    """Finer-CAM: the Grad-CAM map of a class less the mean map of the classes most like it.

    The paper explains z_c - gamma z_d in place of the logit z_c, averaged over some d. Here any score takes the logit's
    place: what is explained is s_c - gamma mean_d s_d, with s_k the score as it would be for class k. A number added to
    every logit enters it 1 - gamma times as much as it enters s: not at all for scores without a leak, 0.4 times for
    the paper's own setting, and not at all for the logit where gamma is 1. The d are the classes with the nearest
    logits. Of two classes, the other one's log-odds are the target's own turned round, so that their map is a multiple
    of Grad-CAM's. Source: zhang2025finercam.

    Args:
        gamma: how much of the similar classes is taken away, from 0 (plain Grad-CAM) to 1.
        references: how many similar classes, at least 1; all others where there are no more.
    """

    gamma: float = 0.6
    references: int = 3
    name: ClassVar[str] = "finer_cam"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "cam"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "zhang2025finercam"
    cost: ClassVar[str] = "the tape's own passes, and 3 more, back to the layer"
    fits: ClassVar[str] = "any network with rows and columns"
    single_pass: ClassVar[bool] = True
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(0 <= self.gamma <= 1, "FinerCam", "gamma", "a number from 0 to 1", self.gamma)
        require(
            isinstance(self.references, int) and self.references >= 1,
            "FinerCam",
            "references",
            "an int >= 1",
            self.references,
        )

    @property
    def leak_share(self) -> float:
        """How much of a score's shift leak enters: 1 - gamma."""
        return 1 - self.gamma

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the layer's resolution, in units of the score."""
        layer = tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        cam = GradCam()
        own = cam.maps(tape, scores)
        if self.gamma == 0 or not scores:
            return own
        near = similar(tape.logits, tape.targets, self.references)
        # Only what sets the class apart is gone back for: for several scores that is the same, and each pass ends at
        # the layer, also where the tape's own reach the input.
        made: list[tuple[Cotangents, Maps]] = []
        found: list[Explained] = []
        for score, whole in zip(scores, own, strict=True):
            start = _apart(tape, score, near)
            maps = next((maps for other, maps in made if torch.allclose(start, other, _SAME, _SAME)), None)
            if maps is None:
                maps = cam.weigh(tape.activations(layer), tape.pulled_back(_rounded(start, tape), layer))
                made.append((start, maps))
            found.append(whole if isinstance(whole, Undefined) else (1 - self.gamma) * whole + self.gamma * maps)
        return found


def _apart(tape: Tape, score: Score, near: Int64[Tensor, "b n"]) -> Cotangents:
    """The cotangent of s_c - mean_d s_d on the logits, shape (b, k), in float64."""
    head, exact = tape.classifier.head, tape.logits.double()
    others = [cotangent_of(score, head, exact, targets) for targets in near.unbind(dim=1)]
    return cotangent_of(score, head, exact, tape.targets) - torch.stack(others).mean(dim=0)


def _rounded(start: Cotangents, tape: Tape) -> Cotangents:
    """In the network's precision; a start that sums to zero does so exactly, so that no shift comes in by rounding."""
    if bool((start.sum(dim=1).abs() <= _SAME * start.abs().sum(dim=1)).all()):
        return zero_sum(start, tape.targets, tape.logits.dtype)
    return start.to(tape.logits.dtype)
