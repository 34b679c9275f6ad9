"""Which number about the class is explained, as a cotangent on the logits, with its shift leak.

A score is a function s(z) of the logits of one image and of the class c that is explained. A gradient map of it is the
Jacobian of the network applied to the cotangent v = ds/dz, so adding t(x) to every logit moves the map exactly when
sum(v) != 0. Cotangents are built from detached logits centred in float64, and those whose sum must be zero are rounded
to a binary grid on which every partial sum is exact: in any order of summation their sum is zero to the last bit, in
the precision of the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Scales, Targets
from fukusen.registry import Registry

Factors = tuple["Score", Scales]


@runtime_checkable
class Score(Protocol):
    """What every score offers; a frozen dataclass that may have parameters and holds no model.

    Example:
        >>> import torch
        >>> z, c = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
        >>> LogOdds().cotangent(z, c).sum().item()
        0.0
    """

    name: ClassVar[str]
    source: ClassVar[str]
    meaning: ClassVar[str]

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """The score of each image in float64, shape (b,)."""
        ...

    def factors(self, logits: Logits, targets: Targets) -> Factors:
        """A direction (a score) and a positive scale (b,), so that this score's cotangent is scale x direction's.

        Scores with the same direction share one backward pass. A score that is proportional to no other returns
        itself and ones.
        """
        ...

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """The gradient of the score with respect to the logits, shape (b, k), in the dtype of ``logits``."""
        ...


scores: Registry[Score] = Registry("score")


def centred(logits: Logits) -> Logits:
    """The logits in float64 with each image's mean taken away: what softmax can see of them."""
    exact = logits.detach().double()
    return exact - exact.mean(dim=1, keepdim=True)


def others(logits: Logits, targets: Targets) -> tuple[Logits, Scales, Scales]:
    """The target's competitors: their softmax among themselves, and log p and log(1 - p) of the target.

    Returns:
        In float64: the competitors' shares of shape (b, k), zero at the target and summing to one elsewhere;
        log p_c of shape (b,); log(1 - p_c) of shape (b,), accurate also where p_c rounds to one.
    """
    z = centred(logits)
    column = targets[:, None]
    rest = z.scatter(1, column, -math.inf)
    rest_total = rest.logsumexp(dim=1)
    total = z.logsumexp(dim=1)
    own = z.gather(1, column)[:, 0]
    return rest.softmax(dim=1), own - total, rest_total - total


def _zero_sum(cotangents: Cotangents, targets: Targets, dtype: torch.dtype) -> Cotangents:
    """Round to a grid so that the sum is exactly zero in any order, moving the rounding to the target's entry.

    Each entry becomes a multiple of a power of two that leaves room for every partial sum in ``dtype``'s mantissa. The
    running sum is what gets rounded, so the errors of a thousand small entries do not add up at the target: no entry is
    off by more than one such step.
    """
    limits = torch.finfo(dtype)
    digits = round(-math.log2(limits.eps))
    exact = cotangents.double().scatter(1, targets[:, None], 0.0)
    top = exact.abs().sum(dim=1, keepdim=True)
    power = torch.frexp(top).exponent
    # No finer than the smallest number that the dtype can hold, or saturated probabilities would be lost on the way.
    step = torch.ldexp(torch.ones_like(top), power - digits).clamp_min(limits.smallest_normal * limits.eps)
    running = torch.where(top > 0, (exact.cumsum(dim=1) / step).round() * step, torch.zeros_like(exact))
    on_grid = running.diff(dim=1, prepend=torch.zeros_like(top))
    return on_grid.scatter(1, targets[:, None], -on_grid.sum(dim=1, keepdim=True)).to(dtype)


def _one_hot(logits: Logits, targets: Targets) -> Tensor:
    return torch.zeros_like(logits, dtype=torch.float64).scatter(1, targets[:, None], 1.0)


@scores.register
@dataclass(frozen=True)
class Logit:
    """The pre-softmax number z_c of the class; it can be moved without changing a prediction.

    Source: lerma2023vulnerability.
    """

    name: ClassVar[str] = "logit"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = "the pre-softmax number of the class"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """z_c, shape (b,)."""
        return logits.detach().double().gather(1, targets[:, None])[:, 0]

    def factors(self, logits: Logits, targets: Targets) -> Factors:
        """Itself, with scale one."""
        return self, torch.ones(len(targets), dtype=torch.float64, device=logits.device)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """The unit vector of the class."""
        return _one_hot(logits, targets).to(logits.dtype)


@scores.register
@dataclass(frozen=True)
class CenteredLogit:
    """The logit minus the mean of all logits: how far the class stands above the average class.

    Source: lerma2023vulnerability (the shift), srinivas2021rethinking (why it is free).
    """

    name: ClassVar[str] = "centered_logit"
    source: ClassVar[str] = "srinivas2021rethinking"
    meaning: ClassVar[str] = "the logit minus the mean of all logits"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """z_c - mean(z), shape (b,)."""
        return centred(logits).gather(1, targets[:, None])[:, 0]

    def factors(self, logits: Logits, targets: Targets) -> Factors:
        """Itself, with scale one."""
        return self, torch.ones(len(targets), dtype=torch.float64, device=logits.device)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """e_c - 1/k, summing to exactly zero."""
        exact = _one_hot(logits, targets) - 1.0 / logits.shape[1]
        return _zero_sum(exact, targets, logits.dtype)


@scores.register
@dataclass(frozen=True)
class LogOdds:
    """log p/(1-p): the logit against all its competitors at once; blind to shifts, and it does not saturate.

    Its gradient is that of Wang and Wang's weighted contrast. Source: wang2022contrast.
    """

    name: ClassVar[str] = "log_odds"
    source: ClassVar[str] = "wang2022contrast"
    meaning: ClassVar[str] = "log p/(1-p), the class against all others"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """log p_c - log(1 - p_c), shape (b,)."""
        _, log_own, log_rest = others(logits, targets)
        return log_own - log_rest

    def factors(self, logits: Logits, targets: Targets) -> Factors:
        """Itself, with scale one."""
        return self, torch.ones(len(targets), dtype=torch.float64, device=logits.device)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """e_c - a with a_j = p_j / (1 - p_c), summing to exactly zero."""
        return _zero_sum(-others(logits, targets)[0], targets, logits.dtype)


@scores.register
@dataclass(frozen=True)
class LogProbability:
    """log p of the class; its gradient is (1 - p) times that of the log-odds.

    Source: lerma2023prepost.
    """

    name: ClassVar[str] = "log_probability"
    source: ClassVar[str] = "lerma2023prepost"
    meaning: ClassVar[str] = "the logarithm of the probability"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """log p_c, shape (b,)."""
        return others(logits, targets)[1]

    def factors(self, logits: Logits, targets: Targets) -> Factors:
        """The log-odds, with scale 1 - p_c."""
        return LogOdds(), others(logits, targets)[2].exp()

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """(1 - p_c) (e_c - a), summing to exactly zero."""
        share, _, log_rest = others(logits, targets)
        return _zero_sum(-share * log_rest.exp()[:, None], targets, logits.dtype)


@scores.register
@dataclass(frozen=True)
class Probability:
    """The probability p of the class, after softmax; its gradient fades as p approaches one.

    Source: lerma2023prepost.
    """

    name: ClassVar[str] = "probability"
    source: ClassVar[str] = "lerma2023prepost"
    meaning: ClassVar[str] = "the probability, after softmax"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """p_c, shape (b,), 0 to 1."""
        return others(logits, targets)[1].exp()

    def factors(self, logits: Logits, targets: Targets) -> Factors:
        """The log-odds, with scale p_c (1 - p_c)."""
        _, log_own, log_rest = others(logits, targets)
        return LogOdds(), (log_own + log_rest).exp()

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """p_c (1 - p_c) (e_c - a), summing to exactly zero."""
        share, log_own, log_rest = others(logits, targets)
        return _zero_sum(-share * (log_own + log_rest).exp()[:, None], targets, logits.dtype)


def shift_leak(score: Score, logits: Logits, targets: Targets) -> Scales:
    """How much the score moves per unit added to every logit, relative to how much it moves at all.

    It is the sum of the cotangent, which the contract defines as the leak, computed and not declared: 0 means that no
    t(x) added to every logit can move the map, 1 that t(x) enters it whole.

    Args:
        score: any score, also a user's own.
        logits: logits at which to look, shape (b, k).
        targets: the classes, shape (b,).

    Returns:
        One number an image, shape (b,), float64.

    Example:
        >>> z, c = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
        >>> shift_leak(Logit(), z, c).item(), shift_leak(Probability(), z, c).item()
        (1.0, 0.0)
    """
    return score.cotangent(logits.double(), targets).double().sum(dim=1)
