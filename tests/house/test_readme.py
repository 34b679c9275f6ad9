"""The README's Python blocks run as they stand, from top to bottom in one namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?P<mark><!-- test: (?P<how>\w+) -->\n)?```python\n(?P<code>.*?)```", flags=re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One Python block: its code, the line of the page that it starts on, and whether it takes long."""

    code: str
    line: int
    slow: bool


def blocks(page: Path) -> list[Block]:
    """The Python blocks of a page in order; ``<!-- test: slow -->`` above one marks it as taking long."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match["code"], text[: match.start("code")].count("\n"), match["how"] == "slow")
        for match in BLOCK.finditer(text)
    ]


def run(page: Path, chosen: list[Block]) -> None:
    """Run blocks in one namespace; a traceback names the page and its line."""
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in chosen:
        exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)


def test_every_mark_is_known() -> None:
    marks = re.findall(r"<!-- test: (.*?) -->", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(marks) <= {"slow"}


def test_quick_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = [block for block in blocks(ROOT / "README.md") if not block.slow]
    assert chosen
    run(ROOT / "README.md", chosen)


@pytest.mark.slow
def test_all_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(ROOT / "README.md", blocks(ROOT / "README.md"))
