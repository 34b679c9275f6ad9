"""Whether two maps look alike, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from fukusen.agreement.agreement import agreements
from fukusen.agreement.pairs import Pairs, each_pair, pairs_of
from fukusen.agreement.panel import constant, enlarged, finite, not_finite, to_unit
from fukusen.arrays import MapStack
from fukusen.errors import require

WINDOW: Final = 11
SIGMA: Final = 1.5
C1: Final = 0.01**2
C2: Final = 0.03**2


@agreements.register
@dataclass(frozen=True)
class Ssim:
    """The structural similarity of two maps drawn as pictures: 1 the same picture, near 0 nothing in common.

    Each map is scaled to run from 0 to 1, so the data range L is 1. The Gaussian window (sigma 1.5) is cut at 11 x 11
    cells and only windows wholly inside the map count, as in scikit-image's ``structural_similarity`` with
    ``gaussian_weights=True, use_sample_covariance=False``.

    Args:
        side: maps with fewer rows or columns are first enlarged bilinearly to this many, in cells.

    Returns:
        A number from -1 to 1; no unit; scaling a map by a positive factor or adding a number leaves it as it is.

    Undefined when: a map is not finite, or is constant.

    Raises:
        CallError: ``side`` is no int, or is smaller than the window.

    Source: wang2004ssim

    Example:
        >>> ramp = torch.arange(49.0).view(1, 7, 7)
        >>> round(Ssim().pairs(torch.stack([ramp, ramp.mT])).value(0, 1, image=0), 3)
        0.451
    """

    side: int = 56
    name: ClassVar[str] = "ssim"
    source: ClassVar[str] = "wang2004ssim"
    higher_is_closer: ClassVar[bool] = True
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        require(type(self.side) is int and self.side >= WINDOW, "Ssim", "side", f"an int >= {WINDOW}", self.side)

    def pairs(self, maps: MapStack) -> Pairs:
        """The structural similarity of every two maps of a panel: (m, b, h, w) in, (m, m, b) out."""
        exact = finite(maps)
        height, width = (max(self.side, cells) for cells in maps.shape[-2:])
        # Scaled on both sides of the enlarging: before, so that no rounding makes a constant map of a faint one.
        pictures = to_unit(enlarged(to_unit(exact), height, width))
        values = _similarities(pictures).clamp(-1.0, 1.0)
        return pairs_of(values, ("is not finite", not_finite(maps)), ("is constant", constant(exact)))


def _windows(cells: int) -> Tensor:
    """The Gaussian windows along one axis: shape (cells - 10, cells), each row sums to 1."""
    distance = torch.arange(cells, dtype=torch.float64) - torch.arange(cells - WINDOW + 1)[:, None] - WINDOW // 2
    weights = torch.exp(-0.5 * (distance / SIGMA) ** 2).masked_fill(distance.abs() > WINDOW // 2, 0.0)
    return weights / weights.sum(-1, keepdim=True)


def _similarities(pictures: MapStack) -> Tensor:
    down, across = _windows(pictures.shape[-2]), _windows(pictures.shape[-1]).T.contiguous()
    flat = pictures.flatten(0, 1)
    means = down @ (flat @ across)
    squares = means.square()
    spreads = down @ (flat.square() @ across) - squares

    def measure(left: Tensor, right: Tensor) -> Tensor:
        product = means[left] * means[right]
        shared = down @ ((flat[left] * flat[right]) @ across) - product
        above = (2 * product + C1) * (2 * shared + C2)
        below = (squares[left] + squares[right] + C1) * (spreads[left] + spreads[right] + C2)
        return (above / below).mean((-2, -1))

    return each_pair(pictures, measure)
