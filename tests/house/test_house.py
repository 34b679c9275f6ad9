"""The house rules that no linter knows: captions, sizes, names, citations, the face and the weight of an import."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "fukusen"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "base", "core", "manager", "misc"}
Function = ast.FunctionDef | ast.AsyncFunctionDef

each_file = pytest.mark.parametrize("path", FILES, ids=NAMES)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, Function))


def _code_lines(function: Function) -> int:
    """The lines from ``def`` to the end, less the docstring's."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _public_names() -> set[str]:
    import fukusen

    return set(fukusen.__all__)


@each_file
def test_every_module_begins_with_its_caption(path: Path) -> None:
    docstring = ast.get_docstring(_tree(path)) or ""
    caption = " ".join(docstring.split("\n\n")[0].split())
    assert len(caption.split()) >= 3, "the first paragraph of the module's docstring is its caption"
    assert caption.endswith((".", ":", "::")), f"a caption is a sentence: {caption!r}"
    assert not re.match(r"(This|The) (module|file)\b", caption), "a caption names what is there, not the file"


def test_no_two_modules_share_a_caption() -> None:
    captions = [(ast.get_docstring(_tree(path)) or "").split("\n\n")[0] for path in FILES]
    assert len(set(captions)) == len(captions)


def test_files_are_short() -> None:
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in zip(NAMES, FILES, strict=True)}
    assert {name: size for name, size in sizes.items() if size > 400} == {}
    assert statistics.median(sizes.values()) < 150


@each_file
def test_functions_are_short(path: Path) -> None:
    lengths = {f"{function.name}:{function.lineno}": _code_lines(function) for function in _functions(path)}
    assert {name: length for name, length in lengths.items() if length > 50} == {}


@each_file
def test_functions_have_few_parameters(path: Path) -> None:
    """At most five; the public calls take what the contract gives them, and a command one for each option."""
    if path.relative_to(SOURCE).parts[0] == "cli":
        return
    functions = [function for function in _functions(path) if function.name not in _public_names()]
    counts = {f"{function.name}:{function.lineno}": len(_parameters(function)) for function in functions}
    assert {name: count for name, count in counts.items() if count > 5} == {}


@each_file
def test_only_the_command_line_prints(path: Path) -> None:
    if path.relative_to(SOURCE).parts[0] == "cli":
        return
    prints = [
        node.lineno
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


@each_file
def test_no_room_has_an_empty_name(path: Path) -> None:
    parts = {part.removesuffix(".py").strip("_") for part in path.relative_to(SOURCE).parts}
    assert parts & FORBIDDEN_NAMES == set()


@each_file
def test_arguments_are_not_checked_by_assert(path: Path) -> None:
    asserts = [node.lineno for node in ast.walk(_tree(path)) if isinstance(node, ast.Assert)]
    assert asserts == []


def _registered() -> list[tuple[str, str]]:
    """(kind and name, source) of everything that the package registers itself."""
    import fukusen
    from fukusen.registry import Registry

    registries: dict[int, Registry] = {}
    for info in pkgutil.walk_packages(fukusen.__path__, "fukusen."):
        if info.name != "fukusen.__main__":
            module = importlib.import_module(info.name)
            registries |= {id(value): value for value in vars(module).values() if isinstance(value, Registry)}
    things = [(registry.kind, registry.get(name)) for registry in registries.values() for name in registry.names()]
    return [(f"{kind} {thing.name}", thing.source) for kind, thing in things if thing.__module__.startswith("fukusen.")]


def test_everything_registered_is_cited(root: Path) -> None:
    bibliography = (root / "docs" / "bibliography.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,\s]+),", bibliography, flags=re.MULTILINE)
    registered = _registered()
    assert len(keys) == len(set(keys))
    assert registered, "nothing is registered"
    assert {name: source for name, source in registered if source not in keys} == {}


def _imported_names(path: Path) -> set[str]:
    """The names that a module imports from its own package, also those for type checkers only."""
    return {
        alias.asname or alias.name
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "fukusen")
        for alias in node.names
    }


def test_the_face_shows_what_is_there() -> None:
    import fukusen

    names = set(fukusen.__all__)
    assert len(names) == len(fukusen.__all__)
    assert len(names) <= 25
    assert names - {"__version__"} == _imported_names(SOURCE / "__init__.py")
    for name in names:
        assert getattr(fukusen, name) is not None
    assert names <= set(dir(fukusen))


def test_the_face_defines_nothing_public() -> None:
    defined = [node for node in _tree(SOURCE / "__init__.py").body if isinstance(node, Function | ast.ClassDef)]
    assert [node.name for node in defined if not node.name.startswith("_")] == []


@pytest.mark.parametrize("module", ["fukusen", "fukusen.view", "fukusen.store", "fukusen.cli"])
def test_opens_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'jaxtyping'}} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, ""), f"importing {module} imports {done.stderr.strip()}"
