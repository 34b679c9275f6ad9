"""The distance that mass travels against scipy and POT, with either solver."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance_nd

from fukusen.agreement import CenterShift, Wasserstein1, wasserstein
from fukusen.errors import CallError


def _panel(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_as_scipy_has_it() -> None:
    maps = _panel(0, 3, 2, 4, 5)
    places = np.indices((4, 5)).reshape(2, -1).T
    values = Wasserstein1().pairs(torch.from_numpy(maps)).values
    for image in range(2):
        heaps = np.maximum(maps[:, image], 0).reshape(3, -1)
        expected = [[wasserstein_distance_nd(places, places, a, b) for b in heaps] for a in heaps]
        # scipy's own linear program is satisfied at 1e-7.
        np.testing.assert_allclose(values[..., image], np.array(expected) / math.hypot(4, 5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [7, 14])
def test_as_pot_has_it_on_whole_heaps(side: int) -> None:
    maps = _panel(side, 4, 1, side, side)
    places = np.indices((side, side)).reshape(2, -1).T
    distance = cdist(places, places) / math.hypot(side, side)
    heaps = np.maximum(maps[:, 0], 0).reshape(4, -1)
    heaps /= heaps.sum(-1, keepdims=True)
    expected = [[ot.emd2(a, b, distance) for b in heaps] for a in heaps]
    values = Wasserstein1(side).pairs(torch.from_numpy(maps)).values[..., 0]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9)


def test_without_pot_the_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.from_numpy(_panel(3, 5, 2, 7, 7))
    with_pot = Wasserstein1().pairs(maps).values
    monkeypatch.setitem(sys.modules, "ot", None)
    torch.testing.assert_close(Wasserstein1().pairs(maps).values, with_pot, rtol=0, atol=1e-9)


def test_larger_maps_are_reduced_by_area() -> None:
    coarse = torch.from_numpy(_panel(4, 3, 2, 7, 7))
    fine = coarse.repeat_interleave(8, -1).repeat_interleave(8, -2)
    torch.testing.assert_close(
        Wasserstein1().pairs(fine).values, Wasserstein1().pairs(coarse).values, rtol=0, atol=1e-12
    )


def test_signs_do_not_cancel_when_reduced() -> None:
    spot = torch.zeros(2, 1, 14, 14)
    spot[:, 0, 0, 0] = spot[:, 0, 13, 13] = 1.0
    spot[1, 0, 0, 1] = -1.0
    assert Wasserstein1().pairs(spot).value(0, 1, 0) == 0.0


@given(seed=st.integers(0, 2**32))
def test_the_centre_never_travels_further_than_the_mass(seed: int) -> None:
    maps = torch.from_numpy(_panel(seed, 3, 1, 5, 6))
    assert (CenterShift().pairs(maps).values <= Wasserstein1().pairs(maps).values + 1e-12).all()


def test_equal_maps_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[float] = []
    cost = wasserstein.transport_cost
    monkeypatch.setattr(wasserstein, "transport_cost", lambda *args: solved.append(cost(*args)) or solved[-1])
    a, b = torch.from_numpy(_panel(5, 2, 1, 4, 4))
    pairs = Wasserstein1().pairs(torch.stack([a, b, a, 4 * b, a]))
    assert len(solved) == 1
    assert pairs.values[0, :, 0].tolist() == [0.0, solved[0], 0.0, solved[0], 0.0]


@pytest.mark.parametrize("side", [1, 15, 0, 7.0, True, None])
def test_a_bad_side_is_refused(side: object, born: Callable[..., object]) -> None:
    with pytest.raises(CallError) as caught:
        born(Wasserstein1, side=side)
    rule = "an int from 2 to 14"
    assert str(caught.value) == f"The 'side' parameter of Wasserstein1 must be {rule}. Got {side!r} instead."
