"""The heatmap that every audit redraws on a copy: measured, harmless, and refused with a reason where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fukusen
from fukusen.models import Classifier, wrap
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Item
from fukusen.runner.example import redrawn_example


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """One picture of coloured dots."""
    dots = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(dots).resize((40, 40)).save(tmp_path / "dots.png")
    return [Item("dots.png", str(tmp_path / "dots.png"))]


def _model(head: str = "softmax") -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 64, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)
    )
    return wrap(net.eval(), CenterCrop(32), head=head)  # type: ignore[arg-type]


def test_the_logit_map_is_redrawn_and_the_log_odds_map_is_not(items: list[Item]) -> None:
    """The maps are those that explain gives for the model, and the copy keeps the prediction."""
    model = _model()
    found = redrawn_example(model, items)
    assert found["undefined"] is None
    assert found["promise"]["kept"]
    assert found["cosine"]["log_odds"] > 0.9999
    assert found["cosine"]["logit"] < 0.9
    panel = fukusen.explain(model, [items[0].path], methods=["grad_cam"], scores=["logit", "log_odds"])
    for score in ("logit", "log_odds"):
        own = panel["grad_cam", score][0]
        torch.testing.assert_close(torch.tensor(found["before"][score]), own / own.abs().max(), rtol=1e-4, atol=1e-5)


def test_labels_that_do_not_exclude_each_other_have_nothing_to_redraw(items: list[Item]) -> None:
    """And the audit says why."""
    found = redrawn_example(_model("sigmoid"), items)
    assert found["undefined"].startswith("Only logits of classes that exclude each other (softmax) can be shifted")
