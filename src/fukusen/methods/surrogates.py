"""Behaviour alone: parts of the image are hidden together, and a linear model of the score tells what each is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Images, Maps
from fukusen.errors import require
from fukusen.methods.behaviour import Estimate, Estimated, Values, images_of, values_of
from fukusen.methods.coalitions import (
    Drawn,
    Shares,
    Weights,
    coin_flips,
    every_coalition,
    lime_shares,
    shapley_draws,
    shapley_shares,
)
from fukusen.methods.fills import Fill, Hiding, hiding, require_fill
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.methods.superpixels import Labels, Parts, require_parts, superpixels
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

_MOST_FOR_ALL = 16


def _seen(shown: Hiding, labels: Labels, drawn: Sequence[Tensor]) -> Iterator[Images]:
    """The images through one draw after another, each image's own."""
    for number in range(len(drawn[0])):
        yield shown.through(torch.stack([own[number][part] for own, part in zip(drawn, labels, strict=True)]).double())


def _counts(labels: Labels) -> list[int]:
    """How many parts each image has."""
    return [int(part.max()) + 1 for part in labels]


def _columns(values: Sequence[Values]) -> Float[Tensor, "b n s"]:
    """The scores' values side by side, in float64 on the processor."""
    return torch.stack([one.cpu().double() for one in values], dim=2)


def _laid_out(tape: Tape, labels: Labels, shares: Sequence[Shares]) -> list[Estimated]:
    """For each score the maps (b, h, w) on which each pixel has its part's number."""
    model = tape.classifier

    def drawn_up(found: Sequence[Tensor], score: int) -> Maps:
        cells = [one[:, score][part] for one, part in zip(found, labels, strict=True)]
        return torch.stack(cells).to(model.dtype).to(model.device)

    estimates: list[Estimated] = []
    for score in range(shares[0].values.shape[1]):
        errors = [one.errors for one in shares]
        told = next((one for one in errors if isinstance(one, Undefined)), None)
        known = [one for one in errors if not isinstance(one, Undefined)]
        error = drawn_up(known, score) if told is None else told
        estimates.append(Estimate(drawn_up([one.values for one in shares], score), error))
    return estimates


def _maps(estimates: Sequence[Estimated]) -> list[Explained]:
    """The maps without their errors."""
    return [one if isinstance(one, Undefined) else one.maps for one in estimates]


@methods.register
@dataclass(frozen=True)
class Lime:
    """LIME: a linear model of the score, fitted to images with parts hidden at random, those most like the image first.

    A part's number is the fitted change of the score when it is shown rather than hidden. Every part is kept with
    chance one half; draws are weighed by exp(-d^2/(2 width^2)), d the cosine distance from the whole image, and the
    ridge regression keeps all parts, where the paper keeps a few. Draws are the same for every score, and for every
    image with as many parts; fewer draws are the first of more. Source: ribeiro2016lime.

    Args:
        samples: how many draws, at least 2; the whole image is one more.
        segments: how many parts, at least 2; about as many by ``slic``, and no more by ``cells``.
        parts: ``cells`` of a grid, or ``slic``, superpixels along the image's edges (needs scikit-image).
        fill: what is seen where a part is hidden: ``mean``, the image's own mean colour; ``zero`` in preprocessed
            units; ``blur``, ``noise`` or ``inpaint``.
        width: of the kernel in cosine distance, above 0.
        penalty: of the ridge regression, above 0.
        seed: from which the draws follow, and the noise.
    """

    samples: int = 512
    segments: int = 49
    parts: Parts = "cells"
    fill: Fill = "mean"
    width: float = 0.25
    penalty: float = 1.0
    seed: int = 0
    name: ClassVar[str] = "lime"
    track: ClassVar[Track] = "outer"
    family: ClassVar[Family] = "perturbation"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "ribeiro2016lime"
    cost: ClassVar[str] = "1 forward pass for each sample"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(type(self.samples) is int and self.samples >= 2, "Lime", "samples", "an int >= 2", self.samples)
        require(type(self.segments) is int and self.segments >= 2, "Lime", "segments", "an int >= 2", self.segments)
        require_parts("Lime", self.parts)
        require_fill("Lime", self.fill)
        require(self.width > 0, "Lime", "width", "a number > 0", self.width)
        require(self.penalty > 0, "Lime", "penalty", "a number > 0", self.penalty)
        require(type(self.seed) is int and self.seed >= 0, "Lime", "seed", "an int >= 0", self.seed)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, constant on each part, in units of the score."""
        return _maps(self.estimates(tape, scores))

    def estimates(self, tape: Tape, scores: Sequence[Score]) -> list[Estimated]:
        """The maps, each with its standard error; no forward pass more than the maps take.

        The error is what other draws would change; it falls with the square root of their number.
        """
        images = images_of(tape)
        labels = superpixels(images, self.segments, self.parts)
        if isinstance(labels, Undefined):
            return [labels] * len(scores)
        if not scores:
            return []
        drawn = [torch.stack(list(islice(coin_flips(count, self.seed), self.samples))) for count in _counts(labels)]
        seen = _columns(values_of(tape, scores, _seen(hiding(images, self.fill, self.seed), labels, drawn)))
        whole = _columns([tape.value(score)[:, None] for score in scores])
        shares = [
            lime_shares(torch.cat([torch.ones_like(own[:1]), own]), values, self.width, self.penalty)
            for own, values in zip(drawn, torch.cat([whole, seen], dim=1), strict=True)
        ]
        return _laid_out(tape, labels, shares)


@methods.register
@dataclass(frozen=True)
class KernelShap:
    """KernelSHAP: each part's Shapley value, its share of the score's fall when the whole image is hidden.

    Estimated by a weighted regression on images with parts hidden together, under the constraint that the shares add up
    exactly to the score less that of the hidden image. Draws come as often as the Shapley kernel weighs them, each with
    its opposite (covert2021improving); they are the same for every score, and for every image with as many parts; fewer
    draws are the first of more. With all draws the values are exact. Source: lundberg2017shap.

    Args:
        samples: how many draws, at least 2; None for every one of the 2^segments - 2, for 16 parts at most.
        segments: how many parts, at least 2; about as many by ``slic``, and no more by ``cells``.
        parts: ``cells`` of a grid, or ``slic``, superpixels along the image's edges (needs scikit-image).
        fill: what is seen where a part is hidden: ``mean``, the image's own mean colour; ``zero`` in preprocessed
            units; ``blur``, ``noise`` or ``inpaint``.
        seed: from which the draws follow, and the noise.
    """

    samples: int | None = 512
    segments: int = 49
    parts: Parts = "cells"
    fill: Fill = "mean"
    seed: int = 0
    name: ClassVar[str] = "kernel_shap"
    track: ClassVar[Track] = "outer"
    family: ClassVar[Family] = "perturbation"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "lundberg2017shap"
    cost: ClassVar[str] = "1 forward pass for each sample, and 1 more"
    fits: ClassVar[str] = "any network"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        owner = "KernelShap"
        counted = self.samples is None or (type(self.samples) is int and self.samples >= 2)
        require(counted, owner, "samples", "an int >= 2, or None for all", self.samples)
        require(type(self.segments) is int and self.segments >= 2, owner, "segments", "an int >= 2", self.segments)
        few = self.samples is not None or self.segments <= _MOST_FOR_ALL
        require(few, owner, "segments", f"at most {_MOST_FOR_ALL} where samples is None", self.segments)
        require_parts(owner, self.parts)
        require_fill(owner, self.fill)
        require(type(self.seed) is int and self.seed >= 0, owner, "seed", "an int >= 0", self.seed)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, constant on each part, in units of the score."""
        return _maps(self.estimates(tape, scores))

    def estimates(self, tape: Tape, scores: Sequence[Score]) -> list[Estimated]:
        """The maps, each with its standard error; no forward pass more than the maps take.

        The error is what other draws would change: it falls with the square root of their number, and is zero with all.
        """
        images = images_of(tape)
        labels = superpixels(images, self.segments, self.parts)
        if isinstance(labels, Undefined):
            return [labels] * len(scores)
        if not scores:
            return []
        drawn, weights = self._drawn(_counts(labels))
        shown = hiding(images, self.fill, self.seed)
        # Nothing kept comes first.
        asked = [torch.cat([torch.zeros_like(own[:1]), own]) for own in drawn]
        seen = _columns(values_of(tape, scores, _seen(shown, labels, asked)))
        whole = _columns([tape.value(score)[:, None] for score in scores])
        ends = torch.cat([seen[:, :1], whole], dim=1)
        shares = [
            shapley_shares(own, weight, values[1:], end)
            for own, weight, values, end in zip(drawn, weights, seen, ends, strict=True)
        ]
        return _laid_out(tape, labels, shares)

    def _drawn(self, counts: Sequence[int]) -> tuple[list[Tensor], list[Weights | None]]:
        """For each image its draws, as many for all, and their weights; what is added for that weighs nothing."""
        if self.samples is not None:
            return [self._draws(count, self.samples) for count in counts], [None] * len(counts)
        require(max(counts) <= _MOST_FOR_ALL, "KernelShap", "segments", "fewer where samples is None", max(counts))
        every = [every_coalition(count) for count in counts]
        most = max(len(drawn) for drawn, _ in every)

        def filled(own: Tensor) -> Tensor:
            return torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])

        return [filled(drawn) for drawn, _ in every], [filled(weight) for _, weight in every]

    def _draws(self, parts: int, samples: int) -> Drawn:
        return torch.stack(list(islice(shapley_draws(parts, self.seed), samples)))
