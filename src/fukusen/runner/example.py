"""One heatmap of the user's own, redrawn on a copy of the model while its prediction stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor

from fukusen.arrays import Batch
from fukusen.attacks import DrawnTarget, verified
from fukusen.auditing.panel import Panel
from fukusen.auditing.panel import explain as explain_batch
from fukusen.errors import CallError, DataError, ModelError
from fukusen.methods import GradCam
from fukusen.models import Classifier, open_picture
from fukusen.records import Item, Undefined
from fukusen.scores import Logit, LogOdds
from fukusen.twins import Twin

SCORES = (Logit(), LogOdds())
_WIDEST = 28
_DIGITS = 6


def redrawn_example(model: Classifier, items: Sequence[Item]) -> dict[str, Any]:
    """What a small branch can draw in place of the Grad-CAM map of one image.

    Args:
        model: the model, left as it is.
        items: audited images, of which the first is taken.

    Returns:
        As it stands in audit.json under ``redrawing``: the attack, its promise on that image, and the maps in logit and
        log-odds before and after; or the reason why this model's heatmaps cannot be redrawn in this way.
    """
    attack = DrawnTarget()
    told = {"attack": attack.name, "method": GradCam.name, "item": items[0].name}
    try:
        if model.preprocess is None:
            raise CallError("there is no preprocessing")
        image = model.preprocess(open_picture(items[0].path))[None]
        twin = cast(Twin, verified(attack, model, image))
        before, after = (_panel(one, image) for one in (model, twin))
    except (ModelError, CallError, DataError) as error:
        return {**told, "undefined": str(error)}
    lacking = [one for panel in (before, after) for one in panel.made.values() if isinstance(one, Undefined)]
    if lacking:
        return {**told, "undefined": lacking[0].reason}
    promise = {**asdict(twin.promise), "kept": twin.promise.kept}
    alike = {score.name: _cosine(before, after, score.name) for score in SCORES}
    maps = {"before": _kept(before), "after": _kept(after)}
    return {**told, "undefined": None, "promise": promise, "cosine": alike, **maps}


def _panel(model: Classifier, image: Tensor) -> Panel:
    return explain_batch(model, Batch(("image",), image), [GradCam()], list(SCORES))


def _cosine(before: Panel, after: Panel, score: str) -> float:
    """How alike the signed maps are, -1 to 1; 0 where one of them is empty."""
    one, other = (panel[GradCam.name, score].double().flatten() for panel in (before, after))
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def _kept(panel: Panel) -> dict[str, Any]:
    """The maps as lists of rows, each divided by its largest magnitude."""
    return {score.name: _listed(panel[GradCam.name, score.name][0]) for score in SCORES}


def _listed(maps: Tensor) -> list[list[float]]:
    height, width = (min(cells, _WIDEST) for cells in maps.shape)
    small = torch.nn.functional.adaptive_avg_pool2d(maps[None].double().cpu(), (height, width))[0]
    largest = float(small.abs().max())
    scaled = small / largest if 0 < largest < float("inf") else torch.zeros_like(small)
    return [[round(value, _DIGITS) for value in row] for row in scaled.tolist()]
