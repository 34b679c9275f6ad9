"""Images that stand out at a brief look, and what those drawn by chance say of the images that were not looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from scipy.stats import beta

from fukusen.records import Finding

CONFIDENCE = 0.95


def share_between(found: int, of: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson for a share, of which so many in a random sample were found.

    It holds the true share with a probability of at least 95 %, whatever that is. Source: clopper1934use.

    Args:
        found: how many of the sample.
        of: the size of the sample.

    Returns:
        Two numbers from 0 to 1.

    Example:
        >>> [round(edge, 3) for edge in share_between(0, 32)]
        [0.0, 0.109]
    """
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if found == 0 else float(beta.ppf(tail, found, of - found + 1))
    high = 1.0 if found == of else float(beta.ppf(1 - tail, found + 1, of - found))
    return low, high


def estimate(
    compared: Collection[str], followed: Collection[str], audited: Sequence[str], findings: Collection[Finding]
) -> dict[str, Any]:
    """What is known of the images that were looked at briefly, as it stands in audit.json.

    Args:
        compared: the images whose heatmaps were held against behaviour.
        followed: those of them that were because they had stood out; the others were drawn by chance.
        audited: all images.
        findings: those about single images that come of it, whether or not they are listed.

    Returns:
        How many images were drawn, how many followed, how many of the drawn have such a finding, how many were looked
        at briefly only, and between which shares of these may have one; the shares are None where nothing is open.
    """
    drawn = {item for item in audited if item in compared and item not in followed}
    found = {one.item for one in findings} & drawn
    brief = sum(item not in compared for item in audited)
    low, high = share_between(len(found), len(drawn)) if brief and drawn else (None, None)
    return {
        "drawn": len(drawn),
        "followed": sum(item in followed and item in compared for item in audited),
        "found": len(found),
        "brief": brief,
        "low": low,
        "high": high,
        "confidence": CONFIDENCE,
    }
