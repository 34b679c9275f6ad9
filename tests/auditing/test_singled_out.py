"""Which images are worth a person's time where a network's heatmaps differ often."""

from __future__ import annotations

import pytest

from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.singled_out import singled_out
from fukusen.auditing.suspicions import Case, image_findings
from fukusen.records import Measurement

SHARE = 0.05


def spread(low: float, high: float, count: int = 40) -> dict[str, float]:
    return {f"{place:02}": low + (high - low) * place / (count - 1) for place in range(count)}


@pytest.mark.parametrize("low", [-0.2, 0.2])
def test_of_numbers_that_are_often_low_the_worst_twentieth_is_called(low: float) -> None:
    assert singled_out({"grad_cam": spread(low, 1.0)}, 0.3, SHARE) == ["00", "01"]


@pytest.mark.parametrize("value", [0.0, 0.1234567896, -0.2])
def test_where_all_are_equally_low_a_twentieth_is_called(value: float) -> None:
    assert len(singled_out({"grad_cam": dict.fromkeys(spread(0, 1), value)}, 0.3, SHARE)) == 2


def test_one_is_called_of_few_images_and_none_within_the_bound() -> None:
    assert singled_out({"grad_cam": spread(0.0, 1.0, 10)}, 0.3, SHARE) == ["00"]
    assert singled_out({"grad_cam": spread(0.3, 1.0)}, 0.3, SHARE) == []


def test_all_methods_together_call_no_more_than_one() -> None:
    several = {"a": spread(-0.2, 1.0), "b": dict(zip(spread(0, 1), reversed(spread(-0.3, 1.0).values()), strict=True))}
    assert singled_out(several, 0.3, SHARE) == ["39", "38"]


@pytest.mark.parametrize("number", [2, 8, 20])
def test_the_claim_counts_those_that_are_not_in_the_queue(number: int) -> None:
    numbers = spread(-0.2, 1.0)
    numbers = {name: value if place < number else 0.95 for place, (name, value) in enumerate(numbers.items())}
    below = sum(value < 0.3 for value in numbers.values())
    evidence = Evidence(Measurement("score_disagreement", value, name, "grad_cam") for name, value in numbers.items())
    found = list(image_findings(Case(evidence, bounds_for(10))))
    if number == 2:
        assert len(found) == below == 2
        assert "listed" not in found[0].claim
    else:
        assert len(found) == 2
        assert f"below 0.3 on {below} of 40 images; {below - 2} are not listed." in found[0].claim
    assert found[0].claim.startswith("The grad_cam heatmaps before and after softmax differ (likeness -0.20)")
