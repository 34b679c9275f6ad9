"""Channels of one layer that are the same and undo each other: nothing comes of them but in maps that cut gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.checks.check import Sight, checks
from fukusen.models import Classifier, Layer
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import LogOdds
from fukusen.tape import Tape

SAME = 1e-6
"""How far below 1 the cosine of two channels may be: rounding leaves 1e-7, channels that were learnt differ by more."""
FEWEST = 8
"""In how many cells a channel must be active: of those with one or two active cells, many are alike by chance."""
FAINT = 0.01
"""Below which part of its largest value a channel is not active, and of its length its variation is none."""
NO_LAYER = Undefined("the network has no layer with rows and columns")
TOO_FEW = Undefined(f"the layer has fewer than {FEWEST} cells, too few to tell whether two channels are the same")


@checks.register
@dataclass(frozen=True)
class CancellingChannels:
    """How much two channels with the same pattern add to a map and take off again, per image and layer.

    Whoever copies a channel and reads the copies with weights that sum to nothing changes no output and no map that
    adds all channels up, such as Grad-CAM's. Maps that keep the positive gradients alone, such as LayerCAM's, keep one
    of the two, and show it as strong as it was made, in every score. Source: jiang2021layercam, whose cut it exploits.
    """

    name: ClassVar[str] = "cancelling_channels"
    title: ClassVar[str] = "No channels undo each other"
    source: ClassVar[str] = "jiang2021layercam"
    meaning: ClassVar[str] = (
        "size of what channels of the same pattern add and take off again, relative to the rest of activation times "
        "gradient; 0 in an honest network, in which no two channels are the same"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({TOO_FEW.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:
        """To networks with a layer that has rows and columns."""
        return NO_LAYER if classifier.layer is None else None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One ratio >= 0 for each image and layer."""
        tape = sight.tape
        return [] if tape is None else [one for layer in tape.layers for one in self._at(tape, layer)]

    def _at(self, tape: Tape, layer: Layer) -> list[Measurement]:
        seen = tape.activations(layer).flatten(2)
        added = (seen * tape.gradient(LogOdds(), layer).flatten(2)).double()
        found = []
        for item, channels, parts in zip(tape.batch.items, seen, added, strict=True):
            if seen.shape[2] < FEWEST:
                found.append(Measurement(self.name, TOO_FEW, item, layer=str(layer)))
                continue
            undone = sum((_undone(parts[list(group)]) for group in alike(channels)), 0.0)
            whole = parts.abs().sum().item() - undone
            value: Value = undone / whole if whole > 0 else Undefined("the score does not depend on this layer")
            found.append(Measurement(self.name, value, item, layer=str(layer)))
        return found


def _undone(parts: Tensor) -> float:
    """What some channels' products, (k, cells), add and take off again."""
    return (parts.abs().sum() - parts.sum(dim=0).abs().sum()).item()


def alike(channels: Tensor) -> list[tuple[int, ...]]:
    """Groups of channels with the same pattern up to a factor, at least two in each.

    Alike channels have the same product with any direction, so that they are neighbours in its order.

    Args:
        channels: of one image, (channels, cells).

    Returns:
        Their numbers. Channels that hardly vary over the image, or are active in few cells, are in no group.

    Example:
        >>> pattern = torch.arange(16.0)
        >>> alike(torch.stack([pattern, pattern**2, -3 * pattern, torch.ones(16)]))
        [(0, 2)]
    """
    exact = channels.double()
    varying = (exact - exact.mean(dim=1, keepdim=True)).norm(dim=1) > FAINT * exact.norm(dim=1)
    active = (exact.abs() > FAINT * exact.abs().amax(dim=1, keepdim=True)).sum(dim=1) >= FEWEST
    numbers = (varying & active).nonzero()[:, 0]
    unit = torch.nn.functional.normalize(exact[numbers], dim=1)
    direction = torch.randn(unit.shape[1], generator=torch.Generator().manual_seed(0), dtype=unit.dtype)
    product = unit @ direction.to(unit.device)
    order = product.abs().argsort()
    close = (unit[order[1:]] * unit[order[:-1]]).sum(dim=1).abs() > 1 - SAME
    groups: list[list[int]] = []
    joined = False
    for place, same in enumerate(close.tolist()):
        if same and not joined:
            groups.append([int(numbers[order[place]])])
        if same:
            groups[-1].append(int(numbers[order[place + 1]]))
        joined = same
    return [tuple(sorted(group)) for group in groups]
