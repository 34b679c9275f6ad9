"""What a heatmap is taught to be: hot in chosen places, cold in others, its centre somewhere else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div

from fukusen.arrays import Logits, Maps, Scales
from fukusen.models import Classifier


def heat(maps: Maps) -> Maps:
    """The positive part of signed maps, each divided by its largest cell: 0 to 1; a map without any stays 0."""
    positive = maps.clamp_min(0)
    return positive / positive.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def mass(maps: Maps, where: Tensor) -> Scales:
    """The share of the positive part of signed maps that lies within a picture of 0 and 1; 0 where there is none.

    Args:
        maps: shape (b, h, w).
        where: shape (h, w), or one an image.
    """
    positive = maps.clamp_min(0)
    whole = positive.sum(dim=(1, 2)).clamp_min(torch.finfo(maps.dtype).tiny)
    return (positive * where).sum(dim=(1, 2)) / whole


def highest(maps: Maps, share: float) -> Maps:
    """1 on that share of each map's cells, at least one, where it is highest; 0 elsewhere; shape (b, h, w)."""
    flat = maps.flatten(1)
    count = max(1, int(share * flat.shape[1]))
    return torch.zeros_like(flat).scatter(1, flat.topk(count, dim=1).indices, 1.0).reshape(maps.shape)


def centres(maps: Maps) -> Tensor:
    """The centre of mass of each map's positive part, as shares of height and width from -0.5 to 0.5, shape (b, 2).

    A map without any has it in the middle.
    """
    positive = maps.clamp_min(0)
    whole = positive.sum(dim=(1, 2)).clamp_min(torch.finfo(maps.dtype).tiny)
    found = []
    for axis, other in ((1, 2), (2, 1)):
        side = maps.shape[axis]
        places = (torch.arange(side, device=maps.device, dtype=maps.dtype) - (side - 1) / 2) / max(side - 1, 1)
        found.append((positive.sum(dim=other) * places).sum(dim=1) / whole)
    return torch.stack(found, dim=1)


def parted(maps: Maps, before: Maps) -> Scales:
    """How far each map's centre of mass went towards the farther edges, summed over the axes, in shares of the sides.

    Unlike the distance it has a slope where nothing has moved yet.

    Args:
        maps: as they are, shape (b, h, w).
        before: as they were.
    """
    start = centres(before)
    return ((centres(maps) - start) * (1 - 2 * (start > 0).to(start.dtype))).sum(dim=1)


def unlike(maps: Maps, picture: Tensor) -> Scales:
    """The mean square difference of each map's positive part and a picture (h, w), each divided by its mean."""
    positive = maps.clamp_min(0)
    level = positive.mean(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return (positive / level - picture / picture.mean()).square().mean(dim=(1, 2))


def divergence(model: Classifier, logits: Logits, before: Logits) -> Tensor:
    """How much of the original's probabilities is lost: the Kullback-Leibler divergence, averaged over the images.

    Args:
        model: whose logits they are; says whether classes exclude each other.
        logits: as they are, shape (b, k), with their graph.
        before: as they were, shape (b, k).
    """
    if model.head.labels_are_independent:
        aims = before.sigmoid()
        cross = binary_cross_entropy_with_logits(logits, aims, reduction="none")
        own = binary_cross_entropy_with_logits(before, aims, reduction="none")
        return (cross - own).sum(dim=1).mean()
    return kl_div(logits.log_softmax(dim=1), before.log_softmax(dim=1), reduction="batchmean", log_target=True)
