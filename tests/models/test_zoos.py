"""Architectures by name, with weights from files that the tests make, and no network at hand."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fukusen.errors import CallError, ModelError, UnknownName
from fukusen.models import load, zoos
from fukusen.models.preprocessing import CenterCrop


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No test may reach out, and nothing that was fetched before may be found."""
    asked: list[str] = []

    def refuse(request: Any, **_options: Any) -> None:
        asked.append(getattr(request, "full_url", request))
        raise URLError("Name or service not known")

    monkeypatch.setattr(zoos, "urlopen", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return asked


@pytest.fixture
def fixed() -> None:
    torch.manual_seed(0)


def _saved(net: nn.Module, path: Path) -> Path:
    save_file(net.state_dict(), path)
    return path


def test_torchvision_with_weights(tmp_path: Path, fixed: None) -> None:
    from torchvision import models

    net = models.squeezenet1_1().eval()
    model = load("torchvision:squeezenet1_1", weights=_saved(net, tmp_path / "a.safetensors"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), net(images))
    assert model.preprocess == CenterCrop(224, 224 / 256)
    assert model.classes[281] == "tabby"
    assert model.notes[-1] == (
        "The preprocessing is that of torchvision's own squeezenet1_1; the weights given may have been trained with "
        "another."
    )


def test_torchvision_with_other_classes(tmp_path: Path, fixed: None) -> None:
    from torchvision import models

    path = tmp_path / "a.pth"
    state = models.mobilenet_v3_small(num_classes=2).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    model = load("torchvision:mobilenet_v3_small", weights=path, classes=["good", "bad"], head="softmax")
    assert model.classes == ("good", "bad")


def test_timm_with_other_classes(tmp_path: Path, fixed: None) -> None:
    import timm

    net = timm.create_model("test_resnet", num_classes=5).eval()
    model = load("timm:test_resnet", weights=_saved(net, tmp_path / "a.safetensors"), head="softmax")
    settings = timm.data.resolve_model_data_config(net)
    assert len(model.classes) == 5
    assert model.preprocess == CenterCrop(
        settings["input_size"][-1],
        settings["crop_pct"],
        tuple(settings["mean"]),
        tuple(settings["std"]),
        int(Image.Resampling[settings["interpolation"].upper()]),
    )


def test_timm_with_its_own_classes(tmp_path: Path, fixed: None) -> None:
    import timm

    path = _saved(timm.create_model("test_resnet"), tmp_path / "a.safetensors")
    assert len(load("timm:test_resnet", weights=path, head="softmax").classes) == 1000


def test_misfit(tmp_path: Path) -> None:
    from torchvision import models

    path = _saved(models.squeezenet1_1(), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"do not fit the architecture: \d+ missing \(.*\); \d+ unknown"):
        load("torchvision:resnet18", weights=path)


def test_unknown_names() -> None:
    with pytest.raises(
        UnknownName, match=r"There is no torchvision classifier named 'resnet19'\. Did you mean 'resnet18'"
    ):
        load("torchvision:resnet19")
    for name, near in (("resnet19", "resnet18"), ("resnet18.a1_in2k", "resnet18.a1_in1k")):
        with pytest.raises(CallError) as caught:
            load(f"timm:{name}")
        assert str(caught.value) == (
            f"There is no timm model named {name!r}. Did you mean {near!r}? "
            "timm.list_models(pretrained=True) names all."
        )


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "timm:resnet18"])
def test_offline_is_said_at_once(spec: str, offline: list[str]) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load(spec)
    assert str(caught.value) == (
        f"The published weights of {spec!r} could not be fetched (<urlopen error Name or service not known>). Give a "
        "file with --weights (weights=...)."
    )
    assert len(offline) == 1
    assert time.monotonic() - begun < 20


def test_a_server_that_refuses_the_question_may_still_give_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(request: Any, **_options: Any) -> None:
        raise HTTPError(request.full_url, 403, "Forbidden", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(zoos, "urlopen", forbidden)
    zoos.answer_from("https://example.org/weights")


def test_weights_that_are_here_are_not_asked_for(offline: list[str], tmp_path: Path, fixed: None) -> None:
    from torchvision import models

    published = models.SqueezeNet1_1_Weights.DEFAULT
    kept = tmp_path / "torch" / "hub" / "checkpoints" / Path(published.url).name
    kept.parent.mkdir(parents=True)
    net = models.squeezenet1_1().eval()
    torch.save(net.state_dict(), kept)
    model = load("torchvision:squeezenet1_1", head=None)
    assert offline == []
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), net(images))


def test_features_are_no_classes(tmp_path: Path) -> None:
    import timm

    path = _saved(timm.create_model("test_resnet", num_classes=0), tmp_path / "a.safetensors")
    with pytest.raises(ModelError):
        load("timm:test_resnet", weights=path)
