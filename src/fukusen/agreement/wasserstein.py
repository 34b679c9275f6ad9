"""How far the mass of one map would have to travel to become another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fukusen.agreement.agreement import agreements
from fukusen.agreement.pairs import Pairs, pairs_of
from fukusen.agreement.panel import CELLS, divided, empty, not_finite, positive
from fukusen.agreement.transport import Numbers, solver, transport_cost
from fukusen.arrays import MapStack
from fukusen.errors import require

LARGEST_SIDE: Final = 14
"""Finer grids would take seconds a pair."""


@agreements.register
@dataclass(frozen=True)
class Wasserstein1:
    """The mean distance that the positive mass of one map must travel to become the other's: 0 the same map.

    Both positive parts are scaled to sum 1 (the earth mover's distance, exact). The unit is the diagonal of the
    picture, corner to corner, as for ``center_shift``, which is never larger.

    Args:
        side: maps with more rows or columns are first reduced to this many by averaging areas, in cells.

    Returns:
        A distance from 0 to 1, in diagonals of the map.

    Undefined when: a map is not finite, or is nowhere positive.

    Raises:
        CallError: ``side`` is no int from 2 to 14.

    Source: rubner2000emd

    Example:
        >>> spot = torch.zeros(1, 3, 4)
        >>> spot[0, 0, 0] = 1.0
        >>> round(Wasserstein1().pairs(torch.stack([spot, spot + spot.flip(-1)])).value(0, 1, image=0), 6)
        0.3
    """

    side: int = 7
    name: ClassVar[str] = "wasserstein_1"
    source: ClassVar[str] = "rubner2000emd"
    higher_is_closer: ClassVar[bool] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        rule = f"an int from 2 to {LARGEST_SIDE}"
        require(type(self.side) is int and 2 <= self.side <= LARGEST_SIDE, "Wasserstein1", "side", rule, self.side)

    def pairs(self, maps: MapStack) -> Pairs:
        """The distance between every two maps of a panel: (m, b, h, w) in, (m, m, b) out."""
        height, width = (min(self.side, cells) for cells in maps.shape[-2:])
        mass = adaptive_avg_pool2d(positive(maps), (height, width))
        heaps = divided(mass, mass.sum(CELLS, keepdim=True)).flatten(2)
        distance = _distances(height, width)
        values = heaps.new_zeros(len(maps), len(maps), maps.shape[1])
        for image, of_image in enumerate(heaps.unbind(1)):
            values[..., image] = _of_image(of_image, distance)
        return pairs_of(values, ("is not finite", not_finite(maps)), ("is nowhere positive", empty(mass)))


def _distances(height: int, width: int) -> Numbers:
    """The distance between the centres of every two cells, in diagonals: shape (height * width, height * width)."""
    places = np.indices((height, width), dtype=np.float64).reshape(2, -1)
    distances: Numbers = np.hypot(*(places[:, :, None] - places[:, None])) / math.hypot(height, width)
    return distances


def _of_image(heaps: Tensor, distance: Numbers) -> Tensor:
    """The distance between every two heaps (m, n) of one image, each different two solved once: shape (m, m)."""
    distinct, which = torch.unique(heaps, dim=0, return_inverse=True)
    solve, rows = solver(), distinct.numpy()
    costs = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[:i]):
            if a.any() and b.any():
                costs[j, i] = transport_cost(a, b, distance, solve)
    costs = costs + costs.T
    return costs[which[:, None], which]
