"""What a wrong decision costs by class, read from the user's table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from fukusen.errors import CallError, UnknownName

HEADER = ["class", "cost"]


def stakes_of(
    stakes: Mapping[str, float | int] | str | Path,
    classes: Sequence[str],
) -> dict[str, float]:
    """The costs by class, of which the largest is 1; a class that is not named costs what the cheapest named one does.

    Args:
        stakes: costs larger than 0 by class name, in any unit; or a CSV file with the columns ``class`` and ``cost``.
        classes: the model's.

    Returns:
        A number from 0 to 1 for each class.

    Raises:
        CallError: the file cannot be read as such a table, or a cost is no number larger than 0.
        UnknownName: a class that the model has not.
    """
    named = stakes if isinstance(stakes, Mapping) else _read(Path(stakes))
    for name, cost in named.items():
        if name not in classes:
            raise UnknownName("class of this model", name, classes)
        if not (isinstance(cost, int | float) and math.isfinite(cost) and cost > 0):
            raise CallError(f"The cost of the class {name!r} must be a number larger than 0. Got {cost!r} instead.")
    if not named:
        raise CallError("No class has a cost. Name at least one, or leave the costs out.")
    largest, smallest = max(named.values()), min(named.values())
    return {name: named.get(name, smallest) / largest for name in classes}


def _read(path: Path) -> dict[str, float]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CallError(
            f"The costs in {path} cannot be read ({error}). Name a CSV file with class and cost."
        ) from error
    if [cell.strip().lower() for cell in header] != HEADER:
        raise CallError(f"The costs in {path} need the columns class and cost, in this order. Got {header} instead.")
    found: dict[str, float] = {}
    for number, row in enumerate(rows, 2):
        try:
            name, cost = row
            found[name.strip()] = float(cost)
        except ValueError:
            raise CallError(
                f"Line {number} of {path} must hold a class and a number. Got {','.join(row)!r} instead."
            ) from None
    return found
