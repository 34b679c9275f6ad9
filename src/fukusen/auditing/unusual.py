"""Images on which a model's numbers are unusual beside those of a clean sample of the same model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fukusen.auditing.reference import FEWEST, LEVEL, Reference, groups
from fukusen.auditing.significance import conformal, discoveries
from fukusen.auditing.suspicions import Case, priority_of
from fukusen.records import Finding

# By check: whether larger is worse, and what the number is, in words.
_LOOKED_AT = {
    "shift_share": (True, "the part of the gradient that all logits share is {value:.3g} of what tells them apart"),
    "score_disagreement": (False, "the {method} heatmaps before and after softmax have a likeness of {value:.2f}"),
    "track_contradiction": (False, "the rank correlation of the heatmaps with hiding parts is {value:.2f}"),
}


@dataclass(frozen=True)
class _Seen:
    """One number of one image beside the reference's."""

    check: str
    item: str
    group: tuple[str, str]
    value: float
    p: float
    images: int


def unusual(case: Case, reference: Reference, known: Collection[Finding]) -> Iterator[Finding]:
    """Images that stand out from the reference's, at most one in twenty of them by chance.

    The same model on other images gives numbers from one distribution, so that their ranks are p-values; of all numbers
    of all images those are called for which the false discovery rate is bounded.

    Args:
        case: the audit's numbers.
        reference: an audit of the same model on a clean sample.
        known: what is a finding already.
    """
    told = {(one.check, one.item, one.method) for one in known}
    seen = list(_seen(case, reference))
    for one, called in zip(seen, discoveries([one.p for one in seen], LEVEL), strict=True):
        method = one.group[0] or None
        if not called or (one.check, one.item, method) in told:
            continue
        said = _LOOKED_AT[one.check][1].format(value=one.value, method=method)
        claim = (
            f"{said[0].upper()}{said[1:]}, further out than on nearly all of the {one.images} images of the reference "
            f"(p = {one.p:.2g}; of such images, at most {100 * LEVEL:g}% are expected to be chance)."
        )
        facts = {"p": one.p, "reference_images": one.images, "layer": one.group[1] or None}
        bound = _edge(reference, one)
        yield Finding(
            one.check, "image", "low", one.value, bound, claim, one.item, method, None, priority_of("low", 0.0), facts
        )


def _seen(case: Case, reference: Reference) -> Iterator[_Seen]:
    for check, (larger_is_worse, _) in _LOOKED_AT.items():
        theirs = groups(reference.evidence, check)
        for group, numbers in groups(case.evidence, check).items():
            honest = sorted(theirs.get(group, {}).values())
            if len(honest) < FEWEST:
                continue
            for item, value in numbers.items():
                p = conformal(value, honest, larger_is_worse=larger_is_worse)
                yield _Seen(check, item, group, value, p, len(honest))


def _edge(reference: Reference, one: _Seen) -> float:
    """The reference's own number that is furthest out."""
    numbers = groups(reference.evidence, one.check)[one.group].values()
    return max(numbers) if _LOOKED_AT[one.check][0] else min(numbers)
