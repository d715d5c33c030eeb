"""Asking a report for what it found."""

from __future__ import annotations

from statebridge.validation import Check, Finding, ValidationReport


def found(report: ValidationReport, check: Check) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


def only(report: ValidationReport, check: Check) -> Finding:
    """The one finding of a report, which must be of this check."""
    assert [finding.check for finding in report.findings] == [check], report.findings
    finding = report.findings[0]
    assert "\n" not in str(finding)
    assert report.passed == (finding.severity == "warning")
    return finding
