"""The code that a network runs, as text: the files of its classes and functions, and those of their neighbours."""

from __future__ import annotations

import ast
import inspect
import linecache
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
# Our own package counts as installed, also where it runs from a checkout: a digest must not tell the two apart.
_INSTALLED = tuple(str(path.resolve()) for path in (*_LIBRARIES, Path(__file__).parents[1]))

_INSIDE = ("__func__", "fget", "func")  # of class and static methods, properties, and cached properties


def functions_of(kind: type) -> Iterator[FunctionType]:
    """The Python functions in a class's own body: methods of every sort, and what decorators have wrapped."""
    for value in vars(kind).values():
        inner = next((got for name in _INSIDE if (got := getattr(value, name, None)) is not None), value)
        inner = inspect.unwrap(inner) if callable(inner) else inner
        if isinstance(inner, FunctionType):
            yield inner


def _bytecode(code: CodeType) -> Iterator[str]:
    """Code that was typed in and has no file: its instructions, names and constants."""
    yield f"{code.co_name}{code.co_names}{code.co_varnames}{code.co_code.hex()}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _bytecode(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _imported_names(text: str) -> list[str]:
    """The names that a file's import statements bind, at any depth."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return sorted({alias.asname or alias.name.split(".")[0] for node in nodes for alias in node.names})


class Sources:
    """Code told once: each file as its text, however many of its functions are met.

    A function is found in the file that its code came from, and not by its module's name: two files of one name, loaded
    one after the other, stay apart.

    Args:
        value_parts: what a plain value contributes; asked for the values that a file imports from its neighbours.
    """

    def __init__(self, value_parts: Callable[[Any], Iterator[bytes]]) -> None:
        self._value_parts = value_parts
        self._told: set[str] = set()

    def of_class(self, kind: type) -> Iterator[bytes]:
        """The files of a class and of the classes that it inherits from.

        What one installed package hangs on another's class when it is imported (transformers does on ``nn.Module``) is
        no part of a network that does not come from it; what the user's own code hangs there is.
        """
        for one in kind.__mro__:
            for function in functions_of(one):
                if not _is_foreign(function, one):
                    yield from self.of_function(function)

    def of_function(self, function: FunctionType) -> Iterator[bytes]:
        """The file of a function; its instructions where there is no file."""
        name = function.__code__.co_filename
        if name in self._told:
            return
        text = _text(name, function.__globals__)
        if not text:
            yield from (part.encode() for part in _bytecode(function.__code__))
            return
        yield from self._of_file(name, text, function.__globals__)

    def _of_file(self, name: str, text: str, known: dict[str, Any]) -> Iterator[bytes]:
        self._told.add(name)
        yield text.encode()
        if is_installed(name):
            return
        for imported in _imported_names(text):
            value = known.get(imported)
            if isinstance(value, ModuleType):
                yield from self._of_module(value)
            elif inspect.isclass(value):
                yield from self.of_class(value) if _is_local(value) else ()
            elif isinstance(value, FunctionType):
                yield from self.of_function(value) if _is_local(value) else ()
            else:
                yield imported.encode()
                yield from self._value_parts(value)

    def _of_module(self, module: ModuleType) -> Iterator[bytes]:
        name = getattr(module, "__file__", None)
        if name and name not in self._told and name.endswith(".py") and _is_local(module):
            yield from self._of_file(name, _text(name, vars(module)), vars(module))


def _text(name: str, known: dict[str, Any]) -> str:
    linecache.checkcache(name)
    return "".join(linecache.getlines(name, known))


def is_installed(name: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to us."""
    path = str(Path(name).resolve())
    return not name.startswith("<") and (path.startswith(_INSTALLED) or "site-packages" in Path(path).parts)


def _is_foreign(function: FunctionType, kind: type) -> bool:
    """Whether a function in a class's body comes from an installed package other than the class's own."""
    packages = [str(thing.__module__).partition(".")[0] for thing in (function, kind)]
    if str(function.__module__).startswith("torch._dynamo"):
        return True  # what torch.compile hangs on torch's classes when it first runs
    return packages[0] != packages[1] and is_installed(function.__code__.co_filename)


def _is_local(thing: Any) -> bool:
    """Whether a module, class or function is the user's own and not of an installed package."""
    try:
        name = inspect.getfile(thing)
    except (OSError, TypeError):
        return False
    return not is_installed(name)
