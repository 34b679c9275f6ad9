"""Class activation maps from a layer's first principal component, alone and weighted by a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fukusen.arrays import Activations, Gradients, Maps
from fukusen.methods.cam import NO_LAYER, Cam
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.scores import Score
from fukusen.tape import Tape

_STEPS = (16, 24, 32, 40)
_FEW = 64
_OFF = {torch.float64: 1e-12}
_OFF_ELSE = 1e-6


def leading(squares: Float[Tensor, "m n n"], off: float) -> Float[Tensor, "m n"]:
    """The eigenvector of the largest eigenvalue of each symmetric matrix, of unit length, in either sign.

    Lanczos' recurrence, orthogonalised against all vectors before, with as few steps as are needed for the angle to the
    eigenvector to be at most ``off`` by the residual over the gap; whatever does not come so near is decomposed whole.
    A full decomposition of many middle-sized matrices is what LAPACK's threads are slowest at. Source:
    parlett1998symmetric.

    Args:
        squares: positive semidefinite, float64.
        off: the sine of the largest angle.
    """
    if squares.shape[1] <= _FEW:
        whole: Tensor = torch.linalg.eigh(squares).eigenvectors[:, :, -1]
        return whole
    basis = _extended(squares, squares.new_zeros(*squares.shape[:2], 0), _STEPS[0])
    found, near = _ritz(squares, basis, off)
    for steps in _STEPS[1:]:
        if bool(near.all()):
            return found
        basis = _extended(squares, basis, steps)
        found, near = _ritz(squares, basis, off)
    found[~near] = torch.linalg.eigh(squares[~near]).eigenvectors[:, :, -1]
    return found


def _extended(squares: Float[Tensor, "m n n"], basis: Float[Tensor, "m n j"], steps: int) -> Float[Tensor, "m n k"]:
    """The basis with as many orthonormal Krylov vectors as asked; zeros once a matrix has no more."""
    if basis.shape[2] == 0:
        start = torch.randn(squares.shape[1], 1, generator=torch.Generator().manual_seed(0), dtype=squares.dtype)
        basis = torch.nn.functional.normalize(squares @ start.to(squares.device), dim=1)
    for _ in range(basis.shape[2], steps):
        new = squares @ basis[:, :, -1:]
        whole = new.norm(dim=1, keepdim=True)
        for _again in range(2):
            new = new - basis @ (basis.mT @ new)
        size = new.norm(dim=1, keepdim=True)
        more = size > 1e-14 * whole
        basis = torch.cat([basis, torch.where(more, new / torch.where(more, size, 1.0), 0.0)], dim=2)
    return basis


def _ritz(
    squares: Float[Tensor, "m n n"], basis: Float[Tensor, "m n k"], off: float
) -> tuple[Float[Tensor, "m n"], Bool[Tensor, m]]:
    """The best vector in the basis of each matrix, and whether it is as near the eigenvector as asked."""
    images = squares @ basis
    sizes, mixes = torch.linalg.eigh(basis.mT @ images)
    mix = mixes[:, :, -1:]
    left = (images @ mix - basis @ mix * sizes[:, -1:, None]).norm(dim=1)[:, 0]
    found = torch.nn.functional.normalize((basis @ mix)[:, :, 0], dim=1)
    return found, left <= off * (sizes[:, -1] - sizes[:, -2])


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
    cells, off = features.flatten(2).transpose(1, 2).double(), _OFF.get(features.dtype, _OFF_ELSE)
    if cells.shape[1] <= cells.shape[2]:
        first = leading(cells @ cells.mT, off)
        found = first * (cells.mT @ first[:, :, None]).norm(dim=1)
    else:
        found = (cells @ leading(cells.mT @ cells, off)[:, :, None])[:, :, 0]
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

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the layer's resolution, one for each score; decomposed all at once."""
        layer = tape.classifier.layer
        if layer is None:
            return [NO_LAYER] * len(scores)
        factors = [tape.factors(score) for score in scores]
        directions = list(dict.fromkeys(direction for direction, _ in factors))
        if not directions:
            return []
        products = [tape.activations(layer) * tape.direction_gradient(one, layer) for one in directions]
        made = dict(zip(directions, projected(torch.cat(products)).chunk(len(directions)), strict=True))
        return [
            made[direction] if direction == score else made[direction] * scale.to(made[direction].dtype)[:, None, None]
            for score, (direction, scale) in zip(scores, factors, strict=True)
        ]
