"""Layers found by looking: real architectures, branches that lead nowhere, modules called twice, odd layouts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fukusen.errors import CallError, UnknownName
from fukusen.models import Layer, wrap
from fukusen.models.layers import candidates
from fukusen.models.looking import look

SMALL = (3, 32, 32)


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return models.get_model(name, weights=None).eval()


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name).eval()


slow = pytest.mark.slow
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Layer]] = {
    "resnet18": (lambda: _torchvision("resnet18"), Layer("layer4.1", 0, "channels_first", (512, 3, 3))),
    "vgg11": (lambda: _torchvision("vgg11"), Layer("features", 0, "channels_first", (512, 3, 3))),
    "densenet121": (
        lambda: _torchvision("densenet121"),
        Layer("features.norm5", 0, "channels_first", (1024, 3, 3)),
    ),
    "mobilenet_v3_small": (
        lambda: _torchvision("mobilenet_v3_small"),
        Layer("features.12", 0, "channels_first", (576, 3, 3)),
    ),
    "swin_t": (lambda: _torchvision("swin_t"), Layer("norm", 0, "channels_last", (768, 3, 3))),
    "convnext_atto": (lambda: _timm("convnext_atto"), Layer("stages.3.blocks.1", 0, "channels_first", (320, 3, 3))),
}


@pytest.mark.parametrize(
    "name",
    [name if name in ("resnet18", "mobilenet_v3_small") else pytest.param(name, marks=slow) for name in ARCHITECTURES],
)
def test_known_architectures(name: str) -> None:
    torch.manual_seed(0)
    make, expected = ARCHITECTURES[name]
    model = wrap(make(), head="softmax", input_size=(3, 96, 96))
    assert model.layer == expected
    capture = model.run(torch.randn(1, 3, 96, 96), [expected], "layer")
    assert expected.channels_first(capture.outputs[expected]).shape == (1, *expected.shape)
    (gradient,) = torch.autograd.grad(capture.logits[:, 0].sum(), [capture.outputs[expected]])
    assert gradient.abs().max() > 0


class _Small(nn.Module):
    """Two convolutions, a shared activation, and whatever a test hangs beside them."""

    def __init__(self, **beside: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 4)
        for name, module in beside.items():
            self.add_module(name, module)

    def features(self, images: Tensor) -> Tensor:
        return self.act(self.second(self.act(self.first(images))))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


class _Ignored(_Small):
    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        self.decoy(features)
        return self.head(features.mean((2, 3)))


class _Detached(_Small):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits + 0 * self.decoy(images).mean()


class _Shifting(_Small):
    """The decoy moves every logit by the same number: no prediction depends on it."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits + 10 * self.decoy(self.features(images)).mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("kind", [_Ignored, _Detached, _Shifting])
def test_a_branch_that_predicts_nothing_is_not_taken(kind: type[_Small]) -> None:
    torch.manual_seed(0)
    side = 3 if kind is _Detached else 8
    decoy = nn.Sequential(nn.Conv2d(side, 16, 3, padding=1), nn.BatchNorm2d(16))
    model = wrap(kind(decoy=decoy).eval(), head="softmax", input_size=SMALL)
    assert model.layer == Layer("second", 0, "channels_first", (8, 32, 32))


def test_independent_labels_depend_on_a_common_shift() -> None:
    torch.manual_seed(0)
    net = _Shifting(decoy=nn.Conv2d(8, 16, 3, padding=1)).eval()
    assert str(wrap(net, head="sigmoid", input_size=SMALL).layer) == "decoy"


def test_what_is_kept_escapes_the_activation_in_place() -> None:
    torch.manual_seed(0)
    model = wrap(_Small().eval(), input_size=SMALL)
    assert model.layer is not None
    kept = model.run(torch.randn(2, *SMALL), [model.layer]).outputs[model.layer]
    assert kept.min() < 0


def test_a_module_that_is_called_twice_has_two_layers() -> None:
    torch.manual_seed(0)
    net = _Small().eval()
    images = torch.randn(2, *SMALL)
    first, second = (wrap(net, layer=f"act#{call}", input_size=SMALL) for call in (0, 1))
    last = wrap(net, layer="act", input_size=SMALL)
    assert (first.layer, second.layer) == (
        Layer("act", 0, "channels_first", (8, 32, 32)),
        Layer("act", 1, "channels_first", (8, 32, 32)),
    )
    assert last.layer == second.layer
    assert (str(first.layer), str(second.layer)) == ("act", "act#1")
    outputs = [model.run(images, [model.layer]).outputs[model.layer] for model in (first, second) if model.layer]
    torch.testing.assert_close(outputs[0], net.first(images).relu())
    torch.testing.assert_close(outputs[1], net.features(images))


def test_any_of_the_names_of_a_shared_module() -> None:
    torch.manual_seed(0)
    net = _Small().eval()
    net.alias = net.second
    assert wrap(net, layer="alias", input_size=SMALL).layer == Layer("second", 0, "channels_first", (8, 32, 32))


MESSAGES = {
    "secnod": (
        UnknownName,
        "There is no layer named 'secnod'. Did you mean 'second'? Known: act, first, second.",
    ),
    "": (UnknownName, "There is no layer named ''. Known: act, first, second."),
    "head": (
        CallError,
        "The layer 'head' gives no output with rows and columns. Layers that do: second, first.",
    ),
    "act#2": (CallError, "The layer 'act#2' is not called that often. Its calls: act#0, act#1."),
}


@pytest.mark.parametrize("asked", MESSAGES)
def test_bad_names(asked: str) -> None:
    torch.manual_seed(0)
    kind, message = MESSAGES[asked]
    with pytest.raises(kind) as caught:
        wrap(_Small().eval(), layer=asked, input_size=SMALL)
    assert str(caught.value) == message


def test_no_spatial_layer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert wrap(net, input_size=(3, 2, 2)).layer is None


def test_an_early_layer_is_noted() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 8, 8)
            self.blocks = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))

        def forward(self, images: Tensor) -> Tensor:
            return self.blocks(self.embed(images).flatten(2).mean(2))

    torch.manual_seed(0)
    model = wrap(Patches(), input_size=SMALL)
    assert str(model.layer) == "embed"
    assert model.notes[-1] == (
        "The last layer with rows and columns, 'embed', stands early in the network: class activation maps read there "
        "show little of what it computes."
    )


class _ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.patches(images).permute(0, 2, 3, 1)).mean((1, 2)))


@pytest.mark.parametrize("size", [(3, 32, 32), (3, 32, 64), (3, 64, 16)])
def test_channels_last_at_any_aspect(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = wrap(_ChannelsLast(), input_size=size)
    assert model.layer == Layer("norm", 0, "channels_last", (24, size[1] // 4, size[2] // 4))


@pytest.mark.parametrize("size", [(3, 10, 20), (3, 20, 10), (3, 6, 14)])
def test_channels_first_at_any_aspect(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert wrap(net, head="softmax", input_size=size).layer == Layer(
        "0", 0, "channels_first", (4, size[1] - 2, size[2] - 2)
    )


def test_layouts_are_inverse() -> None:
    layer = Layer("norm", 0, "channels_last", (5, 2, 3))
    values = torch.randn(1, 2, 3, 5)
    assert layer.channels_first(values).shape == (1, 5, 2, 3)
    assert torch.equal(layer.replaced(values, layer.channels_first(values)), values)


def test_of_modules_that_hand_on_the_same_tensor_the_innermost_stands_for_all() -> None:
    net = nn.Sequential(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Identity()), nn.Flatten())
    found = look(net, torch.randn(2, *SMALL))
    assert [str(layer) for layer in candidates(found.seen)] == ["0.0.0"]
    assert found.places == 1


def test_a_frozen_part_without_gradients_is_read_all_the_same() -> None:
    """Fine-tuning code often runs its backbone under no_grad: the layer at its end still has a gradient."""

    class Frozen(_Small):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.features(images)
            return self.head(features.mean((2, 3)))

    torch.manual_seed(0)
    model = wrap(Frozen().eval(), head="softmax", input_size=SMALL)
    assert str(model.layer) == "second"
    assert model.notes == ("The network lets no gradient through to its input: methods that need one give empty maps.",)


def test_hooks_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = _Small().eval()

    def failing(images: Tensor) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(net, "features", failing)
    with pytest.raises(Exception, match="cannot be run"):
        wrap(net, input_size=SMALL)
    assert not any(module._forward_hooks for module in net.modules())
