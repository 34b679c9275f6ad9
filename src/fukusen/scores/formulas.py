"""Scores given as a formula, differentiated by autograd; and those that other packages explain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Scales, Targets
from fukusen.scores.score import Factors, own_direction, shift_leak, zero_sum

_ROUNDING = 1e-12


class ByFormula(ABC):
    """A score of one's own: a frozen dataclass with ``name``, ``source`` and ``meaning`` that gives its formula.

    Its cotangent, and so its shift leak, is computed. A sum that differs from zero by no more than float64 rounding is
    made exactly zero.

    Example:
        >>> @dataclass(frozen=True)
        ... class Doubled(ByFormula):
        ...     name: ClassVar[str] = "doubled"
        ...     source: ClassVar[str] = "nobody2026"
        ...     meaning: ClassVar[str] = "twice the logit"
        ...
        ...     def formula(self, z: Tensor, c: Tensor) -> Tensor:
        ...         return 2 * z.gather(1, c[:, None])[:, 0]
        >>> shift_leak(Doubled(), torch.tensor([[2.0, 1.0]]), torch.tensor([0])).item()
        2.0
    """

    @abstractmethod
    def formula(self, z: Tensor, c: Tensor) -> Tensor:
        """The score of each image, (b,), from logits (b, k) in float64 and classes (b,); differentiable."""

    def value(self, logits: Logits, targets: Targets) -> Scales:
        """The formula's value, shape (b,)."""
        with torch.no_grad():
            return self.formula(logits.detach().double(), targets)

    def factors(self, logits: Logits, targets: Targets) -> Factors:  # noqa: ARG002 - the same for every class
        """Itself, with scale one."""
        return own_direction(self, logits)  # type: ignore[arg-type]

    def cotangent(self, logits: Logits, targets: Targets) -> Cotangents:
        """The formula's gradient by autograd, in float64."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = logits.detach().double().clone().requires_grad_()
            (found,) = torch.autograd.grad(self.formula(leaf, targets).sum(), leaf)
        if bool((found.sum(dim=1).abs() <= _ROUNDING * found.abs().sum(dim=1)).all()):
            return zero_sum(found, targets, logits.dtype)
        return found.to(logits.dtype)


@dataclass(frozen=True)
class PeerTarget(ByFormula):
    """What a target of another package explains, as far as its shift leak goes.

    Args:
        package: the package's name.
        target: what it calls the target.
        own: the share of z_c.
        log_probability: the share of log p_c.
        probability: the share of p_c.
        rival: the share of the largest other logit that is taken away.
    """

    package: str
    target: str
    own: float = 0.0
    log_probability: float = 0.0
    probability: float = 0.0
    rival: float = 0.0
    name: ClassVar[str] = "peer_target"
    source: ClassVar[str] = "lerma2023vulnerability"
    meaning: ClassVar[str] = "what a target of another package explains"

    def formula(self, z: Tensor, c: Tensor) -> Tensor:
        """A mixture of z_c, log p_c, p_c and the largest other logit."""
        column = c[:, None]
        largest = z.scatter(1, column, -torch.inf).amax(dim=1)
        own, log_own = (values.gather(1, column)[:, 0] for values in (z, z.log_softmax(dim=1)))
        mixed = self.own * own + self.log_probability * log_own + self.probability * log_own.exp()
        return mixed - self.rival * largest

    @property
    def leak(self) -> float:
        """The shift leak, computed at logits that are not special."""
        return float(shift_leak(self, torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0]))[0])


PEER_TARGETS = (
    PeerTarget("pytorch-grad-cam", "ClassifierOutputTarget (default)", own=1.0),
    PeerTarget("pytorch-grad-cam", "ClassifierOutputSoftmaxTarget", probability=1.0),
    PeerTarget("pytorch-grad-cam", "ClassifierOutputReST", own=1.0, log_probability=1.0),
    PeerTarget("pytorch-grad-cam", "FinerWeightedTarget, alpha=1 (default)", own=1.0, rival=1.0),
    PeerTarget("pytorch-grad-cam", "FinerWeightedTarget, alpha=0.6", own=1.0, rival=0.6),
    PeerTarget("torch-cam", "class_idx (default)", own=1.0),
    PeerTarget("torch-cam", "FinerCAM, gamma=0.6 (default)", own=1.0, rival=0.6),
    PeerTarget("captum", "target of a model that returns logits", own=1.0),
    PeerTarget("captum", "target of a model that returns probabilities", probability=1.0),
    PeerTarget("zennit", "one-hot output relevance at the logits", own=1.0),
)
