"""What a reader of a comparison must know besides its numbers: other heads, other names, other layers, a shift."""

from __future__ import annotations

from collections.abc import Iterator

from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.comparison import Gauge
from fukusen.models import Classifier


def remarks(reference: Classifier, candidate: Classifier, gauges: tuple[Gauge, Gauge]) -> Iterator[str]:
    """What is worth a sentence.

    Args:
        reference: the first model.
        candidate: the second, of as many classes.
        gauges: what hides in the logits of each.
    """
    if reference.head.kind != candidate.head.kind:
        yield (
            f"The reference's outputs are read as {reference.head.kind}, the candidate's as {candidate.head.kind}: "
            "probabilities are compared, and maps only of scores that are the same number in both."
        )
    yield from _names(reference.classes, candidate.classes)
    yield from _layers(reference, candidate)
    yield from _shifts(len(reference.classes), gauges)


def _names(first: tuple[str, ...], second: tuple[str, ...]) -> Iterator[str]:
    if first == second or (_unnamed(first) and _unnamed(second)):
        return
    if _unnamed(first) or _unnamed(second):
        whose = "reference" if _unnamed(first) else "candidate"
        yield f"The {whose}'s classes have no names: classes are compared by their place."
        return
    other = [place for place, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]]
    order = ", in another order" if sorted(first) == sorted(second) else ""
    yield (
        f"{len(other)} of {len(first)} class names differ{order}, such as {first[other[0]]!r} and "
        f"{second[other[0]]!r} for class {other[0]}: classes are compared by their place."
    )


def _unnamed(names: tuple[str, ...]) -> bool:
    return all(name == f"class {place}" for place, name in enumerate(names))


def _layers(reference: Classifier, candidate: Classifier) -> Iterator[str]:
    first, second = reference.layer, candidate.layer
    if first is not None and second is not None and first.shape != second.shape:
        one, other = (" x ".join(str(side) for side in layer.shape) for layer in (first, second))
        yield (
            f"Class activation maps are read at {first} ({one}) in the reference and at {second} ({other}) in the "
            "candidate; where rows and columns differ, they are compared on the coarser grid."
        )


def _shifts(classes: int, gauges: tuple[Gauge, Gauge]) -> Iterator[str]:
    """A number added to every logit of one of them."""
    bound = bounds_for(classes)["shift_share"].value
    for place, (role, gauge) in enumerate(zip(("reference", "candidate"), gauges, strict=True)):
        large = {name: share for name, share in gauge.shares.items() if isinstance(share, float) and share > bound}
        if not large:
            continue
        name, share = max(large.items(), key=lambda pair: pair[1])
        others = [value for value in gauges[1 - place].shares.values() if isinstance(value, float)]
        against = f" (the other's: at most {max(others):.2g})" if others else ""
        where = "at the pixels" if name == "input" else f"at {name}"
        yield (
            f"In the {role}, a number that is added to every logit weighs {share:.3g} times as much {where} as what "
            f"tells the classes apart{against}. It changes no prediction and can draw anything into a heatmap of a "
            "logit; fukusen repair takes it away."
        )
