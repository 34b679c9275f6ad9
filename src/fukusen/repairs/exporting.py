"""A repaired model as a file: its weights alone, or the whole network as a program; read back before it stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fukusen.arrays import Images
from fukusen.errors import CallError, ModelError
from fukusen.models.exporting import PROGRAM, WEIGHTS, Content, as_program, as_weights
from fukusen.models.preprocessing import CenterCrop, Squash
from fukusen.repairs.repair import Repaired

ENDINGS = (WEIGHTS, PROGRAM)


@dataclass(frozen=True)
class Written:
    """A file with a repaired model in it.

    Args:
        path: where it is.
        largest_change: how far the probabilities of what was read back from it are from the repaired model's, 0 to 1.
        usage: how it is loaded, in one sentence.
    """

    path: Path
    largest_change: float
    usage: str


def check_place(path: Path, *, force: bool = False) -> None:
    """Whether a repaired model may be written there; asked before anything is computed.

    Args:
        path: the file.
        force: whether one that is there may be replaced.

    Raises:
        CallError: the ending says neither form, there is something already, or there is no such folder.
    """
    if path.suffix.lower() not in ENDINGS:
        raise CallError(
            f"The file {str(path)!r} would be of no known kind. Name one that ends with {WEIGHTS} (weights alone) or "
            f"{PROGRAM} (the whole network, as an exported program)."
        )
    if path.is_dir() or (path.exists() and not force):
        raise CallError(f"There is a {path} already, and nothing is written over. Name another file.")
    if not path.parent.is_dir():
        raise CallError(f"There is no folder {path.parent} to put the model in. Make it, or name another.")


def export(model: Repaired, path: Path, images: Images, *, force: bool = False) -> Written:
    """Write a repaired model; what is written is read back and run before the file stays.

    Args:
        model: the repaired model.
        path: a file that ends with ``.safetensors`` or ``.pt2``.
        images: preprocessed, (b, c, h, w); on which what was read back is compared.
        force: whether a file that is there may be replaced.

    Raises:
        CallError: the file cannot be written there, or weights alone would not hold the repair.
        ModelError: the repair's promise does not hold, or the network cannot be exported.
    """
    check_place(path, force=force)
    if not model.promise.kept:
        raise ModelError(
            f"The repaired model is not written: its probabilities differ from the given model's by up to "
            f"{model.promise.largest_change:.2g} ({model.promise.flips} of {model.promise.images} predictions change), "
            f"where {model.promise.tolerance:.2g} was promised. Repair the model in float64, or a clean copy of it."
        )
    weights = path.suffix.lower() == WEIGHTS
    content = _weights(model) if weights else _program(model)
    change = content.change(model, images[:16].to(model.device, model.dtype))
    if not change <= model.promise.tolerance:
        raise ModelError(
            f"The repaired model is not written: read back, its probabilities differ by up to {change:.2g}. The "
            "network depends on something that no export holds; write a module.py:factory that calls fukusen.repair."
        )
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(content.data)
    except OSError as error:
        raise CallError(f"The file {path} cannot be written: {error.strerror}. Name another.") from error
    return Written(path, change, _weights_usage(model, path) if weights else _program_usage(model, path))


def _weights(model: Repaired) -> Content:
    if model.way != "weights":
        raise CallError(
            "Weights alone cannot hold this repair: what is added to the logits is not in the last layer's weights, so "
            f"the mean is taken away behind the network. Name a file that ends with {PROGRAM}, which holds it all."
        )
    return as_weights(model, _made(model))


def _weights_usage(model: Repaired, path: Path) -> str:
    spec = model.spec.removesuffix(" after repair")
    if spec.startswith(("timm:", "torchvision:")):
        return f"--weights {path} with {spec} as the model (fukusen.load({spec!r}, weights={str(path)!r}))."
    return (
        f"net.load_state_dict(safetensors.torch.load_file({str(path)!r})) in the network's own code, or --weights "
        f"{path} with a module.py:factory that returns the bare network as the model."
    )


def _program(model: Repaired) -> Content:
    try:
        return as_program(model, _made(model))
    except ModelError as error:
        remedy = (
            f"Its repaired weights can be: name a file that ends with {WEIGHTS}."
            if model.way == "weights"
            else "Write a module.py:factory that returns fukusen.repair(...) of it, and use that."
        )
        raise ModelError(f"{error} {remedy}") from error


def _program_usage(model: Repaired, path: Path) -> str:
    told = (
        f"{path} as the model, with --trust (fukusen.load({str(path)!r}, trust=True)), where its layers are found "
        "anew; or torch.export.load."
    )
    if model.preprocess is None or isinstance(model.preprocess, CenterCrop | Squash):
        return told
    return f"{told} The preprocessing is code of your own and is not in the file: wrap what was loaded with it."


def _made(model: Repaired) -> str:
    where = f"the mean row of {model.place} is zero" if model.way == "weights" else "the mean logit is taken away"
    return f"Repaired by fukusen: {where}; same probabilities."
