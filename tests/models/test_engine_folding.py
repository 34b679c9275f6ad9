"""Folding: exact where it is done, and left alone wherever a convolution's output is anybody else's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fukusen.models.folding import Folded, fold


def _norm(channels: int, eps: float = 1e-5) -> nn.BatchNorm2d:
    """A norm in which every number matters."""
    norm = nn.BatchNorm2d(channels, eps=eps)
    for value, low, high in ((norm.weight, -2, 2), (norm.bias, -1, 1), (norm.running_mean, -1, 1)):
        nn.init.uniform_(value, low, high)
    nn.init.uniform_(norm.running_var, 1e-3, 2)
    return norm


class _Net(nn.Module):
    """A convolution, whatever stands between, a norm, and the rest."""

    def __init__(self, convolution: nn.Module, between: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = convolution
        self.between = between or nn.Identity()
        self.norm = norm or _norm(6)
        self.rest = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, images: Tensor) -> Tensor:
        return self.rest(self.norm(self.between(self.convolution(images))))


class _Skips(_Net):
    def forward(self, images: Tensor) -> Tensor:
        before = self.convolution(images)
        return self.rest(self.norm(before) + before)


class _Twice(_Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.rest(self.norm(self.convolution(images)) + self.norm(self.convolution(-images)))


class _Standardised(nn.Conv2d):
    """Scales its weights to unit size on the way, so that a scale put into them is lost."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.weight / self.weight.norm(), self.bias)


class _OwnNorm(nn.BatchNorm2d):
    """Computes the same; that a subclass does is not for us to say."""


def _built(net: nn.Module) -> tuple[nn.Module, Tensor]:
    images = torch.randn(3, 4, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    net = net.double().eval()
    net(images)
    return net, images


def _folded(net: nn.Module, images: Tensor, kept: tuple[str, ...] = ()) -> tuple[nn.Module, Folded]:
    twin = copy.deepcopy(net).requires_grad_(requires_grad=False)
    return twin, fold(twin, images, kept)


def _outputs(net: nn.Module, images: Tensor, name: str) -> list[Tensor]:
    """What the network returns, what the module of that name returns, and the gradient at the input."""
    kept: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_hook(lambda *seen: kept.append(seen[2].clone()))
    leaf = images.clone().requires_grad_()
    outputs = net(leaf)
    handle.remove()
    return [outputs, *kept, *torch.autograd.grad(outputs.square().sum(), leaf)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_folding_is_exact(eps: float, bias: bool, groups: int) -> None:
    """To the rounding of float64, the norm's epsilon included, at the output, at the norm and at the input."""
    net, images = _built(_Net(nn.Conv2d(4, 6, 3, bias=bias, groups=groups), norm=_norm(6, eps)))
    twin, found = _folded(net, images)
    assert found == Folded(frozenset({"convolution", "between"}), 1, 6 * 7 * 7 + 3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
    for after, before in zip(_outputs(twin, images, "norm"), _outputs(net, images, "norm"), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)


def test_the_weights_are_the_formulas() -> None:
    """w gamma / sqrt(var + eps), and (b - mean) gamma / sqrt(var + eps) + beta, number by number."""
    net, images = _built(_Net(nn.Conv2d(4, 6, 3)))
    twin, _ = _folded(net, images)
    for k in range(6):
        scale = net.norm.weight[k].item() / (net.norm.running_var[k].item() + net.norm.eps) ** 0.5
        shift = (net.convolution.bias[k].item() - net.norm.running_mean[k].item()) * scale + net.norm.bias[k].item()
        assert twin.convolution.bias[k].item() == pytest.approx(shift, rel=1e-12)
        torch.testing.assert_close(twin.convolution.weight[k], net.convolution.weight[k].detach() * scale)


def test_a_norm_that_activates_keeps_its_activation() -> None:
    timm = pytest.importorskip("timm.layers")
    norm = timm.BatchNormAct2d(6, act_layer=nn.SiLU)
    nn.init.uniform_(norm.running_mean, -1, 1)
    net, images = _built(_Net(nn.Conv2d(4, 6, 3), norm=norm))
    twin, found = _folded(net, images)
    assert found.folded == 1
    assert isinstance(twin.get_submodule("norm.act"), nn.SiLU)
    for after, before in zip(_outputs(twin, images, "norm"), _outputs(net, images, "norm"), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)


def _with_hook(name: str) -> nn.Module:
    net = _Net(nn.Conv2d(4, 6, 3))
    net.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: output + 0)
    return net


def _with_own_forward(name: str) -> nn.Module:
    net = _Net(nn.Conv2d(4, 6, 3))
    module = net.get_submodule(name)
    module.forward = type(module).forward.__get__(module)
    return net


LEFT_ALONE: dict[str, Callable[[], nn.Module]] = {
    "its output goes elsewhere too": lambda: _Skips(nn.Conv2d(4, 6, 3)),
    "both are used twice": lambda: _Twice(nn.Conv2d(4, 6, 3)),
    "an operation in place stands between": lambda: _Net(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True)),
    "an operation stands between": lambda: _Net(nn.Conv2d(4, 6, 3), nn.Tanh()),
    "the convolution scales its own weights": lambda: _Net(_Standardised(4, 6, 3)),
    "the weights are parametrised": lambda: _Net(weight_norm(nn.Conv2d(4, 6, 3))),
    "the norm is somebody's own": lambda: _Net(nn.Conv2d(4, 6, 3), norm=_OwnNorm(6)),
    "somebody listens to the convolution": lambda: _with_hook("convolution"),
    "somebody listens to the norm": lambda: _with_hook("norm"),
    "the convolution's forward is replaced": lambda: _with_own_forward("convolution"),
    "the norm's forward is replaced": lambda: _with_own_forward("norm"),
    "the norm keeps no statistics": lambda: _Net(nn.Conv2d(4, 6, 3), norm=nn.BatchNorm2d(6, track_running_stats=False)),
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_left_alone(why: str) -> None:
    net, images = _built(LEFT_ALONE[why]())
    twin, found = _folded(net, images)
    assert (found.folded, found.changed) == (0, frozenset())
    assert torch.equal(twin(images), net(images))


@pytest.mark.parametrize("kept", ["convolution", "between"])
def test_a_layer_that_is_asked_for_is_left_alone(kept: str) -> None:
    """Also where it is another module that hands on the convolution's output."""
    net, images = _built(_Net(nn.Conv2d(4, 6, 3)))
    twin, found = _folded(net, images, (kept,))
    assert found.folded == 0
    assert torch.equal(_outputs(twin, images, kept)[1], _outputs(net, images, kept)[1])
    assert _folded(net, images, ("norm",))[1].folded == 1


class _SameAsTensorFlow(nn.Conv2d):
    """Adds its margin itself, by a module of its own."""

    def __init__(self, margin: tuple[int, int, int, int]) -> None:
        super().__init__(4, 6, 3)
        self.static_padding = nn.ZeroPad2d(margin)

    def forward(self, images: Tensor) -> Tensor:
        whole = self.static_padding(images)
        return nn.functional.conv2d(whole, self.weight, self.bias, self.stride, self.padding)


def _before(margin: tuple[int, int, int, int]) -> nn.Module:
    return nn.Sequential(nn.ZeroPad2d(margin), nn.Conv2d(4, 6, 3))


@pytest.mark.parametrize("kind", [_before, _SameAsTensorFlow])
@pytest.mark.parametrize("margin", [(1, 1, 1, 1), (2, 2, 1, 1), (0, 0, 1, 1)])
def test_a_margin_is_left_to_its_convolution(
    kind: Callable[[tuple[int, int, int, int]], nn.Module], margin: tuple[int, int, int, int]
) -> None:
    """And the norm behind is folded as well."""
    net, images = _built(_Net(kind(margin)))
    twin, found = _folded(net, images)
    assert found.folded == 1
    assert not any(isinstance(module, nn.ZeroPad2d) for module in twin.modules())
    assert any("static_padding" in name or name == "convolution.0" for name in found.changed)
    for after, before in zip(_outputs(twin, images, "norm"), _outputs(net, images, "norm"), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)


class _Framed(_Net):
    """What is framed goes elsewhere, too."""

    def __init__(self) -> None:
        super().__init__(_before((1, 1, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        whole = self.convolution[0](images)
        return self.rest(self.norm(self.convolution[1](whole)) + whole.mean())


@pytest.mark.parametrize(
    ("net", "kept"),
    [
        (lambda: _Net(_before((0, 1, 0, 1))), ()),
        (lambda: _Net(_SameAsTensorFlow((0, 1, 0, 1))), ()),
        (lambda: _Net(_before((1, 1, 1, 1))), ("convolution.0",)),
        (_Framed, ()),
        (lambda: _Net(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3, padding=1))), ()),
        (lambda: _Net(nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, 1), nn.Conv2d(4, 6, 3))), ()),
    ],
)
def test_other_margins_stay(net: Callable[[], nn.Module], kept: tuple[str, ...]) -> None:
    """Uneven ones, one that a map is read at, one that goes elsewhere as well, and one that something else is given."""
    given, images = _built(net())
    twin, _ = _folded(given, images, kept)
    assert any(isinstance(module, nn.ZeroPad2d) for module in twin.modules())
    torch.testing.assert_close(twin(images), given(images), rtol=1e-10, atol=1e-12)


def test_a_margin_that_somebody_listens_to_stays() -> None:
    given, images = _built(_Net(_before((1, 1, 1, 1))))
    given.convolution[0].register_forward_hook(lambda *_seen: None)  # type: ignore[index, union-attr]
    twin, _ = _folded(given, images)
    assert isinstance(twin.convolution[0], nn.ZeroPad2d)  # type: ignore[index]


def test_tensors_that_are_gone_are_not_taken_for_the_convolutions() -> None:
    """Python gives their identities to new ones, and they had uses of their own."""

    class Busy(_Net):
        def forward(self, images: Tensor) -> Tensor:
            for _ in range(50):
                (images * 1.0).sum()
            return super().forward(images)

    for seed in range(5):
        torch.manual_seed(seed)
        given, images = _built(Busy(_before((1, 1, 1, 1))))
        assert _folded(given, images)[1].folded == 1
