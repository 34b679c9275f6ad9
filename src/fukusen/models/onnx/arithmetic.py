"""The operations of ONNX that compute: entry by entry, over axes, and products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

from fukusen.models.onnx.nodes import Made, Node, Operation, own_axes

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def together(*values: Tensor) -> list[Tensor]:
    """The values on one device: integers are kept on the CPU, where shapes are worked out."""
    device = next((value.device for value in values if value.device.type != "cpu"), None)
    return list(values) if device is None else [value.to(device) for value in values]


def _each(function: Callable[[Tensor], Tensor]) -> Operation:
    """An operation on every entry of one value."""
    return lambda _node, value: function(value)


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    """An operation on the entries of two values, broadcast to one shape."""
    return lambda _node, *values: function(*together(*values))


def _many(function: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    """The same for any number of values, from left to right."""
    return lambda _node, *values: reduce(lambda left, right: function(*together(left, right)), values)


def _divided(value: Tensor, by: Tensor) -> Tensor:
    whole = not value.is_floating_point() and not by.is_floating_point()
    return torch.div(value, by, rounding_mode="trunc" if whole else None)


def _modulo(node: Node, value: Tensor, by: Tensor) -> Tensor:
    value, by = together(value, by)
    return torch.fmod(value, by) if node.get("fmod", 0) else torch.remainder(value, by)


def _power(value: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(value, exponent).to(value.dtype)


def _averaged(_node: Node, *values: Tensor) -> Tensor:
    return sum(together(*values), torch.zeros(())) / len(values)


def _chosen(_node: Node, condition: Tensor, where: Tensor, elsewhere: Tensor) -> Tensor:
    condition, where, elsewhere = together(condition, where, elsewhere)
    return torch.where(condition, where, elsewhere)


def _clipped(node: Node, value: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = (node.get("min") if low is None else low.item(), node.get("max") if high is None else high.item())
    return value if bounds == (None, None) else value.clamp(*bounds)


def _leaning(_node: Node, value: Tensor, slope: Tensor) -> Tensor:
    value, slope = together(value, slope)
    return value.clamp_min(0) + slope * value.clamp_max(0)


def _scaled_elu(node: Node, value: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    made: Tensor = gamma * (value.clamp_min(0) + alpha * torch.expm1(value.clamp_max(0)))
    return made


def _hard_sigmoid(node: Node, value: Tensor) -> Tensor:
    made: Tensor = node.get("alpha", 0.2) * value + node.get("beta", 0.5)
    return made.clamp(0, 1)


def _swish(node: Node, value: Tensor) -> Tensor:
    return value * torch.sigmoid(node.get("alpha", 1.0) * value)


def _softmax(function: Callable[..., Tensor]) -> Operation:
    """Over one axis; before version 13, over all axes from that one on."""

    def computed(node: Node, value: Tensor) -> Tensor:
        if node.opset >= 13:
            return function(value, dim=node.get("axis", -1))
        axis = node.get("axis", 1) % value.dim()
        return function(value.flatten(axis), dim=axis).reshape(value.shape)

    return computed


def _reduced(function: Reduction) -> Operation:
    def computed(node: Node, value: Tensor, axes: Tensor | None = None) -> Tensor:
        named = own_axes(node, axes)
        if not named and node.get("noop_with_empty_axes", 0):
            raise node.refuse("it reduces no axis")
        return function(value, named or list(range(value.dim())), bool(node.get("keepdims", 1)))

    return computed


def _product(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % value.dim() for axis in axes), reverse=True):
        value = value.prod(dim=axis, keepdim=keep)
    return value


def _largest_place(node: Node, value: Tensor) -> Tensor:
    if node.get("select_last_index", 0):
        raise node.refuse("it asks for the last of several largest entries")
    return value.argmax(dim=node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))


def _multiplied(_node: Node, left: Tensor, right: Tensor) -> Tensor:
    return torch.matmul(*together(left, right))


def _general_product(node: Node, left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
    left = left.transpose(0, 1) if node.get("transA", 0) else left
    right = right.transpose(0, 1) if node.get("transB", 0) else right
    made: Tensor = node.get("alpha", 1.0) * (left @ right)
    return made if added is None else made.add(added, alpha=node.get("beta", 1.0))


def _einsum(node: Node, *values: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *values)


def _summed_up(node: Node, value: Tensor, axis: Tensor) -> Tensor:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise node.refuse("it sums backwards, or without the entry itself")
    return value.cumsum(dim=int(axis.item()), dtype=value.dtype)


def _layer_norm(node: Node, value: Tensor, scale: Tensor, shift: Tensor | None = None) -> Made:
    axis = node.get("axis", -1) % value.dim()
    made = F.layer_norm(value, value.shape[axis:], None, None, node.get("epsilon", 1e-5)) * scale
    return made if shift is None else made + shift


def _group_norm(node: Node, value: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    groups = node.get("num_groups")
    if node.opset < 21:  # scale and shift were one a group then
        scale, shift = (part.repeat_interleave(value.shape[1] // groups) for part in (scale, shift))
    return F.group_norm(value, groups, scale, shift, node.get("epsilon", 1e-5))


def _instance_norm(node: Node, value: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.group_norm(value, value.shape[1], scale, shift, node.get("epsilon", 1e-5))


def _length_norm(node: Node, value: Tensor) -> Tensor:
    return F.normalize(value, p=node.get("p", 2), dim=node.get("axis", -1))


def _local_norm(node: Node, value: Tensor) -> Tensor:
    strengths = (node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))
    return F.local_response_norm(value, node.get("size"), *strengths)


def _log_sum_exp(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(value, axes, keep)


ARITHMETIC: dict[str, Operation] = {
    "Abs": _each(torch.abs),
    "Acos": _each(torch.acos),
    "Add": _pair(torch.add),
    "And": _pair(torch.logical_and),
    "ArgMax": _largest_place,
    "Atan": _each(torch.atan),
    "Ceil": _each(torch.ceil),
    "Clip": _clipped,
    "Cos": _each(torch.cos),
    "CumSum": _summed_up,
    "Div": _pair(_divided),
    "Einsum": _einsum,
    "Equal": _pair(torch.eq),
    "Erf": _each(torch.erf),
    "Exp": _each(torch.exp),
    "Floor": _each(torch.floor),
    "Gemm": _general_product,
    "Greater": _pair(torch.gt),
    "GreaterOrEqual": _pair(torch.ge),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "InstanceNormalization": _instance_norm,
    "IsNaN": _each(torch.isnan),
    "LRN": _local_norm,
    "LayerNormalization": _layer_norm,
    "Less": _pair(torch.lt),
    "LessOrEqual": _pair(torch.le),
    "Log": _each(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "LpNormalization": _length_norm,
    "MatMul": _multiplied,
    "Max": _many(torch.maximum),
    "Mean": _averaged,
    "Min": _many(torch.minimum),
    "Mod": _modulo,
    "Mul": _pair(torch.mul),
    "Neg": _each(torch.neg),
    "Not": _each(torch.logical_not),
    "Or": _pair(torch.logical_or),
    "PRelu": _leaning,
    "Pow": _pair(_power),
    "Reciprocal": _each(torch.reciprocal),
    "ReduceL1": _reduced(lambda value, axes, keep: value.abs().sum(axes, keep)),
    "ReduceL2": _reduced(lambda value, axes, keep: torch.linalg.vector_norm(value, dim=axes, keepdim=keep)),
    "ReduceLogSumExp": _reduced(_log_sum_exp),
    "ReduceMax": _reduced(lambda value, axes, keep: value.amax(axes, keep)),
    "ReduceMean": _reduced(lambda value, axes, keep: value.mean(axes, keep)),
    "ReduceMin": _reduced(lambda value, axes, keep: value.amin(axes, keep)),
    "ReduceProd": _reduced(_product),
    "ReduceSum": _reduced(lambda value, axes, keep: value.sum(axes, keep)),
    "ReduceSumSquare": _reduced(lambda value, axes, keep: value.square().sum(axes, keep)),
    "Round": _each(torch.round),
    "Selu": _scaled_elu,
    "Sigmoid": _each(torch.sigmoid),
    "Sign": _each(torch.sign),
    "Sin": _each(torch.sin),
    "Softmax": _softmax(torch.softmax),
    "Sqrt": _each(torch.sqrt),
    "Sub": _pair(torch.sub),
    "Sum": _many(torch.add),
    "Swish": _swish,
    "Tanh": _each(torch.tanh),
    "Where": _chosen,
    "Xor": _pair(torch.logical_xor),
}
