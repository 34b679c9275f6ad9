"""Where on the picture a heatmap lies: in a corner, along the edges, or inside a region that is known to matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from jaxtyping import Shaped
from torch import Tensor

from fukusen.agreement.panel import enlarged
from fukusen.agreement.reading import READ, Reading
from fukusen.arrays import Maps
from fukusen.checks.check import Sight, checks
from fukusen.checks.heat import EMPTY, GRID, NOT_FINITE, Row, rows_of
from fukusen.errors import UnknownName, require
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value

CORNER = 2
BORDER = "border"
Masks = Shaped[Tensor, "n _ _"]


def _regions() -> dict[str, Tensor]:
    """The cells of each region as bool (7, 7): four corners of 2 x 2 cells, and the ring of cells at the edges."""
    near, far = slice(0, CORNER), slice(GRID - CORNER, GRID)
    corners = {
        "upper left": (near, near),
        "upper right": (near, far),
        "lower left": (far, near),
        "lower right": (far, far),
    }
    found = {name: torch.zeros(GRID, GRID, dtype=torch.bool) for name in corners}
    for name, place in corners.items():
        found[name][place] = True
    ring = torch.ones(GRID, GRID, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return {**found, BORDER: ring}


REGIONS: Final[Mapping[str, Tensor]] = _regions()


@checks.register
@dataclass(frozen=True)
class Placement:
    """The share of a heatmap in each corner and along the edges, per image, method and score.

    A corner is 2 x 2 of 7 x 7 cells, 0.08 of the picture; the ring of cells along the edges is 0.49 of it. Heatmaps
    that lie in one of them whatever the image shows are what attackers draw. Source: lerma2023vulnerability,
    heo2019fooling.
    """

    name: ClassVar[str] = "placement"
    title: ClassVar[str] = "Heatmaps do not lie in the same corner or along the edges of all images"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = (
        "largest share of a heatmap in one of these: a corner of 2 x 2 of 7 x 7 cells (0.08 of the picture), or the "
        "ring of cells along the edges (0.49 of it)"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """Five shares (0 to 1) for each image, method and score; ``against`` says of which region.

        Undefined when: the heatmap is empty, or not finite.
        """
        if sight.tape is None:
            return []
        items = sight.tape.batch.items
        return [measurement for row in rows_of(sight) for measurement in self._of(row, items)]

    def _of(self, row: Row, items: tuple[str, ...]) -> list[Measurement]:
        found = []
        for item, shares in zip(items, row.shares, strict=True):
            for region, cells in REGIONS.items():
                value: Value = shares if isinstance(shares, Undefined) else float(shares[cells].sum())
                found.append(Measurement(self.name, value, item, row.method, row.score, region))
        return found


def mass_inside(maps: Maps, masks: Masks, reading: Reading = "positive") -> tuple[Value, ...]:
    """What share of each heatmap lies inside a mask: its relevance mass. Source: arras2022clevrxai.

    Args:
        maps: signed, (b, h, w); brought to the mask's grid bilinearly where they are coarser.
        masks: (b, rows, columns), larger than 0 inside; a box or the outline of an object, say.
        reading: ``positive`` counts what speaks for the class, ``magnitude`` what matters either way.

    Returns:
        For each image a share from 0 to 1. By chance it is the mask's share of the picture.

    Undefined when: the heatmap is empty, or not finite.

    Raises:
        CallError: not one mask an image, or masks that are coarser than the maps.
        UnknownName: an unknown reading.

    Example:
        >>> mass_inside(torch.tensor([[[3.0, 1.0], [-2.0, 0.0]]]), torch.tensor([[[1, 0], [1, 0]]]))
        (0.75,)
    """
    heat = _on_masks(maps, masks, reading)
    return tuple(_mass(cells, inside) for cells, inside in zip(heat, masks > 0, strict=True))


def points_inside(maps: Maps, masks: Masks, reading: Reading = "positive") -> tuple[Value, ...]:
    """Whether each heatmap is hottest inside a mask: the pointing game. Source: zhang2018pointing.

    Args:
        maps: signed, (b, h, w); brought to the mask's grid bilinearly where they are coarser.
        masks: (b, rows, columns), larger than 0 inside.
        reading: ``positive`` counts what speaks for the class, ``magnitude`` what matters either way.

    Returns:
        For each image 1.0, 0.0, or the share of its equally hot cells that are inside; the mean is the game's score.

    Undefined when: the heatmap is empty, or not finite.

    Raises:
        CallError: not one mask an image, or masks that are coarser than the maps.
        UnknownName: an unknown reading.

    Example:
        >>> points_inside(torch.tensor([[[3.0, 1.0], [-9.0, 0.0]]]), torch.tensor([[[1, 0], [1, 0]]]))
        (1.0,)
    """
    heat = _on_masks(maps, masks, reading)
    return tuple(_hit(cells, inside) for cells, inside in zip(heat, masks > 0, strict=True))


def _on_masks(maps: Maps, masks: Masks, reading: Reading) -> Tensor:
    fits = len(masks) == len(maps) and all(fine >= cells for fine, cells in zip(masks.shape, maps.shape, strict=True))
    rule = f"one for each of {len(maps)} images, with at least {maps.shape[1]} x {maps.shape[2]} cells"
    require(fits, "mass_inside and points_inside", "masks", rule, tuple(masks.shape))
    if reading not in READ:
        raise UnknownName("reading", reading, READ)
    return enlarged(READ[reading](maps.detach().to(masks.device, torch.float64))[None], *masks.shape[1:])[0]


def _mass(cells: Tensor, inside: Tensor) -> Value:
    why = _lacking(cells)
    if why is not None:
        return why
    scaled = cells / cells.max()
    return float(scaled[inside].sum() / scaled.sum())


def _hit(cells: Tensor, inside: Tensor) -> Value:
    why = _lacking(cells)
    return why if why is not None else float(inside[cells == cells.max()].double().mean())


def _lacking(cells: Tensor) -> Undefined | None:
    if not bool(cells.isfinite().all()):
        return NOT_FINITE
    return None if float(cells.max()) > 0 else EMPTY
