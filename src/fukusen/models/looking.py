"""A forward pass, watched: every output with rows and columns, and every sequence of tokens that has them."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fukusen.arrays import Images
from fukusen.errors import ModelError
from fukusen.models.attention import OpenAttention
from fukusen.models.evaluation import evaluating
from fukusen.models.integers import computes_in_integers
from fukusen.models.layers import Layer, Layout, Seen
from fukusen.models.reasons import reason
from fukusen.models.tokens import Grid, follows, possible_grids, touched

Call = tuple[str, int]
_TRIED = 8


@dataclass(frozen=True)
class Look:
    """What a forward pass shows of a network.

    Args:
        outputs: whatever it returned.
        seen: every spatial output, in order of completion.
        places: how many modules with weights of their own ran in all.
    """

    outputs: Any
    seen: tuple[Seen, ...]
    places: int


@dataclass(frozen=True)
class _Met:
    """An output with two spatial axes, or a sequence (``layer`` is None) of so many tokens and channels."""

    call: Call
    layer: Layer | None
    shape: torch.Size
    has_weights: bool
    identity: tuple[int, int]
    place: int


@dataclass(frozen=True, eq=False)
class _Sequence:
    """One of the first sequences of its length: a copy of it, and the grids that it may have."""

    call: Call
    tokens: Tensor
    grids: list[Grid]


def _layout(module: nn.Module, shape: torch.Size, images: torch.Size) -> Layout:
    """Where the channels stand: as many as the module's weights make, else where the sides are not the image's."""
    first, second, third = shape[1:]
    made = {value.shape[0] for value in module.parameters() if value.dim()}
    if (first in made) != (third in made):
        return "channels_first" if first in made else "channels_last"
    aspect = images[2] / images[3]
    last_fits_better = abs(first / second - aspect) < abs(second / third - aspect)
    return "channels_last" if third > max(first, second) and last_fits_better else "channels_first"


class _Watch:
    """Hooks that write down every output of one forward pass in this thread that is laid out in space, or may be."""

    def __init__(self, images: Images) -> None:
        self.images = images.shape
        self.met: list[_Met] = []
        self.sequences: dict[int, list[_Sequence]] = defaultdict(list)
        self.places = 0
        self._kept: list[Tensor] = []  # an identity stays the tensor's own only as long as the tensor lives
        self._calls: Counter[str] = Counter()
        self._owner = threading.get_ident()

    def hooked(self, name: str, module: nn.Module) -> list[RemovableHandle]:
        """A forward hook on the module of that name."""
        weighty = any(True for _ in module.parameters()) or any(map(computes_in_integers, module.modules()))
        own = any(True for _ in module.parameters(recurse=False))

        def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() != self._owner:
                return
            call = (name, self._calls[name])
            self._calls[name] += 1
            self.places += own
            if not isinstance(output, Tensor) or output.dim() not in (3, 4) or output.shape[0] != self.images[0]:
                return
            layer = self._spatial(call, module, output) if output.dim() == 4 else None
            if layer is not None or output.dim() == 3:
                self._kept.append(output)
                identity = (id(output), output._version)
                self.met.append(_Met(call, layer, output.shape, weighty, identity, self.places))
            if output.dim() == 3 and output.is_floating_point():
                self._note(call, output)

        return [module.register_forward_hook(hook, prepend=True)]

    def _note(self, call: Call, output: Tensor) -> None:
        """Keep one of the first sequences of its length as it is now: what follows may change it in place."""
        tried = self.sequences[output.shape[1]]
        if tried:
            grids = tried[0].grids
        else:
            maps = [one.layer.shape[1:] for one in reversed(self.met) if one.layer is not None]
            grids = possible_grids(output.shape[1], maps, self.images)
        if len(tried) < _TRIED:
            tried.append(_Sequence(call, output.clone(), grids))

    def _spatial(self, call: Call, module: nn.Module, output: Tensor) -> Layer | None:
        layout = _layout(module, output.shape, self.images)
        channels, rows, columns = (output.shape[i] for i in ((3, 1, 2) if layout == "channels_last" else (1, 2, 3)))
        return Layer(*call, layout, (channels, rows, columns)) if rows * columns > 1 and channels > 1 else None

    def seen(self, grids: Mapping[int, Grid], feeding: set[Call]) -> Iterable[Seen]:
        """Every output with rows and columns, once it is known which sequences have them."""
        for one in self.met:
            layer = one.layer
            grid = grids.get(one.shape[1])
            if layer is None and grid is not None:
                shape = (one.shape[2], grid.rows, grid.columns)
                layer = Layer(*one.call, "tokens", shape, grid.prefix)
            if layer is not None and layer.shape[0] > 1:
                yield Seen(layer, one.has_weights, one.identity, one.place, one.call in feeding)


class _Second:
    """Hooks on a second pass over images that are touched in one place: where tokens move, and what feeds attention."""

    def __init__(self, sequences: Mapping[int, list[_Sequence]], points: list[tuple[float, float]]) -> None:
        self.grids: dict[int, Grid] = {}
        self.feeding: set[Call] = set()
        self._first = {one.call: one for tried in sequences.values() for one in tried}
        self._points = points
        self._running: list[tuple[nn.Module, int]] = []
        self._done: list[Call] = []
        self._calls: Counter[str] = Counter()
        self._owner = threading.get_ident()

    def hooked(self, name: str, module: nn.Module) -> list[RemovableHandle]:
        """A hook before and one after the module of that name."""

        def begin(module: nn.Module, _inputs: Any) -> None:
            if threading.get_ident() == self._owner:
                self._running.append((module, len(self._done)))

        def end(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == self._owner:
                self._running.pop()
                call = (name, self._calls[name])
                self._calls[name] += 1
                self._done.append(call)
                if call in self._first:
                    self._compare(self._first[call], output)

        return [module.register_forward_pre_hook(begin, prepend=True), module.register_forward_hook(end, prepend=True)]

    def _compare(self, first: _Sequence, output: Any) -> None:
        if isinstance(output, Tensor) and output.shape == first.tokens.shape:
            for grid in first.grids:
                if follows(grid, first.tokens, output, self._points):
                    self.grids.setdefault(output.shape[1], grid)

    def attends(self) -> None:
        """What ran so far inside the module that computes an attention has made its queries, keys and values.

        A module without weights that only computes does so for its parent.
        """
        for module, before in reversed(self._running):
            if any(True for _ in module.parameters()):
                self.feeding |= set(self._done[before:])
                return


def _run(net: nn.Module, images: Images, watch: _Watch | _Second, mode: AbstractContextManager[Any]) -> Any:
    """What the network returns, with a watch on every module in it."""
    handles: list[RemovableHandle] = []
    try:
        for name, module in net.named_modules():
            # A part in TorchScript takes no hooks.
            if name and not isinstance(module, torch.jit.ScriptModule):
                handles += watch.hooked(name, module)
        with evaluating(net), torch.inference_mode(False), torch.no_grad(), mode:
            return net(images.clone())
    except Exception as error:
        raise ModelError(
            f"The network cannot be run on images of shape {tuple(images.shape[1:])}: {reason(error)}. Give the "
            "preprocessing that belongs to it (preprocess=...), or its input size "
            "(input_size=(channels, rows, columns))."
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def look(net: nn.Module, images: Images) -> Look:
    """What a network returns, and every call of every module whose output has rows and columns.

    One forward pass shows outputs with two spatial axes. Where there are sequences, too, whose length may be that of a
    grid, a second pass shows whether they have it: each image is touched in one cell, and of the first sequences of
    each length, before attention has mixed the tokens, one must move most in that cell's token in every image. Tokens
    in another order, and sequences of something else, do not: four images are enough to tell.

    Raises:
        ModelError: the network cannot be run on these images.
    """
    watch = _Watch(images)
    outputs = _run(net, images, watch, nullcontext())
    supposed = [tried[0].grids[0] for tried in watch.sequences.values() if tried[0].grids]
    if not supposed:
        return Look(outputs, tuple(watch.seen({}, set())), watch.places)
    altered, points = touched(images, supposed)
    second = _Second(watch.sequences, points)
    _run(net, altered, second, OpenAttention(second.attends))
    return Look(outputs, tuple(watch.seen(second.grids, second.feeding)), watch.places)
