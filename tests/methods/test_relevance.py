"""LRP again, slowly: every layer as a matrix of its connections, and the rules of the literature in loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch
from fukusen.errors import CallError
from fukusen.methods import Lrp
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import scores
from fukusen.tape import Tape

SIDE, CELLS, CLASSES = 5, 25, 4
STABILISER = 1e-6
NAMES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
TARGETS = (2, 0)

Add = Callable[[Tensor, Tensor], Tensor]
ADDITIONS: dict[str, Add] = {
    "a + b": lambda a, b: a + b,
    "a += b": lambda a, b: a.__iadd__(b),
    "torch.add": torch.add,
    "a.add_(b)": lambda a, b: a.add_(b),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Residual(nn.Module):
    """Convolutions with biases and batch norms, one residual connection, global average pooling, a linear head."""

    def __init__(self, add: Add = torch.add) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 3, 1, bias=False), nn.BatchNorm2d(3, affine=False)
        self.relu, self.pool, self.head = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Linear(3, CLASSES)
        self.relu1, self.relu2, self.add = nn.ReLU(), nn.ReLU(inplace=True), add

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.norm0(self.conv0(x)))
        second = self.relu1(self.norm1(self.conv1(first)))
        third = self.relu2(self.add(self.norm2(self.conv2(second)), first))
        return self.head(self.pool(third).flatten(1))


def _model(add: Add = torch.add) -> Classifier:
    torch.manual_seed(8)
    net = _Residual(add).double().eval()
    for norm in (net.norm0, net.norm1, net.norm2):
        nn.init.normal_(norm.running_mean, std=0.3)
        nn.init.uniform_(norm.running_var, 0.3, 1.2)
        if norm.affine:
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    return wrap(net, input_size=(2, SIDE, SIDE))


def _batch() -> Batch:
    noise = torch.Generator().manual_seed(9)
    images = torch.randn(2, 2, SIDE, SIDE, generator=noise, dtype=torch.float64)
    return Batch(("a", "b"), images, torch.tensor(TARGETS))


def _matrix(layer: Callable[[Tensor], Tensor], channels: int) -> Tensor:
    """What each input number contributes to each output number, biases left out: one basis vector at a time."""
    count = channels * CELLS
    with torch.no_grad():
        rest = layer(torch.zeros(1, channels, SIDE, SIDE, dtype=torch.float64)).flatten()
        columns = []
        for i in range(count):
            one = torch.zeros(count, dtype=torch.float64)
            one[i] = 1.0
            columns.append(layer(one.reshape(1, channels, SIDE, SIDE)).flatten() - rest)
    return torch.stack(columns, dim=1)


def _stable(value: Tensor) -> Tensor:
    return value + torch.where(value >= 0, STABILISER, -STABILISER)


def _epsilon(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """R_i = sum_j a_i w_ij / (sum_i a_i w_ij + eps sign) R_j, with the bias given nothing."""
    found = torch.zeros_like(below)
    for j, relevance in enumerate(above):
        terms = below * matrix[j]
        found += terms / _stable(terms.sum()) * relevance
    return found


def _z_plus(matrix: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """The same, of the positive contributions alone."""
    found = torch.zeros_like(below)
    for j, relevance in enumerate(above):
        terms = (below * matrix[j]).clamp_min(0)
        found += terms / _stable(terms.sum()) * relevance
    return found


def _flat(above: Tensor) -> Tensor:
    """For a 3 x 3 convolution of two channels: every pixel that an output sees is given the same."""
    found = torch.zeros(2, SIDE, SIDE, dtype=torch.float64)
    for relevance in above.reshape(3, SIDE, SIDE):
        for row in range(SIDE):
            for column in range(SIDE):
                rows = range(max(row - 1, 0), min(row + 2, SIDE))
                columns = range(max(column - 1, 0), min(column + 2, SIDE))
                share = relevance[row, column] / (2 * len(rows) * len(columns) + STABILISER)
                for i in rows:
                    for j in columns:
                        found[:, i, j] += share
    return found


def _slow_lrp(net: nn.Module, image: Tensor, start: Tensor) -> Tensor:
    """Epsilon for the head, z-plus for convolutions with their batch norms, flat for the first, sums in proportion."""
    below1 = _matrix(lambda x: net.norm1(net.conv1(x)), 3)
    below2 = _matrix(lambda x: net.norm2(net.conv2(x)), 4)
    with torch.no_grad():
        first = net.norm0(net.conv0(image[None])).relu()
        second = net.norm1(net.conv1(first)).relu()
        branch = net.norm2(net.conv2(second))
        third = (branch + first).relu()
        pooled = third.mean(dim=(2, 3))[0]
    at_pool = _epsilon(net.head.weight.detach(), pooled, start)
    at_third = torch.zeros(3, CELLS, dtype=torch.float64)
    for k in range(3):
        terms = third[0, k].flatten() / CELLS
        at_third[k] = terms / _stable(terms.sum()) * at_pool[k]
    total = _stable(branch + first)[0].flatten()
    on_branch = branch[0].flatten() / total * at_third.flatten()
    on_skip = first[0].flatten() / total * at_third.flatten()
    at_second = _z_plus(below2, second[0].flatten(), on_branch)
    at_first = _z_plus(below1, first[0].flatten(), at_second) + on_skip
    return _flat(at_first).sum(dim=0)


def _start(name: str, logits: Tensor, target: int) -> Tensor:
    """The gradient of the score with respect to the logits, by hand."""
    p = logits.softmax(dim=0)
    unit = torch.zeros(CLASSES, dtype=torch.float64)
    unit[target] = 1.0
    return {
        "logit": unit,
        "centered_logit": unit - 1 / CLASSES,
        "log_odds": (unit - p) / (1 - p[target]),
        "log_probability": unit - p,
        "probability": p[target] * (unit - p),
    }[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("add", ADDITIONS)
def test_lrp_is_the_slow_one(add: str, name: str) -> None:
    """On biases, batch norms and a residual connection, however the addition is written."""
    model, batch = _model(ADDITIONS[add]), _batch()
    tape = Tape(model, batch)
    (found,) = Lrp().maps(tape, [scores.build(name)])
    assert isinstance(found, Tensor)
    for i, target in enumerate(TARGETS):
        expected = _slow_lrp(model.net, batch.images[i], _start(name, tape.logits[i], target))
        assert float(expected.abs().max()) > 0
        assert float((found[i] - expected).abs().max() / expected.abs().max()) < 1e-8


def test_lrp_conserves_relevance() -> None:
    """Without biases, a map sums to the sum of its start: one for the logit, zero for the rest."""
    torch.manual_seed(8)
    convolutions = [nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False), nn.ReLU()]
    net = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES, bias=False))
    tape = Tape(wrap(net.double().eval(), input_size=(2, SIDE, SIDE), head="softmax"), _batch())
    maps = Lrp().maps(tape, [scores.build(name) for name in NAMES])
    for name, found in zip(NAMES, maps, strict=True):
        assert isinstance(found, Tensor)
        start = 1.0 if name == "logit" else 0.0
        assert found.sum(dim=(1, 2)).tolist() == pytest.approx([start, start], abs=1e-3)


def test_lrp_is_linear_in_its_start() -> None:
    """Centred is the logit's map less the mean over the maps of all classes."""
    model, images = _model(), _batch().images[:1].repeat(CLASSES, 1, 1, 1)
    tape = Tape(model, Batch(tuple("abcd"), images, torch.arange(CLASSES)))
    logit, centred = Lrp().maps(tape, [scores.build("logit"), scores.build("centered_logit")])
    assert isinstance(logit, Tensor)
    assert isinstance(centred, Tensor)
    torch.testing.assert_close(centred, logit - logit.mean(dim=0), rtol=1e-9, atol=1e-12)


class _Twice(nn.Module):
    """One convolution used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(x).relu()).mean(dim=(2, 3)))


class _Strange(nn.Module):
    """A weight that no layer of a known kind holds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 2, 3), nn.GroupNorm(1, 2), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("net", "reason"),
    [(_Twice, "a layer is used twice, as 'conv' is"), (_Strange, "no rule for layers of the kind GroupNorm")],
)
def test_lrp_says_where_it_cannot_be_right(net: Callable[[], nn.Module], reason: str) -> None:
    """Undefined with its reason, for every score asked."""
    torch.manual_seed(0)
    tape = Tape(wrap(net().double().eval(), input_size=(2, SIDE, SIDE)), _batch())
    found = Lrp().maps(tape, [scores.build(name) for name in NAMES])
    assert len(found) == len(NAMES)
    for one in found:
        assert isinstance(one, Undefined)
        assert reason in one.reason


def test_lrp_refuses_a_bad_epsilon() -> None:
    """In the house's one sentence."""
    with pytest.raises(CallError) as caught:
        Lrp(epsilon=0.0)
    assert str(caught.value) == "The 'epsilon' parameter of Lrp must be a number > 0. Got 0.0 instead."


def test_a_network_that_lets_no_gradient_back_has_no_relevance() -> None:
    """Said, and not an error of a library's."""

    class Closed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
            )

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                values: Tensor = self.net(x)
                return values

    model = wrap(Closed().eval(), input_size=(3, 12, 12), head="softmax")
    tape = Tape(model, Batch(("a",), torch.rand(1, 3, 12, 12)), at_input=False)
    found = Lrp().maps(tape, [scores.build("logit")])
    assert found == [Undefined("no gradient comes back from the network's outputs, so no relevance does")]
