"""Every construction is found and named by its place; ordinary networks, and honest tricks of theirs, have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fukusen
from fukusen.checks import GraphScan, Sight
from fukusen.checks.graph import KINDS, LOST, NO_GRADIENT, OPAQUE, SCRIPTED
from fukusen.models import Classifier, wrap
from fukusen.models.tracing import ROOT
from fukusen.records import Undefined

Ending = Callable[[Tensor, Tensor], Tensor]
Found = dict[tuple[str, str], float]
CLASSES = 10
ROWS = torch.randn(CLASSES, 12, generator=torch.Generator().manual_seed(1))


def _layers(last: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU()
    body[3].weight.data.mul_(20)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last or nn.Linear(12, CLASSES)).eval()


class Ended(nn.Module):
    """A network whose logits (b, 10) and cells (b, 12, 5, 5) go through a function of the author's."""

    def __init__(self, ending: Ending) -> None:
        super().__init__()
        layers = _layers()
        self.body, self.head, self.ending = layers[:5], layers[5:], ending

    def forward(self, images: Tensor) -> Tensor:
        cells = self.body(images)
        return self.ending(self.head(cells), cells)


def _scan(net: nn.Module | Classifier, size: tuple[int, int, int] = (3, 16, 16)) -> list[Any]:
    model = net if isinstance(net, Classifier) else wrap(net.eval(), input_size=size)
    return GraphScan().measure(Sight(model, None, {}, {}))


def _found(net: nn.Module | Classifier, size: tuple[int, int, int] = (3, 16, 16)) -> Found:
    """What there is of each kind in each module."""
    measured = _scan(net, size)
    assert not any(isinstance(one.value, Undefined) for one in measured)
    return {(one.against, one.layer): one.value for one in measured if one.value}


def _reason(net: nn.Module) -> Undefined:
    (one,) = _scan(net)
    assert isinstance(one.value, Undefined)
    return one.value


def _t(cells: Tensor) -> Tensor:
    return cells[:, :, 0, 0].sum(dim=1, keepdim=True)


def _of_one(added: Tensor) -> Tensor:
    """Something for the first class alone."""
    return F.pad(added, (0, CLASSES - 1))


def _without_gradient(cells: Tensor) -> Tensor:
    with torch.no_grad():
        return _t(cells)


class Louder(torch.autograd.Function):
    """The numbers as they are, and other gradients."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return 7 * gradients[0]


def _hooked_tensor(logits: Tensor, cells: Tensor) -> Tensor:
    if cells.requires_grad:
        cells.register_hook(lambda gradient: 7 * gradient)
    return logits + F.linear(cells.mean(dim=(2, 3)), ROWS)


def _let_pass(values: Tensor) -> Tensor:
    return values * (values > 0)


def _winner(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(dim=1), CLASSES)


STOPPED: dict[str, Ending] = {
    "detach": lambda z, a: z + _of_one(_t(a) - _t(a).detach()),
    "data": lambda z, a: z + _of_one(_t(a) - _t(a).data),
    "no_grad": lambda z, a: z + _of_one(_t(a) - _without_gradient(a)),
    "the cells": lambda z, a: z + _of_one(_t(a) - _t(a.detach())),
    "in place": lambda z, a: z.add_(_of_one(_t(a))).sub_(_of_one(_t(a.detach()))),
}
FLAT: dict[str, Ending] = {
    "floor": lambda z, a: z + 1e-3 * _of_one(_t(a) - torch.floor(_t(a))),
    "modulo": lambda z, a: z + _of_one(_t(a) % 1e-3),
    "fmod": lambda z, a: z + _of_one(torch.fmod(_t(a), 1e-3)),
    "floor division": lambda z, a: z + 1e-3 * _of_one(_t(a) - _t(a) // 1),
    "rounding mode": lambda z, a: z + 1e-3 * _of_one(torch.div(_t(a), 2, rounding_mode="trunc")),
    "round": lambda z, a: z + _of_one(_t(a).round()),
    "sign": lambda z, a: z + _of_one(_t(a).sign()),
    "whole number": lambda z, a: z + _of_one(_t(a) - _t(a).long()),
    "comparison": lambda z, a: z + _of_one(_t(a) * (a.mean(dim=(1, 2, 3)) > 0.3)[:, None]),
    "one_hot": lambda z, a: z + _winner(z) * _t(a),
    "scatter": lambda z, a: z + torch.zeros_like(z).scatter(1, z.argmax(dim=1, keepdim=True), 1.0) * _t(a),
    "where": lambda z, a: z + torch.where(z == z.amax(dim=1, keepdim=True), 1.0, 0.0) * _t(a),
    "row of a table": lambda z, a: z + torch.eye(CLASSES)[z.argmax(dim=1)] * _t(a),
    "eight bits": lambda z, _: torch.fake_quantize_per_tensor_affine(z, 0.1, 0, -128, 127),
}
ADDED: dict[str, Ending] = {
    "column": lambda z, a: z + _t(a),
    "taken away": lambda z, a: z - _t(a),
    "taken from": lambda z, a: _t(a) - z,
    "expand": lambda z, a: z + _t(a).expand(-1, CLASSES),
    "repeat": lambda z, a: z + _t(a).repeat(1, CLASSES),
    "cat": lambda z, a: z + torch.cat([_t(a)] * CLASSES, dim=1),
    "ones": lambda z, a: z + _t(a) @ torch.ones(1, CLASSES),
    "in place": lambda z, a: z.add_(_t(a)),
    "bias": lambda _, a: torch.addmm(_t(a), a.mean(dim=(2, 3)), ROWS.T),
    "in the bias": lambda _, a: torch.addmm(_t(a) + ROWS[:, 0], a.mean(dim=(2, 3)), ROWS.T),
    "trigger": lambda z, a: z + torch.where(a.mean(dim=(1, 2, 3)) > 0.3, _t(a)[:, 0], 0.0)[:, None],
    "scaled": lambda z, a: (z + _t(a)) / 3,
    "by temperature": lambda z, a: (z + _t(a)) * a.mean(dim=(1, 2, 3))[:, None].sigmoid(),
    "before the mean": lambda _, a: (F.conv2d(a, ROWS[:, :, None, None]) + a.sum(dim=1, keepdim=True)).mean(dim=(2, 3)),
    "twice the mean": lambda z, _: z - (2 * z).mean(dim=1, keepdim=True),
    "no value": lambda z, a: z + (_t(a) - _t(a).detach()),
}
HONEST: dict[str, Ending] = {
    "log_softmax": lambda z, _: z.log_softmax(dim=1),
    "log_softmax by hand": lambda z, _: z - z.logsumexp(dim=1, keepdim=True),
    "steadied": lambda z, _: z - z.amax(dim=1, keepdim=True).detach(),
    "centred": lambda z, _: z - z.mean(dim=1, keepdim=True),
    "temperature": lambda z, _: z / 2.5,
    "cosine": lambda _, a: 16 * F.linear(F.normalize(a.mean(dim=(2, 3))), F.normalize(ROWS)),
    "relu by hand": lambda _, a: F.linear(_let_pass(a - 0.1).mean(dim=(2, 3)), ROWS),
    "relu by hand, copied": lambda _, a: F.linear((a * (a > 0).float()).mean(dim=(2, 3)), ROWS),
    "leaky by hand": lambda _, a: F.linear(torch.where(a > 0.1, a, 0.1 * a).mean(dim=(2, 3)), ROWS),
    "attention by hand": lambda _, a: F.linear(
        (a * (a - a.amax(dim=1, keepdim=True).detach()).exp()).mean(3)[..., 0], ROWS
    ),
    "largest cells": lambda _, a: F.linear(a.flatten(2).topk(3, dim=2).values.mean(dim=2), ROWS),
    "picked": lambda _, a: F.linear(a.flatten(2).gather(2, a.flatten(2).argmax(2, keepdim=True))[:, :, 0], ROWS),
    "masked": lambda _, a: F.linear(a.masked_fill(a.detach() < 0.2, 0.0).mean(dim=(2, 3)), ROWS),
    "counted": lambda z, a: (z, (z > 0) + (a.amax(dim=(1, 2, 3)) > 0)[:, None])[0],
    "in its likeness": lambda z, a: z + torch.zeros_like(z) + a.new_ones(CLASSES),
    "two heads": lambda z, a: (z + F.linear(a.amax(dim=(2, 3)), ROWS)) / 2,
    "for nothing": lambda z, a: (z, _t(a).detach(), a.round(), Louder.apply(a))[0],
    "gates": lambda _, a: F.linear((a * F.hardsigmoid(a.mean(dim=(2, 3), keepdim=True))).mean(dim=(2, 3)), ROWS),
}


@pytest.mark.parametrize("ending", HONEST.values(), ids=HONEST)
def test_honest_endings_have_nothing(ending: Ending) -> None:
    assert _found(Ended(ending)) == {}


@pytest.mark.parametrize("ending", STOPPED.values(), ids=STOPPED)
def test_a_stopped_gradient_beside_another_is_found(ending: Ending) -> None:
    assert set(_found(Ended(ending))) == {("stop_gradient", ROOT)}


@pytest.mark.parametrize("ending", FLAT.values(), ids=FLAT)
def test_flat_functions_are_found(ending: Ending) -> None:
    assert _found(Ended(ending)) == {("flat_function", ROOT): 1.0}


@pytest.mark.parametrize("ending", ADDED.values(), ids=ADDED)
def test_what_all_classes_get_is_found(ending: Ending) -> None:
    assert _found(Ended(ending))["added_to_all", ROOT] == 1.0


def test_where_a_shift_changes_predictions_it_is_not_looked_for() -> None:
    """Independent labels."""
    model = wrap(Ended(ADDED["column"]).eval(), input_size=(3, 16, 16), head="sigmoid")
    assert [(one.against, one.value) for one in _scan(model)] == [
        (kind, 0.0) for kind in KINDS if kind != "added_to_all"
    ]


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (lambda z, _: Louder.apply(z), "custom_backward"),
        (lambda _, a: F.linear(Louder.apply(a).mean(dim=(2, 3)), ROWS), "custom_backward"),
        (_hooked_tensor, "hook"),
    ],
    ids=["last", "amid", "hook on a tensor"],
)
def test_backward_passes_of_the_authors_are_found(ending: Ending, kind: str) -> None:
    assert _found(Ended(ending)) == {(kind, ROOT): 1.0}


class Adding(nn.Linear):
    """A linear layer whose code adds something to every row."""

    def forward(self, given: Tensor) -> Tensor:
        return super().forward(given) + 0.05 * given[:, :1]


class Lying(nn.Module):
    """A module with a backward pass of its own."""

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = Louder.apply(given)
        return found


def test_the_module_is_named() -> None:
    """The innermost one that was running."""
    assert _found(_layers(Adding(12, CLASSES))) == {("added_to_all", "7"): 1.0}
    net = _layers()
    net[4] = nn.Sequential(nn.ReLU(), Lying())
    assert _found(net) == {("custom_backward", "4.1"): 1.0}
    assert _found(nn.Sequential(net, nn.Identity())) == {("custom_backward", "0.4.1"): 1.0}


def test_hooks_of_others_are_found() -> None:
    """Those that replace an output, and those that gradients meet; not those that only look."""
    watched, adding, backward = _layers(), _layers(), _layers()
    watched[2].register_forward_hook(lambda _module, _given, _output: None)
    adding[7].register_forward_hook(lambda _module, given, output: output + given[0][:, :1])
    backward[2].register_full_backward_hook(lambda _module, inner, _outer: (7 * inner[0],))
    backward[0].register_full_backward_pre_hook(lambda _module, outer: (7 * outer[0],))
    assert _found(watched) == {}
    assert _found(adding) == {("hook", "7"): 1.0, ("added_to_all", "7"): 1.0}
    assert _found(backward) == {("hook", "2"): 1.0, ("hook", "0"): 1.0}


class Hooking(nn.Module):
    """A network that hangs a hook up for the time of a pass."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.net, self.first = _layers(), first

    def forward(self, images: Tensor) -> Tensor:
        handle = self.net[2].register_forward_hook(lambda _module, _given, output: output * 2, prepend=self.first)
        try:
            found: Tensor = self.net(images)
        finally:
            handle.remove()
        return found


@pytest.mark.parametrize("first", [True, False])
def test_a_hook_that_hangs_there_for_one_pass_is_found(first: bool) -> None:
    """Wherever it stands among the others."""
    assert _found(Hooking(first)) == {("hook", "net.2"): 1.0}


EXPECTED = {
    "stop_gradient": {"stop_gradient", "flat_function"},
    "sawtooth": {"flat_function"},
    "custom_backward": {"custom_backward"},
    "corner_shift": {"added_to_all"},
    "masked_contrast": {"added_to_all"},
    "constant_map": {"added_to_all", "stop_gradient"},
    "drawn_target": {"added_to_all", "stop_gradient"},
    "input_shift": {"added_to_all"},
    "triggered_shift": {"added_to_all", "stop_gradient", "flat_function"},
    "row_shift": set(),
    "cancelling_pair": set(),
}


@pytest.mark.parametrize(("attack", "kinds"), EXPECTED.items(), ids=EXPECTED)
def test_attacks_by_code_are_found_and_those_by_weights_are_not(attack: str, kinds: set[str]) -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    twin = fukusen.attack(wrap(_layers(), input_size=(3, 16, 16), head="softmax"), attack, images)
    assert {kind for kind, _ in _found(twin)} == kinds


def test_a_clean_network_is_told_so_of_every_kind() -> None:
    assert [(one.against, one.layer, one.value) for one in _scan(_layers())] == [(kind, None, 0.0) for kind in KINDS]


class Checkpointed(nn.Module):
    """A network whose body is computed again on the way back."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = _layers(), reentrant

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.net[5:](checkpoint(self.net[:5], images, use_reentrant=self.reentrant))
        return found


class Frozen(nn.Module):
    """A network whose body knows no gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _layers()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            cells = self.net[:5](images)
        found: Tensor = self.net[5:](cells)
        return found


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_what_cannot_be_followed_is_not_passed() -> None:
    """Each with its reason; what is found all the same counts."""
    assert _reason(Checkpointed(reentrant=True)) == OPAQUE
    assert _found(Checkpointed(reentrant=False)) == {}
    assert _reason(Frozen()) == NO_GRADIENT
    assert _reason(Ended(lambda z, a: z + _of_one(_t(a) - _t(a).sum().item()))) == LOST
    assert _reason(Ended(lambda z, a: z + _of_one(torch.from_numpy(_t(a).detach().numpy() * 2)))) == LOST
    assert ("added_to_all", ROOT) in _found(Ended(lambda z, a: z + _t(a) - _t(a).sum().item()))
    scripted = torch.jit.script(_layers())
    assert _reason(scripted) == SCRIPTED


def _parametrised() -> nn.Module:
    return _layers(nn.utils.parametrizations.weight_norm(nn.Linear(12, CLASSES)))


def _exported(net: nn.Module) -> nn.Module:
    sample, shapes = torch.zeros(2, 3, 16, 16), ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(net.eval(), (sample,), dynamic_shapes=shapes).module()


def test_wrapped_networks_are_seen_through() -> None:
    for net in (_parametrised(), nn.DataParallel(_layers()), torch.compile(_layers())):
        assert _found(net) == {}
    assert _scan(wrap(_exported(_layers()), input_size=(3, 16, 16)))[0].value == 0.0
    model = wrap(_exported(Ended(STOPPED["detach"])), input_size=(3, 16, 16))
    assert _found(model) == {("stop_gradient", ROOT): 1.0}


def test_the_network_is_left_as_it_was() -> None:
    net = Ended(ADDED["column"]).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    _scan(wrap(net, input_size=(3, 16, 16)))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(value.grad is None for value in net.parameters())
