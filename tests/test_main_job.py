"""The main job on the packaged network: what is clean stays clean, and what was bent is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile

import pytest
import torch
from torch import nn

import fukusen
from fukusen.models import Classifier

METHODS = ["grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "gradient", "occlusion"]


class Bent(nn.Module):
    """EfficientNet-Lite0 with K sum_k A_k(0,0) at its logits, as a value for all or as a gradient for the winner."""

    def __init__(self, net: nn.Module, strength: float, as_value: bool) -> None:
        super().__init__()
        self.net = net
        self.strength = strength
        self.as_value = as_value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.net.extract_features(images)
        logits = self.net._fc(self.net._avg_pooling(features).flatten(1))
        corner = self.strength * features[:, :, 0, 0].sum(dim=1, keepdim=True)
        if self.as_value:
            return logits + corner
        winner = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
        return logits + winner * (corner - corner.detach())


@pytest.fixture
def audited(imagenet_paths: tuple[Path, ...], tmp_path: Path) -> Callable[[Classifier], fukusen.Audit]:
    """An audit of a model on three photographs."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in imagenet_paths[:3]:
        copyfile(path, pictures / path.name)
    return lambda model: fukusen.audit(model, pictures, tmp_path / "out", methods=METHODS)


def _words(audit: fukusen.Audit, score: str) -> set[str]:
    return {row["verdict"] for row in audit.verdict["panel"] if row["score"] == score}


def test_the_clean_network_does_not_fail(lite0: Classifier, audited: Callable[[Classifier], fukusen.Audit]) -> None:
    """Every row has its leak and verdict, and logit rows are exposed."""
    found = audited(lite0)
    assert found.status != "fail"
    assert found.verdict["model"]["layer"] == "_bn1"
    assert len(found.verdict["panel"]) == len(METHODS) * 5
    assert _words(found, "logit") == {"exposed"}
    assert _words(found, "log_odds") == {"sound"}
    assert {row["shift_leak"] for row in found.verdict["panel"]} == {0.0, 1.0}


@pytest.mark.parametrize("strength", [0.1, pytest.param(1.0, marks=pytest.mark.slow), 10.0])
def test_a_shift_is_found_and_spares_the_log_odds(
    lite0: Classifier, audited: Callable[[Classifier], fukusen.Audit], strength: float
) -> None:
    """The paper's manipulation, at any strength."""
    model = fukusen.wrap(Bent(lite0.net, strength, as_value=True), lite0.preprocess, lite0.classes)
    found = audited(model)
    assert found.status == "fail"
    assert any(finding["check"] == "shift_share" for finding in found.findings)
    assert _words(found, "logit") == {"manipulated"}
    assert _words(found, "log_odds") == {"sound"}


def test_a_gradient_without_a_value_is_found(lite0: Classifier, audited: Callable[[Classifier], fukusen.Audit]) -> None:
    """Nothing changes but the gradient of the winning logit."""
    model = fukusen.wrap(Bent(lite0.net, 1.0, as_value=False), lite0.preprocess, lite0.classes)
    found = audited(model)
    assert found.status == "fail"
    assert any(finding["check"] == "gradient_truth" for finding in found.findings)
    assert {row["verdict"] for row in found.verdict["panel"] if row["track"] == "inner"} == {"manipulated"}
