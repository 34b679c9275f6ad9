"""Weights from files: every usual wrapping taken off, every misfit named, no code run."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fukusen.errors import ModelError
from fukusen.models.weights import filled, load_tensors, read_weights, remedy_for


def _net(num_classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, num_classes))


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


WRAPPINGS: dict[str, Any] = {
    "bare": lambda state: state,
    "nested": lambda state: {"state_dict": state, "epoch": 3, "best": torch.tensor(0.5)},
    "twice nested": lambda state: {"model": {"state_dict": state}},
    "data parallel": lambda state: _prefixed(state, "module."),
    "compiled and data parallel": lambda state: {"model_state_dict": _prefixed(state, "module._orig_mod.")},
    "lightning": lambda state: {"state_dict": _prefixed(state, "model."), "hyper_parameters": {"rate": 0.1}},
    "old": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrappings_are_taken_off(tmp_path: Path, name: str) -> None:
    trained, fresh = _net(), _net()
    torch.save(WRAPPINGS[name](trained.state_dict()), tmp_path / "a.pth")
    read_weights(tmp_path / "a.pth", fresh)
    torch.testing.assert_close(fresh.state_dict(), trained.state_dict())


@pytest.mark.parametrize("ending", [".safetensors", ".SAFETENSORS"])
def test_safetensors(tmp_path: Path, ending: str) -> None:
    trained, fresh = _net(), _net()
    save_file(_prefixed(trained.state_dict(), "module."), tmp_path / f"a{ending}")
    read_weights(tmp_path / f"a{ending}", fresh)
    torch.testing.assert_close(fresh.state_dict(), trained.state_dict())


def test_as_many_classes_as_the_weights_have(tmp_path: Path) -> None:
    save_file(_net(7).state_dict(), tmp_path / "a.safetensors")
    net, usual = filled(_net, tmp_path / "a.safetensors")
    assert (net[3].out_features, usual) == (7, False)
    save_file(_net().state_dict(), tmp_path / "b.safetensors")
    assert filled(_net, tmp_path / "b.safetensors")[1]


def test_misfits_are_named(tmp_path: Path) -> None:
    state = _net(7).state_dict()
    state["extra"] = state.pop("1.weight")
    state["0.weight"] = torch.zeros(8, 3, 3, 3)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ModelError) as caught:
        filled(_net, tmp_path / "a.safetensors")
    assert str(caught.value) == (
        f"The weights in {str(tmp_path / 'a.safetensors')!r} do not fit the architecture: 1 missing (1.weight); 1 "
        "unknown (extra); 1 of another shape (0.weight). Name the architecture that they were trained with."
    )


class _Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("how", ["torch", "torch before 1.6", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path: Path, how: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "a.pt"
    content = {"state_dict": _net().state_dict(), "trap": _Trap(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ModelError) as caught:
        load_tensors(path)
    assert not marker.exists()
    assert str(caught.value).startswith(
        f"The file {str(path)!r} holds more than weights, or is damaged: loading it could run code, so it was not "
        "loaded. Save the state_dict alone, best as safetensors. (torch says: "
    )
    assert len(str(caught.value)) < 600


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(_net(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds more than weights, or is damaged: loading it could run code"):
        load_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_damaged_files_give_one_sentence(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    state = _net().state_dict()
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(60):
        path.write_bytes(whole[: chance.randrange(len(whole) - 1)])
        with pytest.raises(ModelError, match=r"damaged|not valid safetensors"):
            load_tensors(path)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {"state_dict": {}}, 5])
def test_no_named_weights(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError) as caught:
        load_tensors(tmp_path / "a.pth")
    assert str(caught.value) == (
        f"The file {str(tmp_path / 'a.pth')!r} holds no named weights. Save the network's state_dict()."
    )


def test_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a.pth"):
        with pytest.raises(ModelError) as caught:
            load_tensors(path)
        assert str(caught.value) == f"There is no weights file {str(path)!r}."


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("hf-hub:someone/model", "Say hf:someone/model, or timm:hf-hub:someone/model for a model of timm's."),
        ("model.pt2", "Files of the kind .pt2 can run code when they are loaded. Save the weights as safetensors"),
        ("a/x.safetensors", "It holds weights but no architecture: name one, such as timm:NAME or model.py:function"),
        ("x.PTH", "It holds weights but no architecture: name one, such as timm:NAME or model.py:function"),
        ("x.pkl", "Files of the kind .pkl can run code when they are loaded. Save the weights as safetensors"),
        ("net.py", "Name the function in it that returns the network, as in net.py:function."),
    ],
)
def test_remedies(spec: str, remedy: str) -> None:
    told = remedy_for(spec)
    assert told is not None
    assert told.startswith(remedy)


def test_no_remedy_for_what_is_unknown() -> None:
    assert remedy_for("resnet18") is None
