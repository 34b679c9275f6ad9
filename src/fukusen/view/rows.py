"""The panel as a table: scores of a method that were judged alike share a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fukusen.view.words import Words


@dataclass(frozen=True)
class PanelRow:
    """One method in the scores for which everything else on its row is the same.

    Args:
        method: as people write it.
        resolution: rows and columns of its maps; None where they are not known beforehand.
        scores: likewise, in one line.
        verdict: ``sound``, ``exposed``, ``manipulated``, ``unreliable``, or None where it was not judged.
        reasons: of the verdict, or why there is no map.
        leak: the shift leak; None where it was not measured.
        track: as people write it.
        family: likewise.
        images: on how many it was measured.
        source: the key of the paper.
    """

    method: str
    resolution: Sequence[int] | None
    scores: str
    verdict: str | None
    reasons: str
    leak: float | None
    track: str
    family: str
    images: int
    source: str


def panel_rows(panel: Sequence[Mapping[str, Any]], words: Words) -> list[PanelRow]:
    """The rows of the verdict's panel, those of one method that differ in nothing but the score made one."""
    shared: dict[tuple[Any, ...], list[str]] = {}
    for row in panel:
        told = [words("panel.undefined", reason=row["undefined"])] if row["undefined"] else []
        key = (
            words.name("methods", row["method"]),
            tuple(row.get("resolution") or ()) or None,
            row["verdict"],
            " ".join([*told, "; ".join(row["reasons"])]).strip(),
            row["shift_leak"],
            words.name("tracks", row["track"]),
            words.name("families", row["family"]),
            row["measured_on"],
            row["source"],
        )
        shared.setdefault(key, []).append(words.name("scores", row["score"]))
    return [PanelRow(key[0], key[1], words.listing(scores), *key[2:]) for key, scores in shared.items()]
