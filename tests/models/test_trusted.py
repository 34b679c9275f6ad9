"""Files that can run code: refused with the remedy, and loaded where the user says so."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fukusen
from fukusen.errors import CallError, ModelError
from fukusen.models import load

TRUST = "Where you trust whoever made the file, say --trust (fukusen.load(..., trust=True))."
RAN = "Code in {file} may have run when it was loaded: it was trusted (--trust, trust=True)."


class Trap:
    """Touches a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


class Block(nn.Module):
    """A convolution, beside which the input goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        return self.act(self.conv(values)) + values


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


def _same(model: Any, net: nn.Module, size: int) -> None:
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(images), net(images))
    torch.testing.assert_close(model.in_double().logits(images.double()), net(images).double(), rtol=1e-4, atol=1e-5)


def _plain() -> nn.Module:
    """A network of torch's own classes, which any process can load."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


@pytest.mark.parametrize("ending", [".pt", ".pth", ".pkl", ".ckpt", ".bin", ".pt2", ".ts", ".torchscript"])
def test_no_code_runs_without_trust(tmp_path: Path, ending: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / f"a{ending}"
    for write in (lambda: path.write_bytes(pickle.dumps(Trap(marker))), lambda: torch.save(Trap(marker), path)):
        write()
        with pytest.raises(CallError) as caught:
            load(str(path))
        assert str(caught.value).endswith(TRUST)
        assert not marker.exists()
        with pytest.raises(ModelError):
            load(str(path), trust=True)
        assert marker.exists()
        marker.unlink()


def test_the_remedies(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(_plain(), path)
    with pytest.raises(CallError) as caught:
        load(str(path))
    assert str(caught.value) == (
        f"The model {str(path)!r} cannot be loaded. It holds more than weights, or is damaged: loading it could run "
        "code, so it was not loaded. Save its state_dict as safetensors, and name the architecture: timm:NAME with "
        f"--weights (weights=...). {TRUST}"
    )
    torch.save(_net().state_dict(), path)
    weights = (
        "It holds weights but no architecture: name one, such as timm:NAME or model.py:function, and give the file"
    )
    with pytest.raises(CallError, match=weights.replace(".", r"\.")):
        load(str(path))
    with pytest.raises(ModelError) as trusted:
        load(str(path), trust=True)
    assert str(trusted.value) == (
        f"The file {str(path)!r} holds no network. It may hold weights: name their architecture, such as timm:NAME or "
        "model.py:function, and give the file with --weights (weights=...)."
    )


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "nested"])
def test_a_pickled_network(tmp_path: Path, how: str) -> None:
    net, path = _plain(), tmp_path / ("a.pkl" if how == "pickle" else "a.pt")
    if how == "pickle":
        path.write_bytes(pickle.dumps(net))
    else:
        content = {"epoch": 3, "model": net} if how == "nested" else net
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    model = load(str(path), trust=True, head="softmax", classes=["good", "bad"])
    assert model.notes[0] == RAN.format(file=path)
    assert (str(model.layer), model.classes) == ("0", ("good", "bad"))
    _same(model, net, 32)


def test_classes_of_a_pickle_are_found_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "from torch import nn\nprint('a greeting')\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    (tmp_path / "suppliers_net.py").write_text(code)
    sys.path.insert(0, str(tmp_path))
    try:
        import suppliers_net  # type: ignore[import-not-found]

        torch.save(suppliers_net.Net(), tmp_path / "a.pt")
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["suppliers_net"]
    capsys.readouterr()
    assert load(str(tmp_path / "a.pt"), trust=True, head="softmax").layer is not None
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "a greeting\n")
    (tmp_path / "suppliers_net.py").unlink()
    sys.modules.pop("suppliers_net", None)
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path / "a.pt"), trust=True)
    assert str(caught.value) == (
        f"The file {str(tmp_path / 'a.pt')!r} needs code that is not here: No module named 'suppliers_net'. Put the "
        "Python file with its classes beside it, or write a file model.py with a function that returns the network, "
        "and name it as model.py:function."
    )


def _exported(path: Path, *, batch: int = 2, dynamic: bool = True) -> Path:
    axes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(_net(), (torch.randn(batch, 3, 24, 24),), dynamic_shapes=axes)
        torch.export.save(program, path)
    return path


def test_an_exported_program(tmp_path: Path) -> None:
    net, path = _net(), _exported(tmp_path / "a.pt2")
    model = load(str(path), trust=True, head="softmax")
    assert (model.input_shape, str(model.layer)) == ((3, 24, 24), "1")
    assert model.notes[0] == RAN.format(file=path)
    assert model.notes[1].startswith("An exported program does not say how pictures become its input; 24 pixels and ")
    _same(model, net, 24)
    own = fukusen.wrap(net, input_size=(3, 24, 24), head="softmax")
    images = torch.randn(2, 3, 24, 24)
    asked = {"methods": ["grad_cam", "gradient"], "scores": ["log_odds"]}
    meant, made = (fukusen.explain(one, images, **asked) for one in (own, model))  # type: ignore[arg-type]
    for key in made.made:
        torch.testing.assert_close(made[key], meant[key], rtol=1e-4, atol=1e-6)
    assert load(str(path), trust=True).digest == model.digest


def test_a_program_for_batches_of_one_length(tmp_path: Path) -> None:
    path = _exported(tmp_path / "a.pt2", batch=1, dynamic=False)
    with pytest.raises(ModelError) as caught:
        load(str(path), trust=True)
    assert str(caught.value) == (
        f"The program {str(path)!r} was exported for batches of exactly 1. Export it from a batch of two, with an axis "
        "of any length: dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)."
    )


@pytest.mark.parametrize("name", ["a.ts", "a.pt"])
@pytest.mark.parametrize("traced", [True, False])
def test_torchscript(tmp_path: Path, name: str, traced: bool) -> None:
    net, path = _net(), tmp_path / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(net, torch.randn(2, 3, 24, 24)) if traced else torch.jit.script(net)
        script.save(str(path))
    with pytest.raises(CallError, match=r"say --trust \(fukusen\.load"):
        load(str(path))
    model = load(str(path), trust=True, head="softmax")
    assert model.layer is None
    assert model.notes[0] == RAN.format(file=path)
    assert model.notes[1] == (
        "A TorchScript archive is one piece: no layer in it can be read, so there are no class activation maps and no "
        "relevance maps of it."
    )
    assert sum(value.numel() for value in model.net.parameters()) == sum(value.numel() for value in net.parameters())
    _same(model, net, 32)
    images = torch.randn(2, 3, 224, 224)
    own = fukusen.wrap(net, input_size=(3, 224, 224), head="softmax")
    meant, made = (fukusen.explain(one, images, methods=["gradient"], scores=["logit"]) for one in (own, model))
    torch.testing.assert_close(made["gradient", "logit"], meant["gradient", "logit"])
    assert load(str(path), trust=True).digest == model.digest


def test_torchscript_with_other_code_has_another_digest(tmp_path: Path) -> None:
    digests = []
    for act in (nn.ReLU(), nn.Sigmoid()):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(net, torch.randn(2, 3, 24, 24)).save(str(tmp_path / "a.ts"))
        digests.append(load(str(tmp_path / "a.ts"), trust=True, head="softmax").digest)
    assert digests[0] != digests[1]


@pytest.mark.parametrize("content", [None, 5, "text"])
def test_a_file_without_a_network(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    kind = "None" if content is None else f"a {type(content).__name__}"
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path / "a.pt"), trust=True)
    assert str(caught.value) == (
        f"The file {str(tmp_path / 'a.pt')!r} holds no network but {kind}. Save the torch.nn.Module itself, or its "
        "weights as safetensors."
    )


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with pytest.raises(ModelError, match="There is no file"):
        load(str(path), trust=True)
    path.write_bytes(b"nothing")
    with pytest.raises(
        ModelError, match=r"cannot be loaded: UnpicklingError: .* Save it again with the version of torch"
    ):
        load(str(path), trust=True)


def test_weights_have_no_place_in_a_whole_network(tmp_path: Path) -> None:
    torch.save(_plain(), tmp_path / "a.pt")
    with pytest.raises(CallError, match="This model has its own weights"):
        load(str(tmp_path / "a.pt"), weights="a.safetensors", trust=True)
