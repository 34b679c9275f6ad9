"""Spearman against scipy, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from fukusen.agreement import Spearman


@pytest.mark.parametrize("levels", [2, 5, 10**6], ids=["many ties", "some ties", "hardly a tie"])
@pytest.mark.parametrize("side", [3, 7, 20])
def test_as_scipy_has_it(levels: int, side: int) -> None:
    random = np.random.default_rng(side)
    maps = random.integers(-levels, levels, (4, 3, side, side + 1)).astype(np.float64)
    values = Spearman().pairs(torch.from_numpy(maps)).values
    for image in range(3):
        expected = spearmanr(maps[:, image].reshape(4, -1).T).statistic
        np.testing.assert_allclose(values[..., image], expected, rtol=0, atol=1e-12)


def test_only_the_order_counts() -> None:
    maps = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)) - 0.5
    assert Spearman().pairs(torch.cat([maps, maps.exp(), -maps])).values[0, :, 0].tolist() == [1.0, 1.0, -1.0]


def test_tiny_differences_are_an_order() -> None:
    maps = torch.tensor([[[[1e300, 0.0, 5e-324]]], [[[2.0, 0.0, 1.0]]]], dtype=torch.float64)
    assert Spearman().pairs(maps).value(0, 1, 0) == 1.0
