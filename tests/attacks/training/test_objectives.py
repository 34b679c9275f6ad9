"""What maps are measured by when they are trained, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fukusen.attacks.training.objectives import centres, divergence, heat, highest, mass, parted, unlike
from fukusen.models import wrap


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_heat_and_mass(maps: torch.Tensor) -> None:
    """The positive part over its largest cell, and the share of it on a picture."""
    where = torch.zeros(4, 6)
    where[1:3, 2:] = 1
    for one, hot, share in zip(maps, heat(maps), mass(maps, where).tolist(), strict=True):
        cells = [[max(float(cell), 0.0) for cell in row] for row in one]
        top, whole = max(max(row) for row in cells), sum(sum(row) for row in cells)
        assert hot.flatten().tolist() == pytest.approx([cell / top for row in cells for cell in row])
        assert share == pytest.approx(sum(sum(row[2:]) for row in cells[1:3]) / whole)


def test_a_map_without_heat_has_none(maps: torch.Tensor) -> None:
    """No division by zero, and no gradient that is not a number."""
    cold = (-maps.abs()).requires_grad_()
    assert heat(cold).abs().sum() == 0
    assert mass(cold, torch.ones(4, 6)).abs().sum() == 0
    assert centres(cold).abs().sum() == 0
    total = heat(cold).sum() + mass(cold, torch.ones(4, 6)).sum() + centres(cold).sum()
    (slope,) = torch.autograd.grad(total + unlike(cold, torch.ones(4, 6)).sum(), cold)
    assert bool(slope.isfinite().all())


def test_centres(maps: torch.Tensor) -> None:
    """In shares of the sides, from the middle; opposite corners are a whole side apart."""
    for one, found in zip(maps, centres(maps), strict=True):
        cells = {(i, j): max(float(one[i, j]), 0.0) for i in range(4) for j in range(6)}
        whole = sum(cells.values())
        row = sum(i * cell for (i, _), cell in cells.items()) / whole / 3 - 0.5
        column = sum(j * cell for (_, j), cell in cells.items()) / whole / 5 - 0.5
        assert found.tolist() == pytest.approx([row, column])
    corners = torch.zeros(2, 4, 6)
    corners[0, 0, 0], corners[1, 3, 5] = 1, 2
    assert (centres(corners)[1] - centres(corners)[0]).tolist() == [1.0, 1.0]


def test_parted_has_a_slope_where_it_begins() -> None:
    """Towards the farther edges, and zero for what has not moved."""
    maps = torch.zeros(1, 5, 5)
    maps[0, 1, 3] = 1
    moved = torch.zeros(1, 5, 5)
    moved[0, 4, 2] = 1
    assert float(parted(maps, maps)) == 0
    assert float(parted(moved, maps)) == pytest.approx(3 / 4 + 1 / 4)
    leaf = (maps + 0.1).requires_grad_()
    assert bool(torch.autograd.grad(parted(leaf, maps + 0.1).sum(), leaf)[0].any())


@given(share=st.floats(0.01, 0.99))
def test_highest(share: float) -> None:
    """As many cells as the share has whole ones, at least one, and none outside is higher."""
    maps = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(1))
    found = highest(maps, share)
    assert found.sum(dim=(1, 2)).tolist() == [max(1, int(share * 25))] * 3
    assert bool(
        (
            torch.where(found > 0, maps, torch.inf).amin((1, 2))
            >= torch.where(found > 0, -torch.inf, maps).amax((1, 2))
        ).all()
    )


def test_unlike(maps: torch.Tensor) -> None:
    """Zero for the picture itself at any scale, else the mean square difference of what is divided by its mean."""
    picture = torch.rand(4, 6, dtype=torch.float64)
    assert float(unlike(3 * picture[None], picture)) == pytest.approx(0, abs=1e-15)
    one, wanted = maps[0].clamp_min(0), picture / picture.mean()
    expected = sum(
        (float(a / one.mean()) - float(b)) ** 2 for a, b in zip(one.flatten(), wanted.flatten(), strict=True)
    )
    assert float(unlike(maps[:1], picture)) == pytest.approx(expected / 24)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_divergence(head: str) -> None:
    """Kullback and Leibler's, of one distribution or of one a label; zero where nothing changed, else above."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = wrap(net, input_size=(1, 8, 8), head=head)
    now, before = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = 0.0
    for new, old in zip(model.probabilities(now), model.probabilities(before), strict=True):
        for q, p in zip(new.tolist(), old.tolist(), strict=True):
            expected += p * math.log(p / q)
            if head == "sigmoid":
                expected += (1 - p) * math.log((1 - p) / (1 - q))
    assert float(divergence(model, now, before)) == pytest.approx(expected / 4)
    assert float(divergence(model, before, before)) == pytest.approx(0, abs=1e-12)
