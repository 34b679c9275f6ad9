"""From measurements to a verdict: findings, the panel's rows, the checks, the queue and one status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fukusen.auditing.behaviour_suspicions import BEHAVIOUR_SUSPICIONS, behaviour_findings
from fukusen.auditing.bounds import Bound, bounds_for
from fukusen.auditing.consensus import by_image, told
from fukusen.auditing.engine import AGREEMENT, COMPARED_SCORES
from fukusen.auditing.estranged import estranged_findings
from fukusen.auditing.evidence import Evidence, Numbers, middle
from fukusen.auditing.facts import ModelFacts
from fukusen.auditing.graph_suspicions import GRAPH_SUSPICIONS
from fukusen.auditing.image_suspicions import image_findings
from fukusen.auditing.map_suspicions import MAP_SUSPICIONS
from fukusen.auditing.opposed import opposed_findings
from fukusen.auditing.outdone import outdone_findings
from fukusen.auditing.plan import Plan
from fukusen.auditing.reference import Reference
from fukusen.auditing.rows import row_of
from fukusen.auditing.singled_out import CHECK as LIKENESS
from fukusen.auditing.singled_out import likenesses, listed
from fukusen.auditing.standing_out import estimate
from fukusen.auditing.steadied import steadied
from fukusen.auditing.suspicions import MODEL_SUSPICIONS, Case, added_findings, truth_findings
from fukusen.auditing.unusual import unusual
from fukusen.checks import Check, checks
from fukusen.checks.check import inapplicable, needs_full
from fukusen.checks.faithfulness import DELETION
from fukusen.checks.truth import NEARBY
from fukusen.methods import methods, resolution_of
from fukusen.models import INPUT, Classifier
from fukusen.records import SEVERITIES, Finding, ItemResult, Measurement, Undefined

LOOKED_AT: dict[str, dict[str, str | None]] = {
    "gradient_truth": {"against": NEARBY},
    "track_contradiction": {"method": None},
    "faithfulness": {"against": DELETION, "method": None},
}

SUSPICIONS = (*MODEL_SUSPICIONS, *GRAPH_SUSPICIONS, *MAP_SUSPICIONS, *BEHAVIOUR_SUSPICIONS, outdone_findings)
_FROM_ONE_IMAGE = (added_findings, truth_findings)


@dataclass(frozen=True)
class Judgement:
    """What an audit says.

    Args:
        status: ``pass``, ``attention`` or ``fail``.
        findings: of the model first, then of images, gravest first.
        panel: one row a method and score that has maps.
        checks: one row a check.
        queue: one row an image with an open finding, gravest first.
        agreement: how alike the rows' maps are.
        bounds: what the verdict rests on.
        looked: on how many images more than a brief look was taken, and what that says of the others.
    """

    status: str
    findings: tuple[Finding, ...]
    panel: tuple[dict[str, Any], ...]
    checks: tuple[dict[str, Any], ...]
    queue: tuple[dict[str, Any], ...]
    agreement: dict[str, Any] | None
    bounds: tuple[Bound, ...]
    looked: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Found:
    """What an audit is judged by.

    Args:
        facts: about the model.
        results: what became of each image.
        measurements: everything measured under the plan.
        reference: an earlier audit of a trusted model, or None.
        followed: the images that were looked at in full because they had stood out at a brief look.
        stakes: what a wrong decision costs by predicted class, 0 to 1; empty where all cost the same.
    """

    facts: ModelFacts
    results: Sequence[ItemResult]
    measurements: Sequence[Measurement]
    reference: Reference | None = None
    followed: frozenset[str] = frozenset()
    stakes: Mapping[str, float] = field(default_factory=dict)

    @property
    def case(self) -> Case:
        """What suspicions about single images are drawn from: everything."""
        return self._case(self.measurements)

    def by_chance(self, plan: Plan) -> Case:
        """What stands for all images: nothing that was measured on some because they had stood out."""
        if not self.followed:
            return self.case
        return self._case([one for one in self.measurements if one.item not in self.followed or plan.is_brief(one)])

    def _case(self, measurements: Sequence[Measurement]) -> Case:
        usual = bounds_for(self.facts.classes)
        bounds = usual if self.reference is None else self.reference.bounds()
        return Case(Evidence(steadied(measurements)), bounds, usual)


def standing_out(plan: Plan, found: Found) -> list[str]:
    """The images with an open finding at a brief look, gravest first.

    Only what is measured on every image counts, so that the answer is the same before and after some were followed.
    """
    brief = Found(found.facts, found.results, [one for one in found.measurements if plan.is_brief(one)])
    case = brief.case
    findings = sorted(_listed([*image_findings(case)], case, found.results), key=_gravest_first)
    return list(dict.fromkeys(one.item for one in findings if one.item))


def judge(plan: Plan, model: Classifier, found: Found) -> Judgement:
    """Hold the measurements against their bounds.

    Args:
        plan: what was asked.
        model: asked which checks apply to it, and where its maps are read.
        found: what was measured, and what it is compared with.

    Returns:
        The judgement; the same measurements always give the same one.
    """
    every, case, results = found.case, found.by_chance(plan), found.results
    findings = [one for draw in SUSPICIONS for one in draw(every if draw in _FROM_ONE_IMAGE else case)]
    findings += opposed_findings(case, {one.item.name: one.predicted_name or "" for one in results})
    findings += [] if found.reference is None else estranged_findings(case, found.reference)
    beyond = [_at_stake(one, found) for one in (*image_findings(every), *behaviour_findings(every))]
    of_images = _listed(beyond, every, results)
    if found.reference is not None and found.reference.digest == found.facts.digest:
        of_images += [_at_stake(one, found) for one in unusual(case, found.reference, of_images)]
    of_images.sort(key=_gravest_first)
    findings = sorted(findings, key=lambda one: -one.priority) + of_images
    looked = _checks(plan, model, (case, every), findings)
    queue = _queue(of_images, results, _alone(plan, model, every.evidence, of_images, results))
    return Judgement(
        status=_status(findings, looked, queue, results),
        findings=tuple(findings),
        panel=tuple(_panel(plan, model, found.facts, case, findings)),
        checks=tuple(looked),
        queue=tuple(queue),
        agreement=_agreement(case.evidence),
        bounds=tuple(case.bounds.values()),
        looked=_looked(found, beyond),
    )


def _looked(found: Found, findings: Sequence[Finding]) -> dict[str, Any]:
    """What was looked at in full, and what that says of the rest."""
    audited = [one.item.name for one in found.results if one.status == "audited"]
    full = {name for name in checks.names() if needs_full(checks.get(name))}
    compared = {one.item or "" for one in found.measurements if one.check in full}
    return estimate(compared, found.followed, audited, [one for one in findings if one.check in full])


def _listed(findings: Sequence[Finding], case: Case, results: Sequence[ItemResult]) -> list[Finding]:
    """Those that are worth a person's time."""
    audited = sum(one.status == "audited" for one in results)
    return listed(findings, audited, case.bounds["listed_share"].value)


def _gravest_first(finding: Finding) -> tuple[float, str, str, str]:
    return -finding.priority, finding.item or "", finding.check, finding.method or ""


def _at_stake(finding: Finding, found: Found) -> Finding:
    """The finding with its priority weighed by what a wrong decision for the image's class costs."""
    if not found.stakes:
        return finding
    predicted = {one.item.name: one.predicted_name for one in found.results}[finding.item or ""]
    stake = found.stakes.get(predicted or "", 1.0)
    return replace(
        finding, priority=round(finding.priority * stake, 4), evidence={**finding.evidence, "stake": round(stake, 4)}
    )


def _panel(
    plan: Plan, model: Classifier, facts: ModelFacts, case: Case, findings: Sequence[Finding]
) -> list[dict[str, Any]]:
    rows = []
    for method in (methods.build(spec) for spec in plan.methods):
        cells = resolution_of(method, model)
        told = {"resolution": None if cells is None else list(cells)}
        rows += [{**row_of(case, facts, findings, (method, score)), **told} for score in plan.build_scores()]
    return [row for row in rows if row["measured_on"] or row["undefined"]]


def _status(
    findings: Sequence[Finding],
    looked: Sequence[Mapping[str, Any]],
    queue: Sequence[Mapping[str, Any]],
    results: Sequence[ItemResult],
) -> str:
    if any(finding.scope == "model" and finding.severity == "high" for finding in findings):
        return "fail"
    failed = any(result.status == "failed" for result in results)
    stopped = any(row["status"] == "not_run" for row in looked)
    return "attention" if findings or queue or failed or stopped else "pass"


Cases = tuple[Case, Case]
"""What stands for all images, and everything."""


def _checks(plan: Plan, model: Classifier, cases: Cases, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [_check_row(checks.build(spec), model, cases, findings) for spec in plan.checks]


def _headline(check: Check, case: Case) -> Numbers:
    """The numbers that stand for a check: one an image, the worst of the layers (where there is none, the input)."""
    worse = max if check.larger_is_worse else min
    inside: Numbers = {}
    at_input: Numbers = {}
    telling = likenesses(case.evidence) if check.name == LIKENESS else None
    for one in case.evidence.of(check.name, **LOOKED_AT.get(check.name, {})):
        if not isinstance(one.value, Undefined) and (telling is None or one.method in telling):
            numbers, item = at_input if one.layer == INPUT else inside, one.item or ""
            numbers[item] = worse(one.value, numbers.get(item, one.value))
    return inside or at_input


def _check_row(check: Check, model: Classifier, cases: Cases, findings: Sequence[Finding]) -> dict[str, Any]:
    case, numbers = cases[1], _headline(check, cases[1])
    reason = check.applies(model)
    status, why = "within", None
    if reason is not None:
        status, why = "not_applicable", reason.reason
    elif not numbers:
        met = case.evidence.reasons(check.name)
        # Where a network of this kind, or an audit that was asked for so much, has no such number, nothing failed.
        status = "not_applicable" if met and set(met) <= inapplicable(check) else "not_run"
        why = "; ".join(met) or "it needs maps that this audit did not make"
    elif found := [one for one in findings if one.check == check.name]:
        named = dict.fromkeys(one.method for one in found if one.scope == "model" and one.method)
        status, why = "exceeded", f"out of its bounds: {', '.join(named)}" if named else None
    worst = (max if check.larger_is_worse else min)(numbers.values()) if numbers else None
    bound = case.bounds.get(check.name) or case.bounds.get(f"{check.name}_layer")
    return {
        "check": check.name,
        "title": check.title,
        "status": status,
        "reason": why,
        "value": middle(_headline(check, cases[0])),
        "worst": worst,
        "bound": bound.value if bound else None,
        "measured_on": len([item for item in numbers if item]) or len(numbers),
        "meaning": check.meaning,
    }


def _alone(
    plan: Plan, model: Classifier, evidence: Evidence, findings: Sequence[Finding], results: Sequence[ItemResult]
) -> dict[str, str]:
    """By image with a finding, which heatmap stands alone there, in words; only where one does."""
    open_ones = {one.item for one in findings}
    probabilities = {one.item.name: one.probability for one in results if one.item.name in open_ones}
    built = [methods.build(spec) for spec in plan.methods] if probabilities else []
    seen = by_image(evidence, probabilities, {method.name: resolution_of(method, model) for method in built})
    said = {item: told(looked) for item, looked in seen.items()}
    return {item: sentence for item, sentence in said.items() if sentence is not None}


def _queue(
    findings: Sequence[Finding], results: Sequence[ItemResult], alone: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Images with open findings, by the priority of their gravest, then by name; what stands alone is said last."""
    by_item: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_item[finding.item or ""].append(finding)
    known = {result.item.name: result for result in results}
    rows = []
    for item, own in by_item.items():
        result = known[item]
        rows.append(
            {
                "item": item,
                "path": result.item.path,
                "predicted": result.predicted_name,
                "probability": result.probability,
                "priority": max(one.priority for one in own),
                "severity": max((one.severity for one in own), key=SEVERITIES.index),
                "reasons": [*(one.claim for one in own), *([alone[item]] if item in alone else [])],
            }
        )
    return sorted(rows, key=lambda row: (-row["priority"], row["item"]))


def _agreement(evidence: Evidence) -> dict[str, Any] | None:
    """The median rank correlation of every two rows over the images."""
    pairs: dict[tuple[str, str], Numbers] = defaultdict(dict)
    rows: dict[str, None] = {}
    for one in evidence.of(AGREEMENT):
        names = f"{one.method}/{one.score}", one.against or ""
        rows.update(dict.fromkeys(names))
        if not isinstance(one.value, Undefined):
            pairs[names][one.item or ""] = one.value
    if not rows:
        return None
    order = sorted(rows, key=lambda row: COMPARED_SCORES.index(row.rpartition("/")[2]))
    values = [[1.0 if a == b else middle(pairs.get((a, b)) or pairs.get((b, a)) or {}) for b in order] for a in order]
    # A layer's name in a method's may hold a stroke, a score's name does not.
    named = [{"method": method, "score": score} for method, _, score in (row.rpartition("/") for row in order)]
    images = max((len(numbers) for numbers in pairs.values()), default=0)
    return {"measure": AGREEMENT, "images": images, "rows": named, "values": values}
