"""The metric-disagreement audit, and reading its rows by hand."""

from __future__ import annotations

from statebridge.audit.agreement import Agreement, PairAgreement
from statebridge.audit.disagreement import (
    LABELS,
    RULES,
    AuditedCell,
    AuditReport,
    AuditRow,
    Label,
    audit,
    disagreement_label,
)
from statebridge.audit.reading_sheet import read_reading_sheet, write_reading_sheet

__all__ = [
    "LABELS",
    "RULES",
    "Agreement",
    "AuditReport",
    "AuditRow",
    "AuditedCell",
    "Label",
    "PairAgreement",
    "audit",
    "disagreement_label",
    "read_reading_sheet",
    "write_reading_sheet",
]
