"""``fukusen list``: what there is to choose from, with what is known of each."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fukusen.cli.options import AsJson, known
from fukusen.cli.output import results_kept_apart, show, show_json, table

if TYPE_CHECKING:
    from fukusen.registry import Registry

EXAMPLES = """Examples:

  fukusen list methods
  fukusen list scores --json

What other packages have registered is listed, too.
"""
Entry = dict[str, Any]
KINDS = ("methods", "scores", "agreements", "checks", "attacks", "models")
COLUMNS = {
    "methods": ("name", "track", "family", "cost", "fits", "source"),
    "scores": ("name", "shift_leak", "meaning", "source"),
    "agreements": ("name", "range", "meaning", "source"),
    "checks": ("name", "scope", "title", "source"),
    "attacks": ("name", "fools", "threat", "source"),
    "models": ("name", "meaning"),
}
KNOWN = {
    "methods": ("track", "family", "reading", "cost", "fits", "single_pass"),
    "agreements": ("higher_is_closer",),
    "checks": ("scope", "title", "meaning", "larger_is_worse"),
    "attacks": ("threat", "fools", "tolerance"),
}


def list_names(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Show what there is: each name, what it means, and the paper that it comes from."""
    chosen = known("list", kind, KINDS)
    with results_kept_apart():
        entries = _entries(chosen)
    if as_json:
        show_json(entries)
    else:
        columns = COLUMNS[chosen]
        heads = [column.replace("_", " ") for column in columns]
        show(table(heads, [[_cell(entry.get(column)) for column in columns] for entry in entries]))
        if chosen == "scores":
            _show_peers()


def _entries(kind: str) -> list[Entry]:
    from fukusen.agreement import agreements
    from fukusen.attacks import attacks
    from fukusen.checks import checks
    from fukusen.methods import methods
    from fukusen.models import model_specs
    from fukusen.scores import scores

    if kind == "models":
        return [{"name": form, "source": None, "meaning": meaning} for form, meaning in model_specs().items()]
    registries: dict[str, Registry[Any]] = {
        "methods": methods,
        "scores": scores,
        "agreements": agreements,
        "checks": checks,
        "attacks": attacks,
    }
    more: dict[str, Callable[[Any], Entry]] = {"scores": _score, "agreements": _agreement}
    registry = registries[kind]
    found = []
    for name in registry.names():
        thing = registry.get(name)
        known_of_it = {key: getattr(thing, key, None) for key in KNOWN.get(kind, ())}
        entry = {"name": name, "source": thing.source, "meaning": _meaning(thing), **known_of_it}
        found.append({**entry, **(more[kind](thing) if kind in more else {}), "parameters": _parameters(thing)})
    return found


def _score(thing: Any) -> Entry:
    """Its meaning, and its shift leak at logits that are not special."""
    import torch

    from fukusen.scores import shift_leak

    leak = shift_leak(thing(), torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([0]))
    return {"meaning": thing.meaning, "shift_leak": round(float(leak[0]), 6)}


def _show_peers() -> None:
    """What other packages explain, and which of it leaks."""
    from fukusen.scores import PEER_TARGETS

    rows = [[one.package, one.target, _cell(one.leak)] for one in PEER_TARGETS]
    show("")
    show(table(("package", "what it explains there", "shift leak"), rows))


def _agreement(thing: Any) -> Entry:
    return {"range": [end if math.isfinite(end) else None for end in thing.value_range]}


def _meaning(thing: Any) -> str:
    """The first sentence of its docstring."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split()).replace("``", "")


def _parameters(thing: Any) -> Entry:
    """Its parameters with their defaults."""
    from fukusen.registry import spec_of

    return dict(spec_of(thing()).parameters)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        low, high = value
        return f"{'any' if low is None else f'{low:g}'} to {'any' if high is None else f'{high:g}'}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
