"""What the pages say about the program is true of the program: verbs, options, links and the generated reference."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:python -m )?fukusen [a-z][^`]*)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """``docs/generate.py`` as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Every verb and its options, from the program itself."""
    import typer

    from fukusen.cli import app

    commands = typer.main.get_command(app).commands
    return {
        verb: {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for verb, command in commands.items()
    }


def _calls(page: Path) -> Iterator[list[str]]:
    """The words of every call of the program that a page shows."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in SHELL.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += INLINE.findall(FENCE.sub("", text))
    for line in lines:
        words = shlex.split(line.removeprefix("$ ").removeprefix("python -m "), comments=True)
        if words[:1] == ["fukusen"] and len(words) > 1 and not words[1].startswith("-"):
            yield words[1:]


@each_page
def test_every_call_on_a_page_exists(page: Path, options: dict[str, set[str]]) -> None:
    for verb, *words in _calls(page):
        assert verb in options, f"{page.name} shows the verb {verb!r}"
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options[verb], f"{page.name} shows {sorted(used - options[verb])} of {verb!r}"


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = [link.split("#")[0] for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))]
    local = [target for target in targets if target and "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["cli.md", "names.md"])
def test_generated_pages_are_fresh(generate: ModuleType, name: str) -> None:
    page = ROOT / "docs" / "reference" / name
    assert page.read_text(encoding="utf-8") == generate.PAGES[name](), "run `make docs`"


def test_the_readme_shows_every_verb(options: dict[str, set[str]]) -> None:
    shown = {verb for verb, *_ in _calls(ROOT / "README.md")}
    assert shown == set(options)


@pytest.mark.parametrize("kind", ["methods", "scores", "agreements", "checks", "attacks"])
def test_every_name_is_in_the_reference(kind: str) -> None:
    import fukusen

    names = getattr(fukusen, f"list_{kind}")()
    page = (ROOT / "docs" / "reference" / "names.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in page] == []
