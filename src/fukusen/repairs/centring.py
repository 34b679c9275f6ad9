"""The mean of all logits taken away: in the last layer's weights, or behind the network."""

from __future__ import annotations

import copy
import math
import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.models import Classifier
from fukusen.models.classifier import unwrapped
from fukusen.models.evaluation import evaluating

_POOLED = 1e-4


class Centered(nn.Module):
    """A network with each image's mean logit taken away; softmax gives the same of what is left.

    Args:
        net: a network that returns logits, in whatever form `fukusen.wrap` takes.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Logits (b, k) with a mean of zero; those of half precision are centred, and returned, in single."""
        logits = unwrapped(self.net(images))
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        return logits - (logits * _shares(logits)).sum(dim=1, keepdim=True)


def _shares(logits: Tensor) -> Tensor:
    """What each logit has in the mean, shape (k,): 1/k, but for the last bit of one, so that they sum to exactly one.

    So the gradient of a centred logit sums to exactly zero over the logits, in any order of summation. With 1/k rounded
    each time the same way it would not, and a shift a million times as steep as the rest would shine through.
    """
    classes, steps = logits.shape[1], round(1 / torch.finfo(logits.dtype).eps)
    more = torch.arange(classes, device=logits.device) < steps % classes
    return (steps // classes + more).to(logits.dtype) / steps


def behind(model: Classifier) -> Classifier:
    """A copy of the model with the mean taken away behind the network."""
    net = Centered(copy.deepcopy(model.net)).train(model.net.training)
    layer = None if model.layer is None else replace(model.layer, name=f"net.{model.layer.name}")
    return replace(model, net=net, layer=layer)


def in_weights(model: Classifier, place: str) -> Classifier:
    """A copy of the model whose last layer has a mean row, and a mean bias, of exactly zero.

    Args:
        model: the model.
        place: the layer's name, from `last_layer`.
    """
    net = copy.deepcopy(model.net)
    head = net.get_submodule(place)
    for value in (head.weight, head.bias):
        if isinstance(value, Tensor):
            with torch.no_grad():
                value.copy_(mean_free(value.detach().flatten(1) if value.dim() > 1 else value[:, None]).view_as(value))
    return replace(model, net=net)


def mean_free(rows: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """The rows less their mean row, rounded so that the sum of each column is zero to the last bit in float64.

    Every entry becomes a multiple of one step a column, the last bit of its largest entry; what the roundings of a
    column sum up to is spread over the entries that it displaces least, so none is off by more than one step.

    Example:
        >>> mean_free(torch.tensor([[1.0, 0.1], [2.0, 0.1], [6.0, 0.2]])).double().sum(dim=0).tolist()
        [0.0, 0.0]
    """
    exact = rows.detach().cpu().double()
    for _ in range(2):  # what rounding leaves of a large mean is small beside the rest only the second time
        exact = exact - exact.mean(dim=0)
    limits = torch.finfo(rows.dtype)
    digits = round(-math.log2(limits.eps)) + 1
    top, total = exact.abs().amax(dim=0), exact.abs().sum(dim=0)
    # No finer than float64 can sum up without rounding, and than the dtype can hold.
    power = torch.maximum(torch.frexp(top).exponent - digits, torch.frexp(total).exponent - 53)
    step = torch.ldexp(torch.ones_like(top), power).clamp_min(limits.smallest_normal * limits.eps)
    scaled = exact / step
    below = scaled.floor()
    lacking = -below.sum(dim=0)
    below = below + torch.div(lacking, len(rows), rounding_mode="floor")
    rank = (scaled - scaled.floor()).argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return ((below + (rank < lacking.remainder(len(rows)))) * step).to(rows.device, rows.dtype)


def last_layer(model: Classifier, images: Images) -> str | None:
    """The linear layer, or 1 x 1 convolution, whose output is the logits: called once, with weights of its own.

    A convolution's output may also be averaged over the picture first. None where there is no such layer: then
    something else has a say in the logits, or the weights are made by a rule.

    Args:
        model: the model, run once.
        images: preprocessed, (b, c, h, w).
    """
    seen: list[tuple[str, Tensor]] = []
    owner = threading.get_ident()

    def watch(module: nn.Module, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == owner and isinstance(output, Tensor):
                seen.append((name, output.detach().clone()))

        return module.register_forward_hook(hook)

    handles = [watch(module, name) for name, module in model.net.named_modules() if _has_rows(module)]
    try:
        with evaluating(model.net), torch.inference_mode(False), torch.no_grad():
            logits = unwrapped(model.net(images.detach().clone().to(model.device, model.dtype)))
    finally:
        for handle in handles:
            handle.remove()
    calls = Counter(name for name, _ in seen)
    own = _own_weights(model.net)
    fitting = [name for name, output in seen if calls[name] == 1 and name in own and _is_all(output, logits)]
    return fitting[-1] if fitting else None


def _has_rows(module: nn.Module) -> bool:
    """Whether it computes W x + b with plain weights of its own; a subclass may do anything with them."""
    if type(module) is nn.Conv2d:
        return set(module.kernel_size) == {1} and module.groups == 1 and "weight" in module._parameters
    return type(module) is nn.Linear and "weight" in module._parameters


def _own_weights(net: nn.Module) -> set[str]:
    """The modules none of whose weights hangs elsewhere in the network, too."""
    named = list(net.named_parameters(remove_duplicate=False))
    uses = Counter(id(value) for _, value in named)
    shared = {name.rpartition(".")[0] for name, value in named if uses[id(value)] > 1}
    return {name for name, _ in net.named_modules()} - shared


def _is_all(output: Tensor, logits: Tensor) -> bool:
    """Whether a layer's output is the logits, but for axes of length one or a mean over the picture."""
    if output.dim() == 4 and output.shape[:2] == logits.shape and output.shape[2:].numel() > 1:
        pooled = output.double().mean(dim=(2, 3))
        return bool((pooled - logits.double()).abs().max() <= _POOLED * logits.double().abs().max())
    return output.numel() == logits.numel() and torch.equal(output.reshape(logits.shape), logits)
