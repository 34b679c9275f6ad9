"""Which heatmap of one image stands alone, where the others point, and why it may, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fukusen.auditing.engine import AGREEMENT, PEAK
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.places import place_of
from fukusen.methods import methods
from fukusen.records import Undefined

Row = tuple[str, str]
FEWEST = 3
ALONE = 0.0
TOGETHER = 0.3
SATURATED = 0.999
_FAR_APART = 4
_SCORES = ("log_odds", "logit")


@dataclass(frozen=True, eq=False)
class Looked:
    """One image as all rows of the panel in logits and log-odds show it.

    Args:
        places: where each row's heatmap is hottest, as a cell of the 7 x 7 grid.
        likeness: of every two rows, their rank correlation.
        probability: of the class that is explained, 0 to 1; None where it is not known.
        cells: rows and columns of each method's maps; None where only a forward pass tells.
    """

    places: Mapping[Row, float]
    likeness: Mapping[frozenset[Row], float]
    probability: float | None
    cells: Mapping[str, tuple[int, int] | None]

    def with_others(self, row: Row) -> float | None:
        """The median rank correlation with the log-odds heatmaps of other methods; those cannot be shifted."""
        found = [
            value
            for pair, value in self.likeness.items()
            if row in pair
            for other in pair - {row}
            if other[0] != row[0] and other[1] == "log_odds"
        ]
        return median(found) if len(found) >= FEWEST else None


def by_image(
    evidence: Evidence, probabilities: Mapping[str, float | None], cells: Mapping[str, tuple[int, int] | None]
) -> dict[str, Looked]:
    """The images asked about, as the panel shows them.

    Args:
        evidence: of the audit.
        probabilities: of the images asked about, by name.
        cells: rows and columns of each method's maps, by method.
    """
    places: dict[str, dict[Row, float]] = defaultdict(dict)
    likeness: dict[str, dict[frozenset[Row], float]] = defaultdict(dict)
    for one in evidence.of(PEAK):
        if one.item in probabilities and one.score in _SCORES and not isinstance(one.value, Undefined):
            places[one.item or ""][one.method or "", one.score] = one.value
    for one in evidence.of(AGREEMENT):
        if one.item in probabilities and not isinstance(one.value, Undefined):
            method, _, score = (one.against or "").rpartition("/")
            likeness[one.item or ""][frozenset({(one.method or "", one.score or ""), (method, score)})] = one.value
    return {name: Looked(places[name], likeness[name], own, cells) for name, own in probabilities.items()}


def told(looked: Looked) -> str | None:
    """Which row stands alone on the image and where the others point, as sentences; None where none does.

    A row stands alone where it is unrelated to most others, and these are alike among themselves.
    """
    alike = {row: looked.with_others(row) for row in looked.places}
    known = {row: value for row, value in alike.items() if value is not None}
    if len(known) < FEWEST + 1:
        return None
    row = min(known, key=lambda one: (known[one], one))
    others = [other for other in looked.places if other[0] != row[0] and other[1] == "log_odds"]
    together = [known[other] for other in others if other in known]
    if known[row] >= ALONE or not together or median(together) < TOGETHER:
        return None
    inner = [other for other in others if methods.get(other[0].partition("@")[0]).track == "inner"]
    outer = [other for other in others if other not in inner]
    said = f"{_named(row)} stands alone: it is hottest at the {place_of(looked.places[row])}"
    where, count = _mostly(looked, inner)
    said += f", and {count} of {len(inner)} other heatmaps from inside the network at the {where}" if inner else ""
    if outer:
        where, _ = _mostly(looked, outer)
        said += f"; what the prediction depends on, by {outer[0][0]}, at the {where}"
    return f"{said}. {_why(looked, row, known)}"


def _named(row: Row) -> str:
    return f"{row[0]} of the {row[1].replace('_', '-')}"


def _mostly(looked: Looked, rows: Sequence[Row]) -> tuple[str, int]:
    """The place at which most of these rows are hottest, and how many of them are."""
    found = Counter(place_of(looked.places[row]) for row in rows)
    return found.most_common(1)[0] if found else ("", 0)


def _why(looked: Looked, row: Row, known: Mapping[Row, float]) -> str:
    """What sets the row apart from the others, as far as its own kind tells."""
    method, score = row
    after = known.get((method, "log_odds"))
    if score == "logit" and after is not None and after >= TOGETHER:
        return "It is the score: the same method after softmax agrees with the others."
    if "@" in method:
        return f"It is the layer: it is read at {method.partition('@')[2]}, and the others are not."
    if looked.probability is not None and looked.probability > SATURATED and _family(method) == "gradient":
        return (
            f"It may be saturation: at a probability of {looked.probability:.4f} the slope at the picture itself says "
            "little of what the whole picture does."
        )
    if _family(method) == "path":
        return "It may be the baseline: it explains the way from there to the picture, and the others the picture."
    own = looked.cells.get(method)
    sides = [max(cells) for other, cells in looked.cells.items() if cells and other != method]
    if own and sides and not max(own) / _FAR_APART < median(sides) < max(own) * _FAR_APART:
        return f"It may be the resolution: it has {own[0]} x {own[1]} cells, and the others many {_how(own, sides)}."
    return "Nothing about its kind says why: look at it beside the others."


def _how(own: tuple[int, int], sides: Sequence[int]) -> str:
    return "more" if median(sides) > max(own) else "fewer"


def _family(method: str) -> str:
    return methods.get(method.partition("@")[0]).family
