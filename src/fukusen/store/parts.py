"""One append, one part: its files first, and last the marker that says they are all there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from fukusen.errors import StoreError
from fukusen.records import ItemResult, Measurement
from fukusen.store.files import TEMPORARY, fingerprint, read_bytes, read_json, replacing, write_json
from fukusen.store.maps import MapKey, MapOf, write_maps
from fukusen.store.tables import items_table, measurements_table, packed, unpacked

FORMAT = 1
MARKER = ".done.json"
LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Part:
    """A complete part, as its marker describes it.

    Args:
        folder: where its files are.
        name: what their names begin with; the order of the names is the order of the appends.
        plan: digest of the plan that it was measured under.
        items: (name, key) of every image in it.
        files: for each kind (``items.parquet``, ...) its size in bytes and SHA-256.
    """

    folder: Path
    name: str
    plan: str
    items: tuple[tuple[str, str], ...]
    files: Mapping[str, Mapping[str, Any]]

    def path(self, kind: str) -> Path:
        """The part's file of that kind."""
        return self.folder / f"{self.name}.{kind}"

    def table(self, kind: str, schema: pa.Schema) -> pa.Table:
        """The part's table of that kind.

        Raises:
            StoreError: the file is no longer what was written.
        """
        data = read_bytes(self.path(kind))
        if hashlib.sha256(data).hexdigest() != self.files[kind]["sha256"]:
            raise StoreError(
                f"The file {self.path(kind)} was changed after it was written (its SHA-256 differs). Put the original "
                f"back, or delete {self.path('done.json')} and run the same audit command again to measure its images "
                "anew."
            )
        return unpacked(data, schema)


def read_part(marker: Path) -> Part | None:
    """The part of a marker, or None where the marker is torn or a file that it names is missing or cut short."""
    data = read_json(marker)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return None
    part = Part(
        folder=marker.parent,
        name=marker.name.removesuffix(MARKER),
        plan=data["plan"],
        items=tuple((item["item"], item["key"]) for item in data["items"]),
        files=data["files"],
    )
    for kind, written in part.files.items():
        path = part.path(kind)
        if not path.is_file() or path.stat().st_size != written["bytes"]:
            return None
    return part


def write_part(
    stem: Path,
    plan: str,
    results: Sequence[ItemResult],
    measurements: Sequence[Measurement],
    maps: Mapping[MapKey, MapOf],
) -> None:
    """Write a part; it exists from the moment that its marker does.

    Args:
        stem: folder and name of the part.
        plan: the digest of the plan.
        results: what became of each image.
        measurements: what was measured.
        maps: for each (method, score) the maps of the audited images, in their order, or why there are none.
    """
    audited = [result.item.name for result in results if result.status == "audited"]
    rows = {"items": len(results), "measurements": len(measurements)}
    files = {}
    for kind, table in (
        ("items.parquet", items_table(plan, results)),
        ("measurements.parquet", measurements_table(plan, measurements)),
    ):
        with replacing(stem.with_name(f"{stem.name}.{kind}")) as temporary:
            temporary.write_bytes(packed(table))
            files[kind] = fingerprint(temporary)
    if audited and maps:
        with replacing(stem.with_name(f"{stem.name}.maps.zarr.zip")) as temporary:
            write_maps(temporary, plan, audited, maps)
            files["maps.zarr.zip"] = fingerprint(temporary)
    names = [{"item": result.item.name, "key": result.key} for result in results]
    marker = {"format": FORMAT, "plan": plan, "rows": rows, "files": files, "items": names}
    write_json(stem.with_name(stem.name + MARKER), marker)


def next_number(folder: Path) -> int:
    """One more than the number of the last part, complete or not; 1 in an empty folder."""
    numbers = [int(path.name[:8]) for path in folder.iterdir() if path.name[:8].isdigit()]
    return max(numbers, default=0) + 1


def part_name(number: int) -> str:
    """A name that sorts by number and that no other process takes."""
    return f"{number:08d}-{uuid4().hex[:12]}"


def remove_leftovers(folder: Path) -> None:
    """Remove what dead writers left: files of parts that never got their marker.

    Files younger than an hour stay, because another process may be about to write their marker.
    """
    complete = {path.name.removesuffix(MARKER) for path in folder.glob(f"*{MARKER}")}
    oldest = time.time() - LEFTOVER_SECONDS
    for path in folder.iterdir():
        abandoned = path.name.endswith(TEMPORARY) or path.name.split(".", 1)[0] not in complete
        if abandoned and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
