"""Two networks without running them: their weights, tensor by tensor, and their code."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from fukusen.models.digest import digest_code

Tensors = dict[str, Tensor]
_DEEPEST = 4


@dataclass(frozen=True)
class Weights:
    """How the weights of two networks differ; names are compared without what one of them has before all its names.

    Args:
        reference: how many tensors the reference holds.
        candidate: how many the candidate holds.
        compared: how many have the same name and shape in both.
        differing: how many of those hold other numbers.
        largest: the largest size of a difference relative to the tensor's own, 0 to 2; 0 where nothing differs.
        worst: that tensor's name in the reference; empty where nothing differs.
        reshaped: names that are in both with other shapes.
        found: where no name is in both, how many of the reference's tensors the candidate holds bit for bit under other
            names; None otherwise.
    """

    reference: int
    candidate: int
    compared: int
    differing: int
    largest: float
    worst: str
    reshaped: tuple[str, ...]
    found: int | None

    @property
    def same(self) -> bool:
        """Whether both hold the same tensors under the same names, with the same numbers."""
        return self.reference == self.candidate == self.compared and not self.differing

    def as_json(self) -> dict[str, Any]:
        """As data."""
        return {**asdict(self), "reshaped": list(self.reshaped), "same": self.same}


def weights_of(reference: nn.Module, candidate: nn.Module) -> Weights:
    """How the weights of two networks differ."""
    first, second = _held(reference), _held(candidate)
    left, right = _aligned(first, second)
    both = [name for name in left if name in right]
    same_shape = [name for name in both if left[name].shape == right[name].shape]
    changes = {name: change for name in same_shape if (change := _change(left[name], right[name])) > 0}
    worst = max(changes, key=lambda name: changes[name], default="")
    return Weights(
        len(first),
        len(second),
        len(same_shape),
        len(changes),
        changes.get(worst, 0.0),
        worst,
        tuple(name for name in both if name not in same_shape),
        None if both else _found(first, second),
    )


def same_code(reference: nn.Module, candidate: nn.Module) -> bool:
    """Whether both networks are made of the same classes, code and settings, whatever their weights."""
    return digest_code(reference) == digest_code(candidate)


def _held(net: nn.Module) -> Tensors:
    named = (*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False))
    return {name: value.detach() for name, value in named if not name.endswith("num_batches_tracked")}


def _shorter(tensors: Tensors) -> list[Tensors]:
    """The tensors under their names, and under those without the first, second, ... part that all names share."""
    found = [tensors]
    while len(found) <= _DEEPEST and len({name.partition(".")[0] for name in found[-1]}) == 1:
        if not all("." in name for name in found[-1]):
            break
        found.append({name.partition(".")[2]: value for name, value in found[-1].items()})
    return found


def _aligned(first: Tensors, second: Tensors) -> tuple[Tensors, Tensors]:
    """Both under the names of which most are in both; as they are where that is no worse."""
    pairs = list(product(_shorter(first), _shorter(second)))
    return max(pairs, key=lambda pair: len(pair[0].keys() & pair[1].keys()))


def _exact(value: Tensor) -> Tensor:
    return (value.dequantize() if value.is_quantized else value).cpu().double()


def _change(first: Tensor, second: Tensor) -> float:
    """The size of the difference relative to the larger of the two; 1 where numbers that are not finite differ."""
    one, other = _exact(first), _exact(second)
    if torch.equal(one, other):
        return 0.0
    size = max(float(one.norm()), float(other.norm()))
    change = float((one - other).norm()) / size if size > 0 else 0.0
    return change if math.isfinite(change) else 1.0


def _found(first: Tensors, second: Tensors) -> int:
    """How many of the first tensors are among the second, bit for bit; single numbers say nothing and are left out."""
    sought = [_exact(value).flatten() for value in first.values() if value.numel() > 1]
    held: dict[int, list[Tensor]] = {}
    for value in second.values():
        held.setdefault(value.numel(), []).append(_exact(value).flatten())
    return sum(any(torch.equal(one, other) for other in held.get(one.numel(), ())) for one in sought)
