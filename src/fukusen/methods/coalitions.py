"""Which parts of an image are kept and which hidden, drawn at random, and the shares that the scores give to the parts.

All arithmetic is in float64 on the processor: one image's draws, and a column of values for each score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fukusen.records import Undefined

Drawn = Bool[Tensor, "n p"]
Weights = Float[Tensor, " n"]
Columns = Float[Tensor, "n s"]
TOO_FEW = Undefined("there are no more draws than parts to tell the error from; draw more")


@dataclass(frozen=True, eq=False)
class Shares:
    """What each part of one image is worth to each score.

    Args:
        values: shape (p, s) for p parts and s scores, in units of the score.
        errors: their standard errors, same shape, at least 0; or why there are none.
    """

    values: Float[Tensor, "p s"]
    errors: Float[Tensor, "p s"] | Undefined


def coin_flips(parts: int, seed: int) -> Iterator[Bool[Tensor, " p"]]:
    """One draw after another: each part kept with chance one half, the same draws for the same arguments."""
    chance = torch.Generator().manual_seed(seed)
    while True:
        yield torch.rand(parts, generator=chance) < 0.5


def shapley_draws(parts: int, seed: int) -> Iterator[Bool[Tensor, " p"]]:
    """One draw after another, as often as the Shapley kernel weighs it, and each followed by its opposite.

    k of p parts are kept with a chance in proportion to 1/(k (p - k)), any k parts as likely as any others. Opposites
    in pairs take out a part of the error (covert2021improving). One part alone is kept and hidden in turn.
    """
    chance = torch.Generator().manual_seed(seed)
    sizes = torch.arange(1, max(parts, 2), dtype=torch.float64)
    weights = 1 / (sizes * (max(parts, 2) - sizes))
    while True:
        size = 1 + int(torch.multinomial(weights, 1, generator=chance))
        drawn = torch.zeros(parts, dtype=torch.bool)
        drawn[torch.randperm(parts, generator=chance)[:size]] = True
        yield drawn
        yield ~drawn


def every_coalition(parts: int) -> tuple[Drawn, Weights]:
    """Every way to keep some parts and hide some, and the Shapley kernel's weight of each: 2^p - 2 of them."""
    every = torch.tensor(list(product((False, True), repeat=parts)))
    drawn = every[(every.sum(dim=1) > 0) & (every.sum(dim=1) < parts)]
    size = drawn.sum(dim=1).double()
    ways = (torch.lgamma(torch.tensor(parts + 1.0)) - torch.lgamma(size + 1) - torch.lgamma(parts - size + 1)).exp()
    return drawn, (parts - 1) / (ways * size * (parts - size))


def shapley_shares(drawn: Drawn, weights: Weights | None, seen: Columns, ends: Float[Tensor, "2 s"]) -> Shares:
    """The shares that explain the values best, among those that add up to the whole difference.

    They minimise sum_i w_i (v_i - v_hidden - z_i phi)^2 subject to sum(phi) = v_whole - v_hidden, and are the smallest
    such deviations from equal shares where draws are too few to tell.

    Args:
        drawn: which parts are kept, shape (n, p).
        weights: of the draws; None for equal ones, where draw and opposite follow each other, for which there are
            errors: those of a regression on pairs, whatever the distribution of its residuals.
        seen: the scores' values for the draws, shape (n, s).
        ends: the scores' values with all hidden and with nothing hidden, shape (2, s).
    """
    kept = drawn.double()
    whole, parts = ends[1] - ends[0], drawn.shape[1]
    left = seen - ends[0] - kept.mean(dim=1, keepdim=True) * whole
    root = torch.ones(len(kept), 1, dtype=torch.float64) if weights is None else weights.sqrt()[:, None]
    # Rows that sum to zero have a pseudo-inverse whose solutions do: the constraint holds without being imposed.
    rows = root * (kept - kept.mean(dim=1, keepdim=True))
    inverse = torch.linalg.pinv(rows, rtol=1e-10)
    away = inverse @ (root * left)
    values = whole / parts + away - away.mean(dim=0)
    if weights is not None:
        return Shares(values, torch.zeros_like(values))
    pairs = len(kept) // 2
    spare = pairs - (parts - 1)
    if spare < 1 or round(float((inverse * rows.T).sum())) < parts - 1:
        return Shares(values, TOO_FEW)
    moved = torch.einsum("pn,ns->pns", inverse, left - rows @ away)[:, : 2 * pairs]
    together = moved.unflatten(1, (pairs, 2)).sum(dim=2)
    return Shares(values, (together.square().sum(dim=1) * pairs / spare).sqrt())


def lime_shares(drawn: Drawn, seen: Columns, width: float, penalty: float) -> Shares:
    """The coefficients of a ridge regression of the values on the kept parts, draws near the whole image weighing most.

    A draw at cosine distance d from the whole image weighs exp(-d^2/(2 width^2)); the constant is not penalised.

    Args:
        drawn: which parts are kept, shape (n, p), the first row all of them.
        seen: the scores' values for the draws, shape (n, s).
        width: of the kernel, above 0.
        penalty: on the sum of squared coefficients, above 0. It draws them towards zero, which the errors leave out.
    """
    kept = drawn.double()
    distance = 1 - (kept.sum(dim=1) / drawn.shape[1]).sqrt()
    weights = (-distance.square() / (2 * width**2)).exp()[:, None]
    rows = kept - (weights * kept).sum(dim=0) / weights.sum()
    left = seen - (weights * seen).sum(dim=0) / weights.sum()
    square = rows.T @ (weights * rows)
    inverse = torch.linalg.inv(square + penalty * torch.eye(drawn.shape[1], dtype=torch.float64))
    values = inverse @ rows.T @ (weights * left)
    count = len(kept) - 1
    spare = count - 1 - float((inverse * square.T).sum())
    if spare < 1:
        return Shares(values, TOO_FEW)
    moved = torch.einsum("pn,ns->pns", inverse @ rows.T, weights * (left - rows @ values))[:, 1:]
    moved = moved - moved.mean(dim=1, keepdim=True)
    return Shares(values, (moved.square().sum(dim=1) * count / spare).sqrt())
