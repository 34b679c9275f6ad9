"""Whether the prediction depends on what a heatmap shows: its cells are hidden, or nothing else is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from fukusen.agreement import heatmaps
from fukusen.checks.check import Sight, checks
from fukusen.checks.hiding_cells import Behaviour, Kept, Order, chance_orders, counts_of, hidden_first
from fukusen.errors import require
from fukusen.methods.fills import Fill, require_fill
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined

Rows = Literal["log_odds", "all"]
Orders = list[Order | Undefined]
Row = tuple[str | None, str]
Heats = dict[tuple[str, str], Tensor]
DELETION, INSERTION = "deletion", "insertion"
NECESSITY, SUFFICIENCY = "necessity", "sufficiency"
LOW, HIGH = "low", "high"
EMPTY = Undefined("the heatmap is empty or not finite")
TOO_SMALL = Undefined("the image has fewer pixels a side than the grid has cells")
# Heatmaps in proportion to each other have the same order although they were rounded apart.
_LEVELS = 1e6


@checks.register
@dataclass(frozen=True)
class Faithfulness:
    """How much faster than by chance the probability falls when a map's hottest cells are hidden first, by row.

    Of each map two curves are drawn: the probability of the explained class while the hottest cells are hidden one
    part after another (deletion), and while nothing but them is seen (insertion). What is told is the area between the
    curve and those of orders by chance, which all maps of an image share: half of them take single cells, half take
    patches as a heatmap's bright parts are. The fall when the hottest fifth is hidden says how necessary it is, what is
    left when nothing else is seen, how sufficient. No picture is looked at twice, so scores whose maps put cells in
    the same order cost nothing more. Numbers without a method are the consensus of the inner track's maps.
    Source: petsiuk2018rise, samek2017evaluating.

    Args:
        grid: cells a side, at least 2.
        share: of the cells that are taken first, above 0 and below 1; the necessity and the sufficiency are theirs.
        steps: of each curve between its ends, at least 1; ``share=1/49, steps=48`` is one cell after another.
        orders: by chance, at least 2.
        rows: ``log_odds``: other scores are measured where they put the cells in the same order; ``all``: always.
        fill: what stands where cells are hidden: ``mean``, ``zero``, ``blur``, ``noise`` or ``inpaint``.
        seed: of the orders and of the noise, at least 0.
    """

    grid: int = 7
    share: float = 0.2
    steps: int = 1
    orders: int = 6
    rows: Rows = "log_odds"
    fill: Fill = "mean"
    seed: int = 0
    name: ClassVar[str] = "faithfulness"
    title: ClassVar[str] = "Hiding what the maps show changes the prediction more than hiding anything else"
    source: ClassVar[str] = "petsiuk2018rise"
    meaning: ClassVar[str] = (
        "how much faster than by chance the probability falls when the cells that the maps find hottest are hidden "
        "first, as the area between the curves; 0 is chance, below 0 other parts matter more"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = False
    on_sample: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({TOO_SMALL.reason})

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for field, least in (("grid", 2), ("steps", 1), ("orders", 2), ("seed", 0)):
            value = getattr(self, field)
            require(type(value) is int and value >= least, owner, field, f"an int >= {least}", value)
        inside = isinstance(self.share, float) and 0 < self.share < 1
        require(inside, owner, "share", "a number above 0 and below 1", self.share)
        require(self.rows in get_args(Rows), owner, "rows", "'log_odds' or 'all'", self.rows)
        require_fill(owner, self.fill)

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """For each image and row two areas (-1 to 1), each with its lowest and highest, a fall and what is left."""
        tape = sight.tape
        heats = {} if tape is None else self._heats(sight)
        if tape is None or not heats:
            return []
        items = tape.batch.items
        if min(tape.batch.images.shape[2:]) < self.grid:
            return [Measurement(self.name, TOO_SMALL, item) for item in items]
        rows: dict[Row, Orders] = {row: [self._order(one) for one in heat] for row, heat in heats.items()}
        rows[None, self._main(heats)] = [self._order(one) for one in self._consensus(sight, heats)]
        chance = chance_orders(self.grid, self.orders, self.seed)
        behaviour = Behaviour(tape, self.grid, self.fill, self.seed)
        paid = [orders for (_, score), orders in rows.items() if self.rows == "all" or score == self._main(heats)]
        asked = [
            [*chance, *(one for one in (row[number] for row in paid) if isinstance(one, Tensor))]
            for number in range(len(items))
        ]
        behaviour.look([self._pictures(orders) for orders in asked])
        return [
            one
            for (method, score), orders in rows.items()
            for number, item in enumerate(items)
            for one in self._told(behaviour, number, orders[number], (item, method, score), chance)
        ]

    def _heats(self, sight: Sight) -> Heats:
        """Each row's maps as heatmaps on the grid, shape (b, grid, grid)."""
        return {
            (name, score): heatmaps([maps], [sight.methods[name].reading], self.grid)[0].double().cpu()
            for (name, score), maps in sight.maps.items()
            if isinstance(maps, Tensor)
        }

    @staticmethod
    def _main(heats: Heats) -> str:
        """The score whose rows are always measured: the log-odds, or the first where there are none."""
        known = [score for _, score in heats]
        return "log_odds" if "log_odds" in known else known[0]

    def _consensus(self, sight: Sight, heats: Heats) -> Tensor:
        """The mean of the inner track's heatmaps in the main score, each with a maximum of one; of all without any."""
        own = {name: heat for (name, score), heat in heats.items() if score == self._main(heats)}
        inner = [heat for name, heat in own.items() if sight.methods[name].track == "inner"]
        scaled = []
        for heat in inner or own.values():
            top = heat.amax(dim=(1, 2), keepdim=True)
            scaled.append(torch.where(top > 0, heat / top, torch.zeros_like(heat)))
        return torch.stack(scaled).mean(dim=0)

    def _order(self, heat: Tensor) -> Order | Undefined:
        top = float(heat.max())
        if not bool(heat.isfinite().all()) or top <= 0:
            return EMPTY
        # Cells that are equally hot, as all that are zero, come in an order by chance, not row by row.
        ties = torch.randperm(heat.numel(), generator=torch.Generator().manual_seed(self.seed))
        level = (heat.flatten() / top * _LEVELS).round()[ties]
        return ties[level.argsort(descending=True, stable=True)]

    @property
    def _counts(self) -> list[int]:
        return counts_of(self.grid**2, self.share, self.steps)

    def _pictures(self, orders: Sequence[Order]) -> Iterator[Kept]:
        yield torch.zeros(self.grid**2, dtype=torch.bool)
        for order in orders:
            for count in self._counts:
                kept = hidden_first(order, count)
                yield kept
                yield ~kept

    def _told(
        self,
        behaviour: Behaviour,
        number: int,
        order: Order | Undefined,
        about: tuple[str, str | None, str],
        chance: Sequence[Order],
    ) -> Iterator[Measurement]:
        if isinstance(order, Undefined):
            yield Measurement(self.name, order, *about, DELETION)
            return
        if not all(behaviour.knows(number, kept) for kept in self._pictures([order])):
            return
        own, others = self._areas(behaviour, number, order), [self._areas(behaviour, number, one) for one in chance]
        for kind, sign, place in ((DELETION, -1, 0), (INSERTION, 1, 1)):
            apart = [sign * (own[place] - other[place]) for other in others]
            yield Measurement(self.name, fmean(apart), *about, kind)
            yield Measurement(self.name, min(apart), *about, f"{kind}/{LOW}")
            yield Measurement(self.name, max(apart), *about, f"{kind}/{HIGH}")
        yield from self._top(behaviour, number, order, about, chance)

    def _areas(self, behaviour: Behaviour, number: int, order: Order) -> tuple[float, float]:
        """The areas under an order's deletion and insertion curves, each 0 to 1, by the trapezoidal rule."""
        counts = [0, *self._counts, len(order)]
        kept = [hidden_first(order, count) for count in counts]
        deleted = [behaviour.probability(number, one) for one in kept]
        inserted = [behaviour.probability(number, ~one) for one in kept]
        return _area(counts, deleted), _area(counts, inserted)

    def _top(
        self,
        behaviour: Behaviour,
        number: int,
        order: Order,
        about: tuple[str, str | None, str],
        chance: Sequence[Order],
    ) -> Iterator[Measurement]:
        """How far the probability falls without the hottest cells, and what it is with nothing else."""
        count = self._counts[0]
        whole = behaviour.probability(number, hidden_first(order, 0))

        def pair(one: Order) -> tuple[float, float]:
            kept = hidden_first(one, count)
            return whole - behaviour.probability(number, kept), behaviour.probability(number, ~kept)

        own, others = pair(order), [pair(one) for one in chance]
        for kind, place in ((NECESSITY, 0), (SUFFICIENCY, 1)):
            yield Measurement(self.name, own[place], *about, kind)
            apart = [own[place] - other[place] for other in others]
            yield Measurement(self.name, min(apart), *about, f"{kind}/{LOW}")
            yield Measurement(self.name, max(apart), *about, f"{kind}/{HIGH}")


def _area(counts: Sequence[int], values: Sequence[float]) -> float:
    pairs = zip(zip(counts, values, strict=True), zip(counts[1:], values[1:], strict=False), strict=False)
    return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairs) / counts[-1]
