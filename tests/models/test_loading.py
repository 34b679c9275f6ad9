"""A model by its name: the forms that there are, and what to do about the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fukusen.errors import CallError
from fukusen.models import load, model_specs

FORMS = "Known forms: demo, torchvision:NAME, timm:NAME, hf:REPO, file.onnx, file.pt, file.pt2, module.py:factory."
MESSAGES = {
    "resnet18": f"The model 'resnet18' cannot be loaded. {FORMS}",
    "torchvison:resnet18": "The model 'torchvison:resnet18' cannot be loaded. Did you mean 'torchvision:resnet18'? "
    + FORMS,
    "Demo": f"The model 'Demo' cannot be loaded. Did you mean 'demo'? {FORMS}",
    "": f"The model '' cannot be loaded. {FORMS}",
    "net.py": "The model 'net.py' cannot be loaded. Name the function in it that returns the network, as in "
    "net.py:function.",
    "model.pt2": "The model 'model.pt2' cannot be loaded. Files of the kind .pt2 can run code when they are loaded. "
    "Save the weights as safetensors instead, and name their architecture: timm:NAME with --weights (weights=...). "
    "Where you trust whoever made the file, say --trust (fukusen.load(..., trust=True)).",
    "x.safetensors": "The model 'x.safetensors' cannot be loaded. It holds weights but no architecture: name one, such "
    "as timm:NAME or model.py:function, and give the file with --weights (weights=...).",
    "hf-hub:someone/model": "The model 'hf-hub:someone/model' cannot be loaded. Say hf:someone/model, or "
    "timm:hf-hub:someone/model for a model of timm's.",
}


@pytest.mark.parametrize("spec", MESSAGES)
def test_what_cannot_be_loaded(spec: str) -> None:
    with pytest.raises(CallError) as caught:
        load(spec)
    assert str(caught.value) == MESSAGES[spec]


def test_classes_are_a_list(tmp_path: Path) -> None:
    names: Any = ()
    (tmp_path / "a.py").write_text(
        "from torch import nn\nimport fukusen.models\n\n\ndef make():\n"
        "    return fukusen.models.wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), input_size=(3, 2, 2), "
        "head='softmax')\n"
    )
    with pytest.raises(CallError, match=r"must be a list of 2 names, one a class of the network\. Got 0 instead"):
        load(f"{tmp_path / 'a.py'}:make", classes=names)


def test_every_form_is_described() -> None:
    forms = ["demo", "torchvision:NAME", "timm:NAME", "hf:REPO", "file.onnx", "file.pt, file.pt2", "module.py:factory"]
    assert list(model_specs()) == forms
    assert all(model_specs().values())
