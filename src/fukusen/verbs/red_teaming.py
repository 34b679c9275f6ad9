"""``red_team``: which of a model's heatmaps can be redrawn, shown on copies of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fukusen.attacks import Attack, attacks
from fukusen.auditing import Budget, make_plan
from fukusen.errors import DataError, StoreError, require
from fukusen.models import Classifier
from fukusen.records import Item, Spec, digest_of
from fukusen.runner import Progress, items_of, reference_of
from fukusen.runner.scenarios import OWN, TWINS, Stage, play
from fukusen.store.files import write_json, write_text
from fukusen.verbs.gathering import Gathered, Part, eyes_of
from fukusen.verbs.given import classifier_of
from fukusen.view import write_report
from fukusen.view.redteam import attack_page

RESULT, PAGE = "attack.json", "attack.html"
UNTRAINED = ("logits", "value", "weights")


@dataclass(frozen=True)
class RedTeam:
    """Attacks that were played, and what became of the heatmaps.

    Args:
        folder: where everything lies.
        result: the content of attack.json.
    """

    folder: Path
    result: Mapping[str, Any]

    @property
    def scenarios(self) -> list[dict[str, Any]]:
        """One entry an attack: its promise, what it moved, and whether the audit of its twin noticed."""
        return list(self.result["scenarios"])


def standard_scenarios() -> list[Attack]:
    """The attacks that need neither training nor a trigger in the pictures, as they are unless said."""
    known = [attacks.build(name) for name in attacks.names()]
    return [attack for attack in known if attack.family in UNTRAINED and not hasattr(attack, "stamped")]


def red_team(
    model: Classifier | str,
    images: str | Path,
    out: str | Path,
    *,
    scenarios: Sequence[str | Spec] | None = None,
    budget: Budget = "quick",
    reference: str | Path | None = None,
    sample: int = 32,
    seed: int = 0,
    export: bool = False,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> RedTeam:
    """Play harmless attacks on copies of a model, and audit each copy as the model itself.

    Nothing of the copies is kept but their audits: no manipulated model is written unless ``export`` asks for it.

    Args:
        model: a classifier, or the name of one; left as it is.
        images: a folder, a glob, a CSV or Parquet file with a path column, or "demo".
        out: the folder for the results; scenarios that are done there are not played again.
        scenarios: names or specs of attacks; default: all that need neither training nor a trigger.
        budget: of the audits: ``quick``, ``standard`` or ``deep``.
        reference: the folder of an earlier audit of a trusted model, beside which the audits are judged.
        sample: the most images to use, at least 1; of more, a random sample that depends on the seed alone.
        seed: from which every random choice follows.
        export: also write each manipulated copy beside its audit, as ``manipulated.safetensors`` or
            ``manipulated.pt2``; the file names the manipulation in its metadata, and ``load`` repeats it as a note.
        device: where to run.
        progress: called with (done, total, phase).

    Returns:
        What was found; ``attack.html`` in the folder shows it.

    Raises:
        FukusenError: the model, the images, a scenario or the folder cannot be used; the message says what to do.
    """
    require(type(sample) is int and sample >= 1, "attack", "sample", "an int >= 1", sample)
    chosen = standard_scenarios() if scenarios is None else [attacks.build(one) for one in scenarios]
    require(isinstance(export, bool), "attack", "export", "True or False", export)
    require(len(chosen) > 0, "attack", "scenarios", "at least one attack", scenarios)
    plan = make_plan(budget, seed=seed)
    items = _sampled(items_of(images), sample, seed)
    folder = Path(out)
    _require_ours(folder)
    classifier = classifier_of(model, device)
    told = progress or (lambda _done, _total, _phase: None)
    part = _read(classifier, items)
    good = [item for item in items if item.name not in part.failures]
    trusted = None if reference is None else reference_of(Path(reference), classifier)
    stage = Stage(plan, classifier, good, part.failures, folder, write_report, told, export, trusted)
    result = play(stage, chosen, part.images[0])
    write_text(folder / PAGE, attack_page(folder, result))
    write_json(folder / RESULT, result)
    return RedTeam(folder, result)


def _read(model: Classifier, items: Sequence[Item]) -> Part:
    """The images as the model sees them, all at once, and why others cannot be used."""
    pictures = Gathered(tuple((item.name, Path(item.path)) for item in items), len(items))
    (part,) = pictures.seen_by([eyes_of(model)])
    if not part.names:
        name, why = next(iter(part.failures.items()))
        raise DataError(f"None of the {len(items)} images can be used. {name}: {why}.")
    return part


def _sampled(items: Sequence[Item], size: int, seed: int) -> list[Item]:
    chosen = sorted(items, key=lambda item: digest_of([seed, item.name]))[:size]
    return [item for item in items if item in chosen]


def _require_ours(folder: Path) -> None:
    """Nothing of anybody else's is written over."""
    foreign = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    foreign = [name for name in foreign if name not in (OWN, TWINS, RESULT, PAGE)]
    if foreign or (folder.exists() and not folder.is_dir()):
        held = f"holds {foreign[0]!r}, which is no result of an attack" if foreign else "is a file"
        raise StoreError(f"The folder {folder} {held}. Nothing was changed; choose another --out folder.")
