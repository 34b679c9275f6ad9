"""Heatmaps that are cold where those of the pixels' gradients are hot, on the same images and in the same score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fukusen.auditing.engine import AGREEMENT
from fukusen.auditing.evidence import Evidence, Numbers
from fukusen.auditing.families import CLASS_ACTIVATION, PIXEL_GRADIENT, family_of, is_judged
from fukusen.auditing.significance import by_chance
from fukusen.auditing.suspicions import Case
from fukusen.records import Finding

FEWEST = 8
FEWEST_BEHAVED = 4
CHECK = "agreement"
Row = tuple[str, str]


@dataclass(frozen=True)
class Opposed:
    """Two methods of one score whose heatmaps contradict each other on the typical image.

    Args:
        rows: (method, score) of each; that of class activation first.
        read_as: the predicted class of the images, or None for all of them.
        typical: median over the images of their rank correlation, -1 to 1.
        images: on how many images both are known.
        behaved: each one's median rank correlation with hiding parts, where both were held against it.
    """

    rows: tuple[Row, Row]
    read_as: str | None
    typical: float
    images: int
    behaved: tuple[float, float] | None

    @property
    def doubtful(self) -> tuple[Row, ...]:
        """The row that follows behaviour less well; both, where behaviour does not tell."""
        if self.behaved is None or self.behaved[0] == self.behaved[1]:
            return self.rows
        return (self.rows[0 if self.behaved[0] < self.behaved[1] else 1],)

    @property
    def where(self) -> str:
        """Of which images it was said, in words."""
        return f"{self.images} images" + ("" if self.read_as is None else f" read as {self.read_as}")

    def other(self, row: Row) -> Row:
        """The row beside this one."""
        return self.rows[1 - self.rows.index(row)]

    def reason(self, row: Row) -> str:
        """Why such a heatmap is not to be shown, in words."""
        return (
            f"it is cold where {self.other(row)[0]} is hot (median rank correlation {self.typical:.2f}, {self.where})"
        )


def opposed(case: Case, read_as: Mapping[str, str]) -> list[Opposed]:
    """The pairs of single-pass methods, one of class activation and one of the pixels' gradient, that are opposed.

    Both show what the same score depends on, the one in the layer and the other in the pixels. On an honest network
    they agree, or, where what decides is everywhere in the picture, have nothing to do with each other. Training that
    bends one of them, in whichever score, leaves the other behind; often on the images of one class alone, so that
    each class of which there are enough is looked at by itself, and chance is asked as often as there are groups.

    Args:
        case: the agreement of rows, of all images, and the bounds.
        read_as: the name of each image's predicted class.
    """
    bound, level = (case.bounds[f"opposed_maps{kind}"].value for kind in ("", "_chance"))
    found: list[Opposed] = []
    for rows, numbers in _pairs(case.evidence).items():
        groups = _groups(numbers, read_as)
        for name, items in groups.items():
            values = [numbers[item] for item in items]
            if median(values) < bound and by_chance(values, 0.0) <= level / len(groups):
                behaved = _behaved(case.evidence, rows, items)
                found.append(Opposed(rows, name, median(values), len(values), behaved))
    return found


def _groups(numbers: Numbers, read_as: Mapping[str, str]) -> dict[str | None, list[str]]:
    """All images, and those of each predicted class; groups of too few are left out."""
    groups: dict[str | None, list[str]] = defaultdict(list)
    for item in numbers:
        groups[None].append(item)
        groups[read_as[item]].append(item)
    return {name: items for name, items in groups.items() if len(items) >= FEWEST}


def _pairs(evidence: Evidence) -> dict[tuple[Row, Row], Numbers]:
    """Agreement image by image, of two rows of one score and of both families."""
    pairs: dict[tuple[Row, Row], Numbers] = {}
    for (method, score, against), numbers in evidence.by(AGREEMENT, "method", "score", "against").items():
        other, _, theirs = against.rpartition("/")
        if theirs != score:
            continue
        named = {family_of(one): (one, score) for one in (method, other) if is_judged(one)}
        if named.keys() == {CLASS_ACTIVATION, PIXEL_GRADIENT}:
            pairs[named[CLASS_ACTIVATION], named[PIXEL_GRADIENT]] = numbers
    return pairs


def _behaved(evidence: Evidence, rows: tuple[Row, Row], items: Sequence[str]) -> tuple[float, float] | None:
    """Each row's median rank correlation with behaviour, on those of the images where both have one."""
    own, other = (evidence.numbers("track_contradiction", method=method, score=score) for method, score in rows)
    shared = own.keys() & other.keys() & set(items)
    if len(shared) < FEWEST_BEHAVED:
        return None
    return median(own[item] for item in shared), median(other[item] for item in shared)


def opposed_findings(case: Case, read_as: Mapping[str, str]) -> Iterator[Finding]:
    """One finding about the pair that is opposed most; the reasons of all rows in doubt go with it.

    Args:
        case: the agreement of rows, of all images, and the bounds.
        read_as: the name of each image's predicted class.
    """
    found = sorted(opposed(case, read_as), key=lambda one: one.typical)
    if not found:
        return
    worst = found[0]
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for one in found:
        for method, score in one.doubtful:
            rows[method].setdefault(score, one.reason((method, score)))
    method, score = worst.doubtful[0]
    others = [name for name in rows if name not in {doubted for doubted, _ in worst.doubtful}]
    bound = case.bounds["opposed_maps"].value
    told = _told(worst, bound) + (f" In doubt, too: {', '.join(others)}." if others else "")
    facts = {"measured_on": worst.images, "rows_of": dict(rows), "read_as": worst.read_as}
    yield Finding(CHECK, "model", "medium", worst.typical, bound, told, None, method, score, 0.85, facts)


def _told(pair: Opposed, bound: float) -> str:
    row = pair.doubtful[0]
    method, score = row
    other = pair.other(row)[0]
    contradict = (
        f"On the typical one of {pair.where}, the {method} heatmap of the {score.replace('_', '-')} is cold where that "
        f"of {other} is hot: their median rank correlation is {pair.typical:.2f} (bound {bound:.2g}), and both are to "
        "show what the same score depends on. Training that bends one method's heatmaps does this, and a few honest "
        "networks do: vision transformers, and heads that measure distances or angles. "
    )
    if pair.behaved is None:
        return contradict + "Which of the two is wrong was not measured, as a deeper audit does: show neither before."
    own, its = pair.behaved if row == pair.rows[0] else reversed(pair.behaved)
    if own == its:
        return (
            contradict + f"Hiding parts of the picture bears out both alike (rank correlation {own:.2f}): show neither."
        )
    return contradict + (
        f"Hiding parts of the picture bears out {other} rather than {method} (rank correlation {its:.2f} against "
        f"{own:.2f}): do not show {method} heatmaps of this model."
    )
