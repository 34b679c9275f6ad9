"""The arguments and options that several commands share, and what they read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fukusen.errors import CallError, UnknownName

if TYPE_CHECKING:
    from fukusen.models import Classifier

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="demo, timm:NAME, torchvision:NAME, hf:REPO (a folder, or OWNER/NAME), file.onnx, or module.py:factory, "
        "which runs the code in that file.",
        show_default=False,
    ),
]
Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="A folder (its sub-folders are labels), a glob in quotes, a CSV or Parquet file with a column "
        "path, or demo.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="Weights for an architecture: safetensors, or a plain checkpoint."),
]
Classes = Annotated[
    Path | None, typer.Option("--classes", metavar="FILE", help="Class names: a text file, one name a line.")
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="NAME",
        help="Where class activation maps are read; found unless said. Repeat to read them at further layers, too.",
    ),
]
HeadKind = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="KIND",
        help="What the outputs are: softmax, sigmoid, one_logit, probabilities, log_probabilities or "
        "sigmoid_probabilities; found where the numbers tell.",
    ),
]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="Where to run, such as cpu or cuda.")]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="DIR",
        help="An earlier audit that sets the bounds: of a trusted model like this one, or of this on a clean sample.",
    ),
]
Stakes = Annotated[
    Path | None,
    typer.Option(
        "--stakes",
        metavar="FILE",
        help="What a wrong decision costs by class, as CSV with class and cost: costly ones come first in the queue.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="From which every random choice follows.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        metavar="",
        help="Load files that can run code when they are loaded: .pt2, TorchScript, pickled networks.",
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="A method of the panel; repeat for more. See: fukusen list methods"),
]
Scores = Annotated[
    list[str] | None,
    typer.Option("--score", metavar="NAME", help="A score of the panel; repeat for more. See: fukusen list scores"),
]
AsJson = Annotated[
    bool, typer.Option("--json", metavar="", help="Print the result as JSON, and nothing else, on stdout.")
]


def known(kind: str, name: str, names: Collection[str]) -> str:
    """The name, where it is one of those; else the nearest is suggested.

    Raises:
        UnknownName: it is none of them.
    """
    if name not in names:
        raise UnknownName(kind, name, names)
    return name


def class_names(file: Path) -> tuple[str, ...]:
    """The lines of a text file, one class name each.

    Raises:
        CallError: it cannot be read, or a line between two names is empty.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except OSError as error:
        raise CallError(f"The class names in {file} cannot be read: {error.strerror}. Check --classes.") from error
    except UnicodeDecodeError as error:
        raise CallError(f"The class names in {file} are not UTF-8 text. Save the file as UTF-8.") from error
    if "" in lines:
        raise CallError(
            f"Line {lines.index('') + 1} of {file} is empty, and each line names one class. Fill it in, or take it out."
        )
    return tuple(lines)


def loaded(
    spec: str,
    weights: Path | None,
    classes: Path | None,
    layers: Sequence[str] | None,
    head: str | None,
    device: str | None,
    *,
    trust: bool,
) -> Classifier:
    """The model as the options describe it, its own layer the first of those that are named.

    Raises:
        FukusenError: it cannot be loaded or understood; the message says what to do.
    """
    names = None if classes is None else class_names(classes)

    from typing import cast

    import fukusen
    from fukusen.models import HeadKind as Kind
    from fukusen.models.heads import KINDS

    kind = None if head is None else cast(Kind, known("head", head, KINDS))
    return fukusen.load(
        spec, weights=weights, classes=names, layer=layers[0] if layers else None, head=kind, device=device, trust=trust
    )
