"""A changed copy of a model or of its images, with a promise that was checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from fukusen.arrays import Images, Logits
from fukusen.errors import DataError
from fukusen.models import Classifier

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is done)."""


@dataclass(frozen=True)
class Promise:
    """How well a twin keeps the predictions of what it was made from, as measured.

    Args:
        tolerance: the largest change of any probability that was promised.
        largest_change: the largest change of any probability that was found, 0 to 1.
        flips: how many predicted classes changed.
        images: on how many images it was measured.
        total_variation: half the sum of the probabilities' changes, averaged over the images, 0 or larger.
        flips_allowed: the largest share of predicted classes that may change, 0 to 1.
    """

    tolerance: float
    largest_change: float
    flips: int
    images: int
    total_variation: float = 0.0
    flips_allowed: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the promise held."""
        return self.flips <= self.flips_allowed * self.images and self.largest_change <= self.tolerance


@dataclass(frozen=True, eq=False, kw_only=True)
class Twin(Classifier):
    """A changed model, to be explained like any other.

    Args:
        promise: what was promised about its predictions, and what was measured.
    """

    promise: Promise


@dataclass(frozen=True, eq=False)
class AlteredImages:
    """Changed images for the same model.

    Args:
        images: preprocessed, shape (b, c, h, w).
        distance: how far any pixel of them is from its original, in preprocessed units.
        budget: how far it was allowed to be.
        promise: what was promised about their predictions, and what was measured.
    """

    images: Images = field(repr=False)
    distance: float
    budget: float
    promise: Promise


def measured(
    before: tuple[Classifier, Images], after: tuple[Classifier, Images], tolerance: float, flips_allowed: float = 0.0
) -> Promise:
    """The promise of a twin, measured on some images.

    Args:
        before: the model and the images (b, c, h, w) as they were.
        after: what was made of them.
        tolerance: the largest change of any probability that is promised.
        flips_allowed: the largest share of predicted classes that may change.

    Raises:
        DataError: the predictions for some image are not finite numbers, before or after.
    """
    logits = [model.logits(images) for model, images in (before, after)]
    _require_finite(logits)
    was, now = (model.probabilities(one) for (model, _), one in zip((before, after), logits, strict=True))
    change = (was.double() - now.double()).abs()
    return Promise(
        tolerance=tolerance,
        largest_change=float(change.max()),
        flips=int((was.argmax(dim=1) != now.argmax(dim=1)).sum()),
        images=len(before[1]),
        total_variation=float(change.sum(dim=1).mean() / 2),
        flips_allowed=flips_allowed,
    )


def _require_finite(logits: list[Logits]) -> None:
    for whose, one in zip(("model", "changed copy"), logits, strict=True):
        good = torch.isfinite(one).all(dim=1)
        if not bool(good.all()):
            count = int((~good).sum())
            raise DataError(
                f"The {whose} returns NaN or infinite numbers for {count} of {len(one)} images, so its predictions "
                "cannot be compared. Leave those images out, or use a smaller strength."
            )


def twin_of(model: Classifier, changed: Classifier, images: Images, tolerance: float, flips: float = 0.0) -> Twin:
    """A changed model as a twin, its promise measured on some images.

    Args:
        model: what it was made from.
        changed: the changed copy.
        images: preprocessed, shape (b, c, h, w).
        tolerance: the largest change of any probability that is promised.
        flips: the largest share of predicted classes that may change.
    """
    promise = measured((model, images), (changed, images), tolerance, flips)
    parts = (changed.net, changed.head, changed.classes, changed.layer, changed.input_shape)
    return Twin(*parts, changed.preprocess, changed.spec, changed.notes, promise=promise)
