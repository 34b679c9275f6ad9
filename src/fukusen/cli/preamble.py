"""What was understood of a call, said before the work begins, so that a wrong guess costs seconds and not hours."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fukusen.cli.output import entry
from fukusen.records import Item

if TYPE_CHECKING:
    from fukusen.auditing import Plan
    from fukusen.models import Classifier

SHOWN = 4


def say_understood(model: Classifier, plan: Plan, items: Sequence[Item], out: Path) -> None:
    """Say on stderr which network, images and plan an audit is about to work on, and what was assumed.

    Args:
        model: as it was loaded.
        plan: what is asked.
        items: the images.
        out: the folder for the results.
    """
    for key, text in _model(model):
        entry(key, text, to=sys.stderr)
    entry("images", _images(items), to=sys.stderr)
    entry("plan", _plan(plan, len(items)), to=sys.stderr)
    for note in model.notes:
        entry("note", note, to=sys.stderr)
    found = (out / "store" / "run.json").is_file()
    entry("out", f"{out}, going on with the audit that is there" if found else str(out), to=sys.stderr)


def _model(model: Classifier) -> list[tuple[str, str]]:
    channels, rows, columns = model.input_shape
    layer, names = model.layer, [*model.classes[:SHOWN], *(["..."] if len(model.classes) > SHOWN else [])]
    count = sum(value.numel() for value in model.net.parameters())
    read = "none with rows and columns: no class activation maps" if layer is None else _cells(str(layer), layer.shape)
    assumed = " (assumed)" if model.head.assumed else ""
    return [
        ("model", f"{model.spec}, {count:,} parameters, on {model.device}"),
        ("head", f"{model.head.kind}{assumed}"),
        ("layer", read),
        ("input", f"{channels} channels, {rows} x {columns} pixels; {_preprocessing(model.preprocess)}"),
        ("classes", f"{len(model.classes):,}: {', '.join(names)}"),
    ]


def _preprocessing(preprocess: object) -> str:
    """Its name or its values, in no more digits than people read."""
    if preprocess is None:
        return "no preprocessing"
    said = " ".join(getattr(preprocess, "__name__", str(preprocess)).split())
    return "preprocessing: " + re.sub(r"\d+\.\d{4,}", lambda digits: f"{float(digits[0]):.4g}", said)


def _cells(name: str, shape: Sequence[int]) -> str:
    return f"{name}, {shape[1]} x {shape[2]} cells"


def _images(items: Sequence[Item]) -> str:
    labels = {item.label for item in items if item.label is not None}
    named = sum(item.label is not None for item in items)
    said = f"{len(items):,} image{'s' if len(items) != 1 else ''}"
    return f"{said}, {named:,} with one of {len(labels):,} labels" if labels else said


def _plan(plan: Plan, images: int) -> str:
    from fukusen.auditing.plan import SAMPLES

    methods, scores, most = len(plan.methods), len(plan.scores), SAMPLES[plan.budget]
    said = f"{plan.budget}: {methods} method{'s' * (methods != 1)}, {scores} score{'s' * (scores != 1)}"
    return said if most is None or images <= most else f"{said}; the costly methods on {most} of the images"
