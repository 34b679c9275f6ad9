"""What fukusen writes beside an exported network, so that it is read as it was: pictures, classes, head."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fukusen.errors import CallError, ModelError
from fukusen.models.classifier import Classifier
from fukusen.models.found import Found
from fukusen.models.preprocessing import CenterCrop, FixedSize, Squash

PLACE = "fukusen.json"
METADATA = "fukusen"
SAYS = "The file says of itself: {made}"
_FORM = 1
_KINDS: dict[str, Callable[..., FixedSize]] = {"CenterCrop": CenterCrop, "Squash": Squash}


def written(model: Classifier, made: str) -> str:
    """What is known of a model besides its network, as JSON.

    Args:
        model: the model; a preprocessing of the user's own is code, which is not written, and a head that was assumed
            is left to be assumed again.
        made: what was done to it, in one sentence.
    """
    kind, picture = type(model.preprocess).__name__, None
    if isinstance(model.preprocess, CenterCrop | Squash):
        picture = {"kind": kind, **asdict(model.preprocess)}
    head = None if model.head.assumed else model.head.kind
    known = {"made": made, "spec": model.spec, "classes": model.classes, "head": head, "preprocess": picture}
    return json.dumps({"form": _FORM, **known, "input": model.input_shape}, ensure_ascii=False)


def completed(found: Found, text: str | bytes) -> Found:
    """A network found in a file, with what `written` has put beside it; as it is where there is nothing.

    Raises:
        ModelError: what stands there cannot be read.
    """
    if not text:
        return found
    try:
        known: dict[str, Any] = json.loads(text)
        preprocess = _picture(known["preprocess"])
        classes = tuple(str(name) for name in known["classes"])
        kept = replace(found, classes=classes, head=known["head"])
        notes = (SAYS.format(made=known["made"]),)
    except (ValueError, KeyError, TypeError, CallError) as error:
        raise ModelError(
            f"What fukusen has written beside the network in this file cannot be read ({error!r}). Export it again."
        ) from error
    if preprocess is None:
        return replace(kept, notes=(*kept.notes, *notes))
    return replace(kept, preprocess=preprocess, input_size=None, notes=notes)


def said_of_weights(file: Path) -> tuple[str, ...]:
    """What `written` has put beside the weights in a file, in sentences; nothing where there is nothing."""
    if file.suffix.lower() != ".safetensors":
        return ()
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        text = (content.metadata() or {}).get(METADATA)
    try:
        return (SAYS.format(made=json.loads(text)["made"]),) if text else ()
    except (ValueError, KeyError, TypeError):
        return ()


def _picture(known: dict[str, Any] | None) -> FixedSize | None:
    if known is None:
        return None
    kind, values = _KINDS[known["kind"]], {name: value for name, value in known.items() if name != "kind"}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
