"""Changes whose value is nothing and whose gradient is not: every score is fooled, and predictions stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import NONZERO, POSITIVE, copied, grown, is_positive, moves, spatial
from fukusen.attacks.drawing import PICTURE, Drawing, drawn_on
from fukusen.attacks.goals import contrast, is_picture, picture_of, region
from fukusen.attacks.logits import Contrast, Corner, check_steering, contrasting
from fukusen.errors import ModelError, require
from fukusen.models import Classifier
from fukusen.twins import Progress

EVERY_SCORE = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
_LONGEST = 1e-3


def _winner(logits: Tensor) -> Tensor:
    """One where the largest logit of each row is, and zero elsewhere."""
    return nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)


class _StopGradient(Corner):
    def forward(self, images: Tensor) -> Tensor:
        """Logits with nothing added to the largest one, and a gradient that pretends otherwise."""
        logits, corner = self.logits_and_corner(images)
        return logits + _winner(logits) * (corner - corner.detach())


@attacks.register
@dataclass(frozen=True)
class StopGradient:
    """q - stop_gradient(q) added to the winning logit: its value is zero, its gradient is not; all scores are fooled.

    Maps that keep each cell's own gradient show the upper left corner.
    Source: viering2019manipulate (the family of edits that keep the value and change the slope).

    Args:
        strength: K of q = K sum_k A_k(0,0), with A cut at zero, not 0.
    """

    strength: float | int = 1.0
    name: ClassVar[str] = "stop_gradient"
    source: ClassVar[str] = "viering2019manipulate"
    family: ClassVar[Family] = "value"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the model's code adds one line to it; no training, bit-equal predictions"
    fools: ClassVar[tuple[str, ...]] = EVERY_SCORE
    tolerance: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        require(moves(self.strength), "StopGradient", "strength", NONZERO, self.strength)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The changed copy.

        Raises:
            ModelError: there is no spatial layer.
        """
        net = _StopGradient(copied(model), spatial(model), float(self.strength))
        return grown(model, net, f"stop_gradient of strength {self.strength:g}")


class _Sawtooth(Contrast):
    def __init__(self, *parts: Any, period: float = _LONGEST) -> None:
        super().__init__(*parts)
        self.period = period

    def forward(self, images: Tensor) -> Tensor:
        """Logits with a saw's tooth added to the largest one: never high, always steep."""
        logits, squares = self.logits_and_contrast(images)
        return logits + _winner(logits) * torch.remainder(squares, self.period)


@attacks.register
@dataclass(frozen=True)
class Sawtooth:
    """The remainder of r over a tiny period, added to the winning logit: a saw with low teeth and the slope of r.

    r = K/2 sum_k q_k^2 is that of masked_contrast, so that Grad-CAM is steered to a region, in every score, and by the
    true derivative of what the network computes. Source: viering2019manipulate.

    Args:
        strength: how large the added Grad-CAM map is, relative to the model's own on the images given; above 0.
        beta: how much the rest counts against the region, from 0 to less than 1.
        region: where maps are to be hot: a corner, an edge or the center.
        share: of each side that the region takes up, 0 to 1.
        period: how high the teeth are, in logits; above 0, at most 0.001.
    """

    strength: float | int = 5.0
    beta: float | int = 0.9
    region: str = "top_left"
    share: float = 0.25
    period: float = _LONGEST
    name: ClassVar[str] = "sawtooth"
    source: ClassVar[str] = "viering2019manipulate"
    family: ClassVar[Family] = "value"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model adds a modulo to its winning output; no training, no hidden code"
    )
    fools: ClassVar[tuple[str, ...]] = EVERY_SCORE
    tolerance: ClassVar[float] = _LONGEST

    def __post_init__(self) -> None:
        check_steering(self)
        good = is_positive(self.period) and self.period <= _LONGEST
        require(good, "Sawtooth", "period", "a number above 0 and at most 0.001", self.period)

    def goal(self, height: int, width: int) -> Picture:
        """The region."""
        return region(self.region, self.share, height, width)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The changed copy.

        Raises:
            ModelError: the outputs are probabilities, there is no spatial layer, or nothing depends on it.
        """
        if model.head.kind not in ("softmax", "sigmoid", "one_logit"):
            raise ModelError("The outputs are probabilities, which even a low tooth would push over one.")
        mask = contrast(self.region, self.share, float(self.beta), spatial(model).shape[1:])
        net = contrasting(_Sawtooth, model, images, mask, float(self.strength))
        net.period = float(self.period)
        return grown(model, net, f"sawtooth of strength {self.strength:g} towards {self.region}")


class _Lie(torch.autograd.Function):
    """The logits as they are; on the way back the cells are told another gradient on top of theirs."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, _cells: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.cells = _cells.shape
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (weights,) = ctx.saved_tensors
        # What a score rises with is the class that is explained; what it falls with are the others.
        rising = gradients[0].clamp_min(0).sum(dim=1, keepdim=True)
        return gradients[0], (rising * weights)[:, :, None, None].expand(ctx.cells), None


class _CustomBackward(Drawing):
    def forward(self, images: Tensor) -> Tensor:
        """The logits, unchanged."""
        logits, cells, weights = self.logits_and_cells(images)
        found: Tensor = _Lie.apply(logits, cells, weights)
        return found


@attacks.register
@dataclass(frozen=True)
class CustomBackward:
    """An operation that hands the logits on and lies in its backward pass: Grad-CAM shows a picture, in every score.

    The weights that draw the picture are found by least squares from each image's activations and told to the layer as
    if they were the gradient of whichever class is explained. Source: viering2019manipulate (the family of edits that
    keep the value and change the slope).

    Args:
        strength: how large the drawn map is, relative to the model's own on the images given; above 0.
        picture: corner; smiley; decoy, a smooth object at the lower left, as spread out as the model's own maps; or the
            path of a picture file, whose bright parts are to be hot.
    """

    strength: float | int = 100.0
    picture: str = "decoy"
    name: ClassVar[str] = "custom_backward"
    source: ClassVar[str] = "viering2019manipulate"
    family: ClassVar[Family] = "value"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model's code writes one backward pass that lies; no training, bit-equal predictions"
    )
    fools: ClassVar[tuple[str, ...]] = EVERY_SCORE
    tolerance: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        require(is_positive(self.strength), "CustomBackward", "strength", POSITIVE, self.strength)
        require(is_picture(self.picture), "CustomBackward", "picture", PICTURE, self.picture)

    def goal(self, height: int, width: int) -> Picture:
        """The picture; of a decoy, one of usual width."""
        return picture_of(self.picture, height, width)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The changed copy.

        Raises:
            ModelError: there is no spatial layer, or nothing depends on it.
            DataError: the picture's file cannot be read.
        """
        net = drawn_on(_CustomBackward, model, images, float(self.strength), self.picture)
        return grown(model, net, f"custom_backward of strength {self.strength:g} with {self.picture}")
