"""Class activation maps: activations of one layer, weighted by the score's gradient there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.arrays import Activations, Gradients, Maps
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Layer
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

NO_LAYER = Undefined("the network has no layer with rows and columns")


class Cam(ABC):
    """The walk that class activation maps share; ``weigh`` is the paper's formula.

    Where a subclass is ``homogeneous``, scores that differ by a factor per image need no map of their own.
    """

    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "cam"
    reading: ClassVar[Reading] = "positive"
    cost: ClassVar[str] = "the tape's own passes, back to the layer"
    fits: ClassVar[str] = "any network with rows and columns"
    single_pass: ClassVar[bool] = True
    at_input: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = True

    @abstractmethod
    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """Activations and gradients (b, c, h, w) to signed maps (b, h, w)."""

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the layer's resolution, one for each score."""
        layer = tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        made: dict[Score, Maps] = {}
        return [self._one(tape, layer, score, made) for score in scores]

    def _one(self, tape: Tape, layer: Layer, score: Score, made: dict[Score, Maps]) -> Maps:
        if not self.homogeneous:
            return self.weigh(tape.activations(layer), tape.gradient(score, layer))
        direction, scale = tape.factors(score)
        if direction not in made:
            made[direction] = self.weigh(tape.activations(layer), tape.direction_gradient(direction, layer))
        own = made[direction]
        return own if direction == score else own * scale.to(own.dtype)[:, None, None]


@methods.register
@dataclass(frozen=True)
class GradCam(Cam):
    """Grad-CAM: each channel weighted by the mean of its gradient; signed, before the paper's final ReLU.

    Source: selvaraju2017gradcam.
    """

    name: ClassVar[str] = "grad_cam"
    source: ClassVar[str] = "selvaraju2017gradcam"

    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """sum_k mean_ij(g_kij) A_k."""
        return torch.einsum("bchw,bc->bhw", activations, gradients.mean(dim=(2, 3)))


@methods.register
@dataclass(frozen=True)
class GradCamPlusPlus(Cam):
    """Grad-CAM++: positive gradients averaged with pixel weights from the second and third derivatives.

    For the exponential of a score, as in the paper, the weights are alpha = 1 / (2 + sum_ab(A_ab) g) wherever g is not
    zero, and zero where that denominator vanishes. Source: chattopadhay2018gradcampp.
    """

    name: ClassVar[str] = "grad_cam_plus_plus"
    source: ClassVar[str] = "chattopadhay2018gradcampp"
    homogeneous: ClassVar[bool] = False

    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """sum_k (sum_ij alpha_kij relu(g_kij)) A_k."""
        positive = gradients.clamp_min(0)
        below = (positive * activations.sum(dim=(2, 3), keepdim=True)).add_(2)
        weights = torch.where(below == 0, 0.0, positive.div_(below)).sum(dim=(2, 3))
        return torch.einsum("bchw,bc->bhw", activations, weights)


@methods.register
@dataclass(frozen=True)
class XGradCam(Cam):
    """XGrad-CAM: each channel weighted by the mean of its gradient over the places where the channel is active.

    The formula divides by a channel's sum, which means something where nothing is negative, as after the ReLU of the
    paper's networks. A layer read before its ReLU is cut at zero first: that is what its ReLU hands on. The map then
    sums to what HiResCAM's does. Source: fu2020xgradcam.
    """

    name: ClassVar[str] = "x_grad_cam"
    source: ClassVar[str] = "fu2020xgradcam"

    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """sum_k (sum_ij g_kij A_kij / sum_ij A_kij) A_k, with A cut at zero; a channel of zeros adds nothing."""
        active = activations.clamp_min(0)
        whole = active.sum(dim=(2, 3))
        usable = torch.where(whole > 0, whole, torch.ones_like(whole))
        return torch.einsum("bchw,bc->bhw", active, (gradients * active).sum(dim=(2, 3)) / usable)


@methods.register
@dataclass(frozen=True)
class HiResCam(Cam):
    """HiResCAM: activation times gradient, cell by cell; it shows what a linear head adds up.

    Source: draelos2020hirescam.
    """

    name: ClassVar[str] = "hires_cam"
    source: ClassVar[str] = "draelos2020hirescam"

    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """sum_k g_k A_k, cell by cell."""
        return torch.einsum("bchw,bchw->bhw", activations, gradients)


@methods.register
@dataclass(frozen=True)
class LayerCam(Cam):
    """LayerCAM: activation times positive gradient, cell by cell.

    Source: jiang2021layercam.
    """

    name: ClassVar[str] = "layer_cam"
    keeps_positive: ClassVar[bool] = True
    source: ClassVar[str] = "jiang2021layercam"

    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """sum_k relu(g_k) A_k, cell by cell."""
        return torch.einsum("bchw,bchw->bhw", activations, gradients.clamp_min(0))
