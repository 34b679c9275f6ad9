"""Signed maps read as heatmaps, against loops and scipy."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from fukusen.agreement import Cosine, heatmaps
from fukusen.errors import CallError, UnknownName
from fukusen.records import Undefined

FINE = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COARSE = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_finer_maps_are_averaged_after_being_read() -> None:
    found = heatmaps([FINE, FINE], ["positive", "magnitude"], side=4)
    for read, heat in ((FINE.clamp(min=0), found[0]), (FINE.abs(), found[1])):
        expected = read.reshape(2, 4, 3, 4, 2).mean((2, 4))
        torch.testing.assert_close(heat, expected)


def test_coarser_maps_are_interpolated_after_being_read() -> None:
    found = heatmaps([COARSE, COARSE], ["positive", "magnitude"], side=6)
    for read, heat in ((COARSE.clamp(min=0), found[0]), (COARSE.abs(), found[1])):
        expected = [zoom(each, (3, 2), order=1, grid_mode=True, mode="nearest") for each in read.numpy()]
        np.testing.assert_allclose(heat, np.stack(expected), rtol=0, atol=1e-12)


def test_each_axis_is_brought_to_the_grid_by_itself() -> None:
    ramp = torch.arange(8.0).view(1, 8, 1)
    expected = torch.tensor([0.5, 2.5, 4.5, 6.5]).view(1, 1, 4, 1).expand(1, 1, 4, 4)
    torch.testing.assert_close(heatmaps([ramp], ["positive"], side=4), expected)


def test_maps_of_many_sizes_and_types_share_a_grid() -> None:
    found = heatmaps([FINE, COARSE.float(), FINE[:, :5, :5]], ["positive", "magnitude", "magnitude"], side=5)
    assert found.shape == (3, 2, 5, 5)
    assert found.dtype == torch.float64
    assert (found >= 0).all()
    assert torch.equal(found[2], FINE[:, :5, :5].abs())


def test_what_is_not_finite_stays_so() -> None:
    broken = COARSE.clone()
    broken[0, 0, 0] = torch.nan
    found = heatmaps([broken, COARSE], ["positive", "positive"], side=7)
    assert Cosine().pairs(found).value(0, 1, 0) == Undefined("one of the two maps is not finite")
    assert isinstance(Cosine().pairs(found).value(0, 1, 1), float)


@pytest.mark.parametrize(
    ("maps", "readings", "side", "message"),
    [
        ([], [], 7, "The 'maps' parameter of heatmaps must be at least one set of maps. Got [] instead."),
        (
            [COARSE, FINE],
            ["positive"],
            7,
            "The 'readings' parameter of heatmaps must be one for each of the 2 maps. Got ['positive'] instead.",
        ),
        ([COARSE], ["positive"], 0, "The 'side' parameter of heatmaps must be an int >= 1. Got 0 instead."),
        ([COARSE], ["positive"], True, "The 'side' parameter of heatmaps must be an int >= 1. Got True instead."),
    ],
)
def test_bad_parameters_are_refused(maps: list, readings: list, side: int, message: str) -> None:
    with pytest.raises(CallError) as caught:
        heatmaps(maps, readings, side)
    assert str(caught.value) == message


def test_an_unknown_reading_suggests_the_nearest() -> None:
    unchecked = inspect.unwrap(heatmaps)
    with pytest.raises(UnknownName) as caught:
        unchecked([COARSE], ["magnitud"], 7)
    assert str(caught.value) == (
        "There is no reading named 'magnitud'. Did you mean 'magnitude'? Known: magnitude, positive."
    )
