"""Heatmaps in a zarr zip: float16 of at most 1, and the float32 number to multiply them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import ZipStore

from fukusen.errors import require
from fukusen.records import Undefined

Floats = npt.NDArray[np.floating[Any]]
MapKey = tuple[str, str]
MapOf = Floats | Undefined
FORMAT = 1


def write_maps(path: Path, plan: str, items: Sequence[str], maps: Mapping[MapKey, MapOf]) -> None:
    """Write the maps of one part.

    Args:
        path: the file to write.
        plan: the digest of the plan.
        items: names of the audited images, in the order of the maps' first axis.
        maps: for each (method, score) an array (images, height, width), or why there is none.

    Raises:
        CallError: an array whose first axis is not the images, or whose size differs among a method's scores.
    """
    absent = [
        {"method": method, "score": score, "item": None, "reason": found.reason}
        for (method, score), found in maps.items()
        if isinstance(found, Undefined)
    ]
    methods: dict[str, dict[str, Floats]] = {}
    for (method, score), found in maps.items():
        if not isinstance(found, Undefined):
            _require_shape(found, items, methods.setdefault(method, {}))
            methods[method][score] = found
    entries = []
    stored: dict[str, tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]] = {}
    for method, scores in methods.items():
        group_name = quote(method, safe="(),= ")
        stored[group_name] = values, scale = _normalised(np.stack(list(scores.values()), axis=1))
        entries.append({"method": method, "group": group_name, "scores": list(scores)})
        for row, column in np.argwhere(np.isnan(scale)):
            reason = "the map holds a value that is not a finite number"
            absent.append({"method": method, "score": list(scores)[column], "item": items[row], "reason": reason})
    attributes = {"format": FORMAT, "plan": plan, "items": list(items), "arrays": entries, "undefined": absent}
    with ZipStore(path, mode="w") as zipped:
        # Attributes are given at birth: a zip cannot replace what it holds.
        root = zarr.create_group(zipped, attributes=attributes)
        for name, (values, scale) in stored.items():
            group = root.create_group(name)
            group.create_array("values", data=values, chunks=(1, *values.shape[1:]))
            group.create_array("scale", data=scale)


def _require_shape(found: Floats, items: Sequence[str], siblings: Mapping[str, Floats]) -> None:
    holds = found.ndim == 3 and len(found) == len(items)
    rule = f"arrays of shape ({len(items)}, height, width), one row for each audited image"
    require(holds, "Store.append", "maps", rule, found.shape)
    same = all(found.shape == sibling.shape for sibling in siblings.values())
    require(same, "Store.append", "maps", "of one size for all scores of a method", found.shape)


def _normalised(stacked: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
    """Maps divided by their largest magnitude, and that magnitude: NaN where the map is not finite."""
    largest = np.abs(stacked.astype(np.float64)).max(axis=(2, 3), initial=0.0)
    largest = np.where(largest <= np.finfo(np.float32).max, largest, np.nan)
    divisor = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
    usable = np.isfinite(largest)[..., None, None]
    values = np.where(usable, stacked, 0.0) / divisor[..., None, None]
    return values.astype(np.float16), largest.astype(np.float32)


def read_maps(path: Path, item: str) -> dict[MapKey, npt.NDArray[np.float32] | Undefined]:
    """The maps of one image.

    Args:
        path: a file that ``write_maps`` wrote.
        item: the image's name.

    Returns:
        For each (method, score) the signed map (height, width) with about three digits, or why there is none; empty
        for an image that is not in the file.
    """
    found: dict[MapKey, npt.NDArray[np.float32] | Undefined] = {}
    with ZipStore(path, mode="r") as zipped:
        root = zarr.open_group(zipped, mode="r")
        attributes: dict[str, Any] = root.attrs.asdict()
        if item not in attributes["items"]:
            return {}
        row = attributes["items"].index(item)
        for entry in attributes["arrays"]:
            values = np.asarray(_array(root, f"{entry['group']}/values")[row], dtype=np.float32)
            scale = np.asarray(_array(root, f"{entry['group']}/scale")[row])
            for column, score in enumerate(entry["scores"]):
                found[entry["method"], score] = values[column] * scale[column]
    for absent in attributes["undefined"]:
        if absent["item"] in (None, item):
            found[absent["method"], absent["score"]] = Undefined(absent["reason"])
    return found


def _array(root: zarr.Group, name: str) -> zarr.Array[Any]:
    array = root[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return array
