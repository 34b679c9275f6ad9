"""The maps of one picture as numbers and as a contact sheet."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fukusen
from fukusen.auditing.places import place_of
from fukusen.cli.maps import HEADS, Explained, Row, explained
from fukusen.methods import methods
from fukusen.models import Classifier
from fukusen.models.preprocessing import CenterCrop, Squash
from fukusen.records import Item, Undefined

GRAD_CAM: Any = methods.build("grad_cam")


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    """An int is no float to beartype."""
    monkeypatch.setattr("fukusen.cli.maps.place_of", inspect.unwrap(place_of))


@pytest.fixture
def model() -> Classifier:
    """A small network of three classes."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
    return fukusen.wrap(nn.Sequential(*layers).eval(), CenterCrop(24), ["cat", "dog", "crane"], head="softmax")


@pytest.fixture
def item(tmp_path: Path) -> Item:
    """A picture that is wider than it is high, red at the sides and without red in the middle."""
    dots = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    dots[..., 0] = 0
    picture = Image.new("RGB", (80, 40), "red")
    picture.paste(Image.fromarray(dots[:, 20:60]), (20, 0))
    picture.save(tmp_path / "wide.png")
    return Item("wide.png", str(tmp_path / "wide.png"))


def _row(weight: Any) -> Row:
    return Row(GRAD_CAM, "logit", 1.0, weight)


def test_one_bright_cell_is_centre_and_peak() -> None:
    """All the weight is there: down and across as shares of the sides."""
    weight = np.zeros((4, 5))
    weight[3, 0] = 2.0
    row = _row(weight)
    assert row.centre == pytest.approx((3.5 / 4, 0.5 / 5))
    assert row.peak is not None
    assert row.peak[0] == pytest.approx((3.5 / 4, 0.5 / 5))
    assert row.peak[1] == pytest.approx(1.0)
    assert row.cells() == ["grad_cam", "logit", "1", "4 x 5", "lower left", "lower left", "100%"]
    assert len(row.cells()) == len(HEADS)


def test_centre_and_peak_may_lie_apart() -> None:
    """Two corners pull the centre to the middle, and the brighter one is the peak."""
    weight = np.zeros((7, 7))
    weight[0, 6], weight[6, 0] = 3.0, 2.0
    row = _row(weight)
    assert row.centre == pytest.approx(((3 * 0.5 + 2 * 6.5) / 35, (3 * 6.5 + 2 * 0.5) / 35))
    assert row.cells()[4:] == ["centre", "upper right", "60%"]
    told = row.as_json()
    assert told["peak"] == {"x": pytest.approx(6.5 / 7), "y": pytest.approx(0.5 / 7), "share": pytest.approx(0.6)}
    assert told["shape"] == [7, 7]
    assert (told["center"]["x"], told["center"]["y"]) == pytest.approx((row.centre[1], row.centre[0]))


@pytest.mark.parametrize(
    ("weight", "said", "shape"),
    [
        (np.zeros((4, 5)), ["4 x 5", "empty map", "", ""], [4, 5]),
        (Undefined("no layer has rows"), ["no map: no layer has rows", "", "", ""], None),
    ],
    ids=["empty", "undefined"],
)
def test_a_map_without_weight_has_no_place(weight: Any, said: list[str], shape: list[int] | None) -> None:
    """It is said so, never as a place or a zero."""
    row = _row(weight)
    assert (row.centre, row.peak) == (None, None)
    assert row.cells() == ["grad_cam", "logit", "1", *said]
    told = row.as_json()
    assert (told["shape"], told["center"], told["peak"]) == (shape, None, None)
    assert told["undefined"] == (weight.reason if isinstance(weight, Undefined) else None)


def test_the_rows_are_those_of_the_library(model: Classifier, item: Item) -> None:
    """One a method and score in the panel's order, with the class that is asked for."""
    made = explained(model, item, 2, ["grad_cam", "gradient"], ["logit", "log_odds"])
    panel = fukusen.explain(
        model, [item.path], targets=2, methods=["grad_cam", "gradient"], scores=["logit", "log_odds"]
    )
    assert [(row.method.name, row.score) for row in made.rows] == list(panel)
    assert [row.leak for row in made.rows] == [1.0, 0.0, 1.0, 0.0]
    for row in made.rows:
        maps = panel[row.method.name, row.score][0].double().numpy()
        expected = np.abs(maps) if row.method.reading == "magnitude" else np.maximum(maps, 0)
        np.testing.assert_allclose(row.weight, expected)


def test_the_class_is_said_in_sentences(model: Classifier, item: Item) -> None:
    """One where the predicted class is explained, and two where another one is."""
    predicted = explained(model, item, None, ["grad_cam"], ["logit"])
    index = predicted.as_json()["predicted"]["index"]
    name = model.classes[index]
    said = f"{name} (class {index}), probability {predicted.as_json()['predicted']['probability']:.0%}"
    assert predicted.lines() == [f"Explained: {said}, the predicted class."]
    other = explained(model, item, (index + 1) % 3, ["grad_cam"], ["logit"])
    first, second = other.lines()
    assert first.startswith(f"Explained: {model.classes[(index + 1) % 3]} (class {(index + 1) % 3}), probability ")
    assert second == f"Predicted: {said}."
    chances = [explained(model, item, one, ["grad_cam"], ["logit"]).as_json()["explained"] for one in range(3)]
    assert sum(one["probability"] for one in chances) == pytest.approx(1)


def _red(made: Explained) -> float:
    """How much of the sheet is the red of the picture's sides."""
    pixels = np.asarray(made.sheet()).astype(int)
    return float(((pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=2) < 40)).mean())


def test_the_sheet_shows_what_the_network_saw(model: Classifier, item: Item) -> None:
    """Without the sides of the picture that are cut off, and with them where all of it is squashed."""
    squashed = fukusen.wrap(model.net, Squash(24), head="softmax")
    cut, whole = (explained(one, item, None, ["grad_cam"], ["logit"]) for one in (model, squashed))
    assert _red(cut) == 0
    assert _red(whole) > 0.05


def test_the_sheet_has_a_cell_for_each_map(model: Classifier, item: Item) -> None:
    """A row a method and a column a score, as an RGB picture."""
    names = fukusen.list_scores()[:5]
    small = explained(model, item, None, ["grad_cam"], names[:1]).sheet()
    large = explained(model, item, None, ["grad_cam", "gradient"], names).sheet()
    assert small.mode == large.mode == "RGB"
    assert large.width > small.width
    assert large.height > small.height
