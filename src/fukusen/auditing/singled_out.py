"""Whose likeness before and after softmax tells something, and which images it is worth a person's time for."""

from __future__ import annotations

from collections.abc import Mapping

from fukusen.auditing.evidence import Evidence, Numbers
from fukusen.methods import is_homogeneous, methods

CHECK = "score_disagreement"


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


def singled_out(groups: Mapping[str, Numbers], bound: float, share: float) -> list[str]:
    """The images with a number below the bound, the worst first, to this share of the images and one at least.

    On some honest networks some methods' numbers fall below any fixed bound on half of the images: a queue of them all
    would be of no use.

    Args:
        groups: numbers of images, by method.
        bound: what is out of it may be called.
        share: of the images, from 0 to 1.

    Returns:
        Names.

    Example:
        >>> singled_out({"grad_cam": {"a": 0.2, "b": 0.1, "c": 0.9}}, 0.3, 0.05)
        ['b']
    """
    worst: Numbers = {}
    for numbers in groups.values():
        worst.update({item: min(value, worst.get(item, value)) for item, value in numbers.items() if value < bound})
    room = max(1, int(share * len({item for numbers in groups.values() for item in numbers})))
    return sorted(worst, key=lambda name: (worst[name], name))[:room]
