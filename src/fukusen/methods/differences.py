"""DeepLIFT's multipliers: how differences from a reference go back through the functions of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fukusen.methods.interception import Function, Intercepted, Rule, functions

# Straight on both sides of a kink: their quotient of differences is exact however small the difference.
_STRAIGHT = functions("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "threshold", "abs", "absolute") | functions(
    "clamp", "clamp_min", "clamp_max", "clip", "hardshrink", "softshrink"
)
_CURVED = (
    functions("sigmoid", "tanh", "silu", "gelu", "mish", "elu", "selu", "celu", "softplus", "softsign", "tanhshrink")
    | functions("hardswish", "hardsigmoid", "logsigmoid", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt")
    | functions("rsqrt", "square", "reciprocal", "erf", "sin", "cos", "atan", "pow")
)
_PRODUCTS = functions("mul", "multiply", "matmul", "mm", "bmm", "baddbmm")
_QUOTIENTS = functions("div", "divide", "true_divide", "truediv")
_JOINT = functions(
    "softmax", "log_softmax", "logsumexp", "layer_norm", "group_norm", "instance_norm", "rms_norm", "norm"
) | functions("normalize", "var", "std", "einsum", "prod", "glu", "multi_head_attention_forward")
_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d")
_POOL_NAMES = {func: name for name in _POOLS for func in functions(name)}
_ATTENTION = functions("scaled_dot_product_attention")
_POINTS = 16


@dataclass(frozen=True)
class Kept:
    """A function's arguments as they were for the reference image."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Kind = Callable[[Function, Kept, Kept], Any]
Line = list[tuple[Tensor | float, Tensor | float]]


def _copied(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value) if type(value) in (list, tuple) else value
    return value.detach().clone() if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) else value


def _floats(call: Kept) -> list[Tensor]:
    """The tensors of numbers among a call's arguments, in order, also those in its lists."""
    found: list[Tensor] = []
    for value in (*call.args, *call.kwargs.values()):
        many = value if isinstance(value, list | tuple) else (value,)
        found += [one for one in many if isinstance(one, Tensor) and one.is_floating_point()]
    return found


def _filled(func: Function, call: Kept, fresh: list[Tensor]) -> Any:
    """The function called with other tensors in the places of its own."""
    rest = iter(fresh)

    def put(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(put(one) for one in value) if type(value) in (list, tuple) else value
        return next(rest) if isinstance(value, Tensor) and value.is_floating_point() else value

    args = [put(value) for value in call.args]
    return func(*args, **{key: put(value) for key, value in call.kwargs.items()})


def _moves(value: Tensor) -> bool:
    return value.requires_grad and not isinstance(value, nn.Parameter)


class _Scaled(torch.autograd.Function):
    """A value whose way back is a multiplication."""

    @staticmethod
    def forward(ctx: Any, below: Tensor, value: list[Tensor], multiplier: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(multiplier)
        return value[0]

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        return above[0] * ctx.saved_tensors[0], None, None


def _slope(func: Function, at: Tensor, call: Kept) -> Tensor:
    with torch.enable_grad():
        place = at.clone().requires_grad_()
        (slope,) = torch.autograd.grad(func(place, *call.args[1:], **call.kwargs).sum(), place)
    return slope


def _rescaled(func: Function, now: Kept, before: Kept, near: float = 0.0) -> Tensor:
    """The rescale rule: change of output over change of input, or the slope halfway where rounding would eat it."""
    below, reference = now.args[0].detach(), before.args[0]
    with torch.no_grad():
        value = func(below, *now.args[1:], **now.kwargs)
        rise, run = value - func(reference, *now.args[1:], **now.kwargs), below - reference
        close = run.abs() <= near
        quotient = rise / torch.where(close, 1.0, run)
    if bool(close.any()):
        quotient = torch.where(close, _slope(func, (below + reference) / 2, now), quotient)
    scaled: Tensor = _Scaled.apply(now.args[0], [value], quotient)
    return scaled


def _rescaled_curve(func: Function, now: Kept, before: Kept) -> Tensor:
    # Where the two errors meet: a quotient's of the rounding, and a slope's of the square of the step.
    return _rescaled(func, now, before, torch.finfo(now.args[0].dtype).eps ** (1 / 3))


def _evenly(points: int) -> Line:
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return [(float(node) / 2 + 0.5, float(weight) / 2) for node, weight in zip(nodes, weights, strict=True)]


class _MeanGradient(torch.autograd.Function):
    """A value whose way back is the mean of the function's gradients on the segment from reference to image."""

    @staticmethod
    def forward(ctx: Any, value: list[Tensor], run: Function, line: Line, before: list[Tensor], *now: Tensor) -> Tensor:
        ctx.run, ctx.line, ctx.before = run, line, before
        ctx.now = [one.detach().clone() for one in now]
        return value[0]

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Any, ...]:
        totals = [torch.zeros_like(one) for one in ctx.now]
        for share, weight in ctx.line:
            with torch.enable_grad():
                at = [
                    (first + share * (last - first)).requires_grad_()
                    for first, last in zip(ctx.before, ctx.now, strict=True)
                ]
                slopes = torch.autograd.grad(ctx.run(at), at, weight * above[0], materialize_grads=True)
            totals = [total + slope for total, slope in zip(totals, slopes, strict=True)]
        return (None, None, None, None, *totals)


def _shared(func: Function, now: Kept, before: Kept, points: int = _POINTS) -> Any:
    """What several inputs do together, handed back by the mean gradient; exact for products with a single point."""
    with torch.no_grad():
        output = func(*now.args, **now.kwargs)
    value = output[0] if isinstance(output, tuple) else output

    def run(moved: list[Tensor]) -> Tensor:
        found = _filled(func, now, moved)
        one: Tensor = found[0] if isinstance(found, tuple) else found
        return one

    mean = _MeanGradient.apply([value], run, _evenly(points), _floats(before), *_floats(now))
    return (mean, *output[1:]) if isinstance(output, tuple) else mean


def _crowded(below: Tensor, reference: Tensor, axes: tuple[int, ...], epsilon: float) -> Line:
    """Points that crowd where the deviation is least, row by row: there a layer norm turns fastest.

    In u with share = middle + width sinh(u), the squared deviation is cosh(u)^2, and no integrand has a peak.
    """
    centred, first = (one - one.mean(dim=axes, keepdim=True) for one in (below, reference))
    run = centred - first
    square, cross, rest = (
        (one * other).mean(dim=axes, keepdim=True) for one, other in ((run, run), (run, first), (first, first))
    )
    moved = square > torch.finfo(below.dtype).eps * (rest + epsilon)
    square = torch.where(moved, square, 1.0)
    width = (square * (rest + epsilon) - cross.square()).clamp_min(square * epsilon).sqrt() / square
    low, high = (torch.asinh((end + cross / square) / width) for end in (0.0, 1.0))
    line: Line = []
    for share, weight in _evenly(2 * _POINTS):
        place = low + share * (high - low)
        spot, mass = width * place.sinh() - cross / square, weight * (high - low) * width * place.cosh()
        line.append((torch.where(moved, spot, share), torch.where(moved, mass, weight)))
    return line


def _normed(func: Function, now: Kept, before: Kept) -> Any:
    axes = tuple(range(-len(now.args[1]), 0))
    epsilon = now.kwargs.get("eps", now.args[4] if len(now.args) > 4 else 1e-5)
    with torch.no_grad():
        value = func(*now.args, **now.kwargs)
    line = _crowded(now.args[0].detach(), before.args[0], axes, epsilon)

    def run(moved: list[Tensor]) -> Tensor:
        one: Tensor = func(moved[0], *now.args[1:], **now.kwargs)
        return one

    return _MeanGradient.apply([value], run, line, [before.args[0]], now.args[0])


def _shared_product(func: Function, now: Kept, before: Kept) -> Any:
    """A product of two things that both change; with one that does not it is linear, and needs no rule."""
    if sum(_moves(one) for one in _floats(now)) < 2:
        return func(*now.args, **now.kwargs)
    return _shared(func, now, before, points=1)


def _shared_quotient(func: Function, now: Kept, before: Kept) -> Any:
    divisor = now.args[-1]
    if not (isinstance(divisor, Tensor) and _moves(divisor)) and getattr(func, "__name__", "") != "__rdiv__":
        return func(*now.args, **now.kwargs)
    return _shared(func, now, before)


def _attended(func: Function, now: Kept, before: Kept) -> Any:
    """Attention as what it is made of: a product, a softmax, and a product."""
    plain = len(now.args) == 3 and {key for key, value in now.kwargs.items() if value} <= {"attn_mask", "scale"}
    mask = now.kwargs.get("attn_mask")
    if not plain or (mask is not None and mask.dtype == torch.bool):
        return _shared(func, now, before)
    scale = now.kwargs.get("scale") or now.args[0].shape[-1] ** -0.5
    added = 0.0 if mask is None else mask
    (query, key, value), (query0, key0, value0) = now.args, before.args
    likeness = _shared(torch.matmul, Kept((query * scale, key.mT), {}), Kept((query0 * scale, key0.mT), {}), 1) + added
    likeness0 = torch.matmul(query0 * scale, key0.mT) + added
    weights = _shared(torch.softmax, Kept((likeness, -1), {}), Kept((likeness0, -1), {}))
    return _shared(torch.matmul, Kept((weights, value), {}), Kept((torch.softmax(likeness0, -1), value0), {}), 1)


class _Winners(torch.autograd.Function):
    """A maximum whose change goes to the places that held it: a rise to the new one, a fall to the old one."""

    @staticmethod
    def forward(ctx: Any, below: Tensor, value: list[Tensor], *kept: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(*kept)
        return value[0]

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Any, ...]:
        run, change, new, old = ctx.saved_tensors
        axes = change.dim() - 2
        flat = torch.zeros_like(run).flatten(-axes)
        flat.scatter_add_(-1, new.flatten(-axes), (above[0] * change.clamp_min(0)).flatten(-axes))
        flat.scatter_add_(-1, old.flatten(-axes), (above[0] * change.clamp_max(0)).flatten(-axes))
        moved = run != 0
        multiplier = torch.where(moved, flat.reshape(run.shape) / torch.where(moved, run, 1.0), 0.0)
        return (multiplier, *[None] * 5)


def _won(func: Function, now: Kept, before: Kept) -> Any:
    if now.kwargs.get("return_indices"):
        return func(*now.args, **now.kwargs)
    pool = getattr(nn.functional, _POOL_NAMES[func])
    below, reference = now.args[0].detach(), before.args[0]
    kwargs = {**now.kwargs, "return_indices": True}
    with torch.no_grad():
        value, new = pool(below, *now.args[1:], **kwargs)
        past, old = pool(reference, *now.args[1:], **kwargs)
    return _Winners.apply(now.args[0], [value], below - reference, value - past, new, old)


_KINDS: dict[Function, Kind] = {
    **dict.fromkeys(_JOINT, _shared),
    **dict.fromkeys(_ATTENTION, _attended),
    **dict.fromkeys(functions("layer_norm"), _normed),
    **dict.fromkeys(_QUOTIENTS, _shared_quotient),
    **dict.fromkeys(_PRODUCTS, _shared_product),
    **dict.fromkeys(_CURVED, _rescaled_curve),
    **dict.fromkeys(_STRAIGHT, _rescaled),
    **dict.fromkeys(_POOL_NAMES, _won),
}


@contextmanager
def recording(kept: list[Kept]) -> Iterator[None]:
    """Within it, the arguments of every function that has a rule are kept, call after call."""

    def keep(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kept.append(Kept(_copied(args), {key: _copied(value) for key, value in kwargs.items()}))
        return func(*args, **kwargs)

    with Intercepted(dict.fromkeys(_KINDS, keep)):
        yield


@contextmanager
def multiplying(kept: list[Kept]) -> Iterator[None]:
    """Within it, the way back through the same calls is by their multipliers instead of their derivatives.

    A call without a counterpart of its own shape, because the network takes another way for another image, keeps its
    derivative; so does everything that has no rule. Either shows in a map that does not add up.
    """
    calls = iter(kept)

    def by(kind: Kind) -> Rule:
        def rule(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            now, before = Kept(args, kwargs), next(calls, None)
            moving = torch.is_grad_enabled() and any(_moves(one) for one in _floats(now))
            if not moving or before is None or not _alike(now, before):
                return func(*args, **kwargs)
            return kind(func, now, before)

        return rule

    with Intercepted({func: by(kind) for func, kind in _KINDS.items()}):
        yield


def _alike(now: Kept, before: Kept) -> bool:
    return [one.shape for one in _floats(now)] == [one.shape for one in _floats(before)]
