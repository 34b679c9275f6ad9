"""Attention maps and class activation maps of tokens: the papers again, slowly, and the peer's on ViT and Swin."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch, Maps
from fukusen.methods import AttentionRelevance, AttentionRollout, GradCam, HiResCam, Method
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import Score, scores
from fukusen.tape import Tape

HEADS, WIDTH, TOKENS, SIDE, DEPTH = 2, 6, 5, 4, 2
TARGETS = (2, 0)
STEP = 1e-5
Extra = dict[tuple[int, int], Tensor]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), _Attention()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + x.tanh()


class _Tiny(nn.Module):
    """A vision transformer of 2 x 2 patches and a class token; what is read is the class token, or the mean of all."""

    def __init__(self, reads: str) -> None:
        super().__init__()
        self.reads = reads
        self.embed = nn.Conv2d(3, WIDTH, 2, 2)
        self.start = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.blocks = nn.ModuleList(_Block() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 4)

    def tokens(self, images: Tensor) -> Tensor:
        return torch.cat([self.start.expand(len(images), -1, -1), self.embed(images).flatten(2).mT], dim=1)

    def read(self, x: Tensor) -> Tensor:
        return self.head(x[:, 0] if self.reads == "class" else x.mean(dim=1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        for block in self.blocks:
            x = block(x)
        return self.read(x)


def _model(reads: str) -> Classifier:
    torch.manual_seed(31)
    net = _Tiny(reads).double().eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(2.5)
    return wrap(net, input_size=(3, SIDE, SIDE), head="softmax")


def _images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(32), dtype=torch.float64)


def _maps(method: Method, model: Classifier, images: Tensor, score: Score) -> Maps:
    (found,) = method.maps(Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS))), [score])
    assert isinstance(found, Tensor)
    return found


def _by_hand(net: _Tiny, image: Tensor, extra: Extra) -> tuple[Tensor, Extra]:
    """Logits of one image, and every head's attention by loops; ``extra`` is added to a head's attention on its way."""
    x, seen = net.tokens(image[None])[0], {}
    for number, block in enumerate(net.blocks):
        parts = block.attention.qkv(block.norm(x)).reshape(TOKENS, 3, HEADS, WIDTH // HEADS)
        mixed = torch.zeros(TOKENS, WIDTH, dtype=torch.float64)
        for head in range(HEADS):
            q, k, v = (parts[:, part, head] for part in range(3))
            weights = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
            for i in range(TOKENS):
                raised = torch.exp(k @ q[i] / (WIDTH // HEADS) ** 0.5)
                weights[i] = raised / raised.sum()
            seen[number, head] = weights
            used = weights + extra.get((number, head), torch.zeros_like(weights))
            for i in range(TOKENS):
                mixed[i, head * WIDTH // HEADS : (head + 1) * WIDTH // HEADS] = used[i] @ v
        x = x + block.attention.out(mixed)
        x = x + x.tanh()
    return net.read(x[None])[0], seen


def _slopes(net: _Tiny, image: Tensor, score: Score, target: int) -> Extra:
    """The score's derivative by every entry of every attention matrix, by central differences."""
    found = {}
    for number in range(DEPTH):
        for head in range(HEADS):
            slope = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
            for i in range(TOKENS):
                for j in range(TOKENS):
                    ends = []
                    for step in (STEP, -STEP):
                        move = torch.zeros_like(slope)
                        move[i, j] = step
                        logits, _ = _by_hand(net, image, {(number, head): move})
                        ends.append(score.value(logits[None], torch.tensor([target]))[0])
                    slope[i, j] = (ends[0] - ends[1]) / (2 * STEP)
            found[number, head] = slope
    return found


def _rows(reads: str) -> list[int]:
    return [0] if reads == "class" else list(range(TOKENS))


def _assert_same(found: Tensor, expected: Tensor, relative: float = 1e-6) -> None:
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        assert float((one - other).abs().max() / other.abs().max()) < relative


each_reading = pytest.mark.parametrize("reads", ["class", "mean"])


@each_reading
def test_rollout_is_the_papers(reads: str) -> None:
    """Abnar and Zuidema, section 3: A = 0.5 W + 0.5 I of the mean over heads, rollout = A_L ... A_1."""
    model, images = _model(reads), _images()
    expected = []
    for image in images:
        with torch.no_grad():
            _, attention = _by_hand(model.net, image, {})
        rollout = torch.eye(TOKENS, dtype=torch.float64)
        for number in range(DEPTH):
            mean = sum(attention[number, head] for head in range(HEADS)) / HEADS
            rollout = (0.5 * mean + 0.5 * torch.eye(TOKENS, dtype=torch.float64)) @ rollout
        expected.append(rollout[_rows(reads)].mean(dim=0)[1:].reshape(2, 2))
    for name in scores.names():
        _assert_same(_maps(AttentionRollout(), model, images, scores.build(name)), torch.stack(expected))


@each_reading
@pytest.mark.parametrize("name", ["logit", "log_odds", "probability"])
def test_relevance_is_the_papers(reads: str, name: str) -> None:
    """Chefer, Gur and Wolf, eq. 5 and 6: R <- R + E_h((grad A . A)^+) R from R = I, with gradients by differences."""
    model, images, score = _model(reads), _images(), scores.build(name)
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        with torch.no_grad():
            _, attention = _by_hand(model.net, image, {})
            slopes = _slopes(model.net, image, score, target)
        relevance = torch.eye(TOKENS, dtype=torch.float64)
        for number in range(DEPTH):
            parts = [(slopes[number, head] * attention[number, head]).clamp_min(0) for head in range(HEADS)]
            relevance = relevance + sum(parts) / HEADS @ relevance
        rows = (relevance - torch.eye(TOKENS, dtype=torch.float64))[_rows(reads)]
        expected.append(rows.mean(dim=0)[1:].reshape(2, 2))
    _assert_same(_maps(AttentionRelevance(), model, images, score), torch.stack(expected))


@pytest.mark.parametrize("method", [GradCam(), HiResCam()], ids=lambda method: method.name)
def test_cams_of_tokens_are_the_papers(method: Method) -> None:
    """Read before the last attention, where patches still count; gradients there by differences, cell by cell."""
    model, images, score = _model("class"), _images(), scores.build("log_odds")
    net: Any = model.net
    assert str(model.layer) == f"blocks.{DEPTH - 1}.norm"
    expected = []
    for image, target in zip(images, TARGETS, strict=True):
        with torch.no_grad():
            before = net.tokens(image[None])
            for block in net.blocks[:-1]:
                before = block(before)
            last = net.blocks[-1]
            tokens = last.norm(before)
            gradient = torch.zeros(TOKENS, WIDTH, dtype=torch.float64)
            for i in range(TOKENS):
                for k in range(WIDTH):
                    ends = []
                    for step in (STEP, -STEP):
                        moved = tokens.clone()
                        moved[0, i, k] += step
                        twin = copy.deepcopy(last)
                        twin.norm = _Constant(moved)
                        ends.append(score.value(net.read(twin(before)), torch.tensor([target]))[0])
                    gradient[i, k] = (ends[0] - ends[1]) / (2 * STEP)
        cells, slopes = tokens[0, 1:], gradient[1:]
        weights = slopes.mean(dim=0, keepdim=True) if isinstance(method, GradCam) else slopes
        expected.append((cells * weights).sum(dim=1).reshape(2, 2))
    _assert_same(_maps(method, model, images, score), torch.stack(expected))


class _Constant(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _x: Tensor) -> Tensor:
        return self.value


def _undefined(model: Classifier, side: int) -> set[Any]:
    tape = Tape(model, Batch(("a",), torch.randn(1, 3, side, side)))
    spaces = [scores.build(name) for name in scores.names()]
    return {found for method in (AttentionRollout(), AttentionRelevance()) for found in method.maps(tape, spaces)}


def test_windows_are_undefined() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(33)
    sizes = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "patch_size": 4}
    net = timm.create_model("swin_tiny_patch4_window7_224", num_classes=7, img_size=64, **sizes).eval()
    reason = "its attention looks through windows or at several scales, and not from every token to every other"
    assert _undefined(wrap(net, input_size=(3, 64, 64), head="softmax"), 64) == {Undefined(reason)}


@pytest.mark.parametrize("name", ["cait_xxs24_224", "convit_tiny"])
def test_weights_that_are_mixed_after_the_softmax_are_undefined(name: str) -> None:
    """Talking heads and gated positions: what the softmax gave is not what the values are weighted with."""
    sizes = {"img_size": 64, "depth": 2} if name == "cait_xxs24_224" else {"img_size": 64}
    timm = pytest.importorskip("timm")
    torch.manual_seed(35)
    model = wrap(timm.create_model(name, num_classes=7, **sizes).eval(), input_size=(3, 64, 64), head="softmax")
    reason = "its attention weights are changed between their softmax and their use"
    assert _undefined(model, 64) == {Undefined(reason)}


def test_attention_behind_no_grad_is_undefined() -> None:
    class Frozen(_Tiny):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.tokens(images)
                for block in self.blocks:
                    x = block(x)
            return self.read(x)

    torch.manual_seed(36)
    model = wrap(Frozen("class").eval(), input_size=(3, SIDE, SIDE), head="softmax")
    assert _undefined(model, SIDE) == {Undefined("no gradient reaches its attention weights")}


def test_tokens_out_of_order_are_undefined() -> None:
    class Columns(_Tiny):
        def tokens(self, images: Tensor) -> Tensor:
            return super().tokens(images).flip(1)

        def read(self, x: Tensor) -> Tensor:
            return self.head(x[:, -1])

    torch.manual_seed(37)
    model = wrap(Columns("class").eval(), input_size=(3, SIDE, SIDE), head="softmax")
    assert _undefined(model, SIDE) == {Undefined("the tokens of its attention do not lie in rows and columns")}


def test_another_layer_may_be_named() -> None:
    """The grid of the attention is found where the classifier's own layer is not one of tokens."""
    model, images = _model("class"), _images()
    named = wrap(model.net, input_size=(3, SIDE, SIDE), head="softmax", layer="embed")
    assert named.layer is not None
    assert named.layer.layout == "channels_first"
    for method in (AttentionRollout(), AttentionRelevance()):
        found = [_maps(method, one, images, scores.build("log_odds")) for one in (model, named)]
        assert torch.equal(*found)


def test_all_scores_share_one_forward_pass_and_one_backward_pass_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log-odds, the log-probability and the probability are one direction."""
    model, images = _model("class"), _images()
    tape = Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS)))
    tape.logits  # noqa: B018 - the tape's own pass is not the method's
    passes: list[str] = []
    handle = model.net.head.register_forward_hook(lambda *_given: passes.append("forward"))
    ordinary = torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append("backward")
        return ordinary(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    spaces = [scores.build(name) for name in ("logit", "centered_logit", "log_odds", "log_probability", "probability")]
    AttentionRelevance().maps(tape, spaces)
    handle.remove()
    # The first backward pass stops at the last attention: it shows which tokens are read.
    assert passes == ["forward", *["backward"] * 4]


def test_the_network_is_left_as_it_was_found_also_after_an_exception() -> None:
    """Weights, flags, gradients, hooks, and the functions of torch that were looked into."""

    def state() -> list[Any]:
        hooks = [
            len(getattr(module, kind)) for module in net.modules() for kind in ("_forward_hooks", "_forward_pre_hooks")
        ]
        values = [(value.tolist(), value.grad, value._version) for value in net.parameters()]
        return [
            hooks,
            values,
            [module.training for module in net.modules()],
            torch.overrides._get_current_function_mode(),
        ]

    model, images = _model("class"), _images()
    net = model.net.train()
    before, scaled = state(), nn.functional.scaled_dot_product_attention
    batch = Batch(("a", "b"), images)
    for method in (AttentionRollout(), AttentionRelevance()):
        method.maps(Tape(model, batch), [scores.build("log_odds")])
        broken = Tape(model, batch)
        assert broken.logits.shape[0] == 2
        net.head.weight.data = net.head.weight.data[:, :3]
        with pytest.raises(RuntimeError):
            method.maps(broken, [scores.build("log_odds")])
        net.head.weight.data = torch.tensor(before[1][-2][0], dtype=torch.float64)
    assert state() == before
    assert nn.functional.scaled_dot_product_attention is scaled
