"""The report written again: from the store alone, without torch, and only where an audit is finished."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
NAMED = "Name the folder that 'fukusen audit --out' was given."
WITHOUT_TORCH = """
import sys
from fukusen.cli import main
code = main(["report", "out"])
sys.exit(f"torch was loaded" if "torch" in sys.modules else code)
"""


@pytest.fixture
def out(call: Call, here: Path) -> Path:
    """A finished audit in the folder ``out``."""
    call("audit", "model.py:build", "photos", "--out", "out", "--method", "grad_cam", "--score", "logit")
    return here / "out"


def test_the_report_is_written_again(call: Call, out: Path) -> None:
    """It is what the audit wrote, byte for byte; its place, or with --json the verdict, is alone on stdout."""
    written = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    done = call("report", "out")
    assert (done.code, done.out, done.err) == (0, "out/report.html\n", "")
    assert (out / "report.html").read_bytes() == written
    (out / "report.html").write_text("old")
    done = call("report", "out", "--json")
    assert (done.code, done.out, done.err) == (0, (out / "audit.json").read_text(), "")
    assert (out / "report.html").read_bytes() == written


def test_an_audit_that_is_not_finished_has_none(call: Call, out: Path) -> None:
    """Without audit.json the report that is there is left alone, and the remedy is named."""
    (out / "audit.json").unlink()
    (out / "report.html").write_text("old")
    done = call("report", "out", "--json")
    said = (
        "fukusen: The audit in out is not complete: it has no audit.json. Run the same audit command again; it goes on "
        "from what is there.\n"
    )
    assert (done.code, done.out, done.err) == (2, "", said)
    assert (out / "report.html").read_text() == "old"


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nowhere", f"There is no folder nowhere. {NAMED}"),
        ("model.py", f"There is no folder model.py. {NAMED}"),
        ("photos", f"The folder photos holds no audit. {NAMED}"),
    ],
)
def test_a_folder_without_an_audit_is_refused(call: Call, here: Path, folder: str, said: str) -> None:
    """One line, and nothing is written into it."""
    before = sorted(here.rglob("*"))
    done = call("report", folder)
    assert (done.code, done.out, done.err) == (2, "", f"fukusen: {said}\n")
    assert sorted(here.rglob("*")) == before


def test_a_report_needs_no_torch(out: Path) -> None:
    """A reviewer's laptop opens an audit without it, and without the model and the pictures."""
    (out.parent / "model.py").unlink()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=out.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "out/report.html\n", "")
