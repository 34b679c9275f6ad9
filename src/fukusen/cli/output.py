"""What the commands write: results to stdout, messages to stderr, and nothing of one in the other."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from fukusen.errors import ModelError

WIDEST = 110
KEY = 10
STYLES = {
    "pass": "bold green",
    "attention": "bold yellow",
    "fail": "bold red",
    "sound": "green",
    "exposed": "yellow",
    "manipulated": "red",
    "unreliable": "red",
}


def survive_any_text() -> None:
    """Let both streams write what their encoding cannot, as escapes, instead of stopping a run that took hours."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def plain(text: str) -> str:
    r"""The text on one line, with what a terminal would obey written out.

    Example:
        >>> plain("a\nb\x1b[31m.png")
        'a\\nb\\x1b[31m.png'
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


@contextlib.contextmanager
def results_kept_apart() -> Iterator[None]:
    """While the work is done, send what a model's own code prints to stderr, and keep it from ending the program.

    Raises:
        ModelError: the model's code asked for the program's end, which would look like a result.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        raise ModelError(f"The model's own code ended the program (exit code {error.code}). Take that out.") from error


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line; a reader that has gone away, such as ``head``, or was never there changes no finding."""
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str) -> None:
    """A message to stderr."""
    _write(sys.stderr, text)


def complain(text: str) -> None:
    """The one message about what went wrong."""
    say(f"fukusen: {text}")


def show(text: str) -> None:
    """A line of the result, to stdout."""
    _write(sys.stdout, text)


def show_json(value: Any) -> None:
    """A result as JSON to stdout, indented; in ASCII where the stream can hold no more."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    show(text)


def entry(key: str, text: str, *, to: TextIO) -> None:
    """One entry of a summary: a short key, and what is said under it, broken to the width of a terminal.

    Args:
        key: what it is about; a word of ``STYLES`` is coloured as such, on a terminal that has colours.
        text: what is said; elsewhere than on a terminal it stays on one line.
        to: stdout or stderr.
    """
    console = Console(file=to, highlight=False, markup=False, emoji=False)
    gap = " " * max(1, KEY - len(key))
    body = f"{key}{gap}{plain(text)}"
    if console.is_terminal:
        wide = min(console.width, WIDEST)
        body = textwrap.fill(body, wide, subsequent_indent=" " * KEY, break_long_words=False, break_on_hyphens=False)
        styled = Text(body)
        styled.stylize(STYLES.get(key.strip().lower(), "bold"), 0, len(key))
        console.print(styled, soft_wrap=True)
    else:
        _write(to, body)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their heads, columns aligned.

    Example:
        >>> print(table(["name", "leak"], [["logit", "1"]]))
        name   leak
        logit  1
    """
    lines = [list(heads), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
