"""Every image that goes forward is counted, wherever the pass began."""

from __future__ import annotations

import torch
from torch import nn

from fukusen.arrays import Batch
from fukusen.methods import methods
from fukusen.models import Classifier, wrap
from fukusen.models.counting import forwards_counted
from fukusen.records import Spec
from fukusen.scores import scores
from fukusen.tape import Tape

ALL = [scores.build(name) for name in ("logit", "centered_logit", "log_odds", "log_probability", "probability")]


def _model() -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return wrap(net.eval(), input_size=(3, 12, 12), head="softmax")


def _cost(spec: str | Spec, asked: int) -> int:
    model = _model()
    batch = Batch(tuple("abcde"), torch.rand(5, 3, 12, 12))
    with forwards_counted() as count:
        methods.build(spec).maps(Tape(model, batch), ALL[:asked])
    return count.images


def test_a_tape_is_one_pass_whatever_is_asked_of_it() -> None:
    assert _cost("grad_cam", 1) == _cost("grad_cam", 5) == _cost("gradient", 5) == 5


def test_five_scores_cost_no_more_forward_passes_than_one() -> None:
    """Of every method that hides, masks or walks a path."""
    for spec in (
        Spec.of("occlusion", grid=3),
        Spec.of("sliding_occlusion", size=4, stride=4),
        Spec.of("rise", masks=8),
        Spec.of("score_cam"),
        Spec.of("ablation_cam"),
        Spec.of("lime", samples=8, segments=4),
        Spec.of("kernel_shap", samples=8, segments=4),
        Spec.of("integrated_gradients", steps=4),
    ):
        assert _cost(spec, 1) == _cost(spec, 5) > 5, spec


def test_rows_that_an_edit_makes_are_counted() -> None:
    model = _model()
    assert model.layer is not None
    with forwards_counted() as count:
        model.run(torch.rand(1, 3, 12, 12), edits={model.layer: lambda output: output.expand(7, -1, -1, -1)})
    assert count.images == 7


def test_counts_may_be_nested_and_end() -> None:
    model = _model()
    with forwards_counted() as outer:
        model.logits(torch.rand(2, 3, 12, 12))
        with forwards_counted() as inner:
            model.logits(torch.rand(3, 3, 12, 12))
    model.logits(torch.rand(4, 3, 12, 12))
    assert (outer.images, inner.images) == (5, 3)
