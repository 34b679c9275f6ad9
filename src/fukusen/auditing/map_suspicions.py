"""What heatmaps show in themselves, as findings: the same place, the same map or no place at all on every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from fukusen.auditing.evidence import Numbers, middle
from fukusen.auditing.suspicions import Case
from fukusen.checks.dependence import RANDOM, RUNNER_UP
from fukusen.checks.heat import GRID, TOLD
from fukusen.checks.placement import BORDER, REGIONS
from fukusen.checks.randomisation import LAST
from fukusen.checks.stability import FLIP, JPEG, NOISE, SHIFT
from fukusen.methods import methods
from fukusen.records import Finding

FEWEST = 4
_STEADY = ("layer_cam", "gradient", "input_x_gradient")
"""Methods in which channels do not cancel: what is left of the others' may turn over in honest networks."""
_CHANGED = {
    NOISE: "change when faint noise is added to the picture",
    JPEG: "change when the picture is saved as a JPEG",
    SHIFT: "change when the picture moves by one pixel",
    FLIP: "do not follow the picture when it is flipped left to right",
}
_OTHER = {TOLD[0]: TOLD[1], TOLD[1]: TOLD[0]}


@dataclass(frozen=True)
class _Told:
    """A finding about one row of the panel, but for its words."""

    check: str
    method: str
    score: str
    value: float
    bound: float

    def finding(self, claim: str, row: str, facts: Mapping[str, float | int]) -> Finding:
        """With its words, those for the row's verdict, and further facts."""
        evidence = {**facts, "row": row}
        of = (None, self.method, self.score)
        return Finding(self.check, "model", "medium", self.value, self.bound, claim, *of, 0.85, evidence)


def _of(score: str) -> str:
    return score.replace("_", "-")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _is_outer(method: str) -> bool:
    return method in methods.names() and methods.get(method).track == "outer"


def _is_judged(method: str) -> bool:
    """The bounds were found on maps of the inner track, at the layer or at the pixels where these are usually read."""
    return "@" not in method and not _is_outer(method)


def _in_words(region: str) -> str:
    return "along the edges" if region == BORDER else f"in the {region} corner"


def place_findings(case: Case) -> Iterator[Finding]:
    """Heatmaps that lie in one corner or along the edges whatever the image shows, where behaviour does not."""
    groups = case.evidence.by("placement", "method", "score", "against")
    behaviour = _behaviour(groups)
    found: dict[tuple[str, str], Finding] = {}
    for (method, score, region), numbers in groups.items():
        bound = case.bounds["placement_border" if region == BORDER else "placement_corner"].value
        inside = sum(share > bound for share in numbers.values())
        typical = middle(numbers)
        if typical is None or len(numbers) < FEWEST or inside < case.bounds["placement_images"].value * len(numbers):
            continue
        # Hiding parts blurs, so half of the way from chance to the bound is enough to say that it lies there too.
        enough = (float(REGIONS[region].double().mean()) + bound) / 2
        if not _is_judged(method) or behaviour.get(region, (0.0, ""))[0] > enough:
            continue
        place = _in_words(region)
        claim = (
            f"The {method} heatmaps of the {_of(score)} put {_percent(typical)} of their mass {place} on the typical "
            f"image, and more than {_percent(bound)} on {inside} of {len(numbers)} images, whatever the image shows."
        )
        if region in behaviour:
            share, judge = behaviour[region]
            claim += f" By {judge} of the log-odds, {_percent(share)} of what the prediction depends on lies there."
        row = f"its heatmaps lie {place} whatever the image shows ({inside} of {len(numbers)} images)"
        told = _Told("placement", method, score, typical, bound)
        facts = {"images": inside, "measured_on": len(numbers)}
        # A corner says more than the edges, which hold it.
        found.setdefault((method, score), told.finding(claim, row, facts))
    yield from found.values()


def _behaviour(groups: Mapping[tuple[str, ...], Numbers]) -> dict[str, tuple[float, str]]:
    """The median share of behaviour's own log-odds heatmaps in each region, and by which method."""
    found: dict[str, tuple[float, str]] = {}
    for (method, score, region), numbers in groups.items():
        typical = middle(numbers)
        if score == "log_odds" and _is_outer(method) and typical is not None:
            found[region] = max(found.get(region, (0.0, "")), (typical, method))
    return found


def flatness_findings(case: Case) -> Iterator[Finding]:
    """Heatmaps that are the same in every cell, and so point nowhere."""
    bound = case.bounds["dominance_flat"].value
    for (method, score), numbers in case.evidence.by("dominance", "method", "score").items():
        typical = middle(numbers)
        if typical is None or typical >= bound or len(numbers) < FEWEST or not _is_judged(method):
            continue
        flat = sum(value < bound for value in numbers.values())
        claim = (
            f"The {method} heatmaps of the {_of(score)} are nearly the same in every cell on {flat} of {len(numbers)} "
            f"images: the hottest of {GRID * GRID} cells holds {_percent(typical)} of the typical one, and would hold "
            f"{_percent(1 / GRID**2)} of a map that is the same everywhere. They point nowhere."
        )
        row = f"its heatmaps are nearly the same in every cell ({flat} of {len(numbers)} images)"
        told = _Told("dominance", method, score, typical, bound)
        yield told.finding(claim, row, {"images": flat, "measured_on": len(numbers)})


def constancy_findings(case: Case) -> Iterator[Finding]:
    """Heatmaps that are the same on every image in one score, and not in the other."""
    bound, other_bound = (case.bounds[f"input_dependence_{kind}"].value for kind in ("constant", "other"))
    groups = case.evidence.by("input_dependence", "method", "score")
    for (method, score), numbers in groups.items():
        typical, other = middle(numbers), middle(groups.get((method, _OTHER.get(score, "")), {}))
        if typical is None or other is None or not _is_judged(method):
            continue
        if typical <= bound or other >= other_bound:
            continue
        alike = sum(value > bound for value in numbers.values())
        claim = (
            f"The {method} heatmaps of the {_of(score)} are nearly the same on every image (cosine with the mean of "
            f"the others {typical:.3f} on the typical image, above {bound:.2f} on {alike} of {len(numbers)}), and "
            f"those of the {_of(_OTHER[score])} are not ({other:.2f}). What they show does not come from the image."
        )
        row = f"its heatmaps are nearly the same on every image ({alike} of {len(numbers)} images)"
        told = _Told("input_dependence", method, score, typical, bound)
        yield told.finding(claim, row, {"images": alike, "measured_on": len(numbers), "other": other})


def class_findings(case: Case) -> Iterator[Finding]:
    """Maps that are the same whichever class is explained."""
    bound = case.bounds["class_specificity_same"].value
    groups = case.evidence.by("class_specificity", "method", "score", "against")
    for (method, score, against), numbers in groups.items():
        typical, runner_up = middle(numbers), middle(groups.get((method, score, RUNNER_UP), {}))
        # Of two classes there is the runner-up alone, and that is too little to say so.
        if against != RANDOM or typical is None or runner_up is None or len(numbers) < FEWEST:
            continue
        if min(typical, runner_up) <= bound:
            continue
        alike = sum(value > bound for value in numbers.values())
        claim = (
            f"The {method} maps of the {_of(score)} are nearly the same whichever class is explained: their cosine "
            f"with those of a class drawn by chance is {typical:.3f} on the typical image and above {bound:.2f} on "
            f"{alike} of {len(numbers)}. They do not say why the model prefers the one class to the other."
        )
        row = f"its maps are nearly the same whichever class is explained ({alike} of {len(numbers)} images)"
        told = _Told("class_specificity", method, score, typical, bound)
        yield told.finding(claim, row, {"images": alike, "measured_on": len(numbers), "runner_up": runner_up})


def learning_findings(case: Case) -> Iterator[Finding]:
    """Maps that stay as they are when the last layer's weights are taken away."""
    bound = case.bounds["randomisation_last_layer"].value
    for (method, score, against), numbers in case.evidence.by("randomisation", "method", "score", "against").items():
        typical = middle(numbers)
        if against != LAST or typical is None or typical <= bound or len(numbers) < FEWEST:
            continue
        alike = sum(value > bound for value in numbers.values())
        claim = (
            f"The {method} maps of the {_of(score)} stay as they are when the last linear layer is filled with random "
            f"numbers (cosine {typical:.3f} on the typical image, above {bound:.2f} on {alike} of {len(numbers)}). "
            "They do not depend on what that layer has learnt."
        )
        row = f"its maps do not depend on what the last layer has learnt ({alike} of {len(numbers)} images)"
        told = _Told("randomisation", method, score, typical, bound)
        yield told.finding(claim, row, {"images": alike, "measured_on": len(numbers)})


def stability_findings(case: Case) -> Iterator[Finding]:
    """Heatmaps that change though the picture looks the same and the prediction stays, in one score alone."""
    bound, other_bound, share = (case.bounds[f"stability_{kind}"].value for kind in ("changed", "other", "images"))
    groups = case.evidence.by("stability", "method", "score", "against")
    found: dict[tuple[str, str], Finding] = {}
    for (method, score, against), numbers in sorted(groups.items(), key=lambda group: middle(group[1]) or 0.0):
        typical, other = middle(numbers), middle(groups.get((method, _OTHER.get(score, ""), against), {}))
        below = sum(value < bound for value in numbers.values())
        if typical is None or other is None or method not in _STEADY or other < other_bound:
            continue
        if len(numbers) < FEWEST or below < share * len(numbers):
            continue
        claim = (
            f"The {method} heatmaps of the {_of(score)} {_CHANGED[against]}, though the prediction stays: where 1 is "
            f"the same heatmap, their cosine is {typical:.2f} on the typical image and below {bound:.2f} on {below} of "
            f"{len(numbers)}. Those of the {_of(_OTHER[score])} stay ({other:.2f})."
        )
        row = f"its heatmaps {_CHANGED[against]} ({below} of {len(numbers)} images)"
        told = _Told("stability", method, score, typical, bound)
        facts = {"images": below, "measured_on": len(numbers), "other": other}
        # One sentence for a row, about the change that it stands least.
        found.setdefault((method, score), told.finding(claim, row, facts))
    yield from found.values()


MAP_SUSPICIONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    place_findings,
    flatness_findings,
    constancy_findings,
    class_findings,
    learning_findings,
    stability_findings,
)
