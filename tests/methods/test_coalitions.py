"""Which parts of an image are kept together: draws and their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor

from fukusen.methods.coalitions import (
    coin_flips,
    every_coalition,
    shapley_draws,
)


@pytest.mark.parametrize("draws", [coin_flips, shapley_draws])
def test_draws_are_what_they_say(draws: Callable[[int, int], Iterator[Tensor]]) -> None:
    """The same again for the same seed, each part as often kept as hidden, sizes as the kernel weighs them."""
    found = torch.stack(list(islice(draws(7, 0), 4000)))
    assert torch.equal(found, torch.stack(list(islice(draws(7, 0), 4000))))
    assert not torch.equal(found, torch.stack(list(islice(draws(7, 1), 4000))))
    torch.testing.assert_close(found.double().mean(dim=0), torch.full((7,), 0.5).double(), rtol=0, atol=0.04)
    shares = found.sum(dim=1).bincount(minlength=8) / 4000
    if draws is coin_flips:
        expected = torch.tensor([math.comb(7, size) / 128 for size in range(8)])
    else:
        assert torch.equal(found[::2], ~found[1::2])
        every, weights = every_coalition(7)
        expected = torch.tensor([float(weights[every.sum(dim=1) == size].sum()) for size in range(8)])
        expected = expected / expected.sum()
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.04)


def test_the_kernel_weighs_every_coalition() -> None:
    """(p - 1) / (C(p, k) k (p - k)), each set once."""
    drawn, weights = every_coalition(5)
    assert len({tuple(one.tolist()) for one in drawn}) == len(drawn) == 2**5 - 2
    for one, weight in zip(drawn, weights, strict=True):
        size = int(one.sum())
        assert float(weight) == pytest.approx(4 / (math.comb(5, size) * size * (5 - size)))
