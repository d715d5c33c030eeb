"""Reports: one HTML file and Markdown, the verdict in words first."""

from __future__ import annotations

from statebridge.report.words.verdict import Verdict, verdicts
from statebridge.report.write import write_layer_search_report, write_report

__all__ = ["Verdict", "verdicts", "write_layer_search_report", "write_report"]
