"""Maps of one image that should tell the same story, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.agreement import Spearman, Ssim, compare
from fukusen.arrays import Maps
from fukusen.checks.check import Sight, checks, no_free_shift
from fukusen.checks.heat import on_grid
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value


@checks.register
@dataclass(frozen=True)
class ScoreDisagreement:
    """How alike a method's logit map and its log-odds map are, per image and method, as heatmaps.

    An honest network gives nearly the same map in both; one that was bent in a single score does not.
    Source: lerma2023vulnerability; the likeness is wang2004ssim.
    """

    name: ClassVar[str] = "score_disagreement"
    title: ClassVar[str] = "Maps before and after softmax tell the same story"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = "structural likeness of the logit map and the log-odds map of one method; 1 is identical"
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = False

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only where logits and log-odds differ: softmax heads."""
        return no_free_shift(classifier)

    def measure(self, sight: Sight) -> list[Measurement]:
        """One SSIM (-1 to 1) for each image and single-pass method that has maps in both scores."""
        if sight.tape is None:
            return []
        likeness = Ssim()
        found = []
        for name, method in sight.methods.items():
            before, after = sight.maps.get((name, "logit")), sight.maps.get((name, "log_odds"))
            if not method.single_pass or not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
                continue
            side = max(likeness.side, 1)
            pair = [on_grid(maps, method, side) for maps in (before, after)]
            for item, value in zip(sight.tape.batch.items, compare(likeness, *pair), strict=True):
                found.append(Measurement(self.name, value, item, name, "logit", f"{name}/log_odds"))
        return found


@checks.register
@dataclass(frozen=True)
class TrackContradiction:
    """How well the inner track's consensus agrees with behaviour, per image; and each map of the panel for itself.

    The consensus is the mean of the inner methods' log-odds heatmaps, which no logit shift can move; behaviour is the
    outer track's log-odds map. A value without a method speaks of the consensus. Source: krishna2022disagreement.
    """

    name: ClassVar[str] = "track_contradiction"
    title: ClassVar[str] = "What the maps point at is what the prediction depends on"
    source: ClassVar[str] = "krishna2022disagreement"
    meaning: ClassVar[str] = (
        "rank correlation between the maps and the fall of the prediction when parts are hidden; 1 is the same order, "
        "0 unrelated, below 0 opposite"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = False
    of_full: ClassVar[bool] = True

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One rank correlation (-1 to 1) for each image, and one for each image and inner map."""
        outer = self._mean(sight, "outer")
        inner = self._mean(sight, "inner")
        if sight.tape is None or outer is None or inner is None:
            return []
        items = sight.tape.batch.items
        found = self._said(items, compare(Spearman(), inner, outer))
        for (name, score), maps in sight.maps.items():
            method = sight.methods[name]
            if method.track == "inner" and isinstance(maps, torch.Tensor):
                own = on_grid(maps, method).to(outer)
                found += self._said(items, compare(Spearman(), own, outer), name, score)
        return found

    def _said(
        self, items: Sequence[str], values: Sequence[Value], method: str | None = None, score: str | None = None
    ) -> list[Measurement]:
        pairs = zip(items, values, strict=True)
        return [Measurement(self.name, value, item, method, score, "outer/log_odds") for item, value in pairs]

    def _mean(self, sight: Sight, track: str) -> Maps | None:
        """The mean of a track's log-odds heatmaps, each scaled to a maximum of one, on a common grid."""
        scaled = []
        for name, method in sight.methods.items():
            maps = sight.maps.get((name, "log_odds"))
            if method.track != track or not isinstance(maps, torch.Tensor):
                continue
            heat = on_grid(maps, method).double()
            top = heat.amax(dim=(1, 2), keepdim=True)
            scaled.append(torch.where(top > 0, heat / top, torch.zeros_like(heat)))
        return torch.stack(scaled).mean(dim=0) if scaled else None
