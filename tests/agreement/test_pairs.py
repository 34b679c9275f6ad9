"""Pairs keep their reasons, and measuring in steps changes nothing."""

from __future__ import annotations

import pytest
import torch

from fukusen.agreement import Cosine, Pairs, Ssim, TopIou, pairs
from fukusen.agreement.pairs import dot_products, each_pair, pairs_of
from fukusen.records import Undefined

VALUES = torch.tensor([1.0, 3.0, 5.0, 9.0], dtype=torch.float64).expand(2, 2, 4)


def _mask(*rows: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def test_the_gravest_fault_is_the_reason() -> None:
    found = pairs_of(
        VALUES, ("is torn", _mask((0, 0, 1, 1), (0, 0, 0, 1))), ("is blank", _mask((0, 1, 1, 0), (0, 1, 1, 0)))
    )
    assert [found.value(0, 1, image) for image in range(4)] == [
        1.0,
        Undefined("both maps are blank"),
        Undefined("one of the two maps is torn"),
        Undefined("both maps are torn"),
    ]
    assert found.value(1, 1, 3) == found.value(-1, -1, -1) == Undefined("both maps are torn")
    assert found.value(1, 1, 2) == Undefined("both maps are blank")
    assert found.defined[0, 1].tolist() == [True, False, False, False]


def test_where_there_is_no_number_stands_a_zero() -> None:
    found = pairs_of(torch.full((1, 1, 2), torch.nan, dtype=torch.float64), ("is torn", _mask((1, 1))))
    assert found.values.tolist() == [[[0.0, 0.0]]]


def test_the_median_is_over_the_images_with_a_number() -> None:
    bare = Pairs(VALUES, torch.zeros(2, 2, 4, dtype=torch.int64))
    assert bare.median(0, 1) == 4.0
    assert pairs_of(VALUES, ("is torn", _mask((0, 0, 0, 1), (0, 0, 0, 0)))).median(0, 1) == 3.0
    assert pairs_of(VALUES, ("is torn", _mask((0, 0, 0, 1), (0, 0, 0, 0)))).median(1, 1) == 4.0


def test_the_median_of_nothing_names_every_cause() -> None:
    found = pairs_of(
        VALUES, ("is torn", _mask((1, 0, 0, 0), (0, 0, 0, 0))), ("is blank", _mask((0, 1, 1, 1), (0, 1, 1, 1)))
    )
    assert found.median(0, 1) == Undefined(
        "there is no number for any image: one of the two maps is torn or both maps are blank"
    )


def test_pairs_are_not_compared_by_their_tensors() -> None:
    first, second = (Pairs(VALUES, torch.zeros(2, 2, 4, dtype=torch.int64)) for _ in range(2))
    assert first != second
    assert first == first  # noqa: PLR0124


@pytest.mark.parametrize("step", [1, 50, 1000])
def test_steps_of_any_size_measure_the_same(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(4, 3, 12, 11, generator=torch.Generator().manual_seed(0))
    whole = [agreement.pairs(maps).values for agreement in (Ssim(side=11), TopIou())]
    monkeypatch.setattr(pairs, "VALUES_AT_ONCE", step)
    stepped = [agreement.pairs(maps).values for agreement in (Ssim(side=11), TopIou())]
    torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-12)


def test_each_pair_is_given_the_right_maps() -> None:
    maps = torch.arange(6.0).view(3, 2, 1)
    numbers = maps.flatten()
    measured = each_pair(maps, lambda left, right: 10 * numbers[left] + numbers[right])
    expected = [[[10 * min(i, j) * 2 + 10 * b + max(i, j) * 2 + b for b in (0, 1)] for j in range(3)] for i in range(3)]
    assert measured.tolist() == expected


def test_dot_products_of_every_two() -> None:
    maps = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])
    assert dot_products(maps)[..., 0].tolist() == [[5.0, 1.0], [1.0, 10.0]]


def test_a_panel_of_one_map_has_one_pair() -> None:
    assert Cosine().pairs(torch.ones(1, 1, 2, 2)).values.shape == (1, 1, 1)
