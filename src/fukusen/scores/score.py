"""What a score is, the cotangents that sum to exactly zero, and the shift leak.

A score is a function s(z) of the logits of one image and of the class c that is explained. A gradient map of it is the
Jacobian of the network applied to the cotangent v = ds/dz, so adding t(x) to every logit moves the map exactly when
sum(v) != 0. Cotangents are built from detached logits centred in float64, and those whose sum must be zero are rounded
to a binary grid on which every partial sum is exact: in any order of summation their sum is zero to the last bit, in
the precision of the network.
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Scales, Targets
from fukusen.models.heads import Head, Readout
from fukusen.registry import Registry

Factors = tuple["Score", Scales]


@runtime_checkable
class Score(Protocol):
    """What every score offers; a frozen dataclass that may have parameters and holds no model.

    It is given the logits that compete for the target: all of them, or, where labels are independent, the target's own
    beside a zero for its absence. One that is about other labels, too, says ``of_all = True`` and is given all logits
    of any network.

    Example:
        >>> from fukusen.scores import LogOdds
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


def zero_sum(cotangents: Cotangents, targets: Targets, dtype: torch.dtype) -> Cotangents:
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


def one_hot(logits: Logits, targets: Targets) -> Tensor:
    """The unit vector of each target, (b, k) in float64."""
    return torch.zeros_like(logits, dtype=torch.float64).scatter(1, targets[:, None], 1.0)


def own_direction(score: Score, logits: Logits) -> Factors:
    """The factors of a score that is proportional to no other: itself, and ones."""
    return score, torch.ones(len(logits), dtype=torch.float64, device=logits.device)


def readout(score: Score, head: Head, logits: Logits, targets: Targets) -> tuple[Readout, Targets]:
    """What a score is given of a model's logits (b, k): those that compete for the target, and where it stands there.

    Args:
        score: any score.
        head: how the model's outputs are read.
        logits: of the model.
        targets: the classes, shape (b,).
    """
    return (logits, targets) if getattr(score, "of_all", False) else head.readout(logits, targets)


def spread(score: Score, head: Head, cotangents: Readout, logits: Logits, targets: Targets) -> Cotangents:
    """A cotangent on what the score is given carried back to all of a model's logits, shape (b, k)."""
    return cotangents if getattr(score, "of_all", False) else head.spread(cotangents, logits, targets)


def value_of(score: Score, head: Head, logits: Logits, targets: Targets) -> Scales:
    """The score of each image, shape (b,), float64, for whatever head the model has."""
    return score.value(*readout(score, head, logits, targets))


def factors_of(score: Score, head: Head, logits: Logits, targets: Targets) -> Factors:
    """The score's direction and scale (b,), for whatever head the model has."""
    return score.factors(*readout(score, head, logits, targets))


def cotangent_of(score: Score, head: Head, logits: Logits, targets: Targets) -> Cotangents:
    """The score's cotangent on a model's logits, shape (b, k), for whatever head the model has."""
    own = score.cotangent(*readout(score, head, logits, targets))
    return spread(score, head, own, logits, targets)


def leak_of(score: Score, head: Head, logits: Logits, targets: Targets) -> Scales:
    """The score's shift leak (b,), float64, for whatever head the model has."""
    return shift_leak(score, *readout(score, head, logits, targets))


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
        >>> from fukusen.scores import Logit, Probability
        >>> z, c = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
        >>> shift_leak(Logit(), z, c).item(), shift_leak(Probability(), z, c).item()
        (1.0, 0.0)
    """
    return score.cotangent(logits.double(), targets).double().sum(dim=1)
