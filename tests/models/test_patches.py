"""A convolution over patches as a product: the same numbers, and left alone wherever it is anything else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fukusen.models.patches import as_products


class _Own(nn.Conv2d):
    """What a subclass computes is not for us to say."""


class _Seen(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def _run(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone().requires_grad_()
    outputs = net(leaf)
    (gradient,) = torch.autograd.grad(outputs.sin().sum(), leaf)
    return outputs.detach(), gradient


@pytest.mark.parametrize("size", [(12, 12), (13, 14)])
@pytest.mark.parametrize("kernel", [4, (2, 3), (1, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_the_convolution(size: tuple[int, int], kernel: Any, bias: bool) -> None:
    """Also where the last rows and columns fill no patch, and no gradient reaches them."""
    images = torch.randn(3, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net = nn.Sequential(nn.Conv2d(3, 5, kernel, kernel, bias=bias)).double()
    fast = copy.deepcopy(net)
    assert as_products(fast) == 1
    for found, expected in zip(_run(fast, images), _run(net, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(3, 5, 4, 2),
        nn.Conv2d(3, 5, 4, 4, padding=1),
        nn.Conv2d(3, 5, 2, 2, dilation=2),
        nn.Conv2d(3, 6, 2, 2, groups=3),
        nn.Conv2d(3, 5, 1, 1),
        nn.Conv2d(8, 5, 2, 2),
        _Own(3, 5, 4, 4),
    ],
)
def test_everything_else_is_left_alone(other: nn.Module) -> None:
    """Patches that overlap, have gaps or a margin, many channels, and convolutions that are somebody's own."""
    kind = type(other)
    assert as_products(nn.Sequential(other)) == 0
    assert type(other) is kind


def test_one_that_somebody_listens_to_is_left_alone() -> None:
    net = nn.Conv2d(3, 5, 4, 4)
    net.register_forward_hook(lambda *_seen: None)
    assert as_products(net) == 0


def test_images_too_small_for_a_patch_are_refused_as_before() -> None:
    net = nn.Conv2d(3, 5, 4, 4)
    assert as_products(net) == 1
    with pytest.raises(RuntimeError, match="Kernel size"):
        net(torch.zeros(1, 3, 3, 3))


def test_who_watches_functions_sees_a_convolution() -> None:
    """Methods that intercept what a network calls have a rule for it."""
    net = nn.Conv2d(3, 5, 4, 4)
    assert as_products(net) == 1
    with _Seen() as seen:
        net(torch.zeros(1, 3, 8, 8))
    assert "conv2d" in seen.names
