"""Heatmaps that agree on a trusted model and contradict each other here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fukusen.auditing.engine import AGREEMENT
from fukusen.auditing.evidence import Evidence, Numbers, middle
from fukusen.auditing.reference import FEWEST, Reference
from fukusen.auditing.suspicions import Case
from fukusen.methods import methods
from fukusen.records import Finding

FEWEST_PAIRS = 10
_TAIL = 0.05
Pair = tuple[str, str]


@dataclass(frozen=True)
class _Apart:
    """Two rows of the panel that agree less than they do on the reference."""

    pair: Pair
    typical: float
    reference: float
    shortfall: float


def estranged_findings(case: Case, reference: Reference) -> Iterator[Finding]:
    """One finding about the model, where many pairs of heatmaps agree less than they do on the reference.

    A pair counts where its rank correlation on the typical image is below that of nineteen in twenty of the reference's
    images. Retraining moves few pairs so far; training that bends one method's heatmaps moves that method away from
    all the others, in whichever score it was bent. Only methods without passes of their own count: every image has
    their maps, and nothing in them is drawn by chance, as in SmoothGrad's, which honest seeds move most.

    Args:
        case: the audit's numbers, and the bound on the share of pairs.
        reference: a trusted model like this one.
    """
    ours, theirs = _pairs(case.evidence), _pairs(reference.evidence)
    shared = [pair for pair in theirs if pair in ours]
    if len(shared) < FEWEST_PAIRS:
        return
    apart = [found for pair in shared if (found := _apart(pair, ours[pair], theirs[pair])) is not None]
    bound, share = case.bounds["estranged_pairs"].value, len(apart) / len(shared)
    if share <= bound:
        return
    worst = max(apart, key=lambda one: one.shortfall)
    involved = Counter(method for one in apart for method in {row.rpartition("/")[0] for row in one.pair})
    method, count = involved.most_common(1)[0]
    told = (
        f"On the typical image, {len(apart)} of {len(shared)} pairs of heatmaps agree less than they do on nineteen in "
        f"twenty images of the reference (bound {100 * bound:.2g}% of the pairs). {method} is in {count} of them. "
        f"Furthest apart are {_named(worst.pair[0])} and {_named(worst.pair[1])}: rank correlation "
        f"{worst.typical:.2f}, and {worst.reference:.2f} on the reference. Heatmaps that tell one story of the trusted "
        "model contradict each other here."
    )
    facts = {"pairs": len(apart), "measured_on": len(shared), "most": method}
    yield Finding("agreement", "model", "medium", share, bound, told, method=method, priority=0.8, evidence=facts)


def _pairs(evidence: Evidence) -> dict[Pair, Numbers]:
    """The agreement of every two rows of single-pass methods, image by image; of enough images."""
    return {
        (f"{method}/{score}", against): numbers
        for (method, score, against), numbers in evidence.by(AGREEMENT, "method", "score", "against").items()
        if len(numbers) >= FEWEST and _is_single(method) and _is_single(against.rpartition("/")[0])
    }


def _is_single(method: str) -> bool:
    return methods.get(method.partition("@")[0]).single_pass


def _apart(pair: Pair, ours: Numbers, theirs: Numbers) -> _Apart | None:
    typical, usual = middle(ours), middle(theirs)
    low = float(np.quantile(list(theirs.values()), _TAIL))
    if typical is None or usual is None or typical >= low:
        return None
    return _Apart(pair, typical, usual, low - typical)


def _named(row: str) -> str:
    method, _, score = row.rpartition("/")
    return f"{method} of the {score.replace('_', '-')}"
