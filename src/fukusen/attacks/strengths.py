"""How large a model's own maps are on the attacker's images: the measure of an attack's strength."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fukusen.arrays import Batch
from fukusen.attacks.branch import spatial
from fukusen.errors import ModelError
from fukusen.methods.cam import Cam, GradCam
from fukusen.models import Classifier
from fukusen.scores import Logit
from fukusen.tape import Tape

_AT_ONCE = 16


def own_maps(model: Classifier, images: Tensor, method: Cam | None = None) -> tuple[Tensor, Tensor]:
    """A layer's cells (b, c, h, w) and the logit maps (b, h, w) of the predicted classes, float64.

    Args:
        model: the model.
        images: shape (b, channels, rows, columns).
        method: what makes the maps; Grad-CAM if nothing is said.

    Raises:
        ModelError: there is no spatial layer.
    """
    layer = spatial(model)
    cam = GradCam() if method is None else method
    cells, maps = [], []
    for part in images.split(_AT_ONCE):
        names = tuple(str(number) for number in range(len(part)))
        tape = Tape(model, Batch(names, part), at_input=False)
        cells.append(tape.activations(layer))
        maps.append(cam.weigh(cells[-1], tape.gradient(Logit(), layer)))
    return torch.cat(cells).double(), torch.cat(maps).double()


def size_of(maps: Tensor) -> float:
    """The median length of some maps (b, h, w), those left out that are not finite; 0 where none is left."""
    lengths = maps.double().flatten(1).norm(dim=1)
    finite = lengths[lengths.isfinite()]
    return float(finite.median()) if len(finite) else 0.0


def scale_to(own: Tensor, added: Tensor, strength: float) -> float:
    """What to multiply maps (b, h, w) by so that they are ``strength`` times as large as the model's own.

    Raises:
        ModelError: one of the two is zero.
    """
    sizes: Sequence[float] = (size_of(own), size_of(added))
    if min(sizes) <= 0:
        raise ModelError(
            "No prediction for these images depends on the layer that maps are read from, so there is no map to "
            "redraw. Name another layer (layer=...), or give other images."
        )
    return strength * sizes[0] / sizes[1]


def weighted(cells: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k A_k of cells (b, c, h, w) and weights (b, c)."""
    return torch.einsum("bchw,bc->bhw", cells, weights)
