"""A model from how it is named on a command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fukusen.errors import CallError, ModelError, require
from fukusen.models.carried import said_of_weights
from fukusen.models.classifier import Classifier
from fukusen.models.demo import load_demo
from fukusen.models.factories import made_by
from fukusen.models.found import Found
from fukusen.models.heads import HeadKind
from fukusen.models.hub import load_hub
from fukusen.models.onnx import load_onnx
from fukusen.models.trusted import load_trusted
from fukusen.models.weights import PICKLED, RUNNING, read_weights, remedy_for
from fukusen.models.wrapping import ASSUMED_HEAD, wrap
from fukusen.models.zoos import load_timm, load_torchvision


@dataclass(frozen=True)
class Wishes:
    """What the user says about a model besides its name; each None means: find out.

    Args:
        weights: a safetensors file or a checkpoint that loads with ``weights_only``.
        classes: the class names.
        layer: where class activation maps are read.
        head: what the outputs are.
        device: where to run.
    """

    weights: str | Path | None = None
    classes: tuple[str, ...] | None = None
    layer: str | None = None
    head: HeadKind | None = None
    device: str | torch.device | None = None


def model_specs() -> dict[str, str]:
    """How a model can be named, and what each form means."""
    return {
        "demo": "EfficientNet-Lite0 with its ImageNet weights, from its package",
        "torchvision:NAME": "an architecture of torchvision; weights from --weights, else torchvision's default",
        "timm:NAME": "an architecture of timm; weights from --weights, else timm's default",
        "hf:REPO": "a classifier in the layout of the Hugging Face hub: a folder, or OWNER/NAME",
        "file.onnx": "a network in ONNX, converted to torch and compared with onnxruntime",
        "file.pt, file.pt2": "a whole network, TorchScript or an exported program, which can run code: with --trust",
        "module.py:factory": "what the function in that file returns: fukusen.wrap(...) or a torch module",
    }


def load(
    spec: str,
    *,
    weights: str | Path | None = None,
    classes: list[str] | tuple[str, ...] | None = None,
    layer: str | None = None,
    head: HeadKind | None = None,
    device: str | torch.device | None = None,
    trust: bool = False,
) -> Classifier:
    """A classifier from its name.

    Args:
        spec: "demo", "torchvision:NAME", "timm:NAME", "hf:REPO", "file.onnx" or "module.py:factory"; with ``trust``
            also a file with a whole network, TorchScript or an exported program.
        weights: a safetensors file or a checkpoint that loads with ``weights_only``, for architectures.
        classes: the class names.
        layer: where class activation maps are read; default: found.
        head: what the outputs are; default: found where the numbers tell.
        device: where to run.
        trust: load files that can run code when they are loaded; a note says that it may have run.

    Returns:
        The classifier, ready to explain.

    Raises:
        CallError: the name is of no known form.
        ModelError: the model cannot be loaded or understood.
    """
    require(isinstance(spec, str | Path), "load", "spec", "a model's name", spec)
    require(isinstance(trust, bool), "load", "trust", "True or False", trust)
    rule = "a list of names"
    require(classes is None or isinstance(classes, list | tuple), "load", "classes", rule, classes)
    names = None if classes is None else tuple(classes)
    model = _load(str(spec), Wishes(weights, names, layer, head, device), trust=trust)
    said = () if weights is None else said_of_weights(Path(weights))
    return replace(model, spec=str(spec), notes=(*model.notes, *said))


def _load(spec: str, wishes: Wishes, *, trust: bool) -> Classifier:
    if spec == "demo":
        return _demo(wishes)
    kind, colon, name = spec.partition(":")
    zoos = {"torchvision": load_torchvision, "timm": load_timm}
    if colon and kind in zoos:
        model = _wrapped(zoos[kind](name, wishes.weights), wishes)
        note = (
            f"The preprocessing is that of {kind}'s own {name}; the weights given may have been trained with another."
        )
        return model if wishes.weights is None else replace(model, notes=(*model.notes, note))
    ending = Path(spec).suffix.lower()
    if colon and kind == "hf":
        return _whole(lambda: load_hub(name), wishes)
    if ending == ".onnx":
        return _whole(lambda: load_onnx(Path(spec)), wishes)
    if trust and ending in (*RUNNING, *PICKLED):
        return _whole(lambda: load_trusted(Path(spec)), wishes)
    file, _, factory = spec.rpartition(":")
    if file.endswith(".py"):
        return _from_factory(file, factory, wishes)
    raise _unknown(spec)


def _unknown(spec: str) -> CallError:
    kind, colon, name = spec.partition(":")
    near = difflib.get_close_matches(kind, [form.partition(":")[0] for form in model_specs()], n=1)
    hint = f"Did you mean {near[0] + colon + name!r}? " if near else ""
    remedy = remedy_for(spec) or f"{hint}Known forms: {', '.join(model_specs())}."
    return CallError(f"The model {spec!r} cannot be loaded. {remedy}")


def _whole(find: Callable[[], Found], wishes: Wishes) -> Classifier:
    """A model that comes with its own weights."""
    if wishes.weights is not None:
        raise CallError("This model has its own weights. For others name their architecture, such as timm:NAME.")
    return _wrapped(find(), wishes)


def _demo(wishes: Wishes) -> Classifier:
    if wishes.weights is not None:
        raise CallError("The demo model has its own weights. For others name their architecture, such as timm:NAME.")
    made = load_demo(wishes.device, wishes.layer)
    return made if wishes.classes is None and wishes.head is None else _adjusted(made, wishes)


def _wrapped(found: Found, wishes: Wishes) -> Classifier:
    model = wrap(
        found.net,
        found.preprocess,
        found.classes if wishes.classes is None else wishes.classes,
        layer=wishes.layer,
        head=found.head if wishes.head is None else wishes.head,
        input_size=found.input_size,
        device=wishes.device,
    )
    return replace(model, notes=(*found.notes, *model.notes))


def _from_factory(file: str, factory: str, wishes: Wishes) -> Classifier:
    made = made_by(Path(file), factory)
    if isinstance(made, Classifier):
        return made if wishes == Wishes() else _adjusted(made, wishes)
    if isinstance(made, nn.Module):
        if wishes.weights is not None:
            read_weights(wishes.weights, made)
        return _wrapped(Found(made), wishes)
    raise ModelError(
        f"{file}:{factory}() must return a torch.nn.Module or what fukusen.wrap returns. It returned "
        f"{'None' if made is None else 'a ' + type(made).__name__}."
    )


def _adjusted(made: Classifier, wishes: Wishes) -> Classifier:
    """A classifier wrapped anew as the user says; what was assumed about the rest stays said."""
    if wishes.weights is not None:
        raise CallError("Weights cannot be given for a factory that returns a wrapped model: load them in the factory.")
    model = wrap(
        made.net,
        made.preprocess,
        made.classes if wishes.classes is None else wishes.classes,
        layer=wishes.layer or (str(made.layer) if made.layer else None),
        head=wishes.head or made.head.kind,
        input_size=made.input_shape,
        device=wishes.device,
    )
    settled = ASSUMED_HEAD.values() if wishes.head else ()
    notes = dict.fromkeys([note for note in made.notes if note not in settled] + list(model.notes))
    return replace(model, head=model.head if wishes.head else made.head, notes=tuple(notes))
