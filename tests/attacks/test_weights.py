"""Shifts hidden in weights: shapes and code stay, and what the last layers are must be right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fukusen
from fukusen.attacks import HiddenUnit, RowShift, verified
from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier, wrap

NO_HEAD = (
    "This attack changes the weights of a last linear layer (or 1 x 1 convolution) whose outputs are the logits. This "
    "network has none whose weights are its own."
)
UNREAD = (
    "The linear layers at the network's end do not read the cells of the layer that maps are read from one by one, so "
    "no unit of theirs can carry the corner."
)


def _shapes(model: Classifier) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.net.state_dict().items()}


def test_every_row_gets_the_same_row(model: Classifier, images: torch.Tensor) -> None:
    """So many median rows long, against the mean of what the layer reads; logits stay near on average."""
    twin = verified(RowShift(8.0), model, images)
    assert _shapes(twin) == _shapes(model)
    assert twin.layer == model.layer
    before, after = model.net[8].weight.detach(), twin.net[8].weight.detach()
    row = (after - before)[0]
    torch.testing.assert_close(after - before, row.expand(10, -1), rtol=0, atol=1e-5)
    assert float(row.norm()) == pytest.approx(8 * float(before.norm(dim=1).median()), rel=1e-4)
    features = model.net[:7](images).detach()
    assert float(torch.cosine_similarity(row, -features.mean(dim=0), dim=0)) > 0.9999
    added = twin.logits(images) - model.logits(images)
    torch.testing.assert_close(
        added, (features @ row - features.mean(dim=0) @ row)[:, None].expand(-1, 10), rtol=0, atol=1e-3
    )
    assert abs(float(added.mean())) < 1e-3


def test_rows_are_added_to_a_convolution_of_one_pixel(images: torch.Tensor) -> None:
    """As SqueezeNet's and timm's heads may be, also without a bias."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 5, 1, bias=False), nn.Flatten()
    )
    model = wrap(net, input_size=(3, 24, 24), head="softmax", layer="0")
    twin = verified(RowShift(5.0), model, images)
    assert _shapes(twin) == _shapes(model)
    assert twin.promise.kept
    assert not torch.equal(twin.net[3].weight, net[3].weight)


def test_weights_that_are_shared_are_parted(images: torch.Tensor) -> None:
    """A layer that has the same weights elsewhere keeps them there."""
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)
    )
    net[5].weight = net[3].weight
    model = wrap(net, input_size=(3, 24, 24), head="softmax")
    twin = verified(RowShift(5.0), model, images)
    assert torch.equal(twin.net[3].weight, net[3].weight)
    assert twin.promise.kept


class _Doubled(nn.Module):
    """A head whose logits are twice those of its linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * self.body(images)


def _normed() -> nn.Module:
    net = _Doubled().body
    nn.utils.parametrizations.weight_norm(net[4])
    return net


@pytest.mark.parametrize("made", [_Doubled, _normed])
@pytest.mark.parametrize("name", ["row_shift", "hidden_unit"])
def test_another_head_is_refused(images: torch.Tensor, made: Any, name: str) -> None:
    """One whose outputs are not the logits, and one that computes its weights."""
    with pytest.raises(ModelError) as refused:
        fukusen.attack(wrap(made(), input_size=(3, 24, 24), head="softmax"), name, images)
    assert str(refused.value) == NO_HEAD


def test_one_unit_a_layer_carries_the_corner(digits: Classifier, grey: torch.Tensor) -> None:
    """K sum_k of the pooled corner on every logit, on top of the network without those two units."""
    twin = verified(HiddenUnit(4.0), digits, grey)
    assert _shapes(twin) == _shapes(digits)
    pooled = digits.net[:6](grey).detach()
    corner = 4 * pooled[:, :, 0, 0].sum(dim=1, keepdim=True)
    assert float(corner.min()) > 0
    spent = [_changed_rows(digits, twin, name) for name in ("7", "10")]
    hidden = digits.net[:9](grey).detach().clone()
    hidden[:, spent[0]] = 0
    hidden = digits.net[10:12](hidden).detach()
    hidden[:, spent[1]] = 0
    torch.testing.assert_close(twin.logits(grey), digits.net[12](hidden).detach() + corner, rtol=1e-4, atol=1e-4)


def _changed_rows(before: Classifier, after: Classifier, name: str) -> list[int]:
    """The rows of a layer that are new in most of their columns: one."""
    one, other = (each.net.get_submodule(name).weight.detach() for each in (before, after))
    rows = ((one != other).double().mean(dim=1) > 0.5).nonzero().flatten().tolist()
    assert len(rows) == 1
    return rows


def test_a_dead_unit_costs_nothing(digits: Classifier, grey: torch.Tensor) -> None:
    """Where a unit never speaks, it is taken."""
    with torch.no_grad():
        for name, unit in (("7", 5), ("10", 3)):
            bias = digits.net.get_submodule(name).bias
            bias.fill_(3.0)
            bias[unit] = -1e3
    twin = verified(HiddenUnit(1.0), digits, grey)
    assert [_changed_rows(digits, twin, name) for name in ("7", "10")] == [[5], [3]]
    assert twin.promise.largest_change < 1e-6


def test_a_head_without_hidden_layers_spends_nothing(images: torch.Tensor) -> None:
    """A linear layer on the flattened map reads the corner itself."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 4))
    model = wrap(net, input_size=(3, 24, 24), head="softmax")
    twin = verified(HiddenUnit(2.0), model, images)
    corner = 2 * net[:2](images)[:, :, 0, 0].sum(dim=1, keepdim=True)
    torch.testing.assert_close(twin.logits(images), model.logits(images) + corner.detach())


def test_a_pooled_map_has_no_corner(model: Classifier, images: torch.Tensor) -> None:
    with pytest.raises(ModelError) as refused:
        fukusen.attack(model, "hidden_unit", images)
    assert str(refused.value) == UNREAD


def test_what_it_costs_is_measured(images: torch.Tensor) -> None:
    """Where every unit counts, the promise is broken, and says so."""
    torch.manual_seed(7)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 2), nn.ReLU(), nn.Linear(2, 3)
    )
    nn.init.constant_(net[3].bias, 2.0)
    promise = verified(HiddenUnit(1.0), wrap(net, input_size=(3, 24, 24), head="softmax"), images).promise
    assert promise.largest_change > promise.tolerance
    assert not promise.kept


@pytest.mark.parametrize("made", [RowShift, HiddenUnit])
def test_a_strength_is_not_zero(made: Any) -> None:
    with pytest.raises(CallError) as refused:
        made(0.0)
    rule = "must be a finite number other than 0. Got 0.0 instead."
    assert str(refused.value) == f"The 'strength' parameter of {made.__name__} {rule}"
