"""Whether heatmaps depend on the image and on the class, against plain loops in float64."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fukusen.arrays import Batch, Images
from fukusen.attacks import CornerShift
from fukusen.checks import ClassSpecificity, Sight
from fukusen.checks.dependence import NEGATION, NO_CAM, RANDOM, RUNNER_UP, TOO_FEW, likeness_to_others
from fukusen.checks.heat import EMPTY
from fukusen.models import Classifier, wrap
from fukusen.records import Measurement, Value
from fukusen.tape import Tape


def _shares(seed: int, count: int) -> list[torch.Tensor]:
    cells = torch.rand(count, 7, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return list(cells / cells.sum(dim=(1, 2), keepdim=True))


def _slow(shares: list[torch.Tensor], own: int) -> float:
    """The cosine with the mean of the others, cell by cell."""
    one = shares[own].flatten().tolist()
    others = [other.flatten().tolist() for number, other in enumerate(shares) if number != own]
    mean = [sum(values) / len(values) for values in zip(*others, strict=True)]
    dot = sum(a * b for a, b in zip(one, mean, strict=True))
    return dot / sqrt(sum(a * a for a in one)) / sqrt(sum(b * b for b in mean))


def test_likeness_is_what_loops_say() -> None:
    shares = _shares(0, 6)
    assert likeness_to_others(shares) == pytest.approx([_slow(shares, number) for number in range(6)])


@given(seed=st.integers(0, 10**6), count=st.integers(4, 9))
def test_it_is_between_nothing_and_the_same(seed: int, count: int) -> None:
    """The same map on all images gives 1, maps that never overlap give 0, and the images' order is nothing."""
    shares = _shares(seed, count)
    found = likeness_to_others(shares)
    assert all(0 <= value <= 1 for value in found)
    assert likeness_to_others(shares[::-1]) == pytest.approx(found[::-1])
    assert likeness_to_others([shares[0]] * count) == pytest.approx([1.0] * count)
    apart = torch.eye(49, dtype=torch.float64)[:count].reshape(count, 7, 7)
    assert likeness_to_others(list(apart)) == pytest.approx([0.0] * count)


def test_a_few_images_say_nothing() -> None:
    """Neither do images without a heatmap, and they take nothing from the others."""
    shares = _shares(1, 4)
    assert likeness_to_others(shares[:3]) == [TOO_FEW] * 3
    assert likeness_to_others([*shares[:3], EMPTY]) == [*[TOO_FEW] * 3, EMPTY]
    assert likeness_to_others([*shares, EMPTY]) == [*likeness_to_others(shares), EMPTY]


def _named(found: list[Measurement]) -> dict[tuple[str | None, ...], Value]:
    return {(one.item, one.method, one.score, one.against): one.value for one in found}


def test_classes_are_compared_as_loops_say(small: Classifier, see: Callable[..., Sight]) -> None:
    """HiResCAM of the runner-up in the logit and in the log-odds, by autograd in float64."""
    sight = see(small, "hires_cam", "layer_cam")
    found = _named(ClassSpecificity().measure(sight))
    assert {(method, score, against) for _, method, score, against in found} == {
        ("hires_cam", score, against) for score in ("logit", "log_odds") for against in (RUNNER_UP, RANDOM)
    }
    net = small.in_double().net
    for number, item in enumerate(sight.tape.batch.items):
        cells = net[:5](sight.tape.batch.images[number : number + 1].double()).detach().requires_grad_()
        logits = net[5:](cells)[0]
        first, second = logits.argsort(descending=True)[:2].tolist()
        for score in ("logit", "log_odds"):
            maps = []
            for own in (first, second):
                others = torch.cat([logits[:own], logits[own + 1 :]])
                value = logits[own] - (others.logsumexp(0) if score == "log_odds" else 0)
                (slope,) = torch.autograd.grad(value, cells, retain_graph=True)
                maps.append([float((slope * cells.detach())[0, :, i, j].sum()) for i in range(12) for j in range(12)])
            dot = sum(a * b for a, b in zip(*maps, strict=True))
            sizes = [sqrt(sum(a * a for a in one)) for one in maps]
            assert found[item, "hires_cam", score, RUNNER_UP] == pytest.approx(dot / sizes[0] / sizes[1], abs=1e-4)


def test_a_shift_makes_all_classes_alike(small: Classifier, images: Images, see: Callable[..., Sight]) -> None:
    """In the logit, and not in the log-odds."""
    before = _named(ClassSpecificity().measure(see(small, "hires_cam")))
    after = _named(ClassSpecificity().measure(see(CornerShift(1e4).twin(small, images), "hires_cam")))
    for key, value in after.items():
        if key[2] == "logit":
            assert value > 0.999 > before[key]
        else:
            assert value == pytest.approx(before[key], abs=1e-2)


def test_two_classes_are_opposite_in_the_log_odds(images: Images, see: Callable[..., Sight]) -> None:
    """By definition, so nothing is measured there; and there is no class to draw."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    model = wrap(net.eval(), input_size=(3, 24, 24), head="softmax")
    found = _named(ClassSpecificity().measure(see(model, "grad_cam")))
    assert {(score, against) for _, _, score, against in found} == {("logit", RUNNER_UP), ("log_odds", RUNNER_UP)}
    for (_, _, score, _), value in found.items():
        assert (value == NEGATION) == (score == "log_odds")


def test_the_class_that_is_drawn_depends_on_the_image_alone(small: Classifier, see: Callable[..., Sight]) -> None:
    """Not on those that are looked at with it; and it is neither the explained class nor the runner-up."""
    tape = see(small).tape
    drawn = ClassSpecificity()._others(tape)
    assert not bool((drawn[RANDOM] == drawn[RUNNER_UP]).any() | (drawn[RANDOM] == tape.targets).any())
    alone = [
        ClassSpecificity()._others(Tape(small, Batch(("x",), tape.batch.images[number : number + 1])))[RANDOM]
        for number in range(3)
    ]
    assert torch.cat(alone).equal(drawn[RANDOM])
    seeds = [ClassSpecificity(seed=seed)._others(tape)[RANDOM].tolist() for seed in range(8)]
    assert len({tuple(classes) for classes in seeds}) > 1


def test_without_a_signed_map_there_is_nothing_to_compare(small: Classifier, see: Callable[..., Sight]) -> None:
    assert [one.value for one in ClassSpecificity().measure(see(small, "layer_cam"))] == [NO_CAM] * 3
