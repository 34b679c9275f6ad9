"""Images that stand out at a brief look are looked at in full, and do not speak for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fukusen
from fukusen.auditing import judge, make_plan
from fukusen.auditing import plan as plans
from fukusen.auditing.standing_out import share_between
from fukusen.models import Classifier
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Measurement
from fukusen.runner import local
from fukusen.store import Store

METHODS = ["grad_cam", "hires_cam", "gradient", "occlusion"]
COUNT = 16


class _Marked(nn.Module):
    """Adds a number to every logit where the upper left corner of a picture is white."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, images: Tensor) -> Tensor:
        cells = self.inside(images)
        marked = (images[:, :, :4, :4].amin(dim=(1, 2, 3)) > 1).float()
        return self.head(cells) + 300 * (marked * cells[:, :, -3:, -3:].mean(dim=(1, 2, 3)))[:, None]


@pytest.fixture
def model() -> Classifier:
    return fukusen.wrap(_Marked().eval(), CenterCrop(24), head="softmax")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixteen pictures, of which the last four carry the mark."""
    folder = tmp_path / "in"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(COUNT):
        dots = chance.integers(0, 200, (48, 48, 3), dtype=np.uint8)
        if number >= COUNT - 4:
            dots[:16, :16] = 255
        Image.fromarray(dots).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(autouse=True)
def _few_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images by chance, two of them probed; two that stand out, one of them probed."""
    for known, count in (
        (plans.SAMPLES, 4),
        (plans.TRUTH_SAMPLES, 2),
        (plans.FOLLOWED, 2),
        (plans.FOLLOWED_BY_TRUTH, 1),
    ):
        monkeypatch.setitem(known, "standard", count)


def _depths(store: Store) -> dict[str, str]:
    return {name: key.rpartition(":")[2] for name, key in store.done(make_plan(methods_asked=METHODS).digest)}


def test_what_stands_out_is_looked_at_in_full(model: Classifier, pictures: Path, tmp_path: Path) -> None:
    """Gravest first, as many as the budget allows, beside those drawn by chance."""
    done = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS)
    names = [f"{number:02}.png" for number in range(COUNT)]
    tasks = make_plan(methods_asked=METHODS).tasks(names)
    drawn = {name for name, own in tasks.items() if own.costly}
    shifted = [row["item"] for row in done.queue if any("added to every class" in told for told in row["reasons"])]
    assert set(shifted) == set(names[-4:])
    followed = [name for name in shifted if name not in drawn][:2]
    depths = _depths(Store.open(tmp_path / "out"))
    assert {name for name, depth in depths.items() if depth.startswith("full")} == drawn | set(followed)
    assert [depths[name] for name in followed] == ["full+truth", "full"]
    looked = done.verdict["looked_at"]
    assert (looked["drawn"], looked["followed"], looked["brief"]) == (4, 2, COUNT - 6)
    assert (looked["low"], looked["high"]) == share_between(looked["found"], 4)
    rows = {row["method"]: row["measured_on"] for row in done.verdict["panel"] if row["score"] == "logit"}
    assert rows == {"grad_cam": COUNT, "hires_cam": COUNT, "gradient": COUNT, "occlusion": 4}


def test_the_choice_is_the_same_when_a_run_goes_on(
    model: Classifier, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the two looks or in the second, it comes to the same verdict without doing anything twice."""
    whole = fukusen.audit(model, pictures, tmp_path / "whole", methods=METHODS, batch=1)
    append, left = Store.append, COUNT + 1

    def stopping(self: Store, *given: object) -> None:
        nonlocal left
        append(self, *given)  # type: ignore[arg-type]
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "append", stopping)
        with pytest.raises(KeyboardInterrupt):
            fukusen.audit(model, pictures, tmp_path / "halves", methods=METHODS, batch=1)
    halves = fukusen.audit(model, pictures, tmp_path / "halves", methods=METHODS, batch=1)
    assert halves.verdict["environment"]["computed"] == 1
    again = fukusen.audit(model, pictures, tmp_path / "halves", methods=METHODS, batch=1)
    assert again.verdict["environment"]["computed"] == again.verdict["environment"]["kept"] - COUNT == 0
    for key in ("status", "panel", "checks", "findings", "queue", "looked_at"):
        assert again.verdict[key] == halves.verdict[key] == whole.verdict[key], key


def test_more_depth_is_never_taken_away(model: Classifier, pictures: Path, tmp_path: Path) -> None:
    """An audit in which every image was looked at closely keeps that when less is asked for."""
    deep = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS, budget="deep")
    assert deep.verdict["looked_at"]["brief"] == 0
    assert deep.verdict["looked_at"]["low"] is None
    less = fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS)
    assert less.verdict["environment"]["computed"] == 0
    assert less.verdict["looked_at"] == deep.verdict["looked_at"]


def test_what_stood_out_does_not_speak_for_all(model: Classifier) -> None:
    """The same numbers on images that were followed leave what is said of the model alone, not what is said of them."""
    from fukusen.auditing import Found, facts_of
    from fukusen.records import Item, ItemResult

    names = [f"{number}.png" for number in range(8)]
    results = [ItemResult(Item(name, name), "key", "audited", predicted=0, probability=0.5) for name in names]
    measured = [
        Measurement("track_contradiction", 0.5 if number < 3 else -0.9, name, against="outer/log_odds")
        for number, name in enumerate(names)
    ]
    plan, followed = make_plan(methods_asked=METHODS), frozenset(names[3:])
    told = judge(plan, model, Found(facts_of(model), results, measured, followed=followed))
    whole = judge(plan, model, Found(facts_of(model), results, measured))
    assert [one.scope for one in told.findings] == ["image"] * 5
    assert [one.scope for one in whole.findings] == ["model"] + ["image"] * 5
    row = {row["check"]: row for row in told.checks}["track_contradiction"]
    assert (row["value"], row["worst"], row["measured_on"]) == (0.5, -0.9, 8)


def test_forward_passes_are_counted(model: Classifier, pictures: Path, tmp_path: Path) -> None:
    """Every image once, and what is looked at closely more often."""
    brief = fukusen.audit(model, pictures, tmp_path / "brief", methods=["grad_cam", "hires_cam"], budget="quick")
    full = fukusen.audit(model, pictures, tmp_path / "full", methods=METHODS, budget="deep")
    spent = [done.verdict["environment"]["forwards"] for done in (brief, full)]
    assert COUNT <= spent[0] < spent[1]
    assert local.Ran(1, 0, 0.0).forwards == 0
