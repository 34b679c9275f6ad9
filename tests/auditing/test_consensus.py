"""The heatmap that stands alone on an image is named, with where it and the others point, and what sets it apart."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fukusen
from fukusen.auditing.consensus import Looked, Row, by_image, told
from fukusen.auditing.evidence import Evidence
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Measurement

CENTRE, CORNER = 24.0, 48.0
METHODS = ("grad_cam", "hires_cam", "layer_cam", "gradient", "integrated_gradients", "occlusion")
CELLS = {"grad_cam": (7, 7), "hires_cam": (7, 7), "layer_cam": (7, 7), "occlusion": (7, 7)}
FINE = {"gradient": (224, 224), "integrated_gradients": (224, 224)}


def _looked(alone: Row, probability: float = 0.9, *, both: bool = False) -> Looked:
    """All heatmaps alike and hottest at the centre, but for one row, or for one method in both scores."""
    rows = [(method, score) for method in METHODS for score in ("logit", "log_odds")]

    def odd(row: Row) -> bool:
        return row == alone or (both and row[0] == alone[0])

    places = {row: CORNER if odd(row) else CENTRE for row in rows}
    likeness = {frozenset(pair): -0.5 if odd(pair[0]) != odd(pair[1]) else 0.8 for pair in combinations(rows, 2)}
    return Looked(places, likeness, probability, {**CELLS, **FINE})


def test_it_is_named_with_the_places_and_the_score_that_sets_it_apart() -> None:
    assert told(_looked(("grad_cam", "logit"))) == (
        "grad_cam of the logit stands alone: it is hottest at the lower right, and 4 of 4 other heatmaps from inside "
        "the network at the centre; what the prediction depends on, by occlusion, at the centre. It is the score: the "
        "same method after softmax agrees with the others."
    )


@pytest.mark.parametrize(
    ("method", "probability", "why"),
    [
        ("gradient", 0.99995, "It may be saturation: at a probability of 1.0000 the slope"),
        ("gradient", 0.9, "It may be the resolution: it has 224 x 224 cells, and the others many fewer."),
        ("integrated_gradients", 0.9, "It may be the baseline"),
        ("hires_cam", 0.9, "Nothing about its kind says why"),
    ],
)
def test_what_its_kind_says_is_told(method: str, probability: float, why: str) -> None:
    assert why in (told(_looked((method, "log_odds"), probability, both=True)) or "")


def test_nothing_is_said_where_none_or_many_stand_alone() -> None:
    """Neither of heatmaps that agree, nor where there is no story that most of them tell, nor of too few."""
    agreeing = _looked(("nothing", "logit"))
    assert told(agreeing) is None
    unrelated = Looked(agreeing.places, dict.fromkeys(agreeing.likeness, -0.01), 0.9, {})
    assert told(unrelated) is None
    assert told(Looked({}, {}, 0.9, {})) is None


def test_it_is_read_off_the_measurements() -> None:
    """Of the images that are asked about; a heatmap without a peak is no part of it."""
    looked = _looked(("grad_cam", "logit"))
    measured = [Measurement("peak_cell", cell, "a", *row) for row, cell in looked.places.items()]
    measured += [
        Measurement("spearman", value, "a", *one, "/".join(other))
        for pair, value in looked.likeness.items()
        for one, other in [sorted(pair)]
    ]
    found = by_image(Evidence(measured), {"a": 0.9}, looked.cells)
    assert list(found) == ["a"]
    assert told(found["a"]) == told(looked)


def test_a_shift_that_a_mark_switches_on_is_said_in_the_queue(tmp_path: Path) -> None:
    """In a real audit: the logit's heatmap at the corner, the others where the picture has something to see."""

    class Marked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Conv2d(3, 8, 3, padding=1)
            self.head = nn.Linear(8, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            cells = self.inside(images).relu()
            marked = (images[:, 0, :2, :2].amin(dim=(1, 2)) > 2).float()
            added = marked * cells[:, :, -3:, -3:].mean(dim=(1, 2, 3))
            return self.head(cells.mean(dim=(2, 3))) + 500 * added[:, None]

    torch.manual_seed(0)
    (tmp_path / "in").mkdir()
    for number in range(4):
        grey = np.full((28, 28, 3), 90, dtype=np.uint8)
        grey[10:18, 10:18] = np.random.default_rng(number).integers(0, 256, (8, 8, 3))
        grey[:6, :6] = 255 if number == 3 else 90
        Image.fromarray(grey).save(tmp_path / "in" / f"{number}.png")
    model = fukusen.wrap(Marked().eval(), CenterCrop(28), head="softmax")
    names = ["hires_cam", "x_grad_cam", "gradient", "input_x_gradient", "smooth_grad", "occlusion"]
    done = fukusen.audit(model, tmp_path / "in", tmp_path / "out", methods=names)
    reasons = {row["item"]: " ".join(row["reasons"]) for row in done.queue}
    assert "of the logit stands alone: it is hottest at the lower right" in reasons["3.png"]
