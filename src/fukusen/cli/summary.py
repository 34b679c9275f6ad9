"""A finished audit in about ten lines, for people."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fukusen.cli.output import entry, plain
from fukusen.view import summary
from fukusen.view.words import Words

Verdict = Mapping[str, Any]
SHOWN = 3
GRAVEST = ("high", "medium", "low")
VERDICTS = ("sound", "exposed", "manipulated", "unreliable")


def show_summary(verdict: Verdict, folder: Path) -> None:
    """Say on stdout what an audit found and what to open next.

    Args:
        verdict: the content of audit.json.
        folder: where the audit lies.
    """
    for key, text in _entries(verdict, folder):
        entry(key, text, to=sys.stdout)


def _entries(verdict: Verdict, folder: Path) -> Iterator[tuple[str, str]]:
    yield verdict["status"].upper(), " ".join(summary.meaning(verdict, Words())[:2])
    yield "heatmaps", _heatmaps(verdict["panel"])
    yield "images", _images(verdict["images"])
    yield from _looked(verdict)
    yield "queue", _queue(verdict["queue"])
    yield "checks", _checks(verdict["checks"])
    yield "findings", _findings(verdict["findings"])
    of_model = _gravest([finding for finding in verdict["findings"] if finding["scope"] == "model"])
    for finding in of_model[:SHOWN]:
        yield f"  {finding['severity']}", finding["claim"]
    yield "report", str(folder / "report.html")


def _gravest(findings: Sequence[Verdict]) -> list[Verdict]:
    return sorted(findings, key=lambda one: (GRAVEST.index(one["severity"]), -one["priority"]))


def _heatmaps(panel: Sequence[Verdict]) -> str:
    counts = Counter(row["verdict"] for row in panel)
    said = [f"{counts[word]} {word}" for word in VERDICTS]
    unjudged = [f"{counts[None]} not judged"] if counts[None] else []
    return f"{len(panel)} kind{'s' * (len(panel) != 1)} (method and score): {', '.join(said + unjudged)}"


def _images(images: Verdict) -> str:
    said = f"{images['audited']:,} of {images['asked']:,} audited"
    if not images["failed"]:
        return said
    told = [f"{plain(one['item'])} ({one['reason']})" for one in images["failures"]]
    return f"{said}, {images['failed']:,} failed: {_first(told)}"


def _looked(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """How closely the images were looked at, and what that cost."""
    looked, spent = verdict["looked_at"], verdict["environment"]
    if looked["brief"] and looked["drawn"]:
        followed = f" and {looked['followed']:,} that stood out" if looked["followed"] else ""
        yield "closely", f"{looked['drawn']:,} drawn by chance{followed}; the other {looked['brief']:,} briefly"
    if not spent["computed"]:
        yield "cost", "none in this run: every image had been looked at before"
        return
    each = spent["forwards"] / spent["computed"]
    yield "cost", f"{each:,.1f} forward passes an image ({spent['forwards']:,} for {spent['computed']:,})"


def _queue(queue: Verdict) -> str:
    if not queue["open"]:
        return "empty: no image has an open finding"
    told = [f"{plain(one['item'])} ({one['severity']})" for one in queue["items"]]
    return f"{queue['open']:,} to look at, gravest first: {_first(told)}"


def _checks(checks: Sequence[Verdict]) -> str:
    said = []
    for status, words in (
        ("within", "within bounds"),
        ("exceeded", "out of bounds"),
        ("not_applicable", "not applicable"),
        ("not_run", "did not run"),
    ):
        titles = [check["title"] for check in checks if check["status"] == status]
        if titles:
            named = "" if status == "within" else f" ({_first(titles)})"
            said.append(f"{len(titles)} {words}{named}")
    return ", ".join(said) or "none"


def _findings(findings: Sequence[Verdict]) -> str:
    of_model = sum(finding["scope"] == "model" for finding in findings)
    graded = Counter(finding["severity"] for finding in findings)
    grades = ", ".join(f"{graded[word]} {word}" for word in GRAVEST if graded[word])
    if not findings:
        return "none"
    return f"{of_model} about the model, {len(findings) - of_model} about single images ({grades})"


def _first(parts: Sequence[str]) -> str:
    """The first few, and how many there are besides."""
    beyond = [f"and {len(parts) - SHOWN} more"] if len(parts) > SHOWN else []
    return ", ".join([*parts[:SHOWN], *beyond])
