"""An ONNX file read into plain values, without running anything that it names."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fukusen.errors import ModelError
from fukusen.models.onnx.nodes import Node
from fukusen.models.reasons import reason

_OWN = ("", "ai.onnx")
_LABELS = ("names", "classes", "class_names", "labels", "id2label")


@dataclass(frozen=True, eq=False)
class Program:
    """What an ONNX file says.

    Args:
        nodes: its operations, each after those that it needs.
        constants: the tensors that the file holds, by name; floating ones in float32.
        taken: the name of the images.
        shape: their axes as the file says them; None where any number will do.
        given: the names of the outputs.
        halved: whether it holds numbers of half precision.
        metadata: what its makers have written into it.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    taken: str
    shape: tuple[int | None, ...]
    given: tuple[str, ...]
    halved: bool
    metadata: Mapping[str, str]

    @property
    def channels_last(self) -> bool:
        """Whether the channels stand behind the columns."""
        return self.shape[3] in (1, 3) and self.shape[1] not in (1, 3)

    @property
    def sides(self) -> tuple[int | None, int | None, int | None]:
        """Channels, rows and columns of one image."""
        _, first, second, third = self.shape
        return (third, first, second) if self.channels_last else (first, second, third)

    def names(self) -> tuple[str, ...] | None:
        """The class names in the metadata: a list, or a table from their indices, as JSON or as lines."""
        text = next((self.metadata[key] for key in _LABELS if self.metadata.get(key, "").strip()), None)
        if text is None:
            return None
        said = _read_labels(text)
        if isinstance(said, dict):
            said = [said[key] for key in sorted(said, key=int)] if all(str(key).isdecimal() for key in said) else []
        return tuple(str(name) for name in said) if isinstance(said, list) and said else None


def _read_labels(text: str) -> Any:
    """JSON, a table in Python's manner as some exporters write it, or names between commas or on lines."""
    for parsed in (json.loads, ast.literal_eval):
        try:
            said = parsed(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(said, list | tuple | dict):
            return list(said) if isinstance(said, tuple) else said
    return [line.strip() for line in text.strip().split("\n" if "\n" in text.strip() else ",")]


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor in a graph: its own, and those in attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner) if inner.node or inner.initializer else ()


def _check_places(model: Any, file: Path) -> None:
    """Weights beside the file are read only from its own folder."""
    folder = file.resolve().parent
    graphs = [model.graph, *model.functions]
    tensors = [tensor for graph in graphs if hasattr(graph, "initializer") for tensor in _tensors(graph)]
    for tensor in tensors:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        for place in places:
            if Path(place).is_absolute() or not (folder / place).resolve().is_relative_to(folder):
                raise ModelError(
                    f"The ONNX file {str(file)!r} keeps weights in {place!r}, outside its own folder, so they were not "
                    "read. Put them beside it and export it again."
                )


def _array(tensor: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    found = np.asarray(numpy_helper.to_array(tensor))
    if found.dtype.kind in "OSU":
        return np.zeros(0)
    return found if found.dtype.kind in "iub" else found.astype(np.float32)


def _tensor(tensor: Any) -> Tensor:
    found = _array(tensor)
    return torch.from_numpy(found.astype(np.int64) if found.dtype.kind == "u" and found.itemsize > 1 else found.copy())


def _attribute(attribute: Any) -> Any:
    from onnx import AttributeProto, helper

    if attribute.type == AttributeProto.TENSOR:
        return _tensor(attribute.t)
    if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR):
        return None
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, int | float | str) else list(value)


def _nodes(graph: Any, opset: int) -> Iterator[Node]:
    for place, node in enumerate(graph.node):
        kind = node.op_type if node.domain in _OWN else f"{node.domain}.{node.op_type}"
        name = node.name or next((output for output in node.output if output), f"{kind}_{place}")
        attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
        yield Node(kind, name, tuple(node.input), tuple(node.output), attributes, opset)


def _parsed(file: Path) -> Any:
    import onnx
    from onnx.inliner import inline_local_functions

    try:
        model = onnx.load(file, load_external_data=False)
        _check_places(model, file)
        onnx.load_external_data_for_model(model, str(file.resolve().parent))
        return inline_local_functions(model) if model.functions else model
    except ModelError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(f"The file {str(file)!r} is not valid ONNX: {reason(error)}.") from error


def _told(inputs: Sequence[Any]) -> str:
    from onnx import TensorProto

    said = []
    for value in inputs:
        kind = value.type.tensor_type
        said.append(f"{value.name}, {TensorProto.DataType.Name(kind.elem_type)} with {len(kind.shape.dim)} axes")
    return "; ".join(said) or "nothing"


def read_program(file: Path) -> Program:
    """What an ONNX file says.

    Raises:
        ModelError: it is damaged, keeps weights outside its folder, or takes something else than one batch of images.
    """
    from onnx import TensorProto

    model = _parsed(file)
    graph = model.graph
    opset = max((entry.version for entry in model.opset_import if entry.domain in _OWN), default=1)
    constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, *halves)
    kinds = [value.type.tensor_type for value in inputs]
    axes = kinds[0].shape.dim if len(kinds) == 1 and kinds[0].elem_type in floats else ()
    if len(axes) != 4:
        raise ModelError(
            f"The ONNX file {str(file)!r} must take one batch of images: floating numbers with four axes. It takes: "
            f"{_told(inputs)}."
        )
    return Program(
        nodes=tuple(_nodes(graph, opset)),
        constants=constants,
        taken=inputs[0].name,
        shape=tuple(axis.dim_value or None for axis in axes),
        given=tuple(value.name for value in graph.output),
        halved=any(tensor.data_type in halves for tensor in _tensors(graph)),
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )
