"""Every operation of ONNX that is known here, on ONNX's own examples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fukusen.errors import ModelError
from fukusen.models.onnx import layers


def _official() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return collect_testcases(None)


def _tensor(value: Any) -> Tensor:
    array = np.asarray(value)
    if array.dtype.kind == "u" and array.itemsize > 1:
        return torch.from_numpy(array.astype(np.int64))  # as the file's tensors are read
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array.copy())


def _numbers(values: Sequence[Any]) -> bool:
    return all(
        isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind in "iubf" for value in values
    )


@pytest.mark.slow
@pytest.mark.parametrize("constant", [True, False])
def test_every_operation_computes_what_onnx_says(constant: bool) -> None:
    """ONNX's own examples of each operation, with what its definition makes of them.

    All inputs but the first are given as constants of the file, and then all as values of the pass.
    """
    from fukusen.models.onnx.reading import _nodes

    tried: set[str] = set()
    for case in _official():
        graph, opset = case.model.graph, case.model.opset_import[0]
        if len(graph.node) != 1 or opset.domain or graph.node[0].op_type == "Constant" or "empty_set" in case.name:
            continue
        node = next(iter(_nodes(graph, opset.version)))
        for inputs, outputs in case.data_sets if layers.is_known(node.kind) else ():
            if not _numbers([*inputs, *outputs]):
                continue
            values = {value.name: _tensor(array) for value, array in zip(graph.input, inputs, strict=True)}
            known = {name: value for name, value in values.items() if constant and name != node.inputs[0]}
            try:
                module = layers.layer_of(node, known)
                taken = node.inputs if isinstance(module, layers.Computed) else node.inputs[:1]
                made = module(*[values[name] if name else None for name in taken])
            except ModelError:
                continue
            tried.add(node.kind)
            halves = np.asarray(outputs[0]).dtype == np.float16
            for got, meant in zip(made if isinstance(made, tuple) else (made,), outputs, strict=False):
                near = {"rtol": case.rtol, "atol": 2e-3 if halves else max(1e-5, case.atol), "equal_nan": True}
                torch.testing.assert_close(got.double(), _tensor(meant).double(), **near, msg=case.name)
    # ONNX's examples of Cast are no arrays; convolutions and batch norms are only known with weights in the file.
    untried = {"Cast"} if constant else {"Cast", "Conv", "BatchNormalization"}
    assert tried >= {*layers.OPERATIONS, *layers.LAYERS} - untried
