"""The angle between two maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fukusen.agreement.agreement import agreements
from fukusen.agreement.pairs import Pairs, dot_products, pairs_of
from fukusen.agreement.panel import divided, empty, finite, not_finite, to_peak
from fukusen.arrays import MapStack


@agreements.register
@dataclass(frozen=True)
class Cosine:
    """The cosine of the angle between two signed maps: 1 the same up to a positive factor, -1 opposite.

    Returns:
        A number from -1 to 1; no unit. Zero is kept as zero: nothing is centred.

    Undefined when: a map is not finite, or is zero everywhere.

    Source: salton1975vector

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[3.0, 4.0]]], [[[-6.0, -8.0]]], [[[4.0, -3.0]]]])
        >>> Cosine().pairs(maps).values[0, :, 0].round(decimals=6).tolist()
        [1.0, -1.0, 0.0]
    """

    name: ClassVar[str] = "cosine"
    source: ClassVar[str] = "salton1975vector"
    higher_is_closer: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def pairs(self, maps: MapStack) -> Pairs:
        """The cosine of every two maps of a panel: (m, b, h, w) in, (m, m, b) out."""
        exact = finite(maps)
        flat = to_peak(exact).flatten(2)
        values = dot_products(divided(flat, flat.norm(dim=-1, keepdim=True))).clamp(-1.0, 1.0)
        return pairs_of(values, ("is not finite", not_finite(maps)), ("is zero everywhere", empty(exact)))
