"""The report as a file beside the audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fukusen.store import Store
from fukusen.view.pages import report_page


def write_report(store: Store, verdict: Mapping[str, Any]) -> Path:
    """Write report.html into the audit's folder, atomically.

    Args:
        store: the audit's store.
        verdict: the content of audit.json; ``Store.publish`` comes after this.

    Returns:
        Where the report is.

    Raises:
        StoreError: the disc is full, or the folder may not be written to.
    """
    return store.write_text("report.html", report_page(store, verdict))
