"""Contrasts against their formulas under autograd, and the exact zero of their cotangents' sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fukusen.errors import CallError
from fukusen.models.heads import Head
from fukusen.scores import Contrast, LogOdds, MaxContrast, cotangent_of, shift_leak, value_of

Z = torch.tensor([[2.0, 1.0, -0.5], [0.25, 3.0, 2.5]], dtype=torch.float64)
C = torch.tensor([0, 2])


def test_the_largest_other_class_is_the_rival() -> None:
    assert MaxContrast().value(Z, C).tolist() == pytest.approx([1.0, -0.5])
    assert MaxContrast().cotangent(Z, C).tolist() == [[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]


def test_a_given_class_is_the_rival() -> None:
    assert Contrast(against=0).value(Z, C).tolist() == pytest.approx([0.0, 2.25])
    assert Contrast(against=0).cotangent(Z, C).tolist() == [[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]


@pytest.mark.parametrize("score", [MaxContrast(), Contrast(1)])
def test_the_cotangent_is_the_gradient_of_the_value(score: MaxContrast | Contrast) -> None:
    """By central differences of the value."""
    found = score.cotangent(Z, C)
    for image in range(2):
        for k in range(3):
            step = torch.zeros_like(Z)
            step[image, k] = 1e-6
            slope = (score.value(Z + step, C) - score.value(Z - step, C))[image] / 2e-6
            assert float(slope) == pytest.approx(float(found[image, k]), abs=1e-8)


def test_between_two_classes_the_runner_up_is_all_there_is() -> None:
    """Then the largest contrast is the log-odds."""
    z, c = torch.tensor([[1.5, -0.25]], dtype=torch.float64), torch.tensor([0])
    assert torch.equal(MaxContrast().cotangent(z, c), LogOdds().cotangent(z, c))


@given(
    row=st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6), where=st.integers(0, 5), shift=st.floats(-9, 9)
)
def test_a_shift_changes_nothing(row: list[float], where: int, shift: float) -> None:
    z, c = torch.tensor([row], dtype=torch.float64), torch.tensor([where % len(row)])
    for score in (MaxContrast(), Contrast(0)):
        assert shift_leak(score, z, c).tolist() == [0.0]
        torch.testing.assert_close(score.value(z + shift, c), score.value(z, c), atol=1e-12, rtol=1e-12)


def test_bad_rivals_are_refused() -> None:
    with pytest.raises(CallError) as wrong:
        Contrast(-1)
    assert str(wrong.value) == (
        "The 'against' parameter of Contrast must be the index of a class, an int >= 0. Got -1 instead."
    )
    with pytest.raises(CallError) as absent:
        Contrast(3).cotangent(Z, C)
    assert str(absent.value) == (
        "The 'against' parameter of Contrast must be the index of a class, from 0 to 2 for this model. Got 3 instead."
    )


def test_of_independent_labels_a_given_other_label_is_the_rival() -> None:
    """And the strongest rival is the label's own absence, whose logit is zero."""
    head = Head("sigmoid")
    assert value_of(Contrast(1), head, Z, C).tolist() == pytest.approx([1.0, -0.5])
    assert cotangent_of(Contrast(1), head, Z, C).tolist() == [[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]
    assert value_of(MaxContrast(), head, Z, C).tolist() == pytest.approx([2.0, 2.5])
    assert cotangent_of(MaxContrast(), head, Z, C).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
