"""Measurements out of their bounds, as findings about the model in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from fukusen.auditing.bounds import Bound
from fukusen.auditing.evidence import Evidence, middle
from fukusen.auditing.significance import by_chance
from fukusen.auditing.singled_out import likenesses
from fukusen.checks.truth import PATH
from fukusen.models import INPUT
from fukusen.records import Finding, Severity

WEIGHTS: Mapping[Severity, float] = {"low": 0.1, "medium": 0.4, "high": 0.7}
GRAVE = 3.0
_UNTIL_REPAIRED = "Do not show heatmaps of logits of this model; fukusen repair takes it away."


@dataclass(frozen=True)
class Case:
    """What suspicions are drawn from.

    Args:
        evidence: the measurements.
        bounds: by name.
        usual: the bounds that hold for every model, where a reference has set closer ones.
    """

    evidence: Evidence
    bounds: Mapping[str, Bound]
    usual: Mapping[str, Bound] | None = None

    def severity(self, check: str, value: float, worst: float) -> Severity:
        """Of a number that is too large: high beyond what any honest model has, or far beyond what the reference has.

        Args:
            check: whose bound it is.
            value: the typical number.
            worst: the largest.
        """
        bound = self.bounds[check].value
        limit = bound if self.usual is None else max(bound, self.usual[check].value)
        return "high" if value > limit or worst > GRAVE * bound else "medium"


def priority_of(severity: Severity, excess: float) -> float:
    """How early a person should look, 0 to 1: the severity first, then how far out of its bound."""
    return round(WEIGHTS[severity] + 0.3 * min(1.0, max(0.0, excess)), 4)


def _where(layer: str) -> str:
    return "At the pixels" if layer == INPUT else f"At the layer {layer}"


def shift_findings(case: Case) -> Iterator[Finding]:
    """A part of the gradient that all classes share, larger than what tells them apart."""
    bound = case.bounds["shift_share"].value
    for layer in case.evidence.values("shift_share", "layer"):
        numbers = case.evidence.numbers("shift_share", layer=layer)
        beyond = {item: value for item, value in numbers.items() if value > bound}
        typical = middle(numbers)
        if not beyond or typical is None:
            continue
        worst = max(beyond.values())
        everywhere = typical > bound
        told = (
            f"{_where(layer)}, a number that is added to every logit weighs "
            f"{typical if everywhere else worst:.3g} times as much in the gradients that pre-softmax heatmaps are made "
            f"of as what tells the classes apart (bound {bound:.2g}; out of it on {len(beyond)} of {len(numbers)} "
            "images). "
            "Such a number changes no prediction and can draw anything; a head that measures distances has one, too. "
            f"{_UNTIL_REPAIRED}"
        )
        severity = case.severity("shift_share", typical, worst)
        facts = {"layer": layer, "images": len(beyond), "measured_on": len(numbers), "median": typical, "worst": worst}
        value = typical if everywhere else worst
        yield Finding("shift_share", "model", severity, value, bound, told, score="logit", priority=1.0, evidence=facts)


def drawn_findings(case: Case) -> Iterator[Finding]:
    """What all logits share, strong enough on the typical image to be seen in a logit's heatmap."""
    bound = case.bounds["shift_in_map"].value
    for layer in case.evidence.values("shift_in_map", "layer"):
        numbers = case.evidence.numbers("shift_in_map", layer=layer)
        typical = middle(numbers)
        if typical is None or typical <= bound:
            continue
        beyond = sum(value > bound for value in numbers.values())
        told = (
            f"{_where(layer)}, what the mean of all logits draws into a logit's heatmap is {typical:.3g} times as "
            f"strong on the typical image as what tells the classes apart (bound {bound:.2g}; out of it on {beyond} of "
            f"{len(numbers)} images). No prediction depends on it. {_UNTIL_REPAIRED}"
        )
        facts = {"layer": layer, "images": beyond, "measured_on": len(numbers)}
        about = (None, None, "logit", 0.9, facts)
        yield Finding("shift_in_map", "model", "medium", typical, bound, told, *about)


def added_findings(case: Case) -> Iterator[Finding]:
    """What acts on the logits beside the last layer, however faint."""
    bound = case.bounds["added_shift"].value
    for layer in case.evidence.values("added_shift", "layer"):
        numbers = case.evidence.numbers("added_shift", layer=layer)
        beyond = {item: value for item, value in numbers.items() if value > bound}
        if not beyond:
            continue
        worst = max(beyond.values())
        told = (
            f"{_where(layer)}, the mean of all logits has a gradient that no weight of the last layer makes, "
            f"{worst:.3g} times as large as what tells the classes apart (bound {bound:.2g}; out of it on "
            f"{len(beyond)} of {len(numbers)} images looked at). Something beside the last layer acts on the logits: "
            "it changes no prediction, and heatmaps of logits show it."
        )
        facts = {"layer": layer, "images": len(beyond), "measured_on": len(numbers)}
        yield Finding("added_shift", "model", "high", worst, bound, told, score="logit", priority=1.0, evidence=facts)


def head_findings(case: Case) -> Iterator[Finding]:
    """A shift that hides in the last layer's weights."""
    bound = case.bounds["head_mean_row"].value
    for measurement in case.evidence.of("head_mean_row"):
        if isinstance(measurement.value, float) and measurement.value > bound:
            told = (
                f"All rows of the last linear layer {measurement.layer} share {measurement.value:.2g} of their size "
                f"(bound {bound:.2g}). Training does not do that; what they share changes no prediction, but it is in "
                "every heatmap of a logit."
            )
            facts = {"layer": measurement.layer}
            value = measurement.value
            severity = case.severity("head_mean_row", value, value)
            yield Finding("head_mean_row", "model", severity, value, bound, told, None, None, "logit", 1.0, facts)


def truth_findings(case: Case) -> Iterator[Finding]:
    """Gradients that are not the slopes of what the model computes."""
    for layer in case.evidence.values("gradient_truth", "layer"):
        for how in case.evidence.values("gradient_truth", "against"):
            kind = "input" if layer == INPUT else "path" if how == PATH else "layer"
            bound = case.bounds[f"gradient_truth_{kind}"].value
            numbers = case.evidence.numbers("gradient_truth", layer=layer, against=how)
            beyond = {item: value for item, value in numbers.items() if value > bound}
            if not beyond:
                continue
            worst = max(beyond.values())
            told = (
                f"{_where(layer)}, the gradients of the log-odds are off by up to {100 * worst:.3g}% from "
                f"what the model's output really does (bound {100 * bound:.2g}%; on {len(beyond)} of {len(numbers)} "
                "images looked at). Some part of the model has a slope but no value, or a value but no slope: a "
                "heatmap made from its gradients, before or after softmax, may show what no prediction depends on."
            )
            facts = {"layer": layer, "against": how, "images": len(beyond), "measured_on": len(numbers)}
            yield Finding("gradient_truth", "model", "high", worst, bound, told, priority=1.0, evidence=facts)


def cancelling_findings(case: Case) -> Iterator[Finding]:
    """Copied channels whose weights sum to nothing."""
    bound, share = (case.bounds[f"cancelling_channels{kind}"].value for kind in ("", "_images"))
    for layer in case.evidence.values("cancelling_channels", "layer"):
        numbers = case.evidence.numbers("cancelling_channels", layer=layer)
        beyond = [value for value in numbers.values() if value > bound]
        if len(beyond) < max(2.0, share * len(numbers)):
            continue
        typical = median(beyond)
        told = (
            f"{_where(layer)}, channels of the same pattern undo each other: what they add and take off again is "
            f"{typical:.3g} times as much as all that is left (bound {bound:.2g}; out of it on {len(beyond)} of "
            f"{len(numbers)} images). No output depends on it. Heatmaps that keep positive gradients alone, as those "
            "of layer_cam and guided_backprop, show what one of them adds, before and after softmax."
        )
        facts = {"layer": layer, "images": len(beyond), "measured_on": len(numbers)}
        yield Finding("cancelling_channels", "model", "high", typical, bound, told, priority=1.0, evidence=facts)


def disagreement_findings(case: Case) -> Iterator[Finding]:
    """Methods whose maps before and after softmax tell different stories on the typical image."""
    bound = case.bounds["score_disagreement"].value
    for method, numbers in likenesses(case.evidence).items():
        typical = middle(numbers)
        if typical is not None and typical < bound:
            told = (
                f"The {method} heatmaps of the logit and of the log-odds tell different stories on the typical image "
                f"(likeness {typical:.2f}, bound {bound:.2f}, {len(numbers)} images). At most one of them describes "
                "the decision."
            )
            facts = {"measured_on": len(numbers)}
            yield Finding(
                "score_disagreement", "model", "medium", typical, bound, told, None, method, "logit", 0.8, facts
            )


def track_findings(case: Case) -> Iterator[Finding]:
    """Inner maps that, taken together, do not point at what predictions depend on."""
    bound, level = (case.bounds[f"track_contradiction{kind}"].value for kind in ("", "_chance"))
    numbers = case.evidence.numbers("track_contradiction", method=None)
    typical = middle(numbers)
    if typical is not None and typical < bound and by_chance([*numbers.values()], bound) <= level:
        told = (
            f"On the typical image, the heatmaps from the network's insides have nothing to do with the parts that its "
            f"prediction depends on (rank correlation {typical:.2f} with occlusion, bound {bound:.2f}, "
            f"{len(numbers)} images)."
        )
        facts = {"measured_on": len(numbers)}
        yield Finding("track_contradiction", "model", "medium", typical, bound, told, priority=0.9, evidence=facts)


MODEL_SUSPICIONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    shift_findings,
    drawn_findings,
    added_findings,
    head_findings,
    truth_findings,
    cancelling_findings,
    disagreement_findings,
    track_findings,
)
