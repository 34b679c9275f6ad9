"""Channels that undo each other, against a comparison of every two of them, and what must not be taken for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fukusen.attacks import CancellingPair
from fukusen.checks import CancellingChannels, Sight
from fukusen.checks.channels import alike
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined


def undone(model: Classifier, images: Tensor) -> list[float]:
    """The slow way: the cosine of every two channels, and what each group adds and takes off again."""
    layer = dict(model.net.named_modules())[model.layer.name]
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output.requires_grad_()))
    logits = model.net(images)
    handle.remove()
    top = logits.argmax(dim=1, keepdim=True)
    chosen = logits.gather(1, top)[:, 0]
    if model.head.shift_is_free:
        chosen = chosen - logits.scatter(1, top, -torch.inf).logsumexp(dim=1)
    (slopes,) = torch.autograd.grad(chosen.sum(), kept[0])
    found = []
    for seen, slope in zip(kept[0].detach().double().flatten(2), slopes.double().flatten(2), strict=True):
        parts = seen * slope
        unit = seen / seen.norm(dim=1, keepdim=True)
        same = (unit @ unit.T).abs() > 1 - 1e-6
        groups = {tuple(row.nonzero()[:, 0].tolist()) for row in same if row.sum() > 1}
        lost = sum(float(parts[[*group]].abs().sum() - parts[[*group]].sum(dim=0).abs().sum()) for group in groups)
        found.append(lost / (float(parts.abs().sum()) - lost))
    return found


@pytest.fixture(params=["softmax", "sigmoid"])
def honest(request: pytest.FixtureRequest, small: Classifier) -> Classifier:
    return wrap(small.net, input_size=(3, 24, 24), head=request.param)


def test_an_honest_network_has_none(honest: Classifier, see: Callable[..., Sight]) -> None:
    assert [one.value for one in CancellingChannels().measure(see(honest))] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0])
def test_a_pair_is_measured_as_it_was_made(
    honest: Classifier, see: Callable[..., Sight], images: Tensor, strength: float
) -> None:
    """In every head, as strong as by the slow way, and in proportion to its strength."""
    twin = CancellingPair(strength).twin(honest, images)
    found = [one.value for one in CancellingChannels().measure(see(twin))]
    assert found == pytest.approx(undone(twin, images), rel=1e-4)
    assert all(0.02 * strength < value < 50 * strength for value in found)


def test_copies_that_add_up_are_none(honest: Classifier, see: Callable[..., Sight], images: Tensor) -> None:
    """A network that was widened by copied channels, each read by half of the weight."""
    conv, head = honest.net[3], honest.net[-1]
    with torch.no_grad():
        conv.weight[1], conv.bias[1] = conv.weight[0], conv.bias[0]
        head.weight[:, :2] = head.weight[:, :1] / 2
    tape_sees = [one.value for one in CancellingChannels().measure(see(honest))]
    assert tape_sees == pytest.approx([0, 0, 0], abs=1e-9)
    with torch.no_grad():
        head.weight[:, 1] = -head.weight[:, 0]
    assert min(one.value for one in CancellingChannels().measure(see(honest))) > 0.001


def test_a_channel_and_its_negative_behind_relus_are_none(see: Callable[..., Sight]) -> None:
    """As in networks that keep both signs: they are never active in the same cell."""

    class Both(nn.Module):
        def forward(self, seen: Tensor) -> Tensor:
            return torch.cat([seen, -seen], dim=1)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Both(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    for layer in ("1", "2"):
        model = wrap(net.eval(), input_size=(3, 24, 24), head="softmax", layer=layer)
        assert [one.value for one in CancellingChannels().measure(see(model))] == pytest.approx([0, 0, 0], abs=1e-9)


@given(
    seed=st.integers(0, 10_000),
    copies=st.integers(1, 4),
    factor=st.floats(0.01, 100).flatmap(lambda size: st.sampled_from([size, -size])),
)
def test_copies_are_found_among_many_by_any_factor(seed: int, copies: int, factor: float) -> None:
    chance = torch.Generator().manual_seed(seed)
    channels = torch.randn(200, 16, generator=chance)
    group = sorted(torch.randperm(200, generator=chance)[: copies + 1].tolist())
    channels[group[1:]] = factor * channels[group[0]]
    assert alike(channels) == [tuple(group)]


def test_what_is_alike_by_chance_is_not_told() -> None:
    """Channels that are the same everywhere, active in a cell or two, or not at all."""
    flat = torch.ones(4, 16) * torch.arange(1.0, 5)[:, None]
    lone = torch.zeros(4, 16)
    lone[:, 5] = torch.arange(1.0, 5)
    assert alike(torch.cat([flat, lone, torch.zeros(4, 16)])) == []


def test_few_cells_tell_nothing(see: Callable[..., Sight]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 12, stride=12), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
    found = CancellingChannels().measure(see(wrap(net.eval(), input_size=(3, 24, 24), head="softmax")))
    assert len(found) == 3
    assert all(isinstance(one.value, Undefined) and "fewer than 8 cells" in one.value.reason for one in found)


def test_without_rows_and_columns_it_does_not_apply() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 4))
    assert CancellingChannels().applies(wrap(net, input_size=(3, 24, 24), head="softmax")) is not None
