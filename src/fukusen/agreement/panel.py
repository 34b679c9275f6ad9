"""A panel's maps made fit for comparing: finite, of one scale, positive, on one grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fukusen.arrays import MapStack

CELLS = (-2, -1)


def finite(maps: MapStack) -> MapStack:
    """The maps in float64 on the CPU, the same numbers on every device; maps that are not finite become zero."""
    exact = maps.detach().to("cpu", torch.float64)
    return exact.masked_fill(not_finite(exact)[..., None, None], 0.0)


def not_finite(maps: MapStack) -> Tensor:
    """Which maps hold an infinity or a NaN: bool of shape (m, b)."""
    return ~maps.detach().cpu().isfinite().all(-1).all(-1)


def constant(maps: MapStack) -> Tensor:
    """Which maps have the same value in every cell: bool of shape (m, b)."""
    return maps.amax(CELLS) == maps.amin(CELLS)


def empty(maps: MapStack) -> Tensor:
    """Which maps are zero in every cell: bool of shape (m, b)."""
    return (maps == 0).all(-1).all(-1)


def divided(values: Tensor, by: Tensor) -> Tensor:
    """The quotient, and ``values`` as they are where the divisor is 0."""
    return values / by.masked_fill(by == 0, 1.0)


def to_peak(maps: MapStack) -> MapStack:
    """Each map divided by its largest magnitude, so that no later product can overflow or vanish; zero stays zero."""
    return divided(maps, maps.abs().amax(CELLS, keepdim=True))


def to_unit(maps: MapStack) -> MapStack:
    """Each map shifted and scaled so that it runs from exactly 0 to exactly 1; a constant one becomes zero."""
    even = to_peak(maps)
    above = even - even.amin(CELLS, keepdim=True)
    return divided(above, above.amax(CELLS, keepdim=True))


def positive(maps: MapStack) -> MapStack:
    """The positive part of each map, its peak scaled to 1."""
    return to_peak(finite(maps).clamp(min=0.0))


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """The maps on a grid at least as fine, bilinearly (pixel centres are kept: ``align_corners=False``)."""
    if maps.shape[-2:] == (height, width):
        return maps
    # As channels of one picture, an empty batch would be refused.
    single = maps.flatten(0, 1)[:, None]
    larger = interpolate(single, size=(height, width), mode="bilinear", align_corners=False)
    return larger.view(*maps.shape[:2], height, width)
