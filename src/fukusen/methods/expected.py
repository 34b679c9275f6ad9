"""Integrated gradients from many baseline images at once: expected gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fukusen.arrays import Images
from fukusen.errors import require
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.methods.paths import sum_over
from fukusen.scores import Score
from fukusen.tape import Tape

Baselines = Literal["noise", "shuffled"]


@methods.register
@dataclass(frozen=True)
class ExpectedGradients:
    """Expected gradients (GradientSHAP): integrated gradients, averaged over baseline images drawn at random.

    Each sample draws a baseline and one point on the line from it to the image, in another piece of the line each time.
    A map sums to the score less its mean over the baselines, up to the sampling error. The draws follow from the seed,
    so all images meet the same noise. Source: erion2021expected, lundberg2017shap.

    Args:
        samples: how many baselines, at least 1.
        baselines: what is drawn: ``noise``, normal around zero in preprocessed units; or ``shuffled``, the image's own
            pixels in another order, which keep its colours and lose its shapes.
        spread: standard deviation of the noise, above 0; preprocessed photographs have about 1.
        seed: of the draws.
    """

    samples: int = 16
    baselines: Baselines = "noise"
    spread: float = 1.0
    seed: int = 0
    name: ClassVar[str] = "expected_gradients"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "path"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "erion2021expected"
    cost: ClassVar[str] = "1 forward and 3 backward passes for each sample"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        counted = isinstance(self.samples, int) and self.samples >= 1
        require(counted, "ExpectedGradients", "samples", "an int >= 1", self.samples)
        drawn = self.baselines in get_args(Baselines)
        require(drawn, "ExpectedGradients", "baselines", "'noise' or 'shuffled'", self.baselines)
        require(self.spread > 0, "ExpectedGradients", "spread", "a number > 0", self.spread)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w), in units of the score."""
        images = tape.batch.images.to(tape.classifier.device, tape.classifier.dtype)

        def points() -> Iterator[tuple[Images, Images]]:
            for along, start in self.draws(images):
                yield (images - start) / self.samples, start + along * (images - start)

        return [total.sum(dim=1) for total in sum_over(tape.classifier, tape.targets, points(), scores)]

    def draws(self, images: Images) -> Iterator[tuple[float, Images]]:
        """What is drawn for these images: how far along the line, 0 to 1, and the baselines (b, c, h, w)."""
        source = np.random.default_rng(self.seed)
        for number in range(self.samples):
            along = (number + source.random()) / self.samples
            yield along, self._drawn(images, source)

    def _drawn(self, images: Images, source: np.random.Generator) -> Tensor:
        if self.baselines == "shuffled":
            order = torch.from_numpy(source.permutation(images[0, 0].numel())).to(images.device)
            return images.flatten(2)[:, :, order].reshape(images.shape)
        noise = source.standard_normal(images.shape[1:], dtype=np.float32)
        return (self.spread * torch.from_numpy(noise)).to(images).expand_as(images)
