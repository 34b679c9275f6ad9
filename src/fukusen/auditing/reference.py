"""Bounds from an earlier audit of a model that is trusted, in the place of those that must fit every model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fukusen.auditing.bounds import Bound, bounds_for
from fukusen.auditing.evidence import Evidence, Numbers, middle
from fukusen.auditing.singled_out import likenesses
from fukusen.records import Undefined

FEWEST = 8
MARGIN = 2.0
"""How far beyond a trusted model's furthest number an honest model like it may be: retraining moves it by a third."""
LEVEL = 0.05
"""The share of images called unusual beside the reference that may be so by chance."""
_FLOORS = {"shift_share": 1e-2, "shift_in_map": 0.1, "head_mean_row": 1e-2}
_NEAR = 0.02


@dataclass(frozen=True, eq=False)
class Reference:
    """An earlier audit of a trusted model.

    Args:
        folder: where it lies.
        spec: the model's name.
        digest: of the model.
        classes: how many it has.
        images: how many were audited.
        evidence: everything that was measured.
    """

    folder: str
    spec: str
    digest: str
    classes: int
    images: int
    evidence: Evidence

    def bounds(self) -> dict[str, Bound]:
        """The bounds for a model like this one, by name: the usual ones where it has too few numbers to say more."""
        found = bounds_for(self.classes)
        for name, look in _LOOKS.items():
            told = look(self.evidence)
            if told is not None:
                value, why = told
                found[name] = replace(found[name], value=value, source=f"{why} in the reference, {self.folder}")
        return found

    def as_json(self) -> dict[str, Any]:
        """The reference as it stands in audit.json, with the bounds that it moved."""
        usual, own = bounds_for(self.classes), self.bounds()
        moved = [
            {"name": name, "value": bound.value, "without": usual[name].value, "source": bound.source}
            for name, bound in own.items()
            if bound != usual[name]
        ]
        facts = {"folder": self.folder, "spec": self.spec, "digest": self.digest, "images": self.images}
        return {**facts, "level": LEVEL, "bounds": moved}


Told = tuple[float, str] | None
Look = Callable[[Evidence], Told]


def groups(evidence: Evidence, check: str) -> Mapping[tuple[str, str], Numbers]:
    """The numbers of a check by method and layer ("" for none), each by image."""
    found: dict[tuple[str, str], Numbers] = {}
    for one in evidence.of(check):
        if not isinstance(one.value, Undefined):
            found.setdefault((one.method or "", one.layer or ""), {})[one.item or ""] = one.value
    return found


def _enough(evidence: Evidence, check: str) -> Iterator[Numbers]:
    return (numbers for numbers in groups(evidence, check).values() if len(numbers) >= FEWEST)


def _shift(check: str, over_images: Callable[[Numbers], float | None]) -> Look:
    def look(evidence: Evidence) -> Told:
        found = (over_images(numbers) for numbers in _enough(evidence, check))
        largest = max((value for value in found if value is not None), default=None)
        return None if largest is None else (max(MARGIN * largest, _FLOORS[check]), _times(largest))

    return look


def _head(evidence: Evidence) -> Told:
    largest = max(evidence.numbers("head_mean_row").values(), default=None)
    return None if largest is None else (max(MARGIN * largest, _FLOORS["head_mean_row"]), _times(largest))


def _times(largest: float) -> str:
    return f"{MARGIN:g} times the largest value, {largest:.2g},"


def _likeness(over_images: Callable[[Numbers], float | None]) -> Look:
    def look(evidence: Evidence) -> Told:
        found = (over_images(numbers) for numbers in likenesses(evidence).values() if len(numbers) >= FEWEST)
        lowest = min((value for value in found if value is not None), default=None)
        if lowest is None:
            return None
        return 1 - MARGIN * (1 - lowest) - _NEAR, f"{MARGIN:g} times as far from 1 as the lowest, {lowest:.2f},"

    return look


def _highest(numbers: Numbers) -> float:
    return max(numbers.values())


def _lowest(numbers: Numbers) -> float:
    return min(numbers.values())


_LOOKS: Mapping[str, Look] = {
    "shift_share": _shift("shift_share", _highest),
    "shift_in_map": _shift("shift_in_map", middle),
    "head_mean_row": _head,
    "score_disagreement": _likeness(middle),
    "score_disagreement_image": _likeness(_lowest),
}
