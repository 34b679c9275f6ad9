"""Folders in the layout of the Hugging Face hub, made by the tests and loaded with no network at hand."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fukusen
from fukusen.errors import CallError, ModelError
from fukusen.models import load, zoos

NAMES = ("cat", "dog", "owl", "fox")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may reach out, and nothing that was fetched before may be found."""

    def refuse(*_asked: Any, **_options: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(zoos, "urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def _saved(net: Any, folder: Path, processor: Any = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
    return folder


def _vit(**changes: Any) -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(**sizes, image_size=32, patch_size=8, id2label=dict(enumerate(NAMES)), **changes)
    return ViTForImageClassification(config).eval()


def _processor(**changes: Any) -> Any:
    from transformers import ViTImageProcessor

    return ViTImageProcessor(size={"height": 32, "width": 32}, **changes)


def _picture() -> Image.Image:
    dots = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    return Image.fromarray(dots)


def test_a_vision_transformer(tmp_path: Path) -> None:
    net, processor = _vit(), _processor(image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7])
    model = load(f"hf:{_saved(net, tmp_path / 'vit', processor)}")
    assert model.classes == NAMES
    assert (model.input_shape, model.head.kind, model.head.assumed) == ((3, 32, 32), "softmax", True)
    assert model.layer is not None
    assert model.layer.shape[1:] == (4, 4)
    assert model.preprocess is not None
    meant = processor(images=_picture(), return_tensors="pt")["pixel_values"]
    assert torch.equal(model.preprocess(_picture()), meant[0])
    with torch.no_grad():
        torch.testing.assert_close(model.logits(meant), net(meant).logits)
    panel = fukusen.explain(model, [_picture()], methods=["grad_cam", "gradient"], scores=["logit", "log_odds"])
    assert panel["grad_cam", "log_odds"].shape == (1, 4, 4)


def test_a_residual_network(tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    processor = ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    folder = _saved(ResNetForImageClassification(config).eval(), tmp_path / "resnet", processor)
    model = load(f"hf:{folder}", head="softmax")
    assert (model.input_shape, model.classes) == ((3, 64, 64), ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert str(model.layer).startswith("resnet.encoder.stages.1")


@pytest.mark.parametrize(
    ("problem", "kind"), [("multi_label_classification", "sigmoid"), ("single_label_classification", "softmax")]
)
def test_the_kind_of_labels_is_known(tmp_path: Path, problem: str, kind: str) -> None:
    model = load(f"hf:{_saved(_vit(problem_type=problem), tmp_path / 'vit', _processor())}")
    assert (model.head.kind, model.head.assumed, model.notes) == (kind, False, ())


def test_without_a_processor(tmp_path: Path) -> None:
    model = load(f"hf:{_saved(_vit(), tmp_path / 'vit')}", head="softmax")
    assert model.input_shape == (3, 32, 32)
    (note,) = model.notes
    assert note.startswith("The model's folder does not say how pictures become its input; 32 pixels and mean and dev")


def test_the_digest_stays_where_the_folder_moves(tmp_path: Path) -> None:
    folder = _saved(_vit(), tmp_path / "here", _processor())
    moved = Path(shutil.copytree(folder, tmp_path / "there"))
    one, other = (load(f"hf:{place}", head="softmax").digest for place in (folder, moved))
    assert one == other


def test_loading_draws_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    folder = _saved(_vit(), tmp_path / "vit", _processor())
    capsys.readouterr()
    load(f"hf:{folder}")
    assert capsys.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def _told(name: object, kind: type[Exception] = ModelError) -> str:
    with pytest.raises(kind) as caught:
        load(f"hf:{name}")
    return str(caught.value)


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    net, folder = _vit(), tmp_path / "vit"
    _saved(net, folder, _processor())
    (folder / "model.safetensors").unlink()
    torch.save(net.state_dict(), folder / "pytorch_model.bin")
    assert _told(folder).startswith(
        f"The model {str(folder)!r} cannot be loaded as an image classifier with weights in safetensors, without "
        "code of its own: "
    )


def test_code_in_the_folder_is_not_run(tmp_path: Path) -> None:
    folder, marker = _saved(_vit(), tmp_path / "vit", _processor()), tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    (folder / "own.py").write_text(code + "class Config: pass\nclass Net: pass\nclass Processor: pass\n")
    config = json.loads((folder / "config.json").read_text())
    links = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Net"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": links}))
    assert "without code of its own" in _told(folder)
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Processor"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert _told(folder).startswith(f"The preprocessing of {str(folder)!r} cannot be loaded: ")
    assert not marker.exists()


def test_a_network_without_a_classifier(tmp_path: Path) -> None:
    folder = _saved(_vit().vit, tmp_path / "vit", _processor())
    assert _told(folder) == (
        f"The model {str(folder)!r} holds no weights for classifier.bias, classifier.weight: it was not trained as a "
        "classifier. Name one that was."
    )


def test_a_regression(tmp_path: Path) -> None:
    folder = _saved(_vit(problem_type="regression"), tmp_path / "vit", _processor())
    assert _told(folder) == (
        f"The model {str(folder)!r} estimates numbers (problem_type regression) and is no classifier."
    )


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    assert _told(tmp_path).endswith("Give a folder that holds config.json and model.safetensors.")
    (tmp_path / "config.json").write_text("[]")
    assert _told(tmp_path) == (
        f"The configuration of {str(tmp_path)!r} is no table. Save the model again: save_pretrained."
    )
    for name in ("nowhere", "../nowhere", "a/b/c", ""):
        assert _told(name, CallError) == (
            f"There is no folder {name!r}, and it is no name of a repository. Give a folder with config.json and "
            "model.safetensors, or OWNER/NAME."
        )


@pytest.mark.parametrize("name", ["someone/model", "someone/model@abcdef"])
def test_offline_is_said_at_once(name: str) -> None:
    assert _told(name) == (
        "The configuration of 'someone/model' cannot be read: <urlopen error Name or service not known>. Check its "
        "name; or fetch someone/model elsewhere, and give the folder: hf:FOLDER."
    )


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert _told(tmp_path) == "transformers is not installed. Install it with: pip install 'fukusen[hf]'"


def test_it_has_its_own_weights(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="This model has its own weights"):
        load(f"hf:{tmp_path}", weights="a.safetensors")


def _of_timm(folder: Path) -> nn.Module:
    import timm

    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3).eval()
    said = {"label_names": ["a", "b", "c"], "label_descriptions": {"a": "ape"}}
    data = {"input_size": (3, 96, 96), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 0.9}
    timm.models.save_for_hf(net, folder, model_config=said, data_config=data, safe_serialization=True)
    return net  # type: ignore[no-any-return]


def test_a_folder_of_timms(tmp_path: Path) -> None:
    net = _of_timm(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    model, moved = (
        load(f"{form}{tmp_path / place}") for form, place in (("hf:", "here"), ("timm:local-dir:", "there"))
    )
    assert model.classes == ("ape", "b", "c")
    assert model.input_shape == (3, 96, 96)
    assert (model.preprocess.mean, model.preprocess.crop) == ((0.1, 0.2, 0.3), 0.9)  # type: ignore[union-attr]
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), net(images))
    assert moved.digest == model.digest


def test_a_folder_that_timm_cannot_read(tmp_path: Path) -> None:
    _of_timm(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert _told(tmp_path).startswith(f"The folder {str(tmp_path)!r} cannot be loaded by timm: ")
