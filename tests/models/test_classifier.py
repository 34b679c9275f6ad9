"""A pass: what it keeps, what it changes on the way, how far gradients reach, and that nothing stays behind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from fukusen.errors import ModelError
from fukusen.models import Classifier, Head, Layer, wrap

SIZE = (3, 12, 12)


class _Net(nn.Module):
    """A stem, a middle and a head; the middle is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.act(self.stem(images))
        values = self.act(self.middle(values))
        values = self.act(self.middle(values))
        return self.head(values.mean((2, 3)))


@pytest.fixture
def model() -> Classifier:
    return wrap(_Net().eval(), input_size=SIZE, head="softmax")


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))


def _layer(name: str, call: int = 0) -> Layer:
    return Layer(name, call, "channels_first", (6, 12, 12))


def _hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_logits_are_the_networks(model: Classifier, images: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(model.logits(images), model.net(images))
    assert not model.logits(images).requires_grad


def test_nothing_is_reached(model: Classifier, images: Tensor) -> None:
    capture = model.run(images, [_layer("stem")])
    assert not capture.logits.requires_grad
    assert not capture.images.requires_grad
    torch.testing.assert_close(capture.outputs[_layer("stem")], model.net.stem(images).detach())


def test_the_layer_is_reached(model: Classifier, images: Tensor) -> None:
    layer = _layer("middle", 1)
    capture = model.run(images, [layer], "layer")
    (gradient,) = torch.autograd.grad(capture.logits[:, 1].sum(), [capture.outputs[layer]])
    seen = capture.outputs[layer].detach().requires_grad_()
    (expected,) = torch.autograd.grad(model.net.head(seen.relu().mean((2, 3)))[:, 1].sum(), [seen])
    torch.testing.assert_close(gradient, expected)
    assert not capture.images.requires_grad


def test_the_input_is_reached(model: Classifier, images: Tensor) -> None:
    layer = _layer("stem")
    capture = model.run(images, [layer], "input")
    gradients = torch.autograd.grad(capture.logits[:, 1].sum(), [capture.images, capture.outputs[layer]])
    leaf = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model.net(leaf)[:, 1].sum(), [leaf])
    torch.testing.assert_close(gradients[0], expected)
    assert gradients[1].abs().max() > 0
    assert all(value.grad is None for value in model.net.parameters())
    assert not images.requires_grad


def test_edits_replace_what_goes_on(model: Classifier, images: Tensor) -> None:
    layer = _layer("middle", 1)
    erased = model.run(images, edits={layer: torch.zeros_like}).logits
    torch.testing.assert_close(erased, model.net.head.bias.detach().expand(2, 3))
    both = model.run(images, [layer], "layer", edits={layer: lambda values: values * 2})
    plain = model.run(images, [layer])
    torch.testing.assert_close(both.outputs[layer].detach(), plain.outputs[layer] * 2)
    assert not torch.allclose(model.run(images, edits={_layer("middle"): torch.zeros_like}).logits, erased)


def test_an_edit_that_raises_leaves_no_hook(model: Classifier, images: Tensor) -> None:
    def failing(values: Tensor) -> Tensor:
        raise ArithmeticError("edit")

    with pytest.raises(ArithmeticError, match="edit"):
        model.run(images, [_layer("stem")], "layer", edits={_layer("middle"): failing})
    assert _hooks(model.net) == 0
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (_layer("middle", 2), "The forward pass did not reach middle#2, where it was to be read."),
        (_layer("nowhere"), "The network has no layer 'nowhere'."),
    ],
)
def test_a_layer_that_is_not_met(model: Classifier, images: Tensor, layer: Layer, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        model.run(images, [layer])
    assert str(caught.value) == message
    assert _hooks(model.net) == 0


def test_our_hooks_run_before_the_networks_own(images: Tensor) -> None:
    """What else listens to the layer is fed from the tensor that gradients are taken at."""
    net = _Net().eval()
    heard: list[Tensor] = []
    net.stem.register_forward_hook(lambda _module, _inputs, output: heard.append(output.clone()))
    model = wrap(net, input_size=SIZE, head="softmax")
    capture = model.run(images, [_layer("stem")], "layer")
    (gradient,) = torch.autograd.grad(heard[-1].sum(), [capture.outputs[_layer("stem")]])
    assert torch.equal(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("reach", ["nothing", "input"])
def test_the_callers_images_are_not_changed(images: Tensor, reach: str) -> None:
    class Normalising(_Net):
        def forward(self, images: Tensor) -> Tensor:
            images -= 0.5
            return super().forward(images)

    before = images.clone()
    model = wrap(Normalising().eval(), input_size=SIZE, head="softmax")
    capture = model.run(images, reach=reach)  # type: ignore[arg-type]
    assert torch.equal(images, before)
    assert torch.equal(capture.images.detach(), before)


def test_another_threads_pass_is_not_captured(images: Tensor) -> None:
    """A second thread runs the network from within the first one's pass; its activations are not taken for ours."""
    net = _Net().eval()
    model = wrap(net, input_size=SIZE, head="softmax")
    other = torch.zeros(5, *SIZE)

    def meanwhile(_module: nn.Module, _inputs: object) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: net(other))
            thread.start()
            thread.join()

    handle = net.stem.register_forward_pre_hook(meanwhile)
    capture = model.run(images, [_layer("stem"), _layer("middle", 1)])
    handle.remove()
    assert all(len(output) == 2 for output in capture.outputs.values())


def test_many_threads_agree_with_one(images: Tensor) -> None:
    model = wrap(_Net().train(), input_size=SIZE, head="softmax")
    layer = _layer("middle", 1)
    expected = model.run(images, [layer]).outputs[layer]
    wrong: list[int] = []

    def work(seed: int) -> None:
        outputs = (model.run(images, [layer], "layer").outputs[layer].detach() for _ in range(20))
        wrong.extend(seed for output in outputs if not torch.equal(output, expected))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert _hooks(model.net) == 0
    assert all(module.training for module in model.net.modules())


def test_probabilities() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4]])
    softmax = wrap(_Net(), input_size=SIZE, head="softmax")
    sigmoid = wrap(_Net(), input_size=SIZE, head="sigmoid")
    assert softmax.probabilities(logits).tolist() == [[1.0, 0.0, 0.0]]
    assert sigmoid.probabilities(logits).tolist() == [[1.0, 0.5, 0.0]]
    assert softmax.probabilities(logits).dtype == torch.float64


def test_the_twin_in_double_agrees_and_shares_nothing(model: Classifier, images: Tensor) -> None:
    twin = model.in_double()
    assert twin is model.in_double()
    assert (twin.dtype, twin.layer, twin.head) == (torch.float64, model.layer, model.head)
    torch.testing.assert_close(twin.logits(images).float(), model.logits(images), rtol=0, atol=1e-4)
    before = twin.logits(images)
    with torch.no_grad():
        model.net.head.weight.zero_()
    assert torch.equal(twin.logits(images), before)
    assert model.dtype == torch.float32


def test_a_network_without_weights() -> None:
    class Colours(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    model = wrap(Colours(), input_size=SIZE)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.layer is None
    assert model.head == Head("softmax", assumed=True)
