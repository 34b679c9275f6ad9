"""Grids of tokens: which are possible, which a touch of the image confirms, and where real transformers are read."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fukusen.models import Layer, wrap
from fukusen.models.looking import look
from fukusen.models.tokens import Grid, follows, possible_grids, touched
from fukusen.tape import Tape

SIDE = 32


@pytest.mark.parametrize(
    ("count", "maps", "size", "expected"),
    [
        (197, [(14, 14)], (224, 224), Grid(14, 14, 1)),
        (197, [], (224, 224), Grid(14, 14, 1)),
        (49, [(14, 14)], (224, 224), Grid(7, 7, 0)),
        (198, [(7, 7), (14, 14)], (224, 224), Grid(14, 14, 2)),
        (29, [], (32, 56), Grid(4, 7, 1)),
        (28, [(3, 9)], (32, 56), Grid(3, 9, 1)),
    ],
)
def test_the_likeliest_grid(count: int, maps: list[tuple[int, int]], size: tuple[int, int], expected: Grid) -> None:
    """A convolution's before it, else one of square cells that leaves few tokens over."""
    assert possible_grids(count, maps, torch.Size((4, 3, *size)))[0] == expected


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_grid_of_one_cell(count: int) -> None:
    assert possible_grids(count, [(1, 1)], torch.Size((4, 3, 32, 32))) == []


def test_a_touch_stays_in_its_cell() -> None:
    """Of the coarsest grid and of the finest one."""
    images = torch.randn(4, 3, 32, 48)
    grids = [Grid(8, 12, 0), Grid(4, 6, 1)]
    altered, points = touched(images, grids)
    for image, other, (down, across) in zip(images, altered, points, strict=True):
        for axis, middle in ((1, down * 32), (2, across * 48)):
            lines = (image != other).any(dim=0).any(dim=2 - axis).nonzero()[:, 0].tolist()
            assert lines == [lines[0], lines[0] + 1], "half of the finest cell"
            assert lines[0] % 8 == 0, "in the corner of the coarsest"
            assert middle == pytest.approx(lines[1])


def test_following_is_exact_in_every_image() -> None:
    grid, points = Grid(2, 3, 1), [(0.1, 0.5), (0.6, 0.9)]
    before, after = torch.zeros(2, 7, 4), torch.zeros(2, 7, 4)
    after[0, 2], after[1, 6] = 1, 1
    assert follows(grid, before, after, points)
    assert not follows(grid, before, after.flip(1), points)
    after[1] = 0
    assert not follows(grid, before, after, points)


class _Transformer(nn.Module):
    """A vision transformer in a few lines, with everything that differs between transformers as a choice."""

    def __init__(
        self, patch: int = 8, prefix: int = 1, reads: str = "class", order: str = "rows", **choices: bool
    ) -> None:
        super().__init__()
        self.patch, self.prefix, self.reads, self.order, self.choices = patch, prefix, reads, order, choices
        self.embed = nn.Linear(3 * patch * patch, 16) if choices.get("linear") else nn.Conv2d(3, 16, patch, patch)
        self.first = nn.Parameter(torch.randn(1, prefix, 16))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.qkv = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.attention = nn.ModuleList(nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2))
        self.last = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def tokens(self, images: Tensor) -> Tensor:
        if self.choices.get("linear"):
            tokens = self.embed(nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2))
        else:
            tokens = self.embed(images).flatten(2).transpose(1, 2)
        if self.order == "columns":
            rows = images.shape[2] // self.patch
            tokens = tokens.unflatten(1, (rows, -1)).transpose(1, 2).flatten(1, 2)
        parts = [self.first.expand(len(images), -1, -1), tokens]
        return torch.cat(parts[::-1] if self.order == "class last" else parts, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        for norm, attention in zip(self.norms, self.attention, strict=True):
            y = norm(x)
            x = x + attention(y, y, y)[0]
        x = self.last(x)
        return self.head(x[:, 0] if self.reads == "class" else x.mean(dim=1))


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], Layer]] = {
    "class token": (_Transformer, (32, 32), Layer("norms.1", 0, "tokens", (16, 4, 4), 1)),
    "mean": (lambda: _Transformer(reads="mean"), (32, 32), Layer("last", 0, "tokens", (16, 4, 4), 1)),
    "no prefix": (lambda: _Transformer(prefix=0, reads="mean"), (32, 32), Layer("last", 0, "tokens", (16, 4, 4), 0)),
    "registers": (lambda: _Transformer(prefix=5), (32, 32), Layer("norms.1", 0, "tokens", (16, 4, 4), 5)),
    "wide": (_Transformer, (24, 40), Layer("norms.1", 0, "tokens", (16, 3, 5), 1)),
    "linear": (lambda: _Transformer(linear=True), (24, 40), Layer("norms.1", 0, "tokens", (16, 3, 5), 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_found(kind: str) -> None:
    """Behind the last attention only the class token is read: the layer is before it, where cells still count."""
    make, size, expected = KINDS[kind]
    torch.manual_seed(0)
    assert wrap(make().eval(), head="softmax", input_size=(3, *size)).layer == expected


@pytest.mark.parametrize("order", ["columns", "class last"])
def test_tokens_in_another_order_are_not_read_as_rows(order: str) -> None:
    """No layer of tokens, rather than maps that are mirrored or shifted by a cell."""
    torch.manual_seed(0)
    model = wrap(_Transformer(order=order).eval(), head="softmax", input_size=(3, 32, 32))
    assert model.layer == Layer("embed", 0, "channels_first", (16, 4, 4))
    assert "stands early in the network" in model.notes[-1]


def test_a_sequence_that_is_no_picture_is_no_layer() -> None:
    """Channels where tokens would be: as many as a grid has cells, and none of them follows a touch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.Flatten(2), nn.Linear(16, 6), nn.Flatten(), nn.Linear(96, 3)).eval()
    found = look(net, torch.randn(4, 3, 32, 32))
    assert [one.layer.layout for one in found.seen] == ["channels_first"]


class _Projecting(_Transformer):
    """Attention computed by the block itself, from queries, keys and values that a module of its own makes."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleList(_Attention() for _ in range(2))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)

    def forward(self, x: Tensor, *_same: Tensor) -> tuple[Tensor]:
        parts = [made(x).unflatten(2, (2, 8)).transpose(1, 2) for made in (self.queries, self.keys, self.values)]
        return (self.out(nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)),)


def test_queries_keys_and_values_are_not_taken_but_can_be_named() -> None:
    torch.manual_seed(0)
    net = _Projecting().eval()
    assert wrap(net, head="softmax", input_size=(3, 32, 32)).layer == Layer("norms.1", 0, "tokens", (16, 4, 4), 1)
    named = wrap(net, head="softmax", input_size=(3, 32, 32), layer="attention.1.values")
    assert named.layer == Layer("attention.1.values", 0, "tokens", (16, 4, 4), 1)


LAYERS = [
    Layer("x", 0, "channels_first", (5, 2, 3)),
    Layer("x", 0, "channels_last", (5, 2, 3)),
    Layer("x", 0, "tokens", (5, 2, 3)),
    Layer("x", 0, "tokens", (5, 2, 3), 2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.layout}{layer.prefix}")
def test_reading_and_replacing_are_inverse(layer: Layer) -> None:
    """What is replaced is read again, what is read and replaced is as before, and other tokens are left alone."""
    shapes = {"channels_first": (4, 5, 2, 3), "channels_last": (4, 2, 3, 5), "tokens": (4, layer.tokens, 5)}
    output, cells = torch.randn(shapes[layer.layout]), torch.randn(4, 5, 2, 3)
    assert torch.equal(layer.replaced(output, layer.channels_first(output)), output)
    assert torch.equal(layer.channels_first(layer.replaced(output, cells)), cells)
    assert torch.equal(layer.channels_first(layer.replaced(output[:1], cells)), cells)
    if layer.layout == "tokens":
        assert torch.equal(layer.replaced(output, cells)[:, : layer.prefix], output[:, : layer.prefix])
        assert torch.equal(layer.channels_first(output)[1, :, 1, 2], output[1, layer.prefix + 5])


def test_the_gradient_of_a_cell_is_that_of_its_token() -> None:
    from fukusen.arrays import Batch
    from fukusen.scores import Logit

    torch.manual_seed(0)
    net = _Transformer().eval().double()
    model = wrap(net, head="softmax", input_size=(3, 32, 32))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    tape = Tape(model, Batch(("a", "b"), images, torch.tensor([1, 4])))
    assert model.layer is not None
    gradient = tape.gradient(Logit(), model.layer)
    tokens = net.tokens(images)
    y = net.norms[0](tokens)
    before = tokens + net.attention[0](y, y, y)[0]
    y = net.norms[1](before).detach().requires_grad_()
    logits = net.head(net.last(before + net.attention[1](y, y, y)[0])[:, 0])
    (expected,) = torch.autograd.grad(logits[0, 1] + logits[1, 4], y)
    torch.testing.assert_close(gradient[:, :, 2, 3], expected[:, 1 + 2 * 4 + 3])
    torch.testing.assert_close(tape.activations(model.layer)[:, :, 0, 1], y[:, 2])


def _timm(name: str, **sizes: object) -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model(name, num_classes=5, **sizes)


def _torchvision_vit() -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    net = models.VisionTransformer(64, 16, 3, 3, 48, 96, num_classes=5)
    nn.init.normal_(net.heads.head.weight)  # zero, so that nothing has an influence, until it is trained
    return net


slow = pytest.mark.slow
SWIN = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "patch_size": 4}
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], Layer]] = {
    "vit": (
        lambda: _timm("vit_tiny_patch16_224", img_size=64, depth=3),
        (64, 64),
        Layer("blocks.2.norm1", 0, "tokens", (192, 4, 4), 1),
    ),
    "wide_vit": (
        lambda: _timm("vit_tiny_patch16_224", img_size=(64, 96), depth=3),
        (64, 96),
        Layer("blocks.2.norm1", 0, "tokens", (192, 4, 6), 1),
    ),
    "mean_vit": (
        lambda: _timm("vit_tiny_patch16_224", img_size=64, depth=3, global_pool="avg"),
        (64, 64),
        Layer("blocks.2", 0, "tokens", (192, 4, 4), 1),
    ),
    "deit_distilled": (
        lambda: _timm("deit_tiny_distilled_patch16_224", img_size=64, depth=3),
        (64, 64),
        Layer("blocks.2.norm1", 0, "tokens", (192, 4, 4), 2),
    ),
    "dinov2_registers": (
        lambda: _timm("vit_small_patch14_reg4_dinov2", img_size=56, depth=3),
        (56, 56),
        Layer("blocks.2.norm1", 0, "tokens", (384, 4, 4), 5),
    ),
    "torchvision_vit": (
        _torchvision_vit,
        (64, 64),
        Layer("encoder.layers.encoder_layer_2.ln_1", 0, "tokens", (48, 4, 4), 1),
    ),
    "swin": (
        lambda: _timm("swin_tiny_patch4_window7_224", img_size=64, **SWIN),
        (64, 64),
        Layer("norm", 0, "channels_last", (48, 8, 8)),
    ),
    "xcit": (
        lambda: _timm("xcit_nano_12_p16_224"),
        (64, 64),
        Layer("cls_attn_blocks.1.norm1", 0, "tokens", (128, 4, 4), 1),
    ),
    "mvitv2": (lambda: _timm("mvitv2_tiny"), (224, 224), Layer("norm", 0, "tokens", (768, 7, 7), 0)),
    "pit": (
        lambda: _timm("pit_ti_224"),
        (224, 224),
        Layer("transformers.2.blocks.3.norm1", 0, "tokens", (256, 7, 7), 1),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow if name in ("xcit", "mvitv2", "pit") else ()) for name in ARCHITECTURES]
)
def test_known_transformers(name: str) -> None:
    make, size, expected = ARCHITECTURES[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = make().eval()
    model = wrap(net, head="softmax", input_size=(3, *size))
    assert model.layer == expected
    capture = model.run(torch.randn(2, 3, *size), [expected], "layer")
    (gradient,) = torch.autograd.grad(capture.logits[:, 0].sum(), [capture.outputs[expected]])
    assert bool((expected.channels_first(gradient).abs().amax(dim=1) > 0).all())
