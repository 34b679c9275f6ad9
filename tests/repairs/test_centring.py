"""Where the logits are made, and what their mean taken away leaves."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fukusen.models import Classifier, wrap
from fukusen.repairs.centring import Centered, behind, in_weights, last_layer, mean_free

Make = Callable[..., Classifier]
CLASSES = 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@given(seed=st.integers(0, 999), classes=st.integers(2, 300), shift=st.sampled_from([0.0, 1.0, 1e3]))
def test_the_mean_row_is_exactly_zero(dtype: torch.dtype, seed: int, classes: int, shift: float) -> None:
    """Summed up in any order in float64, in exact fractions, and no entry is off by more than two last bits."""
    chance = torch.Generator().manual_seed(seed)
    rows = (torch.randn(classes, 4, generator=chance, dtype=torch.float64) + shift).to(dtype)
    found = mean_free(rows)
    assert found.dtype == dtype
    assert found.double().sum(dim=0).tolist() == [0.0] * 4
    assert found[torch.randperm(classes, generator=chance)].double().cumsum(dim=0)[-1].tolist() == [0.0] * 4
    column = [Fraction(value) for value in rows[:, 0].double().tolist()]
    mean = sum(column) / classes
    step = 2 * Fraction(torch.finfo(dtype).eps) * max(abs(value - mean) for value in column)
    room = step if dtype != torch.float64 else step * classes
    for exact, value in zip(column, found[:, 0].double().tolist(), strict=True):
        assert abs(exact - mean - Fraction(value)) <= room


def test_rows_that_are_all_the_same_become_zero() -> None:
    assert mean_free(torch.full((5, 3), 0.1)).abs().max() == 0
    assert mean_free(torch.zeros(2, 1)).abs().max() == 0


@pytest.mark.parametrize(
    ("head", "after", "place"),
    [
        (nn.Linear(8, CLASSES), "nothing", "head"),
        (nn.Linear(8, CLASSES, bias=False), "nothing", "head"),
        (nn.Linear(8, CLASSES), "named", "head"),
        (nn.Conv2d(8, CLASSES, 1), "nothing", "head"),
        (nn.Linear(8, CLASSES), "slope", "head"),
        (nn.Linear(8, CLASSES), "branch", None),
        (nn.Linear(8, CLASSES), "cooled", None),
        (nn.Conv2d(8, CLASSES, 3), "nothing", None),
    ],
)
def test_the_last_layer_is_found_where_its_output_is_the_logits(
    made: Make, head: nn.Module, after: str, place: str | None, images: Tensor
) -> None:
    """By running: not by its name, and not where something else has a say."""
    assert last_layer(made(head, after), images) == place


def test_weights_that_hang_elsewhere_or_follow_a_rule_are_left_alone(images: Tensor) -> None:
    tied = nn.Sequential(nn.Flatten(), nn.Linear(432, 432), nn.ReLU(), nn.Linear(432, 432))
    tied[3].weight = tied[1].weight
    ruled = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(432, 5)))
    twice = nn.Sequential(nn.Flatten(), *[nn.Linear(432, 432)] * 2)
    for net in (tied, ruled, twice):
        assert last_layer(wrap(net, input_size=(3, 12, 12), head="softmax"), images) is None


def test_centred_weights_change_nothing_else(made: Make, images: Tensor) -> None:
    """The architecture, the other weights and the model given."""
    model = made(nn.Linear(8, CLASSES))
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    fixed = in_weights(model, "head")
    after = fixed.net.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["head.weight", "head.bias"]
    assert all(torch.equal(before[name], value) for name, value in model.net.state_dict().items())
    assert fixed.logits(images).mean(dim=1).abs().max() < 1e-6
    assert model.logits(images).mean(dim=1).abs().min() > 1


@pytest.mark.parametrize("classes", [2, 3, 7, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_shift_shines_through_the_wrapper(classes: int, dtype: torch.dtype) -> None:
    """The gradient of a shift is exactly zero, however steep the shift, and exactly the network's own otherwise."""
    net = Centered(nn.Identity())
    logits = torch.randn(3, classes, dtype=dtype, requires_grad=True)
    shift = torch.randn(3, 1, dtype=dtype, requires_grad=True)
    found = net(logits + 1e6 * shift)
    (gradient,) = torch.autograd.grad(found[:, 1].sum(), shift, retain_graph=True)
    assert gradient.abs().max() == 0
    (own,) = torch.autograd.grad(found[:, 1].sum(), logits)
    meant = torch.nn.functional.one_hot(torch.tensor([1] * 3), classes).to(dtype) - 1 / classes
    torch.testing.assert_close(own, meant, atol=4 * torch.finfo(dtype).eps, rtol=0)


def test_half_precision_is_centred_in_single() -> None:
    found = Centered(nn.Identity())(torch.tensor([[1000.0, 1001.0]], dtype=torch.float16))
    assert found.dtype == torch.float32
    assert found.tolist() == [[-0.5, 0.5]]


def test_the_wrapper_keeps_layer_mode_and_facts(made: Make, images: Tensor) -> None:
    model = made(nn.Linear(8, CLASSES), "branch")
    model.net.train()
    fixed = behind(model)
    assert fixed.net.training
    assert str(fixed.layer) == f"net.{model.layer}"
    assert (fixed.head, fixed.classes, fixed.preprocess) == (model.head, model.classes, model.preprocess)
    was, now = (one.probabilities(one.logits(images)) for one in (model, fixed))
    torch.testing.assert_close(was, now, atol=1e-6, rtol=0)
