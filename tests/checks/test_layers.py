"""Heatmaps at two layers, against a plain sum over cells."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import pytest
import torch

from fukusen.arrays import Batch, Images
from fukusen.checks import LayerConsistency, Sight
from fukusen.checks.heat import EMPTY
from fukusen.checks.layers import ONE_LAYER
from fukusen.methods import layers_of, methods
from fukusen.models import Classifier
from fukusen.scores import Logit
from fukusen.tape import Tape


def _seen(model: Classifier, images: Images, *names: str) -> Sight:
    made = {name: methods.build(name) for name in names}
    tape = Tape(model, Batch(("a", "b", "c"), images), layers=layers_of(list(made.values()), model))
    maps = {(name, "logit"): method.maps(tape, [Logit()])[0] for name, method in made.items()}
    return Sight(model, tape, made, maps)


def test_it_is_the_cosine_of_two_heatmaps(small: Classifier, images: Images) -> None:
    """On 7 x 7 cells, without what speaks against the class; each further layer against the first."""
    sight = _seen(small, images, "layer_cam", "layer_cam@1", "layer_cam@2")
    planted = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    planted[1, 2] = -1.0
    sight.maps["layer_cam", "logit"], sight.maps["layer_cam@1", "logit"] = planted
    found = {(one.item, one.method, one.against): one.value for one in LayerConsistency().measure(sight)}
    assert {key[1:] for key in found} == {("layer_cam", "layer_cam@1/logit"), ("layer_cam", "layer_cam@2/logit")}
    for number, item in enumerate("ab"):
        first, second = ([max(0.0, one) for one in cells.flatten().tolist()] for cells in planted[:, number])
        dot = sum(one * other for one, other in zip(first, second, strict=True))
        sizes = [sqrt(sum(one * one for one in cells)) for cells in (first, second)]
        assert found[item, "layer_cam", "layer_cam@1/logit"] == pytest.approx(dot / sizes[0] / sizes[1])
    assert found["c", "layer_cam", "layer_cam@1/logit"] == EMPTY


def test_one_layer_is_nothing_to_compare(small: Classifier, see: Callable[..., Sight]) -> None:
    assert [one.value for one in LayerConsistency().measure(see(small, "grad_cam", "layer_cam"))] == [ONE_LAYER] * 3
