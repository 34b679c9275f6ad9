"""Heatmaps at several layers, from the command line into the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema

from fukusen.store import audit_schema

Call = Callable[..., Any]
LAYERS = ("--layer", "2", "--layer", "0")


def test_an_audit_reads_its_maps_at_every_layer_that_is_named(call: Call, here: Path) -> None:
    """The first is the model's own; rows of the others are named after them, with their own resolution."""
    done = call(
        "audit", "model.py:build", "photos", "--out", "out", *LAYERS, "--method", "grad_cam", "--method", "occlusion"
    )
    assert done.code == 0, done.err
    verdict = json.loads((here / "out" / "audit.json").read_text(encoding="utf-8"))
    jsonschema.validate(verdict, audit_schema())
    assert verdict["model"]["layer"] == "2"
    rows = {row["method"]: row["resolution"] for row in verdict["panel"]}
    assert list(rows) == ["grad_cam", "occlusion", "grad_cam@0"]
    assert rows["grad_cam"] == verdict["model"]["layer_size"]
    assert rows["grad_cam@0"] != rows["grad_cam"]
    page = (here / "out" / "report.html").read_text(encoding="utf-8")
    assert "Grad-CAM @ 0" in page
    assert "{} × {}".format(*rows["grad_cam@0"]) in page


def test_a_layer_that_is_not_there_is_said_before_anything_is_written(call: Call, here: Path) -> None:
    """In one sentence that suggests the nearest."""
    done = call("audit", "model.py:build", "photos", "--out", "out", "--layer", "0", "--layer", "22")
    assert done.code == 2
    assert "There is no layer named '22'. Did you mean '2'?" in done.err
    assert not (here / "out").exists()
