"""The program itself: its version, its help, its exit codes, and what goes wrong said in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from fukusen.cli import main, program
from fukusen.errors import DataError

Call = Callable[..., Any]
VERBS = ("audit", "explain", "report", "list")


def test_the_version_is_printed(call: Call) -> None:
    """That of the installed package, alone on stdout."""
    done = call("--version")
    assert (done.code, done.out, done.err) == (0, f"fukusen {version('fukusen')}\n", "")


def test_a_folder_that_was_not_installed_has_no_version(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so and is no error."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(program, "version", missing)
    done = call("--version")
    said = "fukusen of unknown version: it runs from a folder that was not installed\n"
    assert (done.code, done.out, done.err) == (0, said, "")


def test_without_a_command_there_is_help_on_stderr(call: Call) -> None:
    """Nothing was done, so exit code 2 and nothing on stdout; the text is that of --help."""
    done = call()
    assert (done.code, done.out) == (2, "")
    helped = call("--help")
    assert (helped.code, helped.err) == (0, "")
    assert done.err.split() == helped.out.split()
    assert all(f" {verb} " in done.err for verb in VERBS)


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=lambda words: words[0])
def test_help_shows_examples(call: Call, words: list[str]) -> None:
    """A line for each example, as it is to be typed, for the whole program and for each command."""
    done = call(*words)
    assert (done.code, done.err) == (0, "")
    lines = [line.strip() for line in done.out.splitlines()]
    assert "Examples:" in lines
    start = "fukusen" if words == ["--help"] else f"fukusen {words[0]}"
    assert sum(line.startswith(f"{start} ") for line in lines) >= 2
    assert len(max(done.out.splitlines(), key=len)) <= 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adit", "No such command 'adit'. Did you mean 'audit'? See: fukusen --help"),
        ("--verison", "There is no option --verison. Did you mean --version? See: fukusen --help"),
        ("list scores --jsno", "There is no option --jsno. Did you mean --json? See: fukusen list --help"),
        ("report out --zzz", "There is no option --zzz. See: fukusen report --help"),
        ("report", "Missing argument 'DIR'. See: fukusen report --help"),
        ("explain demo", "Missing argument 'IMAGE'. See: fukusen explain --help"),
        ("list scores methods", "Got unexpected extra argument(s) (methods). See: fukusen list --help"),
    ],
)
def test_a_call_that_does_not_parse_is_said_in_one_line(call: Call, words: str, said: str) -> None:
    """What is wrong, the nearest that is right, and where the help is."""
    done = call(*words.split())
    assert (done.code, done.out, done.err) == (2, "", f"fukusen: {said}\n")


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("a\nb.png: it is\x1b[31m red."), "a\\nb.png: it is\\x1b[31m red."),
        (
            KeyError("x"),
            "An unexpected KeyError stopped the program: 'x'. FUKUSEN_TRACEBACK=1 shows where it comes from.",
        ),
        (
            OSError("first\nsecond"),
            "An unexpected OSError stopped the program: first. FUKUSEN_TRACEBACK=1 shows where it comes from.",
        ),
        (
            LookupError(),
            "An unexpected LookupError stopped the program: no message. FUKUSEN_TRACEBACK=1 shows where it comes from.",
        ),
        (
            OutOfMemoryError("CUDA out of memory"),
            (
                "There is not enough memory (OutOfMemoryError: CUDA out of memory). Say a smaller --batch, or "
                "--device cpu."
            ),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_is_raised_ends_in_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """On stderr, with exit code 2 and nothing on stdout; the traceback is shown to those who ask for it."""

    def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr("fukusen.store.Store.open", raising)
    done = call("report", "out")
    assert (done.code, done.out, done.err) == (2, "", f"fukusen: {said}\n")
    monkeypatch.setenv("FUKUSEN_TRACEBACK", "1")
    shown = call("report", "out").err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith(f"\nfukusen: {said}\n")


def test_ctrl_c_ends_with_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells expect of a program that was stopped."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fukusen.store.Store.open", stopped)
    assert call("report", "out").code == 130


def test_the_words_are_those_of_the_command_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where ``main`` is given none, as when it is installed as a script."""
    expected = call("report", "nowhere")
    monkeypatch.setattr(sys, "argv", ["fukusen", "report", "nowhere"])
    assert main() == expected.code == 2
    assert capfd.readouterr() == (expected.out, expected.err)


def test_python_m_is_the_same_program(call: Call, here: Path) -> None:
    """The same results, exit code and one line on stderr, without a traceback."""
    words = [sys.executable, "-m", "fukusen", "report", "nowhere"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    expected = call("report", "nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (expected.code, expected.out, expected.err)
    said = "fukusen: There is no folder nowhere. Name the folder that 'fukusen audit --out' was given.\n"
    assert (done.returncode, done.stderr) == (2, said)
