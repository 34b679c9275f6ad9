"""One operation of an ONNX graph, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fukusen.errors import ModelError

Made = Tensor | tuple[Tensor, ...]
Operation = Callable[..., Made]


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: its kind, its name, and what goes in and out.

    Args:
        kind: ``Conv``, ``Add``, ...; with its domain in front where that is not ONNX's own.
        name: as in the file; its first output's where it has none.
        inputs: the names of the values that it takes, "" where one is left out.
        outputs: the names of those that it makes.
        attributes: by name: numbers, strings, lists of them, and tensors.
        opset: the version of ONNX's operations that the file was written in.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what ONNX takes where it is left out."""
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> ModelError:
        """That this one cannot be converted, and why."""
        return ModelError(f"The operation {self.kind} {self.name!r} cannot be converted: {what}.")


def integers(value: Tensor) -> list[int]:
    """The entries of a tensor of integers, such as a shape, in one flat list."""
    return [int(entry) for entry in value.reshape(-1).tolist()]


def own_axes(node: Node, given: Tensor | None) -> list[int] | None:
    """The axes that a node names, as an attribute in old files and an input in new ones; None where it names none."""
    if given is not None:
        return integers(given)
    axes = node.get("axes")
    return None if axes is None else list(axes)
