"""The main job from the command line: verdict, exit code, streams, and going on where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from fukusen.cli.audit import exit_code
from fukusen.store import audit_schema

Call = Callable[..., Any]
PANEL = ("--method", "grad_cam", "--method", "occlusion", "--score", "logit", "--score", "log_odds")
GREETING = "a supplier's greeting\n"
LOUD = """
from model import layers
import fukusen
from fukusen.models.preprocessing import CenterCrop

class Loud(type(layers())):
    def forward(self, images):
        print("the network speaks")
        return super().forward(images)

class Chatty(CenterCrop):
    def __call__(self, picture):
        print("the preprocessing speaks")
        return super().__call__(picture)

def build():
    print("the factory speaks")
    return fukusen.wrap(Loud(*layers()).eval(), Chatty(32), head="softmax")
"""
STOPPED = """
from pathlib import Path
from model import layers
import fukusen
from fukusen.models.preprocessing import CenterCrop

class Stopped(type(layers())):
    def forward(self, images):
        if Path("stop").exists() and list(Path("out/store/parts").glob("*.done.json")):
            raise KeyboardInterrupt
        return super().forward(images)

def build():
    return fukusen.wrap(Stopped(*layers()).eval(), CenterCrop(32), head="softmax")
"""


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("fail_on", "codes"), [("attention", [0, 1, 1]), ("fail", [0, 0, 1]), ("never", [0, 0, 0])])
def test_the_status_and_the_threshold_make_the_exit_code(fail_on: str, codes: list[int]) -> None:
    """0 where the status is better than the threshold."""
    assert [exit_code(status, fail_on) for status in ("pass", "attention", "fail")] == codes


def _but_for_the_cost(out: str) -> list[str]:
    return [line for line in out.splitlines() if not line.startswith("cost ")]


def test_a_model_that_passes_is_summed_up_in_lines(call: Call, here: Path) -> None:
    """Results on stdout, what was understood on stderr, and exit code 0 even where attention would fail."""
    done = call("audit", "model.py:build", "photos", "--out", "out", *PANEL, "--fail-on", "attention")
    assert done.code == 0
    first, *rest = re.sub(
        r"[\d.,]+ forward passes an image \(\d+", "N forward passes an image (N", done.out
    ).splitlines()
    assert first.startswith("PASS      ")
    beside = "Pictures with hidden parts get no special treatment, Heatmaps depend on the image"
    assert rest == [
        "heatmaps  4 kinds (method and score): 2 sound, 2 exposed, 0 manipulated, 0 unreliable",
        "images    3 of 3 audited",
        "cost      N forward passes an image (N for 3)",
        "queue     empty: no image has an open finding",
        f"checks    15 within bounds, 2 not applicable ({beside})",
        "findings  none",
        "report    out/report.html",
    ]
    said = done.err.splitlines()
    keys = ["a suppl", "model ", "head ", "layer ", "input ", "classes ", "images ", "plan ", "out "]
    assert [line.startswith(key) for line, key in zip(said, keys, strict=False)] == [True] * len(keys)
    assert said[len(keys)].startswith("explaining: 3 of 3 images")
    assert len(said) == len(keys) + 1
    left = json.loads((here / "out" / "audit.json").read_text())
    jsonschema.validate(left, audit_schema())
    assert left["command"] == f"fukusen audit model.py:build photos --out out {' '.join(PANEL)} --fail-on attention"


def test_attention_is_good_enough_unless_said(call: Call) -> None:
    """Checks that could not run make attention; only --fail-on attention makes that exit code 1."""
    words = ("audit", "model.py:build", "photos", "--out", "out", "--method", "grad_cam", "--score", "logit")
    done = call(*words)
    assert (done.code, done.out.split()[0]) == (0, "ATTENTION")
    again = call(*words, "--fail-on", "attention")
    assert (again.code, _but_for_the_cost(again.out)) == (1, _but_for_the_cost(done.out))


def test_a_bent_model_fails(call: Call) -> None:
    """A number added to every logit: exit code 1, every picture in the queue, and the grave claim on stdout."""
    words = ("audit", "model.py:bent", "photos", "--out", "out", "--method", "gradient", *PANEL)
    done = call(*words, "--json")
    assert (done.code, done.json["status"]) == (1, "fail")
    verdicts = {(row["method"], row["score"]): row["verdict"] for row in done.json["panel"]}
    assert verdicts["gradient", "logit"] == "manipulated"
    assert verdicts["gradient", "log_odds"] == "sound"
    never = call(*words, "--fail-on", "never")
    assert never.code == 0
    assert never.out.startswith("FAIL      ")
    claims = [finding["claim"] for finding in done.json["findings"] if finding["severity"] == "high"]
    assert f"\n  high    {claims[0]}\n" in never.out
    assert (
        "\nqueue     3 to look at, gravest first: cat/0.png (high), cat/1.png (high), dog/2.png (high)\n" in never.out
    )


def test_json_is_audit_json_and_nothing_else(call: Call, here: Path) -> None:
    """The verdict alone on stdout; whatever the model's own code prints, anywhere, is on stderr."""
    (here / "loud.py").write_text(LOUD)
    done = call("audit", "loud.py:build", "photos", "--out", "out", *PANEL, "--json")
    assert done.code == 0
    assert done.out == (here / "out" / "audit.json").read_text()
    for speaker in ("factory", "network", "preprocessing"):
        assert f"\nthe {speaker} speaks\n" in done.err


def test_quiet_leaves_only_what_the_model_says(call: Call) -> None:
    """No message but the model's own, while the results stay."""
    words = ("audit", "model.py:build", "photos", "--out", "out", *PANEL, "--quiet")
    done = call(*words)
    assert (done.code, done.err) == (0, GREETING)
    assert done.out.startswith("PASS      ")


def test_the_same_command_again_computes_nothing(call: Call, here: Path) -> None:
    """It says that it goes on, leaves the store as it is, and comes to the same end."""
    words = ("audit", "model.py:build", "photos", "--out", "out", *PANEL)
    first = call(*words)
    store = _files(here / "out" / "store")
    again = call(*words)
    assert (again.code, _but_for_the_cost(again.out)) == (first.code, _but_for_the_cost(first.out))
    assert "\ncost      none in this run: every image had been looked at before\n" in again.out
    assert "\nout       out, going on with the audit that is there\n" in again.err
    assert "\nout       out\n" in first.err
    environment = json.loads((here / "out" / "audit.json").read_text())["environment"]
    assert (environment["computed"], environment["kept"]) == (0, 3)
    assert _files(here / "out" / "store") == store


def test_stopped_it_goes_on_from_there(call: Call, here: Path) -> None:
    """Ctrl-C after the first picture: one message, exit code 130, and that picture is not computed again."""
    (here / "stopped.py").write_text(STOPPED)
    (here / "stop").touch()
    words = ("audit", "stopped.py:build", "photos", "--out", "out", *PANEL, "--batch", "1", "--quiet")
    done = call(*words)
    said = f"{GREETING}fukusen: Stopped. The same command again goes on from there.\n"
    assert (done.code, done.out, done.err) == (130, "", said)
    assert not (here / "out" / "audit.json").exists()
    (here / "stop").unlink()
    again = call(*words, "--json")
    assert again.code == 0
    assert (again.json["environment"]["computed"], again.json["environment"]["kept"]) == (2, 1)


def test_a_folder_with_another_models_audit_is_refused(call: Call, here: Path) -> None:
    """Exit code 2, the two models named by their digests, and not a byte changed."""
    call("audit", "model.py:build", "photos", "--out", "out", *PANEL)
    own = json.loads((here / "out" / "audit.json").read_text())["model"]["digest"]
    call("audit", "model.py:bent", "photos", "--out", "other", *PANEL)
    other = json.loads((here / "other" / "audit.json").read_text())["model"]["digest"]
    before = _files(here)
    done = call("audit", "model.py:bent", "photos", "--out", "out", *PANEL, "--quiet", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"{GREETING}fukusen: The folder out holds an audit of another model: model.py:build with digest {own}, not "
        f"model.py:bent with digest {other}. Nothing was changed; choose another --out folder.\n"
    )
    assert _files(here) == before


def _bad_beside_good(folder: Path) -> None:
    """One good picture, two odd ones that can be read, and four that cannot."""
    folder.mkdir()
    dots = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(dots).save(folder / "good.png")
    Image.new("CMYK", (64, 64), (10, 100, 50, 0)).save(folder / "cmyk.jpg")
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(folder / "deep.png")
    Image.fromarray(dots).save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("I am no picture")
    (folder / "nothing.png").touch()
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")


def test_bad_pictures_fail_one_by_one(call: Call, here: Path) -> None:
    """Each that cannot be read fails with its reason, the others are audited, and people have to look."""
    _bad_beside_good(here / "mixed")
    words = ("audit", "model.py:build", "mixed", "--out", "out", *PANEL, "--quiet")
    done = call(*words, "--json")
    assert (done.code, done.json["status"]) == (0, "attention")
    images = done.json["images"]
    assert (images["asked"], images["audited"], images["failed"]) == (7, 3, 4)
    reasons = {one["item"]: one["reason"] for one in images["failures"]}
    cut = reasons.pop("cut.jpg")
    assert cut.startswith("it cannot be read (")
    assert reasons == {
        "nothing.png": "the file is empty",
        "pixel.png": "it is 1 x 1 pixels; at least 8 a side are needed",
        "text.png": "it is not a picture in a format that can be read",
    }
    line = (
        f"images    3 of 7 audited, 4 failed: cut.jpg ({cut}), nothing.png (the file is empty), pixel.png (it is 1 x 1 "
        "pixels; at least 8 a side are needed), and 1 more"
    )
    assert line in call(*words).out.splitlines()


def test_a_reference_is_taken_and_repeated(call: Call, here: Path) -> None:
    """And one that cannot be is said in one sentence, before anything is written."""
    assert call("audit", "model.py:build", "photos", "--out", "trusted", "--budget", "quick", *PANEL).code == 0
    words = ("audit", "model.py:build", "photos", "--out", "out", "--budget", "quick", *PANEL, "--reference")
    done = call(*words, "trusted", "--json")
    assert done.code == 0, done.err
    verdict = json.loads(done.out)
    jsonschema.validate(verdict, audit_schema())
    assert verdict["reference"]["folder"] == "trusted"
    assert "--reference trusted" in verdict["command"]
    missing = call("audit", "model.py:build", "photos", "--out", "never", "--reference", "nowhere")
    assert missing.code == 2
    assert missing.err.splitlines()[-1].startswith("fukusen: There is no folder nowhere.")
    assert not (here / "never").exists()
