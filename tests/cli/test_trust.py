"""Models that can run code when they are loaded: refused on the command line, and loaded with ``--trust``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

PANEL = ("--method", "grad_cam", "--score", "logit", "--head", "softmax")


@pytest.fixture
def pickled(here: Path) -> str:
    """A whole network in a file."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    torch.save(net.eval(), here / "net.pt")
    return "net.pt"


def _notes(err: str) -> list[str]:
    return [line.removeprefix("note").strip() for line in err.splitlines() if line.startswith("note")]


def test_explain(call: Callable[..., Any], pickled: str) -> None:
    refused = call("explain", pickled, "photos/cat/0.png", *PANEL)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("fukusen: The model 'net.pt' cannot be loaded. It holds more than weights")
    done = call("explain", pickled, "photos/cat/0.png", *PANEL, "--trust", "--json")
    assert done.code == 0
    assert [row["method"] for row in done.json["rows"]] == ["grad_cam"]
    ran = [note for note in _notes(done.err) if note.startswith("Code in net.pt may have run when it was loaded")]
    assert len(ran) == 1


def test_audit(call: Callable[..., Any], pickled: str, here: Path) -> None:
    words = ("audit", pickled, "photos", "--out", "out", *PANEL)
    refused = call(*words)
    assert (refused.code, (here / "out").exists()) == (2, False)
    done = call(*words, "--trust", "--fail-on", "never")
    assert done.code == 0
    ran = [note for note in _notes(done.err) if note.startswith("Code in net.pt may have run when it was loaded")]
    assert len(ran) == 1
