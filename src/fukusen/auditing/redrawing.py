"""How far a change has moved a model's heatmaps, and how far towards what whoever changed it was after."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fukusen.agreement import agreements, heatmaps
from fukusen.agreement.reading import Reading
from fukusen.attacks import Aiming, Attack
from fukusen.auditing.bounds import REDRAWN
from fukusen.auditing.panel import GRID
from fukusen.methods import Method, methods
from fukusen.pictures import weight_of
from fukusen.records import Undefined

Maps = npt.NDArray[np.float32]
Stored = Mapping[tuple[str, str], Maps | Undefined]
Goal = Callable[[int, int], npt.NDArray[Any] | None]


@dataclass(frozen=True)
class Moved:
    """What became of one method's heatmaps in one score.

    Args:
        method: the method's name.
        score: the score's name.
        images: on how many images there are both maps.
        cosine: median over the images of the cosine of the two signed maps, -1 to 1; None without images.
        worst: the smallest of them.
        likeness: median structural similarity of the two heatmaps, -1 to 1.
        goal_before: median cosine of the heatmap to the picture that the attacker is after, 0 to 1; None where there
            is no such picture.
        goal_after: the same of the heatmap after the change.
    """

    method: str
    score: str
    images: int
    cosine: float | None
    worst: float | None
    likeness: float | None
    goal_before: float | None
    goal_after: float | None

    @property
    def redrawn(self) -> bool:
        """Whether people would see another heatmap."""
        return self.likeness is not None and self.likeness < REDRAWN.value

    def as_json(self) -> dict[str, Any]:
        """The row as it stands in attack.json."""
        return {**asdict(self), "redrawn": self.redrawn}


def moved(method: Method, score: str, pairs: Sequence[tuple[Stored, Stored]], goal: Goal) -> Moved:
    """Compare one row of a panel before and after.

    Args:
        method: the method.
        score: the score's name.
        pairs: for each image its stored maps before and after the change.
        goal: from rows and columns to the picture (h, w) that the attacker is after, or None.
    """
    found = _both(pairs, (method.name, score))
    cosines = [_cosine(a, b) for a, b in found]
    aims = [_aimed(method, maps, goal) for maps in zip(*found, strict=True)] if found else [[], []]
    before, after = (_median(one) for one in aims)
    worst = min(cosines, default=None)
    stacks = [torch.from_numpy(np.stack(side)).double() for side in zip(*found, strict=True)]
    alike = likeness(method.reading, *stacks) if found else None
    return Moved(method.name, score, len(found), _median(cosines), worst, alike, before, after)


def aimed(attack: Attack, pairs: Sequence[tuple[Stored, Stored]]) -> dict[str, Any] | None:
    """How far an attack that measures itself came towards its aim, as it stands in attack.json.

    A map that has changed is not yet the map that the attacker wanted: any training changes maps.

    Args:
        attack: what was played.
        pairs: for each image its stored maps before and after.

    Returns:
        The method, the attack's own measure of each score's maps before and after (median over the images), the number
        that is enough for it, and which part of the way it came with the score that lags behind, 0 to 1; None where the
        attack has no aim, or where its maps are not in the panel.
    """
    if not isinstance(attack, Aiming):
        return None
    reading = methods.get(attack.bends).reading
    scores = []
    for score in attack.scores:
        found = _both(pairs, (attack.bends, score))
        if not found:
            return None
        was, now = (
            torch.from_numpy(np.stack([weight_of(reading, one) for one in side])) for side in zip(*found, strict=True)
        )
        before, after = (statistics.median(attack.reached(maps, was).tolist()) for maps in (was, now))
        scores.append({"score": score, "before": before, "after": after})
    ways = [(one["after"] - one["before"]) / max(attack.enough - one["before"], 1e-9) for one in scores]
    return {"method": attack.bends, "scores": scores, "enough": attack.enough, "way": min(1.0, max(0.0, min(ways)))}


def _both(pairs: Sequence[tuple[Stored, Stored]], row: tuple[str, str]) -> list[tuple[Maps, Maps]]:
    """A row's maps before and after, of the images that have both, of one size."""
    both = [(before.get(row), after.get(row)) for before, after in pairs]
    return [(a, b) for a, b in both if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape]


def _median(values: Sequence[float]) -> float | None:
    return float(statistics.median(values)) if values else None


def _cosine(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The cosine of two arrays; 1 where both are zero, 0 where one is."""
    a, b = (value.astype(np.float64).ravel() for value in (one, other))
    sizes = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in sizes:
        return float(sizes == (0.0, 0.0))
    return float(np.clip(a @ b / (sizes[0] * sizes[1]), -1.0, 1.0))


def _aimed(method: Method, maps: Sequence[Maps], goal: Goal) -> list[float]:
    """How like the goal the part of each map is that people look at; an empty one is not like it at all."""
    wanted = goal(*maps[0].shape)
    if wanted is None:
        return []
    return [_cosine(weight_of(method.reading, one.astype(np.float64)), wanted) for one in maps]


def likeness(reading: Reading, before: Tensor, after: Tensor) -> float:
    """Median structural similarity of the heatmaps, -1 to 1; of those without any contrast 1 beside another, else 0.

    Args:
        reading: which part of the maps people look at.
        before: signed maps, shape (b, h, w).
        after: the same images' maps.
    """
    heat = heatmaps([before, after], [reading] * 2, GRID)
    pairs = agreements.build("ssim").pairs(heat)
    values = [pairs.value(0, 1, image) for image in range(len(before))]
    flat = [stack.flatten(1).amax(dim=1) <= stack.flatten(1).amin(dim=1) for stack in heat]
    alike = [float(bool(one) == bool(other)) for one, other in zip(*flat, strict=True)]
    found = [own if isinstance(value, Undefined) else value for value, own in zip(values, alike, strict=True)]
    return float(statistics.median(found))
