"""FullGrad again, slowly, with every bias written out; and that input and biases are the whole score."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from fukusen.arrays import Batch, Maps
from fukusen.methods import FullGrad, InputXGradient
from fukusen.methods.full_grad import spread
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import CenteredLogit, Logit, LogOdds, scores
from fukusen.tape import Tape

NAIVE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "logit": lambda z, c: z[c],
    "centered_logit": lambda z, c: z[c] - z.mean(),
    "log_odds": lambda z, c: z[c] - torch.cat([z[:c], z[c + 1 :]]).logsumexp(dim=0),
    "log_probability": lambda z, c: z.log_softmax(dim=0)[c],
    "probability": lambda z, c: z.softmax(dim=0)[c],
}
TARGETS = (1, 3)
SIDE, CLASSES = 8, 5
ALL = [scores.build(name) for name in NAIVE]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _images(seed: int = 42) -> Tensor:
    return 2 * torch.randn(2, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _tape(net: nn.Module, images: Tensor | None = None, **said: Any) -> Tape:
    model = wrap(net.double().eval(), input_size=(2, SIDE, SIDE), **{"head": "softmax"} | said)
    return Tape(model, Batch(("a", "b"), _images() if images is None else images, torch.tensor(TARGETS)))


def _shaken(net: nn.Module) -> nn.Module:
    """With statistics and biases that are not what they were born as."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.3, 1.2)
        if isinstance(getattr(module, "bias", None), Tensor):
            nn.init.normal_(module.bias, std=0.5)
    return net


class _Known(nn.Module):
    """A convolution with a bias, batch norms with and without weights, ReLU, ReLU6, pooling and a head with a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(41)
        self.conv0, self.norm0 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv1, self.norm1 = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(6, CLASSES)
        _shaken(self)

    def forward(self, x: Tensor) -> Tensor:
        first = functional.relu6(3 * self.norm0(self.conv0(x)))
        second = functional.relu(self.norm1(self.conv1(self.pool(first))), inplace=True)
        return self.head(second.mean(dim=(2, 3)))


def _bias_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Slope and height of a batch norm that no longer learns."""
    weight = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight
    shift = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias
    slope = weight / (norm.running_var + norm.eps).sqrt()
    return slope[:, None, None], (shift - slope * norm.running_mean)[:, None, None]


def _enlarged(part: Tensor) -> Tensor:
    """Each cell spread over the pixels whose bilinear reading would look at it, in the proportion of that look."""
    rows, columns = part.shape

    def look(cells: int, pixel: int) -> dict[int, float]:
        place = min(max((pixel + 0.5) * cells / SIDE - 0.5, 0.0), cells - 1.0)
        low = min(int(place), cells - 1)
        high = min(low + 1, cells - 1)
        found = {low: 1 - (place - low)}
        found[high] = found.get(high, 0.0) + (place - low)
        return found

    down, across = ([look(count, pixel) for pixel in range(SIDE)] for count in (rows, columns))
    sides = ((down, rows), (across, columns))
    seen = [[sum(one.get(cell, 0.0) for one in axis) for cell in range(count)] for axis, count in sides]
    found = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    for i in range(SIDE):
        for j in range(SIDE):
            for row, high in down[i].items():
                for column, wide in across[j].items():
                    found[i, j] += part[row, column] * high / seen[0][row] * wide / seen[1][column]
    return found


def _slow_full_grad(net: _Known, image: Tensor, formula: Callable[[Tensor], Tensor]) -> Tensor:
    """Every bias as a number of its own at every cell; the map is each times the score's derivative by it."""
    biases: list[Tensor] = []

    def bias(values: Tensor, like: Tensor) -> Tensor:
        one = values.expand_as(like).detach().clone().requires_grad_()
        biases.append(one)
        return one

    leaf = image.clone().requires_grad_()
    y = functional.conv2d(leaf[None], net.conv0.weight, padding=1)[0]
    y = y + bias(net.conv0.bias[:, None, None], y)
    slope, height = _bias_of(net.norm0)
    y = slope * y
    y = 3 * (y + bias(height, y))
    y = torch.where(y > 6, 0.0, y.relu()) + bias(torch.where(y > 6, 6.0, 0.0), y)
    y = functional.conv2d(functional.max_pool2d(y[None], 2), net.conv1.weight)[0]
    slope, height = _bias_of(net.norm1)
    y = slope * y
    y = (y + bias(height, y)).relu()
    logits = net.head.weight @ y.mean(dim=(1, 2)) + net.head.bias
    gradients = torch.autograd.grad(formula(logits), [leaf, *biases])
    found = (leaf.detach() * gradients[0]).sum(dim=0)
    for one, gradient in zip(biases, gradients[1:], strict=True):
        found = found + _enlarged((one.detach() * gradient).sum(dim=0))
    assert bool((biases[2] > 0).any())  # the ReLU6 does cut
    return found


def _map(tape: Tape, name: str = "logit") -> Maps:
    (found,) = FullGrad().maps(tape, [scores.build(name)])
    assert isinstance(found, Tensor), found
    return found


@pytest.mark.parametrize("name", NAIVE)
def test_full_grad_is_the_papers(name: str) -> None:
    """With each bias at its place, a batch norm's without weights among them, and the head's left out."""
    net = _Known()
    found = _map(_tape(net), name)
    for one, image, target in zip(found, _images(), TARGETS, strict=True):
        expected = _slow_full_grad(net, image, lambda z, c=target: NAIVE[name](z, c))
        assert float((one - expected).abs().max() / expected.abs().max()) < 1e-6


class _Gate(nn.Module):
    """A gate: a product of two things that both come from the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.wide(functional.silu(self.narrow(x))).sigmoid()


class _Residual(nn.Module):
    """An addition in place, a concatenation, and one activation module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.one(x))
        y += x
        return torch.cat([self.act(self.two(y)), x], dim=1)


def _net(*middle: nn.Module, channels: int = 4, bias: bool = False) -> nn.Module:
    """A convolution, what is to be tried, pooling and a head whose bias, which has no place, can be left out."""
    torch.manual_seed(43)
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES, bias=bias)]
    return _shaken(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *middle, *last))


STEPS: dict[str, tuple[list[nn.Module], int]] = {
    "relu": ([nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)], 4),
    "silu": ([nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2, stride=2), nn.Tanh()], 4),
    "hard": ([nn.Hardswish(), nn.Conv2d(4, 4, 3), nn.Hardsigmoid(), nn.Conv2d(4, 4, 3), nn.GELU()], 4),
    "group norm": ([nn.GroupNorm(2, 4), nn.PReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ELU()], 4),
    "gate": ([nn.ReLU(), _Gate(4), nn.Conv2d(4, 4, 3), nn.LeakyReLU()], 4),
    "residual": ([_Residual(), nn.Conv2d(8, 4, 3), nn.Softplus(), nn.Dropout(0.5)], 4),
    "transposed": ([nn.ConvTranspose2d(4, 4, 2, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2)], 4),
}


@pytest.mark.parametrize("steps", STEPS)
def test_input_and_biases_are_the_logit(steps: str) -> None:
    """Without a bias in the head, the map sums to the logit, and to the zero-sum scores' own share of the logits."""
    middle, channels = STEPS[steps]
    tape = _tape(_net(*middle, channels=channels))
    maps = FullGrad().maps(tape, ALL)
    for score, found in zip(ALL, maps, strict=True):
        assert isinstance(found, Tensor), found
        whole = (tape.cotangent(score) * tape.logits).sum(dim=1)
        torch.testing.assert_close(found.sum(dim=(1, 2)), whole, rtol=1e-8, atol=1e-10)
    assert float(tape.logits.abs().max()) > 1e-3


def test_a_bias_behind_the_pooling_has_no_place() -> None:
    """The map then lacks the head's bias, and nothing else."""
    tape = _tape(_net(nn.ReLU(), bias=True))
    bias = tape.classifier.net[-1].bias.detach()
    missing = tape.value(Logit()) - _map(tape).sum(dim=(1, 2))
    torch.testing.assert_close(missing, bias[list(TARGETS)], rtol=1e-9, atol=1e-12)


def test_without_biases_it_is_input_times_gradient() -> None:
    """Which is all that a network of convolutions and ReLUs has, then."""
    torch.manual_seed(44)
    front = [nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, bias=False), nn.ReLU()]
    tape = _tape(nn.Sequential(*front, nn.Flatten(), nn.Linear(4, CLASSES, bias=False)))
    for found, expected in zip(FullGrad().maps(tape, ALL), InputXGradient().maps(tape, ALL), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sides", [(1, 8), (3, 8), (4, 8), (7, 8), (8, 8), (11, 8), (16, 8)])
def test_spreading_keeps_every_sum(sides: tuple[int, int]) -> None:
    """Whatever the sizes; and a whole multiple is the bilinear enlargement over its number of pixels."""
    small, large = sides
    maps = torch.randn(2, small, small, generator=torch.Generator().manual_seed(45), dtype=torch.float64)
    found = spread(maps, large, large)
    torch.testing.assert_close(found.sum(dim=(1, 2)), maps.sum(dim=(1, 2)))
    if large % small == 0:
        bilinear = functional.interpolate(maps[:, None], (large, large), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(found, bilinear * (small / large) ** 2)


def test_computed_weights_and_frozen_ones_make_no_difference() -> None:
    """A weight that is itself computed is no part of what the image passes through."""
    plain = _net(nn.ReLU())
    expected = _map(_tape(plain))
    assert torch.equal(_map(_tape(plain.requires_grad_(False))), expected)
    computed = _net(nn.ReLU()).double()
    parametrizations.weight_norm(computed[0])
    torch.testing.assert_close(_map(_tape(computed)), expected, rtol=1e-9, atol=1e-12)


class _Own(torch.autograd.Function):
    """A step of the user's own, which no function of torch stands for."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x + 1

    @staticmethod
    def backward(_ctx: Any, *above: Tensor) -> Tensor:
        return above[0]


class _Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Own.apply(x)


class _Tokens(nn.Module):
    """Channels last for the length of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Once(nn.Module):
    """A function whose derivative torch cannot differentiate."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x)


UNSEEN = [
    (_Custom, "so that some step of the network was not seen"),
    (_Tokens, "the step 'layer_norm' adds something that is not laid out in rows and columns with the channels first"),
    (_Once, "the step 'scaled_dot_product_attention'"),
]


@pytest.mark.parametrize(("step", "reason"), UNSEEN)
def test_full_grad_says_where_it_cannot_be_right(step: Callable[[], nn.Module], reason: str) -> None:
    """The same for every score."""
    found = FullGrad().maps(_tape(_net(nn.ReLU(), step())), ALL)
    assert len(found) == len(ALL)
    for one in found:
        assert isinstance(one, Undefined)
        assert reason in one.reason


def test_a_network_that_gives_probabilities() -> None:
    """They are turned to logits on the way, which is a step like others."""
    tape = _tape(nn.Sequential(_net(nn.ReLU()), nn.Softmax(dim=1)), head="probabilities")
    (odds,) = FullGrad().maps(tape, [LogOdds()])
    (plain,) = FullGrad().maps(_tape(_net(nn.ReLU())), [LogOdds()])
    torch.testing.assert_close(odds, plain, rtol=1e-8, atol=1e-10)


def test_no_more_than_one_pass_and_one_back_for_each_direction() -> None:
    """The network is called once, and what proportional scores ask for is scaled."""
    net, called = _net(nn.ReLU()), []
    tape = _tape(net)
    net.register_forward_hook(lambda *_: called.append("forward"))
    net[0].register_full_backward_hook(lambda *_: called.append("backward"))
    _, centred, odds, log_probability, probability = FullGrad().maps(tape, ALL)
    assert called.count("forward") == 2  # the tape's own and one to look at every step
    assert called.count("backward") == 3
    p = tape.logits.softmax(dim=1).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]
    torch.testing.assert_close(log_probability, odds * (1 - p)[:, None, None])
    torch.testing.assert_close(probability, odds * (p * (1 - p))[:, None, None])
    assert not torch.allclose(centred, odds)


def test_two_threads_do_not_meet() -> None:
    """Maps made at once are those made in turn, bit for bit, while a third thread predicts."""
    net = _net(_Residual(), nn.Conv2d(8, 4, 3)).double().eval()
    model: Classifier = wrap(net, input_size=(2, SIDE, SIDE), head="softmax")
    batches = [Batch(("a", "b"), _images(seed), torch.tensor(TARGETS)) for seed in (50, 51)]
    expected = [FullGrad().maps(Tape(model, batch), [Logit(), CenteredLogit()]) for batch in batches]
    with torch.no_grad():
        predicted = net(_images())
    wrong: list[str] = []

    def explain(which: int) -> None:
        for _ in range(5):
            found = FullGrad().maps(Tape(model, batches[which]), [Logit(), CenteredLogit()])
            if not all(torch.equal(a, b) for a, b in zip(found, expected[which], strict=True)):
                wrong.append(f"maps {which}")

    def predict() -> None:
        with torch.no_grad():
            wrong.extend("prediction" for _ in range(50) if not torch.equal(net(_images()), predicted))

    threads = [threading.Thread(target=explain, args=(0,)), threading.Thread(target=explain, args=(1,))]
    threads.append(threading.Thread(target=predict))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


DEEP = ["mobilenet_v3_small", "densenet121", "efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x0_5", "vgg11_bn"]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_networks_of_torchvision_are_the_sum_of_their_parts(name: str) -> None:
    """Gates, hard activations, concatenations and shuffled channels: in each the map is there, and is checked."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(46)
    net = _shaken(getattr(torchvision.models, name)(weights=None)).double().eval()
    model = wrap(net, input_size=(3, 64, 64), head="softmax")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(47))
    for found in FullGrad().maps(Tape(model, Batch(("a", "b"), images)), ALL):
        assert isinstance(found, Tensor), found
        assert bool(found.isfinite().all())
