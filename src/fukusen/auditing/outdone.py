"""Heatmaps that follow what predictions depend on much less well than another method's do, on the same images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from fukusen.auditing.evidence import Evidence, Numbers
from fukusen.auditing.families import family_of, is_judged, is_telling
from fukusen.auditing.significance import by_chance
from fukusen.auditing.suspicions import Case
from fukusen.checks.faithfulness import DELETION, INSERTION
from fukusen.records import Finding

_TRUSTED = "log_odds"
Row = tuple[str, str]
Rows = dict[Row, Numbers]


@dataclass(frozen=True)
class Yardstick:
    """By which of behaviour's numbers heatmaps are held against each other, image by image.

    Args:
        check: whose numbers they are; the finding has its name.
        fewest: images, of which the best of several methods is not the best by luck.
        rows: the numbers of each method and score.
        claim: what the heatmaps of a method do, and by which number; ``{better}`` is the other method.
        reason: the same of one heatmap.
    """

    check: str
    fewest: int
    rows: Callable[[Evidence], Rows]
    claim: str
    reason: str


def _ranks(evidence: Evidence) -> Rows:
    groups = evidence.by("track_contradiction", "method", "score")
    return {(method, score): numbers for (method, score), numbers in groups.items() if method}


def _areas(evidence: Evidence) -> Rows:
    """The mean of the two areas: hottest cells first, and nothing else."""
    groups = evidence.by("faithfulness", "method", "score", "against")
    found: Rows = {}
    for (method, score, against), hidden in groups.items():
        kept = groups.get((method, score, INSERTION), {})
        if method and against == DELETION:
            found[method, score] = {item: (hidden[item] + kept[item]) / 2 for item in hidden if item in kept}
    return found


YARDSTICKS = (
    Yardstick(
        "track_contradiction",
        8,
        _ranks,
        "follow what the predictions depend on much less well than those of {better} of the log-odds do: median rank "
        "correlation with hiding parts",
        "it follows what predictions depend on much less well than {better} of the log-odds does (median rank "
        "correlation",
    ),
    Yardstick(
        "faithfulness",
        6,
        _areas,
        "are hottest where much less depends on it than where those of {better} of the log-odds are: what hiding the "
        "hottest cells first, and showing them alone, does more than chance is a median area of",
        "it is hottest where much less depends on it than where {better} of the log-odds is (median area",
    ),
)


@dataclass(frozen=True)
class Outdone:
    """A row of the panel, and another method that does better on the same images.

    Args:
        by: what they were measured by.
        row: the method and the score.
        better: the other method, in the log-odds.
        gap: median over the images of how much better, 0 to 2.
        typical: the row's own median, -1 to 1.
        other: the better method's.
        images: on how many images both are known.
    """

    by: Yardstick
    row: Row
    better: str
    gap: float
    typical: float
    other: float
    images: int

    @property
    def reason(self) -> str:
        """Why such a heatmap is not to be shown, in words."""
        told = self.by.reason.format(better=self.better)
        return f"{told} {self.typical:.2f} against {self.other:.2f}, {self.images} images)"


def outdone(case: Case) -> list[Outdone]:
    """The rows of single-pass methods that a method of another family outdoes by more than the bound.

    On an honest network several methods show about equally well what matters, or none does. Training that bends one
    method's maps leaves the others where they were, and what hiding parts of the picture says with them.

    Args:
        case: what behaviour says of each row, and the bounds on the gap.
    """
    return [one for yardstick in YARDSTICKS for one in _outdone_by(yardstick, case)]


def _outdone_by(yardstick: Yardstick, case: Case) -> Iterator[Outdone]:
    groups = yardstick.rows(case.evidence)
    trusted = {method: one for (method, score), one in groups.items() if score == _TRUSTED and is_telling(method)}
    bound, level = case.bounds[f"{yardstick.check}_gap"].value, case.bounds["track_contradiction_chance"].value
    for row, numbers in groups.items():
        if not is_judged(row[0]):
            continue
        others = {name: one for name, one in trusted.items() if one and family_of(name) != family_of(row[0])}
        better, pairs = _rival(numbers, others)
        gaps = [other - own for own, other in pairs]
        if len(pairs) < yardstick.fewest or median(gaps) <= bound or by_chance([-gap for gap in gaps], -bound) > level:
            continue
        typical, other = (median(side) for side in zip(*pairs, strict=True))
        yield Outdone(yardstick, row, better, median(gaps), typical, other, len(gaps))


def _rival(numbers: Numbers, others: Mapping[str, Numbers]) -> tuple[str, list[tuple[float, float]]]:
    """The method that does best, and on each image the row's number and its."""
    if not others:
        return "", []
    better = max(others, key=lambda name: median(others[name].values()))
    return better, [(own, others[better][item]) for item, own in numbers.items() if item in others[better]]


def outdone_findings(case: Case) -> Iterator[Finding]:
    """One finding a check and method, about the score in which it is outdone most, with the reasons of its rows."""
    groups: dict[tuple[str, str], list[Outdone]] = defaultdict(list)
    for one in outdone(case):
        groups[one.by.check, one.row[0]].append(one)
    for (check, method), found in groups.items():
        worst = max(found, key=lambda one: one.gap)
        score, bound = worst.row[1], case.bounds[f"{check}_gap"].value
        told = (
            f"On the same images, the {method} heatmaps of the {score.replace('_', '-')} "
            f"{worst.by.claim.format(better=worst.better)} {worst.typical:.2f} against {worst.other:.2f}, "
            f"{worst.gap:.2f} apart on the typical image (bound {bound:.2g}, {worst.images} images). Training that "
            f"bends one method's heatmaps does this, and a few honest networks do: do not show {method} heatmaps of "
            "this model."
        )
        reasons = {one.row[1]: one.reason for one in found}
        facts = {"measured_on": worst.images, "better": worst.better, "rows": reasons}
        yield Finding(check, "model", "medium", worst.gap, bound, told, None, method, score, 0.85, facts)
