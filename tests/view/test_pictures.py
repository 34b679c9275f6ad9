"""Overlays show where a map's weight lies, and say it."""

import base64
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fukusen.view.pictures import overlay, photograph


def decoded(uri: str) -> npt.NDArray[np.float64]:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB"), dtype=float)


def spike(row: int, column: int, side: int = 7) -> npt.NDArray[np.float64]:
    found = np.zeros((side, side))
    found[row, column] = 2.5
    return found


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("side", [7, 56])
def test_the_centre_of_the_weight_is_named(row: int, column: int, side: int) -> None:
    at = [side // 6, side // 2, side - 1 - side // 6]
    picture = overlay(None, "grad_cam", spike(at[row], at[column], side))
    assert (picture.row, picture.column, picture.cells) == (row, column, 49)
    assert picture.share > 0.99


def test_bright_is_where_the_weight_is() -> None:
    pixels = decoded(overlay(None, "grad_cam", spike(0, 0)).uri)
    assert pixels.shape == (160, 160, 3)
    assert pixels[:8, :8, 0].mean() > 200
    assert np.abs(pixels[100:, 100:] - 150).max() < 12


def test_methods_are_read_as_they_are_meant() -> None:
    signed = np.array([[-3.0, 2.0]])
    assert overlay(None, "grad_cam", signed).share == 1.0
    assert overlay(None, "gradient", signed).share == 0.6
    assert overlay(None, "smooth_grad(samples=8)", signed).share == pytest.approx(0.6)


@pytest.mark.parametrize("values", [np.zeros((7, 7)), -np.ones((7, 7))])
def test_a_map_without_weight_is_empty(values: npt.NDArray[np.float64]) -> None:
    picture = overlay(None, "grad_cam", values)
    assert (picture.row, picture.column, picture.share) == (None, None, 0.0)
    assert np.ptp(decoded(picture.uri)) < 4


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (14, 14), (224, 224), (300, 20)])
def test_maps_of_any_size_are_drawn(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32) + 1
    picture = overlay(b"no picture", "lrp", values)
    assert 0 < picture.share <= 1
    assert len(picture.uri) < 14_000


def test_the_photograph_is_kept_small_and_a_torn_one_is_none() -> None:
    sink = BytesIO()
    Image.new("RGB", (224, 224), (200, 30, 30)).save(sink, "WEBP")
    uri = photograph(sink.getvalue())
    assert uri is not None
    assert decoded(uri).shape == (160, 160, 3)
    assert photograph(sink.getvalue()[:40]) is None
    assert photograph(b"") is None
