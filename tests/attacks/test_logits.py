"""Numbers added to every logit: the papers' formulas, whom they reach, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fukusen
from fukusen.attacks import CornerShift, InputShift, MaskedContrast, StopGradient, attacks, verified
from fukusen.errors import CallError, ModelError, UnknownName
from fukusen.models import Classifier, wrap
from fukusen.registry import spec_of
from fukusen.twins import Promise


def test_a_broken_promise_is_reported(model: Classifier, images: torch.Tensor) -> None:
    """Strong enough, single precision cannot keep it."""
    twin = verified(CornerShift(1e9), model, images)
    assert twin.promise.largest_change > twin.promise.tolerance
    assert not twin.promise.kept
    assert not Promise(1e-4, 0.0, flips=1, images=3).kept


def test_the_shift_is_the_papers(model: Classifier, images: torch.Tensor) -> None:
    """z + K sum_k A_k(0,0) on every logit, the layer's ReLU first."""
    corner = model.net[:5](images).detach()[:, :, 0, 0].sum(dim=1, keepdim=True)
    assert float(corner.min()) > 0
    found = CornerShift(3.0).twin(model, images).logits(images)
    torch.testing.assert_close(found, model.logits(images) + 3 * corner)


@pytest.mark.parametrize(("name", "rows", "columns"), [("bottom_right", (4, 6), (4, 6)), ("left", (0, 6), (0, 2))])
def test_a_contrast_is_squared_channel_by_channel(
    model: Classifier, images: torch.Tensor, name: str, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """K/2 sum_k (mean inside - beta x mean outside)^2 of what the layer puts out, one number for all logits."""
    twin = MaskedContrast(2.0, beta=0.7, region=name).twin(model, images)
    cells = model.net[:4](images).double().detach()
    expected = torch.zeros(len(images), dtype=torch.float64)
    for image in range(len(images)):
        for channel in cells[image]:
            mask = torch.zeros(6, 6, dtype=torch.bool)
            mask[rows[0] : rows[1], columns[0] : columns[1]] = True
            expected[image] += (channel[mask].mean() - 0.7 * channel[~mask].mean()) ** 2 / 2
    added = (twin.logits(images) - model.logits(images)).double()
    torch.testing.assert_close(added, (twin.net.strength * expected)[:, None].expand(-1, 10), rtol=1e-4, atol=1e-4)


def test_strength_is_relative_to_the_models_own_maps(model: Classifier, images: torch.Tensor) -> None:
    """What is added to the median Grad-CAM map is so many times as large as the map."""
    own, moved = (
        fukusen.explain(one, images, methods=["grad_cam"], scores=["logit"])["grad_cam", "logit"].flatten(1)
        for one in (model, MaskedContrast(7.0).twin(model, images))
    )
    ratio = (moved - own).norm(dim=1).median() / own.norm(dim=1).median()
    assert float(ratio) == pytest.approx(7.0, rel=1e-3)


def test_pixels_are_added_to_every_logit(model: Classifier, images: torch.Tensor) -> None:
    """K times the mean of the patch; no layer's map moves."""
    twin = InputShift(30.0, region="top_right", share=0.25).twin(model, images)
    mean = images[:, :, :6, 18:].mean(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(twin.logits(images), model.logits(images) + 30 * mean)
    cams = [
        fukusen.explain(one, images, methods=["grad_cam"], scores=["logit"])["grad_cam", "logit"]
        for one in (model, twin)
    ]
    torch.testing.assert_close(*cams)


def test_occlusion_of_a_logit_shows_the_patch_and_of_a_probability_does_not(
    model: Classifier, images: torch.Tensor
) -> None:
    """The leak is not one of gradients alone."""
    twin = verified(InputShift(100.0), model, images)
    for score, finds in (("logit", True), ("log_odds", False)):
        panel = fukusen.explain(twin, images + 1, methods=["occlusion"], scores=[score])
        maps = panel["occlusion", score].abs()
        goal = InputShift().goal(*maps.shape[1:]) > 0
        share = (maps * goal).sum(dim=(1, 2)) / maps.sum(dim=(1, 2))
        assert (float(share.median()) > 0.3) == finds


def test_an_attack_is_its_spec() -> None:
    """Built again from name and parameters, it is equal."""
    for attack in (CornerShift(3.0), StopGradient(0.5), MaskedContrast(2.0, region="left")):
        assert attacks.build(spec_of(attack)) == attack


REGIONS = "one of top_left, top_right, bottom_left, bottom_right, top, bottom, left, right, center"


@pytest.mark.parametrize(
    ("made", "parameters", "told"),
    [
        (
            CornerShift,
            {"strength": 0.0},
            "'strength' parameter of CornerShift must be a finite number other than 0. Got 0.0",
        ),
        (
            CornerShift,
            {"strength": float("nan")},
            "'strength' parameter of CornerShift must be a finite number other than 0. Got nan",
        ),
        (
            MaskedContrast,
            {"strength": -1},
            "'strength' parameter of MaskedContrast must be a finite number > 0. Got -1",
        ),
        (
            MaskedContrast,
            {"beta": 1.0},
            "'beta' parameter of MaskedContrast must be a number from 0 to less than 1. Got 1.0",
        ),
        (MaskedContrast, {"region": "above"}, f"'region' parameter of MaskedContrast must be {REGIONS}. Got 'above'"),
        (
            MaskedContrast,
            {"share": 1.0},
            "'share' parameter of MaskedContrast must be a number between 0 and 1. Got 1.0",
        ),
        (InputShift, {"strength": 0}, "'strength' parameter of InputShift must be a finite number other than 0. Got 0"),
        (InputShift, {"region": ""}, f"'region' parameter of InputShift must be {REGIONS}. Got ''"),
        (InputShift, {"share": 0.0}, "'share' parameter of InputShift must be a number between 0 and 1. Got 0.0"),
    ],
)
def test_bad_values_are_refused(made: type, parameters: dict[str, object], told: str) -> None:
    with pytest.raises(CallError) as refused:
        made(**parameters)
    assert str(refused.value) == f"The {told} instead."


def test_a_misspelt_attack_is_said(model: Classifier) -> None:
    with pytest.raises(UnknownName) as name:
        fukusen.attack(model, "corner_shfit")
    known = ", ".join(sorted(attacks.names()))
    assert str(name.value) == (f"There is no attack named 'corner_shfit'. Did you mean 'corner_shift'? Known: {known}.")


SHIFTS = [name for name in attacks.names() if attacks.get(name).family == "logits"]


@pytest.mark.parametrize("name", SHIFTS)
def test_independent_labels_are_not_shifted(model: Classifier, images: torch.Tensor, name: str) -> None:
    """A number on every logit changes every one of their predictions."""
    labels = wrap(model.net, input_size=(3, 24, 24), head="sigmoid")
    with pytest.raises(ModelError) as refused:
        fukusen.attack(labels, name, images)
    assert str(refused.value) == (
        "Only logits of classes that exclude each other (softmax) can be shifted without changing a prediction."
    )


def test_a_network_without_a_grid_is_refused(images: torch.Tensor) -> None:
    """There is no corner where there is no layer with rows and columns."""
    flat = wrap(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1728, 4)), input_size=(3, 24, 24), head="softmax"
    )
    for name in ("corner_shift", "masked_contrast", "drawn_target", "stop_gradient", "triggered_shift"):
        with pytest.raises(ModelError) as refused:
            fukusen.attack(flat, name, images)
        assert str(refused.value) == (
            "The network has no layer with rows and columns, so there is no corner to point at."
        )


def test_a_layer_that_nothing_depends_on_is_refused(images: torch.Tensor) -> None:
    """There is no map to redraw where every map is zero."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)
    )
    torch.nn.init.zeros_(net[3].weight)
    dead = wrap(net, input_size=(3, 24, 24), head="softmax", layer="0")
    with pytest.raises(ModelError) as refused:
        fukusen.attack(dead, "masked_contrast", images)
    assert str(refused.value) == (
        "No prediction for these images depends on the layer that maps are read from, so there is no map to redraw. "
        "Name another layer (layer=...), or give other images."
    )


def test_behind_a_relu_grad_cam_turns_into_the_sum_of_all_activations() -> None:
    """The paper's dt/dA is K for every channel of the corner, also for those that are zero there."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    model = wrap(net.eval(), input_size=(3, 16, 16), head="softmax", layer="1")
    images = torch.randn(4, 3, 16, 16)
    activations = model.net[:2](images).detach()
    assert bool((activations[:, :, 0, 0] == 0).any())
    twin = CornerShift(1e3).twin(model, images)
    found = fukusen.explain(twin, images, methods=["grad_cam"], scores=["logit"])["grad_cam", "logit"]
    alike = torch.cosine_similarity(found.flatten(1), activations.sum(dim=1).flatten(1))
    assert float(alike.min()) > 0.9999
