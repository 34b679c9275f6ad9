"""The verdict as it stands in audit.json: the judgement, and what it was reached with."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from fukusen.auditing import Found, Judgement, Plan, Reference, examine_model, facts_of, judge
from fukusen.errors import DataError
from fukusen.models import Classifier
from fukusen.models.counting import forwards_counted
from fukusen.records import Item, ItemResult
from fukusen.runner.local import Ran
from fukusen.store import Store

SCHEMA = 1


def _version() -> str:
    try:
        return version("fukusen")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, eq=False)
class Ended:
    """A run that is over, and what its verdict rests on.

    Args:
        store: with everything measured.
        ran: how the run went.
        reference: an earlier audit of a trusted model, or None.
        stakes: what a wrong decision costs by class, 0 to 1; empty where all cost the same.
    """

    store: Store
    ran: Ran
    reference: Reference | None = None
    stakes: Mapping[str, float] = field(default_factory=dict)


def verdict_of(plan: Plan, model: Classifier, items: Sequence[Item], ended: Ended) -> dict[str, Any]:
    """Judge what the store holds about these images.

    Args:
        plan: what was asked.
        model: the model.
        items: the images asked for; whatever else the store holds is left out.
        ended: the run.

    Returns:
        The content of audit.json, without the command that repeats it.

    Raises:
        DataError: not one image could be audited.
    """
    store, reference = ended.store, ended.reference
    asked = {item.name for item in items}
    results = [result for result in store.results(plan.digest) if result.item.name in asked]
    good = [result for result in results if result.status == "audited"]
    failed = [result for result in results if result.status == "failed"]
    if not good:
        first = failed[0]
        told = f"The first, {first.item.name}: {first.reason}."
        raise DataError(f"Not one of {len(items)} images could be audited. {told}")
    names = {result.item.name for result in good}
    measured = [one for one in store.measurements(plan.digest) if one.item in names]
    facts = facts_of(model)
    with forwards_counted() as forwards:
        measured += examine_model(model, plan)
    judgement = judge(plan, model, Found(facts, results, measured, reference, ended.ran.followed, ended.stakes))
    return {
        "schema": SCHEMA,
        "status": judgement.status,
        "model": facts.as_json(),
        "images": _images(items, good, failed),
        **_said(judgement),
        "reference": None if reference is None else reference.as_json(),
        "stakes": dict(ended.stakes) or None,
        "plan": plan.as_json(),
        "environment": _environment(plan, model, replace(ended.ran, forwards=ended.ran.forwards + forwards.images)),
    }


def _images(items: Sequence[Item], good: Sequence[ItemResult], failed: Sequence[ItemResult]) -> dict[str, Any]:
    told = [{"item": one.item.name, "path": one.item.path, "reason": one.reason} for one in failed]
    return {"asked": len(items), "audited": len(good), "failed": len(failed), "failures": told}


def _said(judgement: Judgement) -> dict[str, Any]:
    return {
        "panel": list(judgement.panel),
        "checks": list(judgement.checks),
        "agreement": judgement.agreement,
        "findings": [finding.as_json() for finding in judgement.findings],
        "queue": {"open": len(judgement.queue), "items": list(judgement.queue)},
        "bounds": [bound.as_json() for bound in judgement.bounds],
        "looked_at": judgement.looked,
    }


def _environment(plan: Plan, model: Classifier, ran: Ran) -> dict[str, Any]:
    return {
        "fukusen": _version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "seed": plan.seed,
        "seconds": round(ran.seconds, 1),
        "computed": ran.computed,
        "kept": ran.kept,
        "forwards": ran.forwards,
        "passes": ran.passes,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
