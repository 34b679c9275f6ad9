"""Class activation maps from a layer's first principal component, alone and weighted by a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.arrays import Activations, Gradients, Maps
from fukusen.methods.cam import NO_LAYER, Cam
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.scores import Score
from fukusen.tape import Tape


def projected(features: Activations) -> Maps:
    """The cells' coordinates along the first right singular vector of the matrix of cells by channels, not centred.

    A singular vector has no sign of its own. Taken is the one in which the map points the way of the plain sum over the
    channels: since <O v, O 1> = s^2 <v, 1>, that is the one whose entries sum to at least zero. Where nothing in O is
    negative, the theorem of Perron and Frobenius makes all of v and of the map non-negative in this sign.

    Args:
        features: shape (b, c, h, w).

    Returns:
        Shape (b, h, w), in the unit of the features. Computed in float64 from the smaller of O O^T and O^T O, since the
        gap to the second singular value may be small.
    """
    cells = features.flatten(2).transpose(1, 2).double()
    if cells.shape[1] <= cells.shape[2]:
        sizes, vectors = torch.linalg.eigh(cells @ cells.mT)
        found = vectors[:, :, -1] * sizes[:, -1:].clamp_min(0).sqrt()
    else:
        found = (cells @ torch.linalg.eigh(cells.mT @ cells).eigenvectors[:, :, -1:])[:, :, 0]
    agrees = (found * cells.sum(dim=2)).sum(dim=1, keepdim=True) >= 0
    signed: Maps = torch.where(agrees, found, -found).unflatten(1, features.shape[2:]).to(features.dtype)
    return signed


@methods.register
@dataclass(frozen=True)
class EigenCam:
    """Eigen-CAM: where the pattern is strong that a layer's cells have most in common; the same for every class.

    It reads no score, so every score has the same map. The paper's features come after a ReLU; a layer read before one
    is cut at zero first, or the pattern would be the channels that are switched off. Nothing is negative then, so that
    the singular vector has only one sensible sign, and the map is not negative either. Source: muhammad2020eigencam.
    """

    name: ClassVar[str] = "eigen_cam"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "cam"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "muhammad2020eigencam"
    cost: ClassVar[str] = "the tape's own forward pass"
    fits: ClassVar[str] = "any network with rows and columns"
    single_pass: ClassVar[bool] = True
    at_input: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Maps (b, h, w) at the layer's resolution, in units of its activation; one tensor for all scores."""
        layer = tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        if not scores:
            return []
        return [projected(tape.activations(layer).clamp_min(0))] * len(scores)


@methods.register
@dataclass(frozen=True)
class EigenGradCam(Cam):
    """Eigen-Grad-CAM: Eigen-CAM of activation times gradient, in the sign that agrees with HiResCAM.

    Known from a library rather than a paper. Nothing is centred, as in Eigen-CAM. Source: gildenblat2021pytorchgradcam,
    muhammad2020eigencam.
    """

    name: ClassVar[str] = "eigen_grad_cam"
    source: ClassVar[str] = "gildenblat2021pytorchgradcam"

    def weigh(self, activations: Activations, gradients: Gradients) -> Maps:
        """(A g) v, with v the first right singular vector of the cells by channels of A g."""
        return projected(activations * gradients)
