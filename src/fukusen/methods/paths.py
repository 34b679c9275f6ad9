"""Gradients averaged over many images: along a path, or in a cloud of noise; all scores share the points."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from fukusen.arrays import Batch, Images, Maps
from fukusen.errors import require
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import INPUT
from fukusen.scores import Score
from fukusen.tape import Tape


def _sum_over(tape: Tape, points: Iterator[tuple[float, Images]], scores: Sequence[Score]) -> list[torch.Tensor]:
    """The weighted sums of the input gradients over the points, one (b, c, h, w) tensor for each score."""
    totals: list[torch.Tensor] = []
    for weight, images in points:
        local = Tape(tape.classifier, Batch(tape.batch.items, images, tape.targets), layers=())
        parts = [weight * local.gradient(score, INPUT) for score in scores]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    return totals


@methods.register
@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients: the score's change along a straight line from a baseline image, shared out to the pixels.

    The line is sampled at Gauss-Legendre points. Source: sundararajan2017ig.

    Args:
        steps: how many points on the line, at least 1.
        baseline: every preprocessed pixel of the image it starts from; 0 is the mean colour for most networks.
    """

    steps: int = 16
    baseline: float = 0.0
    name: ClassVar[str] = "integrated_gradients"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "path"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "sundararajan2017ig"
    cost: ClassVar[str] = "1 forward and 3 backward passes for each step"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(
            isinstance(self.steps, int) and self.steps >= 1, "IntegratedGradients", "steps", "an int >= 1", self.steps
        )

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w), in units of the score; each sums to the score's change, up to the sampling error."""
        images = tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)
        away = images - self.baseline
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        points = (
            (weight / 2, self.baseline + away * (node + 1) / 2) for node, weight in zip(nodes, weights, strict=True)
        )
        return [torch.einsum("bchw,bchw->bhw", away, total) for total in _sum_over(tape, points, scores)]


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

        found: list[Maps] = [total.sum(dim=1) for total in _sum_over(tape, points(), scores)]
        return list(found)

    def _source(self, image: torch.Tensor) -> np.random.Generator:
        pixels = image.detach().cpu().float().contiguous().numpy().tobytes()
        return np.random.default_rng([self.seed, zlib.crc32(pixels)])
