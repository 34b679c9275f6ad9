"""The probability of the explained class while cells of a grid are hidden; the same picture is never asked twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from fukusen.methods.behaviour import images_of
from fukusen.methods.fills import Fill, hiding
from fukusen.scores import Probability, value_of
from fukusen.tape import Tape

Order = Int[Tensor, "cells"]
Kept = Bool[Tensor, "cells"]


class Behaviour:
    """What a network makes of its images when only some cells of each are kept; every picture is looked at once.

    Args:
        tape: the pass that says which classes are explained.
        grid: rows and columns of the cells.
        fill: what stands where nothing is kept.
        seed: of the noise.
    """

    def __init__(self, tape: Tape, grid: int, fill: Fill, seed: int) -> None:
        self.tape = tape
        self.grid = grid
        self.shown = hiding(images_of(tape), fill, seed)
        whole = torch.ones(grid * grid, dtype=torch.bool)
        self._known: dict[tuple[int, bytes], float] = {
            (number, _key(whole)): value for number, value in enumerate(tape.value(Probability()).tolist())
        }

    def look(self, wanted: Sequence[Iterable[Kept]]) -> None:
        """Ask for all that is not known yet: image by image, in as few batches as the longest list has pictures."""
        waiting = [self._new(number, kept) for number, kept in enumerate(wanted)]
        for turn in range(max((len(one) for one in waiting), default=0)):
            numbers = [number for number, one in enumerate(waiting) if turn < len(one)]
            self._ask(numbers, [waiting[number][turn] for number in numbers])

    def knows(self, number: int, kept: Kept) -> bool:
        """Whether this picture was looked at."""
        return (number, _key(kept)) in self._known

    def probability(self, number: int, kept: Kept) -> float:
        """The probability of an image's class, 0 to 1, while only these of its cells are seen; it was looked at."""
        return self._known[number, _key(kept)]

    def _new(self, number: int, wanted: Iterable[Kept]) -> list[Kept]:
        found = {_key(kept): kept for kept in wanted}
        return [kept for key, kept in found.items() if (number, key) not in self._known]

    def _ask(self, numbers: Sequence[int], kept: Sequence[Kept]) -> None:
        model, targets = self.tape.classifier, self.tape.targets
        images = self.shown.images
        cells = torch.stack(list(kept)).reshape(-1, 1, self.grid, self.grid).to(images)
        keep = images.new_ones(len(images), *images.shape[2:])
        keep[numbers] = interpolate(cells, images.shape[2:], mode="nearest")[:, 0]
        logits = model.logits(self.shown.through(keep)[numbers])
        values = value_of(Probability(), model.head, logits, targets[numbers]).tolist()
        for number, one, value in zip(numbers, kept, values, strict=True):
            self._known[number, _key(one)] = value


def _key(kept: Kept) -> bytes:
    return kept.numpy().tobytes()


def counts_of(cells: int, share: float, steps: int) -> list[int]:
    """How many cells are taken at each step: a share of them, and evenly on from there towards all.

    Example:
        >>> counts_of(49, 0.2, 1), counts_of(49, 0.2, 4)
        ([10], [10, 20, 29, 39])
    """
    parts = [share + (1 - share) * step / steps for step in range(steps)]
    return sorted({min(cells, max(1, round(cells * part))) for part in parts})


def hidden_first(order: Order, count: int) -> Kept:
    """The cells that are kept while the first ``count`` of an order are hidden."""
    kept = torch.ones(len(order), dtype=torch.bool)
    kept[order[:count]] = False
    return kept


def chance_orders(grid: int, count: int, seed: int) -> list[Order]:
    """Orders by chance: in turn cell by cell, and in patches as large as the bright parts of heatmaps.

    Patches are what a map's cells must be held against: as many cells, and neighbours of each other.
    """
    chance = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        noise = torch.randn(1, 1, grid, grid, generator=chance, dtype=torch.float64)
        field = avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False) if number % 2 and grid > 2 else noise
        found.append(field.flatten().argsort(descending=True, stable=True))
    return found
