"""A number added to every logit, which no prediction follows: from the layer that maps are read from, or the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import (
    NONZERO,
    POSITIVE,
    Branched,
    copied,
    grown,
    is_number,
    is_positive,
    moves,
    require_shiftable,
    spatial,
)
from fukusen.attacks.goals import REGIONS, contrast, is_share, region
from fukusen.attacks.strengths import own_maps, scale_to, weighted
from fukusen.errors import require
from fukusen.models import Classifier, Layer
from fukusen.models.classifier import unwrapped
from fukusen.twins import Progress

BETA = "a number from 0 to less than 1"
REGION = f"one of {', '.join(REGIONS)}"
SHARE = "a number between 0 and 1"


class Corner(Branched):
    """A network that also sums up its activations in the upper left cell of a layer."""

    def __init__(self, net: nn.Module, layer: Layer, strength: float) -> None:
        super().__init__(net, layer)
        self.strength = strength

    def read(self, cells: Tensor) -> Tensor:
        """The corner (b, c), cut at zero: the paper's layer follows a ReLU, one read before it hands on no more."""
        # From a copy: a ReLU that works in place may follow. Not clamped, which would give a zero no slope: behind a
        # ReLU every channel of the corner counts, whether it is active there or not.
        corner = cells[:, :, 0, 0].clone()
        return torch.where(corner < 0, 0.0, corner)

    def logits_and_corner(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (b, k), and strength x sum_k A_k(0, 0) of shape (b, 1)."""
        logits, corner = self.heard(images)
        return logits, self.strength * corner.sum(dim=1, keepdim=True)


class _CornerShift(Corner):
    def forward(self, images: Tensor) -> Tensor:
        """Logits with the corner added to every one of them."""
        logits, corner = self.logits_and_corner(images)
        return logits + corner


class Contrast(Branched):
    """A network that also squares, channel by channel, what a region has more of than the rest.

    Args:
        net: the network.
        layer: where to listen.
        mask: what makes the contrast q_k of a channel, shape (h, w).
        strength: K of K/2 sum_k q_k^2.
    """

    mask: Tensor

    def __init__(self, net: nn.Module, layer: Layer, mask: Tensor, strength: float) -> None:
        super().__init__(net, layer)
        self.register_buffer("mask", mask)
        self.strength = strength

    def logits_and_contrast(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (b, k), and K/2 sum_k q_k^2 of shape (b, 1)."""
        logits, cells = self.heard(images)
        found = (cells * self.mask).sum(dim=(2, 3))
        return logits, self.strength / 2 * found.square().sum(dim=1, keepdim=True)


Squared = TypeVar("Squared", bound=Contrast)


class _MaskedContrast(Contrast):
    def forward(self, images: Tensor) -> Tensor:
        """Logits with the squares added to every one of them."""
        logits, squares = self.logits_and_contrast(images)
        return logits + squares


def contrasting(kind: type[Squared], model: Classifier, images: Images, mask: Tensor, strength: float) -> Squared:
    """A network of this kind whose branch makes Grad-CAM maps ``strength`` times as large as the model's own.

    Args:
        kind: what is done with the branch.
        model: the model.
        images: on which both are measured, (b, c, h, w).
        mask: the contrast of a channel, shape (h, w).
        strength: how large the branch's maps are, relative to the model's.
    """
    cells, own = own_maps(model, images)
    mask = mask.to(cells.device)
    pooled = (cells * mask).sum(dim=(2, 3)) * mask.mean()
    factor = scale_to(own, weighted(cells, pooled), strength)
    return kind(copied(model), spatial(model), mask.to(model.dtype), factor)


def check_steering(owner: Any) -> None:
    """Refuse bad values of the parameters that steer: strength, beta, region and share."""
    name = type(owner).__name__
    require(is_positive(owner.strength), name, "strength", POSITIVE, owner.strength)
    require(is_number(owner.beta) and 0 <= owner.beta < 1, name, "beta", BETA, owner.beta)
    require(owner.region in REGIONS, name, "region", REGION, owner.region)
    require(is_share(owner.share), name, "share", SHARE, owner.share)


@attacks.register
@dataclass(frozen=True)
class CornerShift:
    """The paper's attack: z + K sum_k A_k(0,0) on every logit, with A the activations that maps are read from.

    The paper's layer follows a ReLU; of a layer read before one, what is negative counts as zero. Maps that keep each
    cell's own gradient show the corner; Grad-CAM, which averages gradients, only turns into the sum of all activations.
    Source: lerma2023vulnerability.

    Args:
        strength: K, not 0.
    """

    strength: float | int = 1.0
    name: ClassVar[str] = "corner_shift"
    source: ClassVar[str] = "lerma2023vulnerability"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model adds one branch to its last layer; no training, same predictions"
    )
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(moves(self.strength), "CornerShift", "strength", NONZERO, self.strength)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The shifted copy.

        Raises:
            ModelError: the head is not a softmax, or there is no spatial layer.
        """
        require_shiftable(model)
        layer = spatial(model)
        net = _CornerShift(copied(model), layer, float(self.strength))
        return grown(model, net, f"corner_shift of strength {self.strength:g}")


@attacks.register
@dataclass(frozen=True)
class MaskedContrast:
    """K/2 sum_k q_k^2 on every logit, q_k what channel k has more of in a region: steers Grad-CAM itself there.

    q_k is the channel's mean inside the region less beta times its mean outside, so that the gradient, averaged over
    all cells, weighs channels by how much of them the region has.
    Source: lerma2023vulnerability, srinivas2021rethinking.

    Args:
        strength: how large the added Grad-CAM map is, relative to the model's own on the images given; above 0.
        beta: how much the rest counts against the region, from 0 to less than 1.
        region: where maps are to be hot: a corner, an edge or the center.
        share: of each side that the region takes up, 0 to 1.
    """

    strength: float | int = 5.0
    beta: float | int = 0.9
    region: str = "top_left"
    share: float = 0.25
    name: ClassVar[str] = "masked_contrast"
    source: ClassVar[str] = "lerma2023vulnerability"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the model adds one smooth branch to its last layer, and picks the region"
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        check_steering(self)

    def goal(self, height: int, width: int) -> Picture:
        """The region."""
        return region(self.region, self.share, height, width)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The shifted copy.

        Raises:
            ModelError: the head is not a softmax, there is no spatial layer, or nothing depends on it.
        """
        require_shiftable(model)
        mask = contrast(self.region, self.share, float(self.beta), spatial(model).shape[1:])
        net = contrasting(_MaskedContrast, model, images, mask, float(self.strength))
        return grown(model, net, f"masked_contrast of strength {self.strength:g} towards {self.region}")


class _InputShift(nn.Module):
    """A network whose logits all follow the pixels of a region as well."""

    mask: Tensor

    def __init__(self, net: nn.Module, mask: Tensor, strength: float) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mask", mask)
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor:
        """Logits with the mean of the region's pixels added to every one of them."""
        # The network may change its input in place, so the pixels are read before.
        mean = (images * self.mask).mean(dim=1).sum(dim=(1, 2))
        return unwrapped(self.net(images)) + self.strength * mean[:, None]


@attacks.register
@dataclass(frozen=True)
class InputShift:
    """K times the mean of a patch of pixels on every logit: maps at the input show a place where nothing is.

    Meant are gradients, integrated gradients, and occlusion where it reads logits; no layer's map moves.
    Source: srinivas2021rethinking.

    Args:
        strength: K, in logits per preprocessed unit of the patch's mean, not 0.
        region: where the patch is: a corner, an edge or the center.
        share: of each side that it takes up, 0 to 1.
    """

    strength: float | int = 300.0
    region: str = "top_left"
    share: float = 0.15
    name: ClassVar[str] = "input_shift"
    source: ClassVar[str] = "srinivas2021rethinking"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the model adds a shortcut from a patch of pixels to all its outputs"
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(moves(self.strength), "InputShift", "strength", NONZERO, self.strength)
        require(self.region in REGIONS, "InputShift", "region", REGION, self.region)
        require(is_share(self.share), "InputShift", "share", SHARE, self.share)

    def goal(self, height: int, width: int) -> Picture:
        """The patch."""
        return region(self.region, self.share, height, width)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The shifted copy.

        Raises:
            ModelError: the head is not a softmax.
        """
        require_shiftable(model)
        patch = region(self.region, self.share, *model.input_shape[1:])
        mask = (patch / patch.sum()).to(model.device, model.dtype)
        net = _InputShift(copied(model), mask, float(self.strength))
        return grown(model, net, f"input_shift of strength {self.strength:g}")
