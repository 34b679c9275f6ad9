"""One batch through the house: predictions, maps, agreements and checks, all from one tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fukusen.arrays import Batch
from fukusen.auditing.panel import GRID, Panel, panel_of
from fukusen.auditing.plan import Plan, Tasks
from fukusen.checks import Check, ShiftShare, Sight, checks
from fukusen.methods import layers_of
from fukusen.models import Classifier
from fukusen.models.engine import Engine
from fukusen.records import Measurement, Undefined
from fukusen.scores import CenteredLogit, Score, leak_of
from fukusen.tape import Tape

COMPARED_SCORES = ("logit", "log_odds")
WIDEST = 56
AGREEMENT = "spearman"
PEAK = "peak_cell"
LEAK = "shift_leak"
TELLING = "telling_gradient"
EMPTY = Undefined("the heatmap is empty")

StoredMaps = dict[tuple[str, str], np.ndarray | Undefined]


@dataclass(frozen=True, eq=False)
class Examined:
    """What one batch gave.

    Args:
        items: the images that could be examined, by name.
        failures: why the others could not, by name.
        predicted: the predicted class of each item.
        probability: the model's probability for it, 0 to 1.
        measurements: everything measured.
        maps: heatmaps for the store, (b, h, w) with at most 56 cells a side, or the reason why there are none.
    """

    items: tuple[str, ...]
    failures: Mapping[str, str]
    predicted: tuple[int, ...]
    probability: tuple[float, ...]
    measurements: tuple[Measurement, ...]
    maps: StoredMaps


def examine(classifier: Classifier, batch: Batch, tasks: Tasks) -> Examined:
    """Everything that a plan asks of some images.

    Args:
        classifier: the model, left as it is.
        batch: the images.
        tasks: what to do with them.

    Returns:
        What was found; images for which the model gives no finite logits are failures.
    """
    methods, scores = tasks.build_methods(), tasks.plan.build_scores()
    at_input = any(method.at_input for method in methods)
    layers = layers_of(methods, classifier)
    tape = Tape(classifier, batch, layers=layers, at_input=at_input)
    good = tape.logits.isfinite().all(dim=1).cpu()
    failures = {
        item: "the model returns NaN or infinite numbers for it"
        for item, fine in zip(batch.items, good.tolist(), strict=True)
        if not fine
    }
    items = tuple(item for item in batch.items if item not in failures)
    if not items:
        return Examined((), failures, (), (), (), {})
    if failures:
        tape = Tape(classifier, Batch(items, batch.images[good]), layers=layers, at_input=at_input)
    panel = panel_of(tape, methods, scores)
    own = classifier.probabilities(panel.logits).gather(1, panel.targets[:, None])[:, 0]
    return Examined(
        items,
        failures,
        tuple(panel.targets.tolist()),
        tuple(own.tolist()),
        tuple(_measure(_as_given(tape) if tasks.probed else tape, panel, tasks.build_checks())),
        _for_store(panel),
    )


def _as_given(tape: Tape) -> Tape:
    """The same images through the network as given: gradients are held against behaviour in the model itself."""
    model = tape.classifier
    if not isinstance(model, Engine):
        return tape
    batch = Batch(tape.batch.items, tape.batch.images, tape.targets)
    return Tape(model.given, batch, at_input=tape.at_input)


def examine_model(classifier: Classifier, plan: Plan) -> tuple[Measurement, ...]:
    """What the plan asks of the model itself."""
    built = [checks.build(spec) for spec in plan.checks]
    return tuple(_run(built, Sight(classifier, None, {}, {}), "model"))


def _run(built: Sequence[Check], sight: Sight, scope: str) -> list[Measurement]:
    wanted = [check for check in built if check.scope == scope and check.applies(sight.classifier) is None]
    return [measurement for check in wanted for measurement in check.measure(sight)]


def _measure(tape: Tape, panel: Panel, built: Sequence[Check]) -> list[Measurement]:
    sight = Sight(tape.classifier, tape, panel.methods, panel.made)
    found = _run(built, sight, "image")
    found += _leaks(tape, tuple(panel.scores.values()))
    found += _telling(tape) if any(one.check == ShiftShare.name for one in found) else []
    found += _agreements(panel)
    found += _peaks(panel)
    return found


def _leaks(tape: Tape, scores: Sequence[Score]) -> list[Measurement]:
    head = tape.classifier.head
    return [
        Measurement(LEAK, value, item, score=score.name)
        for score in scores
        for item, value in zip(tape.batch.items, leak_of(score, head, tape.logits, tape.targets).tolist(), strict=True)
    ]


def _telling(tape: Tape) -> list[Measurement]:
    """How large the gradient that tells the classes apart is at each place: the shift is held against it."""
    found = []
    for place in tape.places:
        sizes = tape.gradient(CenteredLogit(), place).double().flatten(1).norm(dim=1).tolist()
        pairs = zip(tape.batch.items, sizes, strict=True)
        found += [Measurement(TELLING, size, item, layer=str(place)) for item, size in pairs]
    return found


def _agreements(panel: Panel) -> list[Measurement]:
    """All pairs of the panel's rows in logits and log-odds; the other scores repeat the log-odds' maps or nearly so."""
    if not panel.rows:
        return []
    chosen = [number for number, (_, score) in enumerate(panel.rows) if score in COMPARED_SCORES]
    pairs = panel.agreement(AGREEMENT)
    found = []
    for place, i in enumerate(chosen):
        for j in chosen[place + 1 :]:
            (method, score), other = panel.rows[i], "/".join(panel.rows[j])
            for image, item in enumerate(panel.items):
                found.append(Measurement(AGREEMENT, pairs.value(i, j, image), item, method, score, other))
    return found


def _peaks(panel: Panel) -> list[Measurement]:
    """The cell of a 7 x 7 grid, counted row by row from the upper left, where each heatmap is hottest.

    For a map that does not exist there is the reason why, so that a row which was asked for is never lost.
    """
    lacking = [(key, maps) for key, maps in panel.made.items() if isinstance(maps, Undefined)]
    found = [Measurement(PEAK, why, item, *key) for key, why in lacking for item in panel.items]
    if not panel.rows:
        return found
    for (method, score), heat in zip(panel.rows, panel.heatmaps(GRID).flatten(2), strict=True):
        for item, cells in zip(panel.items, heat, strict=True):
            value = float(cells.argmax()) if float(cells.max()) > 0 else EMPTY
            found.append(Measurement(PEAK, value, item, method, score))
    return found


def _for_store(panel: Panel) -> StoredMaps:
    """The maps as arrays; those with more than 56 cells a side are read as heatmaps first and then averaged down."""
    stored: StoredMaps = {}
    for key, maps in panel.made.items():
        if isinstance(maps, Undefined):
            stored[key] = maps
            continue
        if max(maps.shape[1:]) > WIDEST:
            heat = maps.abs() if panel.methods[key[0]].reading == "magnitude" else maps.clamp_min(0)
            stored[key] = torch.nn.functional.adaptive_avg_pool2d(heat, WIDEST).float().cpu().numpy()
        else:
            stored[key] = maps.float().cpu().numpy()
    return stored
