"""Two models run on the same pictures: probabilities, maps in every score, and what hides in their logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fukusen.agreement import Cosine, Ssim, compare
from fukusen.agreement.reading import READ
from fukusen.arrays import Batch, Images, Logits, Targets
from fukusen.auditing.bounds import Bound, comparison_bounds
from fukusen.auditing.comparison import Answer, Comparison, Gauge, Row
from fukusen.auditing.engine import WIDEST
from fukusen.auditing.facts import facts_of
from fukusen.auditing.insides import same_code, weights_of
from fukusen.auditing.panel import panel_of
from fukusen.auditing.remarks import remarks
from fukusen.checks import Sight
from fukusen.checks.shift import HeadMeanRow, ShiftShare
from fukusen.errors import DataError, ModelError
from fukusen.methods import Explained, Method, layers_of
from fukusen.models import Classifier
from fukusen.models.classifier import NO_GRADIENT
from fukusen.records import Undefined, Value
from fukusen.scores import Score, shift_leak
from fukusen.tape import Tape
from fukusen.twins import Promise

Key = tuple[str, str]
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Pair:
    """Some pictures as both models see them.

    Args:
        names: of the pictures.
        reference: preprocessed for the reference, (b, c, h, w).
        candidate: preprocessed for the candidate.
        failures: why others could not be read, by name.
    """

    names: tuple[str, ...]
    reference: Images
    candidate: Tensor
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two models; ``blind`` says why there are no gradients of it."""

    role: str
    model: Classifier
    blind: str = ""

    def tape(self, names: tuple[str, ...], images: Tensor, targets: Targets | None, methods: Sequence[Method]) -> Tape:
        usable = self.usable(methods)
        at_input = not self.blind and any(method.at_input for method in usable)
        layers = () if self.blind else layers_of(usable, self.model)
        return Tape(self.model, Batch(names, images, targets), layers=layers, at_input=at_input)

    def usable(self, methods: Sequence[Method]) -> list[Method]:
        """The methods that need no gradients, where there are none."""
        return [method for method in methods if not self.blind or method.track == "outer"]

    def maps(self, tape: Tape, methods: Sequence[Method], scores: Sequence[Score]) -> dict[Key, Explained]:
        made = dict(panel_of(tape, self.usable(methods), scores).made)
        why = Undefined(f"the {self.role} lets no gradient through")
        return {(one.name, score.name): made.get((one.name, score.name), why) for one in methods for score in scores}


@dataclass(eq=False)
class _RowTally:
    """What has been found so far about one method and score."""

    cosine: list[Value] = field(default_factory=list)
    ssim: list[Value] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    one_sided: int = 0
    grids: tuple[tuple[int, int], tuple[int, int]] | None = None
    lacking: str | None = None

    def add(self, names: Sequence[str], maps: tuple[Tensor | Undefined, Tensor | Undefined], reading: str) -> None:
        first, second = maps
        if isinstance(first, Undefined) or isinstance(second, Undefined):
            self.lacking = first.reason if isinstance(first, Undefined) else second.reason  # type: ignore[union-attr]
            return
        self.grids = (first.shape[1], first.shape[2]), (second.shape[1], second.shape[2])
        one, other = _on_one_grid(first.double().cpu(), second.double().cpu())
        empty = [(each == 0).flatten(1).all(dim=1) for each in (one, other)]
        self.one_sided += int((empty[0] != empty[1]).sum())
        self.cosine += compare(Cosine(), one, other)
        self.ssim += compare(Ssim(), *(_seen(each, reading) for each in (one, other)))
        self.items += names

    def row(self, key: Key, *, leaks: bool) -> Row:
        return Row(
            *key,
            cosine=tuple(self.cosine),
            ssim=tuple(self.ssim),
            items=tuple(self.items),
            one_sided=self.one_sided,
            grids=self.grids,
            lacking=self.lacking,
            leaks=leaks,
        )


def _leaks(score: Score) -> bool:
    """Whether a number added to every logit can move maps of the score; seen at logits that are not special."""
    return abs(float(shift_leak(score, torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0])))) > _LEAST


def _on_one_grid(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Signed maps on the coarser of both grids, averaged by areas."""
    rows, columns = (min(first.shape[axis], second.shape[axis]) for axis in (1, 2))
    return adaptive_avg_pool2d(first, (rows, columns)), adaptive_avg_pool2d(second, (rows, columns))


def _seen(maps: Tensor, reading: str) -> Tensor:
    """Maps as people see them, no finer than they are stored."""
    return adaptive_avg_pool2d(READ[reading](maps), (min(WIDEST, maps.shape[1]), min(WIDEST, maps.shape[2])))


@dataclass(eq=False)
class _Tally:
    """What has been found so far; nothing of it grows with the size of a map."""

    sides: tuple[_Side, _Side]
    methods: Sequence[Method]
    scores: Sequence[Score]
    bounds: Mapping[str, Bound]
    rows: dict[Key, _RowTally] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    variation: float = 0.0
    flips: int = 0
    shares: tuple[dict[str, list[Value]], dict[str, list[Value]]] = field(default_factory=lambda: ({}, {}))
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, pair: Pair) -> None:
        """One batch, through both models."""
        self.failures.update(pair.failures)
        if not pair.names:
            return
        tapes = self._tapes(pair)
        good = [tape.logits.isfinite().all(dim=1).cpu() for tape in tapes]
        for side, fine in zip(self.sides, good, strict=True):
            why = f"the {side.role} returns NaN or infinite numbers for it"
            self.failures.update({name: why for name, one in zip(pair.names, fine.tolist(), strict=True) if not one})
        both = good[0] & good[1]
        if not bool(both.all()):
            names = tuple(name for name, one in zip(pair.names, both.tolist(), strict=True) if one)
            self.add(Pair(names, pair.reference[both], pair.candidate[both]))
            return
        self._outputs(pair.names, tapes[0].logits, tapes[1].logits)
        self._maps(pair.names, tapes)
        self._gauges(tapes)

    def _tapes(self, pair: Pair) -> tuple[Tape, Tape]:
        """The forward pass of each; both are explained for the classes that the reference predicts."""
        first = self.sides[0].tape(pair.names, pair.reference, None, self.methods)
        targets = first.logits.argmax(dim=1)
        return first, self.sides[1].tape(pair.names, pair.candidate, targets, self.methods)

    def _outputs(self, names: Sequence[str], first: Logits, second: Logits) -> None:
        logits = zip(self.sides, (first, second), strict=True)
        was, now = (side.model.probabilities(found).cpu() for side, found in logits)
        change = (was - now).abs()
        self.variation += float(change.sum(dim=1).sum() / 2)
        self.flips += int((was.argmax(dim=1) != now.argmax(dim=1)).sum())
        told = zip(
            names, was.argmax(dim=1).tolist(), now.argmax(dim=1).tolist(), change.amax(dim=1).tolist(), strict=True
        )
        for name, one, other, largest in told:
            classes = self.sides[0].model.classes[one], self.sides[1].model.classes[other]
            self.answers.append(Answer(name, *classes, largest, one != other))

    def _maps(self, names: Sequence[str], tapes: tuple[Tape, Tape]) -> None:
        pairs = zip(self.sides, tapes, strict=True)
        first, second = (side.maps(tape, self.methods, self.scores) for side, tape in pairs)
        for method in self.methods:
            for score in self.scores:
                key = method.name, score.name
                why = self._incomparable(score)
                maps = (first[key], second[key]) if why is None else (why, why)
                self.rows.setdefault(key, _RowTally()).add(names, maps, method.reading)

    def _incomparable(self, score: Score) -> Undefined | None:
        """Why a score is not the same number in both models."""
        free = [side.model.head.shift_is_free for side in self.sides]
        if free[0] == free[1] or not _leaks(score):
            return None
        return Undefined("one model returns logits and the other probabilities, whose logits are other numbers")

    def _gauges(self, tapes: tuple[Tape, Tape]) -> None:
        for side, tape, shares in zip(self.sides, tapes, self.shares, strict=True):
            if side.blind or ShiftShare().applies(side.model) is not None:
                continue
            for found in ShiftShare().measure(Sight(side.model, tape, {}, {})):
                shares.setdefault(str(found.layer), []).append(found.value)

    def outputs(self) -> Promise:
        """The probabilities over all images."""
        count = len(self.answers)
        largest = max(answer.change for answer in self.answers)
        tolerance = self.bounds["same_probabilities"].value
        return Promise(tolerance, largest, self.flips, count, self.variation / count)


def compared(
    reference: Classifier,
    candidate: Classifier,
    pairs: Iterable[Pair],
    panel: tuple[Sequence[Method], Sequence[Score]],
    preprocessing: tuple[str, bool],
) -> Comparison:
    """Everything about two models side by side, from one forward pass of each and the passes that the panel needs.

    Args:
        reference: the model that is known; its predicted classes are explained in both.
        candidate: the model that is held against it.
        pairs: the pictures, as both see them.
        panel: methods and scores.
        preprocessing: how pictures were made inputs, in one sentence, and whether that is the same for both by right.

    Raises:
        DataError: no image could be used.
    """
    sides, tally = None, None
    bounds = comparison_bounds()
    for pair in pairs:
        if sides is None and pair.names:
            sides = _side("reference", reference, pair.reference), _side("candidate", candidate, pair.candidate)
        if tally is None:
            tally = _Tally(sides or (_Side("reference", reference), _Side("candidate", candidate)), *panel, bounds)
        tally.sides = sides or tally.sides
        tally.add(pair)
    if tally is None or not tally.answers:
        name, why = next(iter(tally.failures.items() if tally else ()), ("the list", "it is empty"))
        raise DataError(f"None of the images can be used. {name}: {why}.")
    return _comparison(tally, preprocessing)


def _side(role: str, model: Classifier, images: Tensor) -> _Side:
    """A model, and whether it can be differentiated, found on one image."""
    try:
        _ = Tape(model, Batch(("probe",), images[:1])).capture
    except ModelError as error:
        if str(error) not in (NO_GRADIENT, model.gradientless):
            raise
        return _Side(role, model, str(error))
    return _Side(role, model)


def _comparison(tally: _Tally, preprocessing: tuple[str, bool]) -> Comparison:
    first, second = (side.model for side in tally.sides)
    leaking = {score.name for score in tally.scores if _leaks(score)}
    rows = tuple(found.row(key, leaks=key[1] in leaking) for key, found in tally.rows.items())
    gauges = _gauge(tally.sides[0], tally.shares[0]), _gauge(tally.sides[1], tally.shares[1])
    blind = [f"The {side.role}: {side.blind}" for side in tally.sides if side.blind]
    return Comparison(
        reference=facts_of(first),
        candidate=facts_of(second),
        identical=first.digest == second.digest and preprocessing[1] and first.head.kind == second.head.kind,
        outputs=tally.outputs(),
        answers=tuple(tally.answers),
        rows=rows,
        gauges=gauges,
        weights=weights_of(first.net, second.net),
        same_code=same_code(first.net, second.net),
        preprocessing=preprocessing[0],
        failures=tally.failures,
        notes=(*blind, *remarks(first, second, gauges)),
        bounds=tally.bounds,
    )


def _gauge(side: _Side, shares: Mapping[str, Sequence[Value]]) -> Gauge:
    check = HeadMeanRow()
    reason = check.applies(side.model)
    measured = [] if reason is not None else check.measure(Sight(side.model, None, {}, {}))
    row = reason or (measured[0].value if measured else Undefined("no last linear layer was found"))
    return Gauge(row, {place: _middle(values) for place, values in shares.items()})


def _middle(values: Sequence[Value]) -> Value:
    numbers = [value for value in values if isinstance(value, float)]
    if not numbers:
        return next((value for value in values if isinstance(value, Undefined)), Undefined("there is no image"))
    return float(torch.tensor(numbers, dtype=torch.float64).median())
