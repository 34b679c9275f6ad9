"""An image cut into parts that are hidden or kept as a whole: a plain grid of cells, or SLIC's superpixels."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fukusen.arrays import Images
from fukusen.errors import require
from fukusen.records import Undefined

Parts = Literal["cells", "slic"]
Labels = Int64[Tensor, "b h w"]
NO_SLIC = Undefined("the package scikit-image is not installed; pip install 'fukusen[superpixels]'")


def require_parts(owner: str, parts: object) -> None:
    """Raise the house's sentence about a way to cut that there is not."""
    require(parts in get_args(Parts), owner, "parts", "'cells' or 'slic'", parts)


def superpixels(images: Images, segments: int, parts: Parts) -> Labels | Undefined:
    """Which part each pixel belongs to, the parts of an image numbered from zero without gaps.

    Args:
        images: preprocessed images (b, c, h, w).
        segments: how many parts, at least 1; about as many by ``slic``, and no more by ``cells``.
        parts: ``cells``, the same grid of rows and columns for all images, its cells as square as may be; or ``slic``,
            each image's own superpixels, along its edges (achanta2012slic).

    Returns:
        Shape (b, h, w), on the processor.

    Undefined when:
        SLIC is asked for and scikit-image is not installed.

    Example:
        >>> superpixels(torch.zeros(1, 3, 2, 4), 2, "cells")[0].tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    rows, columns = images.shape[2:]
    if parts == "cells":
        high = min(rows, segments, max(1, round((segments * rows / columns) ** 0.5)))
        wide = min(columns, segments // high)
        down, across = torch.arange(rows) * high // rows, torch.arange(columns) * wide // columns
        cells: Labels = (down[:, None] * wide + across).expand(len(images), -1, -1)
        return cells
    try:
        import skimage.segmentation  # noqa: F401
    except ImportError:
        return NO_SLIC
    return torch.stack([_slic(image, segments) for image in images.detach().cpu().double()])


def _slic(image: Float[Tensor, "c h w"], segments: int) -> Int64[Tensor, "h w"]:
    """SLIC of one image, its values brought to between 0 and 1 first; three channels are taken for colours."""
    from skimage.segmentation import slic

    low, high = image.min(), image.max()
    scaled = ((image - low) / (high - low if high > low else 1.0)).permute(1, 2, 0).numpy()
    coloured = scaled.shape[2] == 3
    found = slic(
        scaled, segments, compactness=10.0 if coloured else 0.1, convert2lab=coloured, start_label=0, channel_axis=-1
    )
    _, labels = np.unique(found, return_inverse=True)
    return torch.from_numpy(labels.reshape(found.shape).astype(np.int64))
