"""Results on stdout and messages on stderr, whatever the text holds and whatever the streams can take."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from fukusen.cli.output import (
    complain,
    entry,
    plain,
    results_kept_apart,
    say,
    show,
    show_json,
    survive_any_text,
    table,
)
from fukusen.errors import ModelError


@contextlib.contextmanager
def _ascii_only(path: Path) -> Iterator[None]:
    """A stdout and a stderr that can hold ASCII only, both in one file."""
    with (
        path.open("w", encoding="ascii") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        yield


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("複線 é", "複線 é"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("left\u202eright", "left\\u202eright"),
        ("caf\udce9.png", "caf\\udce9.png"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    """A file name cannot move the cursor, colour the text or turn it round."""
    assert plain(text) == shown


def test_a_table_is_aligned() -> None:
    """Each column as wide as its widest cell, and no blanks at the ends of lines."""
    rows = [["a", "", "long cell"], ["much longer", "x\ny", ""]]
    assert table(["name", "b", "c"], rows) == ("name         b     c\na                  long cell\nmuch longer  x\\ny")
    assert table(["name", "b"], []) == "name  b"


def test_json_is_readable_where_the_stream_can_hold_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Indented, in the order given, with its letters as they are."""
    show_json({"name": "複線", "a": [1.5, None]})
    assert capfd.readouterr() == ('{\n  "name": "複線",\n  "a": [\n    1.5,\n    null\n  ]\n}\n', "")


def test_json_is_ascii_where_the_stream_cannot(tmp_path: Path) -> None:
    """Every reader of JSON gets the same value back."""
    with _ascii_only(tmp_path / "out"):
        survive_any_text()
        show_json({"name": "複線 caf\udce9"})
    assert json.loads((tmp_path / "out").read_text("ascii")) == {"name": "複線 caf\udce9"}


def test_json_never_holds_what_is_not_json(capfd: pytest.CaptureFixture[str]) -> None:
    """NaN would be read by no other program."""
    with pytest.raises(ValueError, match="^Out of range float values are not JSON compliant"):
        show_json({"value": float("nan")})
    assert capfd.readouterr() == ("", "")


def test_text_that_a_stream_cannot_hold_is_escaped(tmp_path: Path) -> None:
    """A run that took hours does not end over one letter."""
    with _ascii_only(tmp_path / "out"):
        survive_any_text()
        show("線")
        complain("線 é")
    assert (tmp_path / "out").read_text("ascii") == "\\u7dda\nfukusen: \\u7dda \\xe9\n"


def test_a_stream_of_another_kind_is_left_as_it_is() -> None:
    """Notebooks and some servers put their own objects there, or None."""
    own = io.StringIO()
    with contextlib.redirect_stdout(own), contextlib.redirect_stderr(None):
        survive_any_text()
        sys.stdout.write("線")
    assert own.getvalue() == "線"


def test_results_and_messages_go_their_ways(capfd: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    show("a result")
    say("a message")
    complain("what went wrong")
    assert capfd.readouterr() == ("a result\n", "a message\nfukusen: what went wrong\n")


def test_a_reader_that_has_gone_changes_nothing() -> None:
    """As when ``head`` has seen enough: the rest is dropped, and nothing is raised when the stream is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, contextlib.redirect_stdout(stream):
        show("a result")
        show_json({"another": 1})
        assert os.fstat(stream.fileno()).st_rdev == Path(os.devnull).stat().st_rdev


def test_what_a_model_prints_is_kept_apart(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to stderr while the work is done, and stdout is back for the result."""
    with results_kept_apart():
        sys.stdout.write("the model speaks\n")
    sys.stdout.write("the result\n")
    assert capfd.readouterr() == ("the result\n", "the model speaks\n")


@pytest.mark.parametrize("code", [0, 1, None, "goodbye"])
def test_a_model_that_ends_the_program_is_an_error(capfd: pytest.CaptureFixture[str], code: object) -> None:
    """Its exit code would look like a result; stdout is back all the same."""
    with pytest.raises(ModelError) as caught, results_kept_apart():
        sys.exit(code)
    assert str(caught.value) == f"The model's own code ended the program (exit code {code}). Take that out."
    sys.stdout.write("still here\n")
    assert capfd.readouterr() == ("still here\n", "")


def test_an_entry_of_a_file_stays_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """However long it is: what was written is to be searched, with the key in a column of its own."""
    entry("note", "word " * 60 + "\nend", to=sys.stdout)
    entry("  high", "[bold]:smile: 12", to=sys.stderr)
    out, err = capfd.readouterr()
    assert out == f"note      {'word ' * 60}\\nend\n"
    assert err == "  high    [bold]:smile: 12\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A real terminal of 40 columns with colours, and what was written to it."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    above, below = os.openpty()
    with os.fdopen(below, "w") as stream:

        def written() -> str:
            stream.flush()
            return os.read(above, 100_000).decode().replace("\r\n", "\n")

        yield stream, written
    os.close(above)


def test_an_entry_on_a_terminal_is_broken_and_coloured(terminal: tuple[TextIO, Callable[[], str]]) -> None:
    """Lines keep to the terminal's width under their key, which alone is coloured; long words stay whole."""
    stream, written = terminal
    entry("FAIL", "five words are not too-many " * 3 + "x" * 50, to=stream)
    text = written()
    assert text.startswith("\x1b[1;31mFAIL\x1b[0m      five words")
    lines = text.replace("\x1b[1;31m", "").replace("\x1b[0m", "").splitlines()
    assert "\x1b" not in "".join(lines)
    assert [len(line) <= 40 for line in lines] == [True, True, True, False]
    assert lines[-1] == " " * 10 + "x" * 50
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == f"FAIL {'five words are not too-many ' * 3}{'x' * 50}"
