"""The red team from the command line: what it writes, that it goes on, and that its audits are the audits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fukusen
from fukusen.store import Store

Call = Callable[..., Any]
SCENARIOS = (
    "--scenario",
    "corner_shift(strength=50)",
    "--scenario",
    "row_shift(strength=0.01)",
    "--scenario",
    "hidden_unit",
)
SHIFTED = """
import fukusen

def build():
    return fukusen.attack(fukusen.load("model.py:build"), "corner_shift", strength=50)
"""


@pytest.fixture
def played(call: Call, here: Path) -> dict[str, Any]:
    """Three attacks on the small network: one that is noticed, one too faint for that, one that does not fit it."""
    done = call("attack", "model.py:build", "photos", "--out", "red", *SCENARIOS)
    assert done.code == 0, done.err
    assert str(Path("red") / "attack.html") in done.out
    assert "hidden_unit not played: The linear layers" in done.out
    result: dict[str, Any] = json.loads((here / "red" / "attack.json").read_text(encoding="utf-8"))
    return result


def test_noticed_is_what_the_audit_says_of_the_twin(played: dict[str, Any], here: Path) -> None:
    """Audited by itself at the same budget, the twin has the same status, findings and verdicts."""
    (here / "shifted.py").write_text(SHIFTED)
    shift = played["scenarios"][0]
    alone = fukusen.audit("shifted.py:build", "photos", "alone", budget="quick")
    assert (shift["noticed"], shift["audit"]["status"]) == (True, alone.status) == (True, "fail")
    claims = {finding["claim"] for finding in alone.findings if finding["scope"] == "model"}
    assert {finding["claim"] for finding in shift["audit"]["findings"]} <= claims
    verdicts = {(row["method"], row["score"]): row["verdict"] for row in alone.verdict["panel"]}
    assert {(row["method"], row["score"]): row["verdict"] for row in shift["rows"]} == verdicts


def test_what_moved_is_what_the_attack_moves(played: dict[str, Any]) -> None:
    """The logit's heatmaps, and no other score's; the promise is measured."""
    shift, faint, unplayed = played["scenarios"]
    assert shift["promise"]["kept"]
    assert shift["promise"]["images"] == played["images"] == 3
    redrawn = {(row["method"], row["score"]) for row in shift["rows"] if row["redrawn"]}
    assert ("hires_cam", "logit") in redrawn
    assert {score for _, score in redrawn} == {"logit"}
    others = [row["worst"] for row in shift["rows"] if row["score"] != "logit" and row["method"] != "occlusion"]
    assert min(others) > 0.9999
    assert faint["noticed"] is False
    assert not any(row["redrawn"] for row in faint["rows"])
    assert unplayed["undefined"].startswith("The linear layers at the network's end")


def test_an_attack_with_an_aim_says_how_far_it_came(call: Call, here: Path) -> None:
    """By its own measure, taken again here from the maps that were stored; others say nothing of the kind."""
    wanted = ("--scenario", "location(space='joint', steps=10, lr=0.01)", "--scenario", "row_shift")
    done = call("attack", "model.py:build", "photos", "--out", "red", *wanted)
    assert done.code == 0, done.err
    location, other = json.loads((here / "red" / "attack.json").read_text(encoding="utf-8"))["scenarios"]
    assert other["aim"] is None
    aim = location["aim"]
    assert (aim["method"], aim["enough"]) == ("grad_cam", 0.8)
    assert [one["score"] for one in aim["scores"]] == ["logit", "log_odds"]
    for one in aim["scores"]:
        for when, folder in (("before", "model"), ("after", location["folder"])):
            assert one[when] == pytest.approx(_on_the_frame(here, folder, one["score"]), abs=1e-6)
    ways = [(one["after"] - one["before"]) / (0.8 - one["before"]) for one in aim["scores"]]
    assert 0 < min(ways) < max(ways) < 1
    assert aim["way"] == pytest.approx(min(ways))
    page = (here / "red" / "attack.html").read_text(encoding="utf-8")
    assert f"{aim['way']:.0%} of the way, by its own measure of Grad-CAM heatmaps" in page


def _on_the_frame(here: Path, folder: str, score: str) -> float:
    """The median share of Grad-CAM's positive part on the outermost cells, a seventh of the side wide."""
    audit = json.loads((here / "red" / folder / "audit.json").read_text(encoding="utf-8"))
    store = Store.open(here / "red" / folder)
    shares = []
    for item in sorted(path.relative_to(here / "photos").as_posix() for path in (here / "photos").rglob("*.png")):
        heat = np.maximum(store.maps(audit["plan"]["digest"], item)["grad_cam", score], 0)
        edge = max(1, len(heat) // 7)
        inside = heat[edge:-edge, edge:-edge].sum()
        shares.append(1 - inside / heat.sum() if heat.sum() > 0 else 0.0)
    return float(np.median(shares))


def test_the_same_command_again_plays_nothing_again(played: dict[str, Any], call: Call, here: Path) -> None:
    """And says the same; another scenario is added to it."""
    before = {path: path.stat().st_mtime_ns for path in (here / "red" / "twins").rglob("*.parquet")}
    assert before
    done = call("attack", "model.py:build", "photos", "--out", "red", *SCENARIOS, "--scenario", "row_shift", "--json")
    assert done.code == 0, done.err
    again = json.loads(done.out)
    assert again["scenarios"][:3] == played["scenarios"]
    assert again["scenarios"][3]["attack"] == "row_shift"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_no_manipulated_model_is_written(played: dict[str, Any], here: Path) -> None:
    """Nothing that holds weights."""
    assert played["scenarios"]
    endings = {path.suffix for path in (here / "red").rglob("*") if path.is_file()}
    assert endings <= {".json", ".html", ".csv", ".parquet", ".zip", ".zarr", ".duckdb", ".txt", ".md"}


def test_an_exported_copy_names_its_manipulation(call: Call, here: Path) -> None:
    """In the file, on the page, and to whoever loads it."""
    done = call("attack", "model.py:build", "photos", "--out", "red", "--scenario", "row_shift", "--export")
    assert done.code == 0, done.err
    weights = here / "red/twins/row_shift/manipulated.safetensors"
    assert str(weights.relative_to(here)) in done.out
    moved = fukusen.load("model.py:plain", weights=weights)
    assert moved.notes[-1].startswith("The file says of itself: MANIPULATED by fukusen, with row_shift")
    assert "Manipulated copies were written because" in (here / "red" / "attack.html").read_text(encoding="utf-8")


def test_the_page_shows_before_and_after(played: dict[str, Any], here: Path) -> None:
    """In words and pictures, without a script."""
    page = (here / "red" / "attack.html").read_text(encoding="utf-8")
    assert "3 attacks" not in page
    assert "2 attacks were played on copies of this model: 1 redrew heatmaps" in page
    assert page.count("data:image/webp") >= 15
    assert "<script" not in page
    assert played["scenarios"][2]["undefined"].replace("'", "&#39;") in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scenario", "corner_shfit"), "There is no attack named 'corner_shfit'. Did you mean 'corner_shift'?"),
        (("--scenario", "corner_shift(strength=0)"), "The 'strength' parameter of CornerShift must be"),
        (
            ("--scenario", "corner_shift(strength"),
            "'corner_shift(strength' is neither a name nor a name with parameters",
        ),
        (("--sample", "0"), "The 'sample' parameter of attack must be an int >= 1. Got 0 instead."),
        (("--budget", "huge"), "There is no budget named 'huge'."),
    ],
)
def test_bad_calls_are_said_and_write_nothing(call: Call, here: Path, words: tuple[str, ...], said: str) -> None:
    """In one sentence each."""
    done = call("attack", "model.py:build", "photos", "--out", "red", *words)
    assert done.code == 2
    assert said in done.err
    assert not (here / "red").exists()


def test_a_folder_with_something_else_is_left_alone(call: Call, here: Path) -> None:
    """Nothing in it is written over."""
    (here / "red").mkdir()
    (here / "red" / "thesis.tex").write_text("mine")
    done = call("attack", "model.py:build", "photos", "--out", "red", "--scenario", "corner_shift")
    assert done.code == 2
    assert "holds 'thesis.tex', which is no result of an attack" in done.err
    assert [path.name for path in (here / "red").iterdir()] == ["thesis.tex"]


def test_a_picture_that_cannot_be_used_is_left_out_and_said(call: Call, here: Path) -> None:
    """The others are attacked; where none is left, nothing is written."""
    (here / "photos" / "cat" / "broken.png").write_bytes(b"no picture")
    done = call("attack", "model.py:build", "photos", "--out", "red", "--scenario", "row_shift", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["images"] == 3
    (failure,) = result["failures"]
    assert failure["item"] == "cat/broken.png"
    assert "cat/broken.png was left out" in (here / "red" / "attack.html").read_text(encoding="utf-8")
    (here / "alone").mkdir()
    (here / "alone" / "broken.png").write_bytes(b"no picture")
    none = call("attack", "model.py:build", "alone", "--out", "other", "--scenario", "row_shift")
    assert none.code == 2
    assert "None of the 1 images can be used. broken.png: " in none.err
    assert not (here / "other").exists()
