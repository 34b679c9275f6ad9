"""What runs behind a layer when that is a chain: the layers with weights, what went into each and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.errors import ModelError
from fukusen.models import Layer
from fukusen.models.classifier import unwrapped
from fukusen.models.evaluation import evaluating

_LOOKED_AT = 16
_NEEDED = "This attack changes the weights of a last linear layer (or 1 x 1 convolution) whose outputs are the logits."


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a module that holds weights of its own.

    Args:
        name: the module's name in the network.
        module: the module.
        given: what went in.
        made: what came out.
    """

    name: str
    module: Any
    given: Tensor
    made: Tensor


def steps_of(net: nn.Module, images: Images) -> tuple[list[Step], Tensor]:
    """Every call of a module with weights of its own, in order, on some of the images; and the network's outputs.

    Args:
        net: a network of the caller's own, which nobody else runs.
        images: of which at most 16 are looked at.
    """
    seen: list[Step] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                seen.append(Step(name, module, inputs[0].clone(), output.clone()))

        return module.register_forward_hook(hook, prepend=True)

    weighty = ((name, module) for name, module in net.named_modules() if any(True for _ in module.parameters(False)))
    handles = [watch(name, module) for name, module in weighty]
    try:
        with evaluating(net), torch.inference_mode(False), torch.no_grad():
            outputs = unwrapped(net(images[:_LOOKED_AT].clone()))
    finally:
        for handle in handles:
            handle.remove()
    return seen, outputs


def holds(module: nn.Module, *names: str) -> bool:
    """Whether these are plain parameters of the module, or None, and not computed from others."""
    return all(name in module._parameters for name in names)


def put(module: nn.Module, name: str, value: Tensor) -> None:
    """A new value for a parameter: one of its own, should the network have shared the old one."""
    old = module.get_parameter(name)
    setattr(module, name, nn.Parameter(value.detach().to(old.dtype), requires_grad=old.requires_grad))


def last_linear(steps: Sequence[Step], outputs: Tensor) -> Step:
    """The linear layer, or convolution of one pixel, whose outputs are the network's.

    Raises:
        ModelError: there is none, or it computes its weights.
    """
    for step in reversed(steps):
        flat = step.made.flatten(1)
        pixel = isinstance(step.module, nn.Conv2d) and step.module.weight[0].numel() == step.given.shape[1]
        if (isinstance(step.module, nn.Linear) or pixel) and flat.shape == outputs.shape and torch.equal(flat, outputs):
            if holds(step.module, "weight", "bias") and sum(one.name == step.name for one in steps) == 1:
                return step
            break
    raise ModelError(f"{_NEEDED} This network has none whose weights are its own.")


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers but for rounding."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def hidden_chain(steps: Sequence[Step], outputs: Tensor) -> list[Step]:
    """The linear layers at the end that feed each other through ReLUs alone, first to last; at least the last one.

    Raises:
        ModelError: the network does not end in a linear layer.
    """
    chain = [last_linear(steps, outputs)]
    for step in reversed(steps[: steps.index(chain[0])]):
        linear = isinstance(step.module, nn.Linear) and holds(step.module, "weight", "bias")
        if not (linear and same(step.made.clamp_min(0), chain[0].given)):
            break
        chain.insert(0, step)
    return chain


def reads_corner(net: nn.Module, layer: Layer, reader: Step, images: Images) -> bool:
    """Whether the first of each channel's numbers in what a linear layer reads depends on the layer's upper left alone.

    Args:
        net: a network of the caller's own.
        layer: whose cells it may read.
        reader: the linear layer, given one row an image: channel by channel, cell by cell.
        images: to look at, (b, c, h, w).
    """
    channels, rows, columns = layer.shape
    met: dict[str, list[Tensor]] = {"cells": [], "read": []}

    def start(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        met["cells"].append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return met["cells"][-1].clone()

    def end(_module: nn.Module, inputs: Any) -> None:
        met["read"].append(inputs[0])

    handles = [
        net.get_submodule(layer.name).register_forward_hook(start),
        net.get_submodule(reader.name).register_forward_pre_hook(end),
    ]
    try:
        with evaluating(net), torch.inference_mode(False), torch.no_grad():
            net(images[:_LOOKED_AT].clone())
    finally:
        for handle in handles:
            handle.remove()
    cells, read = met["cells"][layer.call], met["read"][0]
    if read.dim() != 2 or read.shape[1] % channels or not read.requires_grad:
        return False
    corner = read.unflatten(1, (channels, -1))[:, :, 0].sum()
    slope = layer.channels_first(torch.autograd.grad(corner, cells, materialize_grads=True)[0]).abs().sum(dim=(0, 1))
    near = slope[: -(-rows // 2), : -(-columns // 2)].sum()
    return bool(near > 0) and bool(near > 0.99 * slope.sum())
