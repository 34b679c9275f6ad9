"""Where in the network a map is read: layers found by looking at a forward pass, not by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fukusen.errors import CallError, UnknownName

Layout = Literal["channels_first", "channels_last", "tokens"]


@dataclass(frozen=True)
class Layer:
    """One call of one module in a forward pass, whose output is laid out in space.

    Args:
        name: the module's name in the network.
        call: which call of it within one forward pass, from 0.
        layout: where the channels stand in its output: (b, c, h, w), (b, h, w, c), or (b, n, c) for tokens, whose cells
            follow each other row by row.
        shape: channels, rows and columns of its output.
        prefix: how many tokens stand before the first cell's: class, distillation and register tokens.
    """

    name: str
    call: int
    layout: Layout
    shape: tuple[int, int, int]
    prefix: int = 0

    def __str__(self) -> str:
        return f"{self.name}#{self.call}" if self.call else self.name

    @property
    def tokens(self) -> int:
        """How many tokens its output has where it has tokens: those before the cells, and one a cell."""
        return self.prefix + self.shape[1] * self.shape[2]

    def channels_first(self, output: Tensor) -> Tensor:
        """The cells of an output in the module's own layout, as (b, c, h, w); tokens without a cell are left out."""
        if self.layout == "tokens":
            cells: Tensor = output[:, self.prefix :].transpose(1, 2).unflatten(2, self.shape[1:])
            return cells
        return output.permute(0, 3, 1, 2) if self.layout == "channels_last" else output

    def replaced(self, output: Tensor, cells: Tensor) -> Tensor:
        """An output in the module's own layout with other values in its cells.

        Args:
            output: what the module returned, of one image or of as many as there are rows in ``cells``.
            cells: values of shape (b, c, h, w), as ``channels_first`` gives them.

        Returns:
            One row for each of ``cells``; tokens without a cell are the output's own.
        """
        if self.layout == "tokens":
            before = output[:, : self.prefix].expand(len(cells), -1, -1)
            return torch.cat([before, cells.flatten(2).transpose(1, 2)], dim=1)
        return cells.permute(0, 2, 3, 1) if self.layout == "channels_last" else cells


@dataclass(frozen=True)
class Seen:
    """A layer as met in a forward pass.

    Args:
        layer: the layer.
        has_weights: whether its module, or one inside it, holds weights.
        identity: the same for all modules that hand on the same tensor unchanged.
        place: how many modules with weights of their own had run by then.
        feeds_attention: whether it makes the queries, keys or values of an attention that its own parent computes.
    """

    layer: Layer
    has_weights: bool
    identity: tuple[int, int]
    place: int
    feeds_attention: bool = False


def candidates(seen: Sequence[Seen]) -> list[Layer]:
    """The layers to try for class activation maps, best first: the last spatial output that weights have made.

    Activation and pooling modules hold no weights and are often shared between places, so a module with weights is
    preferred; of several modules that hand on the same tensor, the innermost stands for all. Queries, keys and values
    are an attention's own affair: what it is computed from stands for them.
    """
    first: dict[tuple[int, int], Seen] = {}
    for one in seen:
        if one.has_weights and not one.feeds_attention:
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
