"""``compare``: what changed between two models, in outputs, maps, weights and code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fukusen.auditing.comparing import Pair, compared
from fukusen.auditing.comparison import Comparison
from fukusen.auditing.plan import STANDARD_METHODS, STANDARD_SCORES, built
from fukusen.errors import CallError, ModelError, require
from fukusen.methods import Method
from fukusen.methods import methods as known_methods
from fukusen.methods.relevance import needs_zennit
from fukusen.models import Classifier
from fukusen.models.preprocessing import ASSUMED
from fukusen.models.probes import probe_images
from fukusen.models.wrapping import ASSUMED_PREPROCESS
from fukusen.scores import scores as known_scores
from fukusen.twins import Progress
from fukusen.verbs.gathering import Asked, Eyes, Gathered, eyes_of, gathered
from fukusen.verbs.given import Names, classifier_of

_TAIL = ASSUMED.partition("{kind}")[2]


def compare(
    reference: Classifier | str,
    candidate: Classifier | str,
    images: Asked,
    *,
    methods: Names | None = None,
    scores: Names | None = None,
    device: str | torch.device | None = None,
    batch: int = 16,
    progress: Progress | None = None,
) -> Comparison:
    """Two models side by side on the same pictures: same predictions, same heatmaps?

    Args:
        reference: the model that is known: a classifier, or the name of one. Its predicted classes are explained.
        candidate: the model that is held against it, in whatever format.
        images: a folder, a glob, a table, "demo", a list of pictures, or a preprocessed (b, c, h, w) tensor.
        methods: names or specs; default: those of the standard panel that need one pass.
        scores: names or specs; default: those of the standard panel.
        device: where to run.
        batch: how many images are taken at once.
        progress: called with (done, total, phase).

    Returns:
        The comparison: ``headline`` sums it up, ``equal`` says whether nothing told the two apart.

    Raises:
        ModelError: a model cannot be loaded, or the two do not tell the same number of classes apart.
        DataError: no image can be used.
        CallError: a tensor of images for models with other inputs, or a bad parameter.

    Example:
        >>> from torch import nn
        >>> from fukusen.verbs import wrap
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> model = wrap(net, input_size=(3, 8, 8), head="softmax")
        >>> compare(model, model, torch.rand(2, 3, 8, 8)).headline
        'identical, same explanations'
    """
    require(isinstance(batch, int) and batch >= 1, "compare", "batch", "an int >= 1", batch)
    pictures = gathered(images, batch)
    made = _methods(methods)
    asked = built(known_scores, STANDARD_SCORES if scores is None else scores)
    first, second = classifier_of(reference, device), classifier_of(candidate, device)
    _check_classes(first, second)
    eyes, told = _eyes(first, second, pictures)
    return compared(first, second, _pairs(pictures, eyes, progress), (made, asked), told)


def _methods(asked: Names | None) -> list[Method]:
    if asked is None:
        return [one for one in built(known_methods, STANDARD_METHODS) if one.single_pass]
    made = built(known_methods, asked)
    for one in made:
        needs_zennit(one)
    return made


def _check_classes(first: Classifier, second: Classifier) -> None:
    counts = len(first.classes), len(second.classes)
    if counts[0] != counts[1]:
        raise ModelError(
            f"The reference tells {counts[0]} classes apart and the candidate {counts[1]}, so their probabilities "
            "cannot be compared. Compare models of the same classes."
        )


def _pairs(pictures: Gathered, eyes: tuple[Eyes, Eyes], progress: Progress | None) -> Iterator[Pair]:
    for part in pictures.seen_by(eyes, progress, "comparing"):
        none = torch.empty(0, *eyes[0][1]), torch.empty(0, *eyes[1][1])
        first, second = part.images or none
        yield Pair(part.names, first, second, part.failures)


def _eyes(first: Classifier, second: Classifier, pictures: Gathered) -> tuple[tuple[Eyes, Eyes], tuple[str, bool]]:
    """How each model is shown pictures, that in one sentence, and whether both see the same by right.

    A preprocessing that was assumed only is no fact about a model: where the other's is known and fits, both are shown
    pictures that way, or every file that does not say would differ from what it was exported from.
    """
    own = eyes_of(first), eyes_of(second)
    alike = first.input_shape == second.input_shape
    if isinstance(pictures.named[0][1], Tensor):
        if not alike:
            raise CallError(
                f"The reference takes inputs of shape {first.input_shape} and the candidate of {second.input_shape}, "
                "so one tensor cannot be given to both. Give pictures."
            )
        return own, ("Both were given the same preprocessed images.", True)
    assumed = _is_assumed(first), _is_assumed(second)
    if alike and assumed[0] != assumed[1]:
        known, role, other = (own[1], "reference", "candidate") if assumed[0] else (own[0], "candidate", "reference")
        told = f"The {role}'s preprocessing is not known: both were shown pictures as the {other}'s makes them."
        return (known, known), (told, False)
    if alike and torch.equal(*(probe_images(*eyes) for eyes in own)):
        return own, ("Both make the same inputs of pictures.", True)
    told = "The preprocessing differs: each model was shown pictures as its own makes them."
    return own, (told, False)


def _is_assumed(model: Classifier) -> bool:
    """Whether the preprocessing is none, or one that nobody has said belongs to the model."""
    said: Sequence[str] = model.notes
    return model.preprocess is None or ASSUMED_PREPROCESS in said or any(note.endswith(_TAIL) for note in said)
