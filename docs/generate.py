"""The pages of the reference that are written from the code: the command line's help, and everything registered."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 100
CALL = "import sys; sys.argv[0] = 'fukusen'; from fukusen.cli import main; sys.exit(main())"
KINDS = ("method", "score", "agreement", "check", "attack")


def verbs() -> list[str]:
    """The commands in the order in which the help shows them."""
    import typer

    from fukusen.cli import app

    command: Any = typer.main.get_command(app)
    return list(command.commands)


def help_text(*words: str) -> str:
    """What ``fukusen WORDS --help`` prints on a plain terminal of fixed width."""
    plain = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
    kept = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "GITHUB_ACTIONS"}}
    command = [sys.executable, "-c", CALL, *words, "--help"]
    done = subprocess.run(command, env=kept | plain, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def command_line_page() -> str:
    """The page ``cli.md``: the help of the program and of each verb."""
    head = "# The command line\n\nWritten by `make docs`; see also the [exit codes](../../README.md#exit-codes).\n"
    parts = [head, f"```text\n{help_text()}\n```\n"]
    parts += [f"## fukusen {verb}\n\n```text\n{help_text(verb)}\n```\n" for verb in verbs()]
    return "\n".join(parts)


def registered() -> dict[str, list[type[Any]]]:
    """Everything that the package itself registers, by kind, in order of registration."""
    import fukusen
    from fukusen.registry import Registry

    things: dict[str, list[type[Any]]] = {}
    for info in pkgutil.walk_packages(fukusen.__path__, "fukusen."):
        if info.name == "fukusen.__main__":
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Registry) and value.kind not in things:
                own = [value.get(name) for name in value.names()]
                things[value.kind] = [thing for thing in own if thing.__module__.startswith("fukusen.")]
    return things


def meaning(thing: type[Any]) -> str:
    """The first paragraph of a thing's docstring on one line, as a table's cell takes it."""
    first = inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0]
    return " ".join(first.split()).replace("``", "`").replace("|", "\\|")


def names_page() -> str:
    """The page ``names.md``: every registered name, what it means and the paper that it comes from."""
    lines = ["# Names", "", "Written by `make docs`; the papers are in the [bibliography](../bibliography.bib).", ""]
    things = registered()
    for kind in (*KINDS, *sorted(things.keys() - set(KINDS))):
        lines += [f"## {kind.capitalize()}s", "", "| name | meaning | source |", "|---|---|---|"]
        lines += [f"| `{thing.name}` | {meaning(thing)} | {thing.source} |" for thing in things.get(kind, [])]
        lines.append("")
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {"cli.md": command_line_page, "names.md": names_page}


def main() -> None:
    """Write every generated page."""
    for name, render in PAGES.items():
        (Path(__file__).resolve().parent / "reference" / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
