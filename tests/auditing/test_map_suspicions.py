"""Planted heatmaps to sentences: each names the place, the method and the score, and honest networks give none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from fukusen.arrays import Batch
from fukusen.attacks import attacks
from fukusen.auditing import Found, examine, facts_of, judge, make_plan
from fukusen.auditing.bounds import bounds_for
from fukusen.auditing.evidence import Evidence
from fukusen.auditing.map_suspicions import MAP_SUSPICIONS
from fukusen.auditing.plan import Tasks
from fukusen.auditing.suspicions import Case
from fukusen.checks import Placement, Sight, checks
from fukusen.methods import methods
from fukusen.models import Classifier, wrap
from fukusen.records import Finding, Item, ItemResult, Measurement, Spec
from fukusen.scores import LogOdds
from fukusen.tape import Tape

ITEMS = tuple(f"{number}.png" for number in range(20))
MAP_CHECKS = {"placement", "dominance", "input_dependence", "class_specificity", "randomisation", "stability"}
SCORES = ("logit", "log_odds")


def _found(measurements: Sequence[Measurement]) -> list[Finding]:
    case = Case(Evidence(measurements), bounds_for(10))
    return [finding for suspicion in MAP_SUSPICIONS for finding in suspicion(case)]


def _each(
    check: str, values: Sequence[float], method: str, score: str, against: str | None = None
) -> list[Measurement]:
    pairs = zip(ITEMS, values, strict=False)
    return [Measurement(check, value, item, method, score, against) for item, value in pairs]


def test_a_corner_is_named_with_its_method_score_and_images() -> None:
    """One image of twenty is another, and behaviour lies elsewhere."""
    planted = _each("placement", [0.81] * 19 + [0.1], "hires_cam", "logit", "lower right")
    planted += _each("placement", [0.06] * 20, "occlusion", "log_odds", "lower right")
    (finding,) = _found(planted)
    assert finding.claim == (
        "The hires_cam heatmaps of the logit put 81% of their mass in the lower right corner on the typical image, and "
        "more than 50% on 19 of 20 images, whatever the image shows. By occlusion of the log-odds, 6% of what the "
        "prediction depends on lies there."
    )
    assert (finding.check, finding.scope, finding.severity) == ("placement", "model", "medium")
    assert (finding.method, finding.score, finding.value, finding.bound) == ("hires_cam", "logit", 0.81, 0.5)
    assert finding.evidence["images"] == 19


@pytest.mark.parametrize(
    ("values", "behaviour"),
    [([0.9] * 13 + [0.1] * 7, 0.1), ([0.9] * 3, 0.1), ([0.9] * 20, 0.3)],
    ids=["on too few of the images", "too few images", "where behaviour lies too"],
)
def test_a_corner_that_may_be_honest_is_none(values: list[float], behaviour: float) -> None:
    planted = _each("placement", values, "hires_cam", "logit", "upper left")
    planted += _each("placement", [behaviour] * 20, "occlusion", "log_odds", "upper left")
    assert _found(planted) == []


def test_the_edges_are_named_unless_a_corner_says_more() -> None:
    planted = _each("placement", [0.95] * 20, "grad_cam", "log_odds", "border")
    (finding,) = _found(planted)
    assert finding.claim.startswith(
        "The grad_cam heatmaps of the log-odds put 95% of their mass along the edges on the typical image, and more "
        "than 80% on 20 of 20 images"
    )
    (finding,) = _found([*_each("placement", [0.9] * 20, "grad_cam", "log_odds", "upper left"), *planted])
    assert "in the upper left corner" in finding.claim


def test_a_flat_map_points_nowhere() -> None:
    (finding,) = _found(_each("dominance", [0.0208] * 20, "grad_cam", "logit"))
    assert finding.claim == (
        "The grad_cam heatmaps of the logit are nearly the same in every cell on 20 of 20 images: the hottest of 49 "
        "cells holds 2.08% of the typical one, and would hold 2.04% of a map that is the same everywhere. They point "
        "nowhere."
    )
    assert _found(_each("dominance", [0.03] * 20, "grad_cam", "logit")) == []


def test_one_map_for_all_images_shows_against_the_other_score() -> None:
    """Where both scores have it, as in networks that were never trained, it is no finding."""
    planted = _each("input_dependence", [0.999] * 20, "grad_cam", "logit")
    honest, same = (_each("input_dependence", [value] * 20, "grad_cam", "log_odds") for value in (0.7, 0.985))
    (finding,) = _found([*planted, *honest])
    assert finding.claim == (
        "The grad_cam heatmaps of the logit are nearly the same on every image (cosine with the mean of the others "
        "0.999 on the typical image, above 0.99 on 20 of 20), and those of the log-odds are not (0.70). What they "
        "show does not come from the image."
    )
    assert _found([*planted, *same]) == []
    assert _found(planted) == []


def test_one_map_for_all_classes_is_said() -> None:
    """Where it holds of the runner-up and of a class that was drawn; of two classes there is none to draw."""
    drawn = _each("class_specificity", [0.999] * 20, "hires_cam", "logit", "random_class")
    second = _each("class_specificity", [0.99] * 20, "hires_cam", "logit", "runner_up")
    (finding,) = _found([*second, *drawn])
    assert finding.claim == (
        "The hires_cam maps of the logit are nearly the same whichever class is explained: their cosine with those of "
        "a class drawn by chance is 0.999 on the typical image and above 0.98 on 20 of 20. They do not say why the "
        "model prefers the one class to the other."
    )
    assert _found(second) == []
    apart = _each("class_specificity", [0.3] * 20, "hires_cam", "logit", "random_class")
    assert _found([*second, *apart]) == []


def test_a_map_that_outlives_the_last_layer_is_said() -> None:
    """Copies with all layers random are measured, and are no finding."""
    last = _each("randomisation", [0.995] * 8, "grad_cam", "logit", "last_layer")
    (finding,) = _found([*last, *_each("randomisation", [0.995] * 8, "grad_cam", "logit", "all_layers")])
    assert finding.claim == (
        "The grad_cam maps of the logit stay as they are when the last linear layer is filled with random numbers "
        "(cosine 0.995 on the typical image, above 0.95 on 8 of 8). They do not depend on what that layer has learnt."
    )
    assert _found(_each("randomisation", [0.5] * 8, "grad_cam", "logit", "last_layer")) == []


def test_a_map_that_does_not_go_with_the_picture_is_said_against_the_other_score() -> None:
    """Of the changes, that which it stands least."""
    planted = _each("stability", [0.3] * 8, "layer_cam", "logit", "noise")
    planted += _each("stability", [0.02] * 6, "layer_cam", "logit", "flip")
    honest = [
        one for change in ("noise", "flip") for one in _each("stability", [0.97] * 8, "layer_cam", "log_odds", change)
    ]
    (finding,) = _found([*planted, *honest])
    assert finding.claim == (
        "The layer_cam heatmaps of the logit do not follow the picture when it is flipped left to right, though the "
        "prediction stays: where 1 is the same heatmap, their cosine is 0.02 on the typical image and below 0.50 on 6 "
        "of 6. Those of the log-odds stay (0.97)."
    )
    assert finding.evidence["row"] == (
        "its heatmaps do not follow the picture when it is flipped left to right (6 of 6 images)"
    )
    (finding,) = _found([*planted[:8], *honest])
    assert finding.claim.startswith(
        "The layer_cam heatmaps of the logit change when faint noise is added to the picture, though the prediction "
    )


@pytest.mark.parametrize(
    ("values", "other", "method"),
    [
        ([0.02] * 8, 0.79, "layer_cam"),
        ([0.02] * 3, 0.97, "layer_cam"),
        ([0.02] * 5 + [0.6] * 3, 0.97, "layer_cam"),
        ([0.02] * 8, 0.97, "grad_cam"),
        ([0.02] * 8, 0.97, "layer_cam@features"),
    ],
    ids=["in both scores", "too few images", "on too few of the images", "where channels cancel", "another layer"],
)
def test_a_map_that_honest_networks_may_have_is_none(values: list[float], other: float, method: str) -> None:
    """A network that looks at one side of the canvas has maps that stay there, in both scores."""
    planted = _each("stability", values, method, "logit", "flip")
    assert _found([*planted, *_each("stability", [other] * 8, method, "log_odds", "flip")]) == []
    assert _found(planted) == []


def _audited(model: Classifier, images: torch.Tensor) -> list[Finding]:
    """The findings that heatmaps themselves give, and nothing that a person would have to look at for them."""
    names = ("grad_cam", "hires_cam", "layer_cam", "gradient", "occlusion")
    plan = make_plan(methods_asked=names, scores_asked=SCORES)
    items = ITEMS[: len(images)]
    found = examine(model, Batch(items, images), Tasks(plan, costly=True, probed=True))
    results = [ItemResult(Item(name, name), "key", "audited", predicted=0, predicted_name="0") for name in items]
    verdict = judge(plan, model, Found(facts_of(model), results, found.measurements))
    for row in verdict.panel:
        told = [one for one in verdict.findings if (one.method, one.score) == (row["method"], row["score"])]
        words = [one.evidence["row"] for one in told if one.check in MAP_CHECKS]
        assert set(words) <= set(row["reasons"])
    return [one for one in verdict.findings if one.check in MAP_CHECKS]


def test_an_honest_network_gives_no_finding(digits: tuple[Classifier, torch.Tensor]) -> None:
    assert _audited(*digits) == []


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (Spec.of("corner_shift", strength=1e3), {("placement", "hires_cam"), ("class_specificity", "hires_cam")}),
        (Spec.of("constant_map"), {("dominance", "grad_cam"), ("input_dependence", "grad_cam")}),
        (Spec.of("drawn_target"), {("class_specificity", "grad_cam"), ("randomisation", "grad_cam")}),
    ],
    ids=lambda value: value.name if isinstance(value, Spec) else "",
)
def test_what_is_added_to_every_logit_shows_in_its_maps(
    digits: tuple[Classifier, torch.Tensor], attack: Spec, expected: set[tuple[str, str]]
) -> None:
    """In those of the logit alone."""
    model, images = digits
    found = _audited(attacks.build(attack).twin(model, images), images)
    assert expected <= {(one.check, one.method) for one in found}
    assert {one.score for one in found} == {"logit"}
    assert {one.severity for one in found} == {"medium"}
    for one in found:
        if one.check == "placement":
            assert "in the upper left corner" in one.claim


class Framed(nn.Module):
    """Three classes told apart by the brightness along the edges, of each colour, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 1)
        ring = torch.ones(14, 14)
        ring[2:-2, 2:-2] = 0
        self.register_buffer("ring", ring)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.cells(images) * self.ring).sum(dim=(2, 3))


def test_a_model_that_looks_at_the_edges_alone_is_not_blamed_for_it() -> None:
    """Its heatmaps lie there, and so does what its predictions depend on."""
    torch.manual_seed(0)
    model = wrap(Framed().eval(), input_size=(3, 14, 14), head="softmax", layer="cells")
    images = torch.rand(8, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    tape = Tape(model, Batch(ITEMS[:8], images))
    made = {name: methods.build(name) for name in ("hires_cam", "occlusion")}
    maps = {(name, "log_odds"): method.maps(tape, [LogOdds()])[0] for name, method in made.items()}
    found = Placement().measure(Sight(model, tape, made, maps))
    edges = [one.value for one in found if (one.method, one.against) == ("hires_cam", "border")]
    assert min(edges) > 0.99
    assert _found(found) == []
    (alone,) = _found([one for one in found if one.method == "hires_cam"])
    assert "along the edges" in alone.claim


def test_every_check_of_maps_is_registered() -> None:
    assert set(checks.names()) >= MAP_CHECKS
