"""Places in a picture, in words."""

from __future__ import annotations

from fukusen.auditing.panel import GRID

_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "centre", "right")


def place_of(cell: float) -> str:
    """A cell of the 7 x 7 grid, counted row by row, in words.

    Example:
        >>> place_of(0.0), place_of(24.0), place_of(48.0)
        ('upper left', 'centre', 'lower right')
    """
    row, column = divmod(int(cell), GRID)
    across, down = _COLUMNS[_third(column)], _ROWS[_third(row)]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"


def _third(index: int) -> int:
    return 0 if index < GRID // 3 else 2 if index >= GRID - GRID // 3 else 1
