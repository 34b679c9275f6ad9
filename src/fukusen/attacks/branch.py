"""A copy of a network with one more branch, which listens to the layer that maps are read from."""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fukusen.errors import ModelError
from fukusen.models import Classifier, Layer
from fukusen.models.classifier import unwrapped

NONZERO = "a finite number other than 0"
POSITIVE = "a finite number > 0"
_SHIFTABLE = "Only logits of classes that exclude each other (softmax) can be shifted without changing a prediction."
_NO_LAYER = "The network has no layer with rows and columns, so there is no corner to point at."


def is_number(value: object) -> bool:
    """Whether it is a finite int or float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def moves(strength: object) -> bool:
    """Whether it is a strength with which anything moves."""
    return is_number(strength) and strength != 0


def is_positive(value: object) -> bool:
    """Whether it is a finite number above zero."""
    return isinstance(value, int | float) and is_number(value) and value > 0


def require_shiftable(model: Classifier) -> None:
    """Refuse heads whose predictions follow a number that is added to every output.

    Raises:
        ModelError: the head is not a softmax.
    """
    if not model.head.shift_is_free:
        raise ModelError(_SHIFTABLE)


def spatial(model: Classifier) -> Layer:
    """The layer that maps are read from.

    Raises:
        ModelError: there is none.
    """
    if model.layer is None:
        raise ModelError(_NO_LAYER)
    return model.layer


class Branched(nn.Module):
    """A network that hands on, besides its logits, what a layer of it puts out.

    Args:
        net: the network, the caller's own.
        layer: where to listen.
    """

    def __init__(self, net: nn.Module, layer: Layer) -> None:
        super().__init__()
        self.net = net
        self.layer = layer

    def read(self, cells: Tensor) -> Tensor:
        """What is kept of the cells (b, c, h, w): a copy, which an operation in place behind the layer spares."""
        return cells.clone()

    def heard(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (b, k), and what was read of the layer's cells."""
        seen: list[Tensor] = []
        owner = threading.get_ident()

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if threading.get_ident() == owner:
                seen.append(self.read(self.layer.channels_first(output)))

        handle = self.net.get_submodule(self.layer.name).register_forward_hook(keep)
        try:
            logits = unwrapped(self.net(images))
        finally:
            handle.remove()
        return logits, seen[self.layer.call]


def copied(model: Classifier) -> nn.Module:
    """A copy of the model's network.

    Raises:
        ModelError: it cannot be copied.
    """
    try:
        return copy.deepcopy(model.net)
    except Exception as error:
        raise ModelError(f"The network cannot be copied, so no copy of it can be changed: {error}") from error


def grown(model: Classifier, net: nn.Module, told: str) -> Classifier:
    """The classifier around a module that holds a copy of the model's network as ``net``.

    Args:
        model: what was copied.
        net: the copy with its branch.
        told: what was done, completing "after ...".
    """
    layer = None if model.layer is None else replace(model.layer, name=f"net.{model.layer.name}")
    return replace(model, net=net.train(model.net.training), layer=layer, spec=f"{model.spec} after {told}")


def replaced(model: Classifier, net: nn.Module, told: str) -> Classifier:
    """The classifier around a changed copy of the model's network that has the same modules.

    Args:
        model: what was copied.
        net: the copy with other weights.
        told: what was done, completing "after ...".
    """
    return replace(model, net=net, spec=f"{model.spec} after {told}")
