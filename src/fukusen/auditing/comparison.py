"""Two models side by side: what a comparison says, and the one headline that sums it up."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fukusen.auditing.bounds import Bound
from fukusen.auditing.facts import ModelFacts
from fukusen.auditing.insides import Weights
from fukusen.records import Undefined, Value
from fukusen.twins import Promise

Function = Literal["identical", "same function", "nearly the same function", "different function"]
Explanations = Literal["same explanations", "different explanations", "explanations not compared"]
Grid = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """How alike the two models' maps of one method and score are; both explain the reference's predicted classes.

    Args:
        method: of the panel.
        score: of the panel.
        cosine: of the signed maps, an image each; or why there is no number.
        ssim: of the heatmaps as people see them, an image each; or why there is no number.
        items: the images' names.
        one_sided: on how many images only one of the models has a map that is not zero everywhere.
        grids: rows and columns of the reference's maps and of the candidate's.
        lacking: why there are no maps to compare; None where there are.
        leaks: whether a number added to every logit can move maps of that score.
    """

    method: str
    score: str
    cosine: tuple[Value, ...] = ()
    ssim: tuple[Value, ...] = ()
    items: tuple[str, ...] = ()
    one_sided: int = 0
    grids: tuple[Grid, Grid] | None = None
    lacking: str | None = None
    leaks: bool = False

    @property
    def median(self) -> float | None:
        """The median cosine over the images with a number; None where there is none."""
        return _median(self.cosine)

    @property
    def worst(self) -> tuple[float, str] | None:
        """The lowest cosine, and its image; None where there is no number."""
        found = [(value, item) for value, item in zip(self.cosine, self.items, strict=True) if isinstance(value, float)]
        return min(found, default=None)

    def same(self, bounds: Mapping[str, Bound]) -> bool | None:
        """Whether the maps are the same within the bounds; None where nothing could be compared."""
        if self.one_sided:
            return False
        if self.lacking is not None or self.median is None or self.worst is None:
            return None
        return self.median >= bounds["same_maps"].value and self.worst[0] >= bounds["same_maps_image"].value

    def as_json(self, bounds: Mapping[str, Bound]) -> dict[str, Any]:
        """As data; where there is no number, null."""
        worst, seen = self.worst, [value for value in self.ssim if isinstance(value, float)]
        return {
            "method": self.method,
            "score": self.score,
            "leaks": self.leaks,
            "same": self.same(bounds),
            "cosine_median": self.median,
            "cosine_worst": None if worst is None else worst[0],
            "worst_image": None if worst is None else worst[1],
            "ssim_median": _median(self.ssim),
            "ssim_worst": min(seen, default=None),
            "images": sum(isinstance(value, float) for value in self.cosine),
            "one_sided": self.one_sided,
            "grids": None if self.grids is None else [list(grid) for grid in self.grids],
            "lacking": self.lacking,
        }


def _median(values: Sequence[Value]) -> float | None:
    numbers = [value for value in values if isinstance(value, float)]
    return float(statistics.median(numbers)) if numbers else None


@dataclass(frozen=True)
class Gauge:
    """What hides in the part of a model's logits that softmax cannot see.

    Args:
        head_mean_row: what all rows of the last linear layer share, relative to a typical row.
        shares: the median over the images of how much of a logit's gradient all logits share, a place each.
    """

    head_mean_row: Value
    shares: Mapping[str, Value]

    def as_json(self) -> dict[str, Any]:
        """As data; a number that does not exist is its reason."""
        shares = {place: _plain(value) for place, value in self.shares.items()}
        return {"head_mean_row": _plain(self.head_mean_row), "shift_share": shares}


def _plain(value: Value) -> float | dict[str, str]:
    return {"undefined": value.reason} if isinstance(value, Undefined) else value


@dataclass(frozen=True)
class Answer:
    """What both models say of one image.

    Args:
        item: the image.
        reference: the class that the reference predicts.
        candidate: the class that the candidate predicts.
        change: the largest change of a probability, 0 to 1.
        flipped: whether these are other classes, whatever the two models call them.
    """

    item: str
    reference: str
    candidate: str
    change: float
    flipped: bool


@dataclass(frozen=True)
class Comparison:
    """Two models side by side.

    Args:
        reference: what is known of the first.
        candidate: what is known of the second.
        identical: whether weights, code and preprocessing are the same to the last bit.
        outputs: how far the probabilities are apart.
        answers: image by image.
        rows: the maps, a method and score each.
        gauges: of the reference and of the candidate.
        weights: tensor by tensor.
        same_code: whether both are made of the same code.
        preprocessing: how pictures were made inputs, in one sentence.
        failures: images that were left out, with the reason.
        notes: what else a reader must know, in sentences.
        bounds: that the headline rests on, by name.
    """

    reference: ModelFacts
    candidate: ModelFacts
    identical: bool
    outputs: Promise
    answers: tuple[Answer, ...]
    rows: tuple[Row, ...]
    gauges: tuple[Gauge, Gauge]
    weights: Weights
    same_code: bool
    preprocessing: str
    failures: Mapping[str, str]
    notes: tuple[str, ...]
    bounds: Mapping[str, Bound]

    @property
    def function(self) -> Function:
        """Whether both predict the same, as far as these images show."""
        if self.outputs.kept:
            return "identical" if self.identical else "same function"
        few = self.outputs.flips <= self.bounds["near_flips"].value * self.outputs.images
        near = self.outputs.total_variation <= self.bounds["near_total_variation"].value
        return "nearly the same function" if few and near else "different function"

    @property
    def explanations(self) -> Explanations:
        """Whether the maps of both are the same, as far as these methods, scores and images show."""
        found = {row.same(self.bounds) for row in self.rows}
        if False in found:
            return "different explanations"
        return "same explanations" if True in found else "explanations not compared"

    @property
    def headline(self) -> str:
        """The finding in one line, such as ``same function, different explanations``."""
        return f"{self.function}, {self.explanations}"

    @property
    def equal(self) -> bool:
        """Whether nothing told the two apart: same predictions and same maps."""
        return self.function in ("identical", "same function") and self.explanations == "same explanations"

    @property
    def moved(self) -> tuple[Row, ...]:
        """The rows whose maps differ, the most different first."""
        rows = [row for row in self.rows if row.same(self.bounds) is False]
        return tuple(sorted(rows, key=lambda row: -1.0 if row.median is None else row.median))

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the headline says, what it rests on and what follows from it, in sentences."""
        return (*self._said_of_function(), *self._said_of_maps(), *self._advice())

    def _said_of_function(self) -> Iterator[str]:
        found, count = self.outputs, self.outputs.images
        on = f"on {'this image' if count == 1 else f'these {count} images'}"
        apart = f"by up to {found.largest_change:.2g}"
        if self.function == "identical":
            yield f"The two are one model: same weights, same code, same preprocessing, and same probabilities {on}."
        elif self.function == "same function":
            yield f"They predict the same {on}; the largest difference of a probability is {found.largest_change:.2g}."
        elif self.function == "nearly the same function":
            other = f"other classes on {found.flips} of {count} images" if found.flips else f"the same classes {on}"
            yield (
                f"They predict {other}, with probabilities that differ {apart} ({found.total_variation:.2g} of a "
                f"decision on average). More than {found.tolerance:.0e} is no rounding: they are not the same model."
            )
        else:
            yield f"They predict differently: {found.flips} of {count} predictions differ, and probabilities {apart}."

    def _said_of_maps(self) -> Iterator[str]:
        moved, compared = self.moved, [row for row in self.rows if row.same(self.bounds) is not None]
        lacking = [row.lacking for row in self.rows if row.lacking is not None]
        if moved:
            first = moved[0]
            likeness = "only one of them has any" if first.median is None else f"cosine {first.median:.2g}"
            yield (
                f"{len(moved)} of {len(compared)} kinds of heatmap differ, {first.method} of the "
                f"{first.score.replace('_', ' ')} most ({likeness}; from {self.bounds['same_maps'].value:g} on they "
                "count as the same)."
            )
        elif compared:
            yield f"All {len(compared)} kinds of heatmap are the same."
        else:
            yield f"No heatmap could be compared: {lacking[0] if lacking else 'there is none of both'}."
        if moved and all(row.leaks for row in moved) and len(moved) < len(compared):
            yield (
                "Only those move that a number added to every logit can move; all others are the same. So that number "
                "is what differs: show heatmaps of log-odds, or repair both models."
            )

    def _advice(self) -> Iterator[str]:
        if self.function in ("identical", "same function") and self.moved:
            yield "Heatmaps of the one say nothing about the other, although every test of predictions passes."
        elif self.function in ("nearly the same function", "different function"):
            yield "Whatever was tested on the reference must be tested on the candidate again."

    def as_json(self) -> dict[str, Any]:
        """Everything, as data."""
        return {
            "headline": self.headline,
            "meaning": list(self.meaning),
            "function": self.function,
            "explanations": self.explanations,
            "equal": self.equal,
            "reference": self.reference.as_json(),
            "candidate": self.candidate.as_json(),
            "identical": self.identical,
            "outputs": {**asdict(self.outputs), "kept": self.outputs.kept},
            "rows": [row.as_json(self.bounds) for row in self.rows],
            "gauge": {"reference": self.gauges[0].as_json(), "candidate": self.gauges[1].as_json()},
            "weights": self.weights.as_json(),
            "same_code": self.same_code,
            "preprocessing": self.preprocessing,
            "images": [asdict(answer) for answer in self.answers],
            "failures": dict(self.failures),
            "notes": list(self.notes),
            "bounds": [bound.as_json() for bound in self.bounds.values()],
        }
