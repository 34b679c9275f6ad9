"""What is added to every logit beside the last linear layer: nothing, in an honest network."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Logits
from fukusen.checks.check import Sight, checks, no_free_shift
from fukusen.checks.shift import shares_at
from fukusen.errors import ModelError
from fukusen.models import Classifier
from fukusen.models.classifier import unwrapped
from fukusen.models.evaluation import evaluating
from fukusen.records import Measurement, Scope, Undefined
from fukusen.repairs.centring import in_weights
from fukusen.tape import Tape

_SAME = 1e-3
NO_ROWS = Undefined("no linear layer with one row a class was found at the end of the network")
OTHERWISE = Undefined(
    "the logits are not the last linear layer's output plus the same number for all, so the two cannot be compared"
)


@checks.register
@dataclass(frozen=True)
class AddedShift:
    """The gradient of what all logits share and no weight of the last linear layer makes, per image and place.

    In a copy, the rows of the last linear layer are centred: what it puts out then has a mean of zero, and no gradient
    of the mean logit is left in an honest network, trained or not and of however few classes. What is left was added
    beside the layer's weights: by a branch, a hook or code in the layer. It is relative to the part of the gradient
    that tells classes apart. Source: lerma2023vulnerability, srinivas2021rethinking.
    """

    name: ClassVar[str] = "added_shift"
    title: ClassVar[str] = "Nothing is added to all logits beside the last layer"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = (
        "size of the gradient that all logits share although no weight of the last linear layer makes it, relative to "
        "the part that tells classes apart; 0 but for rounding in an honest network"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = True
    on_sample: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset({NO_ROWS.reason, OTHERWISE.reason})

    def applies(self, classifier: Classifier) -> Undefined | None:
        """Only to softmax logits made by a linear layer."""
        return no_free_shift(classifier)

    def measure(self, sight: Sight) -> list[Measurement]:
        """One ratio >= 0 for each image at each layer, and one at the input where the tape reaches it."""
        tape = sight.tape
        if tape is None:
            return []
        found = _centred(sight.classifier, tape)
        if isinstance(found, Undefined):
            return [Measurement(self.name, found, item) for item in tape.batch.items]
        batch = Batch(tape.batch.items, tape.batch.images, tape.targets)
        other = Tape(found, batch, layers=tape.layers, at_input=tape.at_input)
        return [one for place in tape.places for one in shares_at(self.name, other, place)]


def _centred(classifier: Classifier, tape: Tape) -> Classifier | Undefined:
    """A copy with centred rows, where the logits are W x + b, and at most one number more for all classes."""
    found = _last(classifier, tape)
    if found is None:
        return NO_ROWS
    place, own = found
    if not _apart_by_one_number(tape.logits, own):
        return OTHERWISE
    try:
        copy = in_weights(classifier, place)
        centred = copy.logits(tape.batch.images)
    except (ModelError, RuntimeError, TypeError) as error:
        return Undefined(f"a copy of the network could not be made ({type(error).__name__})")
    # Weights that hang elsewhere in the network, too, do more than making logits.
    return copy if _apart_by_one_number(tape.logits, centred) else OTHERWISE


def _apart_by_one_number(logits: Logits, other: Logits) -> bool:
    """Whether each image's two rows of logits differ by the same number for all classes."""
    left, right = (one.double() - one.double().mean(dim=1, keepdim=True) for one in (logits, other.to(logits.device)))
    # Rounding is that of the numbers as they were before their mean was taken away.
    size = right.abs().amax(dim=1) + torch.finfo(logits.dtype).eps * logits.double().abs().amax(dim=1) / _SAME
    return bool(((left - right).abs().amax(dim=1) <= _SAME * size).all())


def _last(classifier: Classifier, tape: Tape) -> tuple[str, Logits] | None:
    """The last linear layer (or 1 x 1 convolution) with one row a class: its name, and W x + b of what it was given."""
    seen: list[tuple[str, Tensor]] = []
    owner = threading.get_ident()
    count = tape.logits.shape[1]

    def watch(module: nn.Module, name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, _output: Any) -> None:
            if threading.get_ident() == owner and inputs and isinstance(inputs[0], Tensor):
                seen.append((name, _product(module, inputs[0])))

        return module.register_forward_hook(hook, prepend=True)

    fitting = [(name, module) for name, module in classifier.net.named_modules() if _has_rows(module, count)]
    handles = [watch(module, name) for name, module in fitting]
    try:
        with evaluating(classifier.net), torch.inference_mode(False), torch.no_grad():
            images = tape.batch.images.detach().clone().to(classifier.device, classifier.dtype)
            unwrapped(classifier.net(images))
    finally:
        for handle in handles:
            handle.remove()
    rows = [(name, values) for name, values in seen if values.shape == tape.logits.shape]
    return rows[-1] if rows else None


def _has_rows(module: nn.Module, count: int) -> bool:
    """Whether it holds plain weights with one row a class, whatever it does with them."""
    weight = module._parameters.get("weight")
    if not isinstance(module, nn.Linear | nn.Conv2d) or weight is None or weight.shape[0] != count:
        return False
    return not isinstance(module, nn.Conv2d) or (set(module.kernel_size) == {1} and module.groups == 1)


def _product(module: nn.Module, given: Tensor) -> Tensor:
    """W x + b, averaged over the picture where there is one."""
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    if weight is None:
        raise TypeError("only modules with weights of their own are asked")
    rows = given.detach().flatten(2).mean(dim=2) if given.dim() == 4 else given.detach()
    return nn.functional.linear(rows, weight.detach().flatten(1), bias)
