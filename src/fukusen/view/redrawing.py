"""The part of the report that shows one heatmap of the user's own redrawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fukusen.store import Store
from fukusen.view.pictures import overlay, photograph
from fukusen.view.words import Words, number


@dataclass(frozen=True)
class Redrawing:
    """What a copy of the model was made to show.

    Args:
        item: the image's name.
        photograph: as a ``data:`` URI, where the store has it.
        sights: for each score its name and its heatmaps before and after, as ``data:`` URIs.
        promise: what became of the prediction, in one sentence.
        undefined: why there is nothing to show; None where there is.
    """

    item: str
    photograph: str | None
    sights: tuple[tuple[str, str, str], ...]
    promise: str
    undefined: str | None


def redrawing(store: Store, verdict: Mapping[str, Any], words: Words) -> Redrawing | None:
    """What the audit drew on a copy of the model; None where it is from a version that did not.

    Args:
        store: where the thumbnails are.
        verdict: the content of audit.json.
        words: the language of the page.
    """
    found = verdict.get("redrawing")
    if found is None:
        return None
    if found["undefined"]:
        return Redrawing(found["item"], None, (), "", found["undefined"])
    results = store.results(verdict["plan"]["digest"], [found["item"]])
    thumbnail = results[0].thumbnail if results else None
    sights = tuple(
        (
            f"{words.name('methods', found['method'])}, {words.name('scores', score)}",
            *(overlay(thumbnail, found["method"], np.asarray(found[when][score])).uri for when in ("before", "after")),
        )
        for score in found["before"]
    )
    alike = {score: number(round(value, 4)) for score, value in found["cosine"].items()}
    said = words("redrawing.promise", change=number(found["promise"]["largest_change"]), **alike)
    return Redrawing(found["item"], None if thumbnail is None else photograph(thumbnail), sights, said, None)  # type: ignore[arg-type]
