"""Signed maps read as heatmaps, on one grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fukusen.agreement.panel import enlarged
from fukusen.errors import UnknownName, require

Reading = Literal["positive", "magnitude"]
NativeMaps = Float[Tensor, "b _ _"]
Heatmaps = Float[Tensor, "m b {side} {side}"]

READ: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {"positive": torch.relu, "magnitude": torch.abs}


def heatmaps(maps: Sequence[NativeMaps], readings: Sequence[Reading], side: int) -> Heatmaps:
    """Signed maps of different resolutions as people see them: not negative, on one grid.

    Each map is read first (``positive`` keeps what speaks for the class, ``magnitude`` what matters either way) and
    brought to the grid afterwards: finer ones by averaging areas, coarser ones bilinearly. The other way round,
    neighbours of opposite sign would cancel.

    Args:
        maps: m sets of maps of the same b images, each (b, h, w) with its own h and w.
        readings: how each of the m is read.
        side: rows and columns of the common grid, in cells.

    Returns:
        Heatmaps of shape (m, b, side, side), 0 or more, in the maps' own unit; what is not finite stays so.

    Raises:
        CallError: no maps, not one reading for each, an unknown reading, or ``side`` is no int >= 1.

    Example:
        >>> heatmaps([torch.tensor([[[-2.0, 4.0], [0.0, 2.0]]])] * 2, ["positive", "magnitude"], side=1).flatten()
        tensor([1.5000, 2.0000])
    """
    require(len(maps) > 0, "heatmaps", "maps", "at least one set of maps", maps)
    require(len(readings) == len(maps), "heatmaps", "readings", f"one for each of the {len(maps)} maps", readings)
    require(type(side) is int and side >= 1, "heatmaps", "side", "an int >= 1", side)
    for reading in readings:
        if reading not in READ:
            raise UnknownName("reading", reading, READ)
    return torch.stack([_gridded(READ[reading](each), side) for each, reading in zip(maps, readings, strict=True)])


def _gridded(heat: NativeMaps, side: int) -> Tensor:
    height, width = (min(side, cells) for cells in heat.shape[-2:])
    return enlarged(adaptive_avg_pool2d(heat[None], (height, width)), side, side)[0]
