"""The share of a map that softmax cannot see, against derivatives taken the long way."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import pytest
import torch
from torch import nn

from fukusen.attacks import CornerShift
from fukusen.checks import HeadMeanRow, ShiftInMap, ShiftShare, Sight
from fukusen.models import Classifier, wrap


def test_it_is_the_ratio_of_two_gradients(small: Classifier, see: Callable[..., Sight], images: torch.Tensor) -> None:
    """At the input: the gradient of mean(z) against that of z_c - mean(z), by autograd in float64."""
    net = small.in_double().net
    leaf = images.double().requires_grad_()
    logits = net(leaf)
    mean = logits.mean(dim=1)
    own = logits.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0] - mean
    common, telling = (torch.autograd.grad(part.sum(), leaf, retain_graph=True)[0] for part in (mean, own))
    expected = common.flatten(1).norm(dim=1) / telling.flatten(1).norm(dim=1)
    found = [one.value for one in ShiftShare().measure(see(small)) if one.layer == "input"]
    assert found == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_a_shift_of_every_logit_shows(
    small: Classifier, images: torch.Tensor, see: Callable[..., Sight], strength: float
) -> None:
    """It grows with the shift, at the layer and at the input."""
    before = {(one.item, one.layer): one.value for one in ShiftShare().measure(see(small))}
    after = ShiftShare().measure(see(CornerShift(strength).twin(small, images)))
    for one in after:
        layer = "input" if one.layer == "input" else one.layer.removeprefix("net.")
        assert one.value > before[one.item, layer] + strength


def test_in_a_map_it_is_the_ratio_of_two_maps(
    small: Classifier, see: Callable[..., Sight], images: torch.Tensor
) -> None:
    """At the layer: HiResCAM of mean(z) against that of z_c - mean(z), by autograd in float64."""
    net = small.in_double().net
    below, above = net[: int(small.layer.name) + 1], net[int(small.layer.name) + 1 :]
    seen = below(images.double()).detach().requires_grad_()
    logits = above(seen)
    mean = logits.mean(dim=1)
    own = logits.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0] - mean
    slopes = [torch.autograd.grad(part.sum(), seen, retain_graph=True)[0] for part in (mean, own)]
    common, telling = ((seen * slope).sum(dim=1).flatten(1).norm(dim=1) for slope in slopes)
    found = ShiftInMap().measure(see(small))
    assert [one.value for one in found] == pytest.approx((common / telling).tolist(), rel=1e-4)
    assert {one.layer for one in found} == {small.layer.name}


def test_a_row_that_points_where_features_do_is_seen_in_maps(
    small: Classifier, images: torch.Tensor, see: Callable[..., Sight]
) -> None:
    """One as long that points across them is as large a share of the gradient, and hardly to be seen."""
    with torch.no_grad():
        usual = small.net[:-1](images).mean(dim=0)
        usual = usual / usual.norm()
        other = torch.linspace(-1, 1, len(usual))
        other = other - (other @ usual) * usual
        found = {}
        for name, row in (("none", 0 * usual), ("along", 2 * usual), ("across", 2 * other / other.norm())):
            small.net[-1].weight += row
            measured = [check.measure(see(small)) for check in (ShiftInMap(), ShiftShare())]
            found[name] = [max(one.value for one in each if one.layer == small.layer.name) for each in measured]
            small.net[-1].weight -= row
    assert found["across"][1] > found["along"][1] / 2
    assert found["along"][0] > 10 * found["none"][0]
    assert found["across"][0] < found["along"][0] / 3


def test_a_network_without_rows_and_columns_is_measured_at_the_input(
    images: torch.Tensor, see: Callable[..., Sight]
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 8), nn.ReLU(), nn.Linear(8, 5))
    found = ShiftInMap().measure(see(wrap(net.eval(), input_size=(3, 24, 24), head="softmax")))
    assert [(one.item, one.layer) for one in found] == [(item, "input") for item in "abc"]
    assert all(0 < one.value < 10 for one in found)


def test_random_rows_share_what_chance_says(small: Classifier, see: Callable[..., Sight]) -> None:
    """For k independent rows about 1/sqrt(k) of a row."""
    torch.manual_seed(3)
    head = nn.Linear(512, 100)
    net = nn.Sequential(nn.Conv2d(3, 512, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    model = wrap(net.eval(), input_size=(3, 24, 24), head="softmax")
    (found,) = HeadMeanRow().measure(see(model))
    assert found.value == pytest.approx(1 / sqrt(100), rel=0.2)
    assert found.layer == "4"


def test_a_row_that_all_share_shows(small: Classifier, see: Callable[..., Sight]) -> None:
    """Adding one row to all of them changes no probability, and the head's mean row."""
    (before,) = HeadMeanRow().measure(see(small))
    head = small.net[-1]
    with torch.no_grad():
        head.weight += torch.ones(32)
    (after,) = HeadMeanRow().measure(see(small))
    assert after.value > 2 * before.value


def test_none_applies_to_independent_labels(images: torch.Tensor) -> None:
    """A shift of sigmoid logits changes predictions."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = wrap(net, input_size=(3, 24, 24), head="sigmoid")
    for check in (ShiftShare(), ShiftInMap(), HeadMeanRow()):
        reason = check.applies(model)
        assert reason is not None
        assert reason.reason == (
            "a number added to every output would change this model's predictions, so nothing can be hidden in such a "
            "shift"
        )
