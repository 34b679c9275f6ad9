"""A function in the user's own file: found, called, and every way to fail said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fukusen.errors import CallError, ModelError
from fukusen.models import load

NET = """
import torch
from torch import nn
import fukusen.models


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 3))


def wrapped():
    return fukusen.models.wrap(net(), fukusen.models.preprocessing.CenterCrop(16), ["a", "b", "c"], head="softmax")


def guessed():
    return fukusen.models.wrap(net(), fukusen.models.preprocessing.CenterCrop(16))


def printing():
    print("loading")
    return wrapped()


def failing():
    raise OSError("no disk\\nat all")


def leaving():
    raise SystemExit(3)


def needing(path):
    return net()


def nothing():
    pass


def misused():
    return fukusen.models.wrap(net(), classes=["a"])


number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(NET)
    return path


def test_what_wrap_returns_is_taken_as_it_is(file: Path) -> None:
    model = load(f"{file}:wrapped")
    assert model.spec == f"{file}:wrapped"
    assert (model.classes, model.input_shape, model.notes) == (("a", "b", "c"), (3, 16, 16), ())


def test_a_plain_module_is_wrapped_and_evaluated(file: Path) -> None:
    model = load(f"{file}:net")
    assert model.input_shape == (3, 224, 224)
    assert any("No preprocessing was given" in note for note in model.notes)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.logits(images), model.logits(images))


def test_wishes_come_before_the_factory(file: Path) -> None:
    model = load(f"{file}:guessed", classes=["x", "y", "z"], layer="0", device="cpu")
    assert (model.classes, str(model.layer), model.input_shape) == (("x", "y", "z"), "0", (3, 16, 16))
    assert model.head.assumed
    assert len(model.notes) == 1
    settled = load(f"{file}:guessed", head="sigmoid")
    assert (settled.head.kind, settled.notes) == ("sigmoid", ())


def test_what_it_prints_goes_to_stderr(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(f"{file}:printing")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "loading\n")


FAILURES = {
    "failing": "{file}:failing() raised OSError: no disk at all. It is called without arguments and must return a "
    "network.",
    "leaving": "{file}:leaving() raised SystemExit: 3. It is called without arguments and must return a network.",
    "needing": "{file}:needing() raised TypeError: needing() missing 1 required positional argument: 'path'. It is "
    "called without arguments and must return a network.",
    "nothing": "{file}:nothing() must return a torch.nn.Module or what fukusen.wrap returns. It returned None.",
    "absent": "The file '{file}' has no function 'absent'. It has: failing, guessed, leaving, misused, needing, net, "
    "nothing, printing, wrapped.",
    "number": "The file '{file}' has no function 'number'. It has: failing, guessed, leaving, misused, needing, net, "
    "nothing, printing, wrapped.",
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures(file: Path, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(f"{file}:{name}")
    assert str(caught.value) == FAILURES[name].format(file=file)


def test_our_own_errors_pass_through(file: Path) -> None:
    with pytest.raises(CallError, match=r"The 'classes' parameter of wrap must be a list of 3 names"):
        load(f"{file}:misused")


def test_weights_for_a_wrapped_model(file: Path) -> None:
    with pytest.raises(CallError) as caught:
        load(f"{file}:wrapped", weights="a.safetensors")
    assert str(caught.value) == (
        "Weights cannot be given for a factory that returns a wrapped model: load them in the factory."
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError when it was imported: No module named"),
        ("def make(:", "SyntaxError when it was imported: "),
        ("raise SystemExit(2)", "SystemExit when it was imported: 2."),
    ],
)
def test_files_that_cannot_be_imported(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        load(f"{path}:make")
    assert str(caught.value).startswith(f"The file {str(path)!r} raised {told}")


def test_a_missing_file() -> None:
    with pytest.raises(ModelError) as caught:
        load("nowhere/model.py:make")
    assert str(caught.value) == "There is no file 'nowhere/model.py' to load a model from."


def test_neighbours_of_one_name_stay_apart(tmp_path: Path) -> None:
    """Two suppliers' folders hold files of the same names; each model is made from its own."""
    models = {}
    for folder, classes in (("one", 2), ("two", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(
            "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
            f"        super().__init__(nn.Flatten(), nn.Linear(12, {classes}))\n"
        )
        (tmp_path / folder / "model.py").write_text(
            "import fukusen.models\n\n\ndef make():\n    from net import Net\n"
            "    return fukusen.models.wrap(Net(), input_size=(3, 2, 2), head='softmax')\n"
        )
        models[folder] = load(f"{tmp_path / folder / 'model.py'}:make")
    assert {name: len(model.classes) for name, model in models.items()} == {"one": 2, "two": 5}
    assert models["one"].digest != models["two"].digest
