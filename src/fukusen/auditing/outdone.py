"""Heatmaps that follow what predictions depend on much less well than another method's do, on the same images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from fukusen.auditing.evidence import Numbers
from fukusen.auditing.families import family_of, is_judged, is_telling
from fukusen.auditing.significance import by_chance
from fukusen.auditing.suspicions import Case
from fukusen.records import Finding

CHECK = "track_contradiction"
FEWEST = 8
"""Images, of which the best of several methods is not the best by luck."""
_TRUSTED = "log_odds"
Row = tuple[str, str]


@dataclass(frozen=True)
class Outdone:
    """A row of the panel, and another method that does better on the same images.

    Args:
        row: the method and the score.
        better: the other method, in the log-odds.
        gap: median over the images of how much better, in rank correlation with behaviour, 0 to 2.
        typical: the row's own median rank correlation, -1 to 1.
        other: the better method's.
        images: on how many images both are known.
    """

    row: Row
    better: str
    gap: float
    typical: float
    other: float
    images: int

    @property
    def reason(self) -> str:
        """Why such a heatmap is not to be shown, in words."""
        return (
            f"it follows what predictions depend on much less well than {self.better} of the log-odds does "
            f"(median rank correlation {self.typical:.2f} against {self.other:.2f}, {self.images} images)"
        )


def outdone(case: Case) -> list[Outdone]:
    """The rows of single-pass methods that a method of another family outdoes by more than the bound.

    On an honest network several methods follow behaviour about equally well, or none does. Training that bends one
    method's maps leaves the others where they were, and what hiding parts of the picture says with them.

    Args:
        case: the rank correlations of rows with behaviour, and the bound on the gap.
    """
    groups = {(row[0], row[1]): one for row, one in case.evidence.by(CHECK, "method", "score").items() if row[0]}
    trusted = {method: one for (method, score), one in groups.items() if score == _TRUSTED and is_telling(method)}
    bound, level = (case.bounds[f"{CHECK}_{kind}"].value for kind in ("gap", "chance"))
    found: list[Outdone] = []
    for row, numbers in groups.items():
        if not is_judged(row[0]):
            continue
        others = {name: one for name, one in trusted.items() if family_of(name) != family_of(row[0])}
        better, pairs = _rival(numbers, others)
        gaps = [other - own for own, other in pairs]
        if not gaps or median(gaps) <= bound or by_chance([-gap for gap in gaps], -bound) > level:
            continue
        typical, other = (median(side) for side in zip(*pairs, strict=True))
        found.append(Outdone(row, better, median(gaps), typical, other, len(gaps)))
    return found


def _rival(numbers: Numbers, others: Mapping[str, Numbers]) -> tuple[str, list[tuple[float, float]]]:
    """The method that does best, and on each image the row's number and its; no pairs where these are too few."""
    if not others:
        return "", []
    better = max(others, key=lambda name: median(others[name].values()))
    pairs = [(own, others[better][item]) for item, own in numbers.items() if item in others[better]]
    return better, pairs if len(pairs) >= FEWEST else []


def outdone_findings(case: Case) -> Iterator[Finding]:
    """One finding a method, about the score in which it is outdone most; the reasons of all its rows go with it."""
    rows: dict[str, list[Outdone]] = defaultdict(list)
    for one in outdone(case):
        rows[one.row[0]].append(one)
    bound = case.bounds[f"{CHECK}_gap"].value
    for method, found in rows.items():
        worst = max(found, key=lambda one: one.gap)
        score = worst.row[1]
        told = (
            f"On the same images, the {method} heatmaps of the {score.replace('_', '-')} follow what the predictions "
            f"depend on much less well than those of {worst.better} of the log-odds do: median rank correlation with "
            f"hiding parts {worst.typical:.2f} against {worst.other:.2f}, {worst.gap:.2f} apart on the typical image "
            f"(bound {bound:.2g}, {worst.images} images). Training that bends one method's heatmaps does this, and a "
            f"few honest networks do: do not show {method} heatmaps of this model."
        )
        reasons = {one.row[1]: one.reason for one in found}
        facts = {"measured_on": worst.images, "better": worst.better, "rows": reasons}
        yield Finding(CHECK, "model", "medium", worst.gap, bound, told, None, method, score, 0.85, facts)
