"""``attack``: a harmless attack on a copy of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fukusen.attacks import attacks, needs_images, verified
from fukusen.errors import CallError
from fukusen.models import Classifier
from fukusen.models.probes import probe_images
from fukusen.records import Spec
from fukusen.twins import AlteredImages, Progress, Twin
from fukusen.verbs.given import Picture, classifier_of, prepared


def attack(
    model: Classifier | str,
    name: str,
    images: Sequence[Picture] | Picture | Tensor | None = None,
    *,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    **parameters: float | int | str,  # noqa: PYI041 - the shape checks of the tests tell the two apart
) -> Twin | AlteredImages:
    """A harmless attack played on a copy of the model.

    Args:
        model: a classifier, or the name of one; left as it is.
        name: which attack, from ``list_attacks()``.
        images: on which the promise is checked, and which the attack may use; default: a few noise pictures.
        device: where to run.
        progress: called with (done, total, phase) where an attack takes long.
        **parameters: the attack's own, such as ``strength=10``.

    Returns:
        The twin, a model like any other; ``twin.promise`` says how well it keeps the predictions. An attack on the
        inputs returns altered images instead, with their promise.

    Raises:
        UnknownName: no such attack, or no such parameter of it.
        CallError: a bad value of a parameter, or no images where the attack needs them.
        ModelError: the attack cannot be played on this model.
    """
    classifier = classifier_of(model, device)
    made = attacks.build(Spec.of(name, **parameters))
    if images is not None:
        probes = prepared(classifier, images)[1]
    elif needs_images(made):
        raise CallError(f"The attack {name!r} works on real images of the model's kind. Give it some: images=...")
    else:
        probes = probe_images(classifier.preprocess, classifier.input_shape)
    return verified(made, classifier, probes, progress)
