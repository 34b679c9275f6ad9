"""Convolutions over patches that do not overlap, computed as the one product that they are."""

from __future__ import annotations

from torch import Tensor, nn
from torch.overrides import has_torch_function

from fukusen.models.folding import untouched

_FEW = 4


class _Patches(nn.Conv2d):
    """A convolution whose kernel is as large as its stride: every patch of the images meets the weights once.

    The way back from a few channels, such as an image's three, is what a CPU's convolutions are slow at: they fill the
    channels up to the width of its registers. Whoever watches the calls of torch's functions still sees a convolution.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """The convolution of values (b, c, h, w)."""
        (high, wide), rows, columns = self.kernel_size, input.shape[-2], input.shape[-1]
        if input.dim() != 4 or min(rows // high, columns // wide) == 0 or has_torch_function((input,)):
            return super().forward(input)
        whole = input[..., : rows // high * high, : columns // wide * wide]
        cells = whole.unflatten(3, (-1, wide)).unflatten(2, (-1, high)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return nn.functional.linear(cells, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def as_products(net: nn.Module) -> int:
    """Let every such convolution of few channels run as a product, in place; how many there were.

    One that somebody listens to, or whose forward is not torch's own, is left alone.

    Args:
        net: the network, the caller's own to change.
    """
    found = [module for module in net.modules() if type(module) is nn.Conv2d and _is_of_patches(module)]
    for module in found:
        module.__class__ = _Patches
    return len(found)


def _is_of_patches(module: nn.Conv2d) -> bool:
    apart = tuple(module.stride) == tuple(module.kernel_size) and max(module.kernel_size) > 1
    plain = module.padding in ("valid", (0, 0)) and tuple(module.dilation) == (1, 1) and module.groups == 1
    return apart and plain and module.in_channels <= _FEW and untouched(module)
