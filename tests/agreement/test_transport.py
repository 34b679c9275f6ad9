"""Both solvers find the least work, and the choice between them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance_nd

from fukusen.agreement.transport import linear_program, network_simplex, solver, transport_cost

PLACES = np.indices((4, 5)).reshape(2, -1).T.astype(np.float64)
DISTANCE = cdist(PLACES, PLACES)
heaps = st.lists(st.integers(0, 9), min_size=20, max_size=20).filter(any)
each_solver = pytest.mark.parametrize("solve", [linear_program, network_simplex])


def _heap(masses: list[int]) -> np.ndarray:
    return np.array(masses, dtype=np.float64) / sum(masses)


@given(a=heaps, b=heaps)
def test_both_solvers_agree(a: list[int], b: list[int]) -> None:
    program, simplex = (transport_cost(_heap(a), _heap(b), DISTANCE, s) for s in (linear_program, network_simplex))
    assert program == pytest.approx(simplex, rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_both_solvers_agree_on_whole_maps(seed: int) -> None:
    random = np.random.default_rng(seed)
    places = np.indices((7, 7)).reshape(2, -1).T
    distance = cdist(places, places)
    a, b = random.random((2, 49)) ** 8
    costs = [transport_cost(a / a.sum(), b / b.sum(), distance, s) for s in (linear_program, network_simplex)]
    assert costs[0] == pytest.approx(costs[1], rel=0, abs=1e-9)


@each_solver
@pytest.mark.parametrize("seed", range(3))
def test_as_scipy_has_it(solve, seed: int) -> None:
    a, b = np.random.default_rng(seed).dirichlet(np.full(20, 0.3), size=2)
    expected = wasserstein_distance_nd(PLACES, PLACES, a, b)
    # scipy's own linear program is satisfied at 1e-7.
    assert transport_cost(a, b, DISTANCE, solve) == pytest.approx(expected, rel=0, abs=1e-6)


@each_solver
@settings(max_examples=20)
@given(a=heaps, b=heaps, c=heaps)
def test_a_detour_is_never_shorter(solve, a: list[int], b: list[int], c: list[int]) -> None:
    direct, first, second = (
        transport_cost(_heap(one), _heap(other), DISTANCE, solve) for one, other in ((a, c), (a, b), (b, c))
    )
    assert direct <= first + second + 1e-9


@each_solver
def test_one_heap_to_another_place(solve) -> None:
    a, b = np.zeros((2, 20))
    a[0], b[19] = 1.0, 1.0
    assert transport_cost(a, b, DISTANCE, solve) == pytest.approx(5.0, rel=0, abs=1e-9)


def test_equal_heaps_are_not_solved() -> None:
    def never(*_: object) -> float:
        raise AssertionError

    heap = np.full(20, 0.05)
    assert transport_cost(heap, heap + 1e-17, DISTANCE, never) == 0.0


def test_pot_is_preferred_where_there_is_one() -> None:
    assert solver() is network_simplex


def test_scipy_serves_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    assert solver() is linear_program
