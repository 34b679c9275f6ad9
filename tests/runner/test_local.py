"""Audits that are stopped, resumed, and given pictures that cannot be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import fukusen
from fukusen.errors import CallError, DataError, ModelError, StoreError
from fukusen.models import Classifier
from fukusen.store import audit_schema

FACTORY = """
import time
import torch
from torch import nn
import fukusen
from fukusen.models.preprocessing import CenterCrop

class Slow(nn.Sequential):
    def forward(self, images):
        time.sleep({pause})
        return super().forward(images)

def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return fukusen.wrap(Slow(*layers).eval(), CenterCrop(24), head="softmax")
"""
METHODS = ["grad_cam", "hires_cam", "occlusion"]


def _pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        dots = chance.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(dots).resize((48, 48)).save(folder / f"{number:02}.png")
    return folder


def _factory(folder: Path, pause: float = 0.0) -> str:
    file = folder / "model.py"
    file.write_text(FACTORY.format(pause=pause))
    return f"{file}:build"


@pytest.fixture
def model(tmp_path: Path) -> Classifier:
    """A small network from a file."""
    return fukusen.load(_factory(tmp_path))


def _said(verdict: dict[str, object]) -> str:
    return json.dumps(
        [verdict[key] for key in ("status", "images", "panel", "checks", "findings", "queue", "agreement")]
    )


def test_an_audit_leaves_what_the_contract_says(model: Classifier, tmp_path: Path) -> None:
    """A verdict that fits its schema, a report, a queue and a store."""
    done = fukusen.audit(model, _pictures(tmp_path / "in", 5), tmp_path / "out", methods=METHODS, batch=2)
    left = json.loads((tmp_path / "out" / "audit.json").read_text())
    jsonschema.validate(left, audit_schema())
    assert left == json.loads(json.dumps(done.verdict))
    assert left["images"] == {"asked": 5, "audited": 5, "failed": 0, "failures": []}
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    assert (tmp_path / "out" / "queue.csv").read_text().startswith("image,priority,severity,reasons")
    assert {(row["score"], row["verdict"]) for row in left["panel"] if row["score"] == "logit"} <= {
        ("logit", "exposed"),
        ("logit", "unreliable"),
    }


def test_the_same_audit_again_computes_nothing_and_says_the_same(model: Classifier, tmp_path: Path) -> None:
    """Plan minus store is nothing; a new picture is all that is computed."""
    pictures = _pictures(tmp_path / "in", 4)
    first = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS, batch=2)
    again = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS, batch=2)
    assert (first.verdict["environment"]["computed"], again.verdict["environment"]["computed"]) == (4, 0)
    assert _said(dict(first.verdict)) == _said(dict(again.verdict))
    Image.new("RGB", (48, 48), "red").save(pictures / "new.png")
    third = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS, batch=2)
    assert third.verdict["environment"]["computed"] == 1
    assert third.verdict["images"]["audited"] == 5


def test_killed_in_the_middle_it_goes_on_and_says_the_same(tmp_path: Path) -> None:
    """SIGKILL while shards are written; the same call then finds them and ends as if nothing had happened."""
    pictures, spec = _pictures(tmp_path / "in", 8), _factory(tmp_path, pause=0.02)
    call = (
        "import sys, fukusen; fukusen.audit(sys.argv[1], sys.argv[2], sys.argv[3], "
        "methods=['grad_cam', 'hires_cam', 'occlusion'], batch=1)"
    )
    words = [sys.executable, "-c", call, spec, str(pictures), str(tmp_path / "killed")]
    running = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    parts = tmp_path / "killed" / "store" / "parts"
    ends = time.monotonic() + 120
    while time.monotonic() < ends and len(list(parts.glob("*.done.json"))) < 2:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "audit.json").exists()
    resumed = fukusen.audit(spec, pictures, tmp_path / "killed", methods=METHODS, batch=1)
    whole = fukusen.audit(spec, pictures, tmp_path / "whole", methods=METHODS, batch=1)
    assert 0 < resumed.verdict["environment"]["kept"] < 8
    assert _said(dict(resumed.verdict)) == _said(dict(whole.verdict))


def test_bad_pictures_fail_one_by_one_with_a_reason(model: Classifier, tmp_path: Path) -> None:
    """A cut JPEG, a text called .png and a single pixel fail; CMYK and 16 bits are audited."""
    pictures = _pictures(tmp_path / "in", 2)
    Image.new("RGB", (64, 64), "blue").save(pictures / "cut.jpg")
    cut = pictures / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    (pictures / "text.png").write_text("I am no picture")
    Image.new("RGB", (1, 1)).save(pictures / "pixel.png")
    Image.new("CMYK", (64, 64), (10, 100, 50, 0)).save(pictures / "cmyk.jpg")
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(pictures / "deep.png")
    done = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS)
    assert done.status in ("attention", "fail")
    reasons = {one["item"]: one["reason"] for one in done.verdict["images"]["failures"]}
    assert set(reasons) == {"cut.jpg", "text.png", "pixel.png"}
    assert reasons["text.png"] == "it is not a picture in a format that can be read"
    assert all(reasons.values())
    assert done.verdict["images"]["audited"] == 4


def test_another_model_does_not_write_over_an_audit(model: Classifier, tmp_path: Path) -> None:
    """The folder belongs to the model that it was made with."""
    pictures = _pictures(tmp_path / "in", 2)
    fukusen.audit(model, pictures, tmp_path / "out", methods=["grad_cam"])
    before = (tmp_path / "out" / "audit.json").read_bytes()
    twin = fukusen.attack(model, "corner_shift")
    with pytest.raises(StoreError, match="--out"):
        fukusen.audit(twin, pictures, tmp_path / "out", methods=["grad_cam"])
    assert (tmp_path / "out" / "audit.json").read_bytes() == before


def test_what_cannot_be_audited_is_said_in_one_sentence(model: Classifier, tmp_path: Path) -> None:
    """No picture that works, no preprocessing, no such folder, a network of NaN."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.png").write_text("I am no picture")
    with pytest.raises(DataError) as none:
        fukusen.audit(model, tmp_path / "in", tmp_path / "out", methods=["grad_cam"])
    assert str(none.value) == (
        "Not one of 1 images could be audited. The first, text.png: it is not a picture in a format that can be read."
    )
    with pytest.raises(DataError, match="nowhere"):
        fukusen.audit(model, tmp_path / "nowhere", tmp_path / "out")
    bare = fukusen.wrap(model.net, input_size=(3, 24, 24), head="softmax")
    with pytest.raises(CallError) as missing:
        fukusen.audit(bare, _pictures(tmp_path / "good", 1), tmp_path / "out2")
    assert str(missing.value) == (
        "This model was wrapped without preprocessing, so picture files cannot be given to it."
    )
    model.net[0].weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        fukusen.wrap(model.net, model.preprocess)
