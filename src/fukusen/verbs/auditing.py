"""``audit``: the main job."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fukusen.auditing import Budget, make_plan
from fukusen.auditing.plan import Plan, panel_methods
from fukusen.errors import CallError
from fukusen.methods import layers_of
from fukusen.methods.relevance import needs_zennit
from fukusen.models import Classifier
from fukusen.records import Item
from fukusen.runner import Ended, Progress, items_of, reference_of, run, stakes_of, verdict_of
from fukusen.runner.example import redrawn_example
from fukusen.store import Store
from fukusen.verbs.given import Names, classifier_of
from fukusen.view import write_report


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Args:
        folder: where it lies.
        verdict: the content of audit.json.
    """

    folder: Path
    verdict: Mapping[str, Any]

    @property
    def status(self) -> str:
        """``pass``, ``attention`` or ``fail``."""
        return str(self.verdict["status"])

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What was found, as in audit.json: of the model first, then of images, gravest first."""
        return list(self.verdict["findings"])

    @property
    def queue(self) -> list[dict[str, Any]]:
        """Images with open findings, gravest first."""
        return list(self.verdict["queue"]["items"])


def audit(
    model: Classifier | str,
    images: str | Path,
    out: str | Path,
    *,
    budget: Budget = "standard",
    methods: Names | None = None,
    scores: Names | None = None,
    layers: Sequence[str] = (),
    reference: str | Path | None = None,
    stakes: Mapping[str, float | int] | str | Path | None = None,
    seed: int = 0,
    batch: int = 16,
    device: str | torch.device | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Audit a model's heatmaps on a folder of pictures, into a verdict, a queue and a report.

    Args:
        model: a classifier, or the name of one.
        images: a folder, a glob, a CSV or Parquet file with a path column, or "demo".
        out: the folder for the results; an audit of the same model in it is gone on with.
        budget: ``quick``, ``standard`` or ``deep``.
        methods: names or specs; default: those of the standard panel that the budget has.
        scores: names or specs; default: those of the standard panel.
        layers: further layers of the network at which every method that reads a layer is read, too, as NAME@LAYER.
        reference: the folder of an earlier audit of a trusted model like this one, whose numbers set the bounds; or of
            this model on a clean sample, beside which unusual images are found as well.
        stakes: what a wrong decision costs by class, in any unit: costs by class name, or a CSV file with the columns
            ``class`` and ``cost``. Images of costly classes come first in the queue; default: all cost the same.
        seed: from which every random choice follows.
        batch: how many images are taken at once.
        device: where to run.
        command: what repeats this audit, for the report; default: the command line that would.
        progress: called with (done, total, phase).

    Returns:
        The audit; ``audit.status`` sums it up.

    Raises:
        FukusenError: the model, the images or the folder cannot be used; the message says what to do.
    """
    chosen = panel_methods(budget, methods, layers)
    for method in chosen if methods is not None else ():
        needs_zennit(method)
    plan = make_plan(budget, methods_asked=chosen, scores_asked=scores, seed=seed, batch=batch)
    items = items_of(images)
    classifier = classifier_of(model, device)
    if classifier.preprocess is None:
        raise CallError("This model was wrapped without preprocessing, so picture files cannot be given to it.")
    trusted = None if reference is None else reference_of(Path(reference), classifier)
    costs = {} if stakes is None else stakes_of(stakes, classifier.classes)
    layers_of(chosen, classifier)  # a layer that is not there ends it before anything is written
    store = Store.create(Path(out), {"spec": classifier.spec, "digest": classifier.digest})
    ran = run(plan, classifier, items, store, progress)
    verdict = verdict_of(plan, classifier, items, Ended(store, ran, trusted, costs))
    more = [] if reference is None else ["--reference", str(reference)]
    more += ["--stakes", str(stakes)] if isinstance(stakes, str | Path) else []
    more += [] if device is None else ["--device", str(device)]
    verdict["command"] = command or _command(plan, classifier, str(images), str(out), more)
    return _published(store, verdict, classifier, items)


def _published(store: Store, verdict: dict[str, Any], model: Classifier, items: Sequence[Item]) -> Audit:
    """The report, and then the verdict, whose presence says that all is there."""
    failed = {failure["item"] for failure in verdict["images"]["failures"]}
    verdict["redrawing"] = redrawn_example(model, [item for item in items if item.name not in failed])
    write_report(store, verdict)
    store.publish(verdict)
    return Audit(store.folder, verdict)


def _command(plan: Plan, model: Classifier, images: str, out: str, more: Sequence[str]) -> str:
    """The command line that would do what a call of ``audit`` did, as far as a command line can say it."""
    words = ["fukusen", "audit", model.spec, images, "--out", out, "--budget", plan.budget]
    for option, specs, usual in (
        ("--method", plan.methods, make_plan(plan.budget).methods),
        ("--score", plan.scores, make_plan(plan.budget).scores),
    ):
        words += [word for spec in specs if specs != usual for word in (option, str(spec))]
    words += ["--seed", str(plan.seed), "--batch", str(plan.batch)]
    return shlex.join([*words, *more])
