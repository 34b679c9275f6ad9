"""Whether the network takes pictures with hidden parts for another population, and answers them as another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Images
from fukusen.checks.check import Sight, checks
from fukusen.errors import require
from fukusen.methods.behaviour import images_of
from fukusen.methods.fills import Fill, Keep, hiding, require_fill
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import LogOdds, value_of
from fukusen.tape import Tape

Part = Literal["half", "square"]
Response = Callable[[Tensor], Tensor]
Numbers = Float[Tensor, "b"]
GRID = 7
# Cells of the grid; enough of the middle of a picture that something goes, and no more than occlusion hides.
_SQUARE = slice(2, 5)
# Log-odds; what moves less says nothing of how it moved.
_LEAST = 1.0
# How many roundings of the largest logit the response must be worth, so that none of them looks like a leap.
_ROUNDINGS = 200.0
UNMOVED = Undefined("the prediction hardly moves when a part of the picture fades away, so no leap could be seen")


@checks.register
@dataclass(frozen=True)
class PerturbationAwareness:
    """Which part of the answer's change comes in one leap while a part of the picture fades away, by image and part.

    The fill is mixed in little by little. The log-odds of a network that was trained on pictures go along: within a
    small step they move little. A network that looks for hidden parts, and answers as another one where it sees some,
    leaps where it begins to see them, however small the step. The leap is sought by halving the way, each time going
    on with the half in which more happens. Two parts fade: half of the cells by chance, as LIME, SHAP and RISE hide
    them, and a square in the middle, as occlusion does. Source: slack2020fooling, carmichael2023unfooling.

    Args:
        halvings: of the way from the picture to the filled one, at least 1; 10 leave a step of 1/1024 of the way.
        fill: what fades in: ``mean``, ``zero``, ``blur``, ``noise`` or ``inpaint``.
        seed: of the half that fades and of the noise, at least 0.
    """

    halvings: int = 10
    fill: Fill = "mean"
    seed: int = 0
    name: ClassVar[str] = "perturbation_awareness"
    title: ClassVar[str] = "Pictures with hidden parts get no special treatment"
    source: ClassVar[str] = "slack2020fooling"
    meaning: ClassVar[str] = (
        "the share of the log-odds' change that comes in one small step while a part of the picture fades away; near 0 "
        "for a steady answer, 1 for a leap"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    on_sample: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({UNMOVED.reason})

    def __post_init__(self) -> None:
        owner = "PerturbationAwareness"
        require(type(self.halvings) is int and self.halvings >= 1, owner, "halvings", "an int >= 1", self.halvings)
        require_fill(owner, self.fill)
        require(type(self.seed) is int and self.seed >= 0, owner, "seed", "an int >= 0", self.seed)

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One share (0 to 1) for each image and part; undefined where the prediction hardly moves."""
        if sight.tape is None:
            return []
        found = []
        for part in get_args(Part):
            values = self._leaps(sight.tape, part)
            items = zip(sight.tape.batch.items, values, strict=True)
            found += [Measurement(self.name, value, item, against=part) for item, value in items]
        return found

    def _leaps(self, tape: Tape, part: Part) -> list[Value]:
        images, model = images_of(tape), tape.classifier
        filled = hiding(images, self.fill, self.seed).through(_kept(part, images, self.seed))
        largest = tape.logits.double().abs().amax(dim=1)

        def response(way: Tensor) -> Tensor:
            nonlocal largest
            share = way.to(images)[:, None, None, None]
            logits = model.logits(images + share * (filled - images))
            largest = torch.maximum(largest, logits.double().abs().amax(dim=1).to(largest))
            return value_of(LogOdds(), model.head, logits, tape.targets)

        leap, span = leap_of(response, tape.value(LogOdds()), self.halvings)
        least = (_ROUNDINGS * torch.finfo(images.dtype).eps * largest).clamp_min(_LEAST)
        told = (span >= least) & span.isfinite()
        pairs = zip(leap.tolist(), span.tolist(), told.tolist(), strict=True)
        return [min(1.0, one / whole) if fine else UNMOVED for one, whole, fine in pairs]


def _kept(part: Part, images: Images, seed: int) -> Keep:
    """1 where the picture stays, 0 where it fades, shape (1, h, w)."""
    if part == "half":
        kept = torch.rand(GRID, GRID, generator=torch.Generator().manual_seed(seed)) < 0.5
    else:
        kept = torch.ones(GRID, GRID, dtype=torch.bool)
        kept[_SQUARE, _SQUARE] = False
    return torch.nn.functional.interpolate(kept[None, None].to(images), images.shape[2:], mode="nearest")[0]


def leap_of(response: Response, start: Numbers, halvings: int) -> tuple[Numbers, Numbers]:
    """How much happens within the liveliest small step of a way from 0 to 1, and between which ends all of it.

    Args:
        response: what is found after the parts (b,) of the way, shape (b,), float64.
        start: the same for 0, where it is known already.
        halvings: how often the way is halved; the step is 1/2^halvings long.

    Returns:
        The change within the step at which the halving ends, and the largest minus the smallest number met; both (b,).

    Example:
        >>> leap, span = leap_of(lambda way: (way > 0.3).double(), torch.zeros(1).double(), halvings=8)
        >>> leap.item(), span.item()
        (1.0, 1.0)
        >>> leap_of(lambda way: way, torch.zeros(1).double(), halvings=8)[0].item() == 1 / 256
        True
    """
    low, high = torch.zeros_like(start), torch.ones_like(start)
    before, after = start, response(high)
    least, most = torch.minimum(before, after), torch.maximum(before, after)
    for _ in range(halvings):
        middle = (low + high) / 2
        found = response(middle)
        least, most = torch.minimum(least, found), torch.maximum(most, found)
        first = (found - before).abs() > (after - found).abs()
        low, high = torch.where(first, low, middle), torch.where(first, middle, high)
        before, after = torch.where(first, before, found), torch.where(first, found, after)
    return (after - before).abs(), most - least
