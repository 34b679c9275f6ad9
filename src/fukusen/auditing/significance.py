"""How unusual a number is beside a reference's, and which of many can be called unusual together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from scipy.stats import wilcoxon


def conformal(value: float, reference: Sequence[float], *, larger_is_worse: bool) -> float:
    """The conformal p-value of a number: the share of the reference, itself counted in, that is at least as extreme.

    Where the number comes from the same distribution as the reference's, it is below any level at most that often,
    whatever the distribution. Source: vovk2005algorithmic.

    Args:
        value: the number.
        reference: numbers of honest models, sorted from the smallest to the largest.
        larger_is_worse: which side is extreme.

    Returns:
        From 1/(n + 1) to 1.

    Example:
        >>> conformal(9.0, [1.0, 2.0, 3.0], larger_is_worse=True)
        0.25
    """
    if larger_is_worse:
        extreme = len(reference) - bisect_left(reference, value)
    else:
        extreme = len(reference) - bisect_left([-one for one in reversed(reference)], -value)
    return (1 + extreme) / (1 + len(reference))


def by_chance(values: Sequence[float], bound: float) -> float:
    """The chance that numbers lie so far below a bound together where each is as likely as far above it.

    Wilcoxon's signed-rank test, one-sided. Source: wilcoxon1945individual.

    Args:
        values: at least one, not all of them on the bound.
        bound: that they should not lie below.

    Example:
        >>> by_chance([-0.1, -0.2, -0.3], 0.0)
        0.125
    """
    return float(wilcoxon([value - bound for value in values], alternative="less").pvalue)


def discoveries(p_values: Sequence[float], level: float) -> list[bool]:
    """Which p-values may be called unusual, so that at most a share ``level`` of those called is expected to be chance.

    The step-up procedure of Benjamini and Hochberg. Source: benjamini1995controlling.

    Args:
        p_values: of all that was looked at.
        level: the false discovery rate, between 0 and 1.

    Example:
        >>> discoveries([0.01, 0.5, 0.03, 0.9], 0.1)
        [True, False, True, False]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    passed = [rank for rank, place in enumerate(order, 1) if p_values[place] <= level * rank / len(order)]
    called = set(order[: max(passed, default=0)])
    return [place in called for place in range(len(p_values))]
