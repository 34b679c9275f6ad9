"""Heat lies where the weight is, its strongest place is ringed, and its numbers are the map's own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fukusen.pictures import RAMP, cells_of, centre_of, flattened, laid_over, weight_of


def test_the_ramp_grows_lighter_all_the_way() -> None:
    lightness = RAMP.astype(float) @ np.array([0.2126, 0.7152, 0.0722])
    assert RAMP.shape == (256, 3)
    assert (np.diff(lightness) >= 0).all()
    assert lightness[-1] - lightness[0] > 200


def test_maps_are_read_as_they_are_meant() -> None:
    signed = np.array([[-3.0, 2.0]], dtype=np.float32)
    assert weight_of("positive", signed).tolist() == [[0.0, 2.0]]
    assert weight_of("magnitude", signed).tolist() == [[3.0, 2.0]]


def test_neither_end_of_the_ramp_drowns_in_the_ground() -> None:
    ground = np.asarray(flattened(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))))
    assert (ground.min(), ground.max()) == (50, 208)


@pytest.mark.parametrize("size", [(160, 160), (216, 120), (40, 300), (24, 24)])
@pytest.mark.parametrize("shape", [(7, 7), (1, 1), (56, 20), (224, 224)])
def test_a_map_is_as_large_as_its_ground(size: tuple[int, int], shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(0).random(shape)
    assert laid_over(Image.new("RGB", size, "grey"), weight).size == size


def test_an_empty_map_leaves_the_ground() -> None:
    ground = Image.new("RGB", (50, 40), (9, 8, 7))
    assert laid_over(ground, np.zeros((7, 7))).tobytes() == ground.tobytes()


def test_the_strongest_place_is_ringed_in_black_and_white() -> None:
    weight = np.zeros((16, 16))
    weight[4, 12] = 1.0
    shown = np.asarray(laid_over(Image.new("RGB", (160, 160), (150, 150, 150)), weight)).astype(int)
    ring = shown[45, 125 - 12 : 125 + 13]
    assert (ring.sum(axis=1) == 0).any()
    assert (ring.sum(axis=1) == 3 * 255).any()


def test_the_centre_is_that_of_the_mass() -> None:
    weight = np.zeros((4, 8))
    weight[0, 0] = weight[3, 0] = 1.0
    assert centre_of(weight) == (0.5, 0.0625)


def test_cells_are_no_smaller_than_the_maps_own() -> None:
    assert cells_of(np.ones((3, 5))).shape == (3, 5)
    assert cells_of(np.ones((224, 100))).shape == (7, 7)
    assert cells_of(np.arange(49.0).reshape(7, 7)).ravel().tolist() == list(range(49))
