"""The program called as a user calls it, on a small network and small pictures."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fukusen.auditing.places import place_of
from fukusen.cli import app, main

FACTORY = """
import torch
from torch import nn
import fukusen
from fukusen.models.preprocessing import CenterCrop

print("a supplier's greeting")

class Bent(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images) + 100 * images[:, :, :3, :3].mean(dim=(1, 2, 3))[:, None]

def layers():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()

def build():
    return fukusen.wrap(layers(), CenterCrop(32), ["cat", "dog", "Crane", "Crane"], head="softmax")

def bent():
    return fukusen.wrap(Bent(layers()).eval(), CenterCrop(32), head="softmax")

def plain():
    return layers()

def ends():
    class Ending(nn.Sequential):
        def forward(self, images):
            raise SystemExit(0)
    return Ending(nn.Conv2d(3, 4, 3))

def breaks():
    class Breaking(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = layers()
        def forward(self, images):
            if len(images) != 2:
                raise KeyError("no such thing")
            return self.net(images)
    return fukusen.wrap(Breaking(), CenterCrop(32), head="softmax")
"""
PANEL = ("--method", "grad_cam", "--method", "occlusion", "--score", "logit", "--score", "log_odds")


@dataclass(frozen=True)
class Done:
    """What a call gave: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The whole of stdout."""
        return json.loads(self.out)


Call = Callable[..., Done]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the program with some words, in a folder of the test's own.

    The shape checks begin below the commands: typer hands these another Context than the one that it exports, and an
    int is no float to beartype.
    """
    for one in (app.registered_callback, *app.registered_commands):
        assert one is not None
        assert one.callback is not None
        monkeypatch.setattr(one, "callback", inspect.unwrap(one.callback))
    monkeypatch.setattr("fukusen.cli.maps.place_of", inspect.unwrap(place_of))

    def called(*words: object) -> Done:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Done(code, *capfd.readouterr())

    return called


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with ``model.py`` and ``photos/``, and a terminal of which nothing is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "FUKUSEN_TRACEBACK", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "model.py").write_text(FACTORY)
    chance = np.random.default_rng(0)
    for number, label in enumerate(("cat", "cat", "dog")):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        dots = chance.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(dots).resize((64, 48)).save(folder / f"{number}.png")
    return tmp_path
