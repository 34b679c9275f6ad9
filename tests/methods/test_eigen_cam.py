"""The pattern that most of the features share: its direction, its sign, and the accuracy it is found with."""

from __future__ import annotations

import pytest
import torch

from fukusen.methods.eigen_cam import leading, projected


@pytest.mark.parametrize(("channels", "side"), [(3, 5), (40, 4)])
def test_a_pattern_is_found_with_its_sign(channels: int, side: int) -> None:
    """One pattern in many channels is that pattern, whichever of the two matrices is the smaller."""
    noise = torch.Generator().manual_seed(35)
    pattern = torch.randn(2, side, side, generator=noise, dtype=torch.float64)
    weights = torch.rand(2, channels, generator=noise, dtype=torch.float64) - 0.3
    assert bool((weights.sum(dim=1) > 0).all())
    found = projected(torch.einsum("bhw,bc->bchw", pattern, weights))
    torch.testing.assert_close(found, pattern * weights.norm(dim=1)[:, None, None], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("channels", "side"), [(6, 5), (40, 4)])
def test_the_sign_is_no_accident(channels: int, side: int) -> None:
    """It turns with the features, and stays when channels or cells change places."""
    noise = torch.Generator().manual_seed(36)
    features = torch.randn(4, channels, side, side, generator=noise, dtype=torch.float64)
    found = projected(features)
    torch.testing.assert_close(projected(-features), -found)
    torch.testing.assert_close(projected(3 * features), 3 * found)
    torch.testing.assert_close(projected(features.transpose(2, 3)), found.transpose(1, 2))
    for _ in range(10):
        order = torch.randperm(channels, generator=noise)
        torch.testing.assert_close(projected(features[:, order]), found, rtol=1e-8, atol=1e-10)
    assert bool(((found * features.sum(dim=1)).sum(dim=(1, 2)) > 0).all())


def _squares(sizes: list[float], side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix with these largest eigenvalues, and the eigenvector of the first."""
    basis = torch.linalg.qr(
        torch.randn(side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ).Q
    whole = torch.zeros(side, dtype=torch.float64)
    whole[: len(sizes)] = torch.tensor(sizes, dtype=torch.float64)
    return basis @ torch.diag(whole) @ basis.mT, basis[:, 0]


@pytest.mark.parametrize("second", [0.0, 0.5, 0.98, 0.9999, 1 - 1e-9])
@pytest.mark.parametrize("off", [1e-6, 1e-12])
def test_the_leading_eigenvector_is_found_however_near_the_next_is(second: float, off: float) -> None:
    """By a few steps or, where these do not come near, by the whole decomposition; each matrix for itself."""
    tail = [0.9 * second * 0.97**place for place in range(90)]
    pairs = [_squares([3.0, 3.0 * second, *tail], 100, seed) for seed in (1, 2)]
    pairs.append(_squares([1.0], 100, 3))
    found = leading(torch.stack([matrix for matrix, _ in pairs]), off)
    for vector, (_, expected) in zip(found, pairs, strict=True):
        assert float((vector * expected).sum().abs()) > 1 - max(off, 1e-12) * 10
        assert float(vector.norm()) == pytest.approx(1)


def test_nothing_has_no_direction() -> None:
    """Of a matrix of zeros the map is zero, beside others that are not."""
    features = torch.zeros(2, 80, 9, 9)
    features[1] = torch.rand(80, 9, 9, generator=torch.Generator().manual_seed(4))
    found = projected(features)
    assert float(found[0].abs().max()) == 0
    assert bool(found.isfinite().all())
    assert float(found[1].min()) > 0
