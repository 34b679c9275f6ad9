"""The shift of the centre of mass against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass

from fukusen.agreement import CenterShift


@pytest.mark.parametrize(("height", "width"), [(7, 7), (5, 9), (1, 4), (56, 56)])
def test_as_scipy_has_it(height: int, width: int) -> None:
    maps = np.random.default_rng(width).normal(size=(4, 2, height, width))
    values = CenterShift().pairs(torch.from_numpy(maps)).values
    for image in range(2):
        centers = [np.array(center_of_mass(np.maximum(each, 0))) for each in maps[:, image]]
        expected = [[np.linalg.norm(a - b) / math.hypot(height, width) for b in centers] for a in centers]
        np.testing.assert_allclose(values[..., image], expected, rtol=0, atol=1e-12)


def test_what_is_negative_has_no_mass() -> None:
    spot = torch.zeros(1, 4, 4)
    spot[0, 1, 2] = 1.0
    drowned = spot.clone()
    drowned[0, 3, 0] = -100.0
    assert CenterShift().pairs(torch.stack([spot, drowned])).value(0, 1, 0) == 0.0


def test_a_finer_grid_has_the_same_shift() -> None:
    maps = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    finer = maps.repeat_interleave(8, -1).repeat_interleave(8, -2)
    coarse, fine = CenterShift().pairs(maps).value(0, 1, 0), CenterShift().pairs(finer).value(0, 1, 0)
    assert fine == pytest.approx(coarse, abs=1e-12)
