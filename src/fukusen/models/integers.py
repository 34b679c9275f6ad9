"""Networks that compute in integers: their parts, and why there are no gradients of them."""

from __future__ import annotations

from collections import Counter

from torch import nn

_PARTS = ("LinearPackedParams", "Quantize", "DeQuantize")
_PACKAGES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")


def computes_in_integers(module: nn.Module) -> bool:
    """Whether the module is one of torch's quantised layers; weights that are kept in integers alone are none."""
    return type(module).__module__.startswith(_PACKAGES)


def why_integers(net: nn.Module) -> str:
    """Why nothing of this network can be differentiated, in one sentence with the remedy; empty where it can.

    Example:
        >>> why_integers(nn.Linear(2, 2))
        ''
    """
    kinds = Counter(type(module).__name__ for module in net.modules() if computes_in_integers(module))
    if not kinds:
        return ""
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in _PARTS)
    return (
        f"The network is quantised ({listed}): its integers have no gradients, so nothing but its behaviour can be "
        'explained, as methods=["occlusion"] does. For anything else give the float network that it was made from.'
    )
