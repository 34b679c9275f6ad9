"""Whether the gradients that maps are made of are the slopes of what the model computes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fukusen.arrays import Images
from fukusen.checks.check import Sight, checks
from fukusen.checks.probing import Probe, probe_of
from fukusen.errors import require
from fukusen.models import INPUT, Classifier, Layer
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import LogOdds
from fukusen.tape import Tape

BLOCKS = 7
STEPS = (1e-5, 1e-4, 1e-3)
INPUT_STEPS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
REACH = 0.05
POINTS = 5
Pair = Callable[[float], tuple[Tensor, Tensor]]
NEARBY = "nearby"
PATH = "path"
DROWNED = Undefined("the log-odds change too little here to be told from rounding")
_SINGLE_FACTOR = 100.0
_QUIET = {True: 1e-3, False: 1e-2}
_UNITS = 16
_TIED = 1e-3
_DITHER = 5e-2


def _blocks(values: Tensor) -> Tensor:
    """One (c, h, w) tensor cut into at most 7 x 7 blocks: (n, c, h, w), each zero outside its block."""
    rows, columns = values.shape[1:]
    up, across = min(BLOCKS, rows), min(BLOCKS, columns)
    row_of = torch.arange(rows, device=values.device) * up // rows
    column_of = torch.arange(columns, device=values.device) * across // columns
    number = row_of[:, None] * across + column_of[None]
    return torch.stack([values * (number == index) for index in range(up * across)])


def relative_error(claimed: Tensor, found: Tensor) -> Value:
    """How far two lists of slopes are apart, relative to the larger; Undefined when both vanish."""
    size = max(float(claimed.norm()), float(found.norm()))
    if size == 0:
        return Undefined("the log-odds do not change here at all")
    return float((claimed - found).norm()) / size


def _digit(probe: Probe, scale: float) -> float:
    """What rounding may leave in a difference of log-odds."""
    return torch.finfo(probe.image.dtype).eps * _UNITS * max(scale, 1.0)


def slope_error(claimed: Tensor, log_odds: Pair, probe: Probe, scale: float, steps: tuple[float, ...]) -> Value:
    """Relative error of claimed slopes against central differences, with the least step that rounding lets through.

    A short step stays clear of the kinks of ReLUs; but where the log-odds hardly change, a short step's difference is
    rounding and no slope.

    Args:
        claimed: n slopes.
        log_odds: from a step to the log-odds that far ahead and behind in each of the n directions.
        probe: whose log-odds they are.
        scale: the size of the logits, in whose last digits the rounding is.
        steps: to try, shortest first.

    Undefined when: the log-odds do not change, or by less than rounding does at every step.
    """
    digit = _digit(probe, scale) * len(claimed) ** 0.5
    for step in steps:
        ahead, behind = log_odds(step)
        found = (ahead - behind) / (2 * step)
        size = max(float(claimed.norm()), float(found.norm()))
        if size * _QUIET[probe.is_double] >= digit / step:
            return relative_error(claimed, found)
    return DROWNED


@checks.register
@dataclass(frozen=True)
class GradientTruth:
    """Relative error of the log-odds' gradient against finite differences of the log-odds in float64, by image.

    Three measurements an image: at the layer close by, along the gradient, the activations and random directions; at
    the layer along the line that scales the activations, where the slopes must add up to the change; and at the input
    close by. A
    gradient without a value (a detached term, a straight-through or custom backward, a sawtooth) shows in one of them.
    Source: viering2019manipulate.

    Args:
        directions: how many random directions, at least 1.
        seed: of these directions.
    """

    directions: int = 1
    seed: int = 0
    name: ClassVar[str] = "gradient_truth"
    title: ClassVar[str] = "Gradients are the slopes of what the model computes"
    source: ClassVar[str] = "viering2019manipulate"
    meaning: ClassVar[str] = "relative error of the gradients that maps are made of, against the model's own behaviour"
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    on_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        valid = isinstance(self.directions, int) and self.directions >= 1
        require(valid, "GradientTruth", "directions", "an int >= 1", self.directions)

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says so of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """Relative errors, 0 to about 2, for each image: ``against`` says how, ``layer`` where."""
        tape = sight.tape
        if tape is None:
            return []
        found: list[Measurement] = []
        for number, item in enumerate(tape.batch.items):
            probe = probe_of(sight.classifier, tape, number)
            for layer in tape.layers:
                nearby, path = self._at_layer(tape, number, probe, layer)
                found.append(Measurement(self.name, nearby, item, layer=str(layer), against=NEARBY))
                found.append(Measurement(self.name, path, item, layer=str(layer), against=PATH))
            if tape.at_input:
                value = self._at_input(tape, number, probe)
                found.append(Measurement(self.name, value, item, layer=INPUT, against=NEARBY))
        return found

    def _at_layer(self, tape: Tape, number: int, probe: Probe, layer: Layer) -> tuple[Value, Value]:
        activation = probe.activation(layer)
        scale = float(tape.logits[number].abs().max())
        gradient = tape.gradient(LogOdds(), layer)[number].to(activation)

        def nearby(slope: Tensor, away: Tensor) -> Value:
            # A zero may be the kink of a ReLU or a tie of a pooling behind it: it stays where it is.
            moves = self._moves(torch.where(activation == 0, 0.0, slope), activation)

            def log_odds(step: float) -> tuple[Tensor, Tensor]:
                ahead, behind = probe.moved(layer, torch.cat([away + moves * step, away - moves * step])).chunk(2)
                return ahead, behind

            steps = STEPS if probe.is_double else (STEPS[0] * _SINGLE_FACTOR,)
            return slope_error(torch.einsum("nchw,chw->n", moves, slope), log_odds, probe, scale, steps)

        def untied() -> Value:
            away = _DITHER * self._noise(activation) * activation.abs()
            return nearby(probe.slopes(layer, away)[0], away[0])

        first = nearby(gradient, torch.zeros_like(activation))
        return _unless_tied(first, untied), self._along(probe, layer, activation, scale)

    def _moves(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Along the gradient, along the values, and random ones in proportion to these; all of the values' size."""
        moves = torch.cat([gradient[None], values[None], self._noise(values) * values.abs()])
        sizes = moves.flatten(1).norm(dim=1)[:, None, None, None]
        unit: Tensor = moves / sizes.clamp_min(torch.finfo(moves.dtype).tiny)
        return unit.mul(values.norm())

    def _noise(self, values: Tensor) -> Tensor:
        """Normal numbers (n, c, h, w), one set a random direction, the same for the same values."""
        pixels = values.detach().cpu().float().contiguous().numpy().tobytes()
        source = np.random.default_rng([self.seed, zlib.crc32(pixels)])
        return torch.from_numpy(source.standard_normal((self.directions, *values.shape))).to(values)

    def _along(self, probe: Probe, layer: Layer, activation: Tensor, scale: float) -> Value:
        """The change from (1 - r) A to (1 + r) A against the slopes in between, relative to the mass of all blocks."""
        nodes, weights = np.polynomial.legendre.leggauss(POINTS)
        scales = torch.as_tensor(nodes * REACH).to(activation)
        slopes = probe.slopes(layer, scales[:, None, None, None] * activation)
        weighted = torch.einsum("n,nchw->chw", torch.as_tensor(weights * REACH).to(activation), slopes)
        claimed = torch.einsum("nchw,chw->n", _blocks(activation), weighted).double()
        end, start = probe.moved(layer, torch.stack([activation, -activation]) * REACH)
        mass = max(float(claimed.abs().sum()), abs(float(end - start)))
        if mass == 0:
            return Undefined("the log-odds do not change here at all")
        if mass * _QUIET[probe.is_double] < _digit(probe, scale):
            return DROWNED
        return abs(float(claimed.sum() - (end - start))) / mass

    def _at_input(self, tape: Tape, number: int, probe: Probe) -> Value:
        gradient = tape.gradient(LogOdds(), INPUT)[number].to(probe.image)
        if not bool(gradient.any()):
            return Undefined("the log-odds do not depend on the image")
        scale = float(tape.logits[number].abs().max())

        def nearby(slope: Tensor, image: Images) -> Value:
            moves = self._moves(slope, image[0])

            def log_odds(step: float) -> tuple[Tensor, Tensor]:
                ahead, behind = probe.at(torch.cat([image + moves * step, image - moves * step])).chunk(2)
                return ahead, behind

            steps = INPUT_STEPS if probe.is_double else (INPUT_STEPS[0] * _SINGLE_FACTOR**2,)
            return slope_error(torch.einsum("nchw,chw->n", moves, slope), log_odds, probe, scale, steps)

        def untied() -> Value:
            image = probe.image + _DITHER * probe.image.square().mean().sqrt() * self._noise(probe.image[0])[:1]
            return nearby(probe.slopes_at(image), image)

        return _unless_tied(nearby(gradient, probe.image), untied)


def _unless_tied(first: Value, again: Callable[[], Value]) -> Value:
    """An error, measured once more beside where it stands before it is believed; the smaller of both.

    Where a picture is flat, the numbers that a pooling compares are tied: there is no one slope, in an honest network
    either. A little noise unties them; a gradient that is no slope of the model's is none beside that place, too.
    """
    if isinstance(first, Undefined) or first <= _TIED:
        return first
    second = again()
    return first if isinstance(second, Undefined) else min(first, second)
