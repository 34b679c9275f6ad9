"""Attention weights read from a forward pass in one thread, whatever computes them; the network is left alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SOFTMAXES = (F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax)
_PRODUCTS = (torch.matmul, torch.bmm, torch.einsum, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)
_SCALED = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")  # the others go by name only
_WHOLE = inspect.signature(F.multi_head_attention_forward)
_SAME = 1e-3
_SAME_IN_HALF = 3e-2


@dataclass(frozen=True, eq=False)
class Attention:
    """How much of every token one attention took into every other.

    Args:
        weights: as they stand in the pass, so that gradients can be asked for: (b, heads, queries, keys), or with
            images and heads in one axis.
        heads: how many heads.
    """

    weights: Tensor
    heads: int

    def by_head(self, values: Tensor) -> Tensor:
        """Values of the weights' shape, such as a gradient, as (b, heads, queries, keys)."""
        return values.reshape(-1, self.heads, *values.shape[-2:])


def _weighed(call: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """``scaled_dot_product_attention`` as its documentation defines it: the weights, and the output.

    Without the dropout, which is zero in evaluation mode; where it is not, the outputs differ, and that is noticed.
    """
    query, key, value = (call[name] for name in ("query", "key", "value"))
    mask, scale = call.get("attn_mask"), call.get("scale")
    if call.get("enable_gqa"):
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], dim=-3) for part in (key, value))
    match = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if call.get("is_causal"):
        mask = torch.ones(match.shape[-2:], dtype=torch.bool, device=match.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        match = match.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        match = match + mask
    weights: Tensor = match.softmax(dim=-1)
    return weights, weights @ value


def _same(found: Tensor, expected: Tensor) -> bool:
    """Whether an output computed with its weights in the open is the output that the network would have had."""
    bound = _SAME if expected.dtype.itemsize >= 4 else _SAME_IN_HALF
    return bool((found - expected).abs().max() <= bound * expected.abs().max())


class OpenAttention(TorchFunctionMode):
    """Within it, in this thread, attention is computed with its weights in the open, and they are kept.

    Three ways of computing it are known: ``scaled_dot_product_attention``, ``nn.MultiheadAttention``, and a softmax
    over the last axis whose very result is multiplied with something. The first two are computed once more with
    explicit weights; where the outputs differ, the network goes on with its own, and ``fault`` says so.

    Args:
        told: called at each attention whose queries, keys and values the network has made itself.
    """

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.found: list[Attention] = []
        self.unused: dict[int, Tensor] = {}
        self.fault = ""
        self._told = told

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Whatever torch was asked for."""
        given = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._scaled(func(*args, **given), args, given)
        if func is F.multi_head_attention_forward:
            return self._whole(func, args, given)
        result = func(*args, **given)
        if func in _SOFTMAXES:
            self._softmax(result, args, given)
        elif func in _PRODUCTS and self.unused:
            self._product(args)
        return result

    def _scaled(self, expected: Tensor, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        weights, output = _weighed({**dict(zip(_SCALED, args, strict=False)), **given})
        self._told()
        return self._kept(output, expected, Attention(weights, weights.shape[1] if weights.dim() == 4 else 1))

    def _whole(self, func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        expected, told = func(*args, **given)
        call = _WHOLE.bind(*args, **given)
        if call.arguments.get("is_causal") or call.arguments["query"].dim() != 3:
            self.fault = "it has an attention of a kind that is not known"
            return expected, told
        call.arguments |= {"need_weights": True, "average_attn_weights": False}
        output, by_head = func(*call.args, **call.kwargs)
        # What is returned is a view of the weights that the values are multiplied with; gradients are at the latter.
        weights = by_head if by_head._base is None else by_head._base
        return self._kept(output, expected, Attention(weights, by_head.shape[1])), told

    def _kept(self, output: Tensor, expected: Tensor, attention: Attention) -> Tensor:
        if not _same(output, expected):
            self.fault = "its attention cannot be computed again with the weights in the open"
            return expected
        self.found.append(attention)
        return output

    def _softmax(self, result: Tensor, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        axis = given.get("dim", args[1] if len(args) > 1 else None)
        if result.dim() in (3, 4) and axis in (-1, result.dim() - 1):
            self.unused[id(result)] = result

    def _product(self, args: tuple[Any, ...]) -> None:
        for factor in args:
            if id(factor) in self.unused:
                weights = self.unused.pop(id(factor))
                self._told()
                self.found.append(Attention(weights, weights.shape[1] if weights.dim() == 4 else 1))
