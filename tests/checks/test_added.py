"""What is added beside the last layer is found, however faint; an honest network has nothing of the kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fukusen
from fukusen.arrays import Batch
from fukusen.checks import AddedShift, Sight
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.tape import Tape


def _layers(classes: int, head: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(classes)
    body = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, head or nn.Linear(12, classes)).eval()


def _wrapped(net: nn.Module) -> Classifier:
    return wrap(net, input_size=(3, 12, 12), head="softmax")


def _values(model: Classifier) -> list[float | Undefined]:
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    tape = Tape(model, Batch(("a", "b", "c"), images))
    return [one.value for one in AddedShift().measure(Sight(model, tape, {}, {}))]


def _numbers(model: Classifier) -> list[float]:
    found = _values(model)
    assert all(isinstance(value, float) for value in found)
    return [value for value in found if isinstance(value, float)]


class Branch(nn.Module):
    """Something more for every class."""

    def __init__(self, net: nn.Module, more: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.more = net, more

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) + self.more(images)[:, None]


class Adding(nn.Linear):
    """A linear layer whose code adds something to every row."""

    def forward(self, given: Tensor) -> Tensor:
        return super().forward(given) + 0.05 * given[:, :1]


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_an_honest_network_has_nothing(classes: int) -> None:
    """Whatever its rows share, for there weights say it."""
    net = _layers(classes)
    net[6].weight.data += torch.randn(1, 12)
    found = _numbers(_wrapped(net))
    assert len(found) == 6
    assert max(found) < 1e-5


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_it_is_the_ratio_of_the_two_gradients(classes: int) -> None:
    """Against the formula in float64: |grad t| / |grad (z_c - mean z)| at the input."""
    net = _layers(classes).double()
    model = wrap(Branch(net, lambda x: 0.03 * x[:, :, :4, :4].square().sum(dim=(1, 2, 3))), input_size=(3, 12, 12))
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    logits = net(images)
    own = (logits.max(dim=1).values - logits.mean(dim=1)).sum()
    (telling,) = torch.autograd.grad(own, images)
    added = torch.zeros_like(images)
    added[:, :, :4, :4] = 0.06 * images.detach()[:, :, :4, :4]
    meant = added.flatten(1).norm(dim=1) / telling.flatten(1).norm(dim=1)
    found = torch.tensor(_numbers(model)[-3:], dtype=torch.float64)
    torch.testing.assert_close(found, meant, rtol=1e-4, atol=0)


def _hooked(net: nn.Sequential) -> nn.Sequential:
    net[6].register_forward_hook(lambda _m, given, output: output + 0.05 * given[0][:, :1])
    return net


@pytest.mark.parametrize(
    "net",
    [
        Branch(_layers(2), lambda x: 0.1 * x.mean(dim=(1, 2, 3))),
        Branch(_layers(2), lambda x: x.mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3)).detach()),
        _layers(2, Adding(12, 2)),
        _layers(5, Adding(12, 5)),
        _hooked(_layers(3)),
    ],
    ids=["branch", "slope without a value", "code in the layer", "of five classes", "hook"],
)
def test_whatever_adds_it_is_found(net: nn.Module) -> None:
    assert max(_numbers(_wrapped(net))) > 1e-2


def test_the_network_is_left_as_it_was() -> None:
    net = Branch(_layers(4), lambda x: x.mean(dim=(1, 2, 3)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    _values(_wrapped(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(not module._forward_hooks for module in net.modules())


class Cosine(nn.Linear):
    """Rows and features of length one."""

    def forward(self, given: Tensor) -> Tensor:
        return 8 * nn.functional.linear(nn.functional.normalize(given), nn.functional.normalize(self.weight))


class Tempered(nn.Module):
    """Logits divided by a temperature, or weighed class by class."""

    def __init__(self, net: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images) * self.scale


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (_layers(3, Cosine(12, 3)), "are not the last linear layer's output plus"),
        (Tempered(_layers(3), torch.tensor(0.5)), "are not the last linear layer's output plus"),
        (Tempered(_layers(3), torch.tensor([1.0, 2.0, 3.0])), "are not the last linear layer's output plus"),
        (_layers(3, nn.utils.parametrizations.weight_norm(nn.Linear(12, 3))), "no linear layer with one row a class"),
        (_layers(3, nn.Sequential(nn.Linear(12, 3), nn.Softsign())), "are not the last linear layer's output plus"),
    ],
    ids=["cosine", "temperature", "weighed", "weight norm", "bounded"],
)
def test_where_the_two_cannot_be_compared_it_says_so(net: nn.Module, why: str) -> None:
    found = _values(_wrapped(net.eval()))
    assert all(isinstance(value, Undefined) and why in value.reason for value in found)


def test_it_applies_to_softmax_alone() -> None:
    model = wrap(_layers(3), input_size=(3, 12, 12), head="sigmoid")
    assert isinstance(AddedShift().applies(model), Undefined)


@pytest.mark.parametrize("strength", [0.02, 1.0])
def test_a_faint_corner_shift_of_two_classes_is_told_of(strength: float) -> None:
    """Where the share of the shift alone could be chance."""
    twin = fukusen.attack(_wrapped(_layers(2)), "corner_shift", strength=strength)
    assert max(_numbers(twin)) > 1e-2
