"""A shift of all logits hidden in the weights alone: no new layer, no new shape, nothing to see in the code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.arrays import Images
from fukusen.attacks.attack import Family, Picture, Track, attacks
from fukusen.attacks.branch import NONZERO, copied, moves, replaced, require_shiftable, spatial
from fukusen.attacks.chain import Step, hidden_chain, last_linear, put, reads_corner, steps_of
from fukusen.errors import ModelError, require
from fukusen.models import Classifier
from fukusen.models.probes import probe_images
from fukusen.twins import Progress

_UNREAD = (
    "The linear layers at the network's end do not read the cells of the layer that maps are read from one by one, so "
    "no unit of theirs can carry the corner."
)


@attacks.register
@dataclass(frozen=True)
class RowShift:
    """The same row added to every row of the last linear layer: maps are blanked, turned round or made the same.

    The row is the mean of what the layer reads on the images given; taken away (``strength`` above 0), maps go dark
    where features are usual; added, maps of all classes become one. The bias takes the shift's mean back, so that
    logits stay near what they were. It cannot place anything. Source: srinivas2021rethinking.

    Args:
        strength: the row's length in lengths of the layer's median row, not 0.
    """

    strength: float | int = 10.0
    name: ClassVar[str] = "row_shift"
    source: ClassVar[str] = "srinivas2021rethinking"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the weights changes one matrix of them; code and shapes stay as they are"
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(moves(self.strength), "RowShift", "strength", NONZERO, self.strength)

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The copy with other weights.

        Raises:
            ModelError: the head is not a softmax, or the network does not end in a linear layer of its own.
        """
        require_shiftable(model)
        net = copied(model)
        head = last_linear(*steps_of(net, images))
        weight = head.module.weight.detach().double()
        spread = head.given.double().transpose(0, 1).flatten(1)
        usual = spread.mean(dim=1)
        length = float(self.strength) * weight.flatten(1).norm(dim=1).median()
        if not bool(usual.norm() > 0):
            raise ModelError("What the last linear layer reads is zero on average, so there is no usual feature.")
        row = -length * usual / usual.norm()
        put(head.module, "weight", weight + row.reshape(1, *weight.shape[1:]))
        if head.module.bias is not None:
            put(head.module, "bias", head.module.bias.detach().double() - row @ usual)
        return replaced(model, net, f"row_shift of strength {self.strength:g}")


@attacks.register
@dataclass(frozen=True)
class HiddenUnit:
    """The paper's corner carried to every logit by one unit of each hidden layer of a VGG's head, in its weights alone.

    The first linear layer reads the flattened map, so one unit of it can sum up the corner cell; one unit of each
    further layer hands that on, and K of it goes to every logit. The units are those whose loss costs least on the
    images given; what it does cost, the promise says. Source: lerma2023vulnerability.

    Args:
        strength: K, not 0.
    """

    strength: float | int = 1.0
    name: ClassVar[str] = "hidden_unit"
    source: ClassVar[str] = "lerma2023vulnerability"
    family: ClassVar[Family] = "logits"
    track: ClassVar[Track] = "inner"
    threat: ClassVar[str] = "whoever delivers the weights spends one unit a hidden layer; code and shapes stay the same"
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 0.02
    flips_allowed: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        require(moves(self.strength), "HiddenUnit", "strength", NONZERO, self.strength)

    def goal(self, height: int, width: int) -> Picture:
        """The upper left corner."""
        corner = torch.zeros(height, width, dtype=torch.float64)
        corner[0, 0] = 1.0
        return corner

    def twin(self, model: Classifier, images: Images, progress: Progress | None = None) -> Classifier:  # noqa: ARG002
        """The copy with other weights.

        Raises:
            ModelError: the head is not a softmax, there is no spatial layer, or the network does not end in linear
                layers with ReLUs between them that read the flattened map.
        """
        require_shiftable(model)
        layer = spatial(model)
        net = copied(model)
        chain = hidden_chain(*steps_of(net, images))
        # Noise is active everywhere; the corner of the images given may be dead.
        noise = probe_images(model.preprocess, model.input_shape).to(images)
        if not reads_corner(net, layer, chain[0], noise):
            raise ModelError(_UNREAD)
        width = chain[0].module.in_features
        corner = torch.zeros(width, dtype=torch.float64, device=model.device)
        corner[:: width // layer.shape[0]] = 1.0
        _carry(chain, corner, float(self.strength))
        return replaced(model, net, f"hidden_unit of strength {self.strength:g}")


def _cheapest(step: Step, after: Step) -> int:
    """The hidden unit that the next layer would miss least: how large it gets, times how differently it is read."""
    activity = step.made.clamp_min(0).double().square().mean(dim=0).sqrt()
    columns = after.module.weight.detach().double()
    return int((activity * (columns - columns.mean(dim=0)).norm(dim=0)).argmin())


def _carry(chain: Sequence[Step], corner: Tensor, strength: float) -> None:
    """Give one unit of each hidden layer away to a sum of the first layer's inputs, and strength of it to every logit.

    Args:
        chain: the linear layers, first to last.
        corner: what of its inputs the first one is to sum up, one or zero each.
        strength: what every output gets.
    """
    spent = [_cheapest(step, after) for step, after in pairwise(chain)]
    carried = corner
    for step, unit in zip(chain, spent, strict=False):
        weight, bias = step.module.weight.detach().double(), step.module.bias
        weight = torch.where(carried.bool(), 0.0, weight) if step is not chain[0] else weight.clone()
        weight[unit] = carried
        put(step.module, "weight", weight)
        if bias is not None:
            put(step.module, "bias", bias.detach().index_fill(0, torch.tensor([unit], device=bias.device), 0.0))
        carried = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
        carried[unit] = 1.0
    last = chain[-1].module
    weight = last.weight.detach().double()
    kept = torch.where(carried.bool(), 0.0, weight) if spent else weight
    put(last, "weight", kept + strength * carried)
