"""Scores that ask why this class and not that one: the difference of two logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Scales, Targets
from fukusen.errors import CallError, require
from fukusen.scores.score import Factors, centred, one_hot, own_direction, scores, zero_sum


def _difference(logits: Logits, targets: Targets, rivals: Targets) -> Scales:
    exact = centred(logits)
    own, other = (exact.gather(1, classes[:, None])[:, 0] for classes in (targets, rivals))
    return own - other


def _between(logits: Logits, targets: Targets, rivals: Targets) -> Cotangents:
    return zero_sum(one_hot(logits, targets) - one_hot(logits, rivals), targets, logits.dtype)


@scores.register
@dataclass(frozen=True)
class MaxContrast:
    """The logit minus the largest of the others: why this class and not the runner-up.

    Source: piland2025diffgradcam.
    """

    name: ClassVar[str] = "max_contrast"
    source: ClassVar[str] = "piland2025diffgradcam"
    meaning: ClassVar[str] = "the logit minus the largest logit of the other classes"

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """z_c - max of the others, shape (b,)."""
        return _difference(logits, targets, self._rivals(logits, targets))

    def factors(self, logits: Logits, targets: Targets) -> Factors:  # noqa: ARG002 - the same for every class
        """Itself, with scale one."""
        return own_direction(self, logits)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """e_c - e_d with d the strongest other class, summing to exactly zero."""
        return _between(logits, targets, self._rivals(logits, targets))

    def _rivals(self, logits: Logits, targets: Targets) -> Tensor:
        return logits.detach().scatter(1, targets[:, None], -math.inf).argmax(dim=1)


@scores.register
@dataclass(frozen=True)
class Contrast:
    """The logit minus that of a given class: why this class and not that one.

    For images whose explained class is the given one it is zero, and so are its maps. Of independent labels, the two
    labels' logits are compared. Source: wang2022contrast.

    Args:
        against: index of the class to compare with, at least 0.
    """

    against: int = 0
    name: ClassVar[str] = "contrast"
    source: ClassVar[str] = "wang2022contrast"
    meaning: ClassVar[str] = "the logit minus that of a given class"
    of_all: ClassVar[bool] = True

    def __post_init__(self) -> None:
        valid = type(self.against) is int and self.against >= 0
        require(valid, "Contrast", "against", "the index of a class, an int >= 0", self.against)

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """z_c - z_against, shape (b,)."""
        return _difference(logits, targets, self._rivals(logits, targets))

    def factors(self, logits: Logits, targets: Targets) -> Factors:  # noqa: ARG002 - the same for every class
        """Itself, with scale one."""
        return own_direction(self, logits)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """e_c - e_against, summing to exactly zero.

        Raises:
            CallError: the model has no such class.
        """
        return _between(logits, targets, self._rivals(logits, targets))

    def _rivals(self, logits: Logits, targets: Targets) -> Tensor:
        if self.against >= logits.shape[1]:
            raise CallError(
                f"The 'against' parameter of Contrast must be the index of a class, from 0 to {logits.shape[1] - 1} "
                f"for this model. Got {self.against} instead."
            )
        return targets.new_full(targets.shape, self.against)
