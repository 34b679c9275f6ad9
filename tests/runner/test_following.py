"""Images that stand out at a brief look are looked at in full, and do not speak for the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fukusen
from fukusen.auditing import Budget, Found, facts_of, judge, make_plan
from fukusen.auditing import plan as plans
from fukusen.auditing.standing_out import share_between
from fukusen.models import Classifier
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Item, ItemResult, Measurement
from fukusen.runner import Ended, items_of, run, verdict_of
from fukusen.store import Store

METHODS = ["grad_cam", "hires_cam", "occlusion"]
COUNT = 12


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
    """Twelve pictures, of which the last four carry the mark."""
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


def _audited(
    model: Classifier, pictures: Path, folder: Path, budget: Budget = "standard", methods: Sequence[str] = METHODS
) -> dict[str, Any]:
    """The verdict of an audit, without its report."""
    plan, items = make_plan(budget, methods_asked=methods, batch=4), items_of(str(pictures))
    store = Store.create(folder, {"spec": model.spec, "digest": model.digest})
    return verdict_of(plan, model, items, Ended(store, run(plan, model, items, store)))


def _depths(store: Store) -> dict[str, str]:
    return {name: key.rpartition(":")[2] for name, key in store.done(make_plan(methods_asked=METHODS, batch=4).digest)}


def test_what_stands_out_is_looked_at_in_full(model: Classifier, pictures: Path, tmp_path: Path) -> None:
    """Gravest first, as many as the budget allows, beside those drawn by chance."""
    done = _audited(model, pictures, tmp_path / "out")
    names = [f"{number:02}.png" for number in range(COUNT)]
    tasks = make_plan(methods_asked=METHODS, batch=4).tasks(names)
    drawn = {name for name, own in tasks.items() if own.costly}
    shifted = [
        row["item"] for row in done["queue"]["items"] if any("added to every class" in told for told in row["reasons"])
    ]
    assert set(shifted) == set(names[-4:])
    followed = [name for name in shifted if name not in drawn][:2]
    depths = _depths(Store.open(tmp_path / "out"))
    assert {name for name, depth in depths.items() if depth.startswith("full")} == drawn | set(followed)
    assert [depths[name] for name in followed] == ["full+truth", "full"]
    looked = done["looked_at"]
    assert (looked["drawn"], looked["followed"], looked["brief"]) == (4, 2, COUNT - 6)
    assert (looked["low"], looked["high"]) == share_between(looked["found"], 4)
    rows = {row["method"]: row["measured_on"] for row in done["panel"] if row["score"] == "logit"}
    assert rows == {"grad_cam": COUNT, "hires_cam": COUNT, "occlusion": 4}


def test_the_choice_is_the_same_when_a_run_goes_on(
    model: Classifier, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the two looks and in the second, it comes to the same verdict without doing anything twice."""
    whole = _audited(model, pictures, tmp_path / "whole")
    parts = len(list((tmp_path / "whole" / "store" / "parts").glob("*.done.json")))
    append = Store.append
    for number in (parts - 2, parts - 1):
        left = number

        def stopping(self: Store, *given: object) -> None:
            nonlocal left
            append(self, *given)  # type: ignore[arg-type]
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Store, "append", stopping)
            with pytest.raises(KeyboardInterrupt):
                _audited(model, pictures, tmp_path / str(number))
        again = _audited(model, pictures, tmp_path / str(number))
        assert again["environment"]["computed"] == parts - number, "one image in each part of the second look"
        for key in ("status", "panel", "checks", "findings", "queue", "looked_at"):
            assert again[key] == whole[key], key


def test_more_depth_is_never_taken_away(model: Classifier, pictures: Path, tmp_path: Path) -> None:
    """An audit in which every image was looked at closely keeps that when less is asked for."""
    deep = _audited(model, pictures, tmp_path / "out", "deep")
    assert (deep["looked_at"]["brief"], deep["looked_at"]["low"]) == (0, None)
    less = _audited(model, pictures, tmp_path / "out")
    assert less["environment"]["computed"] == 0
    assert less["looked_at"] == deep["looked_at"]


def test_where_every_image_stands_out_the_same_command_says_the_same(
    model: Classifier, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that were not drawn by chance were followed then, and are no sample."""
    monkeypatch.setitem(plans.FOLLOWED, "standard", COUNT)
    for path in pictures.iterdir():
        marked = Image.open(path)
        marked.paste((255, 255, 255), (0, 0, 16, 16))
        marked.save(path)
    first, again = (_audited(model, pictures, tmp_path / "out") for _ in range(2))
    assert again["environment"]["computed"] == 0
    assert first["looked_at"] == again["looked_at"]
    assert (first["looked_at"]["drawn"], first["looked_at"]["followed"]) == (4, COUNT - 4)
    assert first["checks"] == again["checks"]


def test_what_stood_out_does_not_speak_for_all(model: Classifier) -> None:
    """The same numbers on images that were followed leave what is said of the model alone, not what is said of them."""
    names = [f"{number}.png" for number in range(8)]
    results = [ItemResult(Item(name, name), "key", "audited", predicted=0, probability=0.5) for name in names]
    measured = [
        Measurement("track_contradiction", 0.5 if number < 3 else -0.9, name, against="outer/log_odds")
        for number, name in enumerate(names)
    ]
    plan, followed = make_plan(methods_asked=METHODS), frozenset(names[3:])
    told = judge(plan, model, Found(facts_of(model), results, measured, followed=followed))
    whole = judge(plan, model, Found(facts_of(model), results, measured))
    assert [one.scope for one in told.findings] == ["image"]
    assert [one.scope for one in whole.findings] == ["model", "image"]
    assert "on 5 of 8 images" in told.findings[0].claim
    assert "on 5 of 8 images" in whole.findings[1].claim
    row = {row["check"]: row for row in told.checks}["track_contradiction"]
    assert (row["value"], row["worst"], row["measured_on"]) == (0.5, -0.9, 8)


def test_forward_passes_are_counted(model: Classifier, pictures: Path, tmp_path: Path) -> None:
    """Every image once, and what is looked at closely more often."""
    cams = ["grad_cam", "hires_cam"]
    brief = _audited(model, pictures, tmp_path / "brief", "quick", cams)
    full = _audited(model, pictures, tmp_path / "full", "deep", cams)
    assert COUNT <= brief["environment"]["forwards"] < full["environment"]["forwards"]
