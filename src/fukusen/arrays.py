"""What flows: Images, Logits, Cotangents, Activations, Maps, Targets, Batch; shape-typed with jaxtyping.

Letters: ``b`` images, ``c`` channels, ``h`` rows, ``w`` columns, ``k`` classes, ``m`` maps of one panel.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

Images = Float[Tensor, "b c h w"]
Logits = Float[Tensor, "b k"]
Cotangents = Float[Tensor, "b k"]
Scales = Float[Tensor, " b"]
Targets = Int64[Tensor, " b"]
Activations = Float[Tensor, "b c h w"]
Gradients = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b h w"]
MapStack = Float[Tensor, "m b h w"]
PairValues = Float[Tensor, "m m b"]


@dataclass(frozen=True)
class Batch:
    """Some images ready for the network, with their names and the classes to explain.

    Args:
        items: the item names, one an image.
        images: preprocessed images of shape (b, c, h, w).
        targets: the class to explain for each image, or None for the predicted one.
    """

    items: tuple[str, ...]
    images: Images
    targets: Targets | None = None
