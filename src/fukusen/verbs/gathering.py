"""Pictures from a folder, a list or a tensor, read a batch at a time, for one model or for several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fukusen.errors import CallError, DataError, require
from fukusen.models import Classifier, open_picture
from fukusen.models.pictures import as_rgb
from fukusen.models.preprocessing import Preprocess
from fukusen.models.reasons import reason
from fukusen.runner import items_of
from fukusen.twins import Progress

Source = Path | Image.Image | Tensor
Asked = Sequence[str | Path | Image.Image] | Image.Image | Tensor | str | Path
Eyes = tuple[Preprocess | None, tuple[int, int, int]]
"""How a model sees pictures: its preprocessing, and the shape of what that makes."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some pictures, ready for each of the models.

    Args:
        names: of the pictures.
        images: for each model, (b, c, h, w).
        failures: why others could not be used, by name.
    """

    names: tuple[str, ...]
    images: tuple[Tensor, ...]
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Gathered:
    """Named pictures that are not read yet.

    Args:
        named: names, with what they stand for.
        batch: how many are read at once.
    """

    named: tuple[tuple[str, Source], ...]
    batch: int = 16

    def __len__(self) -> int:
        return len(self.named)

    def seen_by(self, eyes: Sequence[Eyes], progress: Progress | None = None, phase: str = "") -> Iterator[Part]:
        """The pictures as some models see them, batch by batch; those that cannot be read are failures.

        Args:
            eyes: of each model.
            progress: called with (done, total, phase) when a batch is done with.
            phase: what is being done.
        """
        for start in range(0, len(self), self.batch):
            group = self.named[start : start + self.batch]
            made = {name: _seen(source, eyes) for name, source in group}
            good = {name: found for name, found in made.items() if not isinstance(found, str)}
            failures = {name: found for name, found in made.items() if isinstance(found, str)}
            images = tuple(torch.stack(column) for column in zip(*good.values(), strict=True))
            yield Part(tuple(good), images, failures)
            if progress is not None:
                progress(min(start + self.batch, len(self)), len(self), phase)


def gathered(images: Asked, batch: int = 16) -> Gathered:
    """Whatever the caller has, as named pictures.

    Args:
        images: a folder, a glob, a table or a picture (by its path), "demo", a list of paths or PIL pictures, or a
            preprocessed (b, c, h, w) tensor.
        batch: how many are read at once.

    Raises:
        CallError: none of these.
        DataError: there is no picture.
    """
    rule = "a folder, a list of pictures, or a (b, c, h, w) tensor, with at least one image"
    if isinstance(images, Tensor):
        require(images.dim() == 4 and len(images) > 0, "fukusen", "images", rule, tuple(images.shape))
        return Gathered(tuple((f"image {number}", one) for number, one in enumerate(images)), batch)
    if isinstance(images, str | Path):
        return Gathered(tuple((item.name, Path(item.path)) for item in items_of(images)), batch)
    listed = [images] if isinstance(images, Image.Image) else list(images)
    require(len(listed) > 0, "fukusen", "images", rule, 0)
    named: dict[str, Source] = {}
    for number, one in enumerate(listed):
        require(isinstance(one, str | Path | Image.Image), "fukusen", "images", rule, type(one).__name__)
        named[f"image {number}" if isinstance(one, Image.Image) else str(one)] = (
            Path(one) if isinstance(one, str) else one
        )
    return Gathered(tuple(named.items()), batch)


def eyes_of(model: Classifier) -> Eyes:
    """How a model sees pictures."""
    return model.preprocess, model.input_shape


def _seen(source: Source, eyes: Sequence[Eyes]) -> tuple[Tensor, ...] | str:
    """What each model makes of one picture, or why it cannot be used."""
    try:
        picture = source if isinstance(source, Tensor) else _opened(source)
        made = tuple(_made(picture, preprocess) for preprocess, _ in eyes)
    except DataError as error:
        return str(error)
    for one, (_, shape) in zip(made, eyes, strict=True):
        if tuple(one.shape) != shape:
            return f"it becomes {tuple(one.shape)}, and the network takes {shape}"
        if not bool(one.isfinite().all()):
            return "its preprocessed pixels are NaN or infinite"
    return made


def _opened(source: Path | Image.Image) -> Image.Image:
    return as_rgb(source) if isinstance(source, Image.Image) else open_picture(source)


def _made(picture: Image.Image | Tensor, preprocess: Preprocess | None) -> Tensor:
    if isinstance(picture, Tensor):
        return picture.detach().cpu()
    if preprocess is None:
        raise CallError("This model was wrapped without preprocessing: give it a preprocessed (b, c, h, w) tensor.")
    try:
        return preprocess(picture.copy()).detach().cpu()
    except Exception as error:
        raise DataError(f"its preprocessing raised {type(error).__name__}: {reason(error)}") from error
