"""LIME and KernelSHAP again, slowly: Shapley values by their definition, regressions as whole systems of equations."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fukusen.arrays import Batch, Maps
from fukusen.errors import CallError
from fukusen.methods import Estimate, KernelShap, Lime, Rise
from fukusen.methods.coalitions import (
    Shares,
    coin_flips,
    lime_shares,
    shapley_draws,
    shapley_shares,
)
from fukusen.methods.fills import Fill, hiding
from fukusen.methods.superpixels import NO_SLIC, superpixels
from fukusen.models import Classifier, wrap
from fukusen.records import Undefined
from fukusen.scores import scores
from fukusen.tape import Tape

Formula = Callable[[Tensor, int], Tensor]
NAIVE: dict[str, Formula] = {
    "logit": lambda z, c: z[:, c],
    "centered_logit": lambda z, c: z[:, c] - z.mean(dim=1),
    "log_odds": lambda z, c: z[:, c] - torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1),
    "log_probability": lambda z, c: z.log_softmax(dim=1)[:, c],
    "probability": lambda z, c: z.softmax(dim=1)[:, c],
}
TARGETS = (1, 3)
PARTS = 6
Drawer = Rise | Lime | KernelShap

each_score = pytest.mark.parametrize("name", NAIVE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Loops over small tensors: a second thread would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model() -> Classifier:
    """A small network in float64 in which the parts of the image work together."""
    torch.manual_seed(0)
    front = [nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Flatten()]
    net = nn.Sequential(*front, nn.Linear(6 * 5 * 4, 8), nn.ReLU(), nn.Linear(8, 5)).double().eval()
    return wrap(net, input_size=(3, 12, 10), head="softmax")


@cache
def _untouched() -> Classifier:
    """One that no test hangs a hook on."""
    return _model()


@cache
def _images() -> Tensor:
    return 2 * torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _tape(model: Classifier) -> Tape:
    return Tape(model, Batch(("a", "b"), _images(), torch.tensor(TARGETS)))


def _maps(method: Drawer, *names: str, model: Classifier | None = None) -> list[Maps]:
    found = method.maps(_tape(model or _model()), [scores.build(name) for name in names])
    return [one for one in found if isinstance(one, Tensor)]


def _estimate(method: Drawer, name: str = "log_odds") -> Estimate:
    (found,) = method.estimates(_tape(_model()), [scores.build(name)])
    assert isinstance(found, Estimate)
    return found


@cache
def _labels() -> Tensor:
    """Three rows and two columns of cells, written out."""
    labels = torch.zeros(12, 10, dtype=torch.int64)
    for i in range(12):
        for j in range(10):
            labels[i, j] = i // 4 * 2 + j // 5
    return labels


@cache
def _logits(image: int, kept: frozenset[int], fill: Fill) -> Tensor:
    """The logits of one image of which some parts are kept, one forward pass."""
    images = _images()[image : image + 1]
    keep = torch.zeros(1, 12, 10, dtype=torch.float64)
    for part in kept:
        keep[0, _labels() == part] = 1
    with torch.no_grad():
        logits: Tensor = _untouched().net(hiding(images, fill).through(keep))
    return logits


def _seen(image: int, kept: frozenset[int], name: str, fill: Fill) -> float:
    """The score of one image of which some parts are kept."""
    return float(NAIVE[name](_logits(image, kept, fill), TARGETS[image]))


def _per_part(maps: Maps) -> Tensor:
    """(b, p): each part's number, which all of its pixels must have."""
    labels = _labels()
    for part in range(PARTS):
        assert bool((maps[:, labels == part] == maps[:, labels == part][:, :1]).all())
    return torch.stack([maps[:, labels == part][:, 0] for part in range(PARTS)], dim=1)


@pytest.mark.parametrize(("name", "fill"), [*((name, "mean") for name in NAIVE), ("log_odds", "inpaint")])
def test_all_draws_give_the_shapley_values(name: str, fill: Fill) -> None:
    """By their definition: a part's mean gain over all orders in which the parts can come."""
    found = _per_part(_maps(KernelShap(samples=None, segments=PARTS, fill=fill), name)[0])
    for image in range(2):
        sets = [frozenset(one) for size in range(PARTS + 1) for one in itertools.combinations(range(PARTS), size)]
        value = {one: _seen(image, one, name, fill) for one in sets}
        for part in range(PARTS):
            total = 0.0
            for one in (one for one in sets if part not in one):
                share = math.factorial(len(one)) * math.factorial(PARTS - len(one) - 1) / math.factorial(PARTS)
                total += share * (value[one | {part}] - value[one])
            assert float(found[image, part]) == pytest.approx(total, rel=1e-9, abs=1e-11)


@each_score
@pytest.mark.parametrize("samples", [16, 41])
def test_kernel_shap_is_the_constrained_regression(name: str, samples: int) -> None:
    """With a Lagrange multiplier, as one system of equations."""
    found = _per_part(_maps(KernelShap(samples=samples, segments=PARTS, seed=3), name)[0])
    draws = [[float(kept) for kept in one] for one in islice(shapley_draws(PARTS, 3), samples)]
    for image in range(2):
        hidden, whole = (_seen(image, one, name, "mean") for one in (frozenset(), frozenset(range(PARTS))))
        matrix, right = np.zeros((PARTS + 1, PARTS + 1)), np.zeros(PARTS + 1)
        for one in draws:
            seen = _seen(image, frozenset(part for part in range(PARTS) if one[part]), name, "mean")
            matrix[:PARTS, :PARTS] += 2 * np.outer(one, one)
            right[:PARTS] += 2 * np.array(one) * (seen - hidden)
        matrix[PARTS, :PARTS] = matrix[:PARTS, PARTS] = 1
        right[PARTS] = whole - hidden
        expected = np.linalg.solve(matrix, right)[:PARTS]
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-8, atol=1e-11)


@settings(max_examples=20)
@given(
    samples=st.integers(2, 60), segments=st.integers(2, 30), seed=st.integers(0, 1000), name=st.sampled_from([*NAIVE])
)
def test_shares_add_up_however_few_the_draws(samples: int, segments: int, seed: int, name: str) -> None:
    """To the score less that of the hidden image, but for rounding."""
    (maps,) = _maps(KernelShap(samples=samples, segments=segments, seed=seed), name)
    labels = superpixels(_images(), segments, "cells")
    assert isinstance(labels, Tensor)
    first = [int((labels[0].flatten() == part).nonzero()[0]) for part in range(int(labels.max()) + 1)]
    total = maps.flatten(1)[:, first].sum(dim=1)
    for image in range(2):
        asked = _seen(image, frozenset(range(PARTS)), name, "mean") - _seen(image, frozenset(), name, "mean")
        assert float(total[image]) == pytest.approx(asked, rel=1e-12, abs=1e-12)


def test_a_part_that_nothing_looks_at_is_worth_nothing() -> None:
    """And in a linear network each part is worth what it adds, by any number of draws that tells the parts apart."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 10, 5)).double().eval()
    with torch.no_grad():
        net[1].weight.view(5, 3, 12, 10)[:, :, :4, :5] = 0
    model = wrap(net, input_size=(3, 12, 10), head="softmax")
    for samples in (None, 24):
        found = _per_part(_maps(KernelShap(samples=samples, segments=PARTS, fill="zero"), "logit", model=model)[0])
        assert found[:, 0].abs().max() < 1e-12
        weights = net[1].weight.detach().view(5, 3, 12, 10)[list(TARGETS)]
        added = (weights * _images()).sum(dim=1)
        for part in range(PARTS):
            torch.testing.assert_close(found[:, part], added[:, _labels() == part].sum(dim=1), rtol=0, atol=1e-10)
    flat = _per_part(_maps(Lime(samples=24, segments=PARTS, fill="zero", penalty=1e-9), "logit", model=model)[0])
    torch.testing.assert_close(flat, found, rtol=0, atol=1e-6)


@each_score
@pytest.mark.parametrize(("width", "penalty"), [(0.25, 1.0), (1.0, 0.1)])
def test_lime_is_the_weighted_ridge_regression(name: str, width: float, penalty: float) -> None:
    """With a column of ones that is not penalised, as one system of equations."""
    found = _per_part(_maps(Lime(samples=30, segments=PARTS, width=width, penalty=penalty, seed=5), name)[0])
    draws = [[1.0] * PARTS] + [[float(kept) for kept in one] for one in islice(coin_flips(PARTS, 5), 30)]
    for image in range(2):
        matrix, right = penalty * np.eye(PARTS + 1), np.zeros(PARTS + 1)
        matrix[PARTS, PARTS] = 0
        for one in draws:
            length = math.sqrt(sum(kept * kept for kept in one))
            distance = 1 - (sum(one) / (length * math.sqrt(PARTS)) if length else 0.0)
            weight = math.exp(-(distance**2) / (2 * width**2))
            row = np.array([*one, 1.0])
            seen = _seen(image, frozenset(part for part in range(PARTS) if one[part]), name, "mean")
            matrix += weight * np.outer(row, row)
            right += weight * row * seen
        expected = np.linalg.solve(matrix, right)[:PARTS]
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(
    ("method", "passes"),
    [(Lime(samples=6, segments=4), 6), (KernelShap(samples=6, segments=4), 7), (KernelShap(None, segments=4), 15)],
)
def test_five_scores_share_their_passes(method: Drawer, passes: int) -> None:
    """And the errors take none."""
    model = _model()
    for asked in (["logit"], list(NAIVE)):
        for ask in (method.maps, method.estimates):
            seen: list[int] = []
            hook = model.net.register_forward_hook(lambda *_, seen=seen: seen.append(1))
            found = ask(_tape(model), [scores.build(name) for name in asked])
            hook.remove()
            assert len(found) == len(asked)
            assert len(seen) == 1 + passes


def _drawers(count: int, seed: int = 0) -> dict[str, Drawer]:
    return {
        "rise": Rise(masks=count, cells=3, seed=seed),
        "lime": Lime(samples=count, segments=PARTS, seed=seed),
        "kernel_shap": KernelShap(samples=count, segments=PARTS, seed=seed),
    }


each_drawer = pytest.mark.parametrize("kind", _drawers(2))


@each_drawer
def test_fewer_draws_are_the_first_of_more(kind: str) -> None:
    """What the network is shown for N draws is the beginning of what it is shown for 2 N."""
    shown: list[list[Tensor]] = []
    for count in (9, 18):
        model = _model()
        seen: list[Tensor] = []
        model.net.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].clone()))
        _maps(_drawers(count)[kind], "logit", model=model)
        shown.append(seen[1:])  # the tape's own pass comes first
    assert len(shown[1]) == len(shown[0]) + 9
    for one, other in zip(shown[0], shown[1], strict=False):
        assert torch.equal(one, other)


def _game(drawn: Tensor) -> Tensor:
    """Two functions of what is kept, (n, 2), in which parts work together, at once for many draws."""
    kept = drawn.double()
    weights = torch.linspace(-1, 2, drawn.shape[1], dtype=torch.float64)
    return torch.stack([(kept @ weights).pow(3), (kept @ weights + kept[:, 0] * kept[:, 1]).tanh()], dim=1)


def _told(kind: str, count: int, seed: int) -> Shares:
    if kind == "lime":
        drawn = torch.stack([torch.ones(PARTS, dtype=torch.bool), *islice(coin_flips(PARTS, seed), count)])
        return lime_shares(drawn, _game(drawn), 0.25, 0.01)
    drawn = torch.stack(list(islice(shapley_draws(PARTS, seed), count)))
    return shapley_shares(drawn, None, _game(drawn), _game(torch.tensor([[False], [True]]).expand(-1, PARTS)))


@pytest.mark.parametrize("kind", ["lime", "kernel_shap"])
def test_the_error_of_a_share_is_what_other_draws_change(kind: str) -> None:
    """The spread of the shares over many seeds is the error that a single one of them tells."""
    made = [_told(kind, 150, seed) for seed in range(200)]
    spread = torch.stack([one.values for one in made]).std(dim=0)
    told = torch.stack([one.errors for one in made if isinstance(one.errors, Tensor)])
    assert len(told) == 200
    ratio = told.square().mean(dim=0).sqrt() / spread
    assert 0.8 < float(ratio.min()) <= float(ratio.max()) < 1.25


def test_opposites_in_pairs_are_exact_where_parts_work_together_two_by_two() -> None:
    """What is left to chance cancels in each pair: a part is worth its own gain and half of each gain in common."""
    together = torch.randn(PARTS, PARTS, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    drawn = torch.stack(list(islice(shapley_draws(PARTS, 0), 24)))
    ends = torch.tensor([[0.0], [float(together.sum())]], dtype=torch.float64)
    kept = drawn.double()
    found = shapley_shares(drawn, None, torch.einsum("np,pq,nq->n", kept, together, kept)[:, None], ends)
    torch.testing.assert_close(found.values[:, 0], (together.sum(dim=0) + together.sum(dim=1)) / 2)
    assert isinstance(found.errors, Tensor)
    assert float(found.errors.max()) < 1e-12


def test_the_error_of_rise_is_what_other_masks_change() -> None:
    """The same of its pixels."""
    made = [_estimate(Rise(masks=40, cells=3, seed=seed)) for seed in range(16)]
    spread = torch.stack([one.maps for one in made]).std(dim=0)
    told = torch.stack([one.error for one in made if isinstance(one.error, Tensor)])
    assert len(told) == 16
    assert 0.75 < float(told.square().mean().sqrt() / spread.square().mean().sqrt()) < 1.35


@each_drawer
def test_the_error_falls_with_the_root(kind: str) -> None:
    """Four times as many draws halve it."""
    errors = []
    for count in (80, 320):
        found = _estimate(_drawers(count)[kind]).error
        assert isinstance(found, Tensor)
        assert found.shape == (2, 12, 10)
        errors.append(float(found.mean()))
    assert errors[1] / errors[0] == pytest.approx(0.5, rel=0.2)


@each_drawer
def test_the_maps_of_the_estimates_are_the_maps(kind: str) -> None:
    """To the bit."""
    assert torch.equal(_estimate(_drawers(20)[kind]).maps, _maps(_drawers(20)[kind], "log_odds")[0])


def test_an_error_that_cannot_be_told_is_undefined() -> None:
    """With no more pairs of draws than parts; and with all draws there is none."""
    for method in (KernelShap(samples=8, segments=PARTS), Lime(samples=2, segments=PARTS, penalty=1e-6)):
        found = _estimate(method)
        assert isinstance(found.error, Undefined)
        assert "draw more" in found.error.reason
        assert bool(found.maps.isfinite().all())
    exact = _estimate(KernelShap(samples=None, segments=PARTS)).error
    assert isinstance(exact, Tensor)
    assert not exact.any()


@pytest.mark.parametrize(
    "method", [Lime(samples=40, segments=5, parts="slic"), KernelShap(None, segments=5, parts="slic")]
)
def test_images_with_other_numbers_of_parts(method: Lime | KernelShap) -> None:
    """Each has the map that it has alone, constant on its parts."""
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    model = _model()
    images = torch.nn.functional.interpolate(_images()[:, :, ::4, ::4], (12, 10), mode="bilinear")
    images[1, :, :, 5:] = 3
    labels = superpixels(images, 5, "slic")
    assert isinstance(labels, Tensor)
    assert len({int(label.max()) for label in labels}) == 2, "the images were to have different numbers of parts"
    score = [scores.build("log_odds")]
    (both,) = method.maps(Tape(model, Batch(("a", "b"), images, torch.tensor(TARGETS))), score)
    assert isinstance(both, Tensor)
    for number in range(2):
        one = slice(number, number + 1)
        (alone,) = method.maps(Tape(model, Batch(("a",), images[one], torch.tensor(TARGETS[one]))), score)
        assert isinstance(alone, Tensor)
        torch.testing.assert_close(both[one], alone, rtol=1e-9, atol=1e-12)
        for part in labels[number].unique():
            assert len(both[number][labels[number] == part].unique()) == 1


def test_without_scikit_image_there_are_no_superpixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in one sentence, for every score."""
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    for method in (Lime(parts="slic"), KernelShap(parts="slic")):
        found = method.maps(_tape(_model()), [scores.build("logit"), scores.build("probability")])
        assert found == [NO_SLIC] * 2


@pytest.mark.parametrize(
    ("kind", "name", "bad"),
    [
        *((kind, name, bad) for kind in (Lime, KernelShap) for name, bad in (("samples", 1), ("segments", 1))),
        *((kind, "seed", -1) for kind in (Lime, KernelShap)),
        (Lime, "width", 0.0),
        (Lime, "penalty", 0.0),
    ],
)
def test_bad_parameters_are_refused(kind: type[Lime | KernelShap], name: str, bad: object) -> None:
    """By name."""
    with pytest.raises(CallError, match=f"The '{name}' parameter of {kind.__name__} must be"):
        kind(**{name: bad})  # type: ignore[arg-type]


def test_all_draws_are_for_few_parts() -> None:
    """Two to the power of the parts is soon too many."""
    rule = "The 'segments' parameter of KernelShap must be at most 16 where samples is None. Got 49 instead."
    with pytest.raises(CallError) as caught:
        KernelShap(samples=None)
    assert str(caught.value) == rule
