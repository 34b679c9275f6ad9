"""An earlier audit as the reference: closer bounds, unusual images, and what cannot be a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fukusen
from fukusen.errors import CallError, StoreError
from fukusen.models import Classifier, wrap
from fukusen.models.preprocessing import CenterCrop

FEW = {"budget": "quick", "methods": ["grad_cam", "hires_cam"], "scores": ["logit", "log_odds"]}


def _model(shift: float = 0.0, seed: int = 0, classes: int = 2) -> Classifier:
    """Two classes, whose rows share nothing but what is put there."""
    torch.manual_seed(seed)
    body = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)).eval()
    with torch.no_grad():
        net[6].weight -= net[6].weight.mean(dim=0)
        net[6].weight += 0.02 * torch.randn(16)
        net[6].weight += shift * torch.randn(16)
    return wrap(net, CenterCrop(16), head="softmax")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures."""
    place = tmp_path_factory.mktemp("reference")
    chance = np.random.default_rng(0)
    (place / "photos").mkdir()
    for number in range(12):
        picture = Image.fromarray(chance.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        picture.save(place / "photos" / f"{number:02}.png")
    return place / "photos"


@pytest.fixture(scope="module")
def trusted(photos: Path) -> fukusen.Audit:
    """The audit of a trusted model."""
    return _audit(_model(), photos, "trusted")


def _audit(model: Classifier, photos: Path, name: str, **more: Any) -> fukusen.Audit:
    return fukusen.audit(model, photos, photos.parent / name, **{**FEW, **more})


def test_a_reference_shows_what_two_classes_hide(photos: Path, trusted: fukusen.Audit) -> None:
    """A shift in weights alone that chance could have made is out of a trusted model's bounds; the page says so."""
    assert trusted.status != "fail"
    alone = _audit(_model(0.35), photos, "alone")
    beside = _audit(_model(0.35), photos, "beside", reference=trusted.folder)
    assert "shift_share" not in {one["check"] for one in alone.findings}
    assert beside.status == "fail"
    assert {"shift_share", "head_mean_row"} <= {one["check"] for one in beside.findings if one["scope"] == "model"}
    bounds = {row["name"]: row for row in beside.verdict["reference"]["bounds"]}
    assert bounds["shift_share"]["value"] < 1 < bounds["shift_share"]["without"] == 3.0
    assert {row["name"]: row["value"] for row in beside.verdict["bounds"]}["shift_share"] == bounds["shift_share"][
        "value"
    ]
    page = (beside.folder / "report.html").read_text(encoding="utf-8")
    assert "Bounds that the reference sets, beside those that must fit every model" in page
    assert "It is another model, so only its bounds are taken" in page
    assert "named with --reference, sets closer bounds" in (alone.folder / "report.html").read_text(encoding="utf-8")
    assert "--reference" in beside.verdict["command"]


def test_an_honest_model_does_not_fail_beside_another(photos: Path, trusted: fukusen.Audit) -> None:
    """And the model beside itself, on the same pictures, has nothing that it had not before."""
    assert _audit(_model(seed=3), photos, "other", reference=trusted.folder).status != "fail"
    same = _audit(_model(), photos, "same", reference=trusted.folder)
    assert [one for one in same.findings if one not in trusted.findings] == []
    assert "It is this same model on other images" in (same.folder / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_a_reference_is_said_before_anything_is_written(photos: Path, trusted: fukusen.Audit) -> None:
    bent = _audit(fukusen.attack(_model(), "corner_shift", strength=50), photos, "bent")
    assert bent.status == "fail"
    cases: list[tuple[Classifier, Path, type[Exception], str]] = [
        (_model(classes=5), trusted.folder, CallError, "audits a model of 2 classes, and this one has 5"),
        (_model(), bent.folder, CallError, "has the status fail: bounds from a manipulated model would hide"),
        (_model(), photos, StoreError, "holds no audit"),
    ]
    for model, folder, kind, said in cases:
        with pytest.raises(kind, match=said):
            _audit(model, photos, "never", reference=folder)
    assert not (photos.parent / "never").exists()
