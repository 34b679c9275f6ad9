"""Attention in the open: the weights are those that outputs are made with, in one thread, whatever computes them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fukusen.models.attention import OpenAttention

IMAGES, HEADS, TOKENS, WIDTH = 2, 3, 5, 4


def _parts(heads: int = HEADS) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(IMAGES, HEADS if i == 0 else heads, TOKENS, WIDTH, dtype=torch.float64) for i in range(3)]


def _slowly(query: Tensor, key: Tensor, mask: Callable[[int, int], float], scale: float) -> Tensor:
    """softmax over j of scale <q_i, k_j> + mask_ij, one number at a time."""
    found = torch.zeros(IMAGES, HEADS, TOKENS, TOKENS, dtype=torch.float64)
    for b in range(IMAGES):
        for h in range(HEADS):
            for i in range(TOKENS):
                raised = [
                    torch.exp(scale * (query[b, h, i] * key[b, h, j]).sum() + mask(i, j)).item() for j in range(TOKENS)
                ]
                for j in range(TOKENS):
                    found[b, h, i, j] = raised[j] / sum(raised)
    return found


ALLOWED = torch.rand(TOKENS, TOKENS, generator=torch.Generator().manual_seed(1)) > 0.3
ALLOWED.fill_diagonal_(True)
BIAS = torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
OUT = float("-inf")
FREE = torch.zeros(TOKENS, TOKENS)
CALLS: dict[str, tuple[dict[str, Any], Callable[[int, int], float], float]] = {
    "plain": ({}, lambda i, j: FREE[i, j].item(), 0.5),
    "scale": ({"scale": 0.3}, lambda i, j: FREE[i, j].item(), 0.3),
    "causal": ({"is_causal": True}, lambda i, j: 0.0 if j <= i else OUT, 0.5),
    "allowed": ({"attn_mask": ALLOWED}, lambda i, j: 0.0 if ALLOWED[i, j] else OUT, 0.5),
    "bias": ({"attn_mask": BIAS}, lambda i, j: BIAS[i, j].item(), 0.5),
}


@pytest.mark.parametrize("kind", CALLS)
def test_scaled_dot_products(kind: str) -> None:
    """Weights by loops; the output is what the network would have had."""
    given, mask, scale = CALLS[kind]
    query, key, value = _parts()
    expected = F.scaled_dot_product_attention(query, key, value, **given)
    with OpenAttention() as mode:
        output = F.scaled_dot_product_attention(query, key, value, **given)
    (found,) = mode.found
    torch.testing.assert_close(found.by_head(found.weights), _slowly(query, key, mask, scale))
    torch.testing.assert_close(output, expected)
    assert mode.fault == ""


def test_heads_that_share_keys() -> None:
    query, key, value = _parts(heads=1)
    expected = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    with OpenAttention() as mode:
        output = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(output, expected)
    assert mode.found[0].weights.shape == (IMAGES, HEADS, TOKENS, TOKENS)


class _Block(nn.Module):
    """Attention that ends in one number an image, in one of the ways that networks write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.way = way
        self.whole = nn.MultiheadAttention(12, HEADS, batch_first=way != "tokens first").double().eval()
        self.soft = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "tokens first":
            return self.whole(*[x.transpose(0, 1)] * 3, need_weights=False)[0].transpose(0, 1)
        if self.way.startswith("module"):
            return self.whole(x, x, x, need_weights="weights" in self.way)[0]
        split = F.linear(x, self.whole.in_proj_weight, self.whole.in_proj_bias)
        q, k, v = split.unflatten(2, (3, HEADS, 4)).permute(2, 0, 3, 1, 4)
        if self.way == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.way == "einsum":
            mixed = torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).div(2).softmax(-1), v)
        else:
            mixed = F.dropout(self.soft(q @ k.mT / 2), 0.5, training=False) @ v
        return F.linear(mixed.transpose(1, 2).flatten(2), self.whole.out_proj.weight, self.whole.out_proj.bias)


WAYS = ["module", "module with weights", "tokens first", "fused", "explicit", "einsum"]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_it_gives_the_same_weights_and_gradients(way: str) -> None:
    """The outputs stay, and gradients at the weights are those of the plain arithmetic."""
    x = torch.randn(IMAGES, TOKENS, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    readout = torch.randn(IMAGES, TOKENS, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def opened(way: str) -> tuple[Tensor, Tensor, Tensor]:
        with OpenAttention() as mode:
            output = _Block(way)(x.clone().requires_grad_())
        (found,) = mode.found
        assert (mode.fault, mode.unused) == ("", {})
        (gradient,) = torch.autograd.grad((output * readout).sum(), found.weights)
        return output, found.by_head(found.weights), found.by_head(gradient)

    output, weights, gradient = opened(way)
    torch.testing.assert_close(output, _Block(way)(x))
    for one, other in zip((output, weights, gradient), opened("explicit"), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(IMAGES, HEADS, TOKENS, dtype=torch.float64))
    assert gradient.abs().max() > 0


def test_weights_that_are_changed_before_use_are_told() -> None:
    """Heads that are mixed after the softmax: what the values are multiplied with is not what the softmax gave."""
    query, key, value = _parts()
    mix = torch.randn(HEADS, HEADS, dtype=torch.float64)
    with OpenAttention() as mode:
        weights = (query @ key.mT).softmax(dim=-1)
        _ = torch.einsum("bhij,gh->bgij", weights.clone(), mix) @ value
    assert mode.found == []
    assert [one.shape for one in mode.unused.values()] == [weights.shape]


def test_other_softmaxes_are_no_attention() -> None:
    with OpenAttention() as mode:
        logits = torch.randn(2, 5).softmax(dim=-1)
        channels = torch.randn(2, 3, 4, 4).softmax(dim=1)
    assert (mode.found, mode.unused) == ([], {})
    assert logits.dim() + channels.dim() == 6


def test_dropout_that_is_not_off_is_a_fault() -> None:
    """The network goes on with its own output."""
    query, key, value = _parts()
    with OpenAttention() as mode:
        torch.manual_seed(7)
        output = F.scaled_dot_product_attention(query, key, value, dropout_p=0.5)
    torch.manual_seed(7)
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value, dropout_p=0.5))
    assert (mode.found, mode.fault) == ([], "its attention cannot be computed again with the weights in the open")


def test_another_thread_is_not_watched() -> None:
    query, key, value = _parts()
    results: list[Tensor] = []

    def elsewhere() -> None:
        results.append(F.scaled_dot_product_attention(query, key, value))

    with OpenAttention() as mode:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert (len(results), mode.found) == (1, [])
    assert torch.equal(results[0], F.scaled_dot_product_attention(query, key, value))
