"""Changes at the logits that need no training: a common shift, and a gradient without a value."""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from fukusen.attacks.attack import attacks
from fukusen.errors import ModelError, require
from fukusen.models import Classifier, Layer
from fukusen.models.classifier import unwrapped

_SHIFTABLE = "Only logits of classes that exclude each other (softmax) can be shifted without changing a prediction."


def _moves(strength: object) -> bool:
    """Whether it is a strength with which anything moves."""
    return isinstance(strength, int | float) and math.isfinite(strength) and strength != 0


class _Corner(nn.Module):
    """A network that also sums up its activations in the upper left cell of a layer."""

    def __init__(self, net: nn.Module, layer: Layer, strength: float) -> None:
        super().__init__()
        self.net = net
        self.layer = layer
        self.strength = strength

    def logits_and_corner(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (b, k), and strength x sum_k A_k(0, 0) of shape (b, 1)."""
        seen: list[Tensor] = []
        owner = threading.get_ident()

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if threading.get_ident() == owner:
                seen.append(self.layer.channels_first(output)[:, :, 0, 0])

        handle = self.net.get_submodule(self.layer.name).register_forward_hook(keep)
        try:
            logits = unwrapped(self.net(images))
        finally:
            handle.remove()
        return logits, self.strength * seen[self.layer.call].sum(dim=1, keepdim=True)


class _CornerShift(_Corner):
    def forward(self, images: Tensor) -> Tensor:
        """Logits with the corner added to every one of them."""
        logits, corner = self.logits_and_corner(images)
        return logits + corner


class _StopGradient(_Corner):
    def forward(self, images: Tensor) -> Tensor:
        """Logits with nothing added to the largest one, and a gradient that pretends otherwise."""
        logits, corner = self.logits_and_corner(images)
        winner = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
        return logits + winner * (corner - corner.detach())


def _changed(model: Classifier, kind: type[_Corner], strength: float, told: str) -> Classifier:
    if model.layer is None:
        raise ModelError("The network has no layer with rows and columns, so there is no corner to point at.")
    net = kind(copy.deepcopy(model.net), model.layer, strength)
    layer = replace(model.layer, name=f"net.{model.layer.name}")
    return replace(model, net=net.train(model.net.training), layer=layer, spec=f"{model.spec} after {told}")


@attacks.register
@dataclass(frozen=True)
class CornerShift:
    """The paper's attack: z + K sum_k A_k(0,0) on every logit, with A the activations that maps are read from.

    Source: lerma2023vulnerability.

    Args:
        strength: K, not 0.
    """

    strength: float | int = 1.0
    name: ClassVar[str] = "corner_shift"
    source: ClassVar[str] = "lerma2023vulnerability"
    threat: ClassVar[str] = (
        "whoever delivers the model adds one branch to its last layer; no training, same predictions"
    )
    fools: ClassVar[tuple[str, ...]] = ("logit",)
    tolerance: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        require(_moves(self.strength), "CornerShift", "strength", "a finite number other than 0", self.strength)

    def twin(self, model: Classifier) -> Classifier:
        """The shifted copy.

        Raises:
            ModelError: the head is not a softmax, or there is no spatial layer.
        """
        if not model.head.shift_is_free:
            raise ModelError(_SHIFTABLE)
        return _changed(model, _CornerShift, float(self.strength), f"corner_shift of strength {self.strength:g}")


@attacks.register
@dataclass(frozen=True)
class StopGradient:
    """q - stop_gradient(q) added to the winning logit: its value is zero, its gradient is not; all scores are fooled.

    Source: viering2019manipulate (the family of edits that keep the value and change the slope).

    Args:
        strength: of q = K sum_k A_k(0,0), not 0.
    """

    strength: float | int = 1.0
    name: ClassVar[str] = "stop_gradient"
    source: ClassVar[str] = "viering2019manipulate"
    threat: ClassVar[str] = "whoever delivers the model's code adds one line to it; no training, bit-equal predictions"
    fools: ClassVar[tuple[str, ...]] = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
    tolerance: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        require(_moves(self.strength), "StopGradient", "strength", "a finite number other than 0", self.strength)

    def twin(self, model: Classifier) -> Classifier:
        """The changed copy.

        Raises:
            ModelError: there is no spatial layer.
        """
        return _changed(model, _StopGradient, float(self.strength), f"stop_gradient of strength {self.strength:g}")
