"""What there is to choose from, as a table for people and as JSON for programs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

import fukusen

Call = Callable[..., Any]
KINDS = ("methods", "scores", "agreements", "checks", "attacks")
SHOWN = {
    "methods": ["name", "track", "family", "cost", "fits", "source"],
    "scores": ["name", "shift leak", "meaning", "source"],
    "agreements": ["name", "range", "meaning", "source"],
    "checks": ["name", "scope", "title", "source"],
    "attacks": ["name", "fools", "threat", "source"],
    "models": ["name", "meaning"],
}


def _cells(text: str) -> list[list[str]]:
    """The first table's cells, cut where its heads stand."""
    lines = text.partition("\n\n")[0].splitlines()
    starts = [0] + [place for place in range(2, len(lines[0])) if lines[0][place - 2 : place].isspace()]
    starts = [place for place in starts if lines[0][place] != " "]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]


@pytest.mark.parametrize("kind", [*KINDS, "models"])
def test_the_table_shows_what_json_holds(call: Call, kind: str) -> None:
    """The same names in the same order under the heads of the kind, each with its source."""
    done = call("list", kind)
    entries = call("list", kind, "--json").json
    assert (done.code, done.err) == (0, "")
    heads, *rows = _cells(done.out)
    assert heads == SHOWN[kind]
    assert [row[0] for row in rows] == [entry["name"] for entry in entries]
    if "source" in heads:
        assert [row[-1] for row in rows] == [entry["source"] for entry in entries]
    assert all(cell for row in rows for cell in row)


@pytest.mark.parametrize("kind", KINDS)
def test_json_names_everything_registered(call: Call, kind: str) -> None:
    """All that Python lists, with a source, a meaning, and parameters from which the same thing is built."""
    entries = call("list", kind, "--json").json
    assert [entry["name"] for entry in entries] == list(getattr(fukusen, f"list_{kind}")())
    room = {"agreements": "agreement"}.get(kind, kind)
    registry = getattr(importlib.import_module(f"fukusen.{room}"), kind)
    for entry in entries:
        thing = registry.get(entry["name"])
        assert entry["source"] == thing.source
        assert len(entry["meaning"].split()) > 1
        assert thing(**entry["parameters"]) == thing()


def test_scores_show_their_leak(call: Call) -> None:
    """Adding a number to every logit moves the logit by as much, and what softmax makes not at all."""
    leaks = {entry["name"]: entry["shift_leak"] for entry in call("list", "scores", "--json").json}
    expected = {"logit": 1.0, "centered_logit": 0.0, "log_odds": 0.0, "log_probability": 0.0, "probability": 0.0}
    assert {name: leaks[name] for name in expected} == expected
    heads, *rows = _cells(call("list", "scores").out)
    shown = {row[0]: row[heads.index("shift leak")] for row in rows}
    assert {name: shown[name] for name in expected} == {name: f"{leak:g}" for name, leak in expected.items()}


def test_agreements_show_their_range(call: Call) -> None:
    """Which values there are, and which way is closer."""
    entries = {entry["name"]: entry for entry in call("list", "agreements", "--json").json}
    assert (entries["spearman"]["range"], entries["spearman"]["higher_is_closer"]) == ([-1.0, 1.0], True)
    assert (entries["wasserstein_1"]["range"], entries["wasserstein_1"]["higher_is_closer"]) == ([0.0, 1.0], False)
    shown = {row[0]: row[1] for row in _cells(call("list", "agreements").out)}
    assert (shown["spearman"], shown["wasserstein_1"]) == ("-1 to 1", "0 to 1")


def test_attacks_show_whom_they_fool(call: Call) -> None:
    """The scores, as one cell and as a list."""
    entries = {entry["name"]: entry for entry in call("list", "attacks", "--json").json}
    assert entries["corner_shift"]["fools"] == ["logit"]
    assert entries["corner_shift"]["parameters"] == {"strength": 1.0}
    shown = {row[0]: row[1] for row in _cells(call("list", "attacks").out)}
    assert shown["stop_gradient"] == ", ".join(entries["stop_gradient"]["fools"])


def test_an_unknown_kind_suggests_the_nearest(call: Call) -> None:
    """Exit code 2, with all kinds named."""
    done = call("list", "method")
    known = "agreements, attacks, checks, methods, models, scores"
    said = f"fukusen: There is no list named 'method'. Did you mean 'methods'? Known: {known}.\n"
    assert (done.code, done.out, done.err) == (2, "", said)
