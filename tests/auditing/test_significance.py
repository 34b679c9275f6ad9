"""Conformal p-values and the false discovery rate: their guarantees, on numbers drawn by chance."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fukusen.auditing.significance import by_chance, conformal, discoveries

numbers = st.floats(-5, 5, allow_nan=False)


@given(numbers, st.lists(numbers), st.booleans())
def test_it_is_the_share_that_is_as_extreme(value: float, reference: list[float], larger_is_worse: bool) -> None:
    extreme = sum(one >= value if larger_is_worse else one <= value for one in reference)
    found = conformal(value, sorted(reference), larger_is_worse=larger_is_worse)
    assert found == (1 + extreme) / (1 + len(reference))


@pytest.mark.parametrize("larger_is_worse", [True, False])
def test_of_the_same_distribution_few_are_below_a_level(larger_is_worse: bool) -> None:
    """Whatever the distribution: here a lopsided one."""
    chance = random.Random(0)
    below = 0
    for _ in range(2000):
        *reference, value = (chance.lognormvariate(0, 2) for _ in range(40))
        below += conformal(value, sorted(reference), larger_is_worse=larger_is_worse) <= 0.1
    assert 0.07 < below / 2000 < 0.12


@given(st.lists(st.integers(-50, 50).filter(bool), min_size=1, max_size=8, unique_by=abs))
def test_the_signed_rank_test_counts_every_outcome(values: list[int]) -> None:
    """Of all ways to choose signs, how many give positive ranks as small a sum."""
    ranks = {abs(value): rank for rank, value in enumerate(sorted(values, key=abs), 1)}
    sum_of = sum(ranks[value] for value in values if value > 0)
    ways = [
        sum(rank for rank, up in zip(ranks.values(), signs, strict=True) if up)
        for signs in product((0, 1), repeat=len(values))
    ]
    expected = sum(way <= sum_of for way in ways) / len(ways)
    assert by_chance([value + 0.5 for value in values], 0.5) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.5))
def test_it_is_the_largest_set_that_the_rule_allows(p_values: list[float], level: float) -> None:
    """By trying every size."""
    order = sorted(p_values)
    most = max((k for k in range(len(order) + 1) if k == 0 or order[k - 1] <= level * k / len(order)), default=0)
    found = discoveries(p_values, level)
    assert sum(found) == most
    called = [p for p, yes in zip(p_values, found, strict=True) if yes]
    assert sorted(called) == order[:most]


def test_few_discoveries_are_chance() -> None:
    """On average at most the level, with 30 honest numbers among 40."""
    chance = random.Random(1)
    shares = []
    for _ in range(400):
        reference = sorted(chance.gauss(0, 1) for _ in range(400))
        values = [chance.gauss(0, 1) for _ in range(30)] + [chance.gauss(6, 1) for _ in range(10)]
        found = discoveries([conformal(value, reference, larger_is_worse=True) for value in values], 0.1)
        shares.append(sum(found[:30]) / max(1, sum(found)))
        assert sum(found[30:]) >= 5
    assert sum(shares) / len(shares) < 0.1
