"""Whose likeness before and after softmax tells something, and which images it is worth a person's time for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fukusen.auditing.evidence import Evidence, Numbers
from fukusen.methods import is_homogeneous, methods
from fukusen.records import Finding

CHECK = "score_disagreement"
DISAGREEMENTS = (CHECK, "track_contradiction")


def likenesses(evidence: Evidence) -> dict[str, Numbers]:
    """By method, how alike its maps before and after softmax are on each image; of the methods that can tell.

    Where a map does not grow with the gradient, as Grad-CAM++'s, a channel counts fully as soon as its gradient is
    above zero: on honest networks too, a faint difference between two scores redraws it. Such a method tells something
    only where no other was measured.

    Args:
        evidence: the measurements.
    """
    groups = {method: numbers for (method,), numbers in evidence.by(CHECK, "method").items()}
    steady = {name: numbers for name, numbers in groups.items() if is_homogeneous(methods.get(name.partition("@")[0]))}
    return steady or groups


def listed(findings: Sequence[Finding], images: int, share: float) -> list[Finding]:
    """Without what is too much: of the images that some map disagrees with another about, the gravest are left.

    On some honest networks some methods' numbers fall below any fixed bound on half of the images: a queue of them all
    would be of no use. Other findings stay; those of one image stay or go together, and their claims count what went.

    Args:
        findings: about single images.
        images: how many were audited.
        share: of them, from 0 to 1, up to which images are listed, and one at least.
    """
    gravest: Numbers = {}
    for one in findings:
        if one.check in DISAGREEMENTS and one.item:
            gravest[one.item] = max(one.priority, gravest.get(one.item, 0.0))
    chosen = sorted(gravest, key=lambda item: (-gravest[item], item))[: max(1, int(share * images))]
    kept = [one for one in findings if one.check not in DISAGREEMENTS or one.item in chosen]
    before, after = (Counter((one.check, one.method) for one in these) for these in (findings, kept))
    return [_counted(one, before[one.check, one.method], after[one.check, one.method]) for one in kept]


def _counted(finding: Finding, before: int, after: int) -> Finding:
    if finding.check not in DISAGREEMENTS:
        return finding
    evidence = {"below": before, **finding.evidence}
    claim = finding.claim
    if before > after:
        claim += (
            f" It is below {finding.bound:.2g} on {before} of {evidence['measured_on']} images; {before - after} are "
            "not listed."
        )
    return replace(finding, claim=claim, evidence=evidence)
