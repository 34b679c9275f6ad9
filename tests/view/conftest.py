"""Three audits as the engine would leave them: a clean one, a manipulated one and a sad one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from fukusen.records import Item, ItemResult, Measurement, Undefined
from fukusen.store import Store

PLAN = "9f2c51d07be3a884"
FAMILIES = {
    "grad_cam": "cam",
    "grad_cam_plus_plus": "cam",
    "x_grad_cam": "cam",
    "hires_cam": "cam",
    "layer_cam": "cam",
    "eigen_grad_cam": "cam",
    "gradient": "gradient",
    "input_x_gradient": "gradient",
    "smooth_grad": "gradient",
    "integrated_gradients": "path",
    "lrp": "relevance",
    "occlusion": "perturbation",
}
SOURCES = {"cam": "selvaraju2017", "gradient": "simonyan2014", "path": "sundararajan2017", "relevance": "bach2015"}
PLACES = [(0.62, 0.55), (0.45, 0.7), (0.55, 0.35), (0.7, 0.6), (0.4, 0.45), (0.6, 0.3)]


@dataclass(frozen=True)
class Audit:
    """A store and the verdict on it."""

    store: Store
    verdict: dict[str, Any]


def photograph(number: int, place: tuple[float, float]) -> bytes:
    """A landscape with one creature in it."""
    chance = np.random.default_rng(number)
    ground = np.linspace(chance.integers(130, 230), chance.integers(40, 120), 224)
    pixels = np.repeat(ground[:, None, None], 224, axis=1) * chance.uniform(0.7, 1.05, 3)
    pixels += chance.normal(0, 6, (224, 224, 1))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    pen.polygon([(0, 224), (0, 150), (70, 110), (150, 160), (224, 120), (224, 224)], fill=(70, 92, 60))
    y, x = (int(share * 224) for share in place)
    fur = tuple(int(level) for level in chance.integers(90, 250, 3))
    pen.ellipse((x - 42, y - 24, x + 30, y + 30), fill=fur)
    pen.ellipse((x + 14, y - 44, x + 54, y - 6), fill=fur)
    pen.polygon([(x + 18, y - 36), (x + 22, y - 62), (x + 34, y - 42)], fill=fur)
    for leg in (-30, -12, 8, 20):
        pen.rectangle((x + leg, y + 20, x + leg + 7, y + 56), fill=fur)
    pen.ellipse((x + 36, y - 32, x + 42, y - 26), fill=(10, 10, 10))
    sink = BytesIO()
    picture.filter(ImageFilter.GaussianBlur(0.8)).save(sink, "WEBP", quality=70)
    return sink.getvalue()


def blob(place: tuple[float, float], side: int, number: int) -> npt.NDArray[np.float64]:
    """A signed map whose weight lies around a place."""
    axis = (np.arange(side) + 0.5) / side
    far = ((axis[:, None] - place[0]) ** 2 + (axis[None, :] - place[1]) ** 2) / 0.03
    noise = np.random.default_rng(number).normal(0, 0.25 if side > 20 else 0.08, (side, side))
    return np.exp(-far) * (1 + 2 * noise if side > 20 else 1) + 0.12 * noise


def maps_of(places: Sequence[tuple[float, float]], shifted: tuple[float, float] | None) -> dict[Any, Any]:
    """Maps of all methods in two scores; the logit maps lie elsewhere where ``shifted`` says so."""
    found = {}
    for order, (method, family) in enumerate(FAMILIES.items()):
        side = 7 if family in ("cam", "perturbation") else 56
        for score in ("logit", "log_odds"):
            moved = shifted if score == "logit" and family != "perturbation" else None
            seeds = range(order * 100, order * 100 + len(places))
            stack = [blob(moved or place, side, seed) for place, seed in zip(places, seeds, strict=True)]
            found[method, score] = np.stack(stack)
    return found


def panel(verdicts: Mapping[str, str], images: int, reasons: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A row for each map; the verdict depends on the score."""
    return [
        {
            "method": method,
            "score": score,
            "shift_leak": 1.0 if score == "logit" else 0.0,
            "track": "outer" if family == "perturbation" else "inner",
            "verdict": verdicts[score],
            "reasons": list(reasons[score]),
            "family": family,
            "measured_on": images if family != "perturbation" else min(images, 8),
            "source": SOURCES.get(family, "zeiler2014"),
            "undefined": None,
        }
        for method, family in FAMILIES.items()
        for score in ("logit", "log_odds")
    ]


def agreement(rows: list[dict[str, Any]], images: int, manipulated: bool) -> dict[str, Any]:
    """A symmetric matrix; maps of a manipulated score disagree with the others."""
    chance = np.random.default_rng(1)
    values: list[list[float | None]] = [[1.0] * len(rows) for _ in rows]
    for i, one in enumerate(rows):
        for j in range(i):
            apart = manipulated and one["score"] != rows[j]["score"]
            values[i][j] = values[j][i] = round(min(1.0, chance.normal(-0.2 if apart else 0.75, 0.12)), 4)
    values[0][2] = values[2][0] = None
    named = [{"method": row["method"], "score": row["score"]} for row in rows]
    return {"measure": "spearman", "images": images, "rows": named, "values": values}


def check(name: str, title: str, status: str, numbers: tuple[float | None, ...], meaning: str) -> dict[str, Any]:
    """A row of the checks; numbers are median, worst and bound."""
    value, worst, bound = numbers
    reason = {
        "not_applicable": "the model has a sigmoid head, whose probabilities a shift does change",
        "not_run": "the budget 'quick' leaves it out",
    }.get(status)
    return {
        "check": name,
        "title": title,
        "status": status,
        "reason": reason,
        "value": value,
        "worst": worst,
        "bound": bound,
        "measured_on": 0 if reason else 20,
        "meaning": meaning,
    }


CHECKS = {
    "shift_share": ("Shift share", "How much of the gradient of the logit softmax cannot see."),
    "gradient_truth": ("Gradient truth", "Whether the gradients are those of the function that is computed."),
    "faithfulness": ("Faithfulness", "Whether the probability falls sooner when what the map marks is hidden first."),
    "stability": ("Stability", "Whether the map stays when the picture changes invisibly."),
}


def verdict_of(status: str, images: tuple[int, int], **parts: Any) -> dict[str, Any]:
    """A whole audit.json from the parts in which the three audits differ."""
    asked, failed = images
    rows = panel({"logit": "exposed", "log_odds": "sound"}, asked - failed, {"logit": EXPOSED, "log_odds": ()})
    verdict: dict[str, Any] = {
        "schema": 1,
        "status": status,
        "model": {
            "spec": "demo",
            "digest": "5d41402abc4b2a76",
            "classes": 1000,
            "head": "softmax",
            "layer": "_bn1",
            "layer_size": [7, 7],
            "input": [3, 224, 224],
            "head_assumed": False,
            "parameters": 4_652_008,
            "notes": [],
        },
        "images": {"asked": asked, "audited": asked - failed, "failed": failed, "failures": []},
        "panel": rows,
        "checks": [
            check(name, title, "within", (0.0062, 0.0068, 0.1), meaning) for name, (title, meaning) in CHECKS.items()
        ],
        "agreement": agreement(rows, asked - failed, False),
        "findings": [],
        "queue": {"open": 0, "items": []},
        "looked_at": {
            "drawn": 8,
            "followed": 2,
            "found": 1,
            "brief": 10,
            "low": 0.0032,
            "high": 0.5265,
            "confidence": 0.95,
        },
        "plan": {
            "budget": "standard",
            "methods": [{"name": name, "parameters": {}} for name in FAMILIES],
            "scores": ["logit", "log_odds"],
            "checks": list(CHECKS),
            "seed": 0,
            "batch": 8,
            "digest": PLAN,
        },
        "bounds": [{"name": "shift_share", "value": 0.1, "source": "measured: clean at most 0.007, redrawn 1.05"}],
        "command": "fukusen audit demo demo --out audit --seed 0",
        "environment": {
            "fukusen": "0.1.0",
            "torch": "2.10.0",
            "python": "3.11.7",
            "platform": "Linux x86_64",
            "device": "cpu",
            "threads": 2,
            "seed": 0,
            "seconds": 48.3,
            "computed": 20,
            "kept": 0,
            "forwards": 1234,
            "started": "2026-11-23T09:15:00+00:00",
        },
    }
    return {**verdict, **parts}


EXPOSED = ("A number added to all logits could redraw this map and change no prediction.",)


def queue_item(name: str, priority: float, severity: str, reasons: list[str]) -> dict[str, Any]:
    """A row of the queue."""
    said = {"predicted": "tabby cat", "probability": 0.934, "priority": priority, "severity": severity}
    return {"item": name, "path": f"/photos/{name}", **said, "reasons": reasons}


def finding(scope: str, severity: str, claim: str, **more: Any) -> dict[str, Any]:
    """A finding as it stands in audit.json."""
    known = {"check": "shift_share", "scope": scope, "item": None, "severity": severity, "value": 0.934, "bound": 0.1}
    rest = {"claim": claim, "method": None, "score": None, "priority": 0.5, "evidence": {}}
    return {**known, **rest, **more}


def filled(folder: Path, names: Sequence[str], shifted: tuple[float, float] | None) -> Store:
    """A store with thumbnails and maps of these images."""
    store = Store.create(folder, {"spec": "demo", "digest": "5d41402abc4b2a76"})
    if not names:
        return store
    places = [PLACES[number % len(PLACES)] for number in range(len(names))]
    results = [
        ItemResult(
            Item(name, f"/photos/{name}"), f"k{row}", "audited", "", 281, "tabby cat", 0.934, photograph(row, at)
        )
        for row, (name, at) in enumerate(zip(names, places, strict=True))
    ]
    store.append(PLAN, results, [Measurement("shift_share", 0.006, name) for name in names], maps_of(places, shifted))
    return store


def clean_audit(folder: Path) -> Audit:
    """Nothing found; some heatmaps are exposed, as in every model."""
    store = filled(folder, [f"images/{number:02d}.jpg" for number in range(20)], None)
    return Audit(store, verdict_of("pass", (20, 0)))


def manipulated_audit(folder: Path) -> Audit:
    """The logits share a term that softmax cannot see: logit maps lie in a corner."""
    names = [f"images/{number:02d}.jpg" for number in range(20)]
    store = filled(folder, names, (0.08, 0.08))
    claim = (
        "93 % of the logit's gradient is shared by all classes, where softmax cannot see it; heatmaps of the logit are "
        "redrawn by it."
    )
    why = "The logit and the log-odds heatmaps mark different places (rank correlation \N{MINUS SIGN}0.21)."
    reasons = {"logit": ["93 % of what it shows is a shift that softmax cannot see."], "log_odds": []}
    rows = panel({"logit": "manipulated", "log_odds": "sound"}, 20, reasons)
    verdict = verdict_of("fail", (20, 0), panel=rows, agreement=agreement(rows, 20, True))
    verdict["model"]["spec"] = "supplier/model.py:build"
    verdict["checks"][0] |= {"status": "exceeded", "value": 0.934, "worst": 1.05}
    facts = {"images": 20, "largest": 1.05, "layer": "_bn1", "read_as": None, "rows": {"logit": "said of its row"}}
    verdict["findings"] = [
        finding("model", "high", claim, priority=1.0, evidence=facts),
        *(
            finding("image", "medium", why, item=name, check="score_disagreement", method="grad_cam", score="logit")
            for name in names[:14]
        ),
    ]
    items = [queue_item(name, round(0.95 - row / 40, 3), "medium", [why]) for row, name in enumerate(names[:14])]
    verdict["queue"] = {"open": 14, "items": items}
    return Audit(store, verdict)


SCRIPT = "<script>alert('x')</script>.png"
LONG = "写真/" + "とても長い名前の画像ファイル" * 6 + ".jpg"


def sad_audit(folder: Path) -> Audit:
    """A sigmoid head, failed images, names that hurt, maps that do not exist."""
    names = [LONG, SCRIPT, "c.jpg"]
    store = filled(folder, names[:1], None)
    nothing = {("grad_cam", "logit"): np.zeros((2, 7, 7)), ("lrp", "logit"): Undefined("no <rule> for this layer")}
    bare = [ItemResult(Item(name, name), "k", "audited", "", 1, "<b>bold</b>", 0.9999) for name in names[1:]]
    store.append(PLAN, [replace(bare[0], thumbnail=b"no picture"), bare[1]], [], nothing)
    failures = [
        {"item": "broken & torn.jpg", "path": "/photos/broken & torn.jpg", "reason": "it is no picture <PNG>"},
        {"item": "1px.png", "path": "/photos/1px.png", "reason": "it is smaller than 8 pixels"},
        {"item": "nan.jpg", "path": "/photos/nan.jpg", "reason": "the model gave a logit that is not a number"},
    ]
    verdict = verdict_of("attention", (6, 3))
    verdict["model"] |= {
        "spec": SCRIPT,
        "head": "sigmoid",
        "head_assumed": True,
        "layer_size": None,
        "notes": ["A & B"],
    }
    verdict["images"]["failures"] = failures
    for row, status in ((0, "not_applicable"), (1, "not_applicable"), (3, "not_run")):
        name, (title, meaning) = list(CHECKS.items())[row]
        verdict["checks"][row] = check(name, title, status, (None, None, None), meaning)
    for row in verdict["panel"]:
        row |= {"shift_leak": None, "verdict": "unreliable" if row["method"] == "lrp" else "sound", "reasons": []}
    gone = {"verdict": None, "undefined": "the layer '<fc>' has no places", "measured_on": 0}
    verdict["panel"][0] |= gone
    claims = [f"The map of {SCRIPT} is <i>empty</i>.", "The map changes when the picture does not."]
    verdict["findings"] = [
        finding("image", "low", claim, item=name, value=2.5e-7)
        for claim, name in zip(claims, [SCRIPT, LONG], strict=True)
    ]
    verdict["agreement"] = None
    items = [queue_item(SCRIPT, 0.3, "low", claims[:1]), queue_item(LONG, 0.2, "low", claims[1:])]
    verdict["queue"] = {"open": 2, "items": items}
    return Audit(store, verdict)


@pytest.fixture(scope="session")
def samples() -> SimpleNamespace:
    """What tests need to build audits of their own."""
    return SimpleNamespace(
        script=SCRIPT,
        long=LONG,
        checks=CHECKS,
        check=check,
        filled=filled,
        queue_item=queue_item,
        verdict_of=verdict_of,
    )


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The clean audit."""
    return clean_audit(tmp_path_factory.mktemp("audits") / "clean")


@pytest.fixture(scope="session")
def manipulated(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The manipulated audit."""
    return manipulated_audit(tmp_path_factory.mktemp("audits") / "manipulated")


@pytest.fixture(scope="session")
def sad(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The sad audit."""
    return sad_audit(tmp_path_factory.mktemp("audits") / "sad")


@pytest.fixture(scope="session", params=["clean", "manipulated", "sad"])
def audit(request: pytest.FixtureRequest) -> Audit:
    """Each of the three audits in turn."""
    found: Audit = request.getfixturevalue(request.param)
    return found
