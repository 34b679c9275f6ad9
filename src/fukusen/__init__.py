"""fukusen (複線): verification of image classifiers' heatmaps on two tracks.

The face of the library: its names are found in ``fukusen.verbs`` when they are first used, so that a report opens and a
store is read without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fukusen.verbs import (
        Audit,
        RedTeam,
        attack,
        audit,
        compare,
        explain,
        list_agreements,
        list_attacks,
        list_checks,
        list_methods,
        list_scores,
        load,
        red_team,
        repair,
        wrap,
    )

__all__ = [
    "Audit",
    "RedTeam",
    "attack",
    "audit",
    "compare",
    "explain",
    "list_agreements",
    "list_attacks",
    "list_checks",
    "list_methods",
    "list_scores",
    "load",
    "red_team",
    "repair",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("fukusen.verbs"), name)
    raise AttributeError(f"module 'fukusen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
