"""How much of what a pre-softmax map shows lives in the shift that softmax cannot see."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fukusen.checks.check import Sight, checks, no_free_shift
from fukusen.models import INPUT, Classifier
from fukusen.models.classifier import unwrapped
from fukusen.models.evaluation import evaluating
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import CenteredLogit, Logit
from fukusen.tape import Place, Tape


@checks.register
@dataclass(frozen=True)
class ShiftShare:
    """The gradient of the mean logit against the gradient of the logit's distance from that mean, per image and place.

    The first cannot change a prediction, the second is what predictions are made of; a t(x) added to every logit enters
    the first whole and leaves the second alone. Where a network is so sure of an image that the second is next to
    nothing, any first is large against it; an audit takes that of the typical image instead.
    Source: lerma2023vulnerability, srinivas2021rethinking.
    """

    name: ClassVar[str] = "shift_share"
    title: ClassVar[str] = "Share of the map that no prediction depends on"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = (
        "size of the gradient that all logits share, relative to the part that tells classes apart; near 0 in an "
        "honest network, large where something was added to every logit"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only to softmax logits."""
        return no_free_shift(classifier)

    def measure(self, sight: Sight) -> list[Measurement]:
        """One ratio >= 0 for each image at the layer, and one at the input where the tape reaches it."""
        tape = sight.tape
        if tape is None:
            return []
        return [measurement for place in tape.places for measurement in shares_at(self.name, tape, place)]


def shares_at(check: str, tape: Tape, place: Place) -> list[Measurement]:
    """The gradient of the mean logit relative to that of the logit's distance from it, for each image at one place.

    Args:
        check: in whose name they are measured.
        tape: of the images.
        place: a layer of the tape, or ``INPUT``.
    """
    whole = tape.gradient(Logit(), place).double().flatten(1)
    telling = tape.gradient(CenteredLogit(), place).double().flatten(1)
    return _ratios(check, tape, place, ((whole - telling).norm(dim=1), telling.norm(dim=1)))


@checks.register
@dataclass(frozen=True)
class ShiftInMap:
    """How much of a logit's HiResCAM map no prediction depends on, per image and layer.

    The map of a logit is the sum of two: that of the mean of all logits, which can be redrawn without changing a
    prediction, and that of the logit's distance from the mean. This is the length of the first against the second.
    Training moves the mean logit little, and not in the way features point, so that in a trained network the first is
    fainter than the gradients that it is made of; a row that is added to the last layer in order to be seen points
    where features do. At the input, where no layer has rows and columns, input times gradient stands for HiResCAM.
    Source: lerma2023vulnerability, draelos2020hirescam.
    """

    name: ClassVar[str] = "shift_in_map"
    title: ClassVar[str] = "Heatmaps of logits show what predictions depend on"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = (
        "size of what the mean of all logits draws into a logit's heatmap, relative to what tells classes apart; near "
        "0 in an honest network, from 0.4 on people see the difference"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only to softmax logits."""
        return no_free_shift(classifier)

    def measure(self, sight: Sight) -> list[Measurement]:
        """One ratio >= 0 for each image and layer."""
        tape = sight.tape
        if tape is None:
            return []
        read: list[tuple[Place, Tensor]] = [(layer, tape.activations(layer)) for layer in tape.layers]
        if not read and tape.at_input:
            read = [(INPUT, tape.batch.images)]
        return [measurement for place, seen in read for measurement in self._at(tape, place, seen)]

    def _at(self, tape: Tape, place: Place, seen: Tensor) -> list[Measurement]:
        whole, telling = (tape.gradient(score, place).double() for score in (Logit(), CenteredLogit()))
        drawn = ((seen.to(part) * part).sum(dim=1).flatten(1) for part in (whole - telling, telling))
        common, own = (each.norm(dim=1) for each in drawn)
        return _ratios(self.name, tape, place, (common, own))


def _ratios(check: str, tape: Tape, place: Place, sizes: tuple[Tensor, Tensor]) -> list[Measurement]:
    """What all logits share relative to what tells them apart, for each image."""
    found = []
    for item, shared, kept in zip(tape.batch.items, *(size.tolist() for size in sizes), strict=True):
        value: Value = shared / kept if kept > 0 else Undefined("the logits do not depend on this layer")
        found.append(Measurement(check, value, item, layer=str(place)))
    return found


@checks.register
@dataclass(frozen=True)
class HeadMeanRow:
    """The mean row of the last linear layer against the median row: the shift that weights alone can hide.

    Training with softmax and cross-entropy never moves the mean row. Source: srinivas2021rethinking.
    """

    name: ClassVar[str] = "head_mean_row"
    title: ClassVar[str] = "Shift hidden in the last layer's weights"
    source: ClassVar[str] = "srinivas2021rethinking"
    meaning: ClassVar[str] = "size of what all rows of the last linear layer share, relative to a typical row"
    scope: ClassVar[Scope] = "model"
    larger_is_worse: ClassVar[bool] = True

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only to softmax logits made by a linear layer."""
        reason = no_free_shift(classifier)
        if reason is None and last_linear(classifier) is None:
            return Undefined("no linear layer with one row a class was found at the end of the network")
        return reason

    def measure(self, sight: Sight) -> list[Measurement]:
        """One ratio >= 0; independent random rows would give one over the root of the number of classes."""
        found = last_linear(sight.classifier)
        if found is None:
            return []
        name, weight = found
        rows = weight.detach().double().flatten(1)
        typical = rows.norm(dim=1).median().item()
        shared = rows.mean(dim=0).norm().item()
        value: Value = shared / typical if typical > 0 else Undefined("the last linear layer is zero")
        return [Measurement(self.name, value, layer=name)]


def last_linear(classifier: Classifier) -> tuple[str, Tensor] | None:
    """Name and weight of the last linear layer (or 1 x 1 convolution) called with one output a class."""
    seen: list[tuple[str, Tensor]] = []
    owner = threading.get_ident()

    def watch(module: nn.Module, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            weight = module.weight
            if threading.get_ident() == owner and isinstance(weight, Tensor):
                seen.append((name, weight))

        return module.register_forward_hook(hook)

    linear = (nn.Linear, nn.Conv2d)
    handles = [watch(module, name) for name, module in classifier.net.named_modules() if isinstance(module, linear)]
    try:
        image = torch.zeros(1, *classifier.input_shape, device=classifier.device, dtype=classifier.dtype)
        with evaluating(classifier.net), torch.no_grad():
            count = unwrapped(classifier.net(image)).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    rows = [(name, weight) for name, weight in seen if weight.shape[0] == count]
    fitting = [(name, weight) for name, weight in rows if weight[0].numel() == weight.shape[1]]
    return fitting[-1] if fitting else None
