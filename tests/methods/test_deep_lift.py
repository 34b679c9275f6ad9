"""DeepLIFT again, slowly: a matrix of multipliers for every step, from the paper's rules in loops; and captum's."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows

from fukusen.arrays import Batch
from fukusen.methods import DeepLift
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import scores
from fukusen.tape import Tape

TARGETS = (2, 0)
MANY = 4000
Formula = Callable[[Tensor, int], Tensor]
NAIVE: dict[str, Formula] = {
    "logit": lambda z, c: z[:, c],
    "centered_logit": lambda z, c: z[:, c] - z.mean(dim=1),
    "log_odds": lambda z, c: z[:, c] - torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1),
    "log_probability": lambda z, c: z.log_softmax(dim=1)[:, c],
    "probability": lambda z, c: z.softmax(dim=1)[:, c],
}
ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "tanh": nn.Tanh(),
    "silu": lambda x: F.silu(x, inplace=True),
    "gelu": F.gelu,
    "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-0.4, 0.6),
    "pow": lambda x: x**2,
}
each_score = pytest.mark.parametrize("name", NAIVE)


class _Net(nn.Module):
    """One activation used twice, a max pool, a gate and a residual connection."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.squeeze, self.head, self.act = nn.Linear(3, 3), nn.Linear(27, 4), act

    def gated(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.squeeze(x.mean(dim=(2, 3))))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.act(self.conv0(x)), 3, stride=2, padding=1)
        return self.head((self.gated(self.act(self.conv1(x))) + x).flatten(1))


def _model(act: Callable[[Tensor], Tensor]) -> Classifier:
    torch.manual_seed(6)
    net = _Net(act).double().eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(2)
    return wrap(net, input_size=(2, 5, 5), layer="conv1", head="softmax")


def _tape(model: Classifier) -> Tape:
    shape = (2, *model.input_shape)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return Tape(model, Batch(("a", "b"), images.to(model.dtype), torch.tensor(TARGETS)))


def _maps(tape: Tape, name: str, baseline: float = 0.0) -> Tensor:
    (found,) = DeepLift(baseline=baseline).maps(tape, [scores.build(name)])
    assert isinstance(found, Tensor), found
    return found


def _matrix(layer: Callable[[Tensor], Tensor], below: Tensor) -> Tensor:
    above = layer(below)
    return torch.autograd.functional.jacobian(layer, below).reshape(above.numel(), below.numel())


def _ratio(act: Callable[[Tensor], Tensor], x: Tensor, reference: Tensor) -> Tensor:
    """Shrikumar et al., the rescale rule: m = (f(x) - f(x0)) / (x - x0), one number at a time."""
    after, before = act(x.clone()).flatten(), act(reference.clone()).flatten()
    runs = (x - reference).flatten()
    return torch.diag(torch.stack([(a - b) / run for a, b, run in zip(after, before, runs, strict=True)]))


def _pooled(x: Tensor, reference: Tensor) -> Tensor:
    """Of a 3 x 3 maximum at every other cell: its rise over the new winner's, or its fall over the old winner's."""
    channels, side = x.shape[1], x.shape[2]
    half = (side + 1) // 2
    found = torch.zeros(channels, half, half, channels, side, side, dtype=x.dtype)
    for k in range(channels):
        for row in range(half):
            for column in range(half):
                cells = [
                    (i, j)
                    for i in range(max(2 * row - 1, 0), min(2 * row + 2, side))
                    for j in range(max(2 * column - 1, 0), min(2 * column + 2, side))
                ]
                new = max(cells, key=lambda cell: x[0, k, cell[0], cell[1]].item())
                old = max(cells, key=lambda cell: reference[0, k, cell[0], cell[1]].item())
                change = x[0, k, new[0], new[1]] - reference[0, k, old[0], old[1]]
                i, j = new if change > 0 else old
                if change != 0:
                    found[k, row, column, k, i, j] = change / (x[0, k, i, j] - reference[0, k, i, j])
    return found.reshape(channels * half * half, channels * side * side)


def _slow(net: _Net, image: Tensor, formula: Formula, target: int, baseline: float) -> Tensor:
    """The chain rule for multipliers, step by step, times the differences from the reference."""
    with torch.no_grad():
        x, x0 = image[None], torch.full_like(image[None], baseline)
        total = _matrix(net.conv0, x)
        at, at0 = net.conv0(x), net.conv0(x0)
        total = _ratio(net.act, at, at0) @ total
        at, at0 = net.act(at), net.act(at0)
        total = _pooled(at, at0) @ total
        skip, skip0 = (F.max_pool2d(one, 3, stride=2, padding=1) for one in (at, at0))
        around = total
        total = _matrix(net.conv1, skip) @ total
        at, at0 = net.conv1(skip), net.conv1(skip0)
        total = _ratio(net.act, at, at0) @ total
        at, at0 = net.act(at), net.act(at0)
        pre, pre0 = (net.squeeze(one.mean(dim=(2, 3))) for one in (at, at0))
        gates, gates0 = (torch.sigmoid(one).repeat_interleave(9) for one in (pre, pre0))
        squeeze = _matrix(lambda one: net.squeeze(one.mean(dim=(2, 3))), at)
        through = _ratio(torch.sigmoid, pre, pre0) @ squeeze
        middle = (at + at0).flatten() / 2
        total = (torch.diag((gates + gates0) / 2) + middle[:, None] * through.repeat_interleave(9, dim=0)) @ total
        total = net.head.weight @ (total + around)
        ends = net(torch.cat([x, x0]))
    start = _mean_slope(lambda z: formula(z, target), ends[0], ends[1])
    return ((start @ total).reshape(image.shape) * (image - baseline)).sum(dim=0)


def _mean_slope(formula: Callable[[Tensor], Tensor], after: Tensor, before: Tensor) -> Tensor:
    """The mean of a gradient at the middles of 4,000 pieces of a line."""
    along = ((torch.arange(MANY, dtype=torch.float64) + 0.5) / MANY).reshape(-1, *[1] * after.dim())
    points = (before + along * (after - before)).requires_grad_()
    (slopes,) = torch.autograd.grad(formula(points).sum(), points)
    return slopes.mean(dim=0)


def _assert_same(found: Tensor, expected: Tensor, relative: float) -> None:
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


@each_score
@pytest.mark.parametrize("act", ACTS)
def test_deep_lift_is_the_papers(act: str, name: str) -> None:
    """On an activation that is used twice, a max pool, a gate and a residual connection."""
    model = _model(ACTS[act])
    tape = _tape(model)
    pairs = zip(tape.batch.images, TARGETS, strict=True)
    expected = torch.stack([_slow(model.net, x, NAIVE[name], c, 0.3) for x, c in pairs])
    _assert_same(_maps(tape, name, baseline=0.3), expected, 1e-6)


class _Tokens(nn.Module):
    """A layer norm and attention over the cells of the image, seen from the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(2, 6, 2, stride=2), nn.LayerNorm(6)
        self.mix, self.head = nn.Linear(6, 18), nn.Linear(6, 4)

    def tokens(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(2).transpose(1, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        query, key, value = self.mix(self.norm(x)).chunk(3, dim=-1)
        return self.head((x + self.attend(query, key, value)).mean(dim=1))


def _token_model(net: type[_Tokens] = _Tokens) -> Classifier:
    torch.manual_seed(9)
    return wrap(net().double().eval(), input_size=(2, 6, 6), layer="embed", head="softmax")


def _mean_matrix(function: Callable[[Tensor], Tensor], after: Tensor, before: Tensor, points: int = 100) -> Tensor:
    """The mean of a Jacobian at the middles of many pieces of a line."""
    total = torch.zeros(function(after).numel(), after.numel(), dtype=torch.float64)
    for number in range(points):
        total += _matrix(function, before + (number + 0.5) / points * (after - before)) / points
    return total


def test_layer_norm_and_attention_go_by_their_mean_gradients() -> None:
    """The layer norm row by row, the attention as a product, a softmax and a product: sums of 100 middles."""
    model = _token_model()
    net, tape = model.net, _tape(model)
    image, target = tape.batch.images[0], TARGETS[0]
    with torch.no_grad():
        x, x0 = net.tokens(image[None])[0], net.tokens(torch.full_like(image[None], 0.2))[0]
        total = _matrix(lambda one: net.tokens(one.reshape(1, 2, 6, 6)), image.flatten())
        rows = [_mean_matrix(net.norm, after, before) for after, before in zip(x, x0, strict=True)]
        parts, parts0 = (net.mix(net.norm(one)).chunk(3, dim=-1) for one in (x, x0))
    mixed = torch.kron(torch.eye(9, dtype=torch.float64), net.mix.weight.detach()) @ torch.block_diag(*rows) @ total
    into = [part.reshape(54, 72) for part in mixed.reshape(9, 3, 6, 72).transpose(0, 1)]
    likeness, likeness0 = (q @ k.T / 6**0.5 for q, k, _ in (parts, parts0))
    middle = [(after + before) / 2 for after, before in zip(parts, parts0, strict=True)]
    to_likeness = _matrix(lambda q: q.reshape(9, 6) @ middle[1].T / 6**0.5, middle[0].flatten()) @ into[0]
    to_likeness = to_likeness + _matrix(lambda k: middle[0] @ k.reshape(9, 6).T / 6**0.5, middle[1].flatten()) @ into[1]
    soft = _mean_matrix(lambda one: one.reshape(9, 9).softmax(dim=-1), likeness.flatten(), likeness0.flatten())
    weights = (likeness.softmax(dim=-1) + likeness0.softmax(dim=-1)) / 2
    attended = torch.kron(weights, torch.eye(6, dtype=torch.float64)) @ into[2]
    attended = attended + _matrix(lambda w: w.reshape(9, 9) @ middle[2], weights.flatten()) @ soft @ to_likeness
    head = net.head.weight.detach()[target].repeat(9) / 9
    expected = (head @ (total + attended)).reshape(2, 6, 6) * (image - 0.2)
    _assert_same(_maps(tape, "logit", 0.2)[:1], expected.sum(dim=0)[None], 1e-4)


class _ByHand(_Tokens):
    """The same attention written out, with the batch behind the tokens: no step may take the first axis for it."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (one.transpose(0, 1) for one in (query, key, value))
        likeness = torch.einsum("qbc,kbc->qbk", query, key).mul(6**-0.5).softmax(dim=-1)
        return torch.einsum("qbk,kbc->qbc", likeness, value).transpose(0, 1)


def test_the_layout_of_the_batch_does_not_matter() -> None:
    """Reference and image meet call by call, not as two halves of one batch."""
    found = _maps(_tape(_token_model(_ByHand)), "log_odds")
    _assert_same(found, _maps(_tape(_token_model()), "log_odds"), 1e-6)


@each_score
@pytest.mark.parametrize("baseline", [0.0, -0.8])
@pytest.mark.parametrize("net", ["gated", "tokens"])
def test_deep_lift_is_complete(net: str, baseline: float, name: str) -> None:
    """The map sums to the score's difference from the reference image's."""
    tape = _tape(_model(F.silu) if net == "gated" else _token_model())
    found = _maps(tape, name, baseline).sum(dim=(1, 2))
    with torch.no_grad():
        after = tape.classifier.net(tape.batch.images)
        before = tape.classifier.net(torch.full_like(tape.batch.images, baseline))
    for total, z, z0, target in zip(found, after, before, TARGETS, strict=True):
        change = NAIVE[name](z[None], target) - NAIVE[name](z0[None], target)
        assert total.item() == pytest.approx(change.item(), rel=1e-5)


def test_a_reference_that_is_the_image_has_an_empty_map() -> None:
    """No difference, nothing to share out, and no division by it."""
    model = _model(F.silu)
    tape = Tape(model, Batch(("a",), torch.full((1, 2, 5, 5), 0.3, dtype=torch.float64)))
    assert not _maps(tape, "log_odds", baseline=0.3).any()


def test_a_flat_image_under_a_layer_norm() -> None:
    """Its tokens go through the point where a layer norm has no deviation: the map stays complete."""
    torch.manual_seed(9)
    net = _Tokens()
    with torch.no_grad():
        for value in (net.embed.bias, net.norm.bias):
            value.zero_()
    model = wrap(net.double().eval(), input_size=(2, 6, 6), layer="embed", head="softmax")
    tape = _tape(model)
    found = _maps(tape, "logit").sum(dim=(1, 2))
    change = tape.logits - model.logits(torch.zeros_like(tape.batch.images))
    for total, one, target in zip(found, change, TARGETS, strict=True):
        assert total.item() == pytest.approx(one[target].item(), rel=1e-4)


class _Strange(_Net):
    """A step that DeepLIFT knows nothing about."""

    def gated(self, x: Tensor) -> Tensor:
        return torch.cosh(3 * x)


def test_a_step_without_a_rule_is_noticed() -> None:
    """By the sum, since the map would not add up."""
    torch.manual_seed(6)
    model = wrap(_Strange(nn.ReLU()).double().eval(), input_size=(2, 5, 5), layer="conv1", head="softmax")
    for found in DeepLift().maps(_tape(model), [scores.build(name) for name in NAIVE]):
        assert isinstance(found, Undefined)
        assert "a step of the network has no rule: the map sums to" in found.reason


class _TwoWays(_Net):
    """A network that takes another way for bright images."""

    def forward(self, x: Tensor) -> Tensor:
        return (
            super().forward(x)
            if bool(x.any())
            else self.head(torch.tanh(x[:, :1, :3, :3].repeat(1, 3, 1, 1)).flatten(1))
        )


def test_another_way_for_the_reference_is_noticed() -> None:
    """There are no two calls to compare."""
    torch.manual_seed(6)
    model = wrap(_TwoWays(nn.ReLU()).double().eval(), input_size=(2, 5, 5), layer="conv1", head="softmax")
    (found,) = DeepLift().maps(_tape(model), [scores.build("logit")])
    assert isinstance(found, Undefined)


captum = pytest.importorskip("captum.attr", reason="captum is not installed", exc_type=ImportError)


def _captums(net: nn.Module, images: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer warns that it sets hooks
        peer = captum.DeepLift(copy.deepcopy(net))
        found: Tensor = peer.attribute(images, baselines=0.0, target=torch.tensor(TARGETS))
    return found.detach().sum(dim=1)


class _Start(nn.Module):
    """A picture added to every image, so that a flat reference is not flat any more."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("picture", torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(11)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.picture


def _apart(*middle: nn.Module, last: nn.Module) -> Classifier:
    torch.manual_seed(10)
    front = [_Start(), nn.Conv2d(2, 4, 3, padding=1), *middle, nn.Conv2d(4, 4, 3), last]
    net = nn.Sequential(*front, nn.Flatten(), nn.Linear(16, 4)).double().eval()
    return wrap(net, input_size=(2, 8, 8), layer="1", head="softmax")


def _change(tape: Tape) -> Tensor:
    before = tape.classifier.logits(torch.zeros_like(tape.batch.images))
    return (tape.logits - before).gather(1, tape.targets[:, None])[:, 0]


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.Softplus])
def test_it_is_captums_where_captum_is_right(act: type[nn.Module]) -> None:
    """On modules that are used once: convolutions, a max pool, activations."""
    tape = _tape(_apart(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), act(), last=act()))
    _assert_same(_maps(tape, "logit"), _captums(tape.classifier.net, tape.batch.images), 1e-4)


@pytest.mark.parametrize("middle", [(nn.ReLU(), nn.MaxPool2d(2)), (nn.MaxPool2d(2), nn.Tanh())])
def test_captum_does_not_add_up_where_an_activation_touches_a_max_pool(middle: tuple[nn.Module, ...]) -> None:
    """Its hooks for the two sit on one tensor; ours adds up, and the loops above say that it is the paper's, too."""
    tape = _tape(_apart(*middle, last=nn.ReLU()))
    change = _change(tape)
    torch.testing.assert_close(_maps(tape, "logit").sum(dim=(1, 2)), change)
    peer = _captums(tape.classifier.net, tape.batch.images).sum(dim=(1, 2))
    assert float(((peer - change) / change).abs().max()) > 0.01


def test_captum_fails_where_an_activation_is_used_twice() -> None:
    """Here at least it raises; ours is complete."""
    shared = nn.ReLU()
    tape = _tape(_apart(shared, nn.AvgPool2d(2), last=shared))
    torch.testing.assert_close(_maps(tape, "logit").sum(dim=(1, 2)), _change(tape))
    with pytest.raises(RuntimeError):
        _captums(tape.classifier.net, tape.batch.images)


@pytest.mark.parametrize("act", [F.relu, F.relu6], ids=["relu", "relu6"])
def test_captum_does_not_add_up_where_an_activation_is_a_function(act: Callable[[Tensor], Tensor]) -> None:
    """It sees modules only, and does not say that it missed something."""

    class _Called(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return act(x)

    tape = _tape(_apart(_Called(), nn.AvgPool2d(2), last=_Called()))
    change = _change(tape)
    torch.testing.assert_close(_maps(tape, "logit").sum(dim=(1, 2)), change)
    peer = _captums(tape.classifier.net, tape.batch.images).sum(dim=(1, 2))
    assert float(((peer - change) / change).abs().max()) > 0.01


@pytest.mark.slow
def test_the_demo_network_is_complete(lite0: Classifier) -> None:
    """Where captum gives input x gradient: its activations are used twice a block."""
    model = lite0.in_double()
    images = torch.randn(2, *model.input_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tape = Tape(model, Batch(("a", "b"), images))
    before = model.logits(torch.zeros_like(images))
    for name in NAIVE:
        score = scores.build(name)
        change = tape.value(score) - score.value(before, tape.targets)
        torch.testing.assert_close(_maps(tape, name).sum(dim=(1, 2)), change, rtol=1e-5, atol=1e-9)
