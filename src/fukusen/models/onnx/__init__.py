"""A network from an ONNX file, converted to torch and compared with what onnxruntime makes of the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fukusen.arrays import Images
from fukusen.errors import ModelError
from fukusen.models.classifier import unwrapped
from fukusen.models.found import Found
from fukusen.models.preprocessing import assumed_for
from fukusen.models.probes import probe_images
from fukusen.models.reasons import reason

__all__ = ["load_onnx"]

_TOLERANCE = 1e-4
_HALF_TOLERANCE = 2e-2
_FACTORY = "write a file model.py with a function that returns the network, and name it as model.py:function"


def load_onnx(file: Path) -> Found:
    """The network in an ONNX file, with layers and gradients, and the class names that its metadata hold.

    Args:
        file: the file; weights beside it are read from its own folder only.

    Raises:
        ModelError: onnx or onnxruntime is missing; the file is damaged, uses operations that are not known here, or
            computes something else than its conversion.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed. Install it with: pip install 'fukusen[onnx]'") from None
    from fukusen.models.onnx.network import Network
    from fukusen.models.onnx.reading import read_program

    if not file.is_file():
        raise ModelError(f"There is no file {str(file)!r} to load a model from.")
    program = read_program(file)
    if (program.shape[0] or 1) > 1:
        raise _fixed(file, program.shape[0])
    try:
        net = Network(program).eval()
    except ModelError as error:
        raise ModelError(f"The ONNX file {str(file)!r} cannot be converted. {error}") from None
    except Exception as error:  # shapes that do not fit each other can raise anything
        raise ModelError(f"The ONNX file {str(file)!r} cannot be converted: {reason(error)}.") from error
    preprocess, size, notes = assumed_for(program.sides, "An ONNX file")
    images = probe_images(preprocess, size)
    _compare(net, file, images, one_by_one=program.shape[0] == 1, halved=program.halved)
    names = program.names()
    classes = names if names is not None and len(names) == _run(net, images[:1], file).shape[1] else None
    return Found(net, preprocess, classes, input_size=size, notes=notes)


def _fixed(file: Path, count: int | None) -> ModelError:
    return ModelError(
        f"The ONNX file {str(file)!r} was exported for batches of exactly {count}. Export it with a batch axis of any "
        "length (dynamic_shapes or dynamic_axes of torch.onnx.export)."
    )


def _run(net: nn.Module, images: Images, file: Path) -> Tensor:
    try:
        with torch.no_grad():
            made: Any = net(images)
    except Exception as error:
        raise ModelError(
            f"The ONNX file {str(file)!r} cannot be run on {len(images)} images of shape {tuple(images.shape[1:])}: "
            f"{reason(error)}. Export it with a batch axis of any length, or {_FACTORY}."
        ) from error
    return unwrapped(made)


def _reference(file: Path, images: Tensor, place: Any, *, one_by_one: bool) -> NDArray[Any]:
    """What onnxruntime makes of the images."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0]
        kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
        values = images.numpy().astype(kinds.get(taken.type, np.float32))
        parts = np.split(values, len(values)) if one_by_one else [values]
        made = [session.run([place], {taken.name: part})[0] for part in parts]
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot run the ONNX file {str(file)!r}: {reason(error)}. Export it again, or {_FACTORY}."
        ) from error
    return np.concatenate([part.reshape(part.shape[0], -1) for part in made]).astype(np.float64)


def _compare(net: Any, file: Path, images: Images, *, one_by_one: bool, halved: bool) -> None:
    """Nothing is explained of a conversion that computes something else than the file."""
    made = _run(net, images, file).double().numpy()
    laid = images.permute(0, 2, 3, 1).contiguous() if net.channels_last else images
    meant = _reference(file, laid, net.given, one_by_one=one_by_one)
    tolerance = _HALF_TOLERANCE if halved else _TOLERANCE
    most = float(np.abs(meant).max())
    away = float(np.abs(made - meant).max()) if made.shape == meant.shape else np.inf
    if not away <= tolerance * most:
        raise ModelError(
            f"The ONNX file {str(file)!r} converted to torch does not compute what onnxruntime does: the outputs for "
            f"noise pictures differ by up to {away:.3g}, where they reach {most:.3g}. To be explained it must be given "
            f"otherwise: {_FACTORY}."
        )
