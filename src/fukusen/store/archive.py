"""The folder of one audit: what was measured, under which plan, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fukusen.errors import StoreError, require
from fukusen.records import ItemResult, Measurement, Undefined
from fukusen.store import verdict as verdicts
from fukusen.store.files import TEMPORARY, read_json, unwritable, write_json, write_text
from fukusen.store.maps import MapKey, MapOf, read_maps
from fukusen.store.parts import MARKER, Part, next_number, part_name, read_part, remove_leftovers, write_part
from fukusen.store.tables import ITEMS, MEASUREMENTS, read_items, read_measurements

FORMAT = 1


class Store:
    """The records of one model's audit in one folder, appended to and never changed.

    Made by ``Store.create`` or ``Store.open``. Several processes may append at the same time.

    Args:
        folder: the audit's folder, which holds a store.
        model: what the store says about the model that it belongs to.
    """

    def __init__(self, folder: Path, model: Mapping[str, Any]) -> None:
        self.folder = folder
        self.model = model
        self._parts_folder = folder / "store" / "parts"
        self._known: dict[str, Part] = {}
        self._number: int | None = None

    @classmethod
    def create(cls, folder: Path, model: Mapping[str, Any]) -> Store:
        """The store in a new or empty folder, or the one that is there if it belongs to the same model.

        Args:
            folder: where the audit is to be; made where it does not exist.
            model: JSON-able facts about the model; its ``digest`` says whether it is the same one.

        Raises:
            StoreError: the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        run = folder / "store" / "run.json"
        if not run.is_file():
            _require_free(folder)
            try:
                (folder / "store" / "parts").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise unwritable(folder, error) from error
            write_json(run, {"format": FORMAT, "model": dict(model)})
        store = cls.open(folder)
        if store.model.get("digest") != model["digest"]:
            raise StoreError(
                f"The folder {folder} holds an audit of another model: {store.model.get('spec')} with digest "
                f"{store.model.get('digest')}, not {model.get('spec')} with digest {model['digest']}. Nothing was "
                "changed; choose another --out folder."
            )
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The store that is in the folder.

        Raises:
            StoreError: there is no such folder, or no store that this version can read in it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise StoreError(f"There is no folder {folder}. Name the folder that 'fukusen audit --out' was given.")
        run = folder / "store" / "run.json"
        data = read_json(run)
        if data is None and not (folder / "store").is_dir():
            raise StoreError(
                f"The folder {folder} holds no audit. Name the folder that 'fukusen audit --out' was given."
            )
        if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
            raise StoreError(
                f"The audit in {folder} is incomplete: {run} is missing or damaged. Run the same audit command again, "
                "with a new --out folder if this message comes back."
            )
        if data.get("format") != FORMAT:
            raise StoreError(
                f"The audit in {folder} has store format {data.get('format')}; this version of fukusen reads format "
                f"{FORMAT}. Update fukusen, or choose another folder."
            )
        return cls(folder, data["model"])

    def done(self, plan: str) -> frozenset[tuple[str, str]]:
        """The images that need no more work under a plan, failed ones included.

        Args:
            plan: the plan's digest.

        Returns:
            Pairs of item name and key; an image whose file changed counts under its newest key only.
        """
        newest = {name: key for part in self._parts(plan) for name, key in part.items}
        return frozenset(newest.items())

    def append(
        self,
        plan: str,
        results: Sequence[ItemResult],
        measurements: Sequence[Measurement],
        maps: Mapping[MapKey, MapOf],
    ) -> None:
        """Remember one batch: when this returns it is on the disc, and before that it does not exist.

        A verdict that was published before is withdrawn first, for it does not speak of this batch; it stays where the
        batch holds nothing to be judged.

        Args:
            plan: the digest of the plan that the batch was measured under.
            results: what became of each image; no image twice.
            measurements: what was measured, of these images or of the model.
            maps: for each (method, score) an array (audited images in order, height, width), or why there is none.

        Raises:
            CallError: an image twice, or maps whose shape does not fit the audited images.
            StoreError: the disc is full, or the folder may not be written to.
        """
        counts = Counter(result.item.name for result in results)
        twice = sorted(name for name, count in counts.items() if count > 1)
        require(not twice, "Store.append", "results", "one result for each image", twice)
        try:
            if any(result.status == "audited" for result in results):
                (self.folder / "audit.json").unlink(missing_ok=True)
            if self._number is None:
                remove_leftovers(self._parts_folder)
                self._number = next_number(self._parts_folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        stem = self._parts_folder / part_name(self._number)
        self._number += 1
        write_part(stem, plan, results, measurements, maps)

    def results(self, plan: str, items: Collection[str] | None = None) -> tuple[ItemResult, ...]:
        """What became of each image under a plan; of an image recorded more than once, the latest.

        Args:
            plan: the plan's digest.
            items: names of the images wanted; all of them if None.

        Returns:
            One result an image, by name.

        Raises:
            StoreError: a file was changed after it was written.
        """
        parts = self._parts(plan)
        newest = _newest(parts)
        wanted = newest.keys() if items is None else newest.keys() & set(items)
        found = [
            result
            for part in parts
            if not wanted.isdisjoint(name for name, _ in part.items)
            for result in read_items(part.table("items.parquet", ITEMS))
            if result.item.name in wanted and newest[result.item.name] is part
        ]
        return tuple(sorted(found, key=lambda result: result.item.name))

    def measurements(self, plan: str) -> tuple[Measurement, ...]:
        """What was measured under a plan; of the same quantity measured more than once, the latest.

        Measurements of a file that has changed since are left out.

        Args:
            plan: the plan's digest.

        Returns:
            Those about the model first, then by image name, each in the order of recording.

        Raises:
            StoreError: a file was changed after it was written.
        """
        parts = self._parts(plan)
        newest = _newest(parts)
        found: dict[tuple[str | None, ...], Measurement] = {}
        for part in parts:
            for each in read_measurements(part.table("measurements.parquet", MEASUREMENTS)):
                if each.item in newest and newest[each.item].name > part.name:
                    continue
                found[each.item, each.check, each.method, each.score, each.against, each.layer] = each
        return tuple(sorted(found.values(), key=lambda each: (each.item is not None, each.item or "")))

    def maps(self, plan: str, item: str) -> dict[MapKey, npt.NDArray[np.float32] | Undefined]:
        """The maps of one image under a plan.

        Args:
            plan: the plan's digest.
            item: the image's name.

        Returns:
            For each (method, score) the signed map (height, width), good to about three digits, or why there is
            none; empty for an image that failed or was never measured.
        """
        part = _newest(self._parts(plan)).get(item)
        if part is None or "maps.zarr.zip" not in part.files:
            return {}
        return read_maps(part.path("maps.zarr.zip"), item)

    def publish(self, verdict: Mapping[str, Any]) -> None:
        """Write findings.parquet, queue.csv and, last and atomically, audit.json.

        Write the report before this: the presence of audit.json means that everything else is there.

        Args:
            verdict: the content of audit.json; its ``queue.items`` become queue.csv.

        Raises:
            StoreError: the disc is full, or the folder may not be written to.
        """
        verdicts.publish(self.folder, verdict)

    def verdict(self) -> dict[str, Any]:
        """The content of audit.json.

        Raises:
            StoreError: the audit is not complete.
        """
        path = self.folder / "audit.json"
        found = read_json(path)
        again = "Run the same audit command again; it goes on from what is there."
        if not path.exists():
            raise StoreError(f"The audit in {self.folder} is not complete: it has no audit.json. {again}")
        if not isinstance(found, dict) or not found.keys() >= verdicts.WHOLE:
            raise StoreError(f"{path} is not what an audit left there: it was changed or cut short. {again}")
        return found

    def write_text(self, name: str, text: str) -> Path:
        """Put text in a file of the audit's folder, atomically.

        Args:
            name: the file's name, without a folder.
            text: what it is to hold.

        Returns:
            Where it is.

        Raises:
            CallError: a name with a folder in it.
            StoreError: the disc is full, or the folder may not be written to.
        """
        require(Path(name).name == name, "Store.write_text", "name", "a file name without a folder", name)
        path = self.folder / name
        write_text(path, text)
        return path

    def _parts(self, plan: str) -> list[Part]:
        for marker in sorted(self._parts_folder.glob(f"*{MARKER}")):
            if marker.name not in self._known:
                part = read_part(marker)
                if part is not None:
                    self._known[marker.name] = part
        return [part for name, part in sorted(self._known.items()) if part.plan == plan]


def _newest(parts: Sequence[Part]) -> dict[str | None, Part]:
    """For each image the part that recorded it last."""
    return {name: part for part in parts for name, _ in part.items}


def _require_free(folder: Path) -> None:
    """Refuse a path that holds anything but what an interrupted ``create`` leaves."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file, not a folder. Choose another --out folder.")
    for inside in (folder, folder / "store"):
        expected = {"store"} if inside == folder else {"parts"}
        for path in inside.iterdir() if inside.is_dir() else ():
            if path.name not in expected and not path.name.endswith(TEMPORARY):
                raise StoreError(
                    f"The folder {folder} is not empty and holds no audit (it has {path.name!r}). Nothing was changed; "
                    "choose another --out folder."
                )
