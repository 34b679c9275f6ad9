"""From planted measurements to findings, rows, status and queue: each sentence is true and each bound bites."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import nn

from fukusen.auditing import Found, Judgement, facts_of, judge, make_plan
from fukusen.auditing.bounds import bounds_for
from fukusen.checks.added import OTHERWISE
from fukusen.checks.dependence import TOO_FEW
from fukusen.checks.graph import KINDS
from fukusen.models import Classifier, wrap
from fukusen.records import Item, ItemResult, Measurement, Undefined

ITEMS = ("a.png", "b.png", "c.png")


@pytest.fixture
def model() -> Classifier:
    """A network with ten classes."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    return wrap(net, input_size=(3, 16, 16), head="softmax")


def _each(check: str, value: float, **about: str) -> list[Measurement]:
    return [Measurement(check, value, item, **about) for item in ITEMS]


def _clean() -> list[Measurement]:
    """What an honest model gives."""
    leaks = [*_each("shift_leak", 1.0, score="logit"), *_each("shift_leak", 0.0, score="log_odds")]
    rows = [(method, score) for method in ("hires_cam", "occlusion") for score in ("logit", "log_odds")]
    peaks = [one for method, score in rows for one in _each("peak_cell", 24.0, method=method, score=score)]
    return [
        *leaks,
        *peaks,
        *_each("shift_share", 0.05, layer="0"),
        *_each("shift_in_map", 0.02, layer="0"),
        *_each("added_shift", 1e-6, layer="0"),
        *_each("score_disagreement", 0.9, method="hires_cam", score="logit", against="hires_cam/log_odds"),
        *_each("cancelling_channels", 0.0, layer="0"),
        *_each("gradient_truth", 1e-6, layer="0", against="nearby"),
        *_each("gradient_truth", 1e-3, layer="0", against="path"),
        *_each("track_contradiction", 0.5, against="outer/log_odds"),
        *_each("track_contradiction", 0.4, method="hires_cam", score="log_odds", against="outer/log_odds"),
        *_each("placement", 0.1, method="hires_cam", score="logit", against="upper left"),
        *_each("dominance", 0.1, method="hires_cam", score="logit"),
        *_each("input_dependence", 0.7, method="hires_cam", score="logit"),
        *_each("class_specificity", -0.5, method="hires_cam", score="logit", against="random_class"),
        *_each("randomisation", 0.0, method="hires_cam", score="logit", against="last_layer"),
        *_each("stability", 0.97, method="hires_cam", score="logit", against="flip"),
        *_each("faithfulness", 0.2, score="log_odds", against="deletion"),
        *_each("perturbation_awareness", 0.002, against="half"),
        Measurement("head_mean_row", 0.2, layer="3"),
        *(Measurement("graph_scan", 0.0, against=kind) for kind in KINDS),
    ]


def _judged(model: Classifier, measurements: Sequence[Measurement], failed: int = 0) -> Judgement:
    plan = make_plan(methods_asked=["hires_cam", "occlusion"], scores_asked=["logit", "log_odds"])
    results = [
        ItemResult(Item(name, f"pictures/{name}"), "key", "audited", predicted=1, predicted_name="cat", probability=0.9)
        for name in ITEMS
    ]
    results += [ItemResult(Item(f"bad{n}.png", "bad"), "key", "failed", "it is empty") for n in range(failed)]
    return judge(plan, model, Found(facts_of(model), results, measurements))


def _instead(measurements: Sequence[Measurement], new: Sequence[Measurement]) -> list[Measurement]:
    """The measurements, with the new ones in the place of those about the same thing."""
    about = {(one.check, one.item, one.method, one.score, one.layer, one.against) for one in new}
    kept = [
        one for one in measurements if (one.check, one.item, one.method, one.score, one.layer, one.against) not in about
    ]
    return [*kept, *new]


def _verdicts(judgement: Judgement) -> dict[tuple[str, str], str]:
    return {(row["method"], row["score"]): row["verdict"] for row in judgement.panel}


def test_an_honest_model_passes(model: Classifier) -> None:
    """Its logit rows could be redrawn, and that is no finding."""
    found = _judged(model, _clean())
    assert found.status == "pass"
    assert found.findings == ()
    assert found.queue == ()
    assert _verdicts(found) == {
        ("hires_cam", "logit"): "exposed",
        ("hires_cam", "log_odds"): "sound",
        ("occlusion", "logit"): "exposed",
        ("occlusion", "log_odds"): "sound",
    }
    assert {row["status"] for row in found.checks} == {"within"}


def test_a_shift_makes_logit_rows_manipulated_and_spares_the_others(model: Classifier) -> None:
    """The claim names the place, the size and what to do."""
    planted = _instead(_clean(), _each("shift_share", 40.0, layer="0"))
    found = _judged(model, planted)
    assert found.status == "fail"
    assert _verdicts(found) == {
        ("hires_cam", "logit"): "manipulated",
        ("hires_cam", "log_odds"): "sound",
        ("occlusion", "logit"): "manipulated",
        ("occlusion", "log_odds"): "sound",
    }
    first = found.findings[0]
    assert (first.check, first.scope, first.severity, first.value, first.bound) == (
        "shift_share",
        "model",
        "high",
        40.0,
        bounds_for(10)["shift_share"].value,
    )
    assert first.claim.startswith("At the layer 0, a number that is added to every logit weighs 40 times as much")
    assert "3 of 3 images" in first.claim
    assert [row["item"] for row in found.queue] == list(ITEMS)


def test_what_all_logits_share_and_people_see_asks_for_attention(model: Classifier) -> None:
    """The heatmaps of logits are unreliable; that they were manipulated is not said."""
    found = _judged(model, _instead(_clean(), _each("shift_in_map", 0.9, layer="0")))
    assert found.status == "attention"
    (finding,) = found.findings
    assert (finding.check, finding.severity, finding.value, finding.bound) == ("shift_in_map", "medium", 0.9, 0.4)
    assert finding.claim.startswith("At the layer 0, what the mean of all logits draws into a logit's heatmap is 0.9 ")
    assert "3 of 3 images" in finding.claim
    assert _verdicts(found) == {
        ("hires_cam", "logit"): "unreliable",
        ("hires_cam", "log_odds"): "sound",
        ("occlusion", "logit"): "unreliable",
        ("occlusion", "log_odds"): "sound",
    }
    one = [Measurement("shift_in_map", 0.9, "b.png", layer="0")]
    assert _judged(model, _instead(_clean(), one)).status == "pass"


def test_a_shift_on_one_image_alone_is_found(model: Classifier) -> None:
    """As one that a mark in the image switches on."""
    found = _judged(model, _instead(_clean(), [Measurement("shift_share", 40.0, "b.png", layer="0")]))
    assert found.status == "fail"
    assert [row["item"] for row in found.queue] == ["b.png"]
    assert "1 of 3 images" in found.findings[0].claim


@pytest.mark.parametrize(("against", "value"), [("nearby", 0.3), ("path", 0.5)])
def test_untrue_gradients_spare_behaviour_only(model: Classifier, against: str, value: float) -> None:
    """Every inner row is manipulated in every score."""
    found = _judged(model, _instead(_clean(), _each("gradient_truth", value, layer="0", against=against)))
    assert found.status == "fail"
    assert found.findings[0].check == "gradient_truth"
    assert _verdicts(found)["hires_cam", "log_odds"] == "manipulated"
    assert _verdicts(found)["occlusion", "log_odds"] == "sound"


def test_scores_that_disagree_ask_for_attention(model: Classifier) -> None:
    """Without a sign of a shift the logit map is unreliable, not manipulated."""
    bent = _each("score_disagreement", 0.2, method="hires_cam", score="logit", against="hires_cam/log_odds")
    found = _judged(model, _instead(_clean(), bent))
    assert found.status == "attention"
    assert _verdicts(found)["hires_cam", "logit"] == "unreliable"
    assert _verdicts(found)["hires_cam", "log_odds"] == "sound"


@pytest.mark.parametrize(("last", "told"), [(-0.1, True), (0.4, False)])
def test_few_images_contradict_behaviour_only_together(model: Classifier, last: float, told: bool) -> None:
    """Two of three below zero is what chance gives in one of two samples."""
    values = zip(ITEMS, (-0.1, -0.2, last), strict=True)
    planted = [Measurement("track_contradiction", value, item, against="outer/log_odds") for item, value in values]
    found = _judged(model, _instead(_clean(), planted))
    assert [one.check for one in found.findings] == ["track_contradiction"] * told
    assert found.status == ("attention" if told else "pass")


def test_an_image_that_contradicts_itself_is_queued_with_its_places(model: Classifier) -> None:
    """The sentence names both places."""
    planted = [
        Measurement("track_contradiction", -0.6, "c.png", against="outer/log_odds"),
        Measurement("peak_cell", 0.0, "c.png", "hires_cam", "log_odds"),
        Measurement("peak_cell", 48.0, "c.png", "occlusion", "log_odds"),
    ]
    found = _judged(model, _instead(_clean(), planted))
    assert found.status == "attention"
    (row,) = found.queue
    assert row["item"] == "c.png"
    assert row["reasons"] == [
        (
            "The heatmaps point away from what the prediction depends on (rank correlation with hiding parts -0.60): "
            "hottest are hires_cam of the log-odds at the upper left and occlusion of the log-odds at the lower right."
        )
    ]


def test_what_could_not_run_is_no_pass(model: Classifier) -> None:
    """A check without a number, or a picture that failed, asks for attention."""
    assert _judged(model, _clean(), failed=1).status == "attention"
    without = [one for one in _clean() if one.check != "track_contradiction"]
    found = _judged(model, [*without, Measurement("track_contradiction", Undefined("both maps are constant"), "a.png")])
    assert found.status == "attention"
    row = next(row for row in found.checks if row["check"] == "track_contradiction")
    assert (row["status"], row["reason"], row["value"]) == ("not_run", "both maps are constant", None)


def test_what_was_not_asked_for_is_no_failure(model: Classifier) -> None:
    """A check without what it needs says so, as not applicable; one that met something else did not run."""
    without = [one for one in _clean() if one.check != "input_dependence"]
    few = Measurement("input_dependence", TOO_FEW, "a.png", "hires_cam", "logit")
    found = _judged(model, [*without, few])
    assert found.status == "pass"
    row = next(row for row in found.checks if row["check"] == "input_dependence")
    assert (row["status"], row["reason"]) == ("not_applicable", "fewer than 4 images were looked at together")
    empty = Measurement("input_dependence", Undefined("the heatmap is empty"), "b.png", "hires_cam", "logit")
    assert _judged(model, [*without, few, empty]).status == "attention"


def test_a_row_without_a_map_says_why_and_is_not_judged(model: Classifier) -> None:
    """It is neither lost nor sound."""
    none = Undefined("the network has no layer with rows and columns")
    planted = [Measurement("peak_cell", none, item, "hires_cam", "logit") for item in ITEMS]
    row = _judged(model, _instead(_clean(), planted)).panel[0]
    assert (row["method"], row["score"], row["verdict"], row["measured_on"]) == ("hires_cam", "logit", None, 0)
    assert row["undefined"] == "the network has no layer with rows and columns"


def test_a_row_whose_maps_are_empty_describes_nothing(model: Classifier) -> None:
    """An empty map was computed, so it is judged."""
    empty = Undefined("the heatmap is empty")
    planted = [Measurement("peak_cell", empty, item, "hires_cam", "log_odds") for item in ITEMS[:2]]
    row = _judged(model, _instead(_clean(), planted)).panel[1]
    assert (row["verdict"], row["undefined"], row["measured_on"]) == ("unreliable", None, 3)
    assert row["reasons"] == ["its heatmap is empty on 2 of 3 images"]


def test_what_stands_beside_the_last_layer_is_a_lie_however_faint(model: Classifier) -> None:
    """The logit's rows are manipulated, the log-odds' are not."""
    found = _judged(model, _instead(_clean(), [Measurement("added_shift", 0.02, "b.png", layer="0")]))
    (finding,) = found.findings
    assert found.status == "fail"
    assert (finding.check, finding.scope, finding.severity) == ("added_shift", "model", "high")
    assert finding.claim == (
        "At the layer 0, the mean of all logits has a gradient that no weight of the last layer makes, 0.02 times as "
        "large as what tells the classes apart (bound 0.01; out of it on 1 of 3 images looked at). Something beside "
        "the last layer acts on the logits: it changes no prediction, and heatmaps of logits show it."
    )
    assert {row for row, verdict in _verdicts(found).items() if verdict == "manipulated"} == {
        ("hires_cam", "logit"),
        ("occlusion", "logit"),
    }


def test_a_construction_asks_for_attention_and_bends_no_row(model: Classifier) -> None:
    """It is a reason to look; whether maps are bent, other checks say."""
    planted = Measurement("graph_scan", 2.0, against="stop_gradient", layer="head.drop")
    found = _judged(model, [*_clean(), planted])
    (finding,) = found.findings
    assert found.status == "attention"
    assert (finding.check, finding.severity, finding.evidence["layer"]) == ("graph_scan", "medium", "head.drop")
    assert {row["status"] for row in found.checks if row["check"] == "graph_scan"} == {"exceeded"}
    assert set(_verdicts(found).values()) == {"exposed", "sound"}


def test_a_network_that_a_check_does_not_fit_can_pass(model: Classifier) -> None:
    """Although that shows only when it is made; any other reason is no pass."""
    for value, status in ((OTHERWISE, "not_applicable"), (Undefined("it broke"), "not_run")):
        found = _judged(
            model, _instead(_clean(), [Measurement("added_shift", value, item, layer="0") for item in ITEMS])
        )
        (row,) = [row for row in found.checks if row["check"] == "added_shift"]
        assert (row["status"], row["reason"]) == (status, value.reason)
        assert found.status == ("pass" if status == "not_applicable" else "attention")


def test_shift_checks_do_not_apply_to_labels_and_are_not_passed() -> None:
    """With independent labels a shift changes predictions, so no row is exposed."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    model = wrap(net, input_size=(3, 16, 16), head="sigmoid")
    shifty = ("shift_share", "shift_in_map", "added_shift", "score_disagreement", "head_mean_row")
    found = _judged(model, [one for one in _clean() if one.check not in shifty])
    assert {row["check"] for row in found.checks if row["status"] == "not_applicable"} == set(shifty)
    assert set(_verdicts(found).values()) == {"sound"}


def test_bounds_follow_the_number_of_classes() -> None:
    """Fewer classes share more by chance."""
    assert bounds_for(2)["shift_share"].value == pytest.approx(3.0)
    assert bounds_for(1000)["head_mean_row"].value == pytest.approx(0.0632, abs=1e-4)
