"""The maps of one picture from the command line: a contact sheet, a table, and classes by index or name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fukusen.cli.explain import class_index
from fukusen.errors import CallError

Call = Callable[..., Any]
PHOTO = "photos/cat/0.png"
ONE = ("--method", "grad_cam", "--score", "logit")
TWO = ("--method", "grad_cam", "--method", "occlusion", "--score", "logit", "--score", "log_odds")
GREETING = "a supplier's greeting\n"
ENDINGS = ".png, .jpg, .jpeg, .webp"
BLIND = """
import torch
from torch import nn
import fukusen
from fukusen.models.preprocessing import CenterCrop

def build():
    torch.manual_seed(0)
    return fukusen.wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3)).eval(), CenterCrop(32), head="softmax")

def interrupted():
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize(("asked", "index"), [("0", 0), ("03", 3), ("cat", 0), ("CAT", 0), ("Dog", 2), ("dog", 1)])
def test_a_class_is_asked_for_by_index_or_name(asked: str, index: int) -> None:
    """An exact name goes before one in other capitals."""
    assert class_index(asked, ["cat", "dog", "Dog", "crane"]) == index


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("4", "There is no class 4: this model has 4, counted from 0."),
        ("-1", "This model has no class named '-1'. Say its index, counted from 0."),
        ("cta", "This model has no class named 'cta'. Did you mean 'cat'?"),
        ("", "This model has no class named ''. Say its index, counted from 0."),
        ("Crane", "This model has 2 classes named 'Crane'. Say --target 2 or --target 3."),
        ("crane", "This model has 2 classes named 'crane'. Say --target 2 or --target 3."),
    ],
)
def test_a_class_that_is_not_there_is_said(asked: str, said: str) -> None:
    """How many there are, the nearest name, or the indices of those that share one."""
    with pytest.raises(CallError) as caught:
        class_index(asked, ["cat", "dog", "Crane", "Crane"])
    assert str(caught.value) == said


def test_the_maps_are_drawn_and_told(call: Call, here: Path) -> None:
    """A row for each method in each score, and the picture where the last line says."""
    done = call("explain", "model.py:build", PHOTO, *TWO)
    assert (done.code, done.err) == (0, GREETING)
    lines = done.out.splitlines()
    assert lines[0] == "0.png"
    assert lines[1].startswith("Explained: dog (class 1), probability ")
    assert lines[1].endswith("%, the predicted class.")
    assert (lines[2], lines[-2], lines[-1]) == ("", "", "0-explained.png")
    rows = [line.split()[:6] for line in lines[3:-2]]
    assert rows == [
        ["method", "score", "shift", "leak", "size", "centre"],
        ["grad_cam", "logit", "1", "16", "x", "16"],
        ["grad_cam", "log_odds", "0", "16", "x", "16"],
        ["occlusion", "logit", "1", "7", "x", "7"],
        ["occlusion", "log_odds", "0", "7", "x", "7"],
    ]
    with Image.open(here / "0-explained.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert min(picture.size) > 400


def test_json_tells_the_same_and_more(call: Call, here: Path) -> None:
    """One object alone on stdout: the class that is explained, the one that is predicted, and the maps."""
    words = ("explain", "model.py:build", PHOTO, *ONE, "--target", "cat", "--out", "maps.webp")
    found = call(*words, "--json").json
    assert found["image"] == PHOTO
    assert found["model"]["spec"] == "model.py:build"
    assert (found["predicted"]["index"], found["predicted"]["name"]) == (1, "dog")
    assert (found["explained"]["index"], found["explained"]["name"]) == (0, "cat")
    assert 0 < found["explained"]["probability"] < found["predicted"]["probability"] < 1
    (row,) = found["rows"]
    assert (row["method"], row["score"], row["shift_leak"], row["track"]) == ("grad_cam", "logit", 1.0, "inner")
    assert row["shape"] == [16, 16]
    assert all(0 <= row[place][axis] <= 1 for place in ("center", "peak") for axis in ("x", "y"))
    assert row["undefined"] is None
    assert found["picture"] == "maps.webp"
    with Image.open(here / "maps.webp") as picture:
        assert picture.format == "WEBP"
    told = call(*words, "--force").out.splitlines()
    chances = {name: f"{found[name]['probability']:.0%}" for name in ("explained", "predicted")}
    assert told[1] == f"Explained: cat (class 0), probability {chances['explained']}."
    assert told[2] == f"Predicted: dog (class 1), probability {chances['predicted']}."


def test_a_picture_that_is_there_is_written_over_by_force_only(call: Call, here: Path) -> None:
    """It stays as it is, byte for byte, until --force is said."""
    (here / "0-explained.png").write_text("mine")
    done = call("explain", "model.py:build", PHOTO, *ONE)
    said = "There is a 0-explained.png already. Name another with --out, or say --force to write over it."
    assert (done.code, done.out, done.err) == (2, "", f"fukusen: {said}\n")
    assert (here / "0-explained.png").read_text() == "mine"
    assert call("explain", "model.py:build", PHOTO, *ONE, "--force").code == 0
    with Image.open(here / "0-explained.png") as picture:
        assert picture.format == "PNG"


def test_a_map_that_cannot_be_made_is_told_with_its_reason(call: Call, here: Path) -> None:
    """In its row of the table and of the JSON, beside those that can."""
    (here / "blind.py").write_text(BLIND)
    words = ("explain", "blind.py:build", PHOTO, "--method", "gradient", *ONE, "--force")
    reason = "the network has no layer with rows and columns"
    assert f"\ngrad_cam  logit  1           no map: {reason}\n" in call(*words).out
    rows = {row["method"]: row for row in call(*words, "--json").json["rows"]}
    assert {key: rows["grad_cam"][key] for key in ("shape", "center", "peak", "undefined")} == {
        "shape": None,
        "center": None,
        "peak": None,
        "undefined": reason,
    }
    assert rows["gradient"]["shape"] == [32, 32]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "model.py:build photos",
            "photos names 3 pictures, and explain draws one, such as photos/cat/0.png. For many use: fukusen audit",
        ),
        (
            "model.py:build nowhere.png",
            (
                "There is no file or folder 'nowhere.png'. Name a folder of pictures, a glob, a CSV or Parquet file "
                "with a column 'path', or demo."
            ),
        ),
        (
            f"model.py:build {PHOTO} --out maps.gif",
            f"The picture maps.gif would be of no known kind. Give --out a name that ends with: {ENDINGS}.",
        ),
        (
            f"model.py:build {PHOTO} --out maps",
            f"The picture maps would be of no known kind. Give --out a name that ends with: {ENDINGS}.",
        ),
        (
            f"model.py:build {PHOTO} --out nowhere/maps.png",
            "There is no folder nowhere to put the picture in. Make it, or name another with --out.",
        ),
        (
            f"model.py:build {PHOTO} --force --out folder.png",
            "There is a folder.png already. Name another with --out, or say --force to write over it.",
        ),
        ("model.py:build text.png", "text.png: it is not a picture in a format that can be read."),
        (f"model.py:build {PHOTO} --target cta", "This model has no class named 'cta'. Did you mean 'cat'?"),
        (f"model.py:ends {PHOTO}", "The model's own code ended the program (exit code 0). Take that out."),
        (
            f"model.py:build {PHOTO} --head sofmax",
            (
                "There is no head named 'sofmax'. Did you mean 'softmax'? Known: log_probabilities, one_logit, "
                "probabilities, sigmoid, sigmoid_probabilities, softmax."
            ),
        ),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(call: Call, here: Path, words: str, said: str) -> None:
    """Exit code 2, and no picture is drawn."""
    (here / "text.png").write_text("I am no picture")
    (here / "folder.png").mkdir()
    before = {path.name for path in here.iterdir()} | {"__pycache__"}
    done = call("explain", *words.split())
    assert (done.code, done.out, done.err.removeprefix(GREETING)) == (2, "", f"fukusen: {said}\n")
    assert {path.name for path in here.iterdir()} <= before


def test_ctrl_c_is_no_error(call: Call, here: Path) -> None:
    """Exit code 130, as shells expect, without a traceback."""
    (here / "blind.py").write_text(BLIND)
    done = call("explain", "blind.py:interrupted", PHOTO)
    assert (done.code, done.out, done.err) == (130, "", "")
