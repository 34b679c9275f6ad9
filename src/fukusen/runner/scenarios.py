"""Attacks played on copies of a model: each twin is audited as the model is, and the heatmaps of both are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL import Image
from torch import Tensor

from fukusen.attacks import Attack, export_twin, goal_of, verified
from fukusen.auditing import Plan, Reference
from fukusen.auditing.bounds import REDRAWN
from fukusen.auditing.redrawing import aimed, moved
from fukusen.errors import CallError, DataError, ModelError
from fukusen.methods import methods
from fukusen.models import Classifier, open_picture
from fukusen.records import Item, digest_of
from fukusen.registry import spec_of
from fukusen.runner.local import run
from fukusen.runner.verdict import Ended, verdict_of
from fukusen.store import Store
from fukusen.store.files import read_json, write_json
from fukusen.twins import AlteredImages, Progress, Promise, Twin

Verdict = dict[str, Any]
Written = Callable[[Store, Mapping[str, Any]], object]
OWN = "model"
TWINS = "twins"
_ENTRY = "scenario.json"


@dataclass(frozen=True, eq=False)
class Stage:
    """What all scenarios have in common.

    Args:
        plan: of the audits.
        model: the model as it is.
        items: the images that can be used.
        failures: why others cannot, by name.
        folder: where everything goes.
        write: writes an audit's report into its store.
        progress: called with (done, total, phase).
        export: whether each manipulated copy is written, too, as a file that names its manipulation.
        reference: an earlier audit of a trusted model, beside which all audits are judged; or None.
    """

    plan: Plan
    model: Classifier
    items: Sequence[Item]
    failures: Mapping[str, str]
    folder: Path
    write: Written
    progress: Progress
    export: bool = False
    reference: Reference | None = None

    def audited(self, model: Classifier, place: str) -> tuple[Store, Verdict]:
        """The model's audit in a folder of its own, gone on with where it is there."""
        store = Store.create(self.folder / place, {"spec": model.spec, "digest": model.digest})
        ran = run(self.plan, model, self.items, store, self.progress)
        verdict = verdict_of(self.plan, model, self.items, Ended(store, ran, self.reference))
        verdict["command"] = None
        self.write(store, verdict)
        store.publish(verdict)
        return store, verdict


@dataclass(frozen=True, eq=False)
class _Altered:
    """A preprocessing that hands out altered images for the pictures that they were made from.

    Args:
        preprocess: the model's own, for all other pictures.
        images: by the digest of the picture.
    """

    preprocess: Callable[[Image.Image], Tensor]
    images: Mapping[str, Tensor]

    def __call__(self, picture: Image.Image) -> Tensor:
        found = self.images.get(_digest(picture))
        return self.preprocess(picture) if found is None else found


def _digest(picture: Image.Image) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def place_of(attack: Attack) -> str:
    """The folder of an attack's twin: its name, and a short digest where its parameters are not the usual ones."""
    spec = spec_of(attack)
    usual = spec == spec_of(type(attack)())
    return f"{TWINS}/{attack.name}" if usual else f"{TWINS}/{attack.name}-{digest_of(str(spec), 6)}"


def play(stage: Stage, attacks: Sequence[Attack], images: Tensor) -> Verdict:
    """Play attacks on copies of a model, one after another.

    A scenario that is done is not played again; one that cannot be played on this model says why.

    Args:
        stage: the model, its images and the folder.
        attacks: what to play.
        images: the stage's images, preprocessed, (b, c, h, w).

    Returns:
        The content of attack.json, without the environment.
    """
    store, verdict = stage.audited(stage.model, OWN)
    entries = [_scenario(stage, attack, images, (store, verdict)) for attack in attacks]
    return {
        "schema": 1,
        "model": verdict["model"],
        "images": len(stage.items),
        "failures": [{"item": name, "reason": why} for name, why in stage.failures.items()],
        "budget": stage.plan.budget,
        "bound": REDRAWN.value,
        "scores": [spec.name for spec in stage.plan.scores],
        "own": {"status": verdict["status"], "folder": OWN},
        "scenarios": entries,
        "environment": verdict["environment"],
    }


def _scenario(stage: Stage, attack: Attack, images: Tensor, own: tuple[Store, Verdict]) -> Verdict:
    place = place_of(attack)
    told = _told(attack)
    wanted = [stage.model.digest, str(spec_of(attack)), stage.plan.digest, [item.name for item in stage.items]]
    wanted += ["exported"] if stage.export else []
    wanted += [] if stage.reference is None else [stage.reference.folder, stage.reference.digest]
    key = digest_of(wanted)
    kept = stage.folder / place / _ENTRY
    known = read_json(kept)
    if isinstance(known, dict) and known.get("key") == key and (stage.folder / place / "audit.json").is_file():
        entry: Verdict = known["entry"]
        return entry
    try:
        made = verified(attack, stage.model, images, _phase(stage, f"making {attack.name}"))
    except (ModelError, CallError, DataError) as error:
        return {**told, "undefined": str(error)}
    twin = _as_model(made, stage, images)
    quiet = replace(stage, progress=_phase(stage, f"auditing {attack.name}"))
    store, verdict = quiet.audited(twin, place)
    entry = {**told, "undefined": None, **_compared(stage, attack, (own, (store, verdict)), made)}
    entry["exported"] = _exported(stage, attack, made, images)
    write_json(kept, {"key": key, "entry": entry})
    return entry


def _exported(stage: Stage, attack: Attack, made: Twin | AlteredImages, images: Tensor) -> Verdict | None:
    """Where the copy was written, or why it could not be; nothing where nobody asked."""
    if not stage.export:
        return None
    if not isinstance(made, Twin):
        return {"file": None, "undefined": "Images were altered, not the model: there is no copy to write."}
    place = place_of(attack)
    try:
        file = export_twin(made, attack, stage.model, images, stage.folder / place)
    except (ModelError, CallError) as error:
        return {"file": None, "undefined": str(error)}
    return {"file": f"{place}/{file.name}", "undefined": None}


def _phase(stage: Stage, said: str) -> Progress:
    return lambda done, total, _phase: stage.progress(done, total, said)


def _told(attack: Attack) -> Verdict:
    return {
        "attack": attack.name,
        "parameters": dict(spec_of(attack).parameters),
        "family": attack.family,
        "track": attack.track,
        "fools": list(attack.fools),
        "threat": attack.threat,
        "source": attack.source,
        "folder": place_of(attack),
    }


def _as_model(made: Twin | AlteredImages, stage: Stage, images: Tensor) -> Classifier:
    """The twin; or the model itself, given altered images for the pictures."""
    model = stage.model
    if isinstance(made, Twin) or model.preprocess is None:
        return made if isinstance(made, Twin) else model
    digests = [_digest(open_picture(item.path)) for item in stage.items]
    altered = dict(zip(digests, made.images.cpu().to(images.dtype), strict=True))
    return replace(model, preprocess=_Altered(model.preprocess, altered), spec=f"{model.spec} on altered images")


def _compared(
    stage: Stage,
    attack: Attack,
    audits: tuple[tuple[Store, Verdict], tuple[Store, Verdict]],
    made: Twin | AlteredImages,
) -> Verdict:
    (own, clean), (store, verdict) = audits
    digest = stage.plan.digest
    pairs = [(own.maps(digest, item.name), store.maps(digest, item.name)) for item in stage.items]
    verdicts = {(row["method"], row["score"]): row["verdict"] for row in verdict["panel"]}

    def goal(height: int, width: int) -> npt.NDArray[Any] | None:
        wanted = goal_of(attack, height, width)
        return None if wanted is None else wanted.double().cpu().numpy()

    rows = []
    for spec in stage.plan.methods:
        method = methods.build(spec)
        for score in stage.plan.build_scores():
            row = moved(method, score.name, pairs, goal)
            if row.images:
                rows.append({**row.as_json(), "verdict": verdicts.get((method.name, score.name))})
    known = {finding["check"] for finding in clean["findings"] if finding["scope"] == "model"}
    findings = [one for one in verdict["findings"] if one["scope"] == "model" and one["check"] not in known]
    worse = _grave(verdict["status"]) > _grave(clean["status"])
    return {
        "promise": _promise(made.promise),
        "audit": {
            "status": verdict["status"],
            "findings": [
                {"check": one["check"], "severity": one["severity"], "claim": one["claim"]} for one in findings
            ],
            "queue": verdict["queue"]["open"],
        },
        "noticed": bool(findings) or worse,
        "aim": aimed(attack, pairs),
        "rows": rows,
    }


def _grave(status: str) -> int:
    return ("pass", "attention", "fail").index(status)


def _promise(promise: Promise) -> Verdict:
    return {**asdict(promise), "kept": promise.kept}
