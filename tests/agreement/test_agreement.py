"""What holds of every agreement: symmetry, range, identity, batch = one by one, and a reason where no number is."""

from __future__ import annotations

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from fukusen.agreement import Agreement, Cosine, Spearman, Wasserstein1, agreements, compare
from fukusen.errors import CallError, UnknownName
from fukusen.records import Undefined
from fukusen.registry import spec_of

NAMES = ("center_shift", "cosine", "spearman", "ssim", "top_iou", "wasserstein_1")
each_agreement = pytest.mark.parametrize("agreement", [agreements.build(name) for name in NAMES], ids=NAMES)

ENDINGS = {
    "center_shift": "nowhere positive",
    "cosine": "zero everywhere",
    "spearman": "constant",
    "ssim": "constant",
    "top_iou": "constant",
    "wasserstein_1": "nowhere positive",
}

coarse = st.integers(-3, 3).map(float)
fine = st.floats(-1e3, 1e3, width=32)
wild = st.floats(allow_nan=False, allow_infinity=False)


def panels(elements: st.SearchStrategy[float], kind: type = np.float64) -> st.SearchStrategy[Tensor]:
    """Panels of one to four maps of one to three images, with many ties or almost none."""
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 8), st.integers(1, 8))
    return shapes.flatmap(lambda shape: hnp.arrays(kind, shape, elements=elements)).map(torch.from_numpy)


def test_the_registry_knows_them_all() -> None:
    assert set(NAMES) <= set(agreements.names())


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"^There is no agreement named 'sim'\. Did you mean 'ssim'\?"):
        agreements.get("sim")


@each_agreement
def test_an_agreement_is_a_value(agreement: Agreement) -> None:
    assert isinstance(agreement, Agreement)
    assert agreements.build(spec_of(agreement)) == agreement
    assert hash(agreements.build(spec_of(agreement))) == hash(agreement)
    assert dataclasses.replace(agreement) == agreement


@each_agreement
@settings(max_examples=12)
@given(maps=panels(coarse | fine))
def test_symmetric_within_range_and_never_nan(agreement: Agreement, maps: Tensor) -> None:
    pairs = agreement.pairs(maps)
    low, high = agreement.value_range
    assert torch.equal(pairs.values, pairs.values.transpose(0, 1))
    assert torch.equal(pairs.causes, pairs.causes.transpose(0, 1))
    assert pairs.values.dtype == torch.float64
    assert pairs.values.isfinite().all()
    assert ((pairs.values >= low) & (pairs.values <= high))[pairs.defined].all()


@each_agreement
@settings(max_examples=12)
@given(maps=panels(wild))
def test_no_magnitude_is_too_large_or_too_small(agreement: Agreement, maps: Tensor) -> None:
    pairs = agreement.pairs(maps)
    low, high = agreement.value_range
    assert ((pairs.values >= low) & (pairs.values <= high))[pairs.defined].all()


@each_agreement
@settings(max_examples=12)
@given(maps=panels(coarse | fine))
def test_a_map_is_closest_to_itself(agreement: Agreement, maps: Tensor) -> None:
    pairs = agreement.pairs(torch.cat([maps, maps]))
    count = len(maps)
    closest = agreement.value_range[1] if agreement.higher_is_closer else agreement.value_range[0]
    for values, defined in ((pairs.values, pairs.defined), (pairs.values[:, count:], pairs.defined[:, count:])):
        same = values.diagonal()[defined.diagonal()]
        torch.testing.assert_close(same, torch.full_like(same, closest), rtol=0, atol=1e-12)


@each_agreement
@settings(max_examples=12)
@given(maps=panels(coarse | fine))
def test_a_batch_is_its_images_one_by_one(agreement: Agreement, maps: Tensor) -> None:
    pairs = agreement.pairs(maps)
    for image in range(maps.shape[1]):
        alone = agreement.pairs(maps[:, image : image + 1])
        assert torch.equal(pairs.causes[..., image], alone.causes[..., 0])
        torch.testing.assert_close(pairs.values[..., image], alone.values[..., 0], rtol=0, atol=1e-12)


@each_agreement
@settings(max_examples=12)
@given(maps=panels(coarse | fine), data=st.data())
def test_shuffled_maps_have_shuffled_pairs(agreement: Agreement, maps: Tensor, data: st.DataObject) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(maps)))))
    pairs, shuffled = agreement.pairs(maps), agreement.pairs(maps[order])
    assert torch.equal(shuffled.causes, pairs.causes[order][:, order])
    torch.testing.assert_close(shuffled.values, pairs.values[order][:, order], rtol=0, atol=1e-12)


@each_agreement
@settings(max_examples=12)
@given(maps=panels(coarse | fine), exponent=st.integers(-100, 100))
def test_the_scale_of_a_map_does_not_matter(agreement: Agreement, maps: Tensor, exponent: int) -> None:
    pairs, scaled = agreement.pairs(maps), agreement.pairs(torch.cat([maps[:1] * 2.0**exponent, maps[1:]]))
    assert torch.equal(pairs.causes, scaled.causes)
    torch.testing.assert_close(pairs.values, scaled.values, rtol=0, atol=1e-12)


@each_agreement
@settings(max_examples=12)
@given(maps=panels(coarse | fine, np.float32))
def test_single_precision_maps_give_the_same_numbers(agreement: Agreement, maps: Tensor) -> None:
    single, double = agreement.pairs(maps), agreement.pairs(maps.double())
    assert torch.equal(single.values, double.values)
    assert torch.equal(single.causes, double.causes)


@each_agreement
def test_the_same_maps_give_the_same_numbers_twice(agreement: Agreement) -> None:
    maps = torch.rand(5, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(agreement.pairs(maps).values, agreement.pairs(maps.clone()).values)


@each_agreement
def test_two_different_maps_are_not_the_closest(agreement: Agreement) -> None:
    maps = torch.zeros(2, 1, 7, 7)
    maps[0, 0, 0, 0] = maps[1, 0, 6, 6] = 1.0
    value = agreement.pairs(maps).value(0, 1, 0)
    assert isinstance(value, float)
    assert value < 0.95 if agreement.higher_is_closer else value > 0.5


@each_agreement
def test_a_map_with_nothing_to_compare_has_a_reason(agreement: Agreement) -> None:
    ending = ENDINGS[agreement.name]
    ramp = torch.arange(49.0).view(1, 7, 7)
    broken, unbounded, zero = ramp.clone(), ramp.clone(), torch.zeros_like(ramp)
    broken[0, 3, 3], unbounded[0, 3, 3] = torch.nan, -torch.inf
    pairs = agreement.pairs(torch.stack([ramp, zero, broken, unbounded, zero]))
    told = {(i, j): pairs.value(i, j, 0) for i, j in itertools.product(range(5), repeat=2)}
    assert isinstance(told[0, 0], float)
    assert told[0, 1] == told[1, 0] == Undefined(f"one of the two maps is {ending}")
    assert told[1, 1] == told[1, 4] == Undefined(f"both maps are {ending}")
    assert told[0, 2] == told[2, 1] == told[0, 3] == told[3, 4] == Undefined("one of the two maps is not finite")
    assert told[2, 2] == told[2, 3] == Undefined("both maps are not finite")


@each_agreement
def test_one_bad_image_leaves_the_others_alone(agreement: Agreement) -> None:
    maps = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    clean = agreement.pairs(maps)
    maps[0, 1] = torch.nan
    spoiled = agreement.pairs(maps)
    assert spoiled.value(0, 1, 1) == Undefined("one of the two maps is not finite")
    torch.testing.assert_close(spoiled.values[..., [0, 2]], clean.values[..., [0, 2]], rtol=0, atol=1e-12)


@each_agreement
def test_no_image_is_no_error(agreement: Agreement) -> None:
    pairs = agreement.pairs(torch.rand(3, 0, 7, 7))
    assert pairs.values.shape == (3, 3, 0)
    assert pairs.median(0, 1) == Undefined("there is no image")


@each_agreement
def test_maps_that_ask_for_gradients_are_only_read(agreement: Agreement) -> None:
    maps = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(3)).requires_grad_()
    before = maps.detach().clone()
    assert not agreement.pairs(maps).values.requires_grad
    assert torch.equal(maps.detach(), before)


@given(maps=panels(coarse | fine))
def test_compare_is_the_pair_of_two(maps: Tensor) -> None:
    pairs = Wasserstein1().pairs(maps)
    told = compare(Wasserstein1(), maps[0], maps[-1])
    assert told == tuple(pairs.value(0, len(maps) - 1, image) for image in range(maps.shape[1]))
    assert told == compare(Wasserstein1(), maps[-1], maps[0])


def test_compare_tells_numbers_and_reasons() -> None:
    a = torch.tensor([[[1.0, 2.0, 3.0]], [[1.0, 1.0, 1.0]]])
    b = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
    assert compare(Spearman(), a, b) == (-1.0, Undefined("one of the two maps is constant"))


def test_compare_refuses_maps_of_two_sizes() -> None:
    with pytest.raises(CallError) as caught:
        inspect.unwrap(compare)(Cosine(), torch.rand(2, 7, 7), torch.rand(2, 8, 8))
    message = "The 'b' parameter of compare must be maps of shape (2, 7, 7) as 'a' is. Got (2, 8, 8) instead."
    assert str(caught.value) == message
