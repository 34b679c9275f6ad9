"""What LRP refuses, where its first layer is, and its copies of a network: made once, anew, and for each thread."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows

from fukusen.arrays import Batch
from fukusen.methods import Lrp
from fukusen.methods.canonizing import Prepared, prepared
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import scores
from fukusen.tape import Tape

pytest.importorskip("zennit", reason="zennit is not installed")

SIDE, CLASSES = 5, 4
TARGETS = (2, 0)
COMPOSITES = ("epsilon_plus_flat", "epsilon_gamma_box", "alpha2_beta1")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Plain(nn.Module):
    """Three convolutions, a middle that a test chooses, mean pooling and a linear head."""

    def __init__(self, middle: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.head, self.middle = nn.Linear(4, CLASSES), middle

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.conv1(F.relu(self.conv0(x))))
        return self.head(x.mean(dim=(2, 3)))


def _double(net: nn.Module) -> nn.Module:
    torch.manual_seed(12)
    for value in net.parameters():
        nn.init.normal_(value, std=0.5)
    return net.double().eval()


def _model(net: nn.Module, **more: Any) -> Classifier:
    return wrap(_double(net), input_size=(2, SIDE, SIDE), **more)


def _tape(model: Classifier) -> Tape:
    images = torch.randn(2, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return Tape(model, Batch(("a", "b"), images.to(model.dtype), torch.tensor(TARGETS)))


def _maps(model: Classifier, name: str = "logit", composite: str = "epsilon_plus_flat") -> Tensor:
    (found,) = Lrp(composite=composite).maps(_tape(model), [scores.build(name)])
    assert isinstance(found, Tensor), found
    return found


def _reason(model: Classifier) -> str:
    (found,) = Lrp().maps(_tape(model), [scores.build("logit")])
    assert isinstance(found, Undefined)
    return found.reason


BOX = (-4.0, 5.0)


def _preprocess(picture: Image.Image) -> Tensor:
    """Black becomes -4 and white 5, in both channels."""
    level = torch.from_numpy(np.asarray(picture.convert("L").resize((SIDE, SIDE)), dtype=np.float64))
    low, high = BOX
    return (low + (high - low) * level / 255).reshape(1, SIDE, SIDE).repeat(2, 1, 1)


def _assert_same(found: Tensor, expected: Tensor, relative: float = 1e-6) -> None:
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


class _Squeezed(_Plain):
    """Squeeze and excitation: a signal times what its own mean says."""

    def __init__(self) -> None:
        super().__init__(self.excited)
        self.squeeze, self.excite = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def excited(self, x: Tensor) -> Tensor:
        return self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))).sigmoid() * x


class _Standard(nn.Conv2d):
    """A convolution that standardises its weights first, so that it is not linear in them."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std(dim=(1, 2, 3), keepdim=True), self.bias, padding=1)


class _Padded(nn.Conv2d):
    """A convolution that pads by itself: linear, and as good as any."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias)


def _with_conv1(kind: type[nn.Conv2d]) -> nn.Module:
    net = _Plain()
    net.conv1 = kind(3, 4, 3)
    return net


class _Loose(_Plain):
    """Weights that no layer holds."""

    def __init__(self, weigh: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(self.weighed)
        self.loose, self.weigh = nn.Parameter(torch.ones(4, 4, 1, 1)), weigh

    def weighed(self, x: Tensor) -> Tensor:
        return self.weigh(x, self.loose)


def _parametrized() -> nn.Module:
    net = _Plain()
    nn.utils.parametrizations.weight_norm(net.conv1)
    return net


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "standardised": (lambda: _with_conv1(_Standard), "no rule for layers of the kind _Standard"),
    "loose convolution": (lambda: _Loose(F.conv2d), "no rule for layers of the kind conv2d"),
    "loose product": (
        lambda: _Loose(lambda x, w: torch.einsum("bchw,kc->bkhw", x, w[:, :, 0, 0])),
        "no rule for layers of the kind einsum",
    ),
    "two signals": (lambda: _Plain(lambda x: x * x.mean(dim=1, keepdim=True)), "no rule for steps of the kind Mul"),
    "difference": (lambda: _Plain(lambda x: x - x.flip(2)), "no rule for steps of the kind"),
    "softmax": (lambda: _Plain(lambda x: x.softmax(dim=1)), "no rule for steps of the kind Softmax"),
    "weighted sum": (lambda: _Plain(lambda x: torch.add(x, x.relu(), alpha=2)), "no rule for steps of the kind Add"),
    "parametrized": (_parametrized, "no rule for layers of the kind"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_without_a_rule_is_refused(kind: str) -> None:
    """Nothing passes under a rule that is not its own, which a peer's map would do in silence."""
    make, reason = REFUSED[kind]
    torch.manual_seed(12)
    assert reason in _reason(wrap(make().double().eval(), input_size=(2, SIDE, SIDE), head="softmax"))


def test_a_layer_that_pads_by_itself_is_a_layer() -> None:
    """The same map as from torch's own."""
    _assert_same(_maps(_model(_with_conv1(_Padded))), _maps(_model(_Plain())))


class _Backwards(_Plain):
    """Layers that are named in another order than they are used in."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("conv0", "conv1", "head"):
            self._modules[name] = self._modules.pop(name)
        self._modules = dict(reversed(self._modules.items()))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_first_layer_is_the_one_that_sees_the_image(composite: str) -> None:
    """Not the one that is named first, as zennit has it."""
    model = _model(_Plain(), preprocess=_preprocess)
    net = _Backwards().double().eval()
    assert next(name for name, _ in net.named_children()) != "conv0"
    net.load_state_dict(model.net.state_dict())
    other = wrap(net, input_size=(2, SIDE, SIDE), preprocess=_preprocess)
    _assert_same(_maps(other, composite=composite), _maps(model, composite=composite), 1e-12)


def test_the_box_needs_the_image_itself() -> None:
    """Behind a scaling it would be the box of something else."""
    torch.manual_seed(12)
    net = nn.Sequential(nn.BatchNorm2d(2, affine=False), _Plain()).double().eval()
    net[0].running_var.fill_(4.0)
    model = wrap(net, input_size=(2, SIDE, SIDE))
    (found,) = Lrp(composite="epsilon_gamma_box").maps(_tape(model), [scores.build("logit")])
    assert found == Undefined("the box rule needs a first layer that sees the image as it is, without scaling")


class _Cancelling(_Plain):
    """Two branches that are each other's negatives but for a hundred-millionth."""

    def __init__(self) -> None:
        super().__init__(self.cancelled)
        self.plus, self.minus = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def cancelled(self, x: Tensor) -> Tensor:
        return self.plus(x) + self.minus(x)


def test_an_explosion_is_no_map() -> None:
    """Each branch is given a hundred million times what there is to share."""
    net = _double(_Cancelling())
    with torch.no_grad():
        net.plus.weight.mul_(1e6)
        net.minus.weight.copy_((1e-8 - 1) * net.plus.weight)
        net.plus.bias.zero_()
        net.minus.bias.zero_()
    model = wrap(net, input_size=(2, SIDE, SIDE), head="softmax")
    assert "relevance explodes: its mass grows" in _reason(model)


def _copies(model: Classifier) -> Prepared:
    with prepared(model.net, _tape(model).batch.images) as ready:
        assert isinstance(ready, Prepared)
        return ready


def _turn(net: Any) -> None:
    with torch.no_grad():
        net.conv1.weight.mul_(-1)


def _turn_unseen(net: Any) -> None:
    net.conv0.weight.data.mul_(-1)


def _replace(net: Any) -> None:
    net.act = nn.Softplus()


@pytest.mark.parametrize("change", [_turn, _turn_unseen, _replace])
def test_a_copy_is_made_once_and_again_when_the_network_changes(change: Callable[[Any], None]) -> None:
    """In its weights, with or without a new version of them, or in its parts."""
    model = _model(_Modular())
    before = _maps(model)
    assert _copies(model) is _copies(model)
    change(model.net)
    fresh = wrap(copy.deepcopy(model.net), input_size=(2, SIDE, SIDE), head="softmax")
    assert torch.equal(_maps(model), _maps(fresh))
    assert not torch.equal(_maps(model), before)


class _Modular(_Plain):
    """The middle as a module that can be replaced."""

    def __init__(self) -> None:
        super().__init__(self.acted)
        self.act = nn.ReLU()

    def acted(self, x: Tensor) -> Tensor:
        return self.act(x)


def test_two_threads_propagate_at_once() -> None:
    """Each with a copy of its own."""
    model = _model(_Squeezed())
    expected = [_maps(model, composite=composite) for composite in COMPOSITES[::2]]
    wrong: list[int] = []

    def work(number: int) -> None:
        found = [_maps(model, composite=COMPOSITES[2 * number]) for _ in range(6)]
        wrong.extend(number for one in found if not torch.equal(one, expected[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
