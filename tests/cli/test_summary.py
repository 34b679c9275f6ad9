"""A finished audit in about ten lines, each of which says what is in audit.json and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fukusen.cli.summary import show_summary

Shown = Callable[..., dict[str, str]]


def _row(verdict: str | None) -> dict[str, Any]:
    return {"method": "grad_cam", "score": "logit", "verdict": verdict}


def _check(title: str, status: str) -> dict[str, Any]:
    return {"title": title, "status": status}


def _finding(scope: str, severity: str, claim: str = "A claim.", priority: float = 0.5) -> dict[str, Any]:
    return {"scope": scope, "severity": severity, "claim": claim, "priority": priority}


CLEAN: dict[str, Any] = {
    "status": "pass",
    "panel": [_row("sound"), _row("exposed")],
    "images": {"asked": 2, "audited": 2, "failed": 0, "failures": []},
    "queue": {"open": 0, "items": []},
    "checks": [_check("One", "within"), _check("Two", "within")],
    "findings": [],
    "looked_at": {"drawn": 2, "followed": 0, "found": 0, "brief": 0, "low": None, "high": None, "confidence": 0.95},
    "environment": {"computed": 2, "kept": 0, "forwards": 25},
}


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> Shown:
    """What is shown of a clean verdict that is changed in some parts: the lines on stdout, by key."""

    def shown(**changed: Any) -> dict[str, str]:
        show_summary({**CLEAN, **changed}, Path("out") / "audit")
        out, err = capfd.readouterr()
        assert err == ""
        lines = out.splitlines()
        assert len({line[:10] for line in lines}) == len(lines)
        return {line[:10].rstrip(): line[10:] for line in lines}

    return shown


def test_a_clean_audit_is_eight_lines(shown: Shown) -> None:
    """The status, what it rests on, and what to open next, in this order."""
    lines = shown()
    status = lines.pop("PASS")
    assert status.endswith(".")
    assert list(lines.items()) == [
        ("heatmaps", "2 kinds (method and score): 1 sound, 1 exposed, 0 manipulated, 0 unreliable"),
        ("images", "2 of 2 audited"),
        ("cost", "12.5 forward passes an image (25 for 2)"),
        ("queue", "empty: no image has an open finding"),
        ("checks", "2 within bounds"),
        ("findings", "none"),
        ("report", "out/audit/report.html"),
    ]


def test_it_says_how_closely_the_images_were_looked_at(shown: Shown) -> None:
    """Where some were looked at briefly only; and nothing of the cost where another run had it."""
    looked = {**CLEAN["looked_at"], "drawn": 32, "followed": 5, "brief": 1963}
    lines = shown(looked_at=looked, environment={"computed": 0, "kept": 2000, "forwards": 0})
    assert lines["closely"] == "32 drawn by chance and 5 that stood out; the other 1,963 briefly"
    assert lines["cost"] == "none in this run: every image had been looked at before"
    assert shown(looked_at={**looked, "followed": 0})["closely"] == "32 drawn by chance; the other 1,963 briefly"


@pytest.mark.parametrize("status", ["pass", "attention", "fail"])
def test_the_status_comes_first(shown: Shown, status: str) -> None:
    """In capitals, with what it means beside it."""
    key, said = next(iter(shown(status=status, panel=[_row("manipulated")]).items()))
    assert key == status.upper()
    assert len(said.split()) > 5


def test_heatmaps_are_counted_by_verdict(shown: Shown) -> None:
    """Those that could not be judged are counted apart, where there are any."""
    panel = [_row(word) for word in ("sound", "unreliable", "manipulated", "manipulated", None, None)]
    said = "6 kinds (method and score): 1 sound, 0 exposed, 2 manipulated, 1 unreliable, 2 not judged"
    assert shown(panel=panel)["heatmaps"] == said


def test_failed_images_are_named_with_their_reasons(shown: Shown) -> None:
    """The first three, on one line whatever their names hold."""
    failures = [{"item": f"{name}.png", "reason": "the file is empty"} for name in ("a\nb", "c", "d", "e", "f")]
    images = {"asked": 12345, "audited": 12340, "failed": 5, "failures": failures}
    assert shown(images=images)["images"] == (
        "12,340 of 12,345 audited, 5 failed: a\\nb.png (the file is empty), c.png (the file is empty), d.png (the file "
        "is empty), and 2 more"
    )


def test_the_queue_is_named_from_its_head(shown: Shown) -> None:
    """The gravest three, in the order of the queue."""
    items = [
        {"item": f"{name}.png", "severity": grade} for name, grade in zip("dcba", ["high", "low"] * 2, strict=True)
    ]
    queue = {"open": 4, "items": items}
    said = "4 to look at, gravest first: d.png (high), c.png (low), b.png (high), and 1 more"
    assert shown(queue=queue)["queue"] == said
    assert shown(queue={"open": 3, "items": items[:3]})["queue"] == (
        "3 to look at, gravest first: d.png (high), c.png (low), b.png (high)"
    )


def test_checks_that_did_not_pass_are_named(shown: Shown) -> None:
    """One that does not apply, or did not run, is never counted as passed."""
    statuses = {"A": "not_run", "B": "not_applicable", "C": "exceeded", "D": "within", "E": "not_applicable"}
    checks = [_check(title, status) for title, status in statuses.items()]
    said = "1 within bounds, 1 out of bounds (C), 2 not applicable (B, E), 1 did not run (A)"
    assert shown(checks=checks)["checks"] == said
    assert shown(checks=[_check("A", "not_run")])["checks"] == "1 did not run (A)"
    assert shown(checks=[])["checks"] == "none"


def test_the_gravest_findings_about_the_model_are_told_in_full(capfd: pytest.CaptureFixture[str]) -> None:
    """At most three, by severity and then by priority; those about images are counted only."""
    findings = [
        _finding("image", "high", "Of an image."),
        _finding("model", "low", "Fourth."),
        _finding("model", "medium", "Third."),
        _finding("model", "high", "Second.", priority=0.2),
        _finding("model", "high", "First.", priority=0.9),
    ]
    show_summary({**CLEAN, "findings": findings}, Path("out"))
    lines = capfd.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("findings"))
    assert lines[start:] == [
        "findings  4 about the model, 1 about single images (3 high, 1 medium, 1 low)",
        "  high    First.",
        "  high    Second.",
        "  medium  Third.",
        "report    out/report.html",
    ]
