"""The agreement of all heatmaps with each other, as a table with shaded cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fukusen.view.words import MINUS, NOTHING, Number, Words

SHADES = 10


@dataclass(frozen=True)
class Cell:
    """One agreement.

    Args:
        text: the number with two digits and no leading zero, or a dash.
        shade: the class of its background: ``p`` or ``m`` for the sign and a step from 0 to 10, or ``none``.
    """

    text: str
    shade: str


@dataclass(frozen=True)
class Matrix:
    """The whole table.

    Args:
        measure: how agreement was measured, as people write it.
        images: on how many images.
        names: the rows' heatmaps.
        rows: the cells, as many columns as rows.
    """

    measure: str
    images: int
    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, agreement: Mapping[str, Any] | None, words: Words) -> Matrix | None:
        """The table of the verdict's agreement, or None where none was measured."""
        if agreement is None or not agreement["rows"]:
            return None
        names = [
            f"{words.name('methods', row['method'])}, {words.name('scores', row['score'])}" for row in agreement["rows"]
        ]
        rows = [tuple(_cell(value) for value in row) for row in agreement["values"]]
        measure = words.table("agreement.measures").get(agreement["measure"], agreement["measure"].replace("_", " "))
        return cls(measure, agreement["images"], tuple(names), tuple(rows))


def _cell(value: Number | None) -> Cell:
    if value is None:
        return Cell(NOTHING, "none")
    text = f"{value:.2f}".replace("-0.00", "0").replace("0.00", "0").replace("1.00", "1").replace("0.", ".")
    step = min(SHADES, round(abs(value) * SHADES))
    return Cell(text.replace("-", MINUS), f"{'m' if value < 0 else 'p'}{step}")
