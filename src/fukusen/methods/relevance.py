"""Relevance passed back layer by layer, under rules instead of derivatives."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fukusen.errors import CallError, require
from fukusen.methods.method import Explained, Family, Reading, Track, methods
from fukusen.models import Classifier
from fukusen.models.evaluation import evaluating
from fukusen.records import Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

_RULED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SAME = 1e-3


class _ProportionalSum(torch.autograd.Function):
    """An addition that shares relevance between its terms in proportion to their values."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, Tensor]:
        first, second = ctx.saved_tensors
        total = first + second
        tiny = 1e-6
        share = above[0] / (total + torch.where(total >= 0, tiny, -tiny))
        return first * share, second * share


class _SharedSums(TorchFunctionMode):
    """Within it, adding two activations of one shape shares relevance: residual connections need no canonizer."""

    _ADDS = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._ADDS and not kwargs and len(args) == 2:
            first, second = args
            tensors = isinstance(first, Tensor) and isinstance(second, Tensor)
            if tensors and first.shape == second.shape and first.requires_grad and second.requires_grad:
                return _ProportionalSum.apply(first, second)
        return func(*args, **(kwargs or {}))


def _look(net: nn.Module, images: Tensor) -> tuple[list[tuple[str, str]], str | None]:
    """Which linear layer feeds which batch norm in one forward pass, and why LRP cannot be right here, if it cannot."""
    calls: Counter[str] = Counter()
    made_by: dict[int, str] = {}
    kept: list[Tensor] = []
    merges: list[tuple[str, str]] = []
    unknown: set[str] = set()

    def watch(module: nn.Module, name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(inputs[0]) in made_by:
                merges.append((made_by[id(inputs[0])], name))
            elif isinstance(module, _RULED) and isinstance(output, Tensor):
                made_by[id(output)] = name
                kept.append(output)
            elif not isinstance(module, _RULED) and any(True for _ in module.parameters(recurse=False)):
                unknown.add(type(module).__name__)

        return module.register_forward_hook(hook, prepend=True)

    handles = [watch(module, name) for name, module in net.named_modules() if name]
    try:
        with torch.no_grad():
            net(images)
    finally:
        for handle in handles:
            handle.remove()
    modules = dict(net.named_modules())
    twice = [name for name, count in calls.items() if count > 1 and isinstance(modules[name], _RULED)]
    if unknown:
        return merges, f"LRP has no rule for layers of the kind {', '.join(sorted(unknown))}"
    if twice:
        return merges, f"LRP cannot be right where a layer is used twice, as {twice[0]!r} is"
    return merges, None


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


@methods.register
@dataclass(frozen=True)
class Lrp:
    """Layer-wise relevance propagation under zennit's epsilon-plus-flat composite.

    Relevance starts as the score's cotangent on the logits, so that zero-sum scores start contrastively, and it is
    linear in that start. Biases are given none of it, batch norms are merged into the layers that feed them, and
    additions share it in proportion to their terms. Undefined where the network has layers without a rule, or uses one
    twice. Needs the optional package zennit. Source: bach2015lrp, montavon2019lrp, anders2022zennit.

    Args:
        epsilon: stabiliser of the epsilon rule, above 0.
    """

    epsilon: float = 1e-6
    name: ClassVar[str] = "lrp"
    track: ClassVar[Track] = "inner"
    family: ClassVar[Family] = "relevance"
    reading: ClassVar[Reading] = "positive"
    source: ClassVar[str] = "bach2015lrp"
    cost: ClassVar[str] = "1 forward pass and 3 relevance passes"
    single_pass: ClassVar[bool] = False
    at_input: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(self.epsilon > 0, "Lrp", "epsilon", "a number > 0", self.epsilon)

    def maps(self, tape: Tape, scores: Sequence[Score]) -> list[Explained]:
        """Signed maps (b, h, w) at the input's resolution, relevance summed over the channels."""
        try:
            from zennit.composites import EpsilonPlusFlat
        except ImportError:
            return [Undefined("the package zennit is not installed; pip install 'fukusen[lrp]'")] * len(scores)
        model = tape.classifier
        images = tape.batch.images.to(model.device, model.dtype)
        try:
            net = copy.deepcopy(model.net).eval().requires_grad_(False)
        except Exception as error:  # noqa: BLE001 - whatever a network's own copying raises
            return [Undefined(f"the network cannot be copied ({error})")] * len(scores)
        for module in net.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        merges, reason = _look(net, images[:1])
        if reason:
            return [Undefined(reason)] * len(scores)
        modules = dict(net.named_modules())
        for linear, norm in merges:
            _fold(modules[linear], modules[norm])
        composite = EpsilonPlusFlat(epsilon=self.epsilon, zero_params=["bias"])
        with composite.context(net) as ruled, evaluating(net), torch.enable_grad(), _SharedSums():
            return self._propagate(tape, model, ruled, images, scores)

    def _propagate(
        self, tape: Tape, model: Classifier, ruled: nn.Module, images: Tensor, scores: Sequence[Score]
    ) -> list[Explained]:
        leaf = images.clone().requires_grad_()
        logits = model.head.logits(ruled(leaf))
        if not torch.allclose(logits.detach(), tape.logits, rtol=_SAME, atol=_SAME * float(tape.logits.abs().max())):
            return [Undefined("the network cannot be copied faithfully")] * len(scores)
        made: dict[Score, Tensor] = {}
        found: list[Explained] = []
        for score in scores:
            direction, scale = tape.factors(score)
            if direction not in made:
                start = tape.cotangent(direction)
                (relevance,) = torch.autograd.grad(logits, leaf, start, retain_graph=True)
                made[direction] = relevance.sum(dim=1).detach()
            own = made[direction]
            found.append(own if direction == score else own * scale.to(own.dtype)[:, None, None])
        return found


def needs_zennit(method: object) -> None:
    """Refuse LRP by name where it cannot run at all.

    Raises:
        CallError: the method is LRP and zennit is not installed.
    """
    if isinstance(method, Lrp):
        try:
            import zennit  # noqa: F401
        except ImportError:
            raise CallError("The method 'lrp' needs the package zennit: pip install 'fukusen[lrp]'.") from None
