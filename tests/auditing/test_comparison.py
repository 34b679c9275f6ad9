"""Pairs of models that differ in one known way, and the headline that each must get."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fukusen
from fukusen.auditing.bounds import comparison_bounds
from fukusen.auditing.comparison import Comparison, Row
from fukusen.auditing.insides import same_code, weights_of
from fukusen.errors import CallError, DataError, ModelError, UnknownName
from fukusen.models import Classifier, load, wrap
from fukusen.models.preprocessing import CenterCrop
from fukusen.records import Undefined

SAME = "same function, same explanations"
MOVED = "same function, different explanations"


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    net = nn.Sequential(*layers, nn.Linear(8, 5)).eval()
    with torch.no_grad():
        net[6].weight *= 4
    return net


def _wrapped(net: nn.Module, **more: object) -> Classifier:
    return wrap(net, **{"input_size": (3, 16, 16), "head": "softmax", **more})  # type: ignore[arg-type]


@pytest.fixture
def model() -> Classifier:
    """A small network."""
    return _wrapped(_net())


@pytest.fixture
def images() -> Tensor:
    """Six images."""
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def _changed(model: Classifier, change: Callable[[Tensor], Tensor]) -> Classifier:
    net = copy.deepcopy(model.net)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(change(value))
    return replace(model, net=net)


def test_a_copy_is_identical(model: Classifier, images: Tensor) -> None:
    found = fukusen.compare(model, _wrapped(copy.deepcopy(model.net)), images)
    assert found.headline == "identical, same explanations"
    assert found.equal
    assert (found.outputs.largest_change, found.outputs.flips, found.outputs.images) == (0.0, 0, 6)
    assert found.weights.same
    assert found.same_code
    assert {row.same(found.bounds) for row in found.rows} == {True}
    assert len(found.rows) == 6 * 5


def test_a_shifted_twin_predicts_the_same_and_explains_otherwise(model: Classifier, images: Tensor) -> None:
    """Only in the score that leaks, and the shift is named."""
    found = fukusen.compare(model, fukusen.attack(model, "corner_shift", images, strength=3), images)
    assert found.headline == MOVED
    assert not found.equal
    assert {row.score for row in found.moved} == {"logit"}
    assert found.weights.same
    assert not found.same_code
    assert any("a number that is added to every logit" in note for note in found.notes)
    assert any(sentence.startswith("Only those move that a number added to every logit") for sentence in found.meaning)
    assert any(sentence.startswith("Heatmaps of the one say nothing") for sentence in found.meaning)


def test_a_slope_without_a_value_moves_every_score(model: Classifier, images: Tensor) -> None:
    class Bent(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            logits = self.net(images)
            corner = 50 * images[:, :, :3, :3].sum(dim=(1, 2, 3))
            winner = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1])
            return logits + winner * (corner - corner.detach())[:, None]

    found = fukusen.compare(model, _wrapped(Bent(_net())), images)
    assert found.headline == MOVED
    assert {row.score for row in found.moved} > {"logit", "log_odds"}
    assert not any(sentence.startswith("Only those move") for sentence in found.meaning)


def test_the_same_in_another_precision_is_the_same(model: Classifier, images: Tensor) -> None:
    found = fukusen.compare(model, replace(model, net=copy.deepcopy(model.net).double()), images)
    assert found.headline == SAME
    assert found.equal
    assert 0 < found.outputs.largest_change < 1e-6


def test_weights_of_its_own_are_a_different_function(model: Classifier, images: Tensor) -> None:
    found = fukusen.compare(model, _wrapped(_net(seed=1)), images)
    assert found.headline == "different function, different explanations"
    assert found.same_code
    assert (found.weights.differing, found.weights.compared) == (6, 6)
    assert found.weights.largest > 1
    assert found.meaning[-1].startswith("Whatever was tested on the reference")


def test_a_light_change_is_nearly_the_same_and_never_the_same(model: Classifier, images: Tensor) -> None:
    found = fukusen.compare(model, _changed(model, lambda value: value * 1.01), images)
    assert 1e-4 < found.outputs.largest_change < 0.05
    assert found.function == "nearly the same function"
    assert not found.equal
    assert "is no rounding: they are not the same model" in found.meaning[0]


def test_a_quantised_network_has_no_maps_to_compare(model: Classifier, images: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model.net), {nn.Linear}, dtype=torch.qint8)
        candidate = _wrapped(net)
        found = fukusen.compare(model, candidate, images)
        behaviour = fukusen.compare(model, candidate, images, methods=["occlusion"], scores=["log_odds"])
    assert found.headline == "nearly the same function, explanations not compared"
    assert {row.lacking for row in found.rows} == {"the candidate lets no gradient through"}
    assert "No heatmap could be compared: the candidate lets no gradient through." in found.meaning
    assert any("The network is quantised" in note for note in found.notes)
    assert [row.lacking for row in behaviour.rows] == [None]


@pytest.mark.slow
def test_an_onnx_export_is_the_same_in_other_code(model: Classifier, tmp_path: Path) -> None:
    """Also where the file does not say how pictures become its input."""
    known = _wrapped(model.net, preprocess=CenterCrop(16, mean=(0.2,) * 3, std=(0.3,) * 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample, place = (torch.zeros(2, 3, 16, 16),), tmp_path / "model.onnx"
        torch.onnx.export(
            copy.deepcopy(model.net), sample, place, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False
        )
    other = load(str(place), head="softmax")
    found = fukusen.compare(known, other, _pictures(tmp_path))
    assert found.headline == SAME
    assert not found.same_code
    assert found.preprocessing == (
        "The candidate's preprocessing is not known: both were shown pictures as the reference's makes them."
    )


def test_a_preprocessing_that_is_only_assumed_is_no_difference(model: Classifier, tmp_path: Path) -> None:
    known = _wrapped(model.net, input_size=None, preprocess=CenterCrop(224, mean=(0.2,) * 3, std=(0.3,) * 3))
    assumed = _wrapped(model.net, input_size=None)
    folder = _pictures(tmp_path)
    for pair, told in (((known, assumed), "The candidate's"), ((assumed, known), "The reference's")):
        found = fukusen.compare(*pair, folder, methods=["grad_cam"], scores=["log_odds"])
        assert found.headline == SAME
        assert found.preprocessing.startswith(f"{told} preprocessing is not known")


def _pictures(folder: Path) -> Path:
    from PIL import Image

    for number, colour in enumerate(("red", "teal", "gold")):
        picture = Image.new("RGB", (40, 30), colour)
        picture.paste("black", (3 * number, 4, 20, 19))
        picture.save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_preprocessing_that_differs_is_said(model: Classifier, tmp_path: Path) -> None:
    """Each sees pictures its own way; what cannot be read is left out and listed."""
    first, second = (_wrapped(model.net, preprocess=CenterCrop(16, crop)) for crop in (1.0, 0.5))
    found = fukusen.compare(first, second, _pictures(tmp_path))
    assert found.preprocessing.startswith("The preprocessing differs:")
    assert found.outputs.images == 3
    assert found.failures == {"broken.png": "it is not a picture in a format that can be read"}
    assert found.weights.same
    assert found.function != "identical"


def test_other_heads_are_compared_where_they_can_be(model: Classifier, images: Tensor) -> None:
    candidate = wrap(nn.Sequential(_net(), nn.Softmax(dim=1)), input_size=(3, 16, 16))
    found = fukusen.compare(model, candidate, images)
    assert found.headline == SAME
    assert {row.score: row.lacking for row in found.rows}["logit"] == (
        "one model returns logits and the other probabilities, whose logits are other numbers"
    )
    assert found.notes[0].startswith("The reference's outputs are read as softmax, the candidate's as probabilities")


def test_names_of_classes_are_compared(model: Classifier, images: Tensor) -> None:
    first, second = (_wrapped(model.net, classes=list(names)) for names in ("abcde", "acbde"))
    panel = {"methods": ["grad_cam"], "scores": ["log_odds"]}
    (permuted,) = fukusen.compare(first, second, images, **panel).notes  # type: ignore[arg-type]
    assert permuted.startswith("2 of 5 class names differ, in another order, such as 'b' and 'c' for class 1: ")
    (unnamed,) = fukusen.compare(first, model, images, **panel).notes  # type: ignore[arg-type]
    assert unnamed == "The candidate's classes have no names: classes are compared by their place."


def test_other_layers_are_said_and_compared_on_the_coarser_grid(model: Classifier, images: Tensor) -> None:
    pooled = nn.Sequential(*_net()[:4], nn.AvgPool2d(2), *_net()[4:]).eval()
    whole = _wrapped(model.net, layer="3")
    found = fukusen.compare(whole, _wrapped(pooled, layer="4"), images, methods=["grad_cam"], scores=["log_odds"])
    assert found.rows[0].grids == ((12, 12), (6, 6))
    assert found.rows[0].median == pytest.approx(1.0, abs=1e-5)
    assert found.notes[0].startswith(
        "Class activation maps are read at 3 (8 x 12 x 12) in the reference and at 4 (8 x 6"
    )


def test_an_image_with_broken_outputs_is_left_out(model: Classifier, images: Tensor) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net()

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images) / (images[:, 0, 0, 0] != 9)[:, None]

    images[2, 0, 0, 0] = 9
    found = fukusen.compare(model, _wrapped(Broken()), images)
    assert found.failures == {"image 2": "the candidate returns NaN or infinite numbers for it"}
    assert found.outputs.images == 5
    assert found.headline == SAME


def test_batches_change_nothing(model: Classifier, images: Tensor) -> None:
    twin = fukusen.attack(model, "corner_shift", images, strength=3)
    one, many = (fukusen.compare(model, twin, images, batch=size).as_json() for size in (16, 2))
    assert one["headline"] == many["headline"]
    assert many["outputs"] == pytest.approx(one["outputs"], abs=1e-7)
    for left, right in zip(one["rows"], many["rows"], strict=True):
        assert right["cosine_median"] == pytest.approx(left["cosine_median"], abs=1e-5)


def test_json_is_complete_and_valid(model: Classifier, images: Tensor) -> None:
    found = fukusen.compare(model, model, images).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(found["images"]) == 6
    assert [bound["name"] for bound in found["bounds"]] == list(comparison_bounds())


def test_bad_calls_are_refused(model: Classifier, images: Tensor) -> None:
    fewer = _wrapped(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)))
    with pytest.raises(ModelError) as classes:
        fukusen.compare(model, fewer, images)
    assert str(classes.value) == (
        "The reference tells 5 classes apart and the candidate 3, so their probabilities cannot be compared. Compare "
        "models of the same classes."
    )
    wider = wrap(_net(), input_size=(3, 20, 20), head="softmax")
    with pytest.raises(CallError, match="so one tensor cannot be given to both. Give pictures"):
        fukusen.compare(model, wider, images)
    with pytest.raises(DataError, match=r"^None of the images can be used. image 0: its preprocessed pixels are NaN"):
        fukusen.compare(model, model, images * float("nan"))
    with pytest.raises(UnknownName):
        fukusen.compare(model, model, images, methods=["grad_cam_"])


def test_one_sided_maps_are_a_difference() -> None:
    bounds = comparison_bounds()
    lost = Row("grad_cam", "logit", (Undefined("x"),), (Undefined("x"),), ("a",), one_sided=1)
    assert lost.same(bounds) is False
    assert Row("grad_cam", "logit", (Undefined("x"),), (Undefined("x"),), ("a",)).same(bounds) is None
    near = Row("grad_cam", "logit", (1.0, 1.0, 0.98), (), ("a", "b", "c"))
    assert (near.worst, near.same(bounds)) == ((0.98, "c"), False)


def test_weights_are_told_apart_by_name_and_by_content() -> None:
    first, inside = _net(), nn.Sequential()
    inside.add_module("net", _net())
    assert weights_of(first, inside).same
    moved = copy.deepcopy(inside)
    with torch.no_grad():
        moved.net[0].weight *= 3  # type: ignore[index, operator, union-attr]
    found = weights_of(first, moved)
    assert (found.differing, found.worst) == (1, "0.weight")
    assert found.largest == pytest.approx(2 / 3)
    renamed = nn.Sequential(nn.Flatten(), nn.Module())
    renamed[1].register_buffer("kernel", first[0].weight.detach().clone())
    assert weights_of(first, renamed).found == 1
    wider = _net()
    wider[6] = nn.Linear(8, 6)
    assert weights_of(first, wider).reshaped == ("6.weight", "6.bias")


def test_code_is_told_apart_whatever_the_weights() -> None:
    assert same_code(_net(0), _net(1))
    assert not same_code(_net(0), nn.Sequential(*_net(0)[:6], nn.Dropout(), _net(0)[6]).eval())


def test_it_is_a_comparison(model: Classifier, images: Tensor) -> None:
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    model.net.train()
    assert isinstance(fukusen.compare(model, model, images), Comparison)
    assert model.net.training
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    assert all(value.grad is None for value in model.net.parameters())
