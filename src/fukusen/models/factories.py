"""A network from a function in the user's own file, run with the file's folder at hand."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from fukusen.errors import FukusenError, ModelError
from fukusen.models.reasons import reason
from fukusen.models.sources import is_installed
from fukusen.records import digest_of

_LOADING = threading.RLock()
_NEIGHBOURS: dict[str, ModuleType] = {}


def made_by(file: Path, factory: str) -> object:
    """What a function without arguments in a Python file returns.

    What the file prints goes to stderr: stdout is for results.

    Raises:
        ModelError: there is no such file or function, or it raised.
    """
    if not file.is_file():
        raise ModelError(f"There is no file {str(file)!r} to load a model from.")
    with beside(file.resolve().parent), contextlib.redirect_stdout(sys.stderr):
        module = _imported(file)
        maker = getattr(module, factory, None)
        if not callable(maker):
            raise ModelError(f"The file {str(file)!r} has no function {factory!r}. It has: {_functions(module)}.")
        try:
            return maker()
        except FukusenError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"{file}:{factory}() raised {type(error).__name__}: {reason(error)}. It is called without arguments "
                "and must return a network."
            ) from error


def _functions(module: ModuleType) -> str:
    """The names of what can be called in a module and was made there."""
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)
    return ", ".join(sorted(name for name in own if callable(vars(module)[name]) and name[0] != "_")) or "none"


def _imported(file: Path) -> ModuleType:
    """The module in that file, under a name of its own."""
    name = f"fukusen_user_{file.stem}_{digest_of(str(file.resolve()))}"
    plan = importlib.util.spec_from_file_location(name, file)
    if plan is None or plan.loader is None:
        raise ModelError(f"The file {str(file)!r} cannot be imported as Python.")
    module = importlib.util.module_from_spec(plan)
    sys.modules[name] = module
    try:
        plan.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, FukusenError):
            raise
        raise ModelError(
            f"The file {str(file)!r} raised {type(error).__name__} when it was imported: {reason(error)}."
        ) from error
    return module


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[None]:
    """A file's neighbours can be imported; those of the file loaded before are not taken for them.

    Two suppliers' folders may both hold a ``net.py``: the second must not be handed the first one's. One thread at a
    time loads.
    """
    with _LOADING, _on_path(folder):
        yield


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    for name, module in _NEIGHBOURS.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
    _NEIGHBOURS.clear()
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            place = getattr(sys.modules[name], "__file__", None)
            if place and Path(place).resolve().is_relative_to(folder) and not is_installed(place):
                _NEIGHBOURS[name] = sys.modules[name]
