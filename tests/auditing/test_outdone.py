"""Methods whose maps follow behaviour much less well than another family's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from torch import nn

from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.engine import PEAK
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.facts import facts_of
from fukusen.auditing.judge import Found, judge
from fukusen.auditing.outdone import outdone, outdone_findings
from fukusen.auditing.plan import make_plan
from fukusen.auditing.suspicions import Case
from fukusen.models import wrap
from fukusen.records import Item, ItemResult, Measurement

BOUND = 0.45
EVEN = (-0.1, 0.1, 0.0, 0.05, -0.05, 0.02, -0.02, 0.0, 0.04, -0.04)
Row = tuple[str, str]


def seen(rows: Mapping[Row, float | Sequence[float]], images: int = 10) -> Case:
    """Rank correlations with behaviour around a middle, or as they are given, by row."""
    measured = []
    for (method, score), values in rows.items():
        own = [values + step for step in EVEN[:images]] if isinstance(values, float) else list(values)
        measured += [
            Measurement("track_contradiction", value, f"{number}.png", method, score, "outer/log_odds")
            for number, value in enumerate(own)
        ]
    return Case(Evidence(measured), bounds_for(10))


def rows(case: Case) -> set[Row]:
    return {one.row for one in outdone(case)}


@pytest.mark.parametrize("score", ["logit", "log_odds"])
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam", "layer_cam"])
def test_a_method_that_leaves_the_others_is_named(method: str, score: str) -> None:
    case = seen({(method, score): -0.1, ("gradient", "log_odds"): 0.4, ("integrated_gradients", "log_odds"): 0.7})
    (found,) = outdone_findings(case)
    assert (found.check, found.scope, found.severity, found.method, found.score) == (
        "track_contradiction",
        "model",
        "medium",
        method,
        score,
    )
    assert found.value == pytest.approx(0.8)
    assert found.bound == BOUND
    assert f"the {method} heatmaps of the {score.replace('_', '-')} follow" in found.claim
    assert "than those of integrated_gradients of the log-odds do" in found.claim
    assert "-0.10 against 0.70, 0.80 apart" in found.claim
    assert found.evidence["rows"][score].startswith("it follows what predictions depend on much less well than integ")


def test_each_score_is_told_and_the_worst_speaks() -> None:
    case = seen({("grad_cam", "logit"): -0.3, ("grad_cam", "log_odds"): 0.1, ("gradient", "log_odds"): 0.7})
    (found,) = outdone_findings(case)
    assert found.score == "logit"
    assert [*found.evidence["rows"]] == ["logit", "log_odds"]


@pytest.mark.parametrize(("apart", "told"), [(BOUND - 0.02, False), (BOUND + 0.02, True)])
def test_only_beyond_the_bound(apart: float, told: bool) -> None:
    same = [0.7] * 10
    case = seen({("grad_cam", "log_odds"): [0.7 - apart] * 10, ("gradient", "log_odds"): same})
    assert bool(rows(case)) is told


def test_gradients_can_be_outdone_by_cams() -> None:
    case = seen({("gradient", "log_odds"): 0.1, ("grad_cam", "log_odds"): 0.8})
    assert rows(case) == {("gradient", "log_odds")}


def test_a_family_is_not_held_against_itself() -> None:
    case = seen({("grad_cam", "log_odds"): 0.1, ("layer_cam", "log_odds"): 0.8})
    assert rows(case) == set()


@pytest.mark.parametrize("better", ["occlusion", "eigen_cam", "grad_cam@3"])
def test_behaviour_itself_and_maps_that_know_no_class_are_no_rivals(better: str) -> None:
    case = seen({("gradient", "log_odds"): 0.1, (better, "log_odds"): 0.8})
    assert rows(case) == set()


@pytest.mark.parametrize("method", ["lrp", "smooth_grad", "integrated_gradients", "grad_cam_plus_plus", "eigen_cam"])
def test_of_some_methods_no_more_is_expected(method: str) -> None:
    case = seen({(method, "log_odds"): -0.2, ("gradient", "log_odds"): 0.7, ("grad_cam", "log_odds"): 0.7})
    assert rows(case) == set()


def test_the_rival_speaks_of_the_log_odds() -> None:
    """Its map of the logit may have been bent, too."""
    case = seen({("grad_cam", "log_odds"): 0.1, ("gradient", "logit"): 0.8})
    assert rows(case) == set()


def test_few_images_do_not_suffice() -> None:
    apart: dict[Row, float | Sequence[float]] = {("grad_cam", "log_odds"): -0.3, ("gradient", "log_odds"): 0.8}
    assert rows(seen(apart, images=7)) == set()
    assert rows(seen(apart, images=8)) == {("grad_cam", "log_odds")}


def test_a_gap_that_may_be_chance_is_left() -> None:
    """Beyond the bound on the typical image, and far within it on the others."""
    own = [0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.95, 0.96, 0.97, 0.98]
    case = seen({("grad_cam", "log_odds"): own, ("gradient", "log_odds"): [0.7] * 10})
    assert rows(case) == set()


def test_images_that_one_of_both_lacks_are_left_out() -> None:
    case = seen({("grad_cam", "log_odds"): [-0.3] * 10, ("gradient", "log_odds"): [0.8] * 9})
    (one,) = outdone(case)
    assert one.images == 9


def curves(rows: Mapping[str, tuple[float, float]], images: int = 8) -> Case:
    """The areas of deletion and of insertion around these, by method, in the log-odds."""
    measured = [
        Measurement("faithfulness", value + EVEN[number] / 4, f"{number}.png", method, "log_odds", against)
        for method, areas in rows.items()
        for against, value in zip(("deletion", "insertion"), areas, strict=True)
        for number in range(images)
    ]
    return Case(Evidence(measured), bounds_for(10))


def test_a_method_whose_hottest_cells_matter_least_is_named() -> None:
    """By the mean of what hiding them first and showing them alone do."""
    case = curves({"grad_cam": (0.02, 0.1), "gradient": (0.3, 0.2), "lrp": (-0.3, -0.3)})
    (found,) = outdone_findings(case)
    assert (found.check, found.scope, found.severity, found.method) == ("faithfulness", "model", "medium", "grad_cam")
    assert found.value == pytest.approx(0.19)
    assert found.bound == 0.1
    assert "the grad_cam heatmaps of the log-odds are hottest where much less depends on it" in found.claim
    assert "than where those of gradient of the log-odds are" in found.claim
    assert "0.06 against 0.25, 0.19 apart" in found.claim
    (reason,) = found.evidence["rows"].values()
    assert reason.endswith("(median area 0.06 against 0.25, 8 images)")


@pytest.mark.parametrize(("own", "told"), [((0.15, 0.17), False), ((0.15, 0.13), True), ((0.31, -0.03), True)])
def test_both_areas_count_and_only_beyond_the_bound(own: tuple[float, float], told: bool) -> None:
    assert bool(outdone(curves({"grad_cam": own, "gradient": (0.25, 0.25)}))) is told


def test_half_a_pair_of_curves_is_none() -> None:
    whole = {"gradient": (0.3, 0.3)}
    cut = [
        Measurement("faithfulness", -0.1, f"{number}.png", "grad_cam", "log_odds", "deletion") for number in range(8)
    ]
    evidence = Evidence([*curves(whole).evidence.of("faithfulness"), *cut])
    assert outdone(Case(evidence, bounds_for(10))) == []


@pytest.mark.parametrize(("images", "told"), [(5, False), (6, True)])
def test_curves_of_few_images_do_not_suffice(images: int, told: bool) -> None:
    assert bool(outdone(curves({"grad_cam": (0.0, 0.0), "gradient": (0.3, 0.3)}, images))) is told


def test_each_yardstick_speaks_for_itself() -> None:
    """A map may lie where the network looks and yet be hottest where little depends on it."""
    areas = curves({"grad_cam": (0.0, 0.0), "gradient": (0.3, 0.3)})
    ranks = seen({("grad_cam", "log_odds"): -0.1, ("gradient", "log_odds"): 0.7})
    both = Case(
        Evidence([*areas.evidence.of("faithfulness"), *ranks.evidence.of("track_contradiction")]), bounds_for(10)
    )
    assert [one.check for one in outdone_findings(both)] == ["track_contradiction", "faithfulness"]


def test_such_heatmaps_are_not_to_be_shown() -> None:
    """In the score in which they are outdone, and in no other."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = wrap(net, classes=["a", "b", "c"], input_size=(3, 16, 16), head="softmax")
    told = {("grad_cam", "log_odds"): -0.0, ("grad_cam", "logit"): 0.6, ("gradient", "log_odds"): 0.7}
    measured = [
        Measurement(check, value + step if check == "track_contradiction" else 0.0, f"{number}.png", method, score)
        for (method, score), value in told.items()
        for number, step in enumerate(EVEN)
        for check in ("track_contradiction", PEAK)
    ]
    measured += [Measurement("track_contradiction", 0.5, f"{number}.png") for number in range(len(EVEN))]
    items = [Item(f"{number}.png", f"{number}.png") for number in range(len(EVEN))]
    results = [ItemResult(item, "key", "audited", predicted=0, predicted_name="a", probability=0.9) for item in items]
    judged = judge(make_plan(methods_asked=["grad_cam", "gradient"]), model, Found(facts_of(model), results, measured))
    verdicts = {(row["method"], row["score"]): row["verdict"] for row in judged.panel}
    reasons = {(row["method"], row["score"]): row["reasons"] for row in judged.panel}
    assert verdicts["grad_cam", "log_odds"] == "unreliable"
    assert "much less well than gradient of the log-odds does" in " ".join(reasons["grad_cam", "log_odds"])
    assert verdicts["grad_cam", "logit"] != "unreliable"
    assert verdicts["gradient", "log_odds"] == "sound"
    assert judged.status == "attention"
    check = next(row for row in judged.checks if row["check"] == "track_contradiction")
    assert (check["status"], check["reason"]) == ("exceeded", "out of its bounds: grad_cam")
