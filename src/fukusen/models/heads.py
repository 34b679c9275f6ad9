"""What a network's last numbers are: found from the numbers where they tell, else asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fukusen.arrays import Cotangents, Logits, Targets
from fukusen.errors import ModelError, require

Readout = Float[Tensor, "b n"]
HeadKind = Literal["softmax", "sigmoid", "one_logit", "probabilities", "log_probabilities", "sigmoid_probabilities"]
KINDS: tuple[HeadKind, ...] = get_args(HeadKind)

_SUM_TOLERANCE = 1e-3
_TELLING: tuple[HeadKind, ...] = ("probabilities", "log_probabilities")


@dataclass(frozen=True)
class Head:
    """How a network's outputs are to be read, and how logits come from them.

    Args:
        kind: what the outputs are. ``softmax``: logits of classes that exclude each other; ``sigmoid``: one logit a
            label; ``one_logit``: a single logit of the second of two classes; ``probabilities`` and
            ``log_probabilities``: of classes that exclude each other; ``sigmoid_probabilities``: one probability a
            label.
        assumed: whether the kind could not be read off the numbers and was taken as the usual one.
    """

    kind: HeadKind
    assumed: bool = False

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "Head", "kind", f"one of {', '.join(KINDS)}", self.kind)

    @property
    def public(self) -> str:
        """The kind in the words of audit.json: ``softmax``, ``sigmoid`` or ``probabilities``."""
        if self.kind == "softmax":
            return "softmax"
        return "sigmoid" if self.labels_are_independent or self.kind == "one_logit" else "probabilities"

    @property
    def labels_are_independent(self) -> bool:
        """Whether each class is a yes-or-no question of its own."""
        return self.kind in ("sigmoid", "sigmoid_probabilities")

    @property
    def shift_is_free(self) -> bool:
        """Whether a number added to every output leaves every prediction as it was: true of softmax logits only."""
        return self.kind == "softmax"

    def logits(self, outputs: Tensor) -> Logits:
        """Logits (b, k) from the network's outputs, differentiable; at least two classes."""
        if self.kind in ("softmax", "sigmoid", "log_probabilities"):
            return outputs
        tiny = torch.finfo(outputs.dtype).tiny
        if self.kind == "probabilities":
            return outputs.clamp_min(tiny).log()
        if self.kind == "sigmoid_probabilities":
            return outputs.clamp_min(tiny).log() - (1 - outputs).clamp_min(torch.finfo(outputs.dtype).eps).log()
        return torch.cat([torch.zeros_like(outputs), outputs], dim=1)

    def readout(self, logits: Logits, targets: Targets) -> tuple[Readout, Targets]:
        """The logits (b, n) that compete for the target, and where it stands among them.

        Independent labels compete with nothing but their own absence, whose logit is zero.
        """
        if not self.labels_are_independent:
            return logits, targets
        own = logits.gather(1, targets[:, None])
        return torch.cat([own, torch.zeros_like(own)], dim=1), torch.zeros_like(targets)

    def spread(self, cotangents: Readout, logits: Logits, targets: Targets) -> Cotangents:
        """A cotangent (b, n) on the readout carried back to the logits (b, k)."""
        if not self.labels_are_independent:
            return cotangents
        return torch.zeros_like(logits).scatter(1, targets[:, None], cotangents[:, :1].to(logits.dtype))


def _inside(outputs: Tensor) -> bool:
    """Whether every output could be a probability."""
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def _looks_like(outputs: Tensor) -> HeadKind | None:
    # Numbers of half precision are rounded so coarsely that probabilities miss a sum of one by more.
    tolerance = max(_SUM_TOLERANCE, 2 * torch.finfo(outputs.dtype).eps)
    exact = outputs.detach().double()
    inside = _inside(exact)
    if exact.shape[1] == 1:
        return None if inside else "one_logit"
    if inside and bool(((exact.sum(dim=1) - 1).abs() < tolerance).all()):
        return "probabilities"
    if bool((exact <= 0).all()) and bool((exact.exp().sum(dim=1) - 1).abs().max() < tolerance):
        return "log_probabilities"
    return None if inside else "softmax"


def _check_count(asked: HeadKind, count: int) -> None:
    if asked == "one_logit" and count > 1:
        raise ModelError(f"The head 'one_logit' is for networks with one output. This one has {count}.")
    if count == 1 and asked in ("softmax", *_TELLING):
        raise ModelError(
            f"The head {asked!r} needs at least two outputs. This network has one: say head='one_logit' for the logit "
            "of the second of two classes, or head='sigmoid' for the logit of one label."
        )


def _check_numbers(asked: HeadKind, outputs: Tensor, seen: HeadKind | None) -> None:
    low, high = outputs.min().item(), outputs.max().item()
    if (asked == "sigmoid_probabilities" and not _inside(outputs)) or (asked in _TELLING and seen != asked):
        raise ModelError(
            f"The head was given as {asked!r}, but the outputs for probe images are not {asked}: they lie between "
            f"{low:.3g} and {high:.3g}."
        )
    if seen in _TELLING and asked in ("softmax", "sigmoid"):
        raise ModelError(
            f"The head was given as {asked!r}, but the outputs for probe images are {seen}: they lie between "
            f"{low:.3g} and {high:.3g} and make probabilities that sum to one. Say head={seen!r}."
        )


def _ambiguous(outputs: Tensor) -> ModelError:
    low, high = outputs.min().item(), outputs.max().item()
    if outputs.shape[1] == 1:
        return ModelError(
            f"The single output lies between {low:.3g} and {high:.3g}, so it may be a probability or a small logit. "
            "Say which with head='sigmoid_probabilities' or head='one_logit' (--head on the command line)."
        )
    return ModelError(
        f"All outputs lie between {low:.3g} and {high:.3g} and do not sum to one, so they may be the probabilities "
        "of independent labels or small logits. Say which with head='sigmoid_probabilities' or head='softmax' "
        "(--head on the command line)."
    )


def find_head(outputs: Tensor, asked: str | None = None) -> Head:
    """The head kind from the outputs for some probe images, checked against what the user says.

    Softmax logits and the logits of independent labels cannot be told apart by their numbers; softmax is assumed and
    the head says so.

    Args:
        outputs: the network's raw outputs for at least two different images, shape (b, k).
        asked: what the user says the outputs are, or None.

    Returns:
        The head, marked as assumed where the numbers cannot tell.

    Raises:
        CallError: ``asked`` is no head kind.
        ModelError: the outputs contradict ``asked``, or do not tell what they are and nothing was asked.
    """
    seen = _looks_like(outputs)
    if asked is not None:
        require(asked in KINDS, "wrap", "head", f"one of {', '.join(KINDS)}", asked)
        kind = cast(HeadKind, asked)
        _check_count(kind, outputs.shape[1])
        _check_numbers(kind, outputs, seen)
        return Head(kind)
    if seen is None:
        raise _ambiguous(outputs)
    return Head(seen, assumed=seen in ("softmax", "one_logit"))
