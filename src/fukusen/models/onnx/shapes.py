"""The operations of ONNX that move entries: shapes, slices, joins, and tensors made from nothing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

from fukusen.models.onnx.arithmetic import together
from fukusen.models.onnx.nodes import Made, Node, Operation, integers, own_axes

# Numbers of ONNX's TensorProto.DataType; every floating type is taken as the network's own.
_FLOATS = {1, 10, 11, 16}
_WHOLES = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool}
_FARTHEST = 2**62


def _reshaped(node: Node, value: Tensor, shape: Tensor | None = None) -> Tensor:
    asked = list(node.get("shape", ())) if shape is None else integers(shape)
    if not node.get("allowzero", 0):
        asked = [value.shape[place] if side == 0 else side for place, side in enumerate(asked)]
    return value.reshape(tuple(asked))


def _flattened(node: Node, value: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + value.dim() if axis < 0 else axis
    return value.reshape(math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))


def _transposed(node: Node, value: Tensor) -> Tensor:
    return value.permute(node.get("perm", list(reversed(range(value.dim())))))


def _squeezed(node: Node, value: Tensor, axes: Tensor | None = None) -> Tensor:
    named = own_axes(node, axes)
    return value.squeeze() if named is None else value.squeeze(tuple(named))


def _unsqueezed(node: Node, value: Tensor, axes: Tensor | None = None) -> Tensor:
    named = own_axes(node, axes) or []
    rank = value.dim() + len(named)
    for axis in sorted(axis % rank for axis in named):
        value = value.unsqueeze(axis)
    return value


def _joined(node: Node, *values: Tensor) -> Tensor:
    """A part made once for one image, such as a class token, goes beside every image of the batch."""
    axis, parts = node.get("axis", 1), together(*values)
    rows = max(part.shape[0] if part.dim() else 1 for part in parts)
    if axis % parts[0].dim() != 0:
        parts = [part.expand(rows, *part.shape[1:]) if part.shape[0] == 1 else part for part in parts]
    return torch.cat(parts, dim=axis)


def _split(node: Node, value: Tensor, sizes: Tensor | None = None) -> Made:
    axis = node.get("axis", 0)
    asked = node.get("split") if sizes is None else integers(sizes)
    if asked is None:
        parts = len(node.outputs)
        asked = -(-value.shape[axis] // parts)
    return tuple(value.split(asked, dim=axis))


def _sliced(node: Node, value: Tensor, *given: Tensor | None) -> Tensor:
    if given:
        starts, ends, axes, steps = (None if part is None else integers(part) for part in (*given, None, None)[:4])
    else:
        starts, ends, axes, steps = node.get("starts"), node.get("ends"), node.get("axes"), None
    starts, ends = starts or [], ends or []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[place] if axes else place
        step = steps[place] if steps else 1
        if step > 0:
            chosen: list[slice] = [slice(None)] * value.dim()
            chosen[axis] = slice(max(start, -_FARTHEST), min(end, _FARTHEST), step)
            value = value[tuple(chosen)]
        else:
            kept = range(value.shape[axis])[start:end:step]
            value = value.index_select(axis, torch.tensor(list(kept), dtype=torch.int64, device=value.device))
    return value


def _gathered(node: Node, value: Tensor, places: Tensor) -> Tensor:
    axis = node.get("axis", 0) % value.dim()
    chosen = (places % value.shape[axis]).to(value.device)
    made = value.index_select(axis, chosen.reshape(-1))
    return made.reshape((*value.shape[:axis], *places.shape, *value.shape[axis + 1 :]))


def _gathered_each(node: Node, value: Tensor, places: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return value.gather(axis, (places % value.shape[axis]).to(value.device))


def _shape_of(node: Node, value: Tensor) -> Tensor:
    return torch.tensor(value.shape[node.get("start", 0) : node.get("end")], dtype=torch.int64)


def _size_of(_node: Node, value: Tensor) -> Tensor:
    return torch.tensor(value.numel(), dtype=torch.int64)


def _expanded(_node: Node, value: Tensor, shape: Tensor) -> Tensor:
    return value.expand(torch.broadcast_shapes(value.shape, integers(shape)))


def _tiled(_node: Node, value: Tensor, repeats: Tensor) -> Tensor:
    return value.repeat(integers(repeats))


def _cast(node: Node, value: Tensor, *_like: Tensor) -> Tensor:
    to = node.get("to")
    if to in _FLOATS:
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    if to not in _WHOLES:
        raise node.refuse("its type is no number of torch's")
    return value.to(_WHOLES[to])


def _filled(node: Node, shape: Tensor) -> Tensor:
    value: Tensor = node.get("value", torch.zeros(1))
    return value.reshape(1).expand(integers(shape)).clone() if shape.numel() else value.reshape(())


def _ranged(_node: Node, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _triangle(node: Node, value: Tensor, offset: Tensor | None = None) -> Tensor:
    diagonal = 0 if offset is None else int(offset.item())
    return value.triu(diagonal) if node.get("upper", 1) else value.tril(diagonal)


def _padded(node: Node, value: Tensor, *given: Tensor | None) -> Tensor:
    pads, filling, axes = (*given, None, None, None)[:3]
    ends = node.get("pads", node.get("paddings")) if pads is None else integers(pads)
    level = node.get("value", 0.0) if filling is None else filling.item()
    named = list(range(value.dim())) if axes is None else [axis % value.dim() for axis in integers(axes)]
    half = len(named)
    around = {axis: (ends[place], ends[place + half]) for place, axis in enumerate(named)}
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        node.get("mode", "constant")
    ]
    inner = min((axis for axis, both in around.items() if any(both)), default=value.dim() - 1)
    asked = [side for axis in reversed(range(inner, value.dim())) for side in around.get(axis, (0, 0))]
    return F.pad(value, asked, mode, level) if mode == "constant" else F.pad(value, asked, mode)


def _resized(node: Node, value: Tensor, *given: Tensor | None) -> Tensor:
    """What ``torch.nn.functional.interpolate`` computes, too; the other rules of sampling are refused."""
    mode, rule = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    nearest = mode == "nearest" and rule == "asymmetric" and node.get("nearest_mode", "") == "floor"
    smooth = mode in ("linear", "cubic") and rule in ("half_pixel", "pytorch_half_pixel", "align_corners")
    others = {"antialias": 0, "axes": None, "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch"}
    plain = all(node.get(name, usual) == usual for name, usual in (*others.items(), ("cubic_coeff_a", -0.75)))
    asked = _asked_sides(node, value, given)
    if value.dim() != 4 or not (nearest or smooth) or not plain or 1 in asked:
        raise node.refuse(f"resizing by {mode} with {rule} is not known in this form")
    if nearest:
        return F.interpolate(value, asked, mode="nearest")
    kind = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    return F.interpolate(value, asked, mode=kind, align_corners=rule == "align_corners")


def _asked_sides(node: Node, value: Tensor, given: tuple[Tensor | None, ...]) -> list[int]:
    """Rows and columns after resizing, from a size or from scales that leave no fraction of a pixel."""
    scales, sizes = (given[0], None) if len(given) == 1 else (*given, None, None)[1:3]
    if sizes is not None and sizes.numel() == value.dim():
        return integers(sizes)[-2:]
    if scales is None or scales.numel() != value.dim():
        raise node.refuse("it says no size")
    exact = [side * scale for side, scale in zip(value.shape[-2:], scales.tolist()[-2:], strict=True)]
    if any(side != round(side) for side in exact):
        raise node.refuse("it leaves a fraction of a pixel")
    return [round(side) for side in exact]


def _depth_to_space(node: Node, value: Tensor) -> Tensor:
    side = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(value, side)
    images, channels, rows, columns = value.shape
    blocks = value.reshape(images, side, side, channels // side**2, rows, columns)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(images, channels // side**2, rows * side, columns * side)


def _space_to_depth(node: Node, value: Tensor) -> Tensor:
    side = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(value, side)
    images, channels, rows, columns = value.shape
    blocks = value.reshape(images, channels, rows // side, side, columns // side, side)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(images, channels * side**2, rows // side, columns // side)


SHAPES: dict[str, Operation] = {
    "Cast": _cast,
    "Concat": _joined,
    "ConstantOfShape": _filled,
    "DepthToSpace": _depth_to_space,
    "Expand": _expanded,
    "Flatten": _flattened,
    "Gather": _gathered,
    "GatherElements": _gathered_each,
    "Pad": _padded,
    "Range": _ranged,
    "Reshape": _reshaped,
    "Resize": _resized,
    "Shape": _shape_of,
    "Size": _size_of,
    "Slice": _sliced,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeezed,
    "Tile": _tiled,
    "Transpose": _transposed,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueezed,
}
