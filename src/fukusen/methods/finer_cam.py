"""A class activation map of what sets a class apart from those most like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from fukusen.arrays import Logits, Targets
from fukusen.errors import require
from fukusen.methods.cam import NO_LAYER, GradCam
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape


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
    cost: ClassVar[str] = "the tape's own passes, and 3 for each reference, back to the layer"
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
        if tape.classifier.layer is None:
            return [NO_LAYER] * len(scores)
        if not scores:
            return []
        near = similar(tape.logits, tape.targets, self.references).unbind(dim=1)
        # The similar classes' passes end at the layer, also where the tape's own reach the input.
        others = [GradCam().maps(tape.for_classes(targets), scores) for targets in near]
        own = GradCam().maps(tape, scores)
        return [self._less(one, rest) for one, *rest in zip(own, *others, strict=True)]

    def _less(self, own: Explained, others: Sequence[Explained]) -> Explained:
        """One score's map of the class, less the share of the others'."""
        lacking = next((one for one in (own, *others) if isinstance(one, Undefined)), None)
        if lacking is not None or isinstance(own, Undefined):
            return lacking or own
        return own - self.gamma * torch.stack([one for one in others if isinstance(one, Tensor)]).mean(dim=0)
