"""What a reference sets, and which images stand out beside a clean sample of the same model."""

from __future__ import annotations

import random
from statistics import median

import pytest
from torch import nn

from fukusen.auditing import Found, Judgement, Reference, facts_of, judge, make_plan
from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.evidence import Evidence
from fukusen.models import Classifier, wrap
from fukusen.records import Item, ItemResult, Measurement


@pytest.fixture
def model() -> Classifier:
    """A network with two classes."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return wrap(net, input_size=(3, 16, 16), head="softmax")


def _numbers(count: int, seed: int) -> list[Measurement]:
    """Honest shares and likenesses of so many images."""
    chance = random.Random(seed)
    items = [f"{seed}-{number}.png" for number in range(count)]
    shares = [Measurement("shift_share", chance.uniform(0.2, 0.4), item, layer="0") for item in items]
    alike = [
        Measurement("score_disagreement", chance.uniform(0.8, 1), item, "grad_cam", "logit", "grad_cam/log_odds")
        for item in items
    ]
    drawn = [Measurement("shift_in_map", chance.uniform(0.1, 0.18), item, layer="0") for item in items]
    return [*shares, *drawn, *alike]


def _reference(model: Classifier, count: int, digest: str | None = None) -> Reference:
    evidence = Evidence([*_numbers(count, 1), Measurement("head_mean_row", 0.3)])
    return Reference("trusted", "a model", digest or model.digest, 2, count, evidence)


def _judged(model: Classifier, measured: list[Measurement], reference: Reference | None) -> Judgement:
    names = dict.fromkeys(one.item for one in measured if one.item)
    results = [
        ItemResult(Item(name, name), "key", "audited", predicted=0, predicted_name="cat", probability=0.9)
        for name in names
    ]
    plan = make_plan(methods_asked=["grad_cam"], scores_asked=["logit", "log_odds"])
    return judge(plan, model, Found(facts_of(model), results, measured, reference))


def test_bounds_are_twice_what_the_reference_reaches(model: Classifier) -> None:
    reference = _reference(model, 40)
    found, usual = reference.bounds(), bounds_for(2)
    largest = max(reference.evidence.numbers("shift_share").values())
    assert found["shift_share"].value == 2 * largest < usual["shift_share"].value
    typical = median(reference.evidence.numbers("shift_in_map").values())
    assert found["shift_in_map"].value == 2 * typical < usual["shift_in_map"].value
    assert found["head_mean_row"].value == 0.6
    lowest = min(reference.evidence.numbers("score_disagreement").values())
    assert found["score_disagreement_image"].value == pytest.approx(1 - 2 * (1 - lowest) - 0.02)
    assert found["gradient_truth_layer"] == usual["gradient_truth_layer"]
    told = {row["name"]: (row["value"], row["without"]) for row in reference.as_json()["bounds"]}
    assert told["shift_share"] == (found["shift_share"].value, 3.0)
    assert "gradient_truth_layer" not in told
    assert "in the reference, trusted" in found["shift_share"].source


def test_too_few_images_set_no_bounds(model: Classifier) -> None:
    reference = Reference("trusted", "a model", "other", 2, 7, Evidence(_numbers(7, 1)))
    assert reference.bounds() == bounds_for(2)
    assert reference.as_json()["bounds"] == []


def test_beyond_the_reference_is_grave_only_when_far_or_beyond_all(model: Classifier) -> None:
    """Retraining may move a number; three times its bound it does not."""
    reference = _reference(model, 40, "another")
    for share, severity in ((0.5, None), (1.0, "medium"), (2.9, "high"), (3.1, "high")):
        measured = [Measurement("shift_share", share, f"{n}.png", layer="0") for n in range(5)]
        findings = [one for one in _judged(model, measured, reference).findings if one.scope == "model"]
        assert [one.severity for one in findings] == ([] if severity is None else [severity])
    alone = _judged(model, [Measurement("shift_share", 2.9, "a.png", layer="0")], None)
    assert alone.findings == ()


def test_an_image_unlike_the_clean_sample_is_unusual(model: Classifier) -> None:
    """Although it is within every bound; beside another model's numbers it is not looked at so."""
    odd = [Measurement("shift_share", 0.6, f"odd{number}.png", layer="0") for number in range(3)]
    measured = [*_numbers(30, 2), *odd]
    found = _judged(model, measured, _reference(model, 400))
    flagged = [one for one in found.findings if one.item and one.item.startswith("odd")]
    assert {one.item for one in flagged} == {"odd0.png", "odd1.png", "odd2.png"}
    assert {(one.scope, one.severity, one.check) for one in flagged} == {("image", "low", "shift_share")}
    assert flagged[0].claim == (
        "The part of the gradient that all logits share is 0.6 of what tells them apart, further out than on nearly "
        "all of the 400 images of the reference (p = 0.0025; of such images, at most 5% are expected to be chance)."
    )
    assert _judged(model, measured, _reference(model, 400, "another")).findings == ()
    assert _judged(model, measured, None).findings == ()


def test_an_image_too_many_for_the_list_is_not_lost_beside_a_clean_sample(model: Classifier) -> None:
    """Of images out of the bound the worst twentieth is listed; those unlike the sample are, whatever their number."""
    odd = [Measurement("score_disagreement", 0.1, f"odd{number}.png", "grad_cam", "logit") for number in range(3)]
    measured = [*_numbers(30, 2), *odd]
    alone = _judged(model, measured, None)
    beside = _judged(model, measured, _reference(model, 400))
    assert [one.item for one in alone.findings if one.scope == "image"] == ["odd0.png"]
    severities = {one.item: one.severity for one in beside.findings if one.item and one.item.startswith("odd")}
    assert severities == {"odd0.png": "medium", "odd1.png": "low", "odd2.png": "low"}


def test_honest_images_are_rarely_unusual(model: Classifier) -> None:
    """Over many audits, the rate of audits with any is near the level."""
    reference = _reference(model, 400)
    audits = [_judged(model, _numbers(20, seed), reference) for seed in range(2, 62)]
    assert sum(bool(one.queue) for one in audits) <= 9
