"""``fukusen repair``: the same predictions, in a file, from logits in which nothing can hide."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fukusen.cli import options
from fukusen.cli.output import entry, results_kept_apart, show_json
from fukusen.cli.progress import Told

if TYPE_CHECKING:
    from fukusen.models import Classifier
    from fukusen.repairs import Leak, Repaired, Written

EXAMPLES = """Examples:

  fukusen repair timm:resnet50 --weights mine.pth --out mine-repaired.safetensors
  fukusen repair module.py:factory --images photos/ --out repaired.pt2
  fukusen repair demo --out repaired.pt2 --json

Exit codes: 0 written; 2 the call, the model or the data cannot be used, or the predictions would change: nothing is
written.
"""


def repair(
    model: options.Model,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to write it: FILE.safetensors for weights alone, FILE.pt2 for the whole network.",
            show_default=False,
        ),
    ],
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="IMAGES",
            help="On which the same probabilities are proved: a folder, a glob, a table, or demo. Unless said, a few "
            "noise pictures.",
        ),
    ] = None,
    weights: options.Weights = None,
    classes: options.Classes = None,
    head: options.HeadKind = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="How many images are taken at once.")] = 16,
    device: options.Device = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Write over a file that is there.")] = False,
    trust: options.Trust = False,
    as_json: options.AsJson = False,
) -> None:
    """Take away what softmax cannot see of a model's logits, so that no heatmap of a logit can be redrawn with it.

    The predictions stay, which is measured before anything is written.
    """
    load = partial(options.loaded, model, weights, classes, None, head, device, trust=trust)
    shown = images or ("demo" if model == "demo" else None)
    with results_kept_apart():
        done = _Done(*_repaired(load, shown, out, batch, force=force), shown)
    if as_json:
        show_json(done.as_json())
    else:
        for key, text in done.entries():
            entry(key, text, to=sys.stdout)


def _repaired(
    load: Callable[[], Classifier], images: str | None, out: Path, batch: int, *, force: bool
) -> tuple[Repaired, Written]:
    """The repaired model and its file; what costs least is checked first."""
    import fukusen
    from fukusen.repairs import check_place
    from fukusen.runner import items_of
    from fukusen.verbs.repairing import write_repaired

    check_place(out, force=force)
    if images is not None:
        items_of(images)
    model = load()
    for note in model.notes:
        entry("note", note, to=sys.stderr)
    with Told(quiet=False) as told:
        fixed = fukusen.repair(model, images, batch=batch, progress=told)
    return fixed, write_repaired(fixed, out, images, force=force)


@dataclass(frozen=True)
class _Done:
    """What was done, for people and for programs."""

    model: Repaired
    file: Written
    images: str | None

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        from fukusen.repairs import NOT_CURED

        model = self.model
        return {
            "model": model.spec,
            "way": model.way,
            "layer": model.place,
            "images": self.images,
            "promise": {**asdict(model.promise), "kept": model.promise.kept},
            "leak": {
                "before": [leak.as_json() for leak in model.before],
                "after": [leak.as_json() for leak in model.after],
            },
            "file": str(self.file.path),
            "read_back_largest_change": self.file.largest_change,
            "usage": self.file.usage,
            "not_cured": list(NOT_CURED),
            "notes": list(model.notes),
        }

    def entries(self) -> Iterator[tuple[str, str]]:
        """The summary, key by key."""
        from fukusen.repairs import NOT_CURED

        yield "repaired", _way(self.model)
        yield "promise", self._promise()
        for before, after in zip(self.model.before, self.model.after, strict=True):
            yield "leak", f"{_where(before)}: {_share(before)} before, {_share(after)} after"
        yield "not cured", f"{NOT_CURED[0]}."
        for one in NOT_CURED[1:]:
            yield "", f"{one}."
        yield "file", str(self.file.path)
        yield "use it", self.file.usage

    def _promise(self) -> str:
        found = self.model.promise
        kind = "noise pictures" if self.images is None else f"pictures of {self.images}"
        more = "; prove it on your own with --images" if self.images is None else ""
        return (
            f"kept on {found.images} {kind}: {found.flips} predictions change, and the largest change of a probability "
            f"is {found.largest_change:.2g} (promised: at most {found.tolerance:.2g}){more}"
        )


def _way(model: Repaired) -> str:
    if model.way == "weights":
        return (
            f"the last layer, {model.place}, now has a mean row of exactly zero; the architecture is as it was, and "
            "only that layer's weights are others"
        )
    return (
        "the mean of all logits is taken away behind the network, because centring the last layer would not be enough: "
        "something else has a say in the logits, or in their gradients"
    )


def _where(leak: Leak) -> str:
    return "at the pixels" if leak.place == "input" else f"at the layer {leak.place}"


def _share(leak: Leak) -> str:
    """How much of the gradient is shared, in no more digits than people read."""
    if not isinstance(leak.median, float):
        return f"not measured ({leak.median.reason})"
    return f"{leak.median:.2g}"
