"""An honest head that measures distances gives every logit the same number: it is told, and a repair cures it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fukusen.arrays import Batch
from fukusen.auditing import Found, examine, facts_of, judge, make_plan
from fukusen.auditing.plan import Tasks
from fukusen.models import Classifier, wrap
from fukusen.records import Finding, Item, ItemResult
from fukusen.repairs import repaired

OF_ALL_LOGITS = {"shift_share", "shift_in_map"}
UNTIL_REPAIRED = "Do not show heatmaps of logits of this model; fukusen repair takes it away."


class Distances(nn.Module):
    """Minus the squared distance from each class's prototype: a linear layer's answer less the features' own square."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(linear.weight.detach() / 2)
        self.bias = nn.Parameter(linear.bias.detach() + self.prototypes.detach().square().sum(dim=1))

    def forward(self, features: Tensor) -> Tensor:
        return self.bias - torch.cdist(features, self.prototypes).square()


def _measuring(model: Classifier) -> Classifier:
    """The digits' network with such a head; its predictions are the same."""
    net = cast("nn.Sequential", model.net)
    head = Distances(cast("nn.Linear", net[-1]))
    return wrap(nn.Sequential(*net[:-1], head).eval(), input_size=(1, 20, 20), head="softmax", layer="5")


def _told(model: Classifier, images: Tensor) -> tuple[str, dict[str, Finding]]:
    """The status, and the findings about the model."""
    plan = make_plan(methods_asked=("grad_cam", "gradient"), scores_asked=("logit", "log_odds"))
    items = tuple(f"{number}.png" for number in range(len(images)))
    found = examine(model, Batch(items, images), Tasks(plan, costly=True, probed=True))
    results = [ItemResult(Item(name, name), "key", "audited", predicted=0, predicted_name="0") for name in items]
    verdict = judge(plan, model, Found(facts_of(model), results, found.measurements))
    return verdict.status, {one.check: one for one in verdict.findings if one.scope == "model"}


def test_a_head_of_distances_is_told_and_a_repair_cures_it(digits: tuple[Classifier, Tensor]) -> None:
    """The number is the features' squared length; nobody put it there, and no prediction depends on it."""
    model, images = digits
    measuring = _measuring(model)
    was, now = (one.probabilities(one.logits(images)) for one in (model, measuring))
    assert torch.allclose(was, now, atol=1e-5)
    assert not OF_ALL_LOGITS & _told(model, images)[1].keys()
    status, told = _told(measuring, images)
    assert status != "pass"
    assert told.keys() >= OF_ALL_LOGITS
    assert all(told[check].claim.endswith(UNTIL_REPAIRED) for check in OF_ALL_LOGITS)
    assert "a head that measures distances has one, too" in told["shift_share"].claim
    fixed = repaired(measuring, [images])
    assert fixed.promise.kept
    assert not (OF_ALL_LOGITS | {"agreement", "score_disagreement"}) & _told(fixed, images)[1].keys()
