"""Batch norms and margins moved into the convolutions beside them, found by looking at a forward pass."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fukusen.arrays import Images
from fukusen.models.evaluation import evaluating

_SAME = 1e-4


class _InPlaceOfNorm(nn.Module):
    """Stands where a batch norm was and hands on what the convolution made of it.

    A norm that activates as well, such as timm's, keeps its activation under its own name.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        for name, child in norm.named_children():
            self.add_module(name, child)

    def forward(self, values: Tensor) -> Tensor:
        """The values themselves, after the norm's own activation if it has one."""
        for child in self.children():
            values = child(values)
        return values


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values if isinstance(values, list | tuple) else [values]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


class _Uses(TorchFunctionMode):
    """Counts how often each tensor goes into a computation within it."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[int] = Counter()
        self._counting = True

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """What is done within it is no use of the network's."""
        self._counting = False
        try:
            yield
        finally:
            self._counting = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [id(value) for value in _tensors([*args, *(kwargs or {}).values()])]
        results = [id(value) for value in _tensors(made)]
        for result in {*results} - {*given}:
            del self.of[result]  # what was counted there was another tensor's, which is gone
        if self._counting and results:
            self.of.update(given)
        return made


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a convolution, a batch norm or a margin: what it was given and what it made."""

    name: str
    given: Tensor
    made: Tensor
    copies: tuple[Tensor, Tensor]


@dataclass(eq=False)
class _Watch:
    """What one forward pass shows: every call that could be folded, and which modules hand on which tensor."""

    convolutions: dict[int, _Call] = field(default_factory=dict)
    norms: list[_Call] = field(default_factory=list)
    margins: list[_Call] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    names: dict[int, set[str]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    uses: _Uses = field(default_factory=_Uses)
    work: int = 0

    def hook_for(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        """A forward hook for the module of that name."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.calls[name] += 1
            self.kept.append(output)  # an identity stays the tensor's own only as long as the tensor lives
            self.names.setdefault(id(output), set()).add(name)
            if not isinstance(output, Tensor) or not inputs or not isinstance(inputs[0], Tensor):
                return
            # The originals tell who feeds whom; the copies stay what they are when the network goes on in place.
            self.work += output.numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
            if isinstance(module, nn.Conv2d):
                with self.uses.not_counted():
                    copies = (inputs[0].clone(), output)
                self.convolutions[id(output)] = _Call(name, inputs[0], output, copies)
            elif _is_norm(module):
                self.norms.append(_Call(name, inputs[0], output, (inputs[0], output.clone())))
            elif type(module) is nn.ZeroPad2d:
                self.margins.append(_Call(name, inputs[0], output, (inputs[0], output)))

        return hook


def _is_norm(module: nn.Module) -> bool:
    """Whether the module is torch's batch norm, or timm's that activates as well; a subclass may compute anything."""
    kinds: list[Any] = [nn.BatchNorm2d]
    if "timm.layers" in sys.modules:
        kinds.append(getattr(sys.modules["timm.layers"], "BatchNormAct2d", None))
    return type(module) in kinds


def untouched(module: nn.Module) -> bool:
    """Whether nobody listens to the module, replaces its forward, or computes its weights from others."""
    own = vars(module)["_parameters"].get("weight") is not None
    return own and _unheard(module) and not hasattr(module, "parametrizations")


def _unheard(module: nn.Module) -> bool:
    told = vars(module)
    heard = any(
        hooks for name, hooks in told.items() if name.endswith(("_hooks", "_pre_hooks")) and "state" not in name
    )
    return not heard and "forward" not in told


def _look(net: nn.Module, images: Images) -> _Watch:
    watch = _Watch()
    handles = [module.register_forward_hook(watch.hook_for(name)) for name, module in net.named_modules() if name]
    try:
        with evaluating(net), torch.no_grad(), watch.uses:
            net(images.clone())
    finally:
        for handle in handles:
            handle.remove()
    return watch


def _pairs(net: nn.Module, watch: _Watch, kept: Collection[str]) -> Iterator[tuple[_Call, _Call]]:
    """The convolutions, each called once, whose output goes into one batch norm and nowhere else."""
    modules = dict(net.named_modules())
    for norm in watch.norms:
        convolution = watch.convolutions.get(id(norm.given))
        if convolution is None or watch.names[id(convolution.made)] & set(kept):
            continue
        both = (convolution.name, norm.name)
        once = all(watch.calls[name] == 1 for name in both) and watch.uses.of[id(convolution.made)] == 1
        if once and all(untouched(modules[name]) for name in both) and modules[norm.name].running_var is not None:
            yield convolution, norm


def _merge(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give the convolution the weights of both, computed in float64, the epsilon included."""

    def exact(value: Tensor | None, otherwise: float) -> Tensor:
        return torch.full_like(spread, otherwise) if value is None else value.detach().double()

    spread = (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
    scale = exact(norm.weight, 1.0) / spread
    bias = (exact(convolution.bias, 0.0) - exact(norm.running_mean, 0.0)) * scale + exact(norm.bias, 0.0)
    kernel = convolution.weight
    merged = kernel.double() * scale[:, None, None, None]
    convolution.weight = nn.Parameter(merged.to(kernel.dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(kernel.dtype), requires_grad=False)


def _framed(net: nn.Module, watch: _Watch) -> Iterator[tuple[_Call, _Call]]:
    """The margins of zeros, each called once and as wide on either side, that one convolution alone is given.

    A convolution may add its margin itself, by a module of its own, as those do whose padding is that of TensorFlow.
    """
    modules: dict[str, Any] = dict(net.named_modules())
    for margin in watch.margins:
        left, right, top, bottom = modules[margin.name].padding
        for call in watch.convolutions.values():
            convolution = modules[call.name]
            fed = call.given is margin.made or margin.name.startswith(f"{call.name}.")
            plain = convolution.padding == (0, 0) and convolution.padding_mode == "zeros" and untouched(convolution)
            once = watch.calls[call.name] == watch.calls[margin.name] == watch.uses.of[id(margin.made)] == 1
            if fed and plain and once and left == right and top == bottom and _unheard(modules[margin.name]):
                yield margin, call


def _unframed(net: nn.Module, watch: _Watch, kept: Collection[str]) -> set[str]:
    """Let convolutions add the margins that they are given, where that makes the same; the names that are changed."""
    changed: set[str] = set()
    for margin, call in list(_framed(net, watch)):
        names = watch.names[id(margin.made)]
        if names & set(kept):
            continue
        convolution: Any = net.get_submodule(call.name)
        module: Any = net.get_submodule(margin.name)
        inside = margin.name.startswith(f"{call.name}.")
        with evaluating(net), torch.no_grad():
            given = call.copies[0]
            expected = convolution(given)
            net.set_submodule(margin.name, nn.Identity().eval())
            convolution.padding = (module.padding[2], module.padding[0])
            whole = (slice(None), slice(None))
            bare = given if inside else given[(*whole, *(slice(side, -side or None) for side in convolution.padding))]
            made = convolution(bare)
        if made.shape == expected.shape and torch.allclose(made, expected, rtol=_SAME, atol=_SAME):
            changed |= names
            watch.convolutions[id(call.made)] = replace(call, copies=(bare, call.copies[1]))
        else:
            net.set_submodule(margin.name, module)
            convolution.padding = (0, 0)
    return changed


@dataclass(frozen=True)
class Folded:
    """What folding did.

    Args:
        changed: the names of the modules whose output is no longer the network's own.
        folded: how many batch norms are gone.
        work: how many numbers the network's convolutions and linear layers put out for one image.
    """

    changed: frozenset[str]
    folded: int
    work: int


def fold(net: nn.Module, images: Images, kept: Collection[str] = ()) -> Folded:
    """Fold what can be folded, in place; each batch norm leaves a stand-in under its name that returns what it did.

    Only a convolution whose output goes into that one batch norm and nowhere else is changed, and only where the two
    of them, run again, make the same numbers as before: a module that computes its own weights is left alone, and so is
    one that somebody listens to. A margin of zeros that a convolution is given is left to the convolution.

    Args:
        net: the network, the caller's own to change.
        images: on the first of which to look, (b, c, h, w).
        kept: names of modules whose output must stay as it is.

    Returns:
        What was done.
    """
    watch = _look(net, images[:1])
    changed = _unframed(net, watch, kept)
    folded = 0
    for convolution, norm in list(_pairs(net, watch, kept)):
        first: Any = net.get_submodule(convolution.name)
        second: Any = net.get_submodule(norm.name)
        before = first.weight, first.bias
        _merge(first, second)
        stand_in = _InPlaceOfNorm(second).eval()
        with evaluating(net), torch.no_grad():
            made = stand_in(first(convolution.copies[0]))
        expected = norm.copies[1]
        if torch.allclose(made, expected, rtol=_SAME, atol=_SAME * float(expected.abs().max())):
            net.set_submodule(norm.name, stand_in)
            changed |= watch.names[id(convolution.made)]
            folded += 1
        else:
            first.weight, first.bias = before
    return Folded(frozenset(changed), folded, watch.work)
