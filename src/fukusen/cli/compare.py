"""``fukusen compare``: two models side by side, and one headline."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fukusen.cli import options
from fukusen.cli.output import entry, results_kept_apart, show, show_json, table
from fukusen.cli.progress import Told

if TYPE_CHECKING:
    from fukusen.auditing.comparison import Comparison, Gauge, Row
    from fukusen.models import Classifier

EXAMPLES = """Examples:

  fukusen compare tested.onnx delivered.onnx photos/
  fukusen compare timm:resnet50 candidate.onnx photos/ --reference-weights mine.pth
  fukusen compare demo module.py:factory demo --method grad_cam --score logit --json

Exit codes: 0 same predictions and same heatmaps; 1 something differs, or no heatmap could be compared; 2 the call, a
model or the data cannot be used.
"""
SHOWN = 3

Other = Annotated[
    str,
    typer.Argument(
        metavar="CANDIDATE", help="The model held against it, in any of the same forms.", show_default=False
    ),
]


def compare(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="The model that is known: demo, timm:NAME, torchvision:NAME, hf:REPO, file.onnx, or "
            "module.py:factory, which runs the code in that file.",
            show_default=False,
        ),
    ],
    candidate: Other,
    images: options.Images,
    method: options.Methods = None,
    score: options.Scores = None,
    reference_weights: Annotated[
        Path | None,
        typer.Option("--reference-weights", metavar="FILE", help="Weights for the reference's architecture."),
    ] = None,
    candidate_weights: Annotated[
        Path | None,
        typer.Option("--candidate-weights", metavar="FILE", help="Weights for the candidate's architecture."),
    ] = None,
    reference_layer: Annotated[
        str | None,
        typer.Option(
            "--reference-layer", metavar="NAME", help="Where class activation maps are read; found unless said."
        ),
    ] = None,
    candidate_layer: Annotated[
        str | None, typer.Option("--candidate-layer", metavar="NAME", help="The same for the candidate.")
    ] = None,
    classes: options.Classes = None,
    head: options.HeadKind = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="How many images are taken at once.")] = 16,
    device: options.Device = None,
    trust: options.Trust = False,
    as_json: options.AsJson = False,
) -> None:
    """Hold one model against another: same predictions, same heatmaps, same insides?

    Works across formats. Both explain the class that the reference predicts.
    """
    layers = [None if name is None else [name] for name in (reference_layer, candidate_layer)]
    first = partial(options.loaded, reference, reference_weights, classes, layers[0], head, device, trust=trust)
    second = partial(options.loaded, candidate, candidate_weights, classes, layers[1], head, device, trust=trust)
    with results_kept_apart():
        found = _compared((first, second), images, method or None, score or None, batch)
    if as_json:
        show_json(found.as_json())
    else:
        _show(found)
    raise typer.Exit(0 if found.equal else 1)


def _compared(
    load: tuple[Callable[[], Classifier], Callable[[], Classifier]],
    images: str,
    methods: list[str] | None,
    scores: list[str] | None,
    batch: int,
) -> Comparison:
    """The comparison; what costs least is checked first."""
    import fukusen
    from fukusen.runner import items_of

    items_of(images)
    first, second = load[0](), load[1]()
    for role, model in (("reference", first), ("candidate", second)):
        entry("model", f"{role}: {model.spec}, layer {model.layer}", to=sys.stderr)
        for note in model.notes:
            entry("note", f"{role}: {note}", to=sys.stderr)
    with Told(quiet=False) as told:
        return fukusen.compare(first, second, images, methods=methods, scores=scores, batch=batch, progress=told)


def _show(found: Comparison) -> None:
    for key, text in _entries(found):
        entry(key, text, to=sys.stdout)
    show("")
    heads = ("method", "score", "same", "cosine", "worst", "worst image", "ssim")
    show(table(heads, [_cells(row, found) for row in found.rows]))


def _entries(found: Comparison) -> Iterator[tuple[str, str]]:
    yield ("PASS" if found.equal else "DIFFERENT"), found.headline
    for sentence in found.meaning:
        yield "", sentence
    yield "outputs", _outputs(found)
    yield "insides", f"{'same' if found.same_code else 'other'} code; {_weights(found)}"
    yield "pictures", found.preprocessing
    for role, gauge in zip(("reference", "candidate"), found.gauges, strict=True):
        yield "shift", f"{role}: {_gauge(gauge)}"
    for note in found.notes:
        yield "note", note
    if found.failures:
        told = [f"{name} ({why})" for name, why in list(found.failures.items())[:SHOWN]]
        yield "failed", f"{len(found.failures)} images were left out: {', '.join(told)}"


def _outputs(found: Comparison) -> str:
    outputs = found.outputs
    said = (
        f"{outputs.images} images: {outputs.flips} predictions differ; largest change of a probability "
        f"{outputs.largest_change:.2g} (same function: at most {outputs.tolerance:.0e})"
    )
    flipped = [answer for answer in found.answers if answer.flipped]
    told = [f"{answer.item} ({answer.reference} / {answer.candidate})" for answer in flipped[:SHOWN]]
    return f"{said}: {', '.join(told)}" if told else said


def _weights(found: Comparison) -> str:
    weights = found.weights
    if weights.same:
        return f"all {weights.compared} tensors of weights are the same"
    if weights.found is not None:
        return (
            f"the weights have no name in common, as in another format; {weights.found} of the reference's "
            f"{weights.reference} tensors are in the candidate bit for bit"
        )
    apart = f", {weights.worst} most (by {100 * weights.largest:.2g}% of its size)" if weights.worst else ""
    more = f"; {len(weights.reshaped)} have other shapes" if weights.reshaped else ""
    alone = weights.reference + weights.candidate - 2 * (weights.compared + len(weights.reshaped))
    more += f"; {alone} are in one of them only" if alone else ""
    return f"{weights.differing} of {weights.compared} tensors of weights differ{apart}{more}"


def _gauge(gauge: Gauge) -> str:
    row = gauge.head_mean_row
    said = f"not applicable ({row.reason})" if not isinstance(row, float) else f"{row:.2g} of a row of the last layer"
    shares = [
        f"{value:.2g} of the gradient {'at the pixels' if place == 'input' else f'at {place}'}"
        for place, value in gauge.shares.items()
        if isinstance(value, float)
    ]
    return ", ".join([said, *shares]) + (" shared by all classes" if shares or isinstance(row, float) else "")


def _cells(row: Row, found: Comparison) -> list[str]:
    if row.lacking is not None:
        return [row.method, row.score, "-", "-", "-", row.lacking, "-"]
    same, data = row.same(found.bounds), row.as_json(found.bounds)
    numbers = [data["cosine_median"], data["cosine_worst"], data["ssim_median"]]
    median, worst, ssim = ("-" if number is None else f"{number:.4f}" for number in numbers)
    said = {True: "yes", False: "no", None: "-"}[same]
    return [row.method, row.score, said, median, worst, data["worst_image"] or "-", ssim]
