"""Scores by formula have the leaks that their algebra says, and other packages' targets those that they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from fukusen.scores import PEER_TARGETS, ByFormula, LogOdds, shift_leak


@dataclass(frozen=True)
class Odds(ByFormula):
    """The log-odds, naively."""

    name: ClassVar[str] = "odds"
    source: ClassVar[str] = "wang2022contrast"
    meaning: ClassVar[str] = "the log-odds"

    def formula(self, z: Tensor, c: Tensor) -> Tensor:
        column = c[:, None]
        return z.gather(1, column)[:, 0] - z.scatter(1, column, -torch.inf).logsumexp(dim=1)


Z = torch.tensor([[2.0, 1.0, -0.5], [0.25, 3.0, 2.5]])
C = torch.tensor([0, 2])


def test_a_formula_is_differentiated() -> None:
    torch.testing.assert_close(Odds().cotangent(Z, C), LogOdds().cotangent(Z, C))
    torch.testing.assert_close(Odds().value(Z, C), LogOdds().value(Z, C))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_of_rounding_errors_is_made_zero(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert Odds().cotangent(logits, logits.argmax(dim=1)).sum(dim=1).tolist() == [0.0] * 4


def test_it_works_where_gradients_are_switched_off() -> None:
    with torch.inference_mode():
        assert shift_leak(Odds(), Z, C).tolist() == [0.0, 0.0]


def _peers() -> dict[str, Callable[[Tensor], Tensor]]:
    """What pytorch-grad-cam itself explains, for class 0 of one image."""
    from pytorch_grad_cam.utils import model_targets

    return {
        "ClassifierOutputTarget (default)": model_targets.ClassifierOutputTarget(0),
        "ClassifierOutputSoftmaxTarget": model_targets.ClassifierOutputSoftmaxTarget(0),
        "ClassifierOutputReST": model_targets.ClassifierOutputReST(0),
        "FinerWeightedTarget, alpha=1 (default)": model_targets.FinerWeightedTarget(0, [1, 2], 1),
        "FinerWeightedTarget, alpha=0.6": model_targets.FinerWeightedTarget(0, [1, 2], 0.6),
    }


@pytest.mark.parametrize("name", list(_peers()))
def test_the_leaks_of_pytorch_grad_cams_targets_are_theirs(name: str) -> None:
    """The sum of the gradient of the package's own target is the leak that is listed."""
    leaf = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(_peers()[name](leaf).sum(), leaf)
    (listed,) = [one for one in PEER_TARGETS if one.target == name]
    assert listed.leak == pytest.approx(float(found.sum()), abs=1e-7)
