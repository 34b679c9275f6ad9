"""Regions and pictures on grids of any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fukusen.attacks.goals import PICTURES, REGIONS, contrast, decoy, entropy, picture_of, region

sides = st.integers(1, 24)


@given(st.sampled_from(REGIONS), st.floats(0.01, 0.99), sides, sides)
def test_a_region_is_a_block_of_whole_cells(name: str, share: float, height: int, width: int) -> None:
    """Of at least one cell, touching the sides that it is named after."""
    mask = region(name, share, height, width)
    assert mask.shape == (height, width)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    rows, columns = mask.amax(dim=1).nonzero().flatten().tolist(), mask.amax(dim=0).nonzero().flatten().tolist()
    assert float(mask.sum()) == len(rows) * len(columns) > 0
    assert rows == list(range(rows[0], rows[-1] + 1))
    ends = {"top": rows[0] == 0, "bottom": rows[-1] == height - 1}
    ends |= {"left": columns[0] == 0, "right": columns[-1] == width - 1}
    assert all(holds for side, holds in ends.items() if side in name)
    assert share * height <= len(rows) + 1e-6


@given(st.sampled_from(REGIONS), st.floats(0.0, 0.99), st.integers(2, 20), st.integers(2, 20))
def test_a_contrast_is_mean_inside_less_beta_mean_outside(name: str, beta: float, height: int, width: int) -> None:
    inside = region(name, 0.25, height, width).bool()
    values = torch.rand(height, width, generator=torch.Generator().manual_seed(height), dtype=torch.float64)
    found = (contrast(name, 0.25, beta, (height, width)) * values).sum()
    outside = values[~inside].mean() if bool((~inside).any()) else torch.tensor(0.0)
    assert float(found) == pytest.approx(float(values[inside].mean() - beta * outside), abs=1e-9)


@given(st.sampled_from(sorted(PICTURES)), st.integers(2, 40), st.integers(2, 40))
def test_a_picture_has_a_hot_place_and_a_cold_one(name: str, height: int, width: int) -> None:
    picture = picture_of(name, height, width)
    assert picture.shape == (height, width)
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1


def test_a_smiley_on_seven_by_seven_is_drawn_dot_by_dot() -> None:
    assert picture_of("smiley", 7, 7).sum().item() == 12
    assert picture_of("smiley", 7, 7)[2].tolist() == [0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("wanted", [0.5, 0.7, 0.9])
def test_a_decoy_has_the_entropy_asked_for(wanted: float) -> None:
    """On a grid fine enough; and its middle is at the lower left."""
    found = decoy(14, 14, wanted)
    assert float(entropy(found)) == pytest.approx(wanted, abs=1e-3)
    row, column = divmod(int(found.argmax()), 14)
    assert row > 7 > column


def test_entropy_is_that_of_shares() -> None:
    """Zero for one cell, one for a flat map, log 2 / log 4 for two cells of four."""
    maps = torch.tensor([[[3.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [0.0, 0.0]]])
    torch.testing.assert_close(entropy(maps), torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64))
