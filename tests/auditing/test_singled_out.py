"""Which images are worth a person's time where a network's heatmaps differ often."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.image_suspicions import image_findings
from fukusen.auditing.singled_out import listed
from fukusen.auditing.suspicions import Case
from fukusen.records import Finding, Measurement

SHARE = 0.05
BOTH = {"score_disagreement": 0.3, "track_contradiction": -0.3}


def spread(low: float, high: float, count: int = 40) -> dict[str, float]:
    return {f"{place:02}": low + (high - low) * place / (count - 1) for place in range(count)}


def found(check: str, method: str | None, numbers: Mapping[str, float]) -> list[Finding]:
    evidence = Evidence(Measurement(check, value, name, method, layer="4") for name, value in numbers.items())
    return list(image_findings(Case(evidence, bounds_for(10))))


def names(findings: list[Finding], images: int) -> list[str | None]:
    return list(dict.fromkeys(one.item for one in listed(findings, images, SHARE)))


@pytest.mark.parametrize("low", [-0.2, 0.2])
def test_of_numbers_that_are_often_low_the_worst_twentieth_is_called(low: float) -> None:
    assert names(found("score_disagreement", "grad_cam", spread(low, 1.0)), 40) == ["00", "01"]


@pytest.mark.parametrize("value", [0.0, 0.1234567896, -0.2])
def test_where_all_are_equally_low_a_twentieth_is_called(value: float) -> None:
    assert len(names(found("score_disagreement", "grad_cam", dict.fromkeys(spread(0, 1), value)), 40)) == 2


def test_one_is_called_of_few_images_and_none_within_the_bound() -> None:
    assert names(found("score_disagreement", "grad_cam", spread(0.0, 1.0, 10)), 10) == ["00"]
    assert names(found("score_disagreement", "grad_cam", spread(0.3, 1.0)), 40) == []


def test_all_methods_together_call_no_more_than_one() -> None:
    turned = dict(zip(spread(0, 1), reversed(spread(-0.3, 1.0).values()), strict=True))
    several = found("score_disagreement", "grad_cam", spread(-0.2, 1.0))
    several += found("score_disagreement", "hires_cam", turned)
    kept = sorted(listed(several, 40, SHARE), key=lambda one: -one.priority)
    assert list(dict.fromkeys(one.item for one in kept)) == ["39", "38"]


def test_behaviour_and_likeness_together_call_no_more_than_one() -> None:
    """Whoever is gravest, by how far out of its own bound it is; an image that is called keeps both of its findings."""
    both = found(
        "score_disagreement", "grad_cam", {**dict.fromkeys(spread(0, 1), 0.9), "03": 0.0, "05": 0.2, "07": 0.1}
    )
    both += found("track_contradiction", None, {"03": -0.4, "04": -0.7, "05": -0.31, "06": 0.5})
    kept = listed(both, 40, SHARE)
    assert {(one.item, one.check) for one in kept} == {
        ("04", "track_contradiction"),
        ("03", "score_disagreement"),
        ("03", "track_contradiction"),
    }


def test_what_a_wrong_decision_costs_counts() -> None:
    """It is in the priority, and so the image that is listed is not always the one furthest out."""
    findings = found("track_contradiction", None, {"a": -0.9, "b": -0.4})
    cheap = [Finding(**{**vars(one), "priority": one.priority / 10}) if one.item == "a" else one for one in findings]
    assert names(findings, 2) == ["a"]
    assert names(cheap, 2) == ["b"]


def test_other_findings_stay() -> None:
    others = found("shift_share", None, dict.fromkeys(spread(0, 1), 2.0))
    assert [one.item for one in listed(others, 40, SHARE)] == [*spread(0, 1)]
    assert not any("listed" in one.claim for one in listed(others, 40, SHARE))


@pytest.mark.parametrize("number", [2, 8, 20])
@pytest.mark.parametrize("check", BOTH)
def test_the_claim_counts_those_that_are_not_in_the_queue(check: str, number: int) -> None:
    numbers = {name: value if place < number else 0.95 for place, (name, value) in enumerate(spread(-0.9, 1.0).items())}
    method = "grad_cam" if check == "score_disagreement" else None
    below = sum(value < BOTH[check] for value in numbers.values())
    kept = listed(found(check, method, numbers), 40, SHARE)
    assert len(kept) == 2
    assert kept[0].evidence == {"below": below, "measured_on": 40}
    if number == 2:
        assert below == 2
        assert "listed" not in kept[0].claim
    else:
        told = f"It is below {BOTH[check]:g} on {below} of 40 images; {below - 2} are not listed."
        assert kept[0].claim.endswith(told)
    if method is not None:
        assert kept[0].claim.startswith("The grad_cam heatmaps before and after softmax differ (likeness -0.90)")
