"""``fukusen explain``: the maps of one image, as a contact sheet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fukusen.cli import options
from fukusen.cli.output import entry, plain, results_kept_apart, show, show_json, table
from fukusen.errors import CallError, DataError

if TYPE_CHECKING:
    from fukusen.cli.maps import Explained
    from fukusen.models import Classifier

EXAMPLES = """Examples:

  fukusen explain demo photo.jpg
  fukusen explain demo photo.jpg --method grad_cam --method lrp --out maps.png
  fukusen explain demo photo.jpg --target 'Egyptian cat' --method grad_cam --json

Names of methods and scores: fukusen list methods, fukusen list scores.
"""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def explain(
    model: options.Model,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture file.", show_default=False)],
    method: options.Methods = None,
    score: options.Scores = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="CLASS",
            help="The class to explain: its index from 0, or its name. Unless said, the predicted one.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PICTURE", help="Where to draw; unless said, IMAGE-explained.png in this folder."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Write over a picture that is there.")] = False,
    weights: options.Weights = None,
    classes: options.Classes = None,
    layer: options.Layers = None,
    head: options.HeadKind = None,
    device: options.Device = None,
    trust: options.Trust = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw the heatmaps of one image by several methods in several scores, as one picture."""
    load = partial(options.loaded, model, weights, classes, layer, head, device, trust=trust)
    with results_kept_apart():
        explained, path = _drawn(load, image, target, (method or None, score or None, (layer or [])[1:]), (out, force))
    if as_json:
        show_json({**explained.as_json(), "picture": str(path)})
    else:
        _show(explained, path)


def class_index(asked: str, classes: Sequence[str]) -> int:
    """The class that is asked for, by its index or its name.

    Example:
        >>> class_index("1", ["cat", "dog"]), class_index("Dog", ["cat", "dog"])
        (1, 1)

    Raises:
        CallError: there is no such class, or more than one of that name.
    """
    if asked.isdecimal():
        if int(asked) >= len(classes):
            raise CallError(f"There is no class {asked}: this model has {len(classes)}, counted from 0.")
        return int(asked)
    folded = asked.casefold()
    exact = [index for index, name in enumerate(classes) if name == asked]
    found = exact or [index for index, name in enumerate(classes) if name.casefold() == folded]
    if len(found) > 1:
        ways = " or ".join(f"--target {index}" for index in found)
        raise CallError(f"This model has {len(found)} classes named {asked!r}. Say {ways}.")
    if not found:
        near = get_close_matches(asked, classes, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else " Say its index, counted from 0."
        raise CallError(f"This model has no class named {asked!r}.{hint}")
    return found[0]


def _drawn(
    load: Callable[[], Classifier],
    image: str,
    target: str | None,
    panel: tuple[list[str] | None, list[str] | None, list[str]],
    place: tuple[Path | None, bool],
) -> tuple[Explained, Path]:
    """The maps, and the picture that they were drawn into; whether that can be written is looked at first."""
    from fukusen.cli.maps import explained
    from fukusen.runner import items_of

    items = items_of(image)
    if len(items) > 1:
        raise DataError(
            f"{image} names {len(items)} pictures, and explain draws one, such as {items[0].path}. For many use: "
            "fukusen audit"
        )
    out, force = place
    path = _free(out or Path(f"{Path(items[0].path).stem}-explained.png"), force)
    model = load()
    for note in model.notes:
        entry("note", note, to=sys.stderr)
    index = None if target is None else class_index(target, model.classes)
    made = explained(model, items[0], index, *panel)
    kept = BytesIO()
    made.sheet().save(kept, FORMATS[path.suffix.lower()], quality=90)
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(kept.getvalue())
    except OSError as error:
        raise CallError(f"The picture {path} cannot be written: {error.strerror}. Name another with --out.") from error
    return made, path


def _free(path: Path, force: bool) -> Path:
    """The path, where a picture may be put there."""
    if path.suffix.lower() not in FORMATS:
        endings = ", ".join(FORMATS)
        raise CallError(f"The picture {path} would be of no known kind. Give --out a name that ends with: {endings}.")
    if path.is_dir() or (path.exists() and not force):
        raise CallError(f"There is a {path} already. Name another with --out, or say --force to write over it.")
    if not path.parent.is_dir():
        raise CallError(f"There is no folder {path.parent} to put the picture in. Make it, or name another with --out.")
    return path


def _show(made: Explained, path: Path) -> None:
    from fukusen.cli.maps import HEADS

    for line in (plain(made.item.name), *made.lines()):
        show(plain(line))
    show("")
    show(table(HEADS, [row.cells() for row in made.rows]))
    show("")
    show(plain(str(path)))
