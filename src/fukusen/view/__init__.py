"""Store in, HTML out."""

from fukusen.view.pages import report_page
from fukusen.view.report import write_report

__all__ = ["report_page", "write_report"]
