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
        "added_shift",
        1e-2,
        "relative size of a gradient that no weight makes; rounding leaves less than 1e-5, and a number that is added "
        "to every logit shows in a heatmap from about 0.1 on",
    ),
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


REDRAWN = Bound(
    "redrawn",
    0.9,
    "median structural similarity; below it people see another heatmap, and who can move it so far can mislead",
)

_COMPARED = (
    Bound(
        "same_probabilities",
        1e-4,
        "largest change of any probability; float32 against float64 and an ONNX export move one by up to 2e-6, and "
        "float32 logits with a large number added to them by up to 1e-4",
    ),
    Bound(
        "near_total_variation",
        0.05,
        "mean total variation of the probabilities: one part in twenty of a decision; on the demo network, 8-bit "
        "weights of the last layer move 0.006 and of all layers 0.04, noise of a fiftieth of the weights 0.11",
    ),
    Bound(
        "near_flips",
        0.01,
        "share of images with another predicted class; of fewer than a hundred images, none",
    ),
    Bound(
        "same_maps",
        0.999,
        "median cosine over the images; above 0.99999 for float64 and for an ONNX export of the same network, 0.99997 "
        "for centred logits, 0.93 to 0.99 for a corner shift that is too faint to see in half of the methods",
    ),
    Bound(
        "same_maps_image",
        0.99,
        "cosine on one image; the worst for float64 and for an ONNX export is 0.9995, at the pixels, where kinks of "
        "ReLUs meet rounding",
    ),
)


def comparison_bounds() -> dict[str, Bound]:
    """The bounds that two models are compared by, by name.

    Example:
        >>> comparison_bounds()["same_probabilities"].value
        0.0001
    """
    return {bound.name: bound for bound in _COMPARED}


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
            min(2 / sqrt(max(classes, 1)), 3 * chance / sqrt(1 + 9 * chance**2)),
            "the smaller of twice 1/sqrt(k), what untrained independent rows share by chance, and what the rows share "
            "where that is three times as large as what sets them apart is by chance: of few classes, a mean row is "
            "never much longer than the rows",
        ),
    ]
    return {bound.name: bound for bound in (*scaled, *_ALWAYS)}
