"""What stands where a part of the image is hidden: five ways to hide, all of which a network can notice.

A fill is a picture that the network was not trained on, so a change of the score may be the fill's own doing; and a
network that recognises a fill can answer a test of its behaviour as another network would (slack2020fooling). A finding
that two different fills share is worth more than one that a single fill gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from fukusen.arrays import Images
from fukusen.errors import require

Fill = Literal["mean", "zero", "blur", "noise", "inpaint"]
Keep = Float[Tensor, "n h w"]
Paint = Float[Tensor, "b c #h #w"]
Known = Float[Tensor, "b 1 h w"]
Colours = Float[Tensor, "b c 1 1"]
_SWEEPS = 24
_DAMPING = 0.8


@dataclass(frozen=True, eq=False)
class Hiding:
    """Images, and what is seen of them through a mask; made by ``hiding``.

    Args:
        images: preprocessed images (b, c, h, w).
        paint: what stands where nothing is kept, shape (b, c, h, w) or (b, c, 1, 1); None where it depends on the mask.
    """

    images: Images
    paint: Paint | None

    def through(self, keep: Keep) -> Images:
        """The images (b, c, h, w) where a mask is one, the fill where it is zero, and a mixture in between.

        Args:
            keep: from 0 (hidden) to 1 (kept), shape (1, h, w) for all images or (b, h, w).
        """
        paint = inpainted(self.images, keep) if self.paint is None else self.paint
        share = keep[:, None].to(self.images.device, self.images.dtype)
        return self.images * share + paint * (1 - share)


def hiding(images: Images, fill: Fill, seed: int = 0) -> Hiding:
    """The images made ready to be hidden in part; an image's fill depends on no other image.

    Args:
        images: preprocessed images (b, c, h, w).
        fill: ``mean``, each image's own mean colour; ``zero`` in preprocessed units, the mean colour of the training
            pictures for most networks; ``blur``, the image under a Gaussian whose standard deviation is a sixteenth of
            its shorter side; ``noise``, normal, with the mean and spread of each of the image's channels; ``inpaint``,
            the smoothest continuation of what is kept.
        seed: of the noise, which is the same for all images but for its mean and spread.

    Returns:
        What ``through`` shows of them.

    Raises:
        CallError: no such fill.

    Example:
        >>> hiding(torch.ones(1, 1, 1, 2), "zero").through(torch.tensor([[[1.0, 0.25]]])).flatten().tolist()
        [1.0, 0.25]
    """
    require_fill("hiding", fill)
    mean = images.mean(dim=(2, 3), keepdim=True)
    if fill == "mean":
        return Hiding(images, mean)
    if fill == "zero":
        return Hiding(images, torch.zeros_like(mean))
    if fill == "blur":
        return Hiding(images, blurred(images, min(images.shape[2:]) / 16))
    if fill == "noise":
        chance = torch.Generator().manual_seed(seed)
        noise = torch.randn(images.shape[1:], generator=chance, dtype=torch.float64).to(images.dtype)
        return Hiding(images, mean + images.std(dim=(2, 3), correction=0, keepdim=True) * noise.to(images.device))
    return Hiding(images, None)


def require_fill(owner: str, fill: object) -> None:
    """Raise the house's sentence about a fill that there is not."""
    names = get_args(Fill)
    rule = f"{', '.join(repr(name) for name in names[:-1])} or {names[-1]!r}"
    require(fill in names, owner, "fill", rule, fill)


def blurred(images: Images, sigma: float) -> Images:
    """The images under a Gaussian of that standard deviation in pixels, weighed anew where the image's edge cuts it.

    Example:
        >>> blurred(torch.full((1, 1, 3, 4), 2.0), sigma=1.0).unique().tolist()
        [2.0]
    """
    rows, columns = (_gaussian(side, sigma).to(images.device, images.dtype) for side in images.shape[2:])
    return rows @ images @ columns.T


def _gaussian(side: int, sigma: float) -> Float[Tensor, "n n"]:
    """Each row the weights of all places along one axis for one of them."""
    place = torch.arange(side, dtype=torch.float64)
    away = (place[:, None] - place) / max(sigma, 1e-6)
    return (-away.square() / 2).softmax(dim=1)


def inpainted(images: Images, keep: Keep) -> Images:
    """The smoothest continuation of what is kept: each hidden pixel near the mean of its four neighbours.

    That is the harmonic one, found from coarse to fine with a few damped Jacobi sweeps at each size, so it is near the
    exact solution and takes about as long as one more forward pass of a small network. No value lies beyond the kept.

    Args:
        images: preprocessed images (b, c, h, w).
        keep: shape (1, h, w) or (b, h, w); pixels of which less than half is kept count as hidden.

    Returns:
        Shape (b, c, h, w); the image's mean colour where nothing of it is kept.

    Example:
        >>> inpainted(torch.tensor([[[[1.0, 9.0, 1.0]]]]), torch.tensor([[[1.0, 0.0, 1.0]]])).flatten().tolist()
        [1.0, 1.0, 1.0]
    """
    known = (keep >= 0.5)[:, None].to(images.device, images.dtype).expand(len(images), -1, -1, -1)
    return _continued(images, known, images.mean(dim=(2, 3), keepdim=True))


def _continued(picture: Images, known: Known, mean: Colours) -> Images:
    """The picture with its unknown pixels continued from a picture of half the size; ``mean`` if there are no known."""
    size = picture.shape[2:]
    if size == (1, 1):
        return torch.where(known > 0, picture, mean)
    share = avg_pool2d(known, 2, ceil_mode=True)
    total = avg_pool2d(picture * known, 2, ceil_mode=True)
    small = total / torch.where(share > 0, share, 1.0)
    rough = _continued(small, (share > 0).to(known.dtype), mean)
    found = torch.where(known > 0, picture, interpolate(rough, size, mode="bilinear", align_corners=False))
    for _ in range(_SWEEPS):
        wide = pad(found, (1, 1, 1, 1), mode="replicate")
        around = (wide[:, :, :-2, 1:-1] + wide[:, :, 2:, 1:-1] + wide[:, :, 1:-1, :-2] + wide[:, :, 1:-1, 2:]) / 4
        found = torch.where(known > 0, picture, found + _DAMPING * (around - found))
    return found
