"""Validation: are the results what they are declared to be?"""

from __future__ import annotations

from statebridge.validation.expectation import (
    EXPECTATIONS,
    Expectation,
    ExpectedCondition,
    Original,
)
from statebridge.validation.report import (
    CellVerdict,
    Check,
    Finding,
    Severity,
    ValidationReport,
)
from statebridge.validation.validate import validate

__all__ = [
    "EXPECTATIONS",
    "CellVerdict",
    "Check",
    "Expectation",
    "ExpectedCondition",
    "Finding",
    "Original",
    "Severity",
    "ValidationReport",
    "validate",
]
