"""``fukusen report``: the report of an audit, written again from its store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fukusen.cli.options import AsJson
from fukusen.cli.output import plain, show, show_json

EXAMPLES = """Examples:

  fukusen report audit
  fukusen report audit --json | jq .status

An audit that is not finished has no report: run its command again.
"""


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What 'fukusen audit --out' was given.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Write the report of a finished audit again, and print where it is.

    Nothing is computed: it needs no model, no picture and no torch.
    """
    from fukusen.store import Store
    from fukusen.view import write_report

    store = Store.open(folder)
    verdict = store.verdict()
    path = write_report(store, verdict)
    if as_json:
        show_json(verdict)
    else:
        show(plain(str(path)))
