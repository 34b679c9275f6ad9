"""A network made ready for layer-wise relevance: copied once, looked through, batch norms merged into their layers."""

from __future__ import annotations

import copy
import re
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from fukusen.arrays import Images
from fukusen.methods.guided import nodes
from fukusen.methods.interception import Function, Intercepted, functions, tensors
from fukusen.methods.sharing import RULES, at_logits, is_rule
from fukusen.models.classifier import unwrapped
from fukusen.records import Undefined

RULED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = nn.modules.batchnorm._BatchNorm
_HARMLESS = (nn.LayerNorm, nn.PReLU)
_WEIGHING = functions(
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear"
) | functions(
    "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention", "multi_head_attention_forward"
)
_ROUTES = re.compile(
    r"(View|UnsafeView|ReshapeAlias|AsStrided|Transpose|Permute|T|Expand|Clone|Alias|Slice|Select|Squeeze|Unsqueeze|Cat|Stack|"
    r"Split|SplitWithSizes|Unbind|Chunk|Index|Roll|ToCopy|Copy|ConstantPadNd|ReflectionPad2D|MaxPool2DWithIndices|"
    r"MaxPool3DWithIndices|AdaptiveMaxPool2D|AdaptiveMaxPool1D|Amax|Max|Convolution|Addmm|Mm|Mv|MkldnnConvolution)"
    r"Backward\d*|CopyBackwards|CopySlices|torch::autograd::(AccumulateGrad|CopySlices|CopyBackwards)"
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A copy of a network whose layers can be given their rules.

    Args:
        net: the copy, in evaluation mode, its parameters frozen, its batch norms merged where they follow a layer.
        first: the names of the layers that the image comes to first.
        sees_image: whether it comes to them as it is, and not scaled or cut on the way.
    """

    net: nn.Module
    first: frozenset[str]
    sees_image: bool


@dataclass
class _Seen:
    """What one forward pass showed."""

    calls: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    merges: list[tuple[str, str]] = field(default_factory=list)
    made_by: dict[int, str] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    inside: list[str] = field(default_factory=list)


def _own_forward(module: nn.Module) -> bool:
    """Whether it does something else than torch's layer of its kind."""
    return all(type(module).forward is not kind.forward for kind in (*RULED, nn.modules.conv._ConvNd))


def _watch(module: nn.Module, name: str, seen: _Seen, image: Tensor) -> list[Any]:
    def before(_module: nn.Module, inputs: Any) -> None:
        seen.calls[name] += 1
        seen.inside.append(name)
        if isinstance(module, RULED):
            seen.order.append(name)
            if inputs[0].shape == image.shape and torch.equal(inputs[0], image):
                seen.first.append(name)
            if _own_forward(module):
                seen.inputs[name] = inputs[0].detach().clone()
        elif isinstance(module, _NORMS) and id(inputs[0]) in seen.made_by:
            seen.merges.append((seen.made_by[id(inputs[0])], name))

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.inside.remove(name)
        if isinstance(module, RULED) and isinstance(output, Tensor):
            seen.made_by[id(output)] = name
            seen.kept.append(output)

    return [
        module.register_forward_pre_hook(before, prepend=True),
        module.register_forward_hook(after, prepend=True),
    ]


def _is_known(module: nn.Module) -> bool:
    """Whether its own weights are where the rules look for them."""
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, RULED):
        return "weight" in own
    return not own or isinstance(module, (_NORMS, *_HARMLESS)) or any(True for _ in module.children())


def _look(net: nn.Module, images: Images) -> tuple[_Seen, Tensor]:
    """One forward pass under the rules, watched; and the network's raw output with its graph."""
    seen, leaf = _Seen(), images.clone().requires_grad_()
    modules = {name: module for name, module in net.named_modules() if name}
    seen.unknown |= {type(module).__name__ for module in modules.values() if not _is_known(module)}

    def outside(func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        weighed = not any(isinstance(modules[name], RULED) for name in seen.inside)
        if weighed and any(one.requires_grad for one in tensors(args, kwargs)):
            seen.unknown.add(getattr(func, "__name__", str(func)).strip("_"))
        return func(*args, **kwargs)

    watched = [(name, module) for name, module in modules.items() if isinstance(module, (*RULED, _NORMS))]
    handles = [handle for name, module in watched for handle in _watch(module, name, seen, images)]
    try:
        with torch.enable_grad(), Intercepted({**RULES, **dict.fromkeys(_WEIGHING, outside)}):
            raw = unwrapped(net(leaf.clone()))
    finally:
        for handle in handles:
            handle.remove()
    return seen, raw


def _strange_steps(raw: Tensor) -> set[str]:
    """What lies on the way back and is neither a rule of ours, nor a layer's, nor only moves numbers about."""
    done_to_logits = at_logits(raw)
    strange = set()
    for node in nodes(raw.grad_fn):
        name = node.name()
        if is_rule(node) or node in done_to_logits or _ROUTES.fullmatch(name):
            continue
        if name != "AddBackward0" or not _adds_constant(node):
            strange.add(re.sub(r"Backward\d*$", "", name))
    return strange


def _adds_constant(node: Node) -> bool:
    return sum(before is not None for before, _ in node.next_functions) == 1


def _is_linear(module: Any, below: Tensor) -> bool:
    """Whether twice the weights give twice the output, its bias left out."""
    weight, bias = module.weight, module.bias
    try:
        with torch.no_grad():
            module.bias = None
            once = module.forward(below)
            module.weight = nn.Parameter(2 * weight, requires_grad=False)
            twice = module.forward(below)
    finally:
        module.weight, module.bias = weight, bias
    return torch.allclose(twice, 2 * once, rtol=1e-4, atol=1e-4 * float(once.abs().max()))


def _reason(net: nn.Module, seen: _Seen, raw: Tensor) -> str | None:
    """Why layer-wise relevance cannot be right here, if it cannot."""
    modules = dict(net.named_modules())
    twice = [name for name, count in seen.calls.items() if count > 1]
    strange = _strange_steps(raw)
    unfit = {
        type(modules[name]).__name__ for name, below in seen.inputs.items() if not _is_linear(modules[name], below)
    }
    if seen.unknown or unfit:
        return f"LRP has no rule for layers of the kind {', '.join(sorted(seen.unknown | unfit))}"
    if twice:
        return f"LRP cannot be right where a layer is used twice, as {twice[0]!r} is"
    if strange:
        return f"LRP has no rule for steps of the kind {', '.join(sorted(strange))}"
    return None if seen.order else "LRP needs a layer with weights, and the network has none"


def _fold(linear: Any, norm: Any) -> None:
    """Move a batch norm into the layer that feeds it, exactly, its epsilon included; both are a copy's own."""
    weight = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
    shift = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias
    scale = weight / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros_like(norm.running_mean) if linear.bias is None else linear.bias
    merged = linear.weight * scale.reshape(-1, *(1 for _ in linear.weight.shape[1:]))
    linear.weight = nn.Parameter(merged, requires_grad=False)
    linear.bias = nn.Parameter((bias - norm.running_mean) * scale + shift, requires_grad=False)
    norm.running_mean, norm.running_var = torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_var)
    norm.weight, norm.bias, norm.eps = None, None, 0.0


def prepare(net: nn.Module, images: Images) -> Prepared | Undefined:
    """A copy ready for rules, or why there cannot be one.

    Args:
        net: the network, which is left alone.
        images: one image to look at it with, (1, c, h, w).
    """
    try:
        twin = copy.deepcopy(net).eval().requires_grad_(False)
    except Exception as error:  # noqa: BLE001 - whatever a network's own copying raises
        return Undefined(f"the network cannot be copied ({error})")
    seen, raw = _look(twin, images)
    if not raw.requires_grad:
        return Undefined("no gradient comes back from the network's outputs, so no relevance does")
    reason = _reason(twin, seen, raw)
    if reason:
        return Undefined(reason)
    modules = dict(twin.named_modules())
    for linear, norm in seen.merges:
        _fold(modules[linear], modules[norm])
    return Prepared(twin, frozenset(seen.first or seen.order[:1]), sees_image=bool(seen.first))


_State = tuple[Any, ...]
_READY: weakref.WeakKeyDictionary[nn.Module, tuple[_State, list[Prepared | Undefined]]] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def _state(net: nn.Module) -> _State:
    """What changes when the network is changed: its parts, and the versions of its weights."""
    parts = tuple(id(module) for module in net.modules())
    values = (*net.parameters(), *net.buffers())
    return parts, tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in values)


@contextmanager
def prepared(net: nn.Module, images: Images, *, afresh: bool = False) -> Iterator[Prepared | Undefined]:
    """A network made ready, for one thread at a time: copies are kept as long as the network lives and is unchanged.

    Args:
        net: the network.
        images: images of which the first is looked at where there is no copy yet.
        afresh: forget the copies that there are.
    """
    state = _state(net)
    with _GUARD:
        known, spare = _READY.get(net, (None, []))
        if known != state or afresh:
            spare = []
            _READY[net] = (state, spare)
        ready = spare.pop() if spare else None
    own = prepare(net, images[:1]) if ready is None else ready
    try:
        yield own
    finally:
        spare.append(own)
