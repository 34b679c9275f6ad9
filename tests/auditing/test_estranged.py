"""Heatmaps that agree on a trusted model and not here are found beside it, and one method is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.estranged import estranged_findings
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.reference import Reference
from fukusen.auditing.suspicions import Case
from fukusen.records import Finding, Measurement

METHODS = ("grad_cam", "hires_cam", "layer_cam", "gradient")
ROWS = [(method, score) for method in METHODS for score in ("logit", "log_odds")]


def _evidence(
    seed: int, bent: str = "", by: float = 0.0, images: int = 20, rows: Sequence[tuple[str, str]] = ROWS
) -> Evidence:
    """Pairs that agree at 0.9, an image more and the next less, but for those with one method's log-odds map."""
    chance = np.random.default_rng(seed)
    measured = []
    for one, other in combinations(rows, 2):
        off = by if (bent, "log_odds") in (one, other) else 0.0
        measured += [
            Measurement("spearman", 0.9 - off + chance.normal(0, 0.02), str(image), *one, "/".join(other))
            for image in range(images)
        ]
    return Evidence(measured)


def _found(evidence: Evidence, trusted: Evidence) -> list[Finding]:
    reference = Reference("trusted", "demo", "digest", 10, 20, trusted)
    return list(estranged_findings(Case(evidence, bounds_for(10)), reference))


def test_a_method_that_was_bent_is_named_with_how_far() -> None:
    """Seven of the 28 pairs have its map."""
    (found,) = _found(_evidence(1, "layer_cam", 0.5), _evidence(0))
    assert (found.scope, found.severity, found.method) == ("model", "medium", "layer_cam")
    assert found.value == pytest.approx(7 / 28)
    assert found.claim.startswith("On the typical image, 7 of 28 pairs of heatmaps agree less")
    assert "layer_cam is in 7 of them." in found.claim
    assert "layer_cam of the log-odds" in found.claim
    assert re.search(r"rank correlation 0\.(39|4\d), and 0\.(9\d|8[89]) on the reference", found.claim)


def test_nothing_is_said_of_an_honest_model() -> None:
    """Nor where all agree better than on the reference, nor where there is too little to tell."""
    assert _found(_evidence(1), _evidence(0)) == []
    assert _found(_evidence(1, "layer_cam", -0.5), _evidence(0)) == []
    assert _found(_evidence(1, "layer_cam", 0.5, images=5), _evidence(0)) == []
    assert _found(_evidence(1, "layer_cam", 0.5), _evidence(0, images=5)) == []
    assert _found(Evidence([]), _evidence(0)) == []


def test_methods_with_passes_of_their_own_do_not_count() -> None:
    """What SmoothGrad draws by chance moves between honest seeds, and not every image has its maps."""
    rows = [*ROWS, ("smooth_grad", "logit"), ("smooth_grad", "log_odds")]
    assert _found(_evidence(1, "smooth_grad", 0.5, rows=rows), _evidence(0, rows=rows)) == []
    (found,) = _found(_evidence(1, "layer_cam", 0.5, rows=rows), _evidence(0, rows=rows))
    assert found.value == pytest.approx(7 / 28)
