"""Validation: are the results what they are declared to be?"""

from __future__ import annotations

from statebridge.validation.expectation import Expectation, ExpectedCondition, Original
from statebridge.validation.published_set import published_expectation
from statebridge.validation.report import (
    CellVerdict,
    Check,
    Finding,
    Severity,
    ValidationReport,
)
from statebridge.validation.stored_facts import rows_digest
from statebridge.validation.validate import validate

__all__ = [
    "CellVerdict",
    "Check",
    "Expectation",
    "ExpectedCondition",
    "Finding",
    "Original",
    "Severity",
    "ValidationReport",
    "published_expectation",
    "rows_digest",
    "validate",
]
