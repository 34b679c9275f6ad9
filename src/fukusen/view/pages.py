"""The report as one page of HTML, from a store and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2

from fukusen.pictures import RAMP
from fukusen.store import Store
from fukusen.view import summary
from fukusen.view.cases import cases
from fukusen.view.matrix import Matrix
from fukusen.view.redrawing import redrawing
from fukusen.view.rows import panel_rows
from fukusen.view.words import Words, moment, number, percent

IMAGE_FINDINGS = 200
FOLD = 6


@cache
def templates() -> jinja2.Environment:
    """The templates of all pages, with their filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fukusen.view", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    environment.filters["percent"] = percent
    environment.filters["moment"] = moment
    return environment


def report_page(store: Store, verdict: Mapping[str, Any]) -> str:
    """The report of a complete audit: one page that needs no network and no script.

    Args:
        store: where the thumbnails and maps are.
        verdict: the content of audit.json.

    Returns:
        HTML, as one document.
    """
    words = Words()
    shown = cases(store, verdict, words)
    ranked = sorted(verdict["findings"], key=_gravity)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            w=words,
            fold=FOLD,
            ramp=", ".join("rgb({} {} {})".format(*colour) for colour in RAMP[::51]),
            v=verdict,
            meaning=summary.meaning(verdict, words),
            uses=summary.uses(verdict, words),
            redrawing=redrawing(store, verdict, words),
            tasks=summary.tasks(verdict, words),
            limits=summary.limits(verdict, words),
            key_numbers=summary.key_numbers(verdict, words),
            panel_rows=panel_rows(verdict["panel"], words),
            matrix=Matrix.of(verdict["agreement"], words),
            model_findings=[finding for finding in ranked if finding["scope"] == "model"],
            image_findings=[finding for finding in ranked if finding["scope"] == "image"][:IMAGE_FINDINGS],
            image_findings_beyond=max(0, sum(finding["scope"] == "image" for finding in ranked) - IMAGE_FINDINGS),
            open_cases=shown[:FOLD],
            folded_cases=shown[FOLD:],
            cases_beyond=len(verdict["queue"]["items"]) - len(shown) if verdict["queue"]["items"] else 0,
        )
    )


def _gravity(finding: Mapping[str, Any]) -> tuple[int, float]:
    """Sorts the gravest first."""
    return ("high", "medium", "low").index(finding["severity"]), -finding["priority"]
