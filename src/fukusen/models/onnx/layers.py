"""The operations of ONNX that torch has a layer for: it is used, so that rules for layers find what they know."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from fukusen.models.onnx.arithmetic import ARITHMETIC
from fukusen.models.onnx.nodes import Made, Node
from fukusen.models.onnx.shapes import SHAPES

Constants = Mapping[str, Tensor]
OPERATIONS = {**ARITHMETIC, **SHAPES}
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Computed(nn.Module):
    """An operation without weights of its own.

    Args:
        node: which one.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def forward(self, *values: Tensor | None) -> Made:
        """What the operation makes of its inputs; None stands for one that is left out."""
        return OPERATIONS[self.node.kind](self.node, *values)

    def extra_repr(self) -> str:
        """Its kind, for people who print the network."""
        return self.node.kind


class AnyBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of values of any number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's own name
        pass


class Border(nn.Module):
    """Entries of one value around an image, as many as the file says, or as many as windows that reach its ends need.

    Args:
        pads: entries before each spatial axis, then entries behind each; None where the windows say.
        window: the side of a window on each axis, its dilation included.
        strides: of the windows.
        late: whether an odd entry goes behind.
        level: the value.
    """

    def __init__(
        self, pads: list[int] | None, window: list[int], strides: list[int], *, late: bool = True, level: float = 0.0
    ) -> None:
        super().__init__()
        self.pads, self.window, self.strides, self.late, self.level = pads, window, strides, late, level

    def _around(self, sides: torch.Size) -> list[tuple[int, int]]:
        if self.pads is not None:
            half = len(self.pads) // 2
            return list(zip(self.pads[:half], self.pads[half:], strict=True))
        around = []
        for side, window, stride in zip(sides, self.window, self.strides, strict=True):
            missing = max((math.ceil(side / stride) - 1) * stride + window - side, 0)
            less, more = missing // 2, missing - missing // 2
            around.append((less, more) if self.late else (more, less))
        return around

    def forward(self, value: Tensor) -> Tensor:
        """The image with its border."""
        around = self._around(value.shape[2:])
        return F.pad(value, [entries for both in reversed(around) for entries in both], value=self.level)


class EvenPool(nn.Module):
    """The mean of what a window covers of an image with an uneven border, the border itself not counted.

    Args:
        border: what is put around the image.
        pool: the mean over windows that lie within image and border.
    """

    def __init__(self, border: Border, pool: nn.AvgPool2d) -> None:
        super().__init__()
        self.border, self.pool = border, pool

    def forward(self, value: Tensor) -> Tensor:
        """The means."""
        share = self.pool(self.border(torch.ones_like(value[:1, :1])))
        made: Tensor = self.pool(self.border(value)) / share
        return made


def _windows(node: Node, kernel: list[int], level: float = 0.0) -> tuple[Border | None, Any]:
    """The border that has to be made first, and the even one that the layer can make itself."""
    rank = len(kernel)
    auto, dilations = node.get("auto_pad", "NOTSET"), node.get("dilations", [1] * rank)
    reach = [(side - 1) * step + 1 for side, step in zip(kernel, dilations, strict=True)]
    strides = list(node.get("strides", [1] * rank))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return Border(None, reach, strides, late=auto == "SAME_UPPER", level=level), (0,) * rank
    pads = [0] * (2 * rank) if auto == "VALID" else list(node.get("pads", [0] * (2 * rank)))
    # The layers make borders on both sides alike, and pooling layers none that is wider than half their window.
    if pads[:rank] == pads[rank:] and all(2 * pad <= side for pad, side in zip(pads, reach, strict=False)):
        return None, tuple(pads[:rank])
    return Border(pads, reach, strides, level=level), (0,) * rank


def _behind(border: Border | None, layer: nn.Module) -> nn.Module:
    return layer if border is None else nn.Sequential(border, layer)


def _given(node: Node, place: int, constants: Constants) -> Tensor | None:
    return constants.get(node.inputs[place]) if place < len(node.inputs) else None


def _convolution(node: Node, constants: Constants) -> nn.Module:
    weight, bias = _given(node, 1, constants), _given(node, 2, constants)
    if weight is None or (bias is None and len(node.inputs) > 2 and node.inputs[2]):
        raise node.refuse("its weights are not in the file but computed")
    kernel = list(weight.shape[2:])
    if len(kernel) not in _CONVOLUTIONS:
        raise node.refuse(f"it has {len(kernel)} spatial axes")
    border, padding = _windows(node, kernel)
    groups = node.get("group", 1)
    layer = _CONVOLUTIONS[len(kernel)](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(kernel),  # type: ignore[arg-type]
        stride=tuple(node.get("strides", [1] * len(kernel))),  # type: ignore[arg-type]
        padding=padding,
        dilation=tuple(node.get("dilations", [1] * len(kernel))),  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    return _behind(border, _holding(layer, weight=weight, bias=bias))


def _holding(layer: nn.Module, **values: Tensor | None) -> nn.Module:
    """The layer with these weights and buffers, in evaluation mode."""
    for name, value in values.items():
        if value is not None:
            own = value.clone()
            setattr(layer, name, own if name.startswith("running") else nn.Parameter(own, requires_grad=False))
    return layer.eval()


def linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A linear layer that holds these weights (outputs, inputs)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _holding(layer, weight=weight, bias=bias)


def _general_product(node: Node, constants: Constants) -> nn.Module:
    weight, bias = _given(node, 1, constants), _given(node, 2, constants)
    computed = len(node.inputs) > 2 and node.inputs[2] and bias is None
    wide = bias is not None and bias.dim() > 0 and bias.numel() != bias.shape[-1]
    if weight is None or node.get("transA", 0) or computed or wide:
        return Computed(node)
    weight = weight if node.get("transB", 0) else weight.T
    if bias is not None:
        bias = (bias * node.get("beta", 1.0)).reshape(-1).expand(weight.shape[0])
    return linear(weight * node.get("alpha", 1.0), bias)


def _product(node: Node, constants: Constants) -> nn.Module:
    weight = _given(node, 1, constants)
    return Computed(node) if weight is None or weight.dim() != 2 else linear(weight.T, None)


def _batch_norm(node: Node, constants: Constants) -> nn.Module:
    given = [_given(node, place, constants) for place in range(1, 5)]
    if any(value is None for value in given) or node.get("training_mode", 0) or not node.get("spatial", 1):
        raise node.refuse("its statistics are not in the file")
    weight, bias, mean, variance = given
    layer = AnyBatchNorm(len(weight), eps=node.get("epsilon", 1e-5), device="meta")  # type: ignore[arg-type]
    layer.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return _holding(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _layer_norm(node: Node, constants: Constants) -> nn.Module:
    scale, shift = _given(node, 1, constants), _given(node, 2, constants)
    known = shift is not None or len(node.inputs) < 3 or not node.inputs[2]
    if scale is None or not known or node.get("axis", -1) != -scale.dim():
        return Computed(node)
    shift = torch.zeros_like(scale) if shift is None else shift
    layer = nn.LayerNorm(list(scale.shape), eps=node.get("epsilon", 1e-5), device="meta")
    return _holding(layer, weight=scale, bias=shift)


def _is_plain_pool(node: Node) -> bool:
    return len(node.get("kernel_shape")) == 2 and len([name for name in node.outputs if name]) == 1


def _max_pool(node: Node, _constants: Constants) -> nn.Module:
    if not _is_plain_pool(node):
        raise node.refuse("only pooling over two axes that returns no places is known")
    kernel = list(node.get("kernel_shape"))
    border, padding = _windows(node, kernel, level=-math.inf)
    strides, dilations = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    pool = nn.MaxPool2d(
        tuple(kernel), tuple(strides), padding, tuple(dilations), ceil_mode=bool(node.get("ceil_mode", 0))
    )
    return _behind(border, pool)


def _average_pool(node: Node, _constants: Constants) -> nn.Module:
    if not _is_plain_pool(node) or node.get("dilations", [1, 1]) != [1, 1]:
        raise node.refuse("only pooling over two axes without dilation is known")
    kernel, counted = list(node.get("kernel_shape")), bool(node.get("count_include_pad", 0))
    border, padding = _windows(node, kernel)
    pool = nn.AvgPool2d(
        tuple(kernel),
        tuple(node.get("strides", [1, 1])),
        padding,
        ceil_mode=bool(node.get("ceil_mode", 0)),
        count_include_pad=counted,
    )
    return EvenPool(border, pool) if border is not None and not counted else _behind(border, pool)


def _clip(node: Node, constants: Constants) -> nn.Module:
    """ReLU6 and ReLU where they are meant."""
    low, high = node.get("min"), node.get("max")
    if len(node.inputs) > 1:
        given = [_given(node, place, constants) for place in (1, 2)]
        low, high = (None if value is None else value.item() for value in given)
        left_out = [place >= len(node.inputs) or not node.inputs[place] for place in (1, 2)]
        if any(value is None and not left for value, left in zip(given, left_out, strict=True)):
            return Computed(node)
    if (low, high) == (0, 6):
        return nn.ReLU6()
    return nn.ReLU() if low == 0 and (high is None or high == math.inf) else Computed(node)


def _dropout(node: Node, constants: Constants) -> nn.Module:
    training = _given(node, 2, constants)
    if len(node.inputs) > 2 and node.inputs[2] and (training is None or bool(training)):
        raise node.refuse("it is meant to drop values")
    return nn.Identity()


def _softmax(node: Node, _constants: Constants) -> nn.Module:
    return nn.Softmax(dim=node.get("axis", -1)) if node.opset >= 13 else Computed(node)


def _flatten(node: Node, _constants: Constants) -> nn.Module:
    return nn.Flatten(1) if node.get("axis", 1) == 1 else Computed(node)


LAYERS: dict[str, Callable[[Node, Constants], nn.Module]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _convolution,
    "Dropout": _dropout,
    "Elu": lambda node, _constants: nn.ELU(node.get("alpha", 1.0)),
    "Flatten": _flatten,
    "Gelu": lambda node, _constants: nn.GELU(node.get("approximate", "none")),
    "Gemm": _general_product,
    "GlobalAveragePool": lambda _node, _constants: nn.AdaptiveAvgPool2d(1),
    "GlobalMaxPool": lambda _node, _constants: nn.AdaptiveMaxPool2d(1),
    "HardSwish": lambda _node, _constants: nn.Hardswish(),
    "Identity": lambda _node, _constants: nn.Identity(),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda node, _constants: nn.LeakyReLU(node.get("alpha", 0.01)),
    "MatMul": _product,
    "MaxPool": _max_pool,
    "Mish": lambda _node, _constants: nn.Mish(),
    "Relu": lambda _node, _constants: nn.ReLU(),
    "Sigmoid": lambda _node, _constants: nn.Sigmoid(),
    "Softmax": _softmax,
    "Softplus": lambda _node, _constants: nn.Softplus(),
    "Softsign": lambda _node, _constants: nn.Softsign(),
    "Tanh": lambda _node, _constants: nn.Tanh(),
}


def layer_of(node: Node, constants: Constants) -> nn.Module:
    """The module that does what a node says; weights that the file holds are its own.

    Raises:
        ModelError: the node computes something that is not known here.
    """
    return LAYERS[node.kind](node, constants) if node.kind in LAYERS else Computed(node)


def is_known(kind: str) -> bool:
    """Whether nodes of that kind can be converted."""
    return kind in LAYERS or kind in OPERATIONS
