"""The rules by which relevance goes back through what holds no weights: activations, sums, means, gates and norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from fukusen.methods.interception import Function, Rule, functions, tensors

STABILISER = 1e-6
_OF_ONE = functions(
    "relu", "relu6", "hardtanh", "leaky_relu", "prelu", "threshold", "clamp", "clamp_min", "tanh", "silu", "gelu"
) | functions("mish", "elu", "selu", "celu", "softplus", "softsign", "hardswish", "logsigmoid", "batch_norm", "abs")
_OF_ONE |= functions("square", "pow", "sqrt", "exp", "log", "neg", "sub", "subtract", "rsub")
_GATES = functions("sigmoid", "hardsigmoid")
_SCALINGS = functions("mul", "multiply", "div", "divide", "true_divide", "truediv")
_MEANS = functions(
    "mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "interpolate"
)
_OWN = ("_PassedBackward", "_GateBackward", "_SumBackward", "_InProportionBackward")
_GATE = "_GateBackward"
_ROUTES = ("View", "Unsqueeze", "Squeeze", "Expand", "Reshape", "Permute", "Transpose", "Clone")
_WEIGHED = ("Convolution", "Addmm", "Mm", "Mv", "Bmm", "Mkldnn", "AccumulateGrad", "torch::autograd::AccumulateGrad")


def _stable(value: Tensor) -> Tensor:
    return value + torch.where(value >= 0, STABILISER, -STABILISER)


def _slope(ctx: Any, above: Tensor) -> Tensor:
    """What the function's derivative makes of what comes back: the chain rule, on the way to the logits."""
    with torch.enable_grad():
        below = ctx.below.clone().requires_grad_()
        value = ctx.run(below)
    found: Tensor
    (found,) = torch.autograd.grad(value, below, above)
    return found


class _Passed(torch.autograd.Function):
    """A value whose relevance goes back whole to the one input that it is made of."""

    @staticmethod
    def forward(ctx: Any, below: Tensor, run: Function) -> Tensor:
        ctx.is_output, ctx.shape, ctx.run = False, below.shape, run
        # Only what could be logits is kept: of anything else no derivative is asked.
        ctx.below = below.detach().clone() if below.dim() <= 2 else None
        value: Tensor = run(below.detach())
        return value

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        return _slope(ctx, above[0]) if ctx.is_output else above[0].sum_to_size(ctx.shape), None


class _Gate(_Passed):
    """The same for a value between 0 and 1, so that it can be told from a signal."""


class _InProportion(torch.autograd.Function):
    """A linear function without weights: relevance goes back in proportion to what each input adds to each output."""

    @staticmethod
    def forward(ctx: Any, below: Tensor, run: Function) -> Tensor:
        ctx.is_output, ctx.shape, ctx.run = False, below.shape, run
        ctx.below = below.detach().clone()
        value: Tensor = run(below.detach())
        return value

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        if ctx.is_output:
            return _slope(ctx, above[0]), None
        with torch.no_grad():
            total = _stable(ctx.run(ctx.below))
        return _slope(ctx, above[0] / total) * ctx.below, None


class _Sum(torch.autograd.Function):
    """An addition: relevance goes back to its terms in proportion to their values."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        total = first + second
        ctx.is_output, ctx.shape, ctx.shapes = False, total.shape, (first.shape, second.shape)
        ctx.save_for_backward(first / _stable(total), second / _stable(total))
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, ...]:
        shares = (1.0, 1.0) if ctx.is_output else ctx.saved_tensors
        return tuple((above[0] * share).sum_to_size(to) for share, to in zip(shares, ctx.shapes, strict=True))


def _moving(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    return [one for one in tensors(args, kwargs) if one.requires_grad]


def _with(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any], moving: Tensor) -> Function:
    """The call as a function of one of its arguments."""
    return lambda below: func(*(below if one is moving else one for one in args), **kwargs)


def _of_one(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Whatever it does with a single changing input, relevance has one way to go."""
    moving = _moving(args, kwargs)
    if len(moving) != 1 or not any(one is moving[0] for one in args):
        return func(*args, **kwargs)
    return _Passed.apply(moving[0], _with(func, args, kwargs, moving[0]))


def _gate(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not args[0].requires_grad:
        return func(*args, **kwargs)
    return _Gate.apply(args[0], _with(func, args, kwargs, args[0]))


def _is_gate(value: Tensor) -> bool:
    """Whether it is what a sigmoid has put out, in whatever shape."""
    node = value.grad_fn
    while node is not None and node.name().startswith(_ROUTES):
        node = node.next_functions[0][0]
    return node is not None and node.name() == _GATE


def _product(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Scaled by a constant relevance goes back whole; from a gated signal, whole to the signal and none to the gate."""
    moving = _moving(args, kwargs)
    signals = [one for one in moving if not _is_gate(one)]
    if len(moving) != 2 or len(signals) != 1 or func not in functions("mul", "multiply"):
        return _of_one(func, args, kwargs)
    still = tuple(one.detach() if isinstance(one, Tensor) and one is not signals[0] else one for one in args)
    return _of_one(func, still, kwargs)


def _addition(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    plain = len(args) == 2 and not kwargs and len(_moving(args, kwargs)) == 2
    return _Sum.apply(*args) if plain else func(*args, **kwargs)


def _mean(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(args[0], Tensor) or not args[0].requires_grad:
        return func(*args, **kwargs)
    return _InProportion.apply(args[0], _with(func, args, kwargs, args[0]))


def _layer_norm(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Centring shares in proportion, with the deviation as a constant; the weights scale, the biases get nothing."""
    if not args[0].requires_grad:
        return func(*args, **kwargs)
    axes = tuple(range(-len(args[1]), 0))
    with torch.no_grad():
        value = func(*args, **kwargs)
    centred = _InProportion.apply(args[0], lambda below: below - below.mean(dim=axes, keepdim=True))
    return _Passed.apply(centred, lambda _below: value.clone())


RULES: dict[Function, Rule] = {
    **dict.fromkeys(_OF_ONE, _of_one),
    **dict.fromkeys(_GATES, _gate),
    **dict.fromkeys(_SCALINGS, _product),
    **dict.fromkeys(functions("add"), _addition),
    **dict.fromkeys(_MEANS, _mean),
    **dict.fromkeys(functions("layer_norm"), _layer_norm),
}
"""What each function of torch does with relevance; for `fukusen.methods.interception.Intercepted`."""


def is_rule(node: Node) -> bool:
    """Whether this step of the way back goes by one of the rules."""
    return node.name() in _OWN


def at_logits(raw: Tensor) -> set[Node]:
    """The steps that only turn rows of logits into others: shifts, scalings, a softmax, a sum with something else."""
    waiting, found = [raw.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in found or node.name().startswith(_WEIGHED):
            continue
        shape = node.shape if is_rule(node) else node._input_metadata[0].shape  # type: ignore[attr-defined]
        if len(shape) == 2:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
    return found


def start_at_logits(raw: Tensor) -> None:
    """Let the chain rule hold for what is done to logits, and the rules for what is before them.

    Relevance starts as a cotangent of the logits, and that is how cotangents go back. So what is added to every logit
    is given the sum of a zero-sum start, which is nothing, and takes nothing from the logits either.
    """
    for node in at_logits(raw):
        if is_rule(node):
            node.is_output = True  # type: ignore[attr-defined]
