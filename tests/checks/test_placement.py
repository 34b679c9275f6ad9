"""Where heatmaps lie, against plain loops; and how much of them lies inside a mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fukusen.checks import Placement, Sight, mass_inside, points_inside
from fukusen.checks.heat import EMPTY, NOT_FINITE
from fukusen.checks.placement import REGIONS
from fukusen.errors import CallError
from fukusen.models import Classifier

MIRRORED = {"upper left": "upper right", "lower left": "lower right", "border": "border"}


def _measured(sight: Sight) -> dict[tuple[str, str, str, str], object]:
    return {(one.item, one.method, one.score, one.against): one.value for one in Placement().measure(sight)}


def test_regions_are_corners_and_the_ring() -> None:
    """4 of 49 cells each, and 24."""
    assert {name: int(cells.sum()) for name, cells in REGIONS.items()} == {
        "upper left": 4,
        "upper right": 4,
        "lower left": 4,
        "lower right": 4,
        "border": 24,
    }


def _slow(cells: torch.Tensor, region: str) -> float:
    """The share of a 7 x 7 map, cell by cell."""
    inside, whole = 0.0, 0.0
    for i in range(7):
        for j in range(7):
            value = max(0.0, float(cells[i, j]))
            whole += value
            down = i < 2 if region.startswith("upper") else i > 4
            across = j < 2 if region.endswith("left") else j > 4
            edge = i in (0, 6) or j in (0, 6)
            inside += value if (edge if region == "border" else down and across) else 0.0
    return inside / whole


def test_shares_are_what_loops_say(small: Classifier, see: Callable[..., Sight]) -> None:
    sight = see(small, "grad_cam")
    planted = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seen = Sight(small, sight.tape, sight.methods, {("grad_cam", "logit"): planted})
    found = _measured(seen)
    assert len(found) == 3 * 5
    for (item, _, _, region), value in found.items():
        assert value == pytest.approx(_slow(planted["abc".index(item)], region))


@given(seed=st.integers(0, 10**6), side=st.integers(7, 30))
def test_a_mirrored_map_lies_on_the_other_side(seed: int, side: int) -> None:
    """And an even one everywhere by the share of the cells."""
    maps = torch.rand(1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01
    masks = {name: cells[None] for name, cells in REGIONS.items()}
    grid = torch.nn.functional.adaptive_avg_pool2d(maps, (7, 7))
    for one, other in MIRRORED.items():
        assert mass_inside(grid, masks[one]) == pytest.approx(mass_inside(grid.flip(2), masks[other]))
    even = torch.ones(1, 7, 7)
    for cells in masks.values():
        assert mass_inside(even, cells)[0] == pytest.approx(float(cells.sum()) / 49)


def test_mass_and_pointing_go_by_the_reading() -> None:
    """What speaks against the class counts where either way matters; ties count by their share."""
    maps = torch.tensor([[[4.0, 0.0], [-6.0, 2.0]], [[1.0, 1.0], [0.0, 0.0]]])
    masks = torch.tensor([[[1, 0], [0, 0]], [[1, 0], [0, 0]]])
    assert mass_inside(maps, masks) == pytest.approx((4 / 6, 0.5))
    assert mass_inside(maps, masks, "magnitude") == pytest.approx((4 / 12, 0.5))
    assert points_inside(maps, masks) == pytest.approx((1.0, 0.5))
    assert points_inside(maps, masks, "magnitude") == pytest.approx((0.0, 0.5))


def test_masks_may_be_finer_than_maps() -> None:
    """A map of 2 x 2 cells against a box drawn on 8 x 8 pixels."""
    maps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    masks = torch.zeros(1, 8, 8)
    masks[0, :4, :4] = 1
    assert 0.5 < mass_inside(maps, masks)[0] < 1
    assert points_inside(maps, masks) == (1.0,)
    assert points_inside(maps, 1 - masks) == (0.0,)


def test_nothing_lies_nowhere() -> None:
    maps = torch.full((2, 2, 2), -1.0)
    maps[1, 0, 0] = torch.inf
    masks = torch.ones(2, 2, 2)
    assert mass_inside(maps, masks) == points_inside(maps, masks) == (EMPTY, NOT_FINITE)


def test_masks_that_do_not_fit_are_refused() -> None:
    maps = torch.ones(2, 4, 4)
    with pytest.raises(CallError, match="one for each of 2 images, with at least 4 x 4 cells"):
        mass_inside(maps, torch.ones(2, 2, 4))
    with pytest.raises(CallError, match="one for each of 2 images"):
        points_inside(maps, torch.ones(3, 4, 4))
