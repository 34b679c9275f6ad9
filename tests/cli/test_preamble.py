"""What was understood of a call, said on stderr before hours are spent on a misunderstanding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import fukusen
from fukusen.auditing import make_plan
from fukusen.cli.preamble import say_understood
from fukusen.models import Classifier
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Item

Said = Callable[..., list[str]]


def _net(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    pooled = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*pooled, nn.Linear(8, classes)).eval()


def _items(*labels: str | None) -> list[Item]:
    return [Item(f"{number}.png", f"in/{number}.png", label) for number, label in enumerate(labels)]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    """The lines on stderr about a model and what is changed of a plain call; stdout stays empty."""
    monkeypatch.chdir(tmp_path)

    def said(model: Classifier, items: list[Item] | None = None, **plan: Any) -> list[str]:
        asked = {"methods_asked": ["grad_cam"], "scores_asked": ["logit", "log_odds"], **plan}
        say_understood(model, make_plan(**asked), items or _items(None), Path("out"))
        out, err = capfd.readouterr()
        assert out == ""
        return err.splitlines()

    return said


def test_everything_that_was_understood_is_said(said: Said) -> None:
    """A line for each thing, the preprocessing in no more digits than people read."""
    crop = CenterCrop(24, mean=(0.4850001, 0.5, 0.5), std=(0.1234567, 0.2, 0.2))
    model = fukusen.wrap(_net(3), crop, ["cat", "dog", "crane"], head="softmax")
    lines = said(model)
    assert lines[3].startswith("input     3 channels, 24 x 24 pixels; preprocessing: CenterCrop(size=24, ")
    assert "mean=(0.485, 0.5, 0.5), std=(0.1235, 0.2, 0.2)" in lines.pop(3)
    assert lines == [
        f"model     {model.spec}, 251 parameters, on cpu",
        "head      softmax",
        "layer     0, 24 x 24 cells",
        "classes   3: cat, dog, crane",
        "images    1 image",
        "plan      standard: 1 method, 2 scores",
        "out       out",
    ]


def test_what_was_assumed_is_said(said: Said) -> None:
    """A head that the numbers do not tell is marked, each assumption is a note, and many classes are cut short."""
    model = fukusen.wrap(_net(1200), input_size=(3, 24, 24))
    lines = said(model)
    assert lines[1] == "head      softmax (assumed)"
    assert lines[3] == "input     3 channels, 24 x 24 pixels; no preprocessing"
    assert lines[4] == "classes   1,200: class 0, class 1, class 2, class 3, ..."
    assert [line.removeprefix("note      ") for line in lines if line.startswith("note ")] == list(model.notes)
    assert len(model.notes) == 1


def test_a_network_without_places_is_said(said: Said) -> None:
    """Class activation maps cannot be read there; a function is shown by its name."""

    def squeeze(picture: Image.Image) -> torch.Tensor:
        return CenterCrop(8)(picture)

    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).eval()
    lines = said(fukusen.wrap(net, squeeze, head="softmax"))
    assert lines[2] == "layer     none with rows and columns: no class activation maps"
    assert lines[3] == "input     3 channels, 8 x 8 pixels; preprocessing: squeeze"


def test_images_and_their_labels_are_counted(said: Said) -> None:
    """So that a folder that was meant to be labels is noticed."""
    model = fukusen.wrap(_net(2), CenterCrop(24), head="softmax")
    line = {one[:10].rstrip(): one[10:] for one in said(model, _items("cat", "cat", "dog", None))}["images"]
    assert line == "4 images, 3 with one of 2 labels"


def test_what_is_done_on_a_sample_is_said(said: Said) -> None:
    """Only where there are more images than the budget's sample."""
    model = fukusen.wrap(_net(2), CenterCrop(24), head="softmax")

    def plan(count: int, budget: str) -> str:
        lines = said(model, _items(*[None] * count), budget=budget)
        return next(line for line in lines if line.startswith("plan "))[10:]

    assert plan(4, "quick") == "quick: 1 method, 2 scores"
    assert plan(5, "quick") == "quick: 1 method, 2 scores; the costly methods on 4 of the images"
    assert plan(33, "standard") == "standard: 1 method, 2 scores; the costly methods on 32 of the images"
    assert plan(33, "deep") == "deep: 1 method, 2 scores"


def test_an_audit_that_is_there_is_gone_on_with(said: Said) -> None:
    """A folder that holds one is not a new one."""
    model = fukusen.wrap(_net(2), CenterCrop(24), head="softmax")
    Path("out", "store").mkdir(parents=True)
    assert said(model)[-1] == "out       out"
    Path("out", "store", "run.json").touch()
    assert said(model)[-1] == "out       out, going on with the audit that is there"
