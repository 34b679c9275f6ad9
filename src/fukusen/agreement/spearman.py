"""Whether two maps put the cells in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.agreement.agreement import agreements
from fukusen.agreement.pairs import Pairs, dot_products, pairs_of
from fukusen.agreement.panel import constant, divided, finite, not_finite
from fukusen.arrays import MapStack


@agreements.register
@dataclass(frozen=True)
class Spearman:
    """The correlation of the cells' ranks in two signed maps: 1 the same order, -1 the reverse, 0 none in common.

    Cells of equal value share the mean of their ranks. A map that moves one cell to the top keeps the order of all
    others, so this number alone does not see a single spot.

    Returns:
        A number from -1 to 1; no unit; any increasing change of a map's values leaves it as it is.

    Undefined when: a map is not finite, or is constant and so has no order.

    Source: spearman1904

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]], [[[10.0, 30.0, 20.0, 40.0]]]])
        >>> Spearman().pairs(maps).value(0, 1, image=0)
        0.8
    """

    name: ClassVar[str] = "spearman"
    source: ClassVar[str] = "spearman1904"
    higher_is_closer: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def pairs(self, maps: MapStack) -> Pairs:
        """The rank correlation of every two maps of a panel: (m, b, h, w) in, (m, m, b) out."""
        exact = finite(maps)
        covariance = dot_products(_doubled_ranks(exact.flatten(2)))
        variance = covariance.diagonal().T
        values = divided(covariance, (variance[:, None] * variance[None]).sqrt()).clamp(-1.0, 1.0)
        return pairs_of(values, ("is not finite", not_finite(maps)), ("is constant", constant(exact)))


def _doubled_ranks(flat: Tensor) -> Tensor:
    """Twice the mean rank of each cell, less twice the mean of all ranks.

    Doubled, the ranks are whole numbers, and so their dot products are exact in float64 in whatever order they are
    summed: equal orders give exactly 1, and an image alone gives the same number as among others.
    """
    ordered = flat.sort(dim=-1).values
    below = torch.searchsorted(ordered, flat.contiguous())
    up_to = torch.searchsorted(ordered, flat.contiguous(), right=True)
    return (below + up_to - flat.shape[-1]).double()
