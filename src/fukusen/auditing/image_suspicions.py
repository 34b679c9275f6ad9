"""Measurements out of their bounds, as findings about single images in words."""

from __future__ import annotations

from collections.abc import Iterator

from fukusen.auditing.engine import PEAK
from fukusen.auditing.evidence import Numbers
from fukusen.auditing.places import place_of
from fukusen.auditing.singled_out import likenesses
from fukusen.auditing.suspicions import GRAVE, Case, priority_of
from fukusen.records import Finding, Severity


def image_findings(case: Case) -> Iterator[Finding]:
    """Everything that is out of bounds on one image."""
    yield from _shifted(case)
    yield from _disagreeing(case)
    yield from _contradicting(case)


def _peak(case: Case, item: str, method: str, score: str) -> str | None:
    cell = case.evidence.numbers(PEAK, item=item, method=method, score=score).get(item)
    return None if cell is None else place_of(cell)


def _places(case: Case, item: str, rows: list[tuple[str, str]]) -> list[str]:
    """Where those rows' heatmaps of an image are hottest, as "grad_cam on logit: upper left"."""
    found = ((method, score, _peak(case, item, method, score)) for method, score in rows)
    return [f"{method} of the {score.replace('_', '-')} at the {place}" for method, score, place in found if place]


def _shifted(case: Case) -> Iterator[Finding]:
    bound = case.bounds["shift_share"].value
    worst: Numbers = {}
    for layer in case.evidence.values("shift_share", "layer"):
        for item, value in case.evidence.numbers("shift_share", layer=layer).items():
            worst[item] = max(value, worst.get(item, 0.0))
    for item, value in worst.items():
        if value > bound:
            severity: Severity = "high" if value > GRAVE * bound else "medium"
            places = _places(case, item, [("hires_cam", "logit"), ("hires_cam", "log_odds")])
            told = (
                f"Heatmaps of the logit show a number added to every class, {value:.3g} times as strong as what tells "
                "the classes apart." + (f" Hottest: {', '.join(places)}." if places else "")
            )
            yield Finding(
                "shift_share",
                "image",
                severity,
                value,
                bound,
                told,
                item,
                None,
                "logit",
                priority_of(severity, 1 - bound / value),
            )


def _disagreeing(case: Case) -> Iterator[Finding]:
    bound = case.bounds["score_disagreement_image"].value
    for method, numbers in likenesses(case.evidence).items():
        for item, value in numbers.items():
            if value >= bound:
                continue
            places = _places(case, item, [(method, "logit"), (method, "log_odds")])
            told = f"The {method} heatmaps before and after softmax differ (likeness {value:.2f})" + (
                f": hottest are {' and '.join(places)}." if places else "."
            )
            about = (item, method, "logit", priority_of("medium", bound - value), {"measured_on": len(numbers)})
            yield Finding("score_disagreement", "image", "medium", value, bound, told, *about)


def _contradicting(case: Case) -> Iterator[Finding]:
    bound = case.bounds["track_contradiction_image"].value
    numbers = case.evidence.numbers("track_contradiction", method=None)
    for item, value in numbers.items():
        if value >= bound:
            continue
        places = _places(case, item, [("hires_cam", "log_odds"), ("occlusion", "log_odds")])
        told = (
            "The heatmaps point away from what the prediction depends on (rank correlation with hiding parts "
            f"{value:.2f})" + (f": hottest are {' and '.join(places)}." if places else ".")
        )
        about = (item, None, None, priority_of("medium", bound - value), {"measured_on": len(numbers)})
        yield Finding("track_contradiction", "image", "medium", value, bound, told, *about)
