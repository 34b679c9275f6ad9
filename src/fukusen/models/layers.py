"""Where in the network a map is read: layers found by looking at a forward pass, not by their names."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.errors import CallError, ModelError, UnknownName
from fukusen.models.evaluation import evaluating
from fukusen.models.reasons import reason

Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True)
class Layer:
    """One call of one module in a forward pass, whose output is laid out in space.

    Args:
        name: the module's name in the network.
        call: which call of it within one forward pass, from 0.
        layout: where the channels stand in its output.
        shape: channels, rows and columns of its output.
    """

    name: str
    call: int
    layout: Layout
    shape: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.name}#{self.call}" if self.call else self.name

    def channels_first(self, values: Tensor) -> Tensor:
        """Values in the module's own layout as (b, c, h, w)."""
        return values.permute(0, 3, 1, 2) if self.layout == "channels_last" else values

    def own_layout(self, values: Tensor) -> Tensor:
        """Values of shape (b, c, h, w) in the module's own layout."""
        return values.permute(0, 2, 3, 1) if self.layout == "channels_last" else values


@dataclass(frozen=True)
class Seen:
    """A layer as met in a forward pass.

    Args:
        layer: the layer.
        has_weights: whether its module, or one inside it, holds weights.
        identity: the same for all modules that hand on the same tensor unchanged.
        place: how many modules with weights of their own had run by then.
    """

    layer: Layer
    has_weights: bool
    identity: tuple[int, int]
    place: int


@dataclass(frozen=True)
class Look:
    """What one forward pass shows of a network.

    Args:
        outputs: whatever it returned.
        seen: every spatial output, in order of completion.
        places: how many modules with weights of their own ran in all.
    """

    outputs: Any
    seen: tuple[Seen, ...]
    places: int


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
    """Hooks that write down every spatial output of one forward pass in this thread."""

    def __init__(self, images: Images) -> None:
        self.images = images.shape
        self.seen: list[Seen] = []
        self.places = 0
        self._kept: list[Tensor] = []  # an identity stays the tensor's own only as long as the tensor lives
        self._calls: Counter[str] = Counter()
        self._owner = threading.get_ident()

    def hook_for(self, name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        """A forward hook for the module of that name."""
        weighty = any(True for _ in module.parameters())
        own = any(True for _ in module.parameters(recurse=False))

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() != self._owner:
                return
            call = self._calls[name]
            self._calls[name] += 1
            self.places += own
            if not isinstance(output, Tensor) or output.dim() != 4 or output.shape[0] != self.images[0]:
                return
            layout = _layout(module, output.shape, self.images)
            channels, rows, columns = (output.shape[i] for i in ((3, 1, 2) if layout == "channels_last" else (1, 2, 3)))
            if rows * columns > 1 and channels > 1:
                self._kept.append(output)
                layer = Layer(name, call, layout, (channels, rows, columns))
                self.seen.append(Seen(layer, weighty, (id(output), output._version), self.places))

        return hook


def look(net: nn.Module, images: Images) -> Look:
    """One forward pass, watched: what comes out, and every call of every module whose output has two spatial axes.

    Raises:
        ModelError: the network cannot be run on these images.
    """
    watch = _Watch(images)
    handles = [
        module.register_forward_hook(watch.hook_for(name, module), prepend=True)
        for name, module in net.named_modules()
        if name
    ]
    try:
        with evaluating(net), torch.inference_mode(False), torch.no_grad():
            outputs = net(images.clone())
    except Exception as error:
        raise ModelError(
            f"The network cannot be run on images of shape {tuple(images.shape[1:])}: {reason(error)}. Give the "
            "preprocessing that belongs to it (preprocess=...), or its input size "
            "(input_size=(channels, rows, columns))."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return Look(outputs, tuple(watch.seen), watch.places)


def candidates(seen: Sequence[Seen]) -> list[Layer]:
    """The layers to try for class activation maps, best first: the last spatial output that weights have made.

    Activation and pooling modules hold no weights and are often shared between places, so a module with weights is
    preferred; of several modules that hand on the same tensor, the innermost stands for all.
    """
    first: dict[tuple[int, int], Seen] = {}
    for one in seen:
        if one.has_weights:
            first.setdefault(one.identity, one)
    return [one.layer for one in reversed(list(first.values()))]


def named_layer(net: nn.Module, seen: Sequence[Seen], asked: str) -> Layer:
    """The layer that the user names, as ``name`` (its last call) or ``name#call``.

    Raises:
        UnknownName: the network has no module of that name.
        CallError: the module's output has no two spatial axes, or it is not called that often.
    """
    name, _, number = asked.partition("#")
    modules = dict(net.named_modules(remove_duplicate=False))
    if not name or name not in modules:
        raise UnknownName("layer", name, {one.layer.name for one in seen})
    # A module that hangs in the network twice is known by the first of its names.
    own = next(first for first, module in net.named_modules() if module is modules[name])
    calls = [one.layer for one in seen if one.layer.name == own]
    found = [layer for layer in calls if not number or str(layer.call) == number]
    if found:
        return found[-1]
    if calls:
        numbers = ", ".join(f"{name}#{layer.call}" for layer in calls)
        raise CallError(f"The layer {asked!r} is not called that often. Its calls: {numbers}.")
    names = ", ".join(str(layer) for layer in candidates(seen)[:5]) or "none"
    raise CallError(f"The layer {asked!r} gives no output with rows and columns. Layers that do: {names}.")
