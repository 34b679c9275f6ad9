"""The options that several commands share: class names from a file, and a model as the options describe it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fukusen.cli.options import class_names, known
from fukusen.errors import CallError, UnknownName

Call = Callable[..., Any]
PHOTO = "photos/cat/0.png"
ONE = ("--method", "grad_cam", "--score", "logit", "--out", "maps.png", "--force", "--json")


def test_a_known_name_is_handed_back() -> None:
    """And an unknown one is not, with the nearest suggested."""
    assert known("budget", "deep", ("quick", "deep")) == "deep"
    with pytest.raises(UnknownName) as caught:
        known("budget", "depp", ("quick", "deep"))
    assert str(caught.value) == "There is no budget named 'depp'. Did you mean 'deep'? Known: deep, quick."


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"cat\r\n  Egyptian cat \r\n\r\n\r\n", ("cat", "Egyptian cat")),
        ("\ufeff三毛猫\ndog".encode(), ("三毛猫", "dog")),
        ("line\u2028separator\ndog".encode(), ("line\u2028separator", "dog")),
        (b"cat\ncat\n", ("cat", "cat")),
    ],
)
def test_class_names_are_lines(tmp_path: Path, content: bytes, names: tuple[str, ...]) -> None:
    """From any editor: its line ends, its mark at the start and empty lines at the end are no names."""
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    assert class_names(file) == names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cat\n\ndog\n", "Line 2 of {file} is empty, and each line names one class. Fill it in, or take it out."),
        (b"", "Line 1 of {file} is empty, and each line names one class. Fill it in, or take it out."),
        (b"caf\xe9\n", "The class names in {file} are not UTF-8 text. Save the file as UTF-8."),
        (None, "The class names in {file} cannot be read: No such file or directory. Check --classes."),
    ],
)
def test_class_names_that_cannot_be_read_are_said(tmp_path: Path, content: bytes | None, said: str) -> None:
    """With the line, or the reason."""
    file = tmp_path / "names.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CallError) as caught:
        class_names(file)
    assert str(caught.value) == said.format(file=file)


def test_a_model_is_as_the_options_describe_it(call: Call, here: Path) -> None:
    """Its class names, the layer that maps are read at, and what its outputs are."""
    (here / "names.txt").write_text("ant\nbee\nfly\ngnat\n")
    plain = call("explain", "model.py:build", PHOTO, *ONE).json
    words = ("--classes", "names.txt", "--layer", "0", "--head", "sigmoid")
    other = call("explain", "model.py:build", PHOTO, *ONE, *words).json
    assert (plain["predicted"]["name"], other["predicted"]["name"]) == ("dog", "bee")
    assert (plain["rows"][0]["shape"], other["rows"][0]["shape"]) == ([16, 16], [32, 32])
    assert plain["predicted"]["probability"] < 0.5 < other["predicted"]["probability"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--classes", "names.txt"),
            "The 'classes' parameter of wrap must be a list of 4 names, one a class of the network. Got 2 instead.",
        ),
        (
            ("--weights", "model.py"),
            "Weights cannot be given for a factory that returns a wrapped model: load them in the factory.",
        ),
        (
            ("--device", "meta"),
            (
                "The 'device' parameter of wrap must be a device that torch can use here, such as 'cpu'. Got 'meta' "
                "instead."
            ),
        ),
    ],
    ids=["classes", "weights", "device"],
)
def test_options_that_do_not_fit_the_model_are_said(call: Call, here: Path, words: tuple[str, str], said: str) -> None:
    """Exit code 2 and one line, before anything is drawn."""
    (here / "names.txt").write_text("ant\nbee\n")
    done = call("explain", "model.py:build", PHOTO, *ONE, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"fukusen: {said}"
    assert not (here / "maps.png").exists()
