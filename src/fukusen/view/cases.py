"""Single images in the report: the gravest, or a few ordinary ones, with their maps side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fukusen.pictures import Floats
from fukusen.records import Undefined
from fukusen.store import Store
from fukusen.view.pictures import Picture, overlay, photograph
from fukusen.view.words import Words, percent

GRAVEST = 24
ORDINARY = 6
METHODS = ("grad_cam", "hires_cam", "gradient", "integrated_gradients", "lrp", "occlusion")
SCORES = ("logit", "log_odds")
MapKey = tuple[str, str]


@dataclass(frozen=True)
class Shown:
    """One map of one image.

    Args:
        score: the score's name, as people write it.
        verdict: the panel's verdict on this kind of heatmap, ``"none"`` where there is none.
        uri: the overlay as a ``data:`` URI; None where there is no map.
        alt: what it shows, in words.
        caption: where its weight lies, or why there is no map.
    """

    score: str
    verdict: str
    uri: str | None
    alt: str
    caption: str


@dataclass(frozen=True)
class Case:
    """One image.

    Args:
        entry: what the queue says about it.
        photograph: the picture as a ``data:`` URI, where the store has it.
        pairs: for each method its name and its maps, one a score.
    """

    entry: Mapping[str, Any]
    photograph: str | None
    pairs: tuple[tuple[str, tuple[Shown, ...]], ...]


def cases(store: Store, verdict: Mapping[str, Any], words: Words) -> list[Case]:
    """The gravest images of the queue, or a few ordinary ones where it is empty.

    Args:
        store: where the thumbnails and maps are.
        verdict: the content of audit.json.
        words: the language of the page.

    Returns:
        At most 24 of the queue, or 6 ordinary ones.
    """
    plan = verdict["plan"]["digest"]
    entries = verdict["queue"]["items"][:GRAVEST] or _ordinary(store, verdict)
    results = {result.item.name: result for result in store.results(plan, [entry["item"] for entry in entries])}
    verdicts = {(row["method"], row["score"]): row["verdict"] or "none" for row in verdict["panel"]}
    found = []
    for entry in entries:
        result = results.get(entry["item"])
        thumbnail = None if result is None else result.thumbnail
        pairs = _pairs(store.maps(plan, entry["item"]), thumbnail, verdicts, words)
        found.append(Case(entry, None if thumbnail is None else photograph(thumbnail), pairs))
    return found


def _ordinary(store: Store, verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Audited images, picked evenly, in the form of the queue."""
    plan = verdict["plan"]["digest"]
    failed = {failure["item"] for failure in verdict["images"]["failures"]}
    names = sorted(name for name, _ in store.done(plan) if name not in failed)
    picked = [names[number * len(names) // ORDINARY] for number in range(ORDINARY)] if names else []
    return [
        {
            "item": result.item.name,
            "predicted": result.predicted_name,
            "probability": result.probability,
            "severity": None,
            "reasons": [],
        }
        for result in store.results(plan, picked)
        if result.status == "audited"
    ]


def _pairs(
    maps: Mapping[MapKey, Floats | Undefined], thumbnail: bytes | None, verdicts: Mapping[MapKey, str], words: Words
) -> tuple[tuple[str, tuple[Shown, ...]], ...]:
    """For each method to show, its name and its maps."""
    pairs = []
    for method in _methods([method for method, _ in maps]):
        keys = [key for key in maps if key[0] == method]
        shown = []
        for key in [key for score in SCORES for key in keys if key[1] == score] or keys[:2]:
            found = maps[key]
            drawn = found if isinstance(found, Undefined) else overlay(thumbnail, method, found)
            shown.append(_shown(key, drawn, verdicts.get(key, "none"), words))
        pairs.append((words.name("methods", method), tuple(shown)))
    return tuple(pairs)


def _methods(stored: Sequence[str]) -> list[str]:
    """The stored methods to show: the usual ones in their order, or else the first few."""
    names = list(dict.fromkeys(stored))
    usual = [name for wanted in METHODS for name in names if re.split(r"[@(]", name)[0] == wanted]
    return usual or names[: len(METHODS)]


def _shown(key: MapKey, drawn: Picture | Undefined, verdict: str, words: Words) -> Shown:
    method, score = words.name("methods", key[0]), words.name("scores", key[1])
    if isinstance(drawn, Undefined):
        return Shown(score, verdict, None, "", words("images.no_map", reason=drawn.reason))
    if drawn.row is None:
        alt = words("images.alt_empty", method=method, score=score)
        return Shown(score, verdict, drawn.uri, alt, words("images.empty"))
    place = words(f"place.{drawn.row} {drawn.column}")
    share = percent(drawn.share)
    alt = words("images.alt", method=method, score=score, place=place, cells=drawn.cells, share=share)
    return Shown(score, verdict, drawn.uri, alt, words("images.place", place=place, share=share))
