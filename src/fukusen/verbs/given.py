"""What callers give: a model or its name, pictures or tensors, and the classes to explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fukusen.errors import CallError, DataError, FukusenError, require
from fukusen.models import Classifier, load, open_picture, wrap
from fukusen.models.pictures import as_rgb
from fukusen.records import Spec

Picture = str | Path | Image.Image
Names = Sequence[str | Spec]


def classifier_of(model: Classifier | str, device: str | torch.device | None) -> Classifier:
    """The classifier itself, on the device; one given by name is loaded.

    Raises:
        CallError: neither a classifier nor a name, or no such device.
    """
    if isinstance(model, str):
        return load(model, device=device)
    require(isinstance(model, Classifier), "fukusen", "model", "what fukusen.load or fukusen.wrap returns", type(model))
    if device is None or _is_on(model, device):
        return model
    moved = wrap(
        model.net,
        model.preprocess,
        model.classes,
        layer=str(model.layer) if model.layer else None,
        head=model.head.kind,
        input_size=model.input_shape,
        device=device,
    )
    return replace(moved, head=model.head, spec=model.spec, notes=model.notes)


def _is_on(model: Classifier, device: str | torch.device) -> bool:
    try:
        asked = torch.device(device)
    except RuntimeError:
        return False  # moving there says what is wrong with it
    return asked.type == model.device.type and asked.index in (None, model.device.index)


def prepared(model: Classifier, images: Sequence[Picture] | Picture | Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Names and preprocessed images, from whatever the caller has."""
    if isinstance(images, Tensor):
        rule = "a tensor of shape (b, c, h, w) with at least one image"
        require(images.dim() == 4 and len(images) > 0, "explain", "images", rule, tuple(images.shape))
        return tuple(f"image {number}" for number in range(len(images))), images
    if model.preprocess is None:
        raise CallError("This model was wrapped without preprocessing: give it a preprocessed (b, c, h, w) tensor.")
    listed = [images] if isinstance(images, str | Path | Image.Image) else list(images)
    require(len(listed) > 0, "explain", "images", "at least one image", 0)
    names, made = [], []
    for number, one in enumerate(listed):
        names.append(f"image {number}" if isinstance(one, Image.Image) else str(one))
        try:
            picture = as_rgb(one) if isinstance(one, Image.Image) else open_picture(one)
        except DataError as error:
            raise DataError(f"{names[-1]}: {error}.") from None
        made.append(model.preprocess(picture))
    return tuple(names), torch.stack(made)


def require_finite(values: Tensor, names: Sequence[str], fault: FukusenError) -> None:
    """Raise the fault, with the name in its gap, for the first of the rows that is not finite."""
    good = values.flatten(1).isfinite().all(dim=1).tolist()
    if not all(good):
        raise type(fault)(str(fault).format(name=names[good.index(False)]))


def targets_of(targets: Sequence[int] | Tensor | int | None, count: int) -> Tensor | None:
    """One class index an image, shape (b,); None stands for the predicted ones.

    Raises:
        CallError: not one index, nor as many as there are images.
    """
    if targets is None:
        return None
    rule = f"{count} class indices, one an image"
    plain = targets.tolist() if isinstance(targets, Tensor | np.ndarray | np.generic) else targets
    listed = [plain] * count if isinstance(plain, int) else plain
    valid = isinstance(listed, Sequence) and not isinstance(listed, str) and len(listed) == count
    valid = valid and all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in listed)
    require(valid, "explain", "targets", rule, plain)
    return torch.tensor([int(one) for one in listed], dtype=torch.int64)
