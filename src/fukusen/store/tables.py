"""Results and measurements as Parquet tables, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fukusen.records import Item, ItemResult, Measurement, Undefined

_TEXT = pa.string()
ITEMS = pa.schema(
    [
        pa.field("item", _TEXT, nullable=False),
        pa.field("path", _TEXT, nullable=False),
        ("label", _TEXT),
        pa.field("key", _TEXT, nullable=False),
        pa.field("status", _TEXT, nullable=False),
        pa.field("reason", _TEXT, nullable=False),
        ("predicted", pa.int64()),
        ("predicted_name", _TEXT),
        ("probability", pa.float64()),
        ("thumbnail", pa.binary()),
        pa.field("plan", _TEXT, nullable=False),
    ]
)
MEASUREMENTS = pa.schema(
    [
        ("item", _TEXT),
        pa.field("check", _TEXT, nullable=False),
        ("method", _TEXT),
        ("score", _TEXT),
        ("against", _TEXT),
        ("layer", _TEXT),
        ("value", pa.float64()),
        ("undefined", _TEXT),
        pa.field("plan", _TEXT, nullable=False),
    ]
)
FINDINGS = pa.schema(
    [
        pa.field("check", _TEXT, nullable=False),
        pa.field("scope", _TEXT, nullable=False),
        ("item", _TEXT),
        ("method", _TEXT),
        ("score", _TEXT),
        pa.field("severity", _TEXT, nullable=False),
        ("priority", pa.float64()),
        ("value", pa.float64()),
        ("bound", pa.float64()),
        pa.field("claim", _TEXT, nullable=False),
        ("evidence", _TEXT),
    ]
)


def items_table(plan: str, results: Sequence[ItemResult]) -> pa.Table:
    """One row an image.

    Args:
        plan: the digest of the plan that they were measured under.
        results: what became of each picture.

    Returns:
        A table of the schema ``ITEMS``.
    """
    rows = [{**vars(result), **vars(result.item), "item": result.item.name, "plan": plan} for result in results]
    for row in rows:
        # A file's name may hold bytes that no text has; the tables hold text.
        row["path"] = row["path"].encode("utf-8", "backslashreplace").decode("utf-8")
    return pa.Table.from_pylist(rows, schema=ITEMS)


def read_items(table: pa.Table) -> Iterator[ItemResult]:
    """The results that ``items_table`` was given."""
    for row in table.to_pylist():
        item = Item(row.pop("item"), row.pop("path"), row.pop("label"))
        del row["plan"]
        yield ItemResult(item=item, **row)


def measurements_table(plan: str, measurements: Sequence[Measurement]) -> pa.Table:
    """One row a measurement; a value that is not a finite number becomes a reason why there is none.

    Args:
        plan: the digest of the plan that they were measured under.
        measurements: what was measured.

    Returns:
        A table of the schema ``MEASUREMENTS``; in each row one of ``value`` and ``undefined`` is null.
    """
    rows: list[dict[str, Any]] = []
    for measurement in measurements:
        value = measurement.value
        if not isinstance(value, Undefined) and not math.isfinite(value):
            value = Undefined(f"the check returned {float(value)}, which is not a finite number")
        said = {"undefined": value.reason, "value": None} if isinstance(value, Undefined) else {"value": float(value)}
        rows.append({**vars(measurement), **said, "plan": plan})
    return pa.Table.from_pylist(rows, schema=MEASUREMENTS)


def read_measurements(table: pa.Table) -> Iterator[Measurement]:
    """The measurements that ``measurements_table`` was given."""
    for row in table.to_pylist():
        reason = row.pop("undefined")
        value = row.pop("value")
        del row["plan"]
        yield Measurement(value=value if reason is None else Undefined(reason), **row)


def packed(table: pa.Table) -> bytes:
    """A table as a Parquet file, zstd-compressed."""
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def unpacked(data: bytes, schema: pa.Schema) -> pa.Table:
    """The table in a Parquet file, with the columns of the schema."""
    return pq.read_table(BytesIO(data), columns=schema.names)
