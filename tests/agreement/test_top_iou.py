"""The overlap of top cells against its definition, written again in exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fukusen.agreement import TopIou
from fukusen.errors import CallError

pairs_of_cells = st.integers(2, 30).flatmap(
    lambda count: st.tuples(*[st.lists(st.integers(0, 6), min_size=count, max_size=count) for _ in range(2)])
)


def _taken(cells: list[int], share: Fraction) -> list[Fraction]:
    places = math.ceil(share * len(cells))
    last = sorted(cells)[-places]
    left_over = places - sum(cell > last for cell in cells)
    tied = Fraction(left_over, cells.count(last))
    return [Fraction(cell > last) + tied * (cell == last) for cell in cells]


@given(cells=pairs_of_cells, percent=st.integers(1, 99))
def test_as_defined(cells: tuple[list[int], list[int]], percent: int) -> None:
    a, b = (_taken(each, Fraction(percent, 100)) for each in cells)
    expected = sum(map(min, a, b)) / Fraction(sum(map(max, a, b)))
    found = TopIou(percent / 100).pairs(torch.tensor(cells, dtype=torch.float64)[:, None, None])
    if found.defined[0, 1, 0]:
        assert found.value(0, 1, 0) == pytest.approx(float(expected), abs=1e-12)
    else:
        assert min(len(set(each)) for each in cells) == 1


def test_without_ties_it_is_the_overlap_of_two_sets() -> None:
    maps = torch.stack([torch.randperm(100, generator=torch.Generator().manual_seed(i)) for i in range(2)]).double()
    a, b = (set(each.topk(20).indices.tolist()) for each in maps)
    assert TopIou(share=0.2).pairs(maps.view(2, 1, 10, 10)).value(0, 1, 0) == pytest.approx(len(a & b) / len(a | b))


@pytest.mark.parametrize(("share", "count"), [(0.07, 7), (0.1, 10), (0.101, 11), (0.001, 1), (0.29, 29)])
def test_as_many_cells_as_the_share_rounded_up(share: float, count: int) -> None:
    ramp = torch.arange(100.0)
    spread = torch.cat([ramp[:count].flip(0) + 200, ramp[count:]])
    top = torch.cat([torch.ones(count), torch.zeros(100 - count)])
    one_more = torch.cat([torch.ones(count + 1), torch.zeros(99 - count)])
    pairs = TopIou(share).pairs(torch.stack([spread, top, one_more]).view(3, 1, 10, 10))
    assert pairs.value(0, 1, 0) == 1.0
    shared = count * count / (count + 1)
    assert pairs.value(0, 2, 0) == pytest.approx(shared / (2 * count - shared))


def test_no_corner_is_favoured_by_ties() -> None:
    maps = torch.zeros(2, 1, 10, 10)
    maps[0, 0, 9, 9] = maps[1, 0, 9, 0] = 1.0
    pairs = TopIou().pairs(maps)
    assert pairs.values.allclose(TopIou().pairs(maps.flip(-1, -2)).values)
    assert pairs.value(0, 1, 0) == pytest.approx((98 * 9 / 99 + 18 / 99) / (20 - 98 * 9 / 99 - 18 / 99), abs=1e-2)


@pytest.mark.parametrize("share", [0, 1, 2, -0.1, math.nan, True, "half"])
def test_a_bad_share_is_refused(share: object, born: Callable[..., object]) -> None:
    with pytest.raises(CallError) as caught:
        born(TopIou, share=share)
    rule = "a number between 0 and 1, both excluded"
    assert str(caught.value) == f"The 'share' parameter of TopIou must be {rule}. Got {share!r} instead."
