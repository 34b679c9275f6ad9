"""How far heatmaps moved: against plain formulas, and where there is nothing to compare."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fukusen.auditing.redrawing import Moved, Stored, moved
from fukusen.methods import GradCam, Gradient
from fukusen.records import Undefined

KEY = ("grad_cam", "logit")


def _nowhere(_height: int, _width: int) -> None:
    return None


def _corner(height: int, width: int) -> npt.NDArray[np.float64]:
    goal = np.zeros((height, width))
    goal[0, 0] = 1.0
    return goal


def _stored(*maps: npt.NDArray[np.float32] | Undefined) -> list[Stored]:
    return [{KEY: one} for one in maps]


def _random(seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(7, 7)).astype(np.float32)


def test_the_same_maps_have_not_moved() -> None:
    """Nor those that are a positive multiple."""
    maps = [_random(0), _random(1)]
    row = moved(
        GradCam(), "logit", list(zip(_stored(*maps), _stored(*(3 * one for one in maps)), strict=True)), _nowhere
    )
    assert row.images == 2
    assert row.cosine == pytest.approx(1.0)
    assert row.worst == pytest.approx(1.0)
    assert row.likeness == pytest.approx(1.0)
    assert not row.redrawn
    assert row.goal_before is None
    assert row.goal_after is None


def test_cosines_are_of_signed_maps_and_goals_of_what_people_see() -> None:
    """The median and the worst over the images."""
    before, after = [_random(seed) for seed in (0, 1, 2)], [_random(seed) for seed in (3, 4, 5)]
    row = moved(GradCam(), "logit", list(zip(_stored(*before), _stored(*after), strict=True)), _corner)
    cosines = sorted(
        float((a.astype(float) * b).sum() / np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float)))
        for a, b in zip(before, after, strict=True)
    )
    aims = sorted(float(max(a[0, 0], 0) / np.linalg.norm(np.maximum(a, 0))) for a in after)
    assert row.cosine == pytest.approx(cosines[1])
    assert row.worst == pytest.approx(cosines[0])
    assert row.goal_after == pytest.approx(aims[1])
    assert row.redrawn


def test_a_heatmap_that_was_wiped_out_is_redrawn() -> None:
    """Nothing is like nothing, and nothing else is."""
    nothing = np.zeros((7, 7), dtype=np.float32)
    wiped = moved(GradCam(), "logit", list(zip(_stored(_random(0)), _stored(nothing), strict=True)), _corner)
    assert (wiped.cosine, wiped.likeness, wiped.goal_after, wiped.redrawn) == (0.0, 0.0, 0.0, True)
    empty = moved(GradCam(), "logit", list(zip(_stored(nothing), _stored(nothing), strict=True)), _nowhere)
    assert (empty.cosine, empty.likeness, empty.redrawn) == (1.0, 1.0, False)


def test_maps_that_are_not_there_are_left_out() -> None:
    """Of one image both must be."""
    pairs = list(zip(_stored(_random(0), Undefined("none")), _stored(_random(1), _random(2)), strict=True))
    assert moved(GradCam(), "logit", pairs, _nowhere).images == 1
    assert moved(Gradient(), "logit", pairs, _nowhere) == Moved("gradient", "logit", 0, None, None, None, None, None)
