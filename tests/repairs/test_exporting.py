"""A repaired model written, and loaded again as a user loads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fukusen
from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier, wrap
from fukusen.models.preprocessing import CenterCrop
from fukusen.repairs import check_place, export

FACTORY = """
from torch import nn
class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 7)
    def forward(self, images):
        return self.head(self.features(images).mean(dim=(2, 3)))
def bare():
    return Bare().eval()
"""


Make = Callable[..., Classifier]
CLASSES = 7


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Torch's own exporter still calls what torch calls deprecated."""
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


def _named(made: Make, after: str) -> Classifier:
    """A model with class names and a preprocessing that is not the usual one."""
    net = made(nn.Linear(8, CLASSES), after).net
    names = [f"sort {number}" for number in range(CLASSES)]
    return wrap(net, CenterCrop(12, mean=(0.1,) * 3, std=(0.7,) * 3), names, head="softmax")


def test_weights_go_back_into_their_architecture(made: Make, tmp_path: Path, images: Tensor) -> None:
    from safetensors import safe_open

    fixed = fukusen.repair(_named(made, "nothing"), images)
    place = tmp_path / "fixed.safetensors"
    done = export(fixed, place, images)
    assert done.largest_change == 0
    assert "module.py:factory" in done.usage
    (tmp_path / "model.py").write_text(FACTORY)
    again = fukusen.load(f"{tmp_path}/model.py:bare", weights=place)
    was, now = (one.probabilities(one.logits(images)) for one in (fixed, again))
    torch.testing.assert_close(was, now, atol=0, rtol=0)
    with safe_open(place, "pt") as file:
        assert "Repaired by fukusen: the mean row of head is zero" in file.metadata()["fukusen"]


@pytest.mark.parametrize(
    "after", ["branch", pytest.param("nothing", marks=pytest.mark.slow), pytest.param("named", marks=pytest.mark.slow)]
)
def test_a_program_comes_back_whole(made: Make, after: str, tmp_path: Path, images: Tensor) -> None:
    """With its classes, its head and its preprocessing, for any number of pictures."""
    model = _named(made, after)
    fixed = fukusen.repair(model, images)
    done = export(fixed, tmp_path / "fixed.pt2", images)
    assert done.largest_change <= 1e-6
    again = fukusen.load(str(tmp_path / "fixed.pt2"), trust=True)
    assert (again.classes, again.head, again.preprocess) == (model.classes, model.head, model.preprocess)
    ran, says = again.notes
    assert ran.startswith(f"Code in {tmp_path / 'fixed.pt2'} may have run when it was loaded")
    assert says.startswith("The file says of itself: Repaired by fukusen: ")
    for few in (images, images[:1]):
        was, now = (one.probabilities(one.logits(few)) for one in (model, again))
        torch.testing.assert_close(was, now, atol=1e-6, rtol=0)


def test_a_preprocessing_of_the_users_own_is_not_written(made: Make, tmp_path: Path, images: Tensor) -> None:
    """Nor an assumed head taken for a known one; both are said."""

    def own(picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(picture.resize((12, 12)), np.float32).transpose(2, 0, 1) / 255)

    fixed = fukusen.repair(wrap(made(nn.Linear(8, CLASSES)).net, own), images)
    done = export(fixed, tmp_path / "fixed.pt2", images)
    assert done.usage.endswith("is not in the file: wrap what was loaded with it.")
    again = fukusen.load(str(tmp_path / "fixed.pt2"), trust=True)
    assert again.head.assumed
    assert any("does not say how pictures become its input" in note for note in again.notes)


def test_where_it_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "there.pt2").write_text("mine")
    for name, told in (
        ("fixed.onnx", "would be of no known kind. Name one that ends with .safetensors"),
        ("there.pt2", "already, and nothing is written over. Name another file"),
        ("no/where.pt2", "There is no folder"),
    ):
        with pytest.raises(CallError, match=told):
            check_place(tmp_path / name)
    check_place(tmp_path / "there.pt2", force=True)


def test_weights_cannot_hold_a_wrapper(made: Make, tmp_path: Path, images: Tensor) -> None:
    fixed = fukusen.repair(_named(made, "branch"), images)
    with pytest.raises(CallError) as refused:
        export(fixed, tmp_path / "fixed.safetensors", images)
    assert str(refused.value).startswith("Weights alone cannot hold this repair: what is added to the logits")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_promise_is_not_written(made: Make, tmp_path: Path, images: Tensor) -> None:
    fixed = fukusen.repair(_named(made, "nothing"), images)
    broken = replace(fixed, promise=replace(fixed.promise, largest_change=0.5, flips=2))
    with pytest.raises(ModelError) as refused:
        export(broken, tmp_path / "fixed.pt2", images)
    assert str(refused.value) == (
        "The repaired model is not written: its probabilities differ from the given model's by up to 0.5 (2 of 6 "
        "predictions change), where 1e-06 was promised. Repair the model in float64, or a clean copy of it."
    )
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_said(made: Make, tmp_path: Path, images: Tensor) -> None:
    class Wilful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = made(nn.Linear(8, CLASSES), "branch").net

        def forward(self, images: Tensor) -> Tensor:
            found = self.net(images)
            return found + 1 if float(found.detach().sum()) > 1e9 else found

    fixed = fukusen.repair(wrap(Wilful(), input_size=(3, 12, 12), head="softmax"), images)
    with pytest.raises(ModelError, match="cannot be exported as a program: .* Write a module.py:factory"):
        export(fixed, tmp_path / "fixed.pt2", images)
    assert list(tmp_path.iterdir()) == []
