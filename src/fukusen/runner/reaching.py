"""How far attacks that have an aim of their own came towards it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fukusen.attacks import Aiming, Attack
from fukusen.methods import methods
from fukusen.pictures import weight_of
from fukusen.records import Undefined

Stored = Mapping[tuple[str, str], npt.NDArray[np.float32] | Undefined]


def reached(attack: Attack, pairs: Sequence[tuple[Stored, Stored]]) -> dict[str, Any] | None:
    """How far the maps that an attack is after moved, as it stands in attack.json.

    A map that has changed is not yet the map that the attacker wanted: any training changes maps.

    Args:
        attack: what was played.
        pairs: for each image its stored maps before and after.

    Returns:
        The method, the attack's own measure of each score's maps before and after (median over the images), the number
        that is enough for it, and which part of the way it came with the score that lags behind, 0 to 1; None where the
        attack has no aim, or where its maps are not in the panel.
    """
    if not isinstance(attack, Aiming):
        return None
    reading = methods.get(attack.bends).reading
    scores = []
    for score in attack.scores:
        both = [(before.get((attack.bends, score)), after.get((attack.bends, score))) for before, after in pairs]
        known = [(a, b) for a, b in both if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)]
        if not known:
            return None
        was, now = (
            torch.from_numpy(np.stack([weight_of(reading, one) for one in side])) for side in zip(*known, strict=True)
        )
        before, after = (median(attack.reached(maps, was).tolist()) for maps in (was, now))
        scores.append({"score": score, "before": before, "after": after})
    ways = [(one["after"] - one["before"]) / max(attack.enough - one["before"], 1e-9) for one in scores]
    return {"method": attack.bends, "scores": scores, "enough": attack.enough, "way": min(1.0, max(0.0, min(ways)))}
