"""Whether two maps point at the same cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.agreement.agreement import agreements
from fukusen.agreement.pairs import Pairs, each_pair, pairs_of
from fukusen.agreement.panel import constant, finite, not_finite
from fukusen.arrays import MapStack
from fukusen.errors import require


@agreements.register
@dataclass(frozen=True)
class TopIou:
    """The overlap (intersection over union) of the top cells of two maps: 1 the same cells, 0 none shared.

    Of n cells the k = ceil(share * n) largest are taken. Where several cells tie for the last places, they divide
    these places among themselves as fractions, so that exactly k are always taken and no corner is favoured; the
    intersection then sums the smaller fraction of each cell and the union the larger.

    Args:
        share: which share of the cells is taken, between 0 and 1.

    Returns:
        A number from 0 to 1; no unit; any increasing change of a map's values leaves it as it is.

    Undefined when: a map is not finite, or is constant and so has no top.

    Raises:
        CallError: ``share`` is not between 0 and 1.

    Source: ghorbani2019fragility

    Example:
        >>> maps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]], [[[4.0, 1.0, 3.0, 2.0]]]])
        >>> round(TopIou(share=0.5).pairs(maps).value(0, 1, image=0), 3)
        0.333
    """

    share: float = 0.1
    name: ClassVar[str] = "top_iou"
    source: ClassVar[str] = "ghorbani2019fragility"
    higher_is_closer: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        number = isinstance(self.share, int | float)
        rule = "a number between 0 and 1, both excluded"
        require(number and 0 < self.share < 1, "TopIou", "share", rule, self.share)

    def pairs(self, maps: MapStack) -> Pairs:
        """The overlap of the top cells of every two maps of a panel: (m, b, h, w) in, (m, m, b) out."""
        exact = finite(maps)
        flat = exact.flatten(2)
        # Rounded, because 0.07 * 100 is a little more than 7 in binary.
        count = math.ceil(round(self.share * flat.shape[-1], 9))
        taken = _taken(flat, count)
        cells = taken.flatten(0, 1)

        def measure(left: Tensor, right: Tensor) -> Tensor:
            shared = torch.minimum(cells[left], cells[right]).sum(-1)
            return shared / (2 * count - shared)

        values = each_pair(taken, measure).clamp(0.0, 1.0)
        return pairs_of(values, ("is not finite", not_finite(maps)), ("is constant", constant(exact)))


def _taken(flat: Tensor, count: int) -> Tensor:
    """How much of each cell is among the top ``count``: 1, 0 or a tied cell's fraction; shape (m, b, n)."""
    last = flat.topk(count).values[..., -1:]
    above, tied = flat > last, flat == last
    left_over = count - above.sum(-1, keepdim=True)
    return torch.where(tied, left_over / tied.sum(-1, keepdim=True, dtype=torch.float64), above.double())
