"""A row's verdict looks at what of the score's leak enters the method's maps, and at what they are made from."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from fukusen.auditing import Found, facts_of, judge, make_plan
from fukusen.models import wrap
from fukusen.records import Item, ItemResult, Measurement, Spec

METHODS = (Spec("eigen_cam"), Spec.of("finer_cam", gamma=0.6), Spec("grad_cam"))


def _rows(methods: tuple[Spec, ...], *planted: Measurement) -> dict[str, dict[str, Any]]:
    """The logit rows of an audit of one image, by method."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    model = wrap(net, input_size=(3, 16, 16), head="softmax")
    plan = make_plan(methods_asked=methods, scores_asked=["logit"])
    result = ItemResult(Item("a.png", "a.png"), "key", "audited", predicted=1, predicted_name="cat", probability=0.9)
    drawn = [Measurement("peak_cell", 24.0, "a.png", method=spec.name, score="logit") for spec in methods]
    leak = Measurement("shift_leak", 1.0, "a.png", score="logit")
    found = judge(plan, model, Found(facts_of(model), [result], [leak, *drawn, *planted]))
    return {row["method"]: row for row in found.panel}


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
