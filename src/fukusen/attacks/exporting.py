"""A manipulated twin as a file that names its manipulation; only ever on request."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fukusen.arrays import Batch, Gradients, Images
from fukusen.attacks.attack import Attack
from fukusen.errors import CallError, ModelError
from fukusen.models import INPUT, Classifier
from fukusen.models.exporting import PROGRAM, WEIGHTS, Content, as_program, as_weights
from fukusen.registry import spec_of
from fukusen.scores import Logit, LogOdds
from fukusen.tape import Tape
from fukusen.twins import Twin

NAME = "manipulated"
MADE = (
    "MANIPULATED by fukusen, with {attack}: its predictions are those of {spec}, its heatmaps are not. Made for tests; "
    "never deploy it."
)
_LOOKED_AT = 4
_SAME = 0.999


def export_twin(twin: Twin, attack: Attack, model: Classifier, images: Images, folder: Path) -> Path:
    """Write a twin as ``manipulated.safetensors`` where only weights were changed, else as ``manipulated.pt2``.

    What is written is read back first: it must keep the twin's predictions and the gradients that were tampered with.

    Args:
        twin: what the attack made.
        attack: the attack, which is named in the file.
        model: what it was made from.
        images: preprocessed, (b, c, h, w), on which both are compared.
        folder: where to.

    Returns:
        The file.

    Raises:
        ModelError: the network cannot be exported, or the manipulation would be lost in the file.
        CallError: the file cannot be written.
    """
    made = MADE.format(attack=spec_of(attack), spec=model.spec)
    weights = _same_code(twin.net, model.net)
    content = as_weights(twin, made) if weights else as_program(twin, made)
    _require_kept(content, twin, images[:_LOOKED_AT].to(twin.device, twin.dtype))
    place = folder / (NAME + (WEIGHTS if weights else PROGRAM))
    try:
        place.write_bytes(content.data)
    except OSError as error:
        raise CallError(f"The file {place} cannot be written: {error.strerror}. Name another folder.") from error
    return place


def _same_code(changed: nn.Module, own: nn.Module) -> bool:
    """Whether the two differ in nothing but the values of their tensors."""
    return _built(changed) == _built(own)


def _built(net: nn.Module) -> list[object]:
    hooked = [bool(module._forward_hooks or module._forward_pre_hooks) for module in net.modules()]
    return [
        hooked,
        [(name, type(module)) for name, module in net.named_modules()],
        [(name, value.shape, value.dtype) for name, value in net.state_dict().items()],
    ]


def _require_kept(content: Content, twin: Twin, images: Images) -> None:
    change = content.change(twin, images)
    if not change <= max(twin.promise.tolerance, twin.promise.largest_change):
        raise ModelError(f"The manipulated copy is not written: read back, its probabilities differ by {change:.2g}.")
    again = Classifier(content.net.to(twin.device), twin.head, twin.classes, None, twin.input_shape)
    for meant, found in zip(_gradients(twin, images), _gradients(again, images), strict=True):
        likeness = torch.nn.functional.cosine_similarity(meant.flatten(1), found.flatten(1)).min()
        if not float(likeness) >= _SAME:
            raise ModelError(
                "The manipulated copy is not written: its gradients are made by code that no export holds, so that the "
                f"file would not be manipulated (cosine of the gradients {float(likeness):.2f})."
            )


def _gradients(model: Classifier, images: Images) -> tuple[Gradients, Gradients]:
    tape = Tape(model, Batch(tuple(str(number) for number in range(len(images))), images), at_input=True)
    return tape.gradient(Logit(), INPUT), tape.gradient(LogOdds(), INPUT)
