"""Pictures listed in a table: the columns path and label of a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fukusen.errors import DataError

TABLES = frozenset({".csv", ".tsv", ".parquet"})
_SEPARATORS = (",", ";", "\t")
Row = tuple[str, str | None]


def rows_of(table: Path) -> list[Row]:
    """The paths in a table as they are written there, each with its label or None.

    Args:
        table: a file whose name ends with .csv, .tsv or .parquet.

    Raises:
        DataError: it cannot be read, has no column ``path``, no row, or a row without a path.
    """
    rows = _parquet(table) if table.suffix.lower() == ".parquet" else _csv(table)
    if not rows:
        raise DataError(f"The table {table} has no rows. List one picture a row in its column 'path'.")
    for number, (path, _) in enumerate(rows, 1):
        if not path or "\0" in path:
            raise DataError(f"Row {number} of {table} has no path. Fill it in, or take the row out.")
    return rows


def _unreadable(table: Path, why: str) -> DataError:
    return DataError(f"The table {table} cannot be read: {why}. Save it as CSV in UTF-8 or as Parquet.")


def _without_path(table: Path, columns: Sequence[str]) -> DataError:
    named = ", ".join(repr(name) for name in columns) or "none"
    return DataError(f"The table {table} has no column 'path'. Its columns: {named}. Rename the one with the files.")


def _csv(table: Path) -> list[Row]:
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(table, str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(table, f"byte {error.start + 1} is not UTF-8") from error
    found: list[list[str]] = []
    columns: list[str] = []
    for separator in _SEPARATORS:
        found = _split(table, text, separator)
        columns = [name.strip() for name in found[0]] if found else []
        if "path" in columns:
            break
    else:
        raise _without_path(table, [name.strip() for name in _split(table, text, ",")[0]] if found else [])
    path, label = columns.index("path"), columns.index("label") if "label" in columns else len(columns)
    filled = [[*row, *[""] * (len(columns) + 1 - len(row))] for row in found[1:]]
    return [(row[path].strip(), row[label].strip() or None if label < len(columns) else None) for row in filled]


def _split(table: Path, text: str, separator: str) -> list[list[str]]:
    """The rows that hold anything at all."""
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv.Error as error:
        raise _unreadable(table, str(error)) from error


def _parquet(table: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(table).names
        if "path" not in columns:
            raise _without_path(table, columns)
        read = pq.read_table(table, columns=[name for name in ("path", "label") if name in columns])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(table, str(error).splitlines()[0].rstrip(".")) from error
    return [(_text(row["path"]) or "", _text(row.get("label"))) for row in read.to_pylist()]


def _text(value: Any) -> str | None:
    """A cell as text; 3.0, which is how pandas writes a 3 beside a gap, is 3."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None
