"""Heatmaps come back with their sign, their size and about three digits."""

from pathlib import Path

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings

from fukusen.records import Undefined
from fukusen.store.maps import read_maps, write_maps

values = st.floats(-1e30, 1e30, width=64)
stacks = hnp.arrays(np.float64, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4), elements=values)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stacks)
def test_maps_round_trip_within_half_precision(tmp_path: Path, stack: npt.NDArray[np.float64]) -> None:
    path = tmp_path / "maps.zarr.zip"
    names = [str(row) for row in range(len(stack))]
    write_maps(path, "p", names, {("m", "s"): stack, ("m", "t"): -stack})
    for row, name in enumerate(names):
        found = read_maps(path, name)
        one, other = found["m", "s"], found["m", "t"]
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert np.abs(one - stack[row]).max() <= 2.0**-10 * np.abs(stack[row]).max() + 1e-37
        assert np.array_equal(one, -other)


def test_a_map_that_is_not_finite_is_undefined_and_its_neighbours_are_not(tmp_path: Path) -> None:
    stack = np.ones((3, 2, 2))
    stack[1, 0, 0] = np.nan
    stack[2, 0, 0] = np.inf
    path = tmp_path / "maps.zarr.zip"
    write_maps(path, "p", ["a", "b", "c"], {("m", "s"): stack, ("m", "t"): np.ones((3, 2, 2))})
    reason = Undefined("the map holds a value that is not a finite number")
    assert [read_maps(path, name)["m", "s"] for name in "bc"] == [reason, reason]
    assert np.array_equal(read_maps(path, "a")["m", "s"], np.ones((2, 2)))
    assert np.array_equal(read_maps(path, "b")["m", "t"], np.ones((2, 2)))


def test_a_method_with_odd_parameters_keeps_its_name(tmp_path: Path) -> None:
    method = "lrp(composite='a/b', ゼロ=1)"
    path = tmp_path / "maps.zarr.zip"
    write_maps(path, "p", ["a"], {(method, "logit"): np.ones((1, 2, 3), np.float32)})
    assert {key: np.shape(found) for key, found in read_maps(path, "a").items()} == {(method, "logit"): (2, 3)}


def test_methods_of_different_resolution_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "maps.zarr.zip"
    write_maps(path, "p", ["a"], {("cam", "logit"): np.ones((1, 7, 7)), ("gradient", "logit"): np.ones((1, 224, 224))})
    assert [np.shape(found) for found in read_maps(path, "a").values()] == [(7, 7), (224, 224)]
