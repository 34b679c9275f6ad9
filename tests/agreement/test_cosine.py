"""The cosine against scipy."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import cosine

from fukusen.agreement import Cosine


def test_as_scipy_has_it() -> None:
    maps = np.random.default_rng(0).normal(0.3, 1.0, size=(4, 3, 6, 9))
    values = Cosine().pairs(torch.from_numpy(maps)).values
    for image in range(3):
        expected = [[1 - cosine(a.ravel(), b.ravel()) for b in maps[:, image]] for a in maps[:, image]]
        np.testing.assert_allclose(values[..., image], expected, rtol=0, atol=1e-12)


def test_a_constant_map_has_a_direction() -> None:
    maps = torch.tensor([[[[2.0, 2.0]]], [[[5.0, 0.0]]]])
    np.testing.assert_allclose(Cosine().pairs(maps).values[0, 1], [0.5**0.5], rtol=0, atol=1e-12)
