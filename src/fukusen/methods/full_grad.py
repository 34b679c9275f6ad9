"""A score taken apart into what the input and what every step of the network adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.arrays import Batch, Maps, Scales
from fukusen.methods.biases import Biases, BiasShares
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import INPUT
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape


def _along(cells: int, pixels: int) -> Tensor:
    """How much of each of so many cells in a row goes to each of so many pixels, shape (cells, pixels).

    Bilinear, as in the paper, but scaled so that each cell gives away exactly what it has.
    """
    each = torch.eye(cells, dtype=torch.float64)[:, None]
    if cells > pixels:
        weights = torch.nn.functional.adaptive_avg_pool1d(each, pixels)
    else:
        weights = torch.nn.functional.interpolate(each, pixels, mode="linear", align_corners=False)
    return (weights / weights.sum(dim=2, keepdim=True))[:, 0]


def spread(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Maps (b, h, w) enlarged to so many rows and columns, each with the sum that it had."""
    down, across = (_along(*sides).to(maps) for sides in zip(maps.shape[1:], (rows, columns), strict=True))
    return torch.einsum("bhw,hi,wj->bij", maps, down, across)


@methods.register
@dataclass(frozen=True)
class FullGrad:
    """FullGrad: input times gradient, and every step's bias times its gradient, at the place where it enters.

    A step h of the network adds h(x) - J x, what it does beyond its derivative: the bias of a convolution, the shift of
    a batch norm with its running mean, the height at which a ReLU6 cuts, and nothing for a ReLU. With these, input and
    biases add up to the logits whatever the network is, as the paper shows; where they do not, or a step cannot be
    seen, there is no map. Biases behind the pooling have no place and are in none. Signed and unscaled, where the paper
    takes magnitudes layer by layer and stretches each to the range from 0 to 1. Undefined, too, where a step's output
    is not laid out in rows and columns with the channels first. Source: srinivas2019fullgrad.
    """

    name: ClassVar[str] = "full_grad"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "gradient"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "srinivas2019fullgrad"
    cost: ClassVar[str] = "1 forward pass that looks at every step, and 3 backward passes"
    fits: ClassVar[str] = "convolutional networks whose every step can be seen"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution; a logit's sums to it, less the biases without a place."""
        if not scores:
            return []
        biases = Biases(len(tape.batch.images))
        own = Tape(tape.classifier, Batch(tape.batch.items, tape.batch.images, tape.targets), layers=())
        with biases:
            _ = own.logits
        if biases.reason is not None:
            return [Undefined(biases.reason)] * len(scores)
        made: dict[Score, Maps | Undefined] = {}
        found: list[Explained] = []
        for score in scores:
            direction, scale = tape.factors(score)
            if direction not in made:
                made[direction] = _taken_apart(own, biases, direction)
            maps = made[direction]
            if direction == score or isinstance(maps, Undefined):
                found.append(maps)
            else:
                found.append(maps * scale.to(maps.dtype)[:, None, None])
        return found


def _taken_apart(tape: Tape, biases: Biases, direction: Score) -> Maps | Undefined:
    """The map of one direction, or why its parts are not all there."""
    with biases.shared() as shares:
        gradients = tape.direction_gradient(direction, INPUT)
    images = tape.batch.images.to(gradients)
    total = (images * gradients).double().sum(dim=1)
    whole = (tape.cotangent(direction).double() * tape.logits.double()).sum(dim=1)
    reason = _missing(total.sum(dim=(1, 2)), shares, whole, gradients.dtype)
    if reason is not None:
        return Undefined(reason)
    for part in shares.placed.values():
        total = total + spread(part, *total.shape[1:])
    return total.to(gradients.dtype)


def _missing(of_input: Scales, shares: BiasShares, whole: Scales, dtype: torch.dtype) -> str | None:
    """Why the parts are not the whole, if they are not: within the rounding that so many parts of such a size have."""
    total = of_input + shares.total
    size = of_input.abs() + shares.size + whole.abs()
    off = (total - whole).abs()
    if bool((off <= torch.finfo(dtype).eps ** 0.5 * size).all()):
        return None
    worst = int((off / size).argmax())
    return (
        f"input and biases add up to {float(total[worst]):.4g} where the logits make {float(whole[worst]):.4g}, "
        "so that some step of the network was not seen"
    )
