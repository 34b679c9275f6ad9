"""What the network does with pictures that were tampered with, as findings: leaps, and maps that behaviour denies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fukusen.auditing.evidence import Numbers, middle
from fukusen.auditing.suspicions import Case, priority_of
from fukusen.checks.faithfulness import DELETION
from fukusen.records import Finding

ENOUGH_IMAGES = 4
SHARE_OF_IMAGES = 0.25
LEAPING_IMAGES = 2


def _leaps(case: Case) -> Numbers:
    """The greatest leap of each image, over the parts that were made to fade."""
    worst: Numbers = {}
    for part in case.evidence.values("perturbation_awareness", "against"):
        for item, value in case.evidence.numbers("perturbation_awareness", against=part).items():
            worst[item] = max(value, worst.get(item, 0.0))
    return worst


def awareness_findings(case: Case) -> Iterator[Finding]:
    """A network that answers pictures with hidden parts by other rules."""
    bound = case.bounds["perturbation_awareness"].value
    numbers = _leaps(case)
    beyond = {item: value for item, value in numbers.items() if value > bound}
    needed = min(len(numbers), max(LEAPING_IMAGES, SHARE_OF_IMAGES * len(numbers)))
    if not beyond or len(beyond) < needed:
        return
    worst = max(beyond.values())
    told = (
        f"While a part of the picture fades away little by little, the answer leaps: up to {100 * worst:.0f}% of its "
        f"change comes in one small step (bound {100 * bound:.0f}%; on {len(beyond)} of {len(numbers)} images looked "
        "at). A network does so that looks for hidden parts and then answers as another one, and one that rounds very "
        "coarsely. Heatmaps that are made by hiding parts may not show what predictions on whole pictures depend on."
    )
    facts = {"images": len(beyond), "measured_on": len(numbers)}
    yield Finding("perturbation_awareness", "model", "medium", worst, bound, told, priority=0.9, evidence=facts)


def faithfulness_findings(case: Case) -> Iterator[Finding]:
    """Maps of the network's insides whose hottest parts matter less than parts by chance, on the typical image."""
    bound = case.bounds["faithfulness"].value
    numbers = case.evidence.numbers("faithfulness", method=None, against=DELETION)
    typical = middle(numbers)
    if typical is None or typical >= bound or len(numbers) < ENOUGH_IMAGES:
        return
    told = (
        "On the typical image, hiding what the heatmaps find hottest takes less from the prediction than hiding as "
        f"much by chance (area between the curves {typical:.2f}, bound {bound:.2f}, {len(numbers)} images looked at): "
        "taken together, the heatmaps do not show what the predictions depend on."
    )
    facts = {"measured_on": len(numbers)}
    yield Finding("faithfulness", "model", "medium", typical, bound, told, priority=0.8, evidence=facts)


BEHAVIOUR_SUSPICIONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (awareness_findings, faithfulness_findings)


def behaviour_findings(case: Case) -> Iterator[Finding]:
    """The images on which the answer leaps, where it does so on enough of them."""
    if not any(True for _ in awareness_findings(case)):
        return
    bound = case.bounds["perturbation_awareness"].value
    for item, value in _leaps(case).items():
        if value > bound:
            told = (
                f"While a part of this picture fades away little by little, {100 * value:.0f}% of the answer's change "
                "comes in one small step, as if the network had noticed that something is hidden. Do not trust "
                "heatmaps of it that are made by hiding parts."
            )
            yield Finding(
                "perturbation_awareness",
                "image",
                "medium",
                value,
                bound,
                told,
                item,
                priority=priority_of("medium", value - bound),
            )
