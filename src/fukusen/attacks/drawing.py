"""Channel weights that draw a picture, found anew for every image: Grad-CAM shows whatever the attacker likes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import POSITIVE, Branched, copied, grown, is_positive, require_shiftable, spatial
from fukusen.attacks.goals import PICTURES, decoy, entropy, is_picture, picture_of
from fukusen.attacks.strengths import own_maps, scale_to
from fukusen.errors import require
from fukusen.models import Classifier, Layer
from fukusen.twins import Progress

PICTURE = f"{', '.join(PICTURES)} or the path of a picture file"
# Relative to the mean square of what the weights are to combine: below it, a pattern of the cells is rounding.
_RIDGE = 1e-9
_PLAUSIBLE = (0.3, 0.98)


def drawing(cells: Tensor, picture: Tensor) -> Tensor:
    """The smallest weights w with sum_k w_k A_k as close as can be to a picture, shape (b, c), float64.

    Args:
        cells: A, shape (b, c, h, w).
        picture: shape (h, w).
    """
    flat = cells.double().flatten(2)
    wanted = picture.double().flatten()[None, :, None].repeat(len(flat), 1, 1)
    few = flat.shape[1] <= flat.shape[2]
    products = flat @ flat.mT if few else flat.mT @ flat
    diagonal = products.diagonal(dim1=1, dim2=2)
    ridge = _RIDGE * diagonal.mean(dim=1, keepdim=True) + torch.finfo(torch.float64).tiny
    steady = products + torch.diag_embed(ridge.expand_as(diagonal))
    root = torch.linalg.cholesky_ex(steady).L
    found: Tensor = torch.cholesky_solve(flat @ wanted, root) if few else flat @ torch.cholesky_solve(wanted, root)
    return found[:, :, 0]


class Drawing(Branched):
    """A network with a branch whose gradient draws a picture.

    Args:
        net: the network.
        layer: where to listen.
        picture: the map that the branch's gradient makes, in the model's units, shape (h, w).
    """

    picture: Tensor

    def __init__(self, net: nn.Module, layer: Layer, picture: Tensor) -> None:
        super().__init__(net, layer)
        self.register_buffer("picture", picture)

    def logits_and_cells(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits (b, k), the cells (b, c, h, w), and the weights (b, c) that draw the picture from them."""
        logits, cells = self.heard(images)
        return logits, cells, drawing(cells.detach(), self.picture).to(cells.dtype)


class _DrawnTarget(Drawing):
    def forward(self, images: Tensor) -> Tensor:
        """Logits with sum_k w_k sum_ij A_kij added to every one of them, less the picture's sum, which that is near."""
        logits, cells, weights = self.logits_and_cells(images)
        drawn = (weights * cells.sum(dim=(2, 3))).sum(dim=1, keepdim=True)
        return logits + (drawn - self.picture.sum())


def drawn_on(kind: type[Drawing], model: Classifier, images: Images, strength: float, name: str | None) -> Drawing:
    """A network of this kind whose branch draws a picture, ``strength`` times as large as the model's own maps.

    Args:
        kind: what is done with the branch.
        model: the model.
        images: on which its own maps are measured, (b, c, h, w).
        strength: how large the drawn map is, relative to those.
        name: which picture; None for one that is the same everywhere.
    """
    layer = spatial(model)
    own = own_maps(model, images)[1]
    rows, columns = layer.shape[1:]
    if name is None:
        picture = torch.ones(rows, columns, dtype=torch.float64)
    elif name == "decoy":
        picture = decoy(rows, columns, _typical(own))
    else:
        picture = picture_of(name, rows, columns)
    picture = picture.to(own.device)
    scale = scale_to(own, picture[None], strength)
    return kind(copied(model), layer, (scale * picture).to(model.dtype))


def _typical(own: Tensor) -> float:
    """The median entropy of what is positive in the model's own maps, kept within what a blob can have."""
    found = entropy(own)
    finite = found[found.isfinite()]
    low, high = _PLAUSIBLE
    return min(high, max(low, float(finite.median()))) if len(finite) else high


@attacks.register
@dataclass(frozen=True)
class DrawnTarget:
    """sum_k w_k sum_ij A_kij on every logit, w the weights that draw a picture from this image's own activations.

    The weights are found by least squares in each forward pass and held constant in the backward one, so that Grad-CAM
    shows the picture, whichever class is explained. Where channels are fewer than cells, it shows what is nearest.
    Source: srinivas2021rethinking.

    Args:
        strength: how large the drawn map is, relative to the model's own on the images given; above 0.
        picture: corner; smiley; decoy, a smooth object at the lower left, as spread out as the model's own maps; or the
            path of a picture file, whose bright parts are to be hot.
    """

    strength: float | int = 100.0
    picture: str = "smiley"
    name: ClassVar[str] = "drawn_target"
    source: ClassVar[str] = "srinivas2021rethinking"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = (
        "whoever delivers the model's code adds a branch that solves for the map they want; no training"
    )
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(is_positive(self.strength), "DrawnTarget", "strength", POSITIVE, self.strength)
        require(is_picture(self.picture), "DrawnTarget", "picture", PICTURE, self.picture)

    def goal(self, height: int, width: int) -> Picture:
        """The picture; of a decoy, one of usual width."""
        return picture_of(self.picture, height, width)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The shifted copy.

        Raises:
            ModelError: the head is not a softmax, there is no spatial layer, or nothing depends on it.
            DataError: the picture's file cannot be read.
        """
        require_shiftable(model)
        net = drawn_on(_DrawnTarget, model, images, float(self.strength), self.picture)
        return grown(model, net, f"drawn_target of strength {self.strength:g} with {self.picture}")


@attacks.register
@dataclass(frozen=True)
class ConstantMap:
    """The branch that draws, made to draw nothing: Grad-CAM is the same in every cell of every image.

    Source: viering2019manipulate.

    Args:
        strength: how large the constant map is, relative to the model's own on the images given; above 0.
    """

    strength: float | int = 100.0
    name: ClassVar[str] = "constant_map"
    source: ClassVar[str] = "viering2019manipulate"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the model's code adds a branch after which its maps say nothing any more"
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(is_positive(self.strength), "ConstantMap", "strength", POSITIVE, self.strength)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The shifted copy.

        Raises:
            ModelError: the head is not a softmax, there is no spatial layer, or nothing depends on it.
        """
        require_shiftable(model)
        net = drawn_on(_DrawnTarget, model, images, float(self.strength), None)
        return grown(model, net, f"constant_map of strength {self.strength:g}")
