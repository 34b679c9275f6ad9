"""The program itself: its verbs, its exit codes, and one clear message for whatever goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from fukusen.cli import attack, audit, compare, explain, listing, repair, report
from fukusen.cli.output import complain, plain, show, survive_any_text
from fukusen.errors import FukusenError

UNUSABLE = 2
INTERRUPTED = 130
EXAMPLES = """Examples:

  fukusen audit demo demo --out demo-audit
  fukusen explain demo photo.jpg --method grad_cam --score log_odds
  fukusen list methods

Exit codes: 0 done; 1 done, and the status is not better than --fail-on; 2 the call, model or data cannot be used.
"""

app = typer.Typer(name="fukusen", add_completion=False, pretty_exceptions_enable=False)
app.command("audit", epilog=audit.EXAMPLES)(audit.audit)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("explain", epilog=explain.EXAMPLES)(explain.explain)
app.command("repair", epilog=repair.EXAMPLES)(repair.repair)
app.command("attack", epilog=attack.EXAMPLES)(attack.attack)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("list", epilog=listing.EXAMPLES)(listing.list_names)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("fukusen")
        except PackageNotFoundError:
            number = "of unknown version: it runs from a folder that was not installed"
        show(f"fukusen {number}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def fukusen(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find out whether the heatmaps of an image classifier can be trusted."""
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            context.get_help()
        raise typer.Exit(UNUSABLE)


def main(words: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        words: what stands after its name; default: what it was called with.

    Returns:
        The exit code: 0 done, 1 done but not good enough, 2 something cannot be used, 130 stopped by Ctrl-C.
    """
    survive_any_text()
    given = list(sys.argv[1:] if words is None else words)
    try:
        command = typer.main.get_command(app)
        code = command.main(given, prog_name="fukusen", standalone_mode=False, obj=tuple(given))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever a model's own code raises ends in one sentence
        if os.environ.get("FUKUSEN_TRACEBACK"):
            traceback.print_exc()
        complain(_said(error))
        code = UNUSABLE
    return code if isinstance(code, int) else 0


def _said(error: Exception) -> str:
    """One message about an error: what is wrong and what to do."""
    if isinstance(error, FukusenError):
        return plain(str(error))
    if isinstance(error, typer.TyperException):
        return _misused(error)
    if isinstance(error, typer.Abort):
        return "The input ended before it was complete."
    name = type(error).__name__
    text = plain((str(error).strip().splitlines() or ["no message"])[0])
    if isinstance(error, MemoryError) or "OutOfMemory" in name:
        return f"There is not enough memory ({name}: {text}). Say a smaller --batch, or --device cpu."
    return f"An unexpected {name} stopped the program: {text}. FUKUSEN_TRACEBACK=1 shows where it comes from."


def _misused(error: typer.TyperException) -> str:
    """A call that does not parse, with the nearest option and the place of the help."""
    option, near = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    said = error.format_message().rstrip(".")
    if option and near is not None:
        said = f"There is no option {option}" + (f". Did you mean {min(near)}?" if near else "")
    context = getattr(error, "ctx", None)
    path = "fukusen" if context is None else context.command_path
    return f"{plain(said)}{'' if said.endswith('?') else '.'} See: {path} --help"
