"""Calls, models and pictures that cannot be used: exit code 2, one clear line, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fukusen
from fukusen.models import model_specs

Call = Callable[..., Any]
GREETING = "a supplier's greeting\n"
SUPPLIERS = """
import torch
from torch import nn
from model import layers
import fukusen
from fukusen.models.preprocessing import CenterCrop

class Odd(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.net = layers()
        self.act = act

    def forward(self, images):
        return self.act(self.net, images)

def raising(error):
    def act(net, images):
        if len(images) == 3:
            raise error
        return net(images)
    return fukusen.wrap(Odd(act), CenterCrop(32), head="softmax")

def nan():
    return Odd(lambda net, images: net(images) * float("nan"))

def endless():
    net = layers()
    nn.init.constant_(net[-1].weight, float("inf"))
    return net

def leaves():
    raise SystemExit(3)

def nothing():
    return None

def forgets():
    return fukusen.wrap(layers(), input_size=(3, 32, 32), head="softmax")

def key():
    return raising(KeyError("no such thing"))

def memory():
    return raising(MemoryError("too many pictures"))

def ends_later():
    return raising(SystemExit("goodbye"))
"""
PICTURES = "jpg, jpeg, png, bmp, gif, webp, tif, tiff, ppm, pgm"
CALLS = {
    "model.py:build photos": "Missing option '--out'. See: fukusen audit --help",
    "model.py:build": "Missing argument 'IMAGES'. See: fukusen audit --help",
    "model.py:build photos more --out out": "Got unexpected extra argument(s) (more). See: fukusen audit --help",
    "model.py:build photos --out out --buget quick": (
        "There is no option --buget. Did you mean --budget? See: fukusen audit --help"
    ),
    "model.py:build photos --out out --batch two": (
        "Invalid value for '--batch': Input should be a valid integer, unable to parse string as an integer. "
        "See: fukusen audit --help"
    ),
    "model.py:build photos --out out --batch 0": "The 'batch' parameter of audit must be an int >= 1. Got 0 instead.",
    "model.py:build photos --out out --budget standart": (
        "There is no budget named 'standart'. Did you mean 'standard'? Known: deep, quick, standard."
    ),
    "model.py:build photos --out out --fail-on fial": (
        "There is no --fail-on named 'fial'. Did you mean 'fail'? Known: attention, fail, never."
    ),
    "model.py:build nowhere --out out": (
        "There is no file or folder 'nowhere'. Name a folder of pictures, a glob, a CSV or Parquet file with a column "
        "'path', or demo."
    ),
    "model.py:build empty --out out": (
        f"There is no picture in empty or its sub-folders. Name a folder that has some ({PICTURES})."
    ),
    "model.py:build photos/*.jpg --out out": (
        "The glob photos/*.jpg matches nothing. Put it in quotes, and check it with: ls photos/*.jpg"
    ),
    "model.py:build model.py --out out": (
        f"The file model.py is neither a picture ({PICTURES}) nor a CSV or Parquet file with a column 'path'. Name one "
        "of these, or a folder."
    ),
    "demoo photos --out out": (
        f"The model 'demoo' cannot be loaded. Did you mean 'demo'? Known forms: {', '.join(model_specs())}."
    ),
    "missing.py:build photos --out out": "There is no file 'missing.py' to load a model from.",
}
MODELS = {
    "model.py:biuld": (
        "The file 'model.py' has no function 'biuld'. It has: Bent, bent, breaks, build, ends, layers, plain."
    ),
    "model.py:ends": "The model's own code ended the program (exit code 0). Take that out.",
    "model.py:breaks": (
        "The network cannot be run on images of shape (3, 32, 32): 'no such thing'. Give the preprocessing that "
        "belongs to it (preprocess=...), or its input size (input_size=(channels, rows, columns))."
    ),
    "suppliers.py:nan": (
        "The network returns NaN or infinite numbers for ordinary images. Check its code and its preprocessing."
    ),
    "suppliers.py:endless": (
        "The network returns NaN or infinite numbers for ordinary images. Its weights are not finite: check the file."
    ),
    "suppliers.py:leaves": (
        "suppliers.py:leaves() raised SystemExit: 3. It is called without arguments and must return a network."
    ),
    "suppliers.py:nothing": (
        "suppliers.py:nothing() must return a torch.nn.Module or what fukusen.wrap returns. It returned None."
    ),
    "suppliers.py:forgets": ("This model was wrapped without preprocessing, so picture files cannot be given to it."),
}
OCCUPIED = (
    "fukusen: The folder photos/dog is not empty and holds no audit (it has '2.png'). Nothing was changed; choose "
    "another --out folder."
)
LATER = {"suppliers.py:ends_later": "The model's own code ended the program (exit code goodbye). Take that out."}


def _there(folder: Path) -> set[str]:
    """Every path below a folder, but for what Python keeps of the models' files."""
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture
def refused(call: Call, here: Path) -> Callable[..., list[str]]:
    """An audit that must end with exit code 2 and leave nothing: what it says, without what models say."""
    (here / "suppliers.py").write_text(SUPPLIERS)
    (here / "empty").mkdir()

    def refused(*words: str) -> list[str]:
        before = _there(here)
        done = call("audit", *words)
        assert (done.code, done.out) == (2, "")
        assert _there(here) == before
        return [line for line in done.err.splitlines() if line != GREETING.strip()]

    return refused


@pytest.mark.parametrize("words", CALLS)
def test_a_call_that_cannot_be_used_is_said_in_one_line(refused: Callable[..., list[str]], words: str) -> None:
    """The value, the rule and the remedy."""
    assert refused(*words.split()) == [f"fukusen: {CALLS[words]}"]


@pytest.mark.parametrize("kind", ["method", "score"])
def test_an_unknown_name_suggests_the_nearest(refused: Callable[..., list[str]], kind: str) -> None:
    """All that would be accepted are named, too."""
    given, near = {"method": ("grad_kam", "grad_cam"), "score": ("log_ods", "log_odds")}[kind]
    known = ", ".join(sorted(getattr(fukusen, f"list_{kind}s")()))
    said = f"fukusen: There is no {kind} named {given!r}. Did you mean {near!r}? Known: {known}."
    assert refused("model.py:build", "photos", "--out", "out", f"--{kind}", given) == [said]


@pytest.mark.parametrize("spec", MODELS)
def test_a_model_that_cannot_be_used_is_said_in_one_line(refused: Callable[..., list[str]], spec: str) -> None:
    """What its own code did, without a traceback."""
    assert refused(spec, "photos", "--out", "out", "--quiet") == [f"fukusen: {MODELS[spec]}"]


@pytest.mark.parametrize("spec", LATER)
def test_what_ends_an_audit_later_is_said_in_one_line(call: Call, here: Path, spec: str) -> None:
    """A model that raises while the pictures are explained: no verdict, and no traceback."""
    (here / "suppliers.py").write_text(SUPPLIERS)
    words = ("--method", "grad_cam", "--score", "logit", "--quiet", "--json")
    done = call("audit", spec, "photos", "--out", "out", *words)
    assert (done.code, done.out, done.err) == (2, "", f"{GREETING}fukusen: {LATER[spec]}\n")
    assert not (here / "out" / "audit.json").exists()


@pytest.mark.parametrize(("spec", "told"), [("key", ""), ("memory", "Memory ran out with 3 images at once")])
def test_what_fails_for_many_at_once_is_tried_with_fewer(call: Call, here: Path, spec: str, told: str) -> None:
    """Whether memory ran out or the model's own code stumbles: no image is lost, and memory's limit is said."""
    (here / "suppliers.py").write_text(SUPPLIERS)
    words = ("--method", "grad_cam", "--score", "logit", "--quiet", "--json")
    done = call("audit", f"suppliers.py:{spec}", "photos", "--out", "out", *words)
    assert done.code == 0, done.err
    verdict = json.loads(done.out.removeprefix(GREETING))
    assert (verdict["images"]["audited"], verdict["images"]["failed"]) == (3, 0)
    assert told in verdict["environment"]["passes"]


def test_a_folder_that_holds_something_else_is_refused(refused: Callable[..., list[str]]) -> None:
    """A folder of pictures, or a file, is no place for an audit."""
    assert refused("model.py:build", "photos/cat", "--out", "photos/dog", "--quiet") == [OCCUPIED]
    assert refused("model.py:build", "photos", "--out", "model.py", "--quiet") == [
        "fukusen: model.py is a file, not a folder. Choose another --out folder."
    ]


def test_pictures_none_of_which_can_be_read_are_refused(call: Call, here: Path) -> None:
    """The first of them is named with its reason, and there is no verdict."""
    (here / "bad").mkdir()
    (here / "bad" / "a.png").write_text("I am no picture")
    Image.new("RGB", (4, 4)).save(here / "bad" / "b.png")
    words = ("--method", "grad_cam", "--score", "logit", "--quiet", "--json")
    done = call("audit", "model.py:build", "bad", "--out", "out", *words)
    said = "Not one of 2 images could be audited. The first, a.png: it is not a picture in a format that can be read."
    assert (done.code, done.out, done.err) == (2, "", f"{GREETING}fukusen: {said}\n")
    assert not (here / "out" / "audit.json").exists()
