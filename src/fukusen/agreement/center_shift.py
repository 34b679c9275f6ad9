"""How far one map's centre of mass lies from another's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.agreement.agreement import agreements
from fukusen.agreement.pairs import Pairs, pairs_of
from fukusen.agreement.panel import CELLS, divided, empty, not_finite, positive
from fukusen.arrays import MapStack


@agreements.register
@dataclass(frozen=True)
class CenterShift:
    """The distance between the centres of mass of two maps' positive parts: 0 the same place.

    The unit is the diagonal of the picture, corner to corner, so the number does not depend on how finely the map is
    cut: one cell of a 7 x 7 map, 32 pixels of 224, is 0.10.

    Returns:
        A distance from 0 to 1, in diagonals of the map.

    Undefined when: a map is not finite, or is nowhere positive.

    Source: ghorbani2019fragility

    Example:
        >>> corner = torch.zeros(1, 3, 4)
        >>> corner[0, 0, 0] = 1.0
        >>> round(CenterShift().pairs(torch.stack([corner, corner.flip(-1)])).value(0, 1, image=0), 6)
        0.6
    """

    name: ClassVar[str] = "center_shift"
    source: ClassVar[str] = "ghorbani2019fragility"
    higher_is_closer: ClassVar[bool] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def pairs(self, maps: MapStack) -> Pairs:
        """The shift between every two maps of a panel: (m, b, h, w) in, (m, m, b) out."""
        mass = positive(maps)
        centers = _centers(mass)
        values = (centers[:, None] - centers[None]).norm(dim=-1) / math.hypot(*maps.shape[-2:])
        return pairs_of(values, ("is not finite", not_finite(maps)), ("is nowhere positive", empty(mass)))


def _centers(mass: MapStack) -> Tensor:
    """The centre of mass of each map: shape (m, b, 2), in cells down and across."""
    total = mass.sum(CELLS)
    down = torch.arange(mass.shape[-2], dtype=torch.float64)
    across = torch.arange(mass.shape[-1], dtype=torch.float64)
    moments = torch.stack([mass.sum(-1) @ down, mass.sum(-2) @ across], dim=-1)
    return divided(moments, total[..., None])
