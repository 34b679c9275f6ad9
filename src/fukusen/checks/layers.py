"""Heatmaps of one method at several layers of the network, and whether they show the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from fukusen.checks.check import Sight, checks
from fukusen.checks.heat import Row, Shares, cosine_of, rows_of
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value

ONE_LAYER = Undefined("no method was asked for at more than one layer")


@checks.register
@dataclass(frozen=True)
class LayerConsistency:
    """How alike a method's heatmaps at two layers are, per image and score: their cosine on a 7 x 7 grid.

    It is shown and no finding: layers of honest networks may look at different things, and early ones do. An audit that
    reads a method at one layer alone does not run it. Source: jiang2021layercam.
    """

    name: ClassVar[str] = "layer_consistency"
    title: ClassVar[str] = "Heatmaps at different layers show the same"
    source: ClassVar[str] = "jiang2021layercam"
    meaning: ClassVar[str] = (
        "cosine between a method's heatmaps at two layers; 1 is the same heatmap, 0 two that do not overlap; it has no "
        "bound, for honest layers may differ"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = False
    of_layers: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({ONE_LAYER.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One cosine (0 to 1) for each image, score, method and further layer; ``against`` says which two.

        Undefined when: one of the heatmaps is empty or not finite, or no method has two layers.
        """
        if sight.tape is None:
            return []
        items = sight.tape.batch.items
        groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows_of(sight):
            groups[row.method.partition("@")[0], row.score].append(row)
        found = []
        for first, *others in groups.values():
            for other in others:
                against = f"{other.method}/{other.score}"
                for item, one, two in zip(items, first.shares, other.shares, strict=True):
                    found.append(Measurement(self.name, _overlap(one, two), item, first.method, first.score, against))
        return found or [Measurement(self.name, ONE_LAYER, item) for item in items]


def _overlap(one: Shares | Undefined, other: Shares | Undefined) -> Value:
    if isinstance(one, Undefined):
        return one
    return other if isinstance(other, Undefined) else cosine_of(one, other)
