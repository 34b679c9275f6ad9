"""What every registered method keeps to on any network of a kind: hidden channels have no order, linear maps add up."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fukusen.arrays import Batch, Images, Maps
from fukusen.methods import Method, is_class_agnostic, leak_share, methods
from fukusen.models import wrap
from fukusen.records import Spec, Undefined
from fukusen.scores import ByFormula, Score, scores, shift_leak
from fukusen.tape import Tape

SIDE = 10
CHEAP = {
    "integrated_gradients": Spec.of("integrated_gradients", steps=3),
    "smooth_grad": Spec.of("smooth_grad", samples=2),
    "expected_gradients": Spec.of("expected_gradients", samples=2),
    "occlusion": Spec.of("occlusion", grid=2),
    "sliding_occlusion": Spec.of("sliding_occlusion", size=5, stride=5),
    "rise": Spec.of("rise", masks=8),
    "lime": Spec.of("lime", samples=8, segments=4),
    "kernel_shap": Spec.of("kernel_shap", samples=8, segments=4),
    "rsi_grad_cam": Spec.of("rsi_grad_cam", steps=2),
}
METHODS: dict[str, Method] = {name: methods.build(CHEAP.get(name, name)) for name in methods.names()}
SCORES: dict[str, Score] = {name: scores.build(name) for name in scores.names()}
# Why a sum of two scores has another map than the sum of their maps; every other method is linear in the score.
NOT_LINEAR = {
    "grad_cam_plus_plus": "only positive gradients count, each with a weight that depends on its size",
    "layer_cam": "only positive gradients count",
    "eigen_grad_cam": "a singular vector is no linear function of its matrix",
    "guided_backprop": "what is negative on its way back is cut off at each ReLU",
    "guided_grad_cam": "what is negative on its way back is cut off at each ReLU",
    "score_cam": "its weights are a softmax over the channels",
    "attention_relevance": "only positive products of gradient and attention count",
}
LINEAR = [name for name, method in METHODS.items() if name not in NOT_LINEAR and not is_class_agnostic(method)]
LAYERS = ("first.0", "first.1", "second.0", "second.1")

few = settings(max_examples=4)


def _each(names: Sequence[str]) -> pytest.MarkDecorator:
    """Methods with passes of their own are for the slow suite."""
    slow = [pytest.mark.slow]
    found = [pytest.param(name, marks=[] if METHODS[name].single_pass else slow) for name in names]
    return pytest.mark.parametrize("method", found)


each_method = _each(list(METHODS))


class _Net(nn.Module):
    """Two blocks of a convolution, a batch norm, a ReLU and a pooling, and a linear head on the cells or their mean."""

    def __init__(self, seed: int, widths: tuple[int, int], classes: int, *, pooled: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        one, two = widths
        pool = nn.MaxPool2d(2) if seed % 2 else nn.AvgPool2d(2)
        self.first = nn.Sequential(nn.Conv2d(3, one, 3, padding=1), nn.BatchNorm2d(one), nn.ReLU(inplace=True), pool)
        self.second = nn.Sequential(nn.Conv2d(one, two, 3, bias=False), nn.BatchNorm2d(two), nn.ReLU())
        self.cells = 1 if pooled else 3
        self.pool = nn.AdaptiveAvgPool2d(self.cells)
        self.head = nn.Linear(two * self.cells**2, classes)
        for norm in (self.first[1], self.second[1]):
            for value, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -0.3, 0.3), (norm.running_mean, -0.3, 0.3)):
                nn.init.uniform_(value, low, high)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.second(self.first(images))).flatten(1))


class _Shifted(nn.Module):
    """The network with a number that follows from the image and its insides added to every logit."""

    def __init__(self, net: _Net, strength: float) -> None:
        super().__init__()
        self.net, self.strength = net, strength

    def forward(self, images: Tensor) -> Tensor:
        inside = self.net.second(self.net.first(images))
        logits = self.net.head(self.net.pool(inside).flatten(1))
        shift = images[:, 0, ::3].square().mean(dim=(1, 2)) + inside[:, 0, 0, 0]
        return logits + self.strength * shift[:, None]


@dataclass(frozen=True)
class MeanLogit(ByFormula):
    """The common mode: what all logits have in common and softmax cannot see."""

    name: ClassVar[str] = "mean_logit"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = "the mean of all logits"

    def formula(self, z: Tensor, _c: Tensor) -> Tensor:
        return z.mean(dim=1)


@st.composite
def _nets(draw: st.DrawFn) -> tuple[_Net, str]:
    """A network in double precision, and the layer at which it is read."""
    seed, widths = draw(st.integers(0, 2**20)), (draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    net = _Net(seed, widths, draw(st.integers(2, 5)), pooled=draw(st.booleans()))
    return net.double().eval(), draw(st.sampled_from(LAYERS))


def _permuted(net: _Net, orders: tuple[Tensor, Tensor]) -> _Net:
    """The same function with the channels of both blocks in another order."""
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for block, order in zip((twin.first, twin.second), orders, strict=True):
            held = (block[0].weight, block[0].bias, block[1].weight, block[1].bias)
            for value in (*held, block[1].running_mean, block[1].running_var):
                if value is not None:
                    value.copy_(value[order])
        twin.second[0].weight.copy_(twin.second[0].weight[:, orders[0]])
        columns = torch.arange(twin.head.in_features).reshape(len(orders[1]), -1)[orders[1]].flatten()
        twin.head.weight.copy_(twin.head.weight[:, columns])
    return twin


def _images() -> Images:
    return torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def _maps(net: nn.Module, layer: str, method: str, asked: Sequence[Score]) -> list[Maps] | Undefined:
    model = wrap(net, input_size=(3, SIDE, SIDE), head="softmax", layer=layer)
    found = METHODS[method].maps(Tape(model, Batch(("a", "b"), _images(), torch.tensor([1, 0]))), asked)
    lacking = [maps for maps in found if isinstance(maps, Undefined)]
    assert not lacking or lacking == found
    return lacking[0] if lacking else [maps for maps in found if isinstance(maps, Tensor)]


def _near(found: Maps, expected: Maps, size: float) -> bool:
    return float((found - expected).abs().max()) <= 1e-7 * size + 1e-14


@each_method
@few
@given(drawn=_nets(), chance=st.randoms(use_true_random=False))
def test_hidden_channels_have_no_order(method: str, drawn: tuple[_Net, str], chance: object) -> None:
    """The same function with its channels renamed has the same maps, also where the renamed layer is the one read."""
    net, layer = drawn
    widths = (net.first[0].out_channels, net.second[0].out_channels)
    orders = tuple(torch.tensor(chance.sample(range(width), width)) for width in widths)  # type: ignore[attr-defined]
    twin = _permuted(net, orders)  # type: ignore[arg-type]
    torch.testing.assert_close(twin(_images()), net(_images()), rtol=1e-12, atol=1e-12)
    before, after = (_maps(one, layer, method, list(SCORES.values())) for one in (net, twin))
    if isinstance(before, Undefined) or isinstance(after, Undefined):
        assert before == after
        return
    for found, expected in zip(after, before, strict=True):
        assert _near(found, expected, float(expected.abs().max()))


@_each(LINEAR)
@few
@given(drawn=_nets())
def test_centred_logit_and_common_mode_make_the_logit(method: str, drawn: tuple[_Net, str]) -> None:
    """Of a method that is linear in the score, map by map."""
    net, layer = drawn
    made = _maps(net, layer, method, [SCORES["logit"], SCORES["centered_logit"], MeanLogit()])
    if isinstance(made, Undefined):
        assert METHODS[method].family == "attention"
        return
    whole, telling, common = made
    assert _near(telling + common, whole, max(float(maps.abs().max()) for maps in made))


@_each(list(NOT_LINEAR))
def test_the_others_are_not_linear(method: str) -> None:
    """So that nothing is left out of the test above that belongs there."""
    asked = [SCORES["logit"], SCORES["centered_logit"], MeanLogit()]
    off = []
    for seed in (2, 3):
        made = _maps(_Net(seed, (5, 6), 4, pooled=False).double().eval(), "second.1", method, asked)
        if isinstance(made, Undefined):
            assert METHODS[method].family == "attention"
            return
        whole, telling, common = made
        off.append(not _near(telling + common, whole, max(float(maps.abs().max()) for maps in made)))
    assert any(off)


@each_method
@few
@given(drawn=_nets(), strength=st.sampled_from([1e-2, 1.0, 1e2, 1e4]))
def test_no_shift_enters_a_score_that_is_blind_to_it(method: str, drawn: tuple[_Net, str], strength: float) -> None:
    """However large t(x) is, in every score without a leak, and in all scores where the method cancels the leak."""
    net, layer = drawn
    blind = [one for one in SCORES.values() if leak_share(METHODS[method]) == 0 or not _leaks(one)]
    before = _maps(net, layer, method, blind)
    after = _maps(_Shifted(net, strength).eval(), f"net.{layer}", method, blind)
    # A step that is not a layer has no rule in some methods: there is no map then, rather than a wrong one.
    if isinstance(before, Undefined) or isinstance(after, Undefined):
        assert isinstance(after, Undefined)
        return
    for found, expected in zip(after, before, strict=True):
        # What rounding makes of a logit of this size is all that may be left of the shift.
        assert _near(found, expected, float(expected.abs().max()) * max(1.0, strength / 100))


def _leaks(score: Score) -> bool:
    logits = torch.tensor([[0.3, 1.0, -2.0]], dtype=torch.float64)
    return bool(shift_leak(score, logits, torch.tensor([1])).abs().max() > 0)
