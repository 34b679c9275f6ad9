"""What the last numbers are: told by the numbers, asked for where they do not tell, contradicted where they do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fukusen.errors import CallError, ModelError
from fukusen.models.heads import KINDS, Head, find_head


@pytest.fixture
def logits() -> Tensor:
    return torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.25, 1.0]])


def test_softmax_logits_are_assumed(logits: Tensor) -> None:
    assert find_head(logits) == Head("softmax", assumed=True)


def test_probabilities_are_found(logits: Tensor) -> None:
    assert find_head(logits.softmax(1)) == Head("probabilities")


def test_log_probabilities_are_found(logits: Tensor) -> None:
    assert find_head(logits.log_softmax(1)) == Head("log_probabilities")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coarse_probabilities_are_found(dtype: torch.dtype) -> None:
    values = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    assert find_head(values.softmax(1).to(dtype)).kind == "probabilities"


def test_one_logit_is_assumed(logits: Tensor) -> None:
    assert find_head(logits[:, :1]) == Head("one_logit", assumed=True)


def test_probabilities_of_labels_are_asked_for() -> None:
    with pytest.raises(ModelError) as caught:
        find_head(torch.tensor([[0.25, 0.5], [0.875, 0.75]]))
    assert str(caught.value) == (
        "All outputs lie between 0.25 and 0.875 and do not sum to one, so they may be the probabilities of independent "
        "labels or small logits. Say which with head='sigmoid_probabilities' or head='softmax' "
        "(--head on the command line)."
    )


def test_a_single_probability_is_asked_for() -> None:
    with pytest.raises(ModelError) as caught:
        find_head(torch.tensor([[0.25], [0.875]]))
    assert str(caught.value) == (
        "The single output lies between 0.25 and 0.875, so it may be a probability or a small logit. Say which with "
        "head='sigmoid_probabilities' or head='one_logit' (--head on the command line)."
    )


@pytest.mark.parametrize("kind", ["sigmoid_probabilities", "softmax", "sigmoid"])
def test_the_remedies_are_taken(kind: str) -> None:
    assert find_head(torch.tensor([[0.25, 0.5], [0.875, 0.75]]), kind) == Head(kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid_probabilities", "one_logit"])
def test_one_output_can_be_one_label(kind: str) -> None:
    assert find_head(torch.tensor([[0.25], [0.875]]), kind).kind == kind


CONTRADICTIONS = {
    "count": (
        torch.tensor([[1.0, 2.0]]),
        "one_logit",
        "The head 'one_logit' is for networks with one output. This one has 2.",
    ),
    "single": (
        torch.tensor([[-1.0], [2.0]]),
        "softmax",
        (
            "The head 'softmax' needs at least two outputs. This network has one: say "
            "head='one_logit' for the logit of "
            "the second of two classes, or head='sigmoid' for the logit of one label."
        ),
    ),
    "not probabilities": (
        torch.tensor([[1.0, -2.0]]),
        "probabilities",
        (
            "The head was given as 'probabilities', but the outputs for probe images are not probabilities: they lie "
            "between -2 and 1."
        ),
    ),
    "not label probabilities": (
        torch.tensor([[1.0, -2.0]]),
        "sigmoid_probabilities",
        (
            "The head was given as 'sigmoid_probabilities', but the outputs for probe images are not "
            "sigmoid_probabilities: they lie between -2 and 1."
        ),
    ),
    "are probabilities": (
        torch.tensor([[0.25, 0.75]]),
        "softmax",
        (
            "The head was given as 'softmax', but the outputs for probe images are probabilities: they lie between "
            "0.25 and 0.75 and make probabilities that sum to one. Say head='probabilities'."
        ),
    ),
}


@pytest.mark.parametrize(("outputs", "asked", "message"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS))
def test_numbers_contradict_what_is_asked(outputs: Tensor, asked: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_head(outputs, asked)
    assert str(caught.value) == message


def test_an_unknown_kind_is_a_call_error(logits: Tensor) -> None:
    with pytest.raises(CallError) as caught:
        find_head(logits, "softmaxx")
    assert str(caught.value) == (
        "The 'head' parameter of wrap must be one of softmax, sigmoid, one_logit, probabilities, log_probabilities, "
        "sigmoid_probabilities. Got 'softmaxx' instead."
    )


@pytest.mark.parametrize(
    ("kind", "public", "independent", "free"),
    [
        ("softmax", "softmax", False, True),
        ("sigmoid", "sigmoid", True, False),
        ("one_logit", "sigmoid", False, False),
        ("probabilities", "probabilities", False, False),
        ("log_probabilities", "probabilities", False, False),
        ("sigmoid_probabilities", "sigmoid", True, False),
    ],
)
def test_what_a_kind_means(kind: str, public: str, independent: bool, free: bool) -> None:
    head = Head(kind)  # type: ignore[arg-type]
    assert (head.public, head.labels_are_independent, head.shift_is_free) == (public, independent, free)


def test_logits_give_the_outputs_back(logits: Tensor) -> None:
    torch.testing.assert_close(Head("probabilities").logits(logits.softmax(1)).softmax(1), logits.softmax(1))
    torch.testing.assert_close(Head("sigmoid_probabilities").logits(logits.sigmoid()).sigmoid(), logits.sigmoid())
    two = Head("one_logit").logits(logits[:, :1])
    torch.testing.assert_close(two.softmax(1)[:, 1], logits[:, 0].sigmoid())
    for kind in ("softmax", "sigmoid", "log_probabilities"):
        assert Head(kind).logits(logits) is logits  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_finite_and_differentiable_at_the_edges(kind: str) -> None:
    outputs = torch.tensor([[0.0, 1.0]] if kind != "one_logit" else [[0.0]], requires_grad=True)
    made = Head(kind).logits(outputs)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(made.sum(), outputs)
    assert made.shape == (1, 2)
    assert bool(made.isfinite().all())
    assert bool(gradient.isfinite().all())


@given(target=st.integers(0, 2), kind=st.sampled_from(["softmax", "sigmoid"]))
def test_spread_is_the_transpose_of_readout(target: int, kind: str) -> None:
    """<spread(v), z> = <v, readout(z)>: the cotangent that arrives at the logits belongs to the same score."""
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(target), dtype=torch.float64)
    head, targets = Head(kind), torch.tensor([target])  # type: ignore[arg-type]
    near, where = head.readout(z, targets)
    v = torch.randn(near.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    torch.testing.assert_close((head.spread(v, z, targets) * z).sum(), (v * near).sum())
    assert near[0, where[0]] == z[0, target]


def test_a_label_competes_with_its_absence(logits: Tensor) -> None:
    near, where = Head("sigmoid").readout(logits, torch.tensor([2, 1]))
    assert near.tolist() == [[0.5, 0.0], [0.25, 0.0]]
    assert where.tolist() == [0, 0]
    torch.testing.assert_close(near.softmax(1)[:, 0], logits.gather(1, torch.tensor([[2], [1]]))[:, 0].sigmoid())
