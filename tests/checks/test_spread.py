"""How widely heatmaps are spread, against plain loops in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fukusen.checks import Dominance, Sight
from fukusen.checks.heat import EMPTY, NOT_FINITE, shares_of
from fukusen.methods import methods
from fukusen.models import Classifier
from fukusen.records import Undefined

GRAD_CAM = methods.build("grad_cam")


def _slow_shares(cells: torch.Tensor) -> list[list[float]]:
    """A map of 14 x 14 cells cut into 49 squares of 2 x 2, without what speaks against the class."""
    sums = [
        [sum(max(0.0, float(cells[2 * i + a, 2 * j + b])) for a in (0, 1) for b in (0, 1)) for j in range(7)]
        for i in range(7)
    ]
    whole = sum(map(sum, sums))
    return [[one / whole for one in row] for row in sums]


def test_shares_are_what_loops_say() -> None:
    maps = torch.randn(3, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for cells, found in zip(maps, shares_of(maps, GRAD_CAM), strict=True):
        torch.testing.assert_close(found, torch.tensor(_slow_shares(cells), dtype=torch.float64))


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    factor=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]),
)
def test_shares_add_up_and_know_no_unit(seed: int, height: int, width: int, factor: float) -> None:
    """Whatever the resolution, and however large the map is."""
    maps = torch.randn(1, height, width, generator=torch.Generator().manual_seed(seed)).abs() + 0.01
    (plain,), (scaled,) = shares_of(maps, GRAD_CAM), shares_of(maps.double() * factor, GRAD_CAM)
    assert isinstance(plain, torch.Tensor)
    assert float(plain.sum()) == pytest.approx(1.0)
    assert 1 / 49 - 1e-9 <= float(plain.max()) <= 1.0
    torch.testing.assert_close(scaled, plain, rtol=1e-5, atol=1e-9)


def test_there_is_no_share_of_nothing() -> None:
    """Nor of what is not finite; both are said, and the others are measured."""
    maps = torch.ones(3, 7, 7)
    maps[0] *= -1
    maps[1, 2, 3] = torch.nan
    empty, strange, flat = shares_of(maps, GRAD_CAM)
    assert (empty, strange) == (EMPTY, NOT_FINITE)
    torch.testing.assert_close(flat, torch.full((7, 7), 1 / 49, dtype=torch.float64))


def test_it_measures_each_image_method_and_score(small: Classifier, see: Callable[..., Sight]) -> None:
    """Of the logit and of the log-odds; a flat map has 1/49, a single cell 1."""
    sight = see(small, "grad_cam", "gradient")
    sight.maps["grad_cam", "logit"][0] = 1.0
    sight.maps["grad_cam", "logit"][1] = 0.0
    sight.maps["grad_cam", "logit"][1, 0, 0] = 1.0
    sight.maps["grad_cam", "logit"][2] = -1.0
    found = {(one.item, one.method, one.score): one.value for one in Dominance().measure(sight)}
    assert len(found) == 3 * 2 * 2
    assert found["a", "grad_cam", "logit"] == pytest.approx(1 / 49)
    assert found["b", "grad_cam", "logit"] == pytest.approx(1.0)
    assert found["c", "grad_cam", "logit"] == Undefined("the heatmap is empty")
    assert 1 / 49 < found["a", "gradient", "log_odds"] < 1
