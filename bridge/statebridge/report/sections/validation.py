"""Validation and audit as tables and sentences."""

from __future__ import annotations

from statebridge.audit import LABELS, RULES, Agreement, AuditReport
from statebridge.figures.wording import joined, rows_text, seeds_text
from statebridge.results.by_condition import reading_order
from statebridge.tables import Column, Table
from statebridge.validation import Finding, ValidationReport


def validation_sentence(report: ValidationReport) -> str:
    """Return the outcome of a validation in one sentence or two."""
    outcome = "passed" if report.passed else "did not pass"
    text = (
        f"Validation {outcome}: {report.passed_cells} of {report.expected_cells} cells of "
        f"{report.expectation} are there without a blocking finding"
    )
    blocking, warnings = len(report.blocking), len(report.warnings)
    return f"{text}; {_count(blocking, 'blocking finding')}, {_count(warnings, 'warning')}."


def finding_view(report: ValidationReport) -> Table | None:
    """Return the findings, blocking ones first; None if there is none."""
    if not report.findings:
        return None
    both = len({cell.direction for cell in report.cells}) > 1
    return Table(
        title="Findings",
        columns=(
            Column("severity", "severity"),
            Column("check", "check"),
            Column("cell", "cell"),
            Column("reason", "reason"),
        ),
        rows=tuple(
            (found.severity, found.check.replace("_", " "), _where(found, both=both), found.reason)
            for found in report.findings
        ),
    )


def _where(found: Finding, *, both: bool) -> str:
    if found.cell is None:
        return "the whole set"
    return f"{found.cell} ({found.direction})" if both else found.cell


def audit_view(report: AuditReport) -> Table:
    """Return the audit's labels by condition: listed rows, and all."""
    conditions = reading_order(cell.condition for cell in report.cells)
    meanings = "; ".join(f"{RULES[x][0]} (in files {x}): {RULES[x][1]}" for x in LABELS)
    limit = "all rows" if report.per_cell is None else f"at most {report.per_cell} rows a run"
    notes = [
        "Rows where legacy contains holds and normalised exact match does not: listed "
        f"({limit}) of all. {rows_text(cell.rows for cell in report.cells)} a run; "
        f"{seeds_text(cell.seed for cell in report.cells)}.",
        f"{meanings[0].upper()}{meanings[1:]}.",
    ]
    if report.controls_left_out:
        notes.append(f"Controls are left out: {', '.join(report.controls_left_out)}.")
    return Table(
        title="Disagreements between metrics",
        columns=(
            Column("condition", "condition"),
            Column("runs", "runs", "integer"),
            *(Column(label, RULES[label][0]) for label in LABELS),
            Column("total", "total"),
        ),
        rows=tuple(_audit_row(report, name) for name in conditions),
        notes=tuple(notes),
    )


def _audit_row(report: AuditReport, condition: str) -> tuple[str | int, ...]:
    cells = [cell for cell in report.cells if cell.condition == condition]
    every = {label: sum(cell.disagreements[label] for cell in cells) for label in LABELS}
    listed = report.counts_by_condition[condition]
    return (
        condition,
        len(cells),
        *(f"{listed[label]} of {every[label]}" for label in LABELS),
        f"{sum(listed.values())} of {sum(every.values())}",
    )


def agreement_sentences(agreement: Agreement) -> list[str]:
    """Say how far readers by hand agree with the automatic labels and with each other."""
    sentences = []
    for pair in (*agreement.with_labels, *agreement.between_readers):
        kappa = (
            f"Cohen's kappa {pair.kappa:.2f}".replace("-", "−")
            if pair.kappa is not None
            else f"no kappa: {pair.no_kappa_because}"
        )
        share = "" if pair.percent is None else f" ({pair.percent:.0f} %)"
        sentences.append(
            f"{joined([pair.first, pair.second])} agree in {pair.agreed} of {pair.n} rows{share}; "
            f"{kappa}."
        )
    left = {name: count for name, count in agreement.unfilled.items() if count}
    sentences += [f"{name}: {_count(count, 'row')} not filled in." for name, count in left.items()]
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
