"""A repair chosen, and proved: same probabilities on every image, and no gradient that all logits share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Batch, Images
from fukusen.errors import ModelError
from fukusen.models import INPUT, Classifier
from fukusen.models.classifier import NO_GRADIENT
from fukusen.records import Undefined
from fukusen.repairs.centring import behind, in_weights, last_layer
from fukusen.scores import CenteredLogit, Logit
from fukusen.tape import Place, Tape
from fukusen.twins import Promise, Twin, measured

Way = Literal["weights", "wrapper"]
Batches = Iterable[Float[Tensor, "_ c h w"]]
PROMISED = 1e-6
"""The largest change of a probability that a repair promises, where the given logits are themselves that exact."""
COARSEST = 1e-4
"""The largest that is ever promised, for logits so large that their own rounding moves probabilities as much."""
_UNITS = 4
"""By how many units in the last place of its largest logit a network may round otherwise."""
LOOKED_AT = 16
_LEFT = 1e-3
"""What rounding may leave of the shared gradient, relative to the telling one; a heatmap then moves by less than one
part in a million."""
NOT_CURED = (
    "gradients that are not the model's slopes: a slope without a value, hooks, a backward of its own (gradient_truth)",
    "weights that were trained so that heatmaps mislead: they tell classes apart, and stay as they are",
    "images that were changed so that heatmaps mislead",
    "an export or a wrapper made later: what is added to the logits after the repair is not looked at",
)
_NO_SHIFT = {
    "sigmoid": "A number added to every output of a model of independent labels changes its predictions, so nothing "
    "can be hidden in such a shift",
    "one_logit": "A model with one logit has no other that could share a shift with it, so nothing can be hidden there",
}
_BEHIND = (
    "This model returns {kind}: softmax stands inside it and has removed whatever all logits share, so nothing can be "
    "hidden in a shift"
)


@dataclass(frozen=True)
class Leak:
    """How much of a logit's gradient is shared by all logits, relative to what tells classes apart.

    Args:
        place: the layer's name, or ``"input"``.
        median: over the images that were looked at, 0 or larger; or why there is no number.
        worst: the largest of any image, or why there is none.
        images: how many were looked at.
    """

    place: str
    median: float | Undefined
    worst: float | Undefined
    images: int

    def as_json(self) -> dict[str, Any]:
        """The leak as data; a number that does not exist is null."""
        numbers = {name: None if isinstance(value, Undefined) else value for name, value in self._numbers}
        return {"place": self.place, **numbers, "images": self.images}

    @property
    def _numbers(self) -> tuple[tuple[str, float | Undefined], ...]:
        return ("median", self.median), ("worst", self.worst)


@dataclass(frozen=True, eq=False, kw_only=True)
class Repaired(Twin):
    """A repaired model, to be used and explained like any other.

    Args:
        way: ``weights``: the last layer's mean row is zero and the architecture is as it was; ``wrapper``: the mean is
            taken away behind the network.
        place: the layer whose weights were centred; None for a wrapper.
        before: what the given model leaks, a place each.
        after: what is left of it.
    """

    way: Way
    place: str | None
    before: tuple[Leak, ...]
    after: tuple[Leak, ...]


def repaired(model: Classifier, batches: Batches) -> Repaired:
    """The model without what softmax cannot see of its logits.

    The last layer is centred where its output is the logits and that is enough: measured, on the images. Where it is
    not (a branch beside the layer, weights made by a rule, a slope without a value), the mean is taken away behind the
    network.

    Args:
        model: the model, left as it is.
        batches: preprocessed images (b, c, h, w), gone through more than once: the promise is measured on all, the leak
            on the first few.

    Returns:
        The repaired model; ``promise.kept`` says whether its probabilities are the model's.

    Raises:
        ModelError: there is no shift to repair in such a model.
        DataError: the model returns NaN or infinite numbers for some of the images.
    """
    if not model.head.shift_is_free:
        said = _NO_SHIFT["one_logit"] if model.head.kind == "one_logit" else _NO_SHIFT["sigmoid"]
        behind_softmax = model.head.kind in ("probabilities", "log_probabilities")
        told = _BEHIND.format(kind=model.head.kind.replace("_", "-")) if behind_softmax else said
        raise ModelError(f"There is nothing to repair. {told}.")
    few = next(iter(batches))[:LOOKED_AT]
    before = leaks_of(model, few)
    place = last_layer(model, few)
    if place is not None:
        made = _proved(model, in_weights(model, place), batches, ("weights", place), before)
        if made.promise.kept and all(_is_gone(leak) for leak in made.after):
            return made
    return _proved(model, behind(model), batches, ("wrapper", None), before)


def _proved(
    model: Classifier,
    changed: Classifier,
    batches: Batches,
    how: tuple[Way, str | None],
    before: tuple[Leak, ...],
) -> Repaired:
    after = leaks_of(changed, next(iter(batches))[:LOOKED_AT])
    own = {one.name: getattr(changed, one.name) for one in fields(Classifier)}
    own["spec"] = f"{model.spec} after repair"
    promise = _promise(model, changed, batches)
    return Repaired(**own, promise=promise, way=how[0], place=how[1], before=before, after=after)


def _promise(model: Classifier, changed: Classifier, batches: Batches) -> Promise:
    """The promise over all batches; where it is missed, within what the model's own rounding lets anyone promise."""
    parts = [measured((model, images), (changed, images), PROMISED) for images in batches]
    count = sum(part.images for part in parts)
    largest, tolerance = max(part.largest_change for part in parts), PROMISED
    if largest > PROMISED:
        own = float(model.logits(next(iter(batches))).abs().max())
        tolerance = min(COARSEST, max(PROMISED, _UNITS * torch.finfo(model.dtype).eps * own))
    return Promise(
        tolerance=tolerance,
        largest_change=largest,
        flips=sum(part.flips for part in parts),
        images=count,
        total_variation=sum(part.total_variation * part.images for part in parts) / count,
    )


def leaks_of(model: Classifier, images: Images) -> tuple[Leak, ...]:
    """The gradient of the mean logit against that of a logit's distance from it, at the layer and at the input.

    Args:
        model: the model.
        images: preprocessed, (b, c, h, w); the predicted classes are looked at.
    """
    tape = Tape(model, Batch(tuple(str(number) for number in range(len(images))), images))
    places: list[Place] = [*tape.layers, INPUT]
    try:
        return tuple(_leak(tape, place) for place in places)
    except ModelError as error:
        if str(error) not in (NO_GRADIENT, model.gradientless):
            raise
        why = Undefined("the network lets no gradient through")
        return tuple(Leak(str(place), why, why, len(images)) for place in places)


def _leak(tape: Tape, place: Place) -> Leak:
    whole = tape.gradient(Logit(), place).double().flatten(1)
    telling = tape.gradient(CenteredLogit(), place).double().flatten(1)
    common, own = (whole - telling).norm(dim=1), telling.norm(dim=1)
    shares = (common / own)[own > 0]
    if not len(shares):
        why = Undefined("the logits do not depend on this place")
        return Leak(str(place), why, why, len(own))
    return Leak(str(place), float(shares.median()), float(shares.max()), len(shares))


def _is_gone(leak: Leak) -> bool:
    return isinstance(leak.worst, float) and leak.worst <= _LEFT
