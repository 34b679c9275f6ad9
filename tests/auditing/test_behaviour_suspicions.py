"""Leaps and denied maps become findings, each in a true sentence; a few of them, or near chance, do not."""

from __future__ import annotations

from collections.abc import Sequence

from fukusen.auditing.behaviour_suspicions import awareness_findings, behaviour_findings, faithfulness_findings
from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.suspicions import Case
from fukusen.records import Measurement, Undefined


def _case(check: str, values: Sequence[float | Undefined], against: str) -> Case:
    found = [Measurement(check, value, f"{number}.png", against=against) for number, value in enumerate(values)]
    return Case(Evidence(found), bounds_for(10))


def test_steady_answers_are_no_finding() -> None:
    case = _case("perturbation_awareness", [0.001, 0.03, Undefined("it hardly moves")], "half")
    assert list(awareness_findings(case)) == []
    assert list(behaviour_findings(case)) == []


def test_leaps_ask_for_attention() -> None:
    """On a quarter of the images or more; and each of these is queued."""
    case = _case("perturbation_awareness", [0.001, 0.8, 0.002, 0.7], "square")
    (finding,) = awareness_findings(case)
    assert (finding.check, finding.scope, finding.severity) == ("perturbation_awareness", "model", "medium")
    assert (finding.value, finding.bound) == (0.8, 0.3)
    assert finding.claim.startswith(
        "While a part of the picture fades away little by little, the answer leaps: up to 80% of its change comes in "
        "one small step (bound 30%; on 2 of 4 images looked at)."
    )
    queued = list(behaviour_findings(case))
    assert [one.item for one in queued] == ["1.png", "3.png"]
    assert {(one.scope, one.severity) for one in queued} == {("image", "medium")}


def test_a_leap_on_few_images_is_none_of_the_networks() -> None:
    """One in four, or two in nine."""
    for values in ([0.001] * 3 + [0.8], [0.001] * 7 + [0.8] * 2):
        case = _case("perturbation_awareness", values, "half")
        assert list(awareness_findings(case)) == []
        assert list(behaviour_findings(case)) == []


def test_the_greatest_leap_of_the_parts_counts() -> None:
    found = [
        Measurement("perturbation_awareness", value, "a", against=part)
        for part, value in (("half", 0.9), ("square", 0.0))
    ]
    (finding,) = awareness_findings(Case(Evidence(found), bounds_for(2)))
    assert finding.value == 0.9


def test_maps_that_behaviour_denies_ask_for_attention() -> None:
    """The consensus' deletion counts, on four images or more."""
    (finding,) = faithfulness_findings(_case("faithfulness", [-0.2, -0.1, -0.3, 0.1], "deletion"))
    assert (finding.severity, finding.scope, finding.item) == ("medium", "model", None)
    assert "area between the curves -0.15, bound -0.10, 4 images looked at" in finding.claim


def test_maps_near_chance_or_seldom_looked_at_are_no_finding() -> None:
    assert list(faithfulness_findings(_case("faithfulness", [-0.09, -0.2, 0.3, -0.08], "deletion"))) == []
    assert list(faithfulness_findings(_case("faithfulness", [-0.3, -0.3, -0.3], "deletion"))) == []
    assert list(faithfulness_findings(_case("faithfulness", [-0.3] * 5, "insertion"))) == []
