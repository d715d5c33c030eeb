"""Reports: one HTML file and Markdown, the verdict in words first."""

from __future__ import annotations

from statebridge.report.report_files import write_layer_search_report, write_report
from statebridge.report.words.verdict import Verdict, verdicts

__all__ = ["Verdict", "verdicts", "write_layer_search_report", "write_report"]
