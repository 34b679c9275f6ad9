"""``explain``: heatmaps of some images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fukusen.arrays import Batch
from fukusen.auditing import Panel
from fukusen.auditing import explain as explain_batch
from fukusen.auditing.panel import joined_panels
from fukusen.auditing.plan import STANDARD_METHODS, STANDARD_SCORES, built
from fukusen.errors import DataError, ModelError, require
from fukusen.methods import also_at
from fukusen.methods import methods as known_methods
from fukusen.methods.relevance import needs_zennit
from fukusen.models import Classifier
from fukusen.scores import scores as known_scores
from fukusen.verbs.given import Names, Picture, classifier_of, prepared, require_finite, targets_of


def explain(
    model: Classifier | str,
    images: Sequence[Picture] | Picture | Tensor,
    targets: Sequence[int] | Tensor | int | None = None,
    methods: Names | None = None,
    scores: Names | None = None,
    *,
    layers: Sequence[str] = (),
    device: str | torch.device | None = None,
    batch: int = 16,
) -> Panel:
    """Heatmaps of some images by several methods in several scores, from as few passes as they need.

    Args:
        model: a classifier, or the name of one.
        images: paths, PIL pictures, or a preprocessed (b, c, h, w) tensor.
        targets: the class to explain for each image, or one for all; default: the predicted classes.
        methods: names or specs; default: those of the standard panel.
        scores: names or specs; default: those of the standard panel.
        layers: further layers of the network at which every method that reads a layer is read, too, as NAME@LAYER.
        device: where to run.
        batch: how many images are taken at once.

    Returns:
        The panel: ``panel[method, score]`` is a signed map (b, h, w) at native resolution.

    Raises:
        UnknownName: a method or score that does not exist.
        CallError: targets or images of the wrong form.
        DataError: a picture that cannot be read.

    Example:
        >>> from torch import nn
        >>> from fukusen.verbs import wrap
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> model = wrap(net, input_size=(3, 8, 8), head="softmax")
        >>> panel = explain(model, torch.rand(1, 3, 8, 8), methods=["grad_cam"])
        >>> panel["grad_cam", "log_odds"].shape
        torch.Size([1, 6, 6])
    """
    require(isinstance(batch, int) and batch >= 1, "explain", "batch", "an int >= 1", batch)
    classifier = classifier_of(model, device)
    made = also_at(built(known_methods, STANDARD_METHODS if methods is None else methods), layers)
    asked = built(known_scores, STANDARD_SCORES if scores is None else scores)
    for method in made if methods is not None else []:
        needs_zennit(method)
    names, tensors = prepared(classifier, images)
    wanted = targets_of(targets, len(names))
    parts = []
    for start in range(0, len(names), batch):
        end = start + batch
        part = Batch(names[start:end], tensors[start:end], None if wanted is None else wanted[start:end])
        require_finite(part.images, part.items, DataError("{name}: its preprocessed pixels are NaN or infinite."))
        parts.append(explain_batch(classifier, part, made, asked))
        fault = ModelError("{name}: the model returns NaN or infinite numbers for it. Check its weights and code.")
        require_finite(parts[-1].logits, part.items, fault)
    return joined_panels(parts)
