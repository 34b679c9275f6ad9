"""A row's verdict looks at what of the score's leak enters the method's maps, and at what they are made from."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from fukusen.auditing import Found, Judgement, facts_of, judge, make_plan
from fukusen.models import wrap
from fukusen.records import Item, ItemResult, Measurement, Spec

METHODS = (Spec("eigen_cam"), Spec.of("finer_cam", gamma=0.6), Spec("grad_cam"))


def _judged(methods: tuple[Spec, ...], *planted: Measurement) -> Judgement:
    """What an audit of one image says in logits."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    model = wrap(net, input_size=(3, 16, 16), head="softmax")
    plan = make_plan(methods_asked=methods, scores_asked=["logit"])
    result = ItemResult(Item("a.png", "a.png"), "key", "audited", predicted=1, predicted_name="cat", probability=0.9)
    drawn = [Measurement("peak_cell", 24.0, "a.png", method=spec.name, score="logit") for spec in methods]
    leak = Measurement("shift_leak", 1.0, "a.png", score="logit")
    return judge(plan, model, Found(facts_of(model), [result], [leak, *drawn, *planted]))


def _rows(methods: tuple[Spec, ...], *planted: Measurement) -> dict[str, dict[str, Any]]:
    """The logit rows of an audit of one image, by method."""
    return {row["method"]: row for row in _judged(methods, *planted).panel}


def test_a_row_has_the_leak_that_enters_its_maps() -> None:
    """All of the logit's in Grad-CAM's, 0.4 of it in Finer-CAM's, and none in Eigen-CAM's, which reads no score."""
    rows = _rows(METHODS)
    assert {name: row["shift_leak"] for name, row in rows.items()} == {
        "grad_cam": 1.0,
        "finer_cam": pytest.approx(0.4),
        "eigen_cam": 0.0,
    }
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert verdicts == {"grad_cam": "exposed", "finer_cam": "exposed", "eigen_cam": "sound"}
    (reason,) = rows["finer_cam"]["reasons"]
    assert "0.4" in reason
    assert _rows((Spec.of("finer_cam", gamma=1.0),))["finer_cam"]["verdict"] == "sound"


def test_what_reads_no_gradient_is_not_blamed_for_false_ones() -> None:
    """A gradient that is no slope manipulates what is made from gradients, and a shift what lets some of it in."""
    false = Measurement("gradient_truth", 0.9, "a.png", layer="0", against="nearby")
    shift = Measurement("shift_share", 40.0, "a.png", layer="0")
    for planted in (false, shift):
        verdicts = {name: row["verdict"] for name, row in _rows(METHODS, planted).items()}
        assert verdicts == {"grad_cam": "manipulated", "finer_cam": "manipulated", "eigen_cam": "sound"}


@pytest.mark.parametrize(("shown", "told"), [(0.95, []), (0.2, ["grad_cam"])])
def test_a_map_that_every_faint_difference_redraws_speaks_of_itself_alone(shown: float, told: list[str]) -> None:
    """Grad-CAM++ counts a channel as soon as its gradient is above zero: its logit row is unreliable, not the model."""
    likeness = {"grad_cam_plus_plus": 0.1, "grad_cam": shown}
    planted = [Measurement("score_disagreement", value, "a.png", name, "logit") for name, value in likeness.items()]
    found = _judged((Spec("grad_cam"), Spec("grad_cam_plus_plus")), *planted)
    rows = {row["method"]: row["verdict"] for row in found.panel}
    assert rows == {"grad_cam_plus_plus": "unreliable", "grad_cam": "unreliable" if told else "exposed"}
    assert {one.method for one in found.findings} == set(told)
    (check,) = (row for row in found.checks if row["check"] == "score_disagreement")
    assert (check["status"], check["value"]) == ("exceeded" if told else "within", shown)


def test_such_a_map_speaks_where_no_other_does() -> None:
    planted = Measurement("score_disagreement", 0.1, "a.png", "grad_cam_plus_plus", "logit")
    found = _judged((Spec("grad_cam_plus_plus"),), planted)
    assert {(one.scope, one.method) for one in found.findings} == {
        ("model", "grad_cam_plus_plus"),
        ("image", "grad_cam_plus_plus"),
    }


def test_channels_that_undo_each_other_are_seen_where_positive_gradients_alone_are_kept() -> None:
    """In every score; and one image is not enough to tell."""
    planted = [Measurement("cancelling_channels", 0.5, item, layer="0") for item in ("a.png", "b.png")]
    several = (Spec("grad_cam"), Spec("layer_cam"), Spec("guided_backprop"))
    assert {name: row["verdict"] for name, row in _rows(several, *planted).items()} == {
        "grad_cam": "exposed",
        "layer_cam": "manipulated",
        "guided_backprop": "manipulated",
    }
    found = _judged(several, *planted)
    assert found.status == "fail"
    assert found.findings[0].claim.startswith(
        "At the layer 0, channels of the same pattern undo each other: what they add and take off again is 0.5 times as"
    )
    assert _judged(several, planted[0]).findings == ()


@pytest.mark.parametrize(("last", "verdict"), [(-0.2, "unreliable"), (0.6, "exposed")])
def test_a_row_points_away_from_behaviour_where_chance_does_not_explain_it(last: float, verdict: str) -> None:
    values = {"a.png": -0.3, "b.png": -0.4, "c.png": last}
    planted = [
        Measurement("track_contradiction", value, item, "grad_cam", "logit", "outer/log_odds")
        for item, value in values.items()
    ]
    row = _rows((Spec("grad_cam"),), *planted)["grad_cam"]
    assert row["verdict"] == verdict
    assert ("it points away from what predictions depend on (median rank correlation -0.30)" in row["reasons"]) == (
        verdict == "unreliable"
    )
