"""An earlier audit as the reference of a later one."""

from __future__ import annotations

from pathlib import Path

from fukusen.auditing import Reference
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.steadied import steadied
from fukusen.errors import CallError
from fukusen.models import Classifier
from fukusen.records import Measurement
from fukusen.store import Store


def reference_of(folder: Path, model: Classifier) -> Reference:
    """The finished audit in a folder, to take bounds from.

    Args:
        folder: the audit's.
        model: what is audited now.

    Raises:
        StoreError: there is no finished audit in the folder.
        CallError: it is of a model with another number of classes, or its own verdict is ``fail``.
    """
    store = Store.open(folder)
    verdict = store.verdict()
    theirs, own = verdict["model"], len(model.classes)
    if theirs["classes"] != own:
        raise CallError(
            f"The reference {folder} audits a model of {theirs['classes']} classes, and this one has {own}: what is "
            "usual changes with the number of classes. Name an audit of a model like this one."
        )
    if verdict["status"] == "fail":
        raise CallError(
            f"The reference {folder} has the status fail: bounds from a manipulated model would hide manipulation. "
            "Name an audit of a model that is trusted."
        )
    plan = verdict["plan"]["digest"]
    good = {result.item.name for result in store.results(plan) if result.status == "audited"}
    measured = [one for one in store.measurements(plan) if one.item in good]
    # What is measured on the model itself is not in the store, but in the verdict.
    rows = {row["check"]: row["value"] for row in verdict["checks"] if row["value"] is not None}
    if "head_mean_row" in rows:
        measured.append(Measurement("head_mean_row", rows["head_mean_row"]))
    return Reference(str(folder), theirs["spec"], theirs["digest"], own, len(good), Evidence(steadied(measured)))
