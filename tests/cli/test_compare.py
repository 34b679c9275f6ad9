"""``fukusen compare`` as a user calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]

PANEL = ("--method", "grad_cam", "--score", "logit", "--score", "log_odds")


def test_a_shifted_twin_is_told_from_its_original(call: Call, here: Path) -> None:
    done = call("compare", "model.py:build", "model.py:bent", "photos", "--method", "gradient", *PANEL[2:])
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "DIFFERENT same function, different explanations"
    assert lines[-2].split()[:3] == ["gradient", "logit", "no"]
    assert lines[-1].split()[:5] == ["gradient", "log_odds", "yes", "1.0000", "1.0000"]
    assert "note      The candidate's classes have no names: classes are compared by their place." in lines
    assert done.err.splitlines()[-1].startswith("comparing: 3 of 3 images")


def test_the_same_model_passes(call: Call, here: Path) -> None:
    done = call("compare", "model.py:build", "model.py:build", "photos", *PANEL)
    assert (done.code, done.out.splitlines()[0]) == (0, "PASS      identical, same explanations")


def test_json_is_the_comparison(call: Call, here: Path) -> None:
    done = call("compare", "model.py:build", "model.py:bent", "photos", "--json")
    assert done.code == 1
    assert done.json["headline"] == "same function, different explanations"
    assert done.json["candidate"]["spec"] == "model.py:bent"
    assert len(done.json["rows"]) == 30
    assert done.json["weights"]["same"]


def test_layers_can_be_named_for_each(call: Call, here: Path) -> None:
    words = ("compare", "model.py:build", "model.py:build", "photos", *PANEL, "--json")
    found = call(*words, "--reference-layer", "0", "--candidate-layer", "3").json
    assert (found["reference"]["layer"], found["candidate"]["layer"]) == ("0", "3")
    assert found["rows"][0]["grids"] == [[32, 32], [16, 16]]


def test_what_cannot_be_compared_is_said_in_one_line(call: Call, here: Path) -> None:
    (here / "other.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(2), "
        "nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()\n"
    )
    done = call("compare", "model.py:build", "other.py:build", "photos")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(
        "fukusen: The reference tells 4 classes apart and the candidate 6, so their probabilities cannot be compared."
    )
    assert call("compare", "model.py:build", "model.py:build", "nowhere").code == 2
