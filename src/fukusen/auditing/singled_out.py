"""Which of the images below a bound are worth a person's time, where a network falls below it often."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import quantiles

from fukusen.auditing.evidence import Numbers

FEWEST = 4


def fence(numbers: Numbers, reach: float) -> float:
    """The value below which a number is far from all the others: so many quartile ranges below the lower quartile.

    Up to a quarter of the numbers can lie anywhere and leave it where it is. Source: tukey1977exploratory.

    Args:
        numbers: by image.
        reach: in quartile ranges.

    Returns:
        Infinity where there are too few numbers to tell.

    Example:
        >>> fence({"a": 0.5, "b": 0.75, "c": 0.75, "d": 1.0, "e": 1.0}, 1.5)
        0.375
    """
    if len(numbers) < FEWEST:
        return float("inf")
    low, _, high = quantiles(numbers.values(), n=4, method="inclusive")
    return low - reach * (high - low)


def singled_out(groups: Mapping[str, Numbers], bound: float, *, reach: float, share: float) -> list[str]:
    """The images with a number below the bound that stand out on this network, and else the worst of them.

    On some honest networks some methods' numbers fall below any fixed bound on half of the images: nothing is told of
    an image by that. An image is called where its number is far from those of the other images; the queue is then
    filled up with the worst, to this share of the images and one at least.

    Args:
        groups: numbers of images, by method.
        bound: what is out of it may be called.
        reach: how far is far, in quartile ranges.
        share: of the images, from 0 to 1.

    Returns:
        Names, those that stand out first.
    """
    worst: Numbers = {}
    called: dict[str, None] = {}
    for numbers in groups.values():
        far = fence(numbers, reach)
        below = {item: value for item, value in numbers.items() if value < bound}
        worst.update({item: min(value, worst.get(item, value)) for item, value in below.items()})
        called.update(dict.fromkeys(item for item, value in below.items() if value < far))
    room = max(1, int(share * len({item for numbers in groups.values() for item in numbers})))
    for item in sorted(worst, key=lambda name: (worst[name], name)):
        if len(called) < room:
            called[item] = None
    return list(called)
