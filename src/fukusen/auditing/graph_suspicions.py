"""Constructions in the model by which heatmaps can be bent, as findings in words: one for each kind and module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fukusen.auditing.suspicions import Case, priority_of
from fukusen.checks.graph import ADDED_TO_ALL, CUSTOM_BACKWARD, FLAT_FUNCTION, HOOK, STOP_GRADIENT
from fukusen.models.tracing import ROOT
from fukusen.records import Finding

_NOUNS: Mapping[str, str] = {
    STOP_GRADIENT: "value",
    CUSTOM_BACKWARD: "backward pass",
    HOOK: "hook",
    FLAT_FUNCTION: "function",
    ADDED_TO_ALL: "number",
}
_TOLD: Mapping[str, str] = {
    STOP_GRADIENT: (
        "that depends on the image is taken in without its gradient (detach, .data, torch.no_grad), while gradients go "
        "back from the outputs elsewhere. What is added with its gradient and taken away without it changes no output "
        "and any heatmap that is made from gradients. Ask the supplier what the gradient is stopped for."
    ),
    CUSTOM_BACKWARD: (
        "on the way to the outputs is not torch's own. Its author wrote what gradients are told, which need not follow "
        "what is computed, so that heatmaps made from gradients may show anything. Ask the supplier for its code, and "
        "for the model without it."
    ),
    HOOK: (
        "replaces what is put out or meets the gradients on their way back. Hooks are no part of an architecture, and "
        "can change heatmaps and leave the outputs. Ask the supplier what it is for, and for the model without it."
    ),
    FLAT_FUNCTION: (
        "of what the image becomes is flat but for leaps: a rounding, a remainder, a sign, or a comparison or place "
        "used as a number. Its slope says nothing of its value, or another slope is made up for it, as networks of few "
        "bits have it; heatmaps made from gradients can be bent by that. Ask the supplier what it is for."
    ),
    ADDED_TO_ALL: (
        "that depends on the image is added to the outputs of all classes alike. It changes no prediction, and can "
        "draw anything into heatmaps of logits. Ask the supplier what it is for, and show none of logits till then."
    ),
}


def graph_findings(case: Case) -> Iterator[Finding]:
    """One finding for each kind of construction and each module that has some; a reason to look, and never a proof."""
    bound = case.bounds["graph_scan"].value
    for (kind, layer), numbers in case.evidence.by("graph_scan", "against", "layer").items():
        for value in numbers.values():
            if value <= bound:
                continue
            noun = _NOUNS[kind]
            count = f"one {noun}" if value == 1 else f"each of {value:.0f} {noun}{'es' if noun.endswith('s') else 's'}"
            where = "In the network's own forward" if layer == ROOT else f"In the module {layer}"
            claim = f"{where}, {count} {_TOLD[kind]}"
            facts = {"kind": kind, "layer": layer, "count": int(value)}
            priority = priority_of("medium", 1.0)
            yield Finding("graph_scan", "model", "medium", value, bound, claim, priority=priority, evidence=facts)


GRAPH_SUSPICIONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (graph_findings,)
