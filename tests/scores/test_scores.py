"""Scores against their formulas under autograd, and the exact zero that keeps a shift of all logits out of a map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Scales, Targets
from fukusen.scores import CenteredLogit, Logit, LogOdds, Score, scores, shift_leak

CLASSES = (2, 10, 1000, 21000)
NAMES = ("logit", "centered_logit", "log_odds", "log_probability", "probability")
BLIND = NAMES[1:]
SATURATIONS = (0.0, 20.0, 69.1, 100.0, 300.0, 720.0, 740.0, 2000.0)

each_score = pytest.mark.parametrize("name", NAMES)
each_blind = pytest.mark.parametrize("name", BLIND)
each_count = pytest.mark.parametrize("count", CLASSES)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def _log_odds(z: Tensor, c: int) -> Tensor:
    return z[c] - torch.cat([z[:c], z[c + 1 :]]).logsumexp(dim=0)


NAIVE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "logit": lambda z, c: z[c],
    "centered_logit": lambda z, c: z[c] - z.mean(),
    "log_odds": _log_odds,
    "log_probability": lambda z, c: z.log_softmax(dim=0)[c],
    "probability": lambda z, c: z.softmax(dim=0)[c],
}


def _case(count: int, seed: int = 0, images: int = 3) -> tuple[Logits, Targets]:
    """Ordinary logits; the targets are the winner, the loser and a class in between."""
    noise = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, count, generator=noise, dtype=torch.float64) * 3
    order = logits.argsort(dim=1)
    ranks = torch.tensor([count - 1, 0, count // 2])[:images]
    return logits, order.gather(1, ranks[:, None])[:, 0]


def _saturated(count: int, gap: float, dtype: torch.dtype) -> tuple[Logits, Targets]:
    """Logits where the target is ahead of every other class by ``gap``, and by the same behind."""
    noise = torch.Generator().manual_seed(1)
    ahead = torch.rand(2, count, generator=noise, dtype=torch.float64)
    targets = torch.tensor([0, count - 1])
    ahead[0, 0] += gap
    ahead[1, count - 1] -= gap
    return ahead.to(dtype), targets


def _by_autograd(name: str, logits: Logits, targets: Targets) -> Cotangents:
    rows = []
    for z, c in zip(logits.double(), targets.tolist(), strict=True):
        leaf = z.clone().requires_grad_()
        rows.append(torch.autograd.grad(NAIVE[name](leaf, c), leaf)[0])
    return torch.stack(rows)


def _worst(found: Tensor, expected: Tensor) -> float:
    """The largest error, as a share of each image's largest entry."""
    return float(((found.double() - expected).abs().amax(dim=1) / expected.abs().amax(dim=1)).max())


def _is_zero_in_every_order(cotangents: Cotangents) -> bool:
    """Whether the sum is 0.0 forwards, backwards, shuffled, sorted, by running sums and in exact arithmetic."""
    noise = torch.Generator().manual_seed(2)
    count = cotangents.shape[1]
    orders = [torch.arange(count), torch.arange(count - 1, -1, -1)]
    orders += [torch.randperm(count, generator=noise) for _ in range(3)]
    orders += [cotangents[0].argsort(), cotangents[0].abs().argsort()]
    for order in orders:
        shuffled = cotangents[:, order]
        if bool((shuffled.sum(dim=1) != 0).any()) or bool((shuffled.cumsum(dim=1)[:, -1] != 0).any()):
            return False
    return all(math.fsum(row) == 0.0 for row in cotangents.tolist())


def test_the_five_scores_are_registered() -> None:
    """The names of the contract, in its order."""
    assert scores.names()[:5] == NAMES


@each_count
@each_score
def test_cotangent_is_the_gradient_of_the_formula(name: str, count: int) -> None:
    """In float64, to 1e-12 of the largest entry."""
    logits, targets = _case(count)
    found = scores.build(name).cotangent(logits, targets)
    assert found.dtype == torch.float64
    assert _worst(found, _by_autograd(name, logits, targets)) < 1e-12


@each_count
@each_score
def test_float32_cotangent_is_off_by_one_rounding_step(name: str, count: int) -> None:
    """No entry is further from the true gradient than float32's step at the sum of magnitudes."""
    logits, targets = _case(count)
    logits = logits.float()
    expected = _by_autograd(name, logits, targets)
    found = scores.build(name).cotangent(logits, targets)
    steps = expected.abs().sum(dim=1, keepdim=True) * torch.finfo(torch.float32).eps
    assert found.dtype == torch.float32
    assert bool(((found.double() - expected).abs() <= 2 * steps).all())


@each_dtype
@each_blind
@pytest.mark.parametrize(
    ("count", "shift"),
    [(2, 0.0), (2, 1e6), (10, 0.0), (10, -1e6), (1000, 0.0), (1000, -1e3), (1000, 1e6), (1000, -1e6), (21000, 1e6)],
)
def test_sum_is_exactly_zero(name: str, count: int, dtype: torch.dtype, shift: float) -> None:
    """However large a number is added to every logit, and in whatever order the entries are added."""
    logits, targets = _case(count)
    found = scores.build(name).cotangent((logits + shift).to(dtype), targets)
    assert _is_zero_in_every_order(found)
    assert bool((found != 0).any())


@each_dtype
@each_blind
@pytest.mark.parametrize("gap", SATURATIONS)
@pytest.mark.parametrize("count", [2, 1000])
def test_sum_is_exactly_zero_when_saturated(name: str, count: int, dtype: torch.dtype, gap: float) -> None:
    """Also where 1 - p is 1e-30, and where it is too small for the dtype; never NaN."""
    logits, targets = _saturated(count, gap, dtype)
    score = scores.build(name)
    found = score.cotangent(logits, targets)
    assert bool(found.isfinite().all())
    assert _is_zero_in_every_order(found)
    assert shift_leak(score, logits, targets).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("gap", SATURATIONS)
def test_log_odds_does_not_saturate(gap: float) -> None:
    """Its cotangent is one at the target however sure the network is, and its value is the gap."""
    logits, targets = _saturated(10, gap, torch.float64)
    found = LogOdds().cotangent(logits, targets)
    assert found.gather(1, targets[:, None])[:, 0].tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert _worst(found, _by_autograd("log_odds", logits, targets)) < 1e-12
    naive = [NAIVE["log_odds"](z, c).item() for z, c in zip(logits, targets.tolist(), strict=True)]
    assert LogOdds().value(logits, targets).tolist() == pytest.approx(naive, rel=1e-12)


@each_count
@each_score
def test_value_is_the_formula(name: str, count: int) -> None:
    """In float64, from logits of either precision."""
    logits, targets = _case(count)
    for given_logits in (logits, logits.float()):
        exact = given_logits.double()
        expected = [NAIVE[name](z, c).item() for z, c in zip(exact, targets.tolist(), strict=True)]
        found = scores.build(name).value(given_logits, targets)
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@each_count
@each_score
def test_factors_make_the_cotangent(name: str, count: int) -> None:
    """Scale times the direction's cotangent is the score's own; a direction is its own direction."""
    logits, targets = _case(count)
    score = scores.build(name)
    direction, scale = score.factors(logits, targets)
    assert scale.dtype == torch.float64
    assert bool((scale > 0).all())
    assert direction.factors(logits, targets)[0] == direction
    scaled = scale[:, None] * direction.cotangent(logits, targets)
    assert _worst(scaled, score.cotangent(logits, targets)) < 1e-12


def test_five_scores_have_three_directions() -> None:
    """Log-odds, log-probability and probability share one."""
    logits, targets = _case(10)
    directions = {scores.build(name).factors(logits, targets)[0] for name in NAMES}
    assert directions == {Logit(), CenteredLogit(), LogOdds()}


@each_dtype
@each_count
def test_shift_leak_of_the_five(count: int, dtype: torch.dtype) -> None:
    """One for the logit, exactly zero for the rest."""
    logits, targets = _case(count)
    logits = logits.to(dtype)
    assert shift_leak(Logit(), logits, targets).tolist() == [1.0] * 3
    for name in BLIND:
        assert shift_leak(scores.build(name), logits, targets).tolist() == [0.0] * 3


@dataclass(frozen=True)
class _Written:
    """A user's own score, whose cotangent is autograd's."""

    formula: str
    name: ClassVar[str] = "written"
    source: ClassVar[str] = "lerma2023prepost"
    meaning: ClassVar[str] = "a user's own"

    def _of(self, z: Tensor, c: int) -> Tensor:
        runner_up = z.detach().clone().index_fill(0, torch.tensor([c]), -math.inf).argmax()
        if self.formula == "rest":
            return z[c] + z.log_softmax(dim=0)[c]
        weight = {"finer 0.6": 0.6, "max contrast": 1.0}[self.formula]
        return z[c] - weight * z[runner_up]

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """The formula."""
        return torch.stack([self._of(z, c) for z, c in zip(logits.double(), targets.tolist(), strict=True)])

    def factors(self, logits: Logits, targets: Targets) -> tuple[Score, Scales]:
        """Proportional to nothing else."""
        return self, torch.ones(len(targets), dtype=torch.float64, device=logits.device)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """The formula's gradient."""
        leaf = logits.detach().clone().requires_grad_()
        total = torch.stack([self._of(z, c) for z, c in zip(leaf, targets.tolist(), strict=True)]).sum()
        return torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize(("formula", "leak"), [("rest", 1.0), ("finer 0.6", 0.4), ("max contrast", 0.0)])
def test_shift_leak_of_a_users_own_score(formula: str, leak: float) -> None:
    """It is computed, so ReST leaks whole and Finer-CAM in part, whatever their authors say."""
    logits, targets = _case(10)
    score = _Written(formula)
    assert isinstance(score, Score)
    assert shift_leak(score, logits, targets).tolist() == pytest.approx([leak] * 3, abs=1e-12)
    moved = score.value(logits + 5.0, targets) - score.value(logits, targets)
    assert moved.tolist() == pytest.approx([5.0 * leak] * 3, abs=1e-9)


# Multiples of 1/1024 below 50, shifted by whole numbers up to a million: every sum is exact in float64.
rows = st.lists(st.integers(-50 * 1024, 50 * 1024), min_size=2, max_size=12)
shifts = st.integers(-1_000_000, 1_000_000)


def _from(row: list[int], where: int) -> tuple[Logits, Targets]:
    return torch.tensor([row], dtype=torch.float64) / 1024, torch.tensor([where % len(row)])


@each_blind
@given(row=rows, where=st.integers(0, 11), shift=shifts)
def test_a_shift_changes_nothing(name: str, row: list[int], where: int, shift: int) -> None:
    """Neither the value nor the cotangent, up to float64's rounding of the shifted logits' mean."""
    logits, targets = _from(row, where)
    score = scores.build(name)
    moved = score.value(logits + shift, targets) - score.value(logits, targets)
    assert abs(moved.item()) < 1e-8
    before, after = score.cotangent(logits, targets), score.cotangent(logits + shift, targets)
    assert float((after - before).abs().max()) < 1e-8
    assert after.sum().item() == 0.0


@given(row=rows, where=st.integers(0, 11), shift=shifts)
def test_a_shift_enters_the_logit_whole(row: list[int], where: int, shift: int) -> None:
    """Its value moves by the shift, its cotangent not at all."""
    logits, targets = _from(row, where)
    assert (Logit().value(logits + shift, targets) - Logit().value(logits, targets)).item() == shift
    assert torch.equal(Logit().cotangent(logits + shift, targets), Logit().cotangent(logits, targets))


@given(row=rows, where=st.integers(0, 11))
def test_centred_and_common_mode_make_the_logit(row: list[int], where: int) -> None:
    """In value and in cotangent, where the common mode is the mean of all logits."""
    logits, targets = _from(row, where)
    value = CenteredLogit().value(logits, targets) + logits.mean(dim=1)
    assert value.item() == pytest.approx(Logit().value(logits, targets).item(), abs=1e-12)
    whole = CenteredLogit().cotangent(logits, targets) + 1 / logits.shape[1]
    assert float((whole - Logit().cotangent(logits, targets)).abs().max()) < 1e-12


@given(row=rows, where=st.integers(0, 11))
def test_values_stay_in_range(row: list[int], where: int) -> None:
    """A probability is one, its logarithm is not positive, and log-odds are log p less log(1 - p)."""
    logits, targets = _from(row, where)
    value = {name: scores.build(name).value(logits, targets).item() for name in NAMES}
    assert 0.0 <= value["probability"] <= 1.0
    assert value["log_probability"] <= 1e-12
    assert math.exp(value["log_probability"]) == pytest.approx(value["probability"], rel=1e-9)
    if 1e-6 < value["probability"] < 1 - 1e-6:
        odds = math.log(value["probability"] / (1 - value["probability"]))
        assert value["log_odds"] == pytest.approx(odds, rel=1e-6, abs=1e-6)


@each_dtype
@each_score
def test_images_do_not_meet(name: str, dtype: torch.dtype) -> None:
    """Values and cotangents of a batch are those of its images one by one, to the last bit."""
    logits, targets = _case(100)
    logits, score = logits.to(dtype), scores.build(name)
    alone = [score.cotangent(logits[i : i + 1], targets[i : i + 1]) for i in range(3)]
    assert torch.equal(score.cotangent(logits, targets), torch.cat(alone))
    values = [score.value(logits[i : i + 1], targets[i : i + 1]) for i in range(3)]
    assert torch.equal(score.value(logits, targets), torch.cat(values))
