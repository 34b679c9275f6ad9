"""LRP's composites and its rules for what has no weights, slowly, as the literature writes them; and zennit's."""

from __future__ import annotations

import copy
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
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import scores
from fukusen.tape import Tape

pytest.importorskip("zennit", reason="zennit is not installed")

SIDE, CLASSES = 5, 4
TARGETS = (2, 0)
NAMES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
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


def _matrix(layer: Callable[[Tensor], Tensor], below: Tensor) -> Tensor:
    above = layer(below)
    return torch.autograd.functional.jacobian(layer, below).reshape(above.numel(), below.numel())


def _stable(value: Tensor) -> Tensor:
    return value + torch.where(value >= 0, 1e-6, -1e-6)


def _shared(terms: Tensor, above: Tensor) -> Tensor:
    """sum_j terms_ij / (sum_i terms_ij + eps sign) R_j, output by output; terms: (outputs, inputs)."""
    found = torch.zeros_like(terms[0])
    for row, relevance in zip(terms, above, strict=True):
        found += row / _stable(row.sum()) * relevance
    return found


def _epsilon(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
    return _shared(matrix * below, above)


def _z_plus(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
    return _shared((matrix * below).clamp_min(0), above)


def _alpha_beta(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Bach et al., eq. 60: twice the positive shares less once the negative ones."""
    terms = matrix * below
    return 2 * _shared(terms.clamp_min(0), above) - _shared(terms.clamp_max(0), above)


def _gamma(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Montavon et al.: w + 0.25 w+; for outputs below zero the same of the negative contributions."""
    positive, negative = matrix.clamp_min(0), matrix.clamp_max(0)
    high, low = below.clamp_min(0), below.clamp_max(0)
    favour = high * (matrix + 0.25 * positive) + low * (matrix + 0.25 * negative)
    against = high * (matrix + 0.25 * negative) + low * (matrix + 0.25 * positive)
    outputs = (matrix * below).sum(dim=1)
    return _shared(torch.where(outputs[:, None] > 0, favour, against), above)


def _flat(matrix: Tensor, _below: Tensor, above: Tensor) -> Tensor:
    return _shared((matrix != 0).to(matrix), above)


def _z_box(low: float, high: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Montavon et al.: x w - low w+ - high w-."""

    def rule(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
        return _shared(below * matrix - low * matrix.clamp_min(0) - high * matrix.clamp_max(0), above)

    return rule


BOX = (-4.0, 5.0)
RULES = {
    "epsilon_plus_flat": (_flat, _z_plus),
    "epsilon_gamma_box": (_z_box(*BOX), _gamma),
    "alpha2_beta1": (_flat, _alpha_beta),
}


def _preprocess(picture: Image.Image) -> Tensor:
    """Black becomes -4 and white 5, in both channels."""
    level = torch.from_numpy(np.asarray(picture.convert("L").resize((SIDE, SIDE)), dtype=np.float64))
    low, high = BOX
    return (low + (high - low) * level / 255).reshape(1, SIDE, SIDE).repeat(2, 1, 1)


def _start(name: str, z: Tensor, c: int) -> Tensor:
    p, unit = z.softmax(dim=0), torch.eye(CLASSES, dtype=torch.float64)[c]
    starts = {
        "logit": unit,
        "centered_logit": unit - 1 / CLASSES,
        "log_odds": (unit - p) / (1 - p[c]),
        "log_probability": unit - p,
        "probability": p[c] * (unit - p),
    }
    return starts[name]


Middle = Callable[[Tensor, Tensor], Tensor]


def _slow(model: Classifier, name: str, composite: str, middle: Middle = lambda _below, above: above) -> Tensor:
    """Layer by layer; ``middle`` hands relevance back from behind the network's middle to before it."""
    first, inner = RULES[composite]
    net, found = model.net, []
    for image, target in zip(_tape(model).batch.images, TARGETS, strict=True):
        with torch.no_grad():
            below1 = F.relu(net.conv0(image[None]))
            before = net.conv1(below1)
            after = net.middle(before)
            pooled = after.mean(dim=(2, 3))
            logits = net.head(pooled)[0]
        at_pool = _epsilon(net.head.weight.detach(), pooled[0], _start(name, logits, target))
        spread = torch.kron(torch.eye(4, dtype=torch.float64), torch.full((1, SIDE * SIDE), 1 / SIDE**2)).double()
        at_middle = _epsilon(spread, after.flatten(), at_pool)
        at_conv1 = middle(before, at_middle)
        at_below1 = inner(_matrix(net.conv1, below1), below1.flatten(), at_conv1)
        at_image = first(_matrix(net.conv0, image[None]), image.flatten(), at_below1)
        found.append(at_image.reshape(2, SIDE, SIDE).sum(dim=0))
    return torch.stack(found)


def _assert_same(found: Tensor, expected: Tensor, relative: float = 1e-6) -> None:
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("composite", COMPOSITES)
def test_each_composite_is_its_rules(composite: str, name: str) -> None:
    """Rule by rule, output by output; the box is what black and white become."""
    model = _model(_Plain(), preprocess=_preprocess)
    _assert_same(_maps(model, name, composite), _slow(model, name, composite))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_each_composite_is_zennits(composite: str) -> None:
    """On modules in the order in which they are used, biases left out; see below for gamma's."""
    composites = pytest.importorskip("zennit.composites")
    attribution = pytest.importorskip("zennit.attribution")
    front = [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU()]
    model = _model(nn.Sequential(*front, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)))
    if composite == "epsilon_gamma_box":
        nn.init.zeros_(model.net[3].bias)
    images = _tape(model).batch.images
    low, high = (end(dim=(2, 3), keepdim=True).expand_as(images) for end in (images.amin, images.amax))
    peer = {
        "epsilon_plus_flat": composites.EpsilonPlusFlat,
        "epsilon_gamma_box": lambda **more: composites.EpsilonGammaBox(low=low, high=high, **more),
        "alpha2_beta1": composites.EpsilonAlpha2Beta1Flat,
    }[composite](zero_params=["bias"])
    start = torch.eye(CLASSES, dtype=torch.float64)[list(TARGETS)]
    with attribution.Gradient(copy.deepcopy(model.net), peer) as attributor:
        _, expected = attributor(images, start)
    _assert_same(_maps(model, composite=composite), expected.sum(dim=1), 1e-4)


def _gamma_relevance(layer: nn.Conv2d, image: Tensor, rule: Any) -> Tensor:
    """What one layer under one rule hands back of relevance 1 at each of its outputs."""
    core = pytest.importorskip("zennit.core")
    with core.Composite(module_map=lambda _context, _name, _module: rule).context(layer):
        leaf = image.clone().requires_grad_()
        output = layer(leaf)
        (found,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
    return found


def test_zennits_gamma_rule_does_not_conserve_relevance_without_biases() -> None:
    """It takes the sign with the bias and the sum without; ours takes both without, and loses nothing."""
    rules = pytest.importorskip("zennit.rules")
    layer = nn.Conv2d(2, 1, 1).double().requires_grad_(False)
    layer.weight.copy_(torch.tensor([9.8, -12.2502]).reshape(1, 2, 1, 1))
    layer.bias.fill_(3.0)
    image = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    # The output is 0.55 and the sum -2.45; with a quarter of its positive part more, that sum is -0.0002.
    peer = _gamma_relevance(layer, image, rules.Gamma(gamma=0.25, zero_params=["bias"]))
    assert float(peer.abs().sum()) > 100
    ours = Lrp(composite="epsilon_gamma_box")._rules(_model(_Plain()), image)["inner"]
    found = _gamma_relevance(layer, image, ours)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert float(found.abs().sum()) < 5


ONE_TO_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": lambda x: F.relu6(3 * x),
    "silu": F.silu,
    "silu in place": lambda x: F.silu(x, inplace=True),
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "gelu": F.gelu,
    "hardswish": nn.Hardswish(inplace=True),
    "scaled and shifted": lambda x: (x - 0.3) / 2 + 0.1,
    "square": lambda x: x**2,
}


@pytest.mark.parametrize("name", ["logit", "log_odds"])
@pytest.mark.parametrize("middle", ONE_TO_ONE)
def test_relevance_goes_whole_through_what_has_one_input(middle: str, name: str) -> None:
    """Be it a module, a function or arithmetic; the derivative has no part in it."""
    model = _model(_Plain(ONE_TO_ONE[middle]))
    _assert_same(_maps(model, name), _slow(model, name, "epsilon_plus_flat"))


class _Squeezed(_Plain):
    """Squeeze and excitation: a signal times what its own mean says."""

    def __init__(self) -> None:
        super().__init__(self.excited)
        self.squeeze, self.excite = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def excited(self, x: Tensor) -> Tensor:
        return self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))).sigmoid() * x


@pytest.mark.parametrize("name", ["logit", "log_odds"])
def test_a_gate_is_given_nothing(name: str) -> None:
    """Arras et al.: of a gate times a signal, the signal takes all."""
    model = _model(_Squeezed())
    _assert_same(_maps(model, name), _slow(model, name, "epsilon_plus_flat"))


class _Normed(_Plain):
    """A layer norm over the channels, and a scale of the layer's own, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__(self.normed)
        self.norm, self.scale = nn.LayerNorm(4), nn.Parameter(torch.ones(4, 1, 1))

    def normed(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * self.scale


def _centred(below: Tensor, above: Tensor) -> Tensor:
    """Ali et al.: R_i = sum_j (d_ij - 1/n) x_i / sum_i (d_ij - 1/n) x_i R_j, cell by cell."""
    matrix = torch.eye(4, dtype=torch.float64) - 0.25
    found = torch.zeros(4, SIDE * SIDE, dtype=torch.float64)
    cells, relevance = below.reshape(4, -1), above.reshape(4, -1)
    for cell in range(SIDE * SIDE):
        found[:, cell] = _epsilon(matrix, cells[:, cell], relevance[:, cell])
    return found.flatten()


@pytest.mark.parametrize("name", ["logit", "log_odds"])
def test_a_layer_norm_shares_by_its_centring(name: str) -> None:
    """With its deviation as a constant."""
    model = _model(_Normed())
    _assert_same(_maps(model, name), _slow(model, name, "epsilon_plus_flat", _centred))


class _Shifting(nn.Module):
    """A network whose logits are centred, heated or shifted by a number of the image's own."""

    def __init__(self, net: nn.Module, done: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.done = net, done

    def forward(self, x: Tensor) -> Tensor:
        return self.done(self.net(x), x)


def _shift(x: Tensor) -> Tensor:
    return 9 * x.square().sum(dim=(1, 2, 3))[:, None]


DONE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "shifted": lambda z, x: z + _shift(x),
    "shifted class by class": lambda z, x: z + _shift(x).expand_as(z).clone(),
    "shifted backwards": lambda z, x: z - _shift(x),
    "centred": lambda z, _x: z - z.mean(dim=1, keepdim=True),
    "softmax": lambda z, _x: z.softmax(dim=1),
}


@pytest.mark.parametrize("name", ["centered_logit", "log_odds", "probability"])
@pytest.mark.parametrize("done", DONE)
def test_what_is_done_to_all_logits_is_not_seen(done: str, name: str) -> None:
    """By a score without leak: the chain rule holds for logits, and the rules begin before them."""
    torch.manual_seed(0)
    plain = _model(_Plain())
    changed = wrap(_Shifting(copy.deepcopy(plain.net), DONE[done]).eval(), input_size=(2, SIDE, SIDE))
    _assert_same(_maps(changed, name), _maps(plain, name), 1e-6)


def test_a_centred_network_has_the_centred_map() -> None:
    """As its logit, and a network that puts out probabilities of labels has the map of the one that puts out logits."""
    plain = _model(_Plain())
    centred = wrap(_Shifting(copy.deepcopy(plain.net), DONE["centred"]).eval(), input_size=(2, SIDE, SIDE))
    _assert_same(_maps(centred, "logit"), _maps(plain, "centered_logit"))
    labels = wrap(plain.net, input_size=(2, SIDE, SIDE), head="sigmoid")
    net = _Shifting(copy.deepcopy(plain.net), lambda z, _x: z.sigmoid()).eval()
    told = wrap(net, input_size=(2, SIDE, SIDE), head="sigmoid_probabilities")
    _assert_same(_maps(told, "logit"), _maps(labels, "logit"))
