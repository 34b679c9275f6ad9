"""The structural similarity against scikit-image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom
from skimage.metrics import structural_similarity

from fukusen.agreement import Ssim
from fukusen.errors import CallError


def _picture(map_: np.ndarray, side: int) -> np.ndarray:
    factors = [max(side, cells) / cells for cells in map_.shape]
    large = zoom(map_, factors, order=1, grid_mode=True, mode="nearest")
    return (large - large.min()) / (large.max() - large.min())


def _peer(a: np.ndarray, b: np.ndarray, side: int) -> float:
    return structural_similarity(
        _picture(a, side), _picture(b, side), data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )


@pytest.mark.parametrize(
    ("height", "width", "side"), [(7, 7, 56), (56, 56, 56), (14, 7, 28), (12, 40, 16), (11, 11, 11)]
)
def test_as_scikit_image_has_it(height: int, width: int, side: int) -> None:
    random = np.random.default_rng(height)
    maps = random.normal(size=(3, 2, height, width))
    maps[2] = gaussian_filter(maps[0], 1.0, axes=(1, 2)) * 7 - 3
    values = Ssim(side).pairs(torch.from_numpy(maps)).values
    for image in range(2):
        expected = [[_peer(a, b, side) for b in maps[:, image]] for a in maps[:, image]]
        np.testing.assert_allclose(values[..., image], expected, rtol=0, atol=1e-9)


def test_a_shift_and_a_positive_factor_change_nothing() -> None:
    maps = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = torch.stack([maps[0] * 40 - 7, maps[1]])
    torch.testing.assert_close(Ssim().pairs(moved).values, Ssim().pairs(maps).values, rtol=0, atol=1e-12)


def test_the_faintest_map_is_not_constant() -> None:
    faint = torch.ones(1, 7, 7, dtype=torch.float64)
    faint[0, 2, 2] += 2**-52
    strong = torch.zeros(1, 7, 7, dtype=torch.float64)
    strong[0, 2, 2] = 1.0
    assert Ssim().pairs(torch.stack([faint, strong])).value(0, 1, 0) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("side", [10, -3, 11.0, True, "56"])
def test_a_bad_side_is_refused(side: object, born: Callable[..., object]) -> None:
    with pytest.raises(CallError) as caught:
        born(Ssim, side=side)
    assert str(caught.value) == f"The 'side' parameter of Ssim must be an int >= 11. Got {side!r} instead."
