"""Gradients averaged over many images: along a path, or in a cloud of noise; all scores share the points."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fukusen.arrays import Batch, Gradients, Images, Maps, Scales, Targets
from fukusen.errors import require
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import INPUT, Classifier
from fukusen.scores import Score, value_of
from fukusen.tape import Tape

_FIRST = 8


def sum_over(
    classifier: Classifier, targets: Targets, points: Iterable[tuple[Images | float, Images]], scores: Sequence[Score]
) -> list[Gradients]:
    """The weighted sums of the input gradients over the points, one (b, c, h, w) tensor for each score.

    Args:
        classifier: the model.
        targets: the class that is explained for each image.
        points: weights and images, one weight for all or a (b, 1, 1, 1) or (b, c, h, w) tensor of them.
        scores: what is differentiated; proportional ones share their backward passes.
    """
    items = tuple(str(number) for number in range(len(targets)))
    totals: list[torch.Tensor] = []
    for weight, images in points:
        local = Tape(classifier, Batch(items, images, targets), layers=())
        parts = [weight * local.gradient(score, INPUT) for score in scores]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    return totals


def changes(tape: Tape, scores: Sequence[Score], baseline: float = 0.0) -> list[Scales]:
    """By how much each score of an image exceeds its baseline image's: for each score shape (b,), float64.

    Args:
        tape: the images' forward pass.
        scores: what is measured, each for the image's own target.
        baseline: every preprocessed pixel of the baseline image; it costs one forward pass of one image.
    """
    model = tape.classifier
    start = torch.full((1, *model.input_shape), baseline, device=model.device, dtype=model.dtype)
    logits = model.logits(start).expand_as(tape.logits)
    head = model.head
    return [tape.value(score) - value_of(score, head, logits, tape.targets) for score in scores]


def completeness_error(maps: Maps, change: Scales) -> Scales:
    """How far each map is from adding up to the change that it shares out, relative to the larger of the two.

    Args:
        maps: of one score, shape (b, h, w), in its units.
        change: the score's change from the baseline image, as ``changes`` gives it.

    Returns:
        Shape (b,), float64, from 0 (complete) to 2 (the opposite); 0 where nothing changes and the map is empty.

    Example:
        >>> completeness_error(torch.full((1, 2, 2), 0.75), torch.tensor([4.0])).item()
        0.25
    """
    total = maps.double().sum(dim=(1, 2))
    size = torch.maximum(total.abs(), change.abs().double())
    return (total - change).abs() / torch.where(size > 0, size, 1.0)


@methods.register
@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients: the score's change along a straight line from a baseline image, shared out to the pixels.

    The line is sampled at Gauss-Legendre points. Without a number of steps each map gets the points that it needs: 8
    and then twice as many again and again, until it adds up to its score's change within the tolerance, or with the
    most steps that are allowed; an image's map of a score then still depends on no other image and score.
    Source: sundararajan2017ig.

    Args:
        steps: how many points on the line, at least 1; None to choose by the completeness error.
        baseline: every preprocessed pixel of the image it starts from; 0 is the mean colour for most networks.
        tolerance: the completeness error that is good enough where ``steps`` is None, above 0.
        max_steps: the most points on the line where ``steps`` is None, at least 8.
    """

    steps: int | None = 16
    baseline: float = 0.0
    tolerance: float = 0.05
    max_steps: int = 128
    name: ClassVar[str] = "integrated_gradients"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "path"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "sundararajan2017ig"
    cost: ClassVar[str] = "1 forward and 3 backward passes for each step"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        counted = self.steps is None or (isinstance(self.steps, int) and self.steps >= 1)
        require(counted, "IntegratedGradients", "steps", "an int >= 1, or None", self.steps)
        require(self.tolerance > 0, "IntegratedGradients", "tolerance", "a number > 0", self.tolerance)
        enough = isinstance(self.max_steps, int) and self.max_steps >= _FIRST
        require(enough, "IntegratedGradients", "max_steps", f"an int >= {_FIRST}", self.max_steps)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w), in units of the score; each sums to the score's change, up to the sampling error."""
        rows = torch.arange(len(tape.targets), device=tape.targets.device)
        if self.steps is not None or not scores:
            return list(self._along(tape, scores, rows, self.steps or _FIRST))
        return list(self._as_needed(tape, scores, rows))

    def _along(self, tape: Tape, scores: Sequence[Score], rows: Tensor, steps: int) -> list[Maps]:
        """The maps of some of the images with this many points."""
        images = tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)[rows]
        away = images - self.baseline
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        points = (
            (weight / 2, self.baseline + away * (node + 1) / 2) for node, weight in zip(nodes, weights, strict=True)
        )
        totals = sum_over(tape.classifier, tape.targets[rows], points, scores)
        return [torch.einsum("bchw,bchw->bhw", away, total) for total in totals]

    def _as_needed(self, tape: Tape, scores: Sequence[Score], rows: Tensor) -> list[Maps]:
        asked = changes(tape, scores, self.baseline)
        shape = (len(rows), *tape.classifier.input_shape[1:])
        found: list[Maps] = [torch.zeros(shape, device=rows.device, dtype=tape.classifier.dtype) for _ in scores]
        wanting = torch.ones(len(scores), len(rows), dtype=torch.bool, device=rows.device)
        steps = _FIRST
        while steps <= self.max_steps and bool(wanting.any()):
            some = rows[wanting.any(dim=0)]
            made = self._along(tape, scores, some, steps)
            for maps, own, change, open_ in zip(made, found, asked, wanting, strict=True):
                # A map that was good enough stays, whatever else needs more points.
                own[some] = torch.where(open_[some][:, None, None], maps, own[some])
                open_[some] &= completeness_error(maps, change[some]) > self.tolerance
            steps *= 2
        return found


@methods.register
@dataclass(frozen=True)
class SmoothGrad:
    """SmoothGrad: the input gradient averaged over noisy copies of the image, summed over the channels.

    The noise of an image follows from its pixels and the seed, so it is the same in any batch.
    Source: smilkov2017smoothgrad.

    Args:
        samples: how many noisy copies, at least 1.
        noise: standard deviation of the noise, as a share of the image's range of values, above 0.
        seed: of the noise.
    """

    samples: int = 8
    noise: float = 0.15
    seed: int = 0
    name: ClassVar[str] = "smooth_grad"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "path"
    reading: ClassVar[Reading] = "magnitude"
    source: ClassVar[str] = "smilkov2017smoothgrad"
    cost: ClassVar[str] = "1 forward and 3 backward passes for each sample"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(
            isinstance(self.samples, int) and self.samples >= 1, "SmoothGrad", "samples", "an int >= 1", self.samples
        )
        require(self.noise > 0, "SmoothGrad", "noise", "a number > 0", self.noise)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w), in score per unit of preprocessed pixel."""
        images = tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)
        spread = self.noise * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
        sources = [self._source(image) for image in tape.batch.images]
        shape = images.shape[1:]

        def points() -> Iterator[tuple[float, Images]]:
            for _ in range(self.samples):
                noise = np.stack([source.standard_normal(shape, dtype=np.float32) for source in sources])
                cloud = torch.from_numpy(noise).to(images)
                yield 1 / self.samples, images + spread[:, None, None, None] * cloud

        return [total.sum(dim=1) for total in sum_over(tape.classifier, tape.targets, points(), scores)]

    def _source(self, image: torch.Tensor) -> np.random.Generator:
        pixels = image.detach().cpu().float().contiguous().numpy().tobytes()
        return np.random.default_rng([self.seed, zlib.crc32(pixels)])
