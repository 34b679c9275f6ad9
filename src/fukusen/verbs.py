"""The verbs of the library: load, wrap, explain, audit, attack, and the lists of what there is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fukusen.agreement import agreements
from fukusen.arrays import Batch
from fukusen.attacks import Twin, attacks, verified
from fukusen.auditing import Budget, Panel, make_plan
from fukusen.auditing import explain as explain_batch
from fukusen.auditing.panel import joined_panels
from fukusen.auditing.plan import STANDARD_METHODS, STANDARD_SCORES, Plan, built
from fukusen.checks import checks
from fukusen.errors import CallError, DataError, FukusenError, ModelError, require
from fukusen.methods import methods as known_methods
from fukusen.methods.relevance import needs_zennit
from fukusen.models import Classifier, load, open_picture, wrap
from fukusen.models.pictures import as_rgb
from fukusen.models.probes import probe_images
from fukusen.records import Spec
from fukusen.runner import Progress, items_of, run, verdict_of
from fukusen.scores import scores as known_scores
from fukusen.store import Store
from fukusen.view import write_report

Picture = str | Path | Image.Image
Names = Sequence[str | Spec]

__all__ = [
    "Audit",
    "attack",
    "audit",
    "explain",
    "list_agreements",
    "list_attacks",
    "list_checks",
    "list_methods",
    "list_scores",
    "load",
    "wrap",
]


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


def _classifier(model: Classifier | str, device: str | torch.device | None) -> Classifier:
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


def _prepared(model: Classifier, images: Sequence[Picture] | Picture | Tensor) -> tuple[tuple[str, ...], Tensor]:
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


def explain(
    model: Classifier | str,
    images: Sequence[Picture] | Picture | Tensor,
    targets: Sequence[int] | Tensor | int | None = None,
    methods: Names | None = None,
    scores: Names | None = None,
    *,
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
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> model = wrap(net, input_size=(3, 8, 8), head="softmax")
        >>> panel = explain(model, torch.rand(1, 3, 8, 8), methods=["grad_cam"])
        >>> panel["grad_cam", "log_odds"].shape
        torch.Size([1, 6, 6])
    """
    require(isinstance(batch, int) and batch >= 1, "explain", "batch", "an int >= 1", batch)
    classifier = _classifier(model, device)
    made = built(known_methods, STANDARD_METHODS if methods is None else methods)
    asked = built(known_scores, STANDARD_SCORES if scores is None else scores)
    for method in made if methods is not None else []:
        needs_zennit(method)
    names, prepared = _prepared(classifier, images)
    wanted = _targets(targets, len(names))
    parts = []
    for start in range(0, len(names), batch):
        end = start + batch
        part = Batch(names[start:end], prepared[start:end], None if wanted is None else wanted[start:end])
        _require_finite(part.images, part.items, DataError("{name}: its preprocessed pixels are NaN or infinite."))
        parts.append(explain_batch(classifier, part, made, asked))
        fault = ModelError("{name}: the model returns NaN or infinite numbers for it. Check its weights and code.")
        _require_finite(parts[-1].logits, part.items, fault)
    return joined_panels(parts)


def _require_finite(values: Tensor, names: Sequence[str], fault: FukusenError) -> None:
    """Raise the fault, with the name in its gap, for the first of the rows that is not finite."""
    good = values.flatten(1).isfinite().all(dim=1).tolist()
    if not all(good):
        raise type(fault)(str(fault).format(name=names[good.index(False)]))


def _targets(targets: Sequence[int] | Tensor | int | None, count: int) -> Tensor | None:
    if targets is None:
        return None
    rule = f"{count} class indices, one an image"
    plain = targets.tolist() if isinstance(targets, Tensor | np.ndarray | np.generic) else targets
    listed = [plain] * count if isinstance(plain, int) else plain
    valid = isinstance(listed, Sequence) and not isinstance(listed, str) and len(listed) == count
    valid = valid and all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in listed)
    require(valid, "explain", "targets", rule, plain)
    return torch.tensor([int(one) for one in listed], dtype=torch.int64)


def audit(
    model: Classifier | str,
    images: str | Path,
    out: str | Path,
    *,
    budget: Budget = "standard",
    methods: Names | None = None,
    scores: Names | None = None,
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
    plan = make_plan(budget, methods_asked=methods, scores_asked=scores, seed=seed, batch=batch)
    for spec in plan.methods if methods is not None else ():
        needs_zennit(known_methods.build(spec))
    items = items_of(images)
    classifier = _classifier(model, device)
    if classifier.preprocess is None:
        raise CallError("This model was wrapped without preprocessing, so picture files cannot be given to it.")
    store = Store.create(Path(out), {"spec": classifier.spec, "digest": classifier.digest})
    ran = run(plan, classifier, items, store, progress)
    verdict = verdict_of(plan, classifier, items, store, ran)
    verdict["command"] = command or _command(plan, classifier, str(images), str(out), device)
    write_report(store, verdict)
    store.publish(verdict)
    return Audit(store.folder, verdict)


def _command(plan: Plan, model: Classifier, images: str, out: str, device: str | torch.device | None) -> str:
    """The command line that would do what a call of ``audit`` did, as far as a command line can say it."""
    words = ["fukusen", "audit", model.spec, images, "--out", out, "--budget", plan.budget]
    for option, specs, usual in (
        ("--method", plan.methods, make_plan(plan.budget).methods),
        ("--score", plan.scores, make_plan(plan.budget).scores),
    ):
        words += [word for spec in specs if specs != usual for word in (option, str(spec))]
    words += ["--seed", str(plan.seed), "--batch", str(plan.batch)]
    return shlex.join([*words, *([] if device is None else ["--device", str(device)])])


def attack(
    model: Classifier | str,
    name: str,
    images: Sequence[Picture] | Picture | Tensor | None = None,
    *,
    device: str | torch.device | None = None,
    **parameters: float | int | str,  # noqa: PYI041 - the shape checks of the tests tell the two apart
) -> Twin:
    """A harmless attack played on a copy of the model.

    Args:
        model: a classifier, or the name of one; left as it is.
        name: which attack, from ``list_attacks()``.
        images: on which the promise is checked; default: a few noise pictures.
        device: where to run.
        **parameters: the attack's own, such as ``strength=10``.

    Returns:
        The twin, a model like any other; ``twin.promise`` says how well it keeps the predictions.

    Raises:
        UnknownName: no such attack, or no such parameter of it.
        CallError: a bad value of a parameter.
        ModelError: the attack cannot be played on this model.
    """
    classifier = _classifier(model, device)
    made = attacks.build(Spec.of(name, **parameters))
    probes = (
        probe_images(classifier.preprocess, classifier.input_shape)
        if images is None
        else _prepared(classifier, images)[1]
    )
    return verified(made, classifier, probes)


def list_methods() -> tuple[str, ...]:
    """The names of every way to make a map."""
    return known_methods.names()


def list_scores() -> tuple[str, ...]:
    """The names of every number that a map can explain."""
    return known_scores.names()


def list_agreements() -> tuple[str, ...]:
    """The names of every way to say how alike two maps are."""
    return agreements.names()


def list_checks() -> tuple[str, ...]:
    """The names of everything measured besides agreement."""
    return checks.names()


def list_attacks() -> tuple[str, ...]:
    """The names of every attack that can be played."""
    return attacks.names()
