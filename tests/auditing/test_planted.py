"""What is known to be there, planted in a real network and found by a real audit: its sentences say what and where."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fukusen.arrays import Batch
from fukusen.attacks import ConstantMap, DrawnTarget, StopGradient
from fukusen.auditing import Found, examine, facts_of, judge, make_plan
from fukusen.auditing.plan import Tasks
from fukusen.models import Classifier, wrap
from fukusen.records import Finding, Item, ItemResult

METHODS = ("grad_cam", "hires_cam", "layer_cam", "gradient", "occlusion")
CORNERS = {
    "upper left": (slice(0, 2), slice(0, 2)),
    "upper right": (slice(0, 2), slice(-2, None)),
    "lower left": (slice(-2, None), slice(0, 2)),
    "lower right": (slice(-2, None), slice(-2, None)),
}
OF_MAPS = {"placement", "dominance", "input_dependence", "class_specificity", "randomisation", "stability"}
Digits = tuple[Classifier, torch.Tensor]
Told = dict[tuple[str, str, str], str]


class Planted(nn.Module):
    """A mask times what the digits' network sees in each cell, on every logit: no probability moves, its maps do."""

    def __init__(self, net: nn.Module, mask: torch.Tensor | None) -> None:
        super().__init__()
        assert isinstance(net, nn.Sequential)
        self.net, self.mask = net, mask

    def _masks(self, images: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """The mask; without one, a single cell that is drawn anew for every picture."""
        if self.mask is not None:
            return self.mask.expand(len(cells), 1, -1, -1)
        masks = torch.zeros_like(cells[:, :1])
        for number, image in enumerate(images.detach()):
            chance = np.random.default_rng(zlib.crc32(image.numpy().tobytes()))
            masks[number, 0, chance.integers(cells.shape[2]), chance.integers(cells.shape[3])] = 1
        return masks

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = self.net[:6](images)
        logits: torch.Tensor = self.net[6:](cells)
        drawn = (cells * self._masks(images, cells)).sum(dim=(1, 2, 3))
        return logits + 1e3 * (drawn - drawn.detach())[:, None]


def _planted(model: Classifier, mask: torch.Tensor | None) -> Classifier:
    return wrap(Planted(model.net, mask).eval(), input_size=(1, 20, 20), head="softmax", layer="net.5")


def _audited(model: Classifier, images: torch.Tensor) -> list[Finding]:
    """All model findings of an audit that heatmaps themselves give; each stands in its row of the panel, too."""
    plan = make_plan(methods_asked=METHODS, scores_asked=("logit", "log_odds"))
    plan = replace(plan, checks=tuple(spec for spec in plan.checks if spec.name in OF_MAPS))
    items = tuple(f"{number}.png" for number in range(len(images)))
    found = examine(model, Batch(items, images), Tasks(plan, costly=True, probed=True))
    results = [ItemResult(Item(name, name), "key", "audited", predicted=0, predicted_name="0") for name in items]
    verdict = judge(plan, model, Found(facts_of(model), results, found.measurements))
    told = [one for one in verdict.findings if one.check in OF_MAPS]
    rows = {(row["method"], row["score"]): row for row in verdict.panel}
    for one in told:
        assert one.evidence["row"] in rows[one.method, one.score]["reasons"]
        assert f"The {one.method} " in one.claim
        assert f"of the {str(one.score).replace('_', '-')} " in one.claim
    return told


def _told(found: list[Finding]) -> Told:
    told = {(one.check, str(one.method), str(one.score)): one.claim for one in found}
    assert len(told) == len(found)
    return told


def _places(told: Told) -> dict[tuple[str, str], str]:
    """Where the sentences about a place say that each row's heatmaps lie."""
    named = [*(f"in the {corner} corner" for corner in CORNERS), "along the edges"]
    found = {}
    for (check, method, score), claim in told.items():
        if check == "placement":
            (found[method, score],) = [place for place in named if place in claim]
    return found


@pytest.mark.parametrize("corner", CORNERS)
def test_each_corner_is_named_right(corner: str, digits: Digits) -> None:
    """In the logit's maps that multiply cell by cell, and nowhere else; and there it stays when the picture flips."""
    model, images = digits
    mask = torch.zeros(10, 10)
    mask[CORNERS[corner]] = 1
    told = _told(_audited(_planted(model, mask), images))
    where = f"in the {corner} corner"
    places = _places(told)
    assert places["hires_cam", "logit"] == places["layer_cam", "logit"] == where
    assert set(places.values()) == {where}
    assert {score for _, _, score in told} == {"logit"}
    assert "do not follow the picture when it is flipped left to right" in told["stability", "layer_cam", "logit"]


def _drawn(model: Classifier, images: torch.Tensor, mask: torch.Tensor, file: Path) -> Told:
    """What is said of the network in whose Grad-CAM a mask (7, 7) is drawn."""
    shades = (mask.repeat_interleave(10, 0).repeat_interleave(10, 1) * 255).to(torch.uint8)
    Image.fromarray(shades.numpy()).save(file)
    return _told(_audited(DrawnTarget(picture=str(file)).twin(model, images), images))


@pytest.mark.parametrize("corner", CORNERS)
def test_each_corner_that_is_drawn_in_grad_cam_is_named_right(corner: str, wide: Digits, tmp_path: Path) -> None:
    mask = torch.zeros(7, 7)
    mask[CORNERS[corner]] = 1
    told = _drawn(*wide, mask, tmp_path / "corner.png")
    where = f"in the {corner} corner"
    assert _places(told) == {("grad_cam", "logit"): where, ("hires_cam", "logit"): where}
    assert {score for _, _, score in told} == {"logit"}


def test_edges_are_named(digits: Digits, wide: Digits, tmp_path: Path) -> None:
    """Planted cell by cell, and drawn in Grad-CAM."""
    ring = torch.ones(10, 10)
    ring[1:-1, 1:-1] = 0
    edges = "along the edges"
    planted = _places(_told(_audited(_planted(digits[0], ring), digits[1])))
    assert planted == {("hires_cam", "logit"): edges, ("layer_cam", "logit"): edges}
    drawn = _places(_drawn(*wide, ring[:7, :7].maximum(ring[-7:, -7:]), tmp_path / "edges.png"))
    assert drawn == {("grad_cam", "logit"): edges, ("hires_cam", "logit"): edges}


def test_a_flat_map_is_named(digits: Digits) -> None:
    """It lies nowhere, and is the same on all images."""
    model, images = digits
    told = _told(_audited(ConstantMap().twin(model, images), images))
    for method in ("grad_cam", "hires_cam"):
        assert "are nearly the same in every cell on " in told["dominance", method, "logit"]
        assert "are nearly the same on every image" in told["input_dependence", method, "logit"]
    assert _places(told) == {}
    assert {score for _, _, score in told} == {"logit"}


def test_a_map_of_no_class_is_named(digits: Digits) -> None:
    """The same sum of all channels on every logit; it lies in no one place and goes with the picture."""
    model, images = digits
    told = _told(_audited(_planted(model, torch.ones(10, 10)), images))
    rows = {("grad_cam", "logit"), ("hires_cam", "logit")}
    assert set(told) == {(check, *row) for check in ("class_specificity", "randomisation") for row in rows}
    for row in rows:
        assert "are nearly the same whichever class is explained" in told["class_specificity", *row]
        assert "stay as they are when the last linear layer is filled" in told["randomisation", *row]


def test_a_gradient_that_lies_in_both_scores_is_named_in_both(digits: Digits) -> None:
    """Where it is in the logit and in the log-odds; no score is left to hold its stability against."""
    model, images = digits
    told = _told(_audited(StopGradient(1e3).twin(model, images), images))
    rows = [(method, score) for method in ("hires_cam", "layer_cam", "gradient") for score in ("logit", "log_odds")]
    assert _places(told) == dict.fromkeys(rows, "in the upper left corner")
    assert {check for check, _, _ in told} == {"placement"}


def test_a_map_of_chance_is_named(digits: Digits) -> None:
    """It lies in no one place, and changes with whatever changes in the picture."""
    model, images = digits
    told = _told(_audited(_planted(model, None), images))
    assert _places(told) == {}
    for method in ("layer_cam", "gradient"):
        assert "logit change when " in told["stability", method, "logit"]
    assert {score for _, _, score in told} == {"logit"}


def test_where_nothing_is_planted_nothing_is_said(digits: Digits, wide: Digits) -> None:
    assert _audited(*digits) == []
    assert _audited(*wide) == []
    assert _audited(_planted(digits[0], torch.zeros(10, 10)), digits[1]) == []
