"""What each step of a network adds beyond its derivative, kept with the forward pass that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fukusen.methods.interception import functions
from fukusen.models.reasons import reason

Function = Callable[..., Any]

_AFFINE = functions(
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "batch_norm"
)
_CELLWISE = functions(
    *("relu", "relu6", "leaky_relu", "hardtanh", "clamp", "clamp_min", "hardswish", "hardsigmoid", "silu", "gelu"),
    *("sigmoid", "tanh", "elu", "selu", "celu", "softplus", "mish", "softsign", "logsigmoid", "square", "exp", "log"),
)
# What they put out stands in no (b, c, h, w), whatever number of axes it has.
_ELSEWHERE = functions(
    *("linear", "layer_norm", "rms_norm", "softmax", "matmul", "bmm", "baddbmm", "einsum"),
    *("scaled_dot_product_attention", "multi_head_attention_forward"),
)


@dataclass
class BiasShares:
    """What the biases add to one score.

    Args:
        placed: by rows and columns, what entered at each cell, shape (b, h, w), float64.
        total: of all, shape (b,), with those that have no place.
        size: the sum of each step's magnitude, shape (b,): what rounding is to be measured by.
    """

    placed: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    total: Any = 0.0
    size: Any = 0.0

    def add(self, gradient: Tensor, bias: Tensor) -> None:
        """One step's share: what comes back to its output, times its bias."""
        if gradient.dim() == 4 and gradient.shape[2] * gradient.shape[3] > 1:
            sides = (gradient.shape[2], gradient.shape[3])
            cells = torch.einsum("bchw,bchw->bhw", gradient, bias.expand_as(gradient)).double()
            self.placed[sides] = self.placed[sides] + cells if sides in self.placed else cells
            whole = cells.sum(dim=(1, 2))
        else:
            whole = (gradient * bias).reshape(len(gradient), -1).sum(dim=1).double()
        self.total, self.size = self.total + whole, self.size + whole.abs()


class Biases(TorchFunctionMode):
    """Within it, every step of a forward pass is looked at, and a backward pass then hands out what each bias adds.

    A step is a function of torch that is given something which depends on the input. Its bias is h(x) - J x: exact for
    every function whose derivative has a derivative, without a list of layers. Weights that are themselves computed
    are left out of the graph. Acts in one thread only and leaves the network alone.

    ``reason`` says afterwards why the biases are not all known, if they are not.

    Args:
        images: how many images the pass is of.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self._images = images
        self.reason: str | None = None
        self._shares: BiasShares | None = None

    @contextmanager
    def shared(self) -> Iterator[BiasShares]:
        """Collects what the backward passes inside bring to each bias."""
        self._shares = BiasShares()
        try:
            yield self._shares
        finally:
            self._shares = None

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            return func(*args, **keywords)
        step = _Step(func, args, keywords)
        if not step.given:
            with torch.no_grad():
                return func(*args, **keywords)
        # Before the step itself runs, which may write over what it is given.
        bias = self._bias(step, name)
        output = func(*args, **keywords)
        if bias is not None and output.requires_grad:
            self._attach(func, name, output, bias)
        return output

    def _bias(self, step: _Step, name: str) -> Tensor | None:
        try:
            bias = step.bias()
        except (RuntimeError, NotImplementedError) as error:
            self.reason = self.reason or f"the step {name!r} cannot be taken apart ({reason(error)})"
            return None
        return bias if bias is not None and bool(bias.any()) else None

    def _attach(self, func: Function, name: str, output: Tensor, bias: Tensor) -> None:
        by_image = output.dim() in (1, 2, 4) and len(output) == self._images
        if not by_image or (func in _ELSEWHERE and output.dim() > 2):
            self.reason = self.reason or (
                f"the step {name!r} adds something that is not laid out in rows and columns with the channels first"
            )
            return

        def hook(gradient: Tensor) -> None:
            if self._shares is not None:
                self._shares.add(gradient, bias)

        output.register_hook(hook)


class _Step:
    """One call of a function, to be run again on copies of what it is given.

    Args:
        func: the function.
        args: its arguments.
        kwargs: its keywords.
    """

    def __init__(self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._func, self._args, self._kwargs = func, args, kwargs
        self.given: list[Tensor] = []
        self._seek((args, kwargs))

    def _seek(self, value: Any) -> None:
        """Find what depends on the input: what needs a gradient and is no weight."""
        if isinstance(value, Tensor):
            if value.requires_grad and not isinstance(value, nn.Parameter):
                self.given.append(value)
        elif isinstance(value, list | tuple | dict):
            for one in value.values() if isinstance(value, dict) else value:
                self._seek(one)

    def bias(self) -> Tensor | None:
        """h(x) - J x, in the shape of the output or one that is spread to it; None where there is none."""
        first = self._args[0] if self._args else None
        alone = len(self.given) == 1 and self.given[0] is first
        if alone and self._func in _AFFINE and not any(value is True for value in self._args):
            return self._at_zero(self.given[0])
        leaves = [value.detach().requires_grad_() for value in self.given]
        waiting = iter([leaf.clone() for leaf in leaves])
        output = self._func(*self._copied(self._args, waiting), **self._copied(self._kwargs, waiting))
        if not isinstance(output, Tensor) or not output.requires_grad:
            return None
        if alone and self._func in _CELLWISE and output.shape == leaves[0].shape:
            (slope,) = torch.autograd.grad(output, leaves, torch.ones_like(output))
            linear = slope * leaves[0].detach()
        else:
            linear = _derivative(output, leaves)
        bias = output.detach() - linear
        rounding = 16 * torch.finfo(output.dtype).eps * output.detach().abs().amax()
        return bias if bool((bias.abs() > rounding).any()) else None

    def _at_zero(self, given: Tensor) -> Tensor:
        """For a step that is linear but for its bias: what it makes of a single image of zeros."""
        with torch.no_grad():
            found: Tensor = self._func(given.new_zeros((1, *given.shape[1:])), *self._args[1:], **self._kwargs)
        return found

    def _copied(self, value: Any, waiting: Iterator[Tensor]) -> Any:
        if isinstance(value, Tensor):
            return next(waiting) if value.requires_grad and not isinstance(value, nn.Parameter) else value.detach()
        if isinstance(value, dict):
            return {key: self._copied(one, waiting) for key, one in value.items()}
        if isinstance(value, list):
            return [self._copied(one, waiting) for one in value]
        return tuple(self._copied(one, waiting) for one in value) if type(value) is tuple else value


def _derivative(output: Tensor, leaves: list[Tensor]) -> Tensor:
    """J x, by differentiating the backward pass: u -> x . J^T u is linear in u, and its gradient is J x."""
    probe = torch.zeros_like(output).requires_grad_()
    back = torch.autograd.grad(output, leaves, probe, create_graph=True, materialize_grads=True)
    along = sum((one * leaf.detach()).sum() for one, leaf in zip(back, leaves, strict=True))
    (found,) = torch.autograd.grad(along, probe, materialize_grads=True)  # type: ignore[arg-type]
    return found
