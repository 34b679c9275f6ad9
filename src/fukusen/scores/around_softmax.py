"""The five scores of the standard panel: numbers about the class before softmax and after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fukusen.arrays import Cotangents, Logits, Scales, Targets
from fukusen.scores.score import Factors, centred, one_hot, others, own_direction, scores, zero_sum


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

    def factors(self, logits: Logits, targets: Targets) -> Factors:  # noqa: ARG002 - the same for every class
        """Itself, with scale one."""
        return own_direction(self, logits)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """The unit vector of the class."""
        return one_hot(logits, targets).to(logits.dtype)


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

    def factors(self, logits: Logits, targets: Targets) -> Factors:  # noqa: ARG002 - the same for every class
        """Itself, with scale one."""
        return own_direction(self, logits)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """e_c - 1/k, summing to exactly zero."""
        exact = one_hot(logits, targets) - 1.0 / logits.shape[1]
        return zero_sum(exact, targets, logits.dtype)


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

    def factors(self, logits: Logits, targets: Targets) -> Factors:  # noqa: ARG002 - the same for every class
        """Itself, with scale one."""
        return own_direction(self, logits)

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """e_c - a with a_j = p_j / (1 - p_c), summing to exactly zero."""
        return zero_sum(-others(logits, targets)[0], targets, logits.dtype)


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
        return zero_sum(-share * log_rest.exp()[:, None], targets, logits.dtype)


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
        return zero_sum(-share * (log_own + log_rest).exp()[:, None], targets, logits.dtype)
