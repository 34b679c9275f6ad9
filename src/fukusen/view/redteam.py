"""The page of a red team: which heatmaps were redrawn, before and after, and whether the audit noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fukusen.pictures import RAMP
from fukusen.records import Undefined
from fukusen.store import Store
from fukusen.view.pages import templates
from fukusen.view.pictures import overlay, photograph
from fukusen.view.words import Words, number

Result = Mapping[str, Any]
SHOWN = 3
CONTROL = "log_odds"


@dataclass(frozen=True)
class Sight:
    """One heatmap before and after.

    Args:
        title: method and score, as people write them.
        before: the overlay as a ``data:`` URI, or None.
        after: likewise.
    """

    title: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Example:
    """One image of a scenario.

    Args:
        item: the image's name.
        photograph: as a ``data:`` URI, where the store has it.
        sights: the heatmap that moved most, and the same method's in log-odds.
    """

    item: str
    photograph: str | None
    sights: tuple[Sight, ...]


@dataclass(frozen=True)
class Scene:
    """One scenario as the page shows it.

    Args:
        entry: its entry in attack.json.
        title: the attack, as people write it.
        promise: what became of the predictions, in one sentence.
        redrawn: how many rows of the panel were redrawn, of how many.
        strongest: the row that moved most; None where none moved.
        strongest_title: its method and score.
        noticed: what the audit of the copy said, in words.
        tone: ``good``, ``warn`` or ``bad``: nothing redrawn, redrawn and noticed, redrawn and not noticed.
        way: how far it came towards its aim, in words; empty where it has none that it measures itself.
        examples: a few images, before and after.
    """

    entry: Result
    title: str
    promise: str
    redrawn: tuple[int, int]
    strongest: Result | None
    strongest_title: str
    noticed: str
    tone: str
    way: str = ""
    examples: tuple[Example, ...] = ()


def played(result: Result) -> list[Result]:
    """The entries of the attacks that could be played."""
    return [one for one in result["scenarios"] if not one["undefined"]]


def strongest(entry: Result) -> Result | None:
    """The redrawn row that came nearest to what the attacker is after, or else moved most."""
    rows: list[Result] = [row for row in entry["rows"] if row["redrawn"]]
    aimed = [row for row in rows if row["goal_after"] is not None]
    if aimed:
        return max(aimed, key=lambda row: (row["goal_after"] - row["goal_before"], row["goal_after"]))
    return min(rows, key=lambda row: row["likeness"], default=None)


def headline(result: Result, words: Words | None = None) -> str:
    """How many attacks redrew heatmaps, and how many of those the audit noticed, in one sentence or two."""
    w = words or Words()
    done = played(result)
    hit = [one for one in done if any(row["redrawn"] for row in one["rows"])]
    kept = [one for one in hit if one["promise"]["kept"]]
    said = [w("redteam.headline", n=len(done), redrawn=len(hit), kept=len(kept), noticed=_noticed(hit))]
    missed = [_title(one, w) for one in hit if not one["noticed"]]
    if missed:
        said.append(w("redteam.missed", attacks=w.listing(missed)))
    return " ".join(said)


def _noticed(entries: Sequence[Result]) -> int:
    return sum(one["noticed"] for one in entries)


def _title(entry: Result, words: Words) -> str:
    return words.name("attacks", entry["attack"])


def scene(entry: Result, words: Words) -> Scene:
    """One scenario in words."""
    rows, top = entry["rows"], strongest(entry)
    count = sum(row["redrawn"] for row in rows)
    promise = entry["promise"]
    change, flips = number(promise["largest_change"]), promise["flips"]
    kept = words("redteam.kept" if promise["kept"] else "redteam.broken", change=change, flips=flips)
    status = words(f"status.{entry['audit']['status']}")
    noticed = words("redteam.noticed" if entry["noticed"] else "redteam.unnoticed", status=status)
    tone = "good" if not count else "warn" if entry["noticed"] else "bad"
    named = "" if top is None else _row_title(top["method"], top["score"], words)
    aim = entry.get("aim")
    way = "" if aim is None else words("redteam.way", way=aim["way"], method=words.name("methods", aim["method"]))
    return Scene(entry, _title(entry, words), kept, (count, len(rows)), top, named, noticed, tone, way)


def _row_title(method: str, score: str, words: Words) -> str:
    return f"{words.name('methods', method)}, {words.name('scores', score)}"


def lines(result: Result) -> list[list[str]]:
    """One line an attack, as the command line shows it."""
    words = Words()
    found = []
    for entry in played(result):
        one = scene(entry, words)
        moved = "" if one.strongest is None else number(one.strongest["likeness"])
        count, total = one.redrawn
        found.append([one.title, one.promise, f"{count} of {total}", one.strongest_title, moved, one.noticed])
    return found


def attack_page(folder: Path, result: Result) -> str:
    """The page of a finished red team: it needs no network and no script.

    Args:
        folder: where the audits of the model and of its copies lie.
        result: the content of attack.json.

    Returns:
        HTML, as one document.
    """
    words = Words()
    own = Store.open(folder / result["own"]["folder"])
    shown = []
    for entry in played(result):
        one = scene(entry, words)
        store = Store.open(folder / entry["folder"])
        shown.append(Scene(**{**vars(one), "examples": _examples(own, store, one, words)}))
    return (
        templates()
        .get_template("attack.html.j2")
        .render(
            w=words,
            v=result,
            headline=headline(result, words),
            tone=max((one.tone for one in shown), key=("good", "warn", "bad").index, default="none"),
            scenes=shown,
            unplayed=[(_title(one, words), one["undefined"]) for one in result["scenarios"] if one["undefined"]],
            ramp=", ".join("rgb({} {} {})".format(*colour) for colour in RAMP[::51]),
        )
    )


def _examples(own: Store, store: Store, one: Scene, words: Words) -> tuple[Example, ...]:
    """The first few images on which the strongest row has maps before and after."""
    row = one.strongest
    if row is None:
        return ()
    plan, twins = own.verdict()["plan"]["digest"], store.verdict()["plan"]["digest"]
    keys = [(row["method"], score) for score in dict.fromkeys((row["score"], CONTROL))]
    found: list[Example] = []
    for result in own.results(plan):
        if len(found) == SHOWN:
            break
        before, after = own.maps(plan, result.item.name), store.maps(twins, result.item.name)
        if isinstance(before.get(keys[0], Undefined("")), Undefined):
            continue
        sights = tuple(
            Sight(
                _row_title(*key, words), *(_drawn(maps.get(key), key[0], result.thumbnail) for maps in (before, after))
            )
            for key in keys
        )
        photo = None if result.thumbnail is None else photograph(result.thumbnail)
        found.append(Example(result.item.name, photo, sights))
    return tuple(found)


def _drawn(maps: Any, method: str, thumbnail: bytes | None) -> str | None:
    return None if maps is None or isinstance(maps, Undefined) else overlay(thumbnail, method, maps).uri
