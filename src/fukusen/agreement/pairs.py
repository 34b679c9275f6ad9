"""Every pair of a panel's maps: its numbers, and for each missing number the reason."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from fukusen.arrays import PairValues
from fukusen.records import Undefined, Value

VALUES_AT_ONCE: Final = 2**18
"""How many map values one step holds at once; 2 MB, so that a step stays near the processor's cache."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """What an agreement says about every pair of a panel's maps, image by image.

    Args:
        values: the numbers, shape (m, m, b), float64; 0 where there is none, never NaN.
        causes: int64 of shape (m, m, b): where ``reasons`` says why there is no number, and 0 where there is one.
        reasons: the reasons in plain words; the first is empty and stands for "there is a number".

    Example:
        >>> a = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
        >>> from fukusen.agreement import Spearman
        >>> pairs = Spearman().pairs(torch.stack([a, -a, torch.ones_like(a)]))
        >>> pairs.value(0, 1, image=0), pairs.value(0, 2, image=0)
        (-1.0, Undefined(reason='one of the two maps is constant'))
    """

    values: PairValues
    causes: Tensor
    reasons: tuple[str, ...] = ("",)

    @property
    def defined(self) -> Tensor:
        """Where there is a number: bool of shape (m, m, b)."""
        return self.causes == 0

    def value(self, i: int, j: int, image: int) -> Value:
        """The agreement of maps ``i`` and ``j`` on one image, or the reason why there is none."""
        cause = int(self.causes[i, j, image])
        return Undefined(self.reasons[cause]) if cause else float(self.values[i, j, image])

    def median(self, i: int, j: int) -> Value:
        """The median agreement of maps ``i`` and ``j`` over the images where there is one.

        Undefined when: there is no image, or none with a number; the reason then names every cause met.
        """
        causes = self.causes[i, j]
        if bool((causes == 0).any()):
            return float(statistics.median(self.values[i, j][causes == 0].tolist()))
        met = [self.reasons[cause] for cause in sorted(set(causes.tolist()))]
        return Undefined(f"there is no number for any image: {' or '.join(met)}" if met else "there is no image")


def pairs_of(values: PairValues, *faults: tuple[str, Tensor]) -> Pairs:
    """The pairs, given what may be wrong with each map alone.

    Args:
        values: the numbers, shape (m, m, b); what stands where there is no number does not matter.
        faults: what may be wrong, gravest first: the end of a sentence ("is constant", which becomes "one of the
            two maps is constant" or "both maps are constant") and the bool mask (m, b) of the maps it is true of.

    Returns:
        The pairs; a pair with several faults is given the gravest.
    """
    none = len(faults)
    grades = torch.full(values.shape[1:], none)
    reasons = [""]
    for grade, (ending, mask) in enumerate(faults):
        grades = torch.where(mask & (grades == none), grade, grades)
        reasons += [f"one of the two maps {ending}", f"both maps {ending.replace('is ', 'are ', 1)}"]
    left, right = grades[:, None], grades[None]
    gravest = torch.minimum(left, right)
    causes = torch.where(gravest == none, 0, 2 * gravest + 1 + (left == right))
    return Pairs(values.masked_fill(causes > 0, 0.0), causes, tuple(reasons))


def mirrored(upper: PairValues) -> PairValues:
    """The upper triangle of a (m, m, b) tensor on both sides, so that (i, j) and (j, i) are equal to the last bit."""
    i, j = torch.triu_indices(len(upper), len(upper))
    whole = upper.clone()
    whole[j, i] = upper[i, j]
    return whole


def dot_products(maps: Tensor) -> PairValues:
    """The dot product of every two maps of each image: (m, b, n) in, (m, m, b) out."""
    return mirrored(torch.einsum("ibn,jbn->ijb", maps, maps))


def each_pair(maps: Tensor, measure: Callable[[Tensor, Tensor], Tensor]) -> PairValues:
    """Measure every pair of a panel in bounded memory.

    Args:
        maps: shape (m, b, ...).
        measure: takes two index tensors of length p into ``maps.flatten(0, 1)`` and returns p numbers.

    Returns:
        The numbers, shape (m, m, b), symmetric to the last bit.
    """
    count, images = maps.shape[:2]
    values = maps.new_zeros(count, count, images)
    for i, j, image in _steps(count, images, max(1, VALUES_AT_ONCE // math.prod(maps.shape[2:]))):
        values[i, j, image] = measure(i * images + image, j * images + image)
    return mirrored(values)


def _steps(count: int, images: int, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    i, j = torch.triu_indices(count, count)
    for step in torch.split(torch.arange(len(i) * images), size):
        pair = step // images
        yield i[pair], j[pair], step % images
