"""The verdict on each row of the panel, and so whether such a heatmap may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fukusen.auditing.engine import EMPTY, LEAK, PEAK
from fukusen.auditing.evidence import middle
from fukusen.auditing.facts import ModelFacts
from fukusen.auditing.significance import by_chance
from fukusen.auditing.suspicions import Case
from fukusen.methods import Method, is_class_agnostic, is_homogeneous, keeps_positive, leak_share
from fukusen.models import INPUT
from fukusen.records import Finding, Undefined
from fukusen.scores import Score

NO_LEAK = 1e-9
SHIFT_CHECKS = ("shift_share", "added_shift", "head_mean_row")
Reasons = list[str]


def row_of(case: Case, facts: ModelFacts, findings: Sequence[Finding], pair: tuple[Method, Score]) -> dict[str, Any]:
    """One row of the panel as it stands in audit.json.

    ``manipulated`` outweighs ``unreliable``, that ``exposed``, and that ``sound``; reasons are given for all that hold.
    The row's shift leak is the score's, as far as it enters the method's maps. A row without a single map says why.
    """
    method, score = pair
    leaks = case.evidence.numbers(LEAK, score=score.name)
    leak = (middle(leaks) or 0.0) * leak_share(method)
    drawn, why = _drawn(case, pair)
    row = {
        "method": method.name,
        "score": score.name,
        "shift_leak": round(leak, 12),
        "track": method.track,
        "family": method.family,
        "source": method.source,
        "measured_on": drawn,
        "undefined": None if drawn else why,
    }
    if not drawn:
        return {**row, "verdict": None, "reasons": []}
    manipulated = _manipulated(method, leak, facts, findings)
    unreliable = _unreliable(case, pair, leak, findings)
    exposed = _exposed(leak, facts)
    verdict = "manipulated" if manipulated else "unreliable" if unreliable else "exposed" if exposed else "sound"
    return {**row, "verdict": verdict, "reasons": [*manipulated, *unreliable, *exposed] or _sound(leak, facts)}


def _drawn(case: Case, pair: tuple[Method, Score]) -> tuple[int, str | None]:
    """On how many images there is such a map, empty ones included, and why there is none on the others."""
    method, score = pair
    found = case.evidence.of(PEAK, method=method.name, score=score.name)
    lacking = [one.value.reason for one in found if isinstance(one.value, Undefined) and one.value != EMPTY]
    return len(found) - len(lacking), "; ".join(dict.fromkeys(lacking)) or None


def _manipulated(method: Method, leak: float, facts: ModelFacts, findings: Sequence[Finding]) -> Reasons:
    reasons: Reasons = []
    model = [finding for finding in findings if finding.scope == "model" and finding.severity == "high"]
    if facts.shift_is_free and abs(leak) > NO_LEAK and any(one.check in SHIFT_CHECKS for one in model):
        reasons.append("this score takes in a number that was added to every logit, and such a number was found")
    untrue = [one for one in model if one.check == "gradient_truth"]
    if method.track == "inner" and untrue and not is_class_agnostic(method):
        at_layer = any(one.evidence.get("layer") != INPUT for one in untrue)
        if at_layer or method.family != "cam":
            reasons.append("it is made from gradients that are not the slopes of what the model computes")
    if keeps_positive(method) and any(one.check == "cancelling_channels" for one in model):
        reasons.append("it shows one of each pair of channels that undo each other, and such channels were found")
    return reasons


def _unreliable(case: Case, pair: tuple[Method, Score], leak: float, findings: Sequence[Finding]) -> Reasons:
    method, score = pair
    reasons: Reasons = []
    # What another method's maps on a trusted model are like says little of one that every faint difference redraws.
    bounds = case.bounds if case.usual is None or is_homogeneous(method) else case.usual
    likeness = middle(case.evidence.numbers("score_disagreement", method=method.name))
    if abs(leak) > NO_LEAK and likeness is not None and likeness < bounds["score_disagreement"].value:
        reasons.append("its maps differ from those of the log-odds, which a shift of the logits cannot move")
    if abs(leak) > NO_LEAK and any(one.check == "shift_in_map" for one in findings):
        reasons.append("it shows what all classes share, which no prediction depends on")
    drawn, _ = _drawn(case, pair)
    empty = sum(one.value == EMPTY for one in case.evidence.of(PEAK, method=method.name, score=score.name))
    if 2 * empty > drawn:
        reasons.append(f"its heatmap is empty on {empty} of {drawn} images")
    bound, level = (case.bounds[f"track_contradiction_{kind}"].value for kind in ("row", "chance"))
    values = case.evidence.numbers("track_contradiction", method=method.name, score=score.name)
    typical = middle(values)
    if typical is not None and typical < bound and by_chance([*values.values()], bound) <= level:
        reasons.append(f"it points away from what predictions depend on (median rank correlation {typical:.2f})")
    return reasons + _told(findings, method.name, score.name)


def _told(findings: Sequence[Finding], method: str, score: str) -> Reasons:
    """What findings about the model say of this row, be it of every score of their method, of one, or of many rows."""
    of_model = [one for one in findings if one.scope == "model"]
    many = [one.evidence.get("rows_of", {}).get(method, {}) for one in of_model]
    own = [one for one in of_model if one.method == method]
    scores = [*many, *(one.evidence.get("rows", {}) for one in own)]
    reasons = [str(one[score]) for one in scores if score in one]
    return reasons + [str(one.evidence["row"]) for one in own if one.score == score and "row" in one.evidence]


def _exposed(leak: float, facts: ModelFacts) -> Reasons:
    if not facts.shift_is_free or abs(leak) <= NO_LEAK:
        return []
    return [f"a number added to every logit would enter this map (shift leak {leak:.2g}) and change no prediction"]


def _sound(leak: float, facts: ModelFacts) -> Reasons:
    if abs(leak) > NO_LEAK and not facts.shift_is_free:
        return ["nothing speaks against it; a shift of this model's outputs would change its predictions"]
    return ["nothing speaks against it; no number added to every logit can move it"]
