"""The digest: the same for the same model, wherever and however often it is loaded, and for no other."""

from __future__ import annotations

import copy
import functools
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fukusen.models import Classifier, load, wrap
from fukusen.models.digest import digest_model
from fukusen.models.preprocessing import CenterCrop

FACTORY = """
import torch
from torch import nn
import scale
from settings import FLOOR, Table
from settings import clip

SHIFT = 1.0
NAMES = {"b", "a", "c"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        self.names = NAMES

    def forward(self, images):
        return clip(self.body(images)) * scale.FACTOR + SHIFT - 10


def make():
    import fukusen.models
    torch.manual_seed(0)
    return fukusen.models.wrap(Net(), input_size=(3, 8, 8))
"""
SETTINGS = "FLOOR = 0.5\n\n\nclass Table:\n    side = 3\n\n\ndef clip(values):\n    return values.clamp_min(-7)\n"


def _write(folder: Path, **changes: tuple[str, str]) -> str:
    texts = {"model": FACTORY, "settings": SETTINGS, "scale": "FACTOR = 2.0\n"}
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        old, new = changes.get(name, ("", ""))
        assert old in text
        (folder / f"{name}.py").write_text(text.replace(old, new) if old else text)
    return f"{folder / 'model.py'}:make"


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("lost", torch.zeros(2), persistent=False)
        self.strength = 1.0
        self.plan: Any = None

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)).mean((2, 3)) - 5


def _same(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output


def _twice(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * 2


def _digest(change: Callable[[_Net], object] = id) -> str:
    net = _Net()
    change(net)
    return digest_model(net, None)


def _fill(name: str) -> Callable[[_Net], object]:
    def change(net: _Net) -> None:
        with torch.no_grad():
            dict([*net.named_parameters(), *net.named_buffers()])[name].flatten()[0] += 1e-3

    return change


def _scaling(factor: float) -> Callable[..., Tensor]:
    return lambda _module, _inputs, output: output * factor


CHANGES: dict[str, Callable[[_Net], object]] = {
    "weight": _fill("conv.weight"),
    "buffer": _fill("norm.running_var"),
    "buffer that is not saved": _fill("lost"),
    "plain attribute": lambda net: setattr(net, "strength", 2.0),
    "attribute of a part": lambda net: setattr(net.norm, "eps", 1e-3),
    "array": lambda net: setattr(net, "plan", np.arange(3)),
    "tensor": lambda net: setattr(net, "plan", torch.zeros(2)),
    "nested": lambda net: setattr(net, "plan", [1, (2, {"three": 4})]),
    "nested otherwise": lambda net: setattr(net, "plan", [1, 2, ({"three": 4},)]),
    "hidden network": lambda net: setattr(net, "plan", [nn.Linear(2, 2)]),
    "function": lambda net: setattr(net, "plan", _same),
    "other function": lambda net: setattr(net, "plan", _twice),
    "partial": lambda net: setattr(net, "plan", functools.partial(_same, output=1)),
    "other partial": lambda net: setattr(net, "plan", functools.partial(_same, output=2)),
    "preprocessing object": lambda net: setattr(net, "plan", CenterCrop(8)),
    "other preprocessing object": lambda net: setattr(net, "plan", CenterCrop(9)),
    "class": lambda net: setattr(net, "plan", CenterCrop),
    "hook": lambda net: net.conv.register_forward_hook(_same),
    "other hook": lambda net: net.conv.register_forward_hook(_twice),
    "closure": lambda net: net.conv.register_forward_hook(_scaling(2.0)),
    "other closure": lambda net: net.conv.register_forward_hook(_scaling(3.0)),
    "backward hook": lambda net: net.conv.register_full_backward_hook(lambda *_: None),
    "hook on another part": lambda net: net.norm.register_forward_hook(_same),
    "forward of its own": lambda net: setattr(net, "forward", functools.partial(torch.flatten, start_dim=1)),
    "part replaced": lambda net: setattr(net, "norm", nn.Identity()),
}


def test_every_change_gives_another_digest() -> None:
    made = {name: _digest(change) for name, change in CHANGES.items()} | {"nothing": _digest()}
    assert len(set(made.values())) == len(made), made


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_change_gives_the_same_digest(name: str) -> None:
    assert _digest(CHANGES[name]) == _digest(CHANGES[name])


NO_CHANGES: dict[str, Callable[[_Net], object]] = {
    "training": lambda net: net.eval(),
    "gradients": lambda net: net(torch.randn(2, 3, 8, 8)).sum().backward() or _Net.eval(net),
    "wanted gradients": lambda net: net.requires_grad_(False),
    "hook of the saving code": lambda net: net.register_state_dict_post_hook(lambda *_: None),
    "copy": copy.deepcopy,
}


@pytest.mark.parametrize("name", NO_CHANGES)
def test_what_changes_no_output_changes_no_digest(name: str) -> None:
    def change(net: _Net) -> None:
        buffers = {key: value.clone() for key, value in net.named_buffers()}
        NO_CHANGES[name](net)
        for key, value in net.named_buffers():
            value.copy_(buffers[key])

    assert _digest(change) == _digest()


def test_a_copy_has_the_same_digest() -> None:
    net = _Net()
    assert digest_model(copy.deepcopy(net), None) == digest_model(net, None)


def test_endless_and_living_things_end() -> None:
    def change(net: _Net) -> None:
        net.plan = [logging.getLogger("a"), lambda: None]
        net.plan.append(net.plan)

    first = _digest(change)
    logging.getLogger("one more logger in the process")
    assert _digest(change) == first


def test_preprocessing_counts() -> None:
    net = _Net()
    made = [digest_model(net, preprocess) for preprocess in (None, CenterCrop(8), CenterCrop(8, 0.5), CenterCrop(9))]
    assert len(set(made)) == 4
    assert digest_model(net, CenterCrop(8)) == made[1]


def test_our_own_hooks_do_not_count() -> None:
    """Another thread may be in the middle of a pass."""
    model = wrap(_Net().eval(), input_size=(3, 8, 8))
    seen: list[str] = []
    assert model.layer is not None
    model.run(torch.randn(1, 3, 8, 8), edits={model.layer: lambda values: seen.append(_now(model)) or values})
    assert seen == [_now(model)]


def _now(model: Classifier) -> str:
    return digest_model(model.net, None)


def test_two_loads_and_another_place_and_process(tmp_path: Path) -> None:
    spec = _write(tmp_path / "one")
    first = load(spec).digest
    assert load(spec).digest == first
    moved = _write(tmp_path / "two")
    code = f"from fukusen.models import load; print(load({moved!r}).digest)"
    sources = str(Path(__file__).resolve().parents[2] / "src")
    place = {**os.environ, "PYTHONPATH": sources, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=place)
    assert done.stdout.strip() == first


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model", ("SHIFT = 1.0", "SHIFT = 1.5")),
        ("model", ("torch.manual_seed(0)", "torch.manual_seed(1)")),
        ("settings", ("FLOOR = 0.5", "FLOOR = 0.75")),
        ("settings", ("side = 3", "side = 4")),
        ("settings", ("clamp_min(-7)", "clamp_min(-6)")),
        ("scale", ("2.0", "3.0")),
    ],
)
def test_files_count_and_their_neighbours(tmp_path: Path, file: str, change: tuple[str, str]) -> None:
    before = load(_write(tmp_path)).digest
    assert load(_write(tmp_path, **{file: change})).digest != before


def test_typed_in_code_counts() -> None:
    def typed(factor: float) -> nn.Module:
        space: dict[str, Any] = {"nn": nn}
        exec(f"class Net(nn.Module):\n    def forward(self, images):\n        return images * {factor}", space)
        return space["Net"]()

    assert digest_model(typed(2.0), None) == digest_model(typed(2.0), None)
    assert digest_model(typed(2.0), None) != digest_model(typed(3.0), None)


def test_what_other_packages_hang_on_torchs_classes_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package may add a method to ``nn.Module`` when it is imported; the user's own changes do count."""

    def own(module: nn.Module) -> nn.Module:
        return module

    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = digest_model(net, None)
    monkeypatch.setattr(nn.Module, "hung", textwrap.fill, raising=False)
    assert digest_model(net, None) == before
    monkeypatch.setattr(nn.Module, "hung", own, raising=False)
    assert digest_model(net, None) != before
