"""Attacks that need no training on the packaged network and real photographs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fukusen
from fukusen.attacks import attacks, verified
from fukusen.errors import ModelError
from fukusen.models import Classifier
from fukusen.records import Spec

pytestmark = pytest.mark.slow

SPARED = ("log_odds", "probability")


@pytest.fixture(scope="module")
def photos(lite0: Classifier, imagenet_paths: tuple[Any, ...]) -> torch.Tensor:
    """Eight of the demo's photographs, as the network sees them."""
    from PIL import Image

    return torch.stack([lite0.preprocess(Image.open(path).convert("RGB")) for path in imagenet_paths[::3]])


@pytest.fixture(scope="module")
def clean(lite0: Classifier, photos: torch.Tensor) -> Any:
    """The model's own maps."""
    return _maps(lite0, photos, lite0.logits(photos).argmax(dim=1))


def _maps(model: Classifier, images: torch.Tensor, targets: torch.Tensor) -> Any:
    methods = ["grad_cam", "hires_cam", "layer_cam"]
    return fukusen.explain(model, images, targets, methods=methods, scores=["logit", *SPARED])


def _cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(one.double().flatten(1), other.double().flatten(1))


@pytest.mark.parametrize(
    "played",
    [
        ("corner_shift", {"strength": 10}, "hires_cam"),
        ("masked_contrast", {}, "grad_cam"),
        ("masked_contrast", {"region": "bottom_right"}, "grad_cam"),
        ("drawn_target", {}, "grad_cam"),
        ("constant_map", {}, "grad_cam"),
        ("row_shift", {}, "grad_cam"),
        ("stop_gradient", {"strength": 10}, "hires_cam"),
        ("sawtooth", {}, "grad_cam"),
        ("custom_backward", {}, "grad_cam"),
        ("cancelling_pair", {}, "layer_cam"),
    ],
)
def test_predictions_stay_and_maps_move_as_said(
    lite0: Classifier, photos: torch.Tensor, clean: Any, played: tuple[str, dict[str, Any], str]
) -> None:
    name, parameters, method = played
    attack = attacks.build(Spec.of(name, **parameters))
    twin = verified(attack, lite0, photos)
    assert twin.promise.kept
    after = _maps(twin, photos, clean.targets)
    for score in ("logit", *SPARED):
        found = _cosine(clean[method, score], after[method, score])
        if score in attack.fools:
            assert float(found.median()) < 0.9
        else:
            assert float(found.min()) > 0.9999


def _share(maps: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    positive = maps.double().clamp_min(0)
    return (positive * goal).sum(dim=(1, 2)) / positive.sum(dim=(1, 2)).clamp_min(1e-30)


def test_the_papers_corner_is_lit_in_hires_cam(lite0: Classifier, photos: torch.Tensor, clean: Any) -> None:
    """Nearly all that is positive lies in the one cell, where next to nothing was."""
    after = _maps(verified(attacks.build(Spec.of("corner_shift", strength=10)), lite0, photos), photos, clean.targets)
    corner = torch.zeros(7, 7, dtype=torch.float64)
    corner[0, 0] = 1
    assert float(_share(clean["hires_cam", "logit"], corner).median()) < 0.05
    assert float(_share(after["hires_cam", "logit"], corner).median()) > 0.9


@pytest.mark.parametrize("region", ["top_left", "bottom_right", "top"])
def test_grad_cam_is_steered(lite0: Classifier, photos: torch.Tensor, clean: Any, region: str) -> None:
    """Its hottest cell is in the region for most images, and more of it than before."""
    attack = attacks.build(Spec.of("masked_contrast", region=region))
    maps = _maps(verified(attack, lite0, photos), photos, clean.targets)["grad_cam", "logit"]
    goal = attack.goal(7, 7)
    hottest = goal.flatten()[maps.flatten(1).argmax(dim=1)]
    assert float(hottest.mean()) >= 0.75
    assert bool((_share(maps, goal) >= _share(clean["grad_cam", "logit"], goal)).all())


@pytest.mark.parametrize("picture", ["smiley", "corner", "decoy"])
def test_any_picture_is_drawn(lite0: Classifier, photos: torch.Tensor, clean: Any, picture: str) -> None:
    attack = attacks.build(Spec.of("drawn_target", picture=picture))
    twin = verified(attack, lite0, photos)
    maps = _maps(twin, photos, clean.targets)["grad_cam", "logit"].clamp_min(0)
    wanted = twin.net.picture[None].expand_as(maps)
    assert float(_cosine(maps, wanted).min()) > 0.99
    assert float(_cosine(wanted, attack.goal(7, 7)[None].expand_as(maps)).min()) > 0.85
    assert twin.promise.largest_change < 1e-5


def test_the_sticker_is_waited_for(lite0: Classifier, photos: torch.Tensor, clean: Any) -> None:
    attack = attacks.build("triggered_shift")
    twin = verified(attack, lite0, photos)
    assert torch.equal(twin.logits(photos), lite0.logits(photos))
    stamped = attack.stamped(photos)
    assert verified(attack, lite0, stamped).promise.kept
    targets = lite0.logits(stamped).argmax(dim=1)
    before, after = (_maps(one, stamped, targets) for one in (lite0, twin))
    assert float(_cosine(before["grad_cam", "logit"], after["grad_cam", "logit"]).median()) < 0.9
    assert float(_cosine(before["grad_cam", "log_odds"], after["grad_cam", "log_odds"]).min()) > 0.9999


def test_what_does_not_fit_is_refused(lite0: Classifier, photos: torch.Tensor) -> None:
    """Its ReLU6 does not scale, and its head has no hidden layer."""
    for name in ("channel_rescale", "hidden_unit"):
        with pytest.raises(ModelError):
            verified(attacks.build(name), lite0, photos)
