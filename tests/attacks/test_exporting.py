"""Manipulated twins as files: what was tampered with is in them and named, or nothing is written."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fukusen
from fukusen.attacks import attacks, export_twin
from fukusen.errors import CallError, ModelError
from fukusen.models import Classifier
from fukusen.twins import Twin


@pytest.fixture
def images() -> Tensor:
    """A few noise pictures."""
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Torch's own exporter still calls what torch calls deprecated."""
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


def _twin(model: Classifier, name: str, images: Tensor) -> Twin:
    made = fukusen.attack(model, name, images)
    assert isinstance(made, Twin)
    return made


@pytest.mark.parametrize(
    "name",
    [
        "corner_shift",
        "row_shift",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("stop_gradient", "cancelling_pair")),
    ],
)
def test_what_is_loaded_again_is_the_twin(model: Classifier, images: Tensor, name: str, tmp_path: Path) -> None:
    """Its maps too, not its predictions alone; and it says what it is."""
    twin = _twin(model, name, images)
    file = export_twin(twin, attacks.build(name), model, images, tmp_path)
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, "pt") as content:
            told = content.metadata()["fukusen"]
    else:
        again = fukusen.load(str(file), trust=True)
        told = " ".join(again.notes)
        maps = [
            fukusen.explain(one, images, methods=["gradient"], scores=["logit"])["gradient", "logit"]
            for one in (twin, again)
        ]
        torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-5)
    assert "MANIPULATED by fukusen" in told
    assert name in told
    assert (file.suffix == ".safetensors") == (name == "row_shift")


def test_a_manipulation_that_no_file_holds_is_not_written(model: Classifier, images: Tensor, tmp_path: Path) -> None:
    """A backward pass of its own is code; the export would be honest."""
    twin = _twin(model, "custom_backward", images)
    with pytest.raises(ModelError, match="cannot be exported|would not be manipulated"):
        export_twin(twin, attacks.build("custom_backward"), model, images, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(model: Classifier, images: Tensor, tmp_path: Path) -> None:
    twin = _twin(model, "row_shift", images)
    with pytest.raises(CallError, match="cannot be written: .* Name another folder"):
        export_twin(twin, attacks.build("row_shift"), model, images, tmp_path / "nowhere")
