"""The engine gives what the network gives, bends nothing straight, and is dropped where it differs."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Images
from fukusen.attacks import CornerShift, StopGradient
from fukusen.methods import methods
from fukusen.models import INPUT, Classifier, Layer, wrap
from fukusen.models import engine as rooms
from fukusen.models.engine import Engine, prepared
from fukusen.scores import Logit, LogOdds, scores
from fukusen.tape import Tape

SIZE = (3, 16, 16)


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return norm


class _Net(nn.Module):
    """A stem, a residual block and a head, as small as they come."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = _norm(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.bn2 = _norm(8)
        self.last = nn.Conv2d(8, 12, 1)
        self.bn3 = _norm(12)
        self.act = nn.ReLU6(inplace=True)
        self.head = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        values = self.act(self.bn1(self.stem(images)))
        values = values + self.act(self.bn2(self.depthwise(values)))
        return self.head(self.act(self.bn3(self.last(values))).mean((2, 3)))


class _Bent(nn.Module):
    """A network that is bent after its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _Net()
        self.lock: object = None

    def forward(self, images: Tensor) -> Tensor:
        return self.bend(images, self.inner(images))

    def bend(self, _images: Tensor, logits: Tensor) -> Tensor:
        """The logits as they are."""
        return logits


class _Random(_Bent):
    def bend(self, _images: Tensor, logits: Tensor) -> Tensor:
        return logits + 0.1 * torch.randn_like(logits)


class _ShyInValue(_Bent):
    """Gives other logits where its weights are frozen, as in a copy."""

    def bend(self, _images: Tensor, logits: Tensor) -> Tensor:
        return logits * (1.0 if self.inner.stem.weight.requires_grad else 1.001)


class _ShyInSlope(_Bent):
    """Bends its gradient, and only where its weights are not frozen."""

    def bend(self, images: Tensor, logits: Tensor) -> Tensor:
        extra = images[:, :, :4, :4].sum(dim=(1, 2, 3))[:, None] * torch.eye(5)[0]
        return logits + (extra - extra.detach()) * float(self.inner.stem.weight.requires_grad)


class _ThroughNorm(torch.autograd.Function):
    """A batch norm's value with somebody else's gradient."""

    @staticmethod
    def forward(_ctx: object, _before: Tensor, after: Tensor) -> Tensor:
        return after.clone()

    @staticmethod
    def backward(_ctx: object, *above: Tensor) -> tuple[Tensor, Tensor]:
        return 100 * above[0].flip(-1), torch.zeros_like(above[0])


class _LyingNorm(nn.BatchNorm2d):
    def forward(self, values: Tensor) -> Tensor:
        return _ThroughNorm.apply(values, super().forward(values))


@pytest.fixture(autouse=True)
def _small_networks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_LEAST", 0)


@pytest.fixture
def images() -> Images:
    return torch.randn(4, *SIZE, generator=torch.Generator().manual_seed(8))


def _wrapped(net: nn.Module, layer: str = "bn3") -> Classifier:
    return wrap(net.eval(), input_size=SIZE, head="softmax", layer=layer)


def _engine(model: Classifier, images: Images) -> Engine:
    made = prepared(model, images)
    assert isinstance(made.model, Engine), made.note
    return made.model


def _gradient(model: Classifier, images: Images, at: Layer | str = INPUT) -> Tensor:
    layers = [] if isinstance(at, str) else [at]
    return Tape(model, Batch(tuple("abcd"), images), layers=layers).gradient(Logit(), at)


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_it_gives_what_the_network_gives(images: Images) -> None:
    model = _wrapped(_Net())
    made = prepared(model, images)
    assert made.note == (
        "Passes run through a faster copy of the network, with 3 batch norms folded: it gives what the network gives "
        "on 4 images."
    )
    assert isinstance(made.model, Engine)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.model.fast.net.modules())
    assert not any(value.requires_grad for value in made.model.fast.net.parameters())
    assert made.model.net is model.net
    assert made.model.digest == model.digest
    assert made.model.in_double() is model.in_double()
    torch.testing.assert_close(made.model.logits(images), model.logits(images), rtol=1e-5, atol=1e-6)
    assert model.layer is not None
    for at in (INPUT, model.layer):
        assert _off(_gradient(made.model, images, at), _gradient(model, images, at)) < 1e-5


def test_patches_are_a_product_in_the_copy_and_no_layer_is_lost(images: Images) -> None:
    """As at the beginning of a vision transformer."""
    net = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    model = _wrapped(net, "0")
    made = prepared(model, images)
    assert "what convolutions make of patches as a product" in made.note
    assert isinstance(made.model, Engine)
    assert made.model.changed == frozenset()
    assert model.layer is not None
    for at in (INPUT, model.layer):
        assert _off(_gradient(made.model, images, at), _gradient(model, images, at)) < 1e-5


@pytest.mark.parametrize("name", methods.names())
def test_every_method_gives_the_same_maps(images: Images, name: str) -> None:
    """Whatever a method takes apart, intercepts or runs on; where there is no map, for the same reason."""
    model = _wrapped(_Net())
    engine = _engine(model, images)
    method, asked = methods.build(name), [scores.build("logit"), scores.build("log_odds")]
    before, after = (method.maps(Tape(one, Batch(tuple("abcd"), images)), asked) for one in (model, engine))
    for found, expected in zip(after, before, strict=True):
        if isinstance(expected, Tensor):
            assert isinstance(found, Tensor)
            assert _off(found, expected) < 1e-3
        else:
            assert found == expected


def test_the_given_network_is_left_alone(images: Images) -> None:
    net = _Net().train()
    before = copy.deepcopy(net.state_dict())
    model = _wrapped(net)
    net.train()
    versions = [value._version for value in net.state_dict().values()]
    prepared(model, images)
    assert all(module.training for module in net.modules())
    assert all(value.requires_grad and value.grad is None for value in net.parameters())
    assert [value._version for value in net.state_dict().values()] == versions
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.stem.weight.is_contiguous()
    assert not any(module._forward_hooks for module in net.modules())


def test_a_layer_of_the_network_that_is_another_in_the_copy_is_read_in_the_network(images: Images) -> None:
    model = _wrapped(_Net())
    engine = _engine(model, images)
    stem = Layer("stem", 0, "channels_first", (8, 16, 16))
    assert engine.changed == {"stem", "depthwise", "last"}
    assert torch.equal(_gradient(engine, images, stem), _gradient(model, images, stem))
    assert "stem" not in _engine_keeping(model, images, stem).changed


def _engine_keeping(model: Classifier, images: Images, layer: Layer) -> Engine:
    made = prepared(model, images, [layer]).model
    assert isinstance(made, Engine)
    return made


@pytest.mark.parametrize("attack", [CornerShift(strength=30), StopGradient(strength=30)])
@pytest.mark.parametrize("layer", ["bn3", "last"])
def test_a_manipulated_network_stays_manipulated(
    images: Images, attack: CornerShift | StopGradient, layer: str
) -> None:
    """Also where the manipulation reads the output of a convolution that could have been folded."""
    honest = _wrapped(_Net(), layer)
    twin = attack.twin(honest, images)
    engine = _engine(twin, images)
    assert _off(_gradient(engine, images), _gradient(twin, images)) < 1e-4
    assert _off(_gradient(engine, images), _gradient(honest, images)) > 0.3


def test_a_norm_with_a_gradient_of_its_own_keeps_it(images: Images) -> None:
    net = _Net()
    net.bn2 = _LyingNorm(8)
    model = _wrapped(net)
    engine = _engine(model, images)
    assert isinstance(engine.fast.net.get_submodule("bn2"), _LyingNorm)
    assert _off(_gradient(engine, images), _gradient(model, images)) < 1e-4


def test_hooks_of_the_user_stay(images: Images) -> None:
    """A hook that changes an output, and one that changes a gradient, act in the copy as in the network."""
    net = _Net()
    net.bn2.register_forward_hook(lambda _module, _inputs, output: 3 * output)
    net.head.register_full_backward_hook(lambda _module, inputs, _outputs: tuple(-one for one in inputs))
    model = _wrapped(net)
    engine = _engine(model, images)
    assert _off(_gradient(engine, images), _gradient(model, images)) < 1e-4


@pytest.mark.parametrize(
    ("net", "fault"),
    [
        (_Random, "its predictions are others"),
        (_Random, "its outputs are others"),
        (_ShyInValue, "its outputs are others"),
        (_ShyInSlope, "its maps are others"),
    ],
)
def test_a_copy_that_differs_is_dropped(images: Images, net: type[_Bent], fault: str) -> None:
    model = _wrapped(net(), "inner.bn3")
    if net is _Random:
        torch.manual_seed(0)
        model.net.inner.head.weight.data.mul_(50.0 if "outputs" in fault else 1e-3)
    made = prepared(model, images)
    assert made.model is model
    assert made.note == f"Passes run through the network as given: of a faster copy, {fault}."


def test_a_network_that_cannot_be_copied_is_used_as_given(images: Images) -> None:
    net = _Bent()
    net.lock = threading.Lock()
    model = _wrapped(net, "inner.bn3")
    made = prepared(model, images)
    assert made.model is model
    assert made.note.startswith("Passes run through the network as given: no copy of it could be made and checked (")
    assert "pickle" in made.note


def test_a_network_with_nothing_to_gain_is_used_as_given(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = wrap(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).eval(), input_size=SIZE, head="softmax")
    small = _wrapped(_Net())
    monkeypatch.undo()
    for model in (flat, small):
        assert prepared(model, images).model is model
        assert prepared(model, images).note == "Passes run through the network as given: a copy would gain nothing."


def test_an_engine_is_not_made_of_an_engine(images: Images) -> None:
    engine = _engine(_wrapped(_Net()), images)
    assert prepared(engine, images).model is engine


def test_a_copy_made_during_a_pass_holds_none_of_its_hooks(images: Images) -> None:
    model = _wrapped(_Net())
    assert model.layer is not None
    made: list[Engine] = []

    def edit(output: Tensor) -> Tensor:
        made.append(_engine(model, images))
        return output

    model.run(images, edits={model.layer: edit})
    assert not any(module._forward_hooks for module in made[0].fast.net.modules())


def test_two_threads_get_what_one_gets(images: Images) -> None:
    model = _wrapped(_Net())
    engine = _engine(model, images)
    batches = [images, images.flip(0), images.flip(2), images.flip(3)] * 3

    def gradient(batch: Images) -> Tensor:
        return Tape(engine, Batch(tuple("abcd"), batch)).gradient(LogOdds(), INPUT)

    alone = [gradient(batch) for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(gradient, batches))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.slow
def test_the_demo_network(lite0: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 49 batch norms of it, and the layer that maps are read at is a batch norm still."""
    monkeypatch.undo()
    images = torch.randn(4, *lite0.input_shape, generator=torch.Generator().manual_seed(9))
    engine = _engine(lite0, images)
    margins = {name for name in engine.changed if name.endswith("static_padding")}
    assert (len(engine.changed - margins), len(margins)) == (49, 12)
    assert lite0.layer is not None
    assert _off(_gradient(engine, images, lite0.layer), _gradient(lite0, images, lite0.layer)) < 1e-4
    assert _off(_gradient(engine, images), _gradient(lite0, images)) < 1e-2
