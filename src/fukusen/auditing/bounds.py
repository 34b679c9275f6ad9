"""Every bound that a verdict rests on, each with where it comes from; nothing else in the house knows a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any


@dataclass(frozen=True)
class Bound:
    """One limit and its reason.

    Args:
        name: what is limited.
        value: the limit.
        source: why it is where it is.
    """

    name: str
    value: float
    source: str

    def as_json(self) -> dict[str, Any]:
        """The bound as it stands in audit.json."""
        return {"name": self.name, "value": self.value, "source": self.source}


_ALWAYS = (
    Bound(
        "score_disagreement",
        0.6,
        "median likeness over the images; honest ImageNet networks lie near 0.9, ten-class ones near 0.95",
    ),
    Bound("score_disagreement_image", 0.3, "likeness on one image; half of what is asked of the median over images"),
    Bound(
        "gradient_truth_layer",
        1e-2,
        "relative error close by, in float64; smooth and piecewise linear networks lie below 0.002",
    ),
    Bound(
        "gradient_truth_path",
        0.1,
        "part of the attribution that the model's change over a tenth of the activation does not bear out",
    ),
    Bound(
        "gradient_truth_input",
        5e-2,
        "relative error close by at the pixels, where kinks of all layers meet; honest networks lie below 0.005",
    ),
    Bound(
        "track_contradiction",
        0.0,
        "median rank correlation over the images; below it maps and behaviour are unrelated or opposed",
    ),
    Bound(
        "track_contradiction_image",
        -0.3,
        "rank correlation on one image over 49 cells; unrelated maps fall below it about once in 50 times",
    ),
    Bound(
        "track_contradiction_row",
        -0.1,
        "median rank correlation of one row of the panel; single methods are noisier than their mean",
    ),
)


def bounds_for(classes: int) -> dict[str, Bound]:
    """The bounds for a network with so many classes, by name.

    Two of them scale with the number of classes k: the rows of a linear layer that were never trained share
    1/sqrt(k) of their size by chance, and their common gradient is 1/sqrt(k - 1) of the telling one.

    Args:
        classes: k, at least 1.

    Example:
        >>> bounds_for(1000)["shift_share"].value, round(bounds_for(10)["shift_share"].value, 2)
        (0.1, 1.0)
    """
    chance = 1 / sqrt(max(classes - 1, 1))
    scaled = [
        Bound(
            "shift_share",
            max(0.1, 3 * chance),
            "the larger of 0.1 and three times 1/sqrt(k - 1), what untrained independent rows share by chance; "
            "networks trained with softmax and cross-entropy lie below that chance level",
        ),
        Bound(
            "head_mean_row",
            2 / sqrt(max(classes, 1)),
            "twice 1/sqrt(k), what untrained independent rows share by chance",
        ),
    ]
    return {bound.name: bound for bound in (*scaled, *_ALWAYS)}
