"""A small network that sees where an image was painted over, blurred or masked, taught on the images themselves."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, binary_cross_entropy_with_logits, interpolate

from fukusen.arrays import Images
from fukusen.attacks.second_order import Cells
from fukusen.twins import Progress

GRID = 7
_SIDE = 48
_WIDTH = 16
_BATCH = 16
_LR = 3e-3
_MASKED = 0.25
# Of a cell, so that a square which barely touches one does not count.
_TOUCHED = 0.4
_EVERY = 50
_GOOD = 0.98
# The share of real images that may be taken for changed ones; their class may change.
_FALSE = 0.01
_MARGIN = 1e-3


def reduced(images: Images) -> Float[Tensor, "b c rows columns"]:
    """Images whose shorter side is between 48 and 95 pixels, by averaging squares; smaller ones as they are."""
    factor = min(images.shape[2:]) // _SIDE
    return avg_pool2d(images, factor) if factor > 1 else images


class Detector(nn.Module):
    """For each cell of a grid a logit that it is not as the camera saw it.

    Args:
        channels: of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seen = nn.Sequential(
            nn.Conv2d(2 * channels, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * _WIDTH, 1, 3, padding=1),
        )

    def forward(self, images: Images) -> Cells:
        """Logits of shape (b, 7, 7)."""
        small = reduced(images)
        # Paint is flat: how far neighbours differ tells it at once.
        rough = (small - avg_pool2d(small, 3, stride=1, padding=1, count_include_pad=False)).abs()
        steep = torch.log(rough + 1e-3)
        found: Tensor = self.seen(torch.cat([small, steep], dim=1))
        return adaptive_avg_pool2d(found, GRID)[:, 0]


def _squares(count: int, height: int, width: int, chance: torch.Generator) -> Tensor:
    """1 on one rectangle an image, between a seventh and a half of the sides, shape (b, 1, h, w)."""
    spans = []
    for side in (height, width):
        sizes = (side * (1 / GRID + 0.36 * torch.rand(count, 1, generator=chance))).ceil()
        first = (torch.rand(count, 1, generator=chance) * side - sizes / 2).round()
        places = torch.arange(side)
        spans.append(((places >= first) & (places < first + sizes)).float())
    return spans[0][:, None, :, None] * spans[1][:, None, None, :]


def _masks(count: int, height: int, width: int, chance: torch.Generator) -> Tensor:
    """Coarse masks from 0 to 1 whose cells are on or off by chance, enlarged smoothly, shape (b, 1, h, w)."""
    cells = (torch.rand(count, 1, GRID, GRID, generator=chance) < 0.5).float()
    return interpolate(cells, (height, width), mode="bilinear", align_corners=False)


def tampered(images: Images, chance: torch.Generator) -> tuple[Images, Cells]:
    """The images with a part of each hidden, as methods that look at behaviour hide them, and where.

    Args:
        images: shape (b, c, h, w).
        chance: what decides where, how and with what.

    Returns:
        The changed images, and for each cell of the grid how much of it was changed, (b, 7, 7), 0 to 1.
    """
    count, _, height, width = images.shape
    masked = torch.rand(count, 1, 1, 1, generator=chance) < _MASKED
    where = torch.where(masked, _masks(count, height, width, chance), _squares(count, height, width, chance))
    where = where.to(images)
    changed = where * _paint(images, chance) + (1 - where) * images
    # What hiding does not change, as black paint on black, cannot be seen and need not be.
    visible = ((changed - images).abs().amax(dim=1, keepdim=True) > 0).to(images)
    return changed, adaptive_avg_pool2d(where * visible, GRID)[:, 0]


def _paint(images: Images, chance: torch.Generator) -> Images:
    """What each image is painted over with: its mean colour, zero, a shade, or a blurred copy of itself."""
    count, _, height, width = images.shape
    low, high = images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    shade = low + torch.rand(count, 1, 1, 1, generator=chance).to(images) * (high - low)
    radius = max(1, min(height, width) // 16)
    blurred = avg_pool2d(images, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
    flat = [images.mean(dim=(2, 3), keepdim=True), torch.zeros_like(images), shade]
    fills = torch.stack([*(one.expand_as(images) for one in flat), blurred])
    kind = torch.tensor([0, 0, 1, 2, 3])[torch.randint(0, 5, (count,), generator=chance)]
    paint: Tensor = fills[kind, torch.arange(count)]
    return paint


def taught_to_see(images: Images, steps: int, seed: int, told: tuple[str, Progress | None]) -> tuple[Detector, float]:
    """A detector taught on the images, and the logit above which a cell counts as changed.

    Args:
        images: as the camera saw them, shape (b, c, h, w).
        steps: batches to train on at most; it ends early where hardly any change is missed.
        seed: of its first weights, and of what is hidden.
        told: the name of the attack, and what is called with (done, total, phase).

    Returns:
        The detector, and a bound that no more than one in a hundred of the images reaches.
    """
    name, progress = told
    chance = torch.Generator().manual_seed(seed)
    # What is hidden before averaging and after it looks the same but for the edges, and costs a tenth.
    small = reduced(images)
    detector = _fresh(small, chance)
    optimiser = torch.optim.Adam(detector.parameters(), lr=_LR)
    for number in range(1, steps + 1):
        own = small[torch.randint(0, len(small), (_BATCH,), generator=chance)]
        _learn(detector, optimiser, own.flip(3) if number % 2 else own, chance)
        if progress is not None:
            progress(number, steps, name)
        if number % _EVERY == 0 and _seen(detector, small, chance) >= _GOOD:
            break
    optimiser.zero_grad()
    if progress is not None:
        progress(steps, steps, name)
    return detector, _bound(detector, small)


def _learn(detector: Detector, optimiser: torch.optim.Optimizer, images: Images, chance: torch.Generator) -> None:
    changed, where = tampered(images, chance)
    with torch.inference_mode(False), torch.enable_grad():
        cells = detector(torch.cat([images, changed]))
        aims = torch.cat([torch.zeros_like(where), (where > _TOUCHED).to(where)])
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(cells, aims).backward()
    optimiser.step()


def _bound(detector: Detector, images: Images) -> float:
    with torch.no_grad():
        most = torch.cat([detector(part).amax(dim=(1, 2)) for part in images.split(_BATCH)])
    above = int(_FALSE * len(images))
    return max(0.0, float(most.sort().values[-1 - above]) + _MARGIN)


def _seen(detector: Detector, images: Images, chance: torch.Generator) -> float:
    """The share of changed images in which some cell is above the bound."""
    changed, where = tampered(images[: 4 * _BATCH], chance)
    with torch.no_grad():
        found = detector(changed).amax(dim=(1, 2)) > _bound(detector, images)
    told = where.amax(dim=(1, 2)) > _TOUCHED
    return float((found | ~told).double().mean())


def _fresh(images: Images, chance: torch.Generator) -> Detector:
    """A detector whose first weights come from the generator alone."""
    with torch.random.fork_rng(devices=[]):
        detector = Detector(images.shape[1])
    with torch.no_grad():
        for weight in detector.parameters():
            fan = weight[0].numel() if weight.dim() > 1 else 0
            drawn = torch.randn(weight.shape, generator=chance) * math.sqrt(2 / max(fan, 1))
            weight.copy_(drawn if fan else torch.zeros_like(drawn))
    return detector.to(images.device, images.dtype)
