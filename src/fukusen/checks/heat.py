"""The heatmaps of a panel as checks measure them: what people look at, on one grid, as shares of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.agreement import heatmaps
from fukusen.arrays import Maps
from fukusen.checks.check import Sight
from fukusen.methods import Method
from fukusen.records import Undefined

GRID = 7
TOLD = ("logit", "log_odds")
"""The scores that are told apart; the others repeat the log-odds' heatmaps, or nearly so."""
EMPTY = Undefined("the heatmap is empty")
NOT_FINITE = Undefined("the heatmap holds numbers that are not finite")

T = TypeVar("T")
Shares = Float[Tensor, "7 7"]


def on_grid(maps: Maps, method: Method, side: int = GRID) -> Tensor:
    """A method's maps as people see them, not negative, on a grid of ``side`` rows and columns."""
    return heatmaps([maps], [method.reading], side)[0]


def shares_of(maps: Maps, method: Method) -> list[Shares | Undefined]:
    """What share of each heatmap lies in each cell of the 7 x 7 grid, float64, or why there is none.

    Args:
        maps: signed, (b, h, w).
        method: that made them.

    Returns:
        For each image 49 shares that add up to 1.
    """
    heat = on_grid(maps.detach().cpu().double(), method)
    return [_shares(cells) for cells in heat]


def _shares(cells: Tensor) -> Shares | Undefined:
    if not bool(cells.isfinite().all()):
        return NOT_FINITE
    top = cells.max()
    if not float(top) > 0:
        return EMPTY
    scaled = cells / top
    shares: Tensor = scaled / scaled.sum()
    return shares


def cosine_of(one: Shares, other: Shares) -> float:
    """How much two heatmaps overlap: 0 not at all, 1 they are the same."""
    return min(1.0, float((one * other).sum() / (one.norm() * other.norm())))


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the panel: the heatmaps of a method in a score.

    Args:
        method: by name.
        score: by name.
        shares: of each image, in the batch's order.
    """

    method: str
    score: str
    shares: list[Shares | Undefined]


def rows_of(sight: Sight) -> Iterator[Row]:
    """The rows of a panel that have maps of the logit and of the log-odds; all scores where it has neither."""
    scores = {score for _, score in sight.maps}
    wanted = scores & set(TOLD) or scores
    for (method, score), maps in sight.maps.items():
        if score in wanted and isinstance(maps, torch.Tensor):
            yield Row(method, score, shares_of(maps, sight.methods[method]))
