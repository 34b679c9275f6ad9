"""The least work that moves one heap of mass onto another, solved exactly."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csc_array

Numbers = NDArray[np.float64]
Solver = Callable[[Numbers, Numbers, Numbers], float]

ROUNDING: Final = 1e-15
"""Differences of mass up to this are what normalising leaves behind, not mass to be moved."""


def transport_cost(a: Numbers, b: Numbers, distance: Numbers, solve: Solver) -> float:
    """The work of turning heap ``a`` into heap ``b``: mass times distance, at the least.

    Args:
        a: n masses that sum to 1.
        b: n masses that sum to 1.
        distance: the metric between the n places, shape (n, n). It must obey the triangle inequality: then mass that
            both heaps have in one place can stay there, and only the differences are left to be moved.
        solve: what solves the problem that is left (see ``solver``).

    Returns:
        The work, 0 for equal heaps, in the unit of ``distance``.

    Example:
        >>> line = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
        >>> float(transport_cost(np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5]), line, linear_program))
        1.0
    """
    surplus = a - b
    givers, takers = np.flatnonzero(surplus > ROUNDING), np.flatnonzero(surplus < -ROUNDING)
    if not len(givers) or not len(takers):
        return 0.0
    supply, demand = surplus[givers], -surplus[takers]
    moved = supply.sum()
    return float(moved) * solve(supply / moved, demand / demand.sum(), distance[np.ix_(givers, takers)])


def solver() -> Solver:
    """The fastest exact solver at hand: POT's network simplex, else scipy's linear program."""
    try:
        importlib.import_module("ot")
    except ImportError:
        return linear_program
    return network_simplex


def network_simplex(supply: Numbers, demand: Numbers, distance: Numbers) -> float:
    """The least work by POT (the optional extra ``fukusen[emd]``); both masses sum to 1."""
    ot = importlib.import_module("ot")
    # Fancy indexing has left the columns first in memory; POT reads rows.
    return float(ot.emd2(supply, demand, np.ascontiguousarray(distance), center_dual=False))


def linear_program(supply: Numbers, demand: Numbers, distance: Numbers) -> float:
    """The least work by scipy's HiGHS; both masses sum to 1."""
    givers, takers = distance.shape
    flows = givers * takers
    rows = np.stack([np.repeat(np.arange(givers), takers), givers + np.tile(np.arange(takers), givers)], axis=1)
    ends = np.arange(0, 2 * flows + 1, 2)
    sums = csc_array((np.ones(2 * flows), rows.ravel(), ends), shape=(givers + takers, flows))
    # HiGHS is satisfied at 1e-7 unless told otherwise; and presolving takes longer than these small problems do.
    options = {"presolve": False, "primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    masses = np.concatenate([supply, demand])
    return float(linprog(distance.ravel(), A_eq=sums, b_eq=masses, method="highs-ds", options=options).fun)
