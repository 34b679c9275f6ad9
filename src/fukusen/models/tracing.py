"""A forward pass written down step by step: what was computed from the image, in which module, and what can go back."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointFunction

from fukusen.arrays import Images
from fukusen.models.classifier import Classifier, unwrapped
from fukusen.models.evaluation import evaluating
from fukusen.models.memory import ran_out

ROOT = "(root)"
"""What the network itself is called among its modules; no module of a network can have that name by itself."""
_ADDING = ("add", "sub", "rsub")
_BIASED = ("addmm", "baddbmm")
# What is made in the likeness of a tensor follows its shape and not its numbers.
_SHAPED = ("empty", "zeros", "ones", "full", "rand", "randn", "randint")
_LEAVING = (Tensor.numpy, Tensor.tolist, Tensor.__array__)
_SAME = 1e-6
_OWN = 1e-4


@dataclass(frozen=True)
class Given:
    """A tensor that depends on the image, as a step was given it.

    Args:
        step: the number of the step that made it; 0 is the image.
        live: whether a gradient goes back from it to the image.
        is_float: whether it holds real or complex numbers; else integers or truth values.
        same: whether the step adds it to the numbers of all classes alike, and it is no mean, maximum or logarithm of
            summed exponentials of the very numbers that it is taken away from.
    """

    step: int
    live: bool
    is_float: bool
    same: bool = False


@dataclass(frozen=True)
class Step:
    """One operation on something that depends on the image; views of a tensor are none.

    Args:
        name: of the operation, as torch's kernels have it, without the mark of those that work in place.
        module: the innermost module whose forward was running.
        recorded: whether autograd was watching; it is not within torch.no_grad, nor within a custom Function.
        given: what it was given that depends on the image.
        is_float: whether it made real or complex numbers.
    """

    name: str
    module: str
    recorded: bool
    given: tuple[Given, ...]
    is_float: bool


@dataclass(frozen=True)
class Trace:
    """One forward pass.

    Args:
        steps: in the order in which they were run; the first stands for the image.
        logits: what the network returned.
        custom: the module of each custom autograd Function between the image and the logits.
        backward_hooks: the module of each hook that gradients on their way meet.
        replaced: modules whose output a forward hook has replaced, with the steps that made what it put there.
        lost: whether real numbers have left torch (item, tolist, numpy) and could have come back unseen.
    """

    steps: tuple[Step, ...]
    logits: Given
    custom: tuple[str, ...]
    backward_hooks: tuple[str, ...]
    replaced: tuple[tuple[str, tuple[int, ...]], ...]
    lost: bool


def trace(classifier: Classifier, images: Images) -> Trace | None:
    """One forward pass of the network as it is, with a graph; None where it cannot be followed from image to logits.

    It cannot where steps are run by another thread, are computed twice (``torch.utils.checkpoint`` in its reentrant
    form), or are on tensors that have no memory of their own.

    Args:
        classifier: whose network is run; it is left as it was.
        images: preprocessed, (b, c, h, w).
    """
    recorder = _Recorder(len(classifier.classes))
    net = classifier.net
    try:
        with evaluating(net), torch.inference_mode(False), torch.enable_grad():
            leaf = images.detach().to(classifier.device, classifier.dtype).clone().requires_grad_()
            entered = leaf.clone()
            recorder.start(entered)
            with recorder.watching(net), _Calling(recorder), recorder:
                outputs = net(entered)
            return recorder.finished(unwrapped(outputs), net)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if ran_out(error):
            raise
        return None


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, Mapping):
            yield from _tensors(value.values())


def _has_reals(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _is_custom(node: Any) -> bool:
    """Whether somebody else than torch has written this backward pass."""
    if not isinstance(node, BackwardCFunction):
        return "CppNode" in node.name() and "vision::ops" not in node.name()
    kind: Any = getattr(node, "_forward_cls", None)
    found: Any = sys.modules.get(getattr(kind, "__module__", ""))
    for part in getattr(kind, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return not (found is kind and str(kind.__module__).partition(".")[0] == "torch")


class _Calling(TorchFunctionMode):
    """Tells the recorder of what no operation shows: hooks that are put on tensors, and numbers that leave torch."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Whatever torch was asked for."""
        if func is Tensor.register_hook:
            self._recorder.hook_put_on(args[0])
        elif func in _LEAVING:
            self._recorder.leaves(args[0])
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Writes steps down; tensors are told apart by the memory that holds them, which views share.

    Args:
        classes: how many numbers there are an image.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self._classes = classes
        self._at: dict[int, int] = {}
        self._touched: dict[int, str] = {}
        # Addresses and identities stay a thing's own only as long as the thing lives.
        self._kept: list[Any] = []
        self._reaching: dict[Any, bool] = {}
        self._custom: dict[Any, str] = {}
        self._hooked: list[tuple[Any, str]] = []
        self._replaced: list[tuple[str, tuple[int, ...]]] = []
        self._lost = False
        self._running: list[str] = []
        self._ran: set[str] = set()

    def start(self, images: Images) -> None:
        """From here on, whatever is made from these images depends on them."""
        self.steps.append(Step("image", ROOT, recorded=True, given=(), is_float=True))
        self._mark(images, 0)
        self._reaching[images.grad_fn] = True

    def finished(self, logits: Tensor, net: nn.Module) -> Trace | None:
        """All that was seen, after the pass; None where the logits were not seen to come from the image."""
        last = self._given(logits)
        way = self._way(logits.grad_fn)
        if last is None or any(getattr(node, "_forward_cls", None) is CheckpointFunction for node in way):
            return None
        custom = [self._custom.get(node, ROOT) for node in way if _is_custom(node)]
        hooks = [module for node, module in self._hooked if node in way]
        for name, module in net.named_modules():
            if (name or ROOT) in self._ran:
                hooks += [name or ROOT] * len({**module._backward_hooks, **module._backward_pre_hooks})
        return Trace(tuple(self.steps), last, tuple(custom), tuple(hooks), tuple(self._replaced), self._lost)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation: run as it is, and written down where it was given something that depends on the image."""
        named = kwargs or {}
        given = list(_tensors([*args, *named.values()]))
        fed = {id(tensor): found for tensor in given if (found := self._given(tensor)) is not None}
        name = func.overloadpacket.__name__.rstrip("_")
        if not fed or name.startswith("new_") or (name.endswith("_like") and name.partition("_")[0] in _SHAPED):
            return func(*args, **named)
        same = self._same(name, args, named) if name in _ADDING + _BIASED else set()
        if name == "_local_scalar_dense":
            self.leaves(args[0])
        known = tuple(Given(one.step, one.live, one.is_float, number in same) for number, one in fed.items())
        made = func(*args, **named)
        self._note(
            "floor_divide" if named.get("rounding_mode") else name, known, given, self._made(func, args, named, made)
        )
        return made

    def _made(self, func: Any, args: tuple[Any, ...], named: dict[str, Any], made: Any) -> list[tuple[Tensor, bool]]:
        """What an operation has returned or changed, and whether it was changed."""
        found = [(tensor, False) for tensor in _tensors([made])]
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else named.get(argument.name)
                found = [(tensor, True) for tensor in _tensors([value])] + found
        return found

    def _note(self, name: str, known: tuple[Given, ...], given: list[Tensor], made: list[tuple[Tensor, bool]]) -> None:
        module = self._running[-1] if self._running else ROOT
        before = {self._key(tensor) for tensor in given}
        fresh = [tensor for tensor, changed in made if changed or self._key(tensor) not in before]
        for tensor, _ in made:
            self._touched[self._key(tensor)] = module
        if not fresh:
            return
        is_float = any(map(_has_reals, fresh))
        self.steps.append(Step(name, module, torch.is_grad_enabled(), known, is_float))
        for tensor in fresh:
            self._mark(tensor, len(self.steps) - 1)

    def _key(self, tensor: Tensor) -> int:
        return int(tensor.untyped_storage()._cdata)

    def _mark(self, tensor: Tensor, step: int) -> None:
        self._at[self._key(tensor)] = step
        self._kept.append(tensor.untyped_storage())

    def _given(self, tensor: Tensor) -> Given | None:
        """How a tensor depends on the image; None where it does not."""
        step = self._at.get(self._key(tensor))
        if step is None:
            return None
        node = tensor.grad_fn if tensor.requires_grad else None
        if node is not None and node not in self._custom and _is_custom(node):
            self._custom[node] = self._touched.get(self._key(tensor), ROOT)
        return Given(step, node is not None and self._reaches(node), _has_reals(tensor))

    def _reaches(self, node: Any) -> bool:
        """Whether a gradient goes back from this node of autograd's graph to the image."""
        waiting = [node]
        while waiting:
            now = waiting[-1]
            before = [one for one, _ in now.next_functions if one is not None]
            unknown = [] if now in self._reaching else [one for one in before if one not in self._reaching]
            if unknown:
                waiting += unknown
                continue
            if now not in self._reaching:
                self._reaching[now] = any(self._reaching[one] for one in before)
            waiting.pop()
        return self._reaching[node]

    def _way(self, end: Any) -> list[Any]:
        """The nodes of autograd's graph between the image and this one."""
        found: dict[Any, None] = {}
        waiting = [end] if end is not None and self._reaches(end) else []
        while waiting:
            now = waiting.pop()
            if now not in found:
                found[now] = None
                waiting += [one for one, _ in now.next_functions if one is not None and self._reaches(one)]
        return list(found)

    def _same(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> set[int]:
        """The identities of those summands that all classes get alike."""
        if not all(isinstance(one, Tensor) for one in args[:2]):
            return set()
        summands = args[:1] if name in _BIASED else args[:2]
        with torch.no_grad():
            if name in _BIASED:
                shape = torch.Size((*args[1].shape[:-1], *args[2].shape[-1:]))
            else:
                shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
            axes = {axis for axis in (1, len(shape) - 1) if 0 < axis < len(shape) and shape[axis] == self._classes}
            return {
                id(one)
                for one in summands
                for axis in axes
                if _is_level(one.detach().expand(shape), axis)
                and not (name in _ADDING and self._is_own(name, args, named, (one, axis)))
            }

    def _is_own(self, name: str, args: tuple[Any, ...], named: dict[str, Any], added: tuple[Tensor, int]) -> bool:
        """Whether nothing but the mean, the maximum or the like of the other summand is taken away from it."""
        one, axis = added
        packet, values = getattr(torch.ops.aten, name), [value.detach() for value in args[:2]]
        others = [
            torch.zeros_like(value) if given is one else value for value, given in zip(values, args[:2], strict=True)
        ]
        whole, rest = packet(*values, *args[2:], **named), packet(*others, *args[2:], **named)
        if not _has_reals(rest):
            return False
        shift, size = (whole - rest).select(axis, 0), rest.abs().max()
        levels = (rest.mean(axis), rest.amax(axis), rest.logsumexp(axis))
        return bool(shift.any()) and any(bool((shift + level).abs().max() <= _OWN * size) for level in levels)

    def hook_put_on(self, tensor: Tensor) -> None:
        """A hook was put on a tensor."""
        self._hooked.append((tensor.grad_fn, self._running[-1] if self._running else ROOT))

    def leaves(self, tensor: Tensor) -> None:
        """A tensor's numbers are handed to Python."""
        if _has_reals(tensor) and self._given(tensor) is not None:
            self._lost = True

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Hooks on every module, gone afterwards, that act in this thread alone and say where a step is run."""
        handles: list[Any] = []
        try:
            for name, module in net.named_modules():
                handles += self._watch(name or ROOT, module)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, name: str, module: nn.Module) -> list[Any]:
        owner = threading.get_ident()
        made: list[list[tuple[int, int]]] = []

        def enter(module: nn.Module, _inputs: Any) -> None:
            if threading.get_ident() == owner:
                self._running.append(name)
                self._ran.add(name)
                # The first and the last word, also where hooks were put there while the network ran.
                hooks: Any = module._forward_hooks
                hooks.move_to_end(handles[1].id, last=False)
                hooks.move_to_end(handles[2].id)

        def first(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == owner:
                made.append([(id(tensor), tensor._version) for tensor in _tensors([output])])

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == owner:
                self._running.pop()
                found = list(_tensors([output]))
                if made.pop() != [(id(tensor), tensor._version) for tensor in found]:
                    steps = (self._given(tensor) for tensor in found)
                    self._replaced.append((name, tuple(one.step for one in steps if one is not None)))

        handles = [
            module.register_forward_pre_hook(enter, prepend=True),
            module.register_forward_hook(first, prepend=True),
            module.register_forward_hook(leave),
        ]
        return handles


def _is_level(values: Tensor, axis: int) -> bool:
    """Whether numbers are the same all along an axis: because one number is spread over it, or one by one."""
    if values.stride(axis) == 0 or values.numel() == 0:
        return values.numel() > 0
    if not _has_reals(values):
        values = values.float()
    size = values.abs().max()
    spread = (values - values.narrow(axis, 0, 1)).abs().max()
    return bool(size > 0) and bool(spread <= _SAME * size)
