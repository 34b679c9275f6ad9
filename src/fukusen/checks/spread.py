"""How widely a heatmap is spread: nearly all in one cell, or the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fukusen.checks.check import Sight, checks
from fukusen.checks.heat import Shares, rows_of
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value


@checks.register
@dataclass(frozen=True)
class Dominance:
    """The share of a heatmap that lies in its hottest cell of 49, per image, method and score.

    1/49 is a flat map, which points nowhere; 1 is a single cell. Source: viering2019manipulate.
    """

    name: ClassVar[str] = "dominance"
    title: ClassVar[str] = "Heatmaps are not the same everywhere"
    source: ClassVar[str] = "viering2019manipulate"
    meaning: ClassVar[str] = (
        "share of a heatmap in the hottest of 7 x 7 cells; 1/49 (0.02) is the same everywhere, 1 is a single cell"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = False

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One share (1/49 to 1) for each image, method and score.

        Undefined when: the heatmap is empty, or not finite.
        """
        if sight.tape is None:
            return []
        return [
            Measurement(self.name, largest(shares), item, row.method, row.score)
            for row in rows_of(sight)
            for item, shares in zip(sight.tape.batch.items, row.shares, strict=True)
        ]


def largest(shares: Shares | Undefined) -> Value:
    """The largest share, or why there is none."""
    return shares if isinstance(shares, Undefined) else float(shares.max())
