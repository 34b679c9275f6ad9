"""``repair``: the same predictions from logits in which nothing can hide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fukusen.arrays import Images
from fukusen.errors import DataError
from fukusen.models import Classifier
from fukusen.models.probes import probe_images
from fukusen.repairs import Repaired, Written, export, repaired
from fukusen.twins import Progress
from fukusen.verbs.gathering import Asked, Gathered, eyes_of, gathered
from fukusen.verbs.given import classifier_of


def repair(
    model: Classifier | str,
    images: Asked | None = None,
    *,
    device: str | torch.device | None = None,
    batch: int = 16,
    progress: Progress | None = None,
) -> Repaired:
    """A copy of a model whose logits carry nothing that softmax cannot see, with the same probabilities.

    A number added to every logit changes no prediction and can draw anything into a heatmap of a logit. What remains
    of the logits here cannot be redrawn that way.

    Args:
        model: a classifier, or the name of one; left as it is.
        images: on which the same probabilities are proved: a folder, a list of pictures, a preprocessed (b, c, h, w)
            tensor; default: a few noise pictures.
        device: where to run.
        batch: how many images are taken at once.
        progress: called with (done, total, phase).

    Returns:
        The repaired model, a twin: ``promise`` says how well it keeps the probabilities, ``way`` whether the last
        layer's weights were centred or the mean is taken away behind the network, ``before`` and ``after`` how much of
        the gradients was shared by all logits.

    Raises:
        ModelError: there is nothing to repair in such a model: only softmax logits have a free shift.
        DataError: no image can be used.

    Example:
        >>> from torch import nn
        >>> from fukusen.verbs import wrap
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> fixed = repair(wrap(net, input_size=(3, 8, 8), head="softmax"))
        >>> fixed.way, fixed.place, fixed.promise.kept, fixed.net[3].weight.double().sum(dim=0).abs().max().item()
        ('weights', '3', True, 0.0)
    """
    classifier = classifier_of(model, device)
    return repaired(classifier, _Proofs(classifier, _given(classifier, images, batch), progress))


def write_repaired(fixed: Repaired, path: Path, images: Asked | None = None, *, force: bool = False) -> Written:
    """The repaired model as a file, read back and compared before it stays.

    Args:
        fixed: the repaired model.
        path: where; ``.safetensors`` for its weights alone, ``.pt2`` for the whole network.
        images: on which what was read back is compared, see ``repair``.
        force: whether a file that is there may be replaced.

    Raises:
        CallError: the file cannot be written there, or weights alone do not hold the repair.
        ModelError: the promise does not hold, or the network cannot be exported.
    """
    first = next(iter(_Proofs(fixed, _given(fixed, images, 16), None)))
    return export(fixed, path, first, force=force)


def _given(model: Classifier, images: Asked | None, batch: int) -> Gathered:
    if images is None:
        return gathered(probe_images(model.preprocess, model.input_shape), batch)
    return gathered(images, batch)


@dataclass(frozen=True, eq=False)
class _Proofs:
    """The images as the model sees them, batch by batch, as often as asked; those that cannot be read are left out."""

    model: Classifier
    pictures: Gathered
    progress: Progress | None

    def __iter__(self) -> Iterator[Images]:
        told, some = self.progress, False
        failures: dict[str, str] = {}
        for part in self.pictures.seen_by([eyes_of(self.model)], told, "comparing probabilities"):
            failures |= part.failures
            if part.names:
                some = True
                yield part.images[0]
        if not some:
            name, why = next(iter(failures.items()))
            raise DataError(f"None of the {len(self.pictures)} images can be used. {name}: {why}.")
