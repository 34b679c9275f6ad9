"""What a complete audit publishes: findings.parquet, queue.csv and, last of all, audit.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa

from fukusen.store.files import replacing, write_json, write_text
from fukusen.store.tables import FINDINGS, packed

WHOLE = frozenset({"schema", "status"})
QUEUE_COLUMNS = ("image", "priority", "severity", "reasons")


def audit_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of audit.json."""
    schema: dict[str, Any] = json.loads(files("fukusen.store").joinpath("audit.schema.json").read_text("utf-8"))
    return schema


def publish(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Write what a complete audit leaves; audit.json comes last, so that its presence means complete.

    Args:
        folder: the audit's folder.
        verdict: the content of audit.json.
    """
    rows = [{**finding, "evidence": json.dumps(finding.get("evidence", {}))} for finding in verdict["findings"]]
    with replacing(folder / "store" / "findings.parquet") as temporary:
        temporary.write_bytes(packed(pa.Table.from_pylist(rows, schema=FINDINGS)))
    write_text(folder / "queue.csv", _queue_csv(verdict["queue"]["items"]))
    write_json(folder / "audit.json", verdict)


def _queue_csv(items: Iterable[Mapping[str, Any]]) -> str:
    sink = StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(QUEUE_COLUMNS)
    for item in items:
        writer.writerow((item["item"], item["priority"], item["severity"], "; ".join(item["reasons"])))
    return sink.getvalue()
