"""``fukusen repair`` as a user calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., Any]


def test_a_shift_is_taken_away_and_the_file_is_usable(call: Call, here: Path) -> None:
    done = call("repair", "model.py:bent", "--images", "photos", "--out", "fixed.pt2")
    assert done.code == 0
    lines = done.out.splitlines()
    keys = ["repaired", "promise", "leak", "leak", "not cured", "", "", "", "file", "use it"]
    assert [line[:10].strip() for line in lines] == keys
    assert "the mean of all logits is taken away behind the network" in lines[0]
    assert "kept on 3 pictures of photos: 0 predictions change" in lines[1]
    assert done.err.splitlines()[-1].startswith("comparing probabilities: 3 of 3 images")
    explained = call("explain", "fixed.pt2", "photos/cat/0.png", "--trust", "--method", "gradient", "--json")
    assert explained.code == 0


def test_json_holds_everything(call: Call, here: Path) -> None:
    found = call("repair", "model.py:plain", "--out", "fixed.safetensors", "--json").json
    assert (found["way"], found["layer"], found["images"]) == ("weights", "7", None)
    assert found["promise"]["kept"]
    assert found["promise"]["images"] == 4
    assert found["leak"]["before"][0]["worst"] > 1e-3 > found["leak"]["after"][0]["worst"]
    assert (here / "fixed.safetensors").is_file()
    assert len(found["not_cured"]) == 4
    words = ("explain", "model.py:plain", "photos/cat/0.png", "--method", "gradient", "--json")
    assert call(*words, "--weights", "fixed.safetensors").code == 0


def test_nothing_is_written_over(call: Call, here: Path) -> None:
    (here / "mine.pt2").write_text("mine")
    done = call("repair", "model.py:build", "--out", "mine.pt2")
    assert (done.code, done.out) == (2, "")
    assert done.err == "fukusen: There is a mine.pt2 already, and nothing is written over. Name another file.\n"
    assert (here / "mine.pt2").read_text() == "mine"
    assert call("repair", "model.py:build", "--out", "mine.pt2", "--force").code == 0


def test_what_cannot_be_repaired_is_said_in_one_line(call: Call, here: Path) -> None:
    done = call("repair", "model.py:build", "--head", "sigmoid", "--out", "fixed.pt2")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == (
        "fukusen: There is nothing to repair. A number added to every output of a model of independent labels changes "
        "its predictions, so nothing can be hidden in such a shift."
    )
    assert (
        call("repair", "model.py:bent", "--out", "fixed.safetensors")
        .err.splitlines()[-1]
        .startswith("fukusen: Weights alone cannot hold this repair")
    )
    assert sorted(path.name for path in here.iterdir()) == ["model.py", "photos"]
