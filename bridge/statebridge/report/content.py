"""The content of a report, gathered once and written as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

from statebridge.audit import Agreement, AuditReport, audit
from statebridge.errors import ResultError
from statebridge.figures import Drawing, gallery
from statebridge.figures.accuracy import accuracy_against_cost
from statebridge.figures.channels import channel_drawing
from statebridge.figures.wording import metric_label
from statebridge.records import DatasetRow, ResultSet
from statebridge.report.sections.comparison import (
    chain_view,
    difference_view,
    score_view,
    strata_view,
)
from statebridge.report.sections.cost import CostView, cost_view
from statebridge.report.sections.experiment import (
    ExperimentView,
    Fact,
    experiment_view,
    head_facts,
)
from statebridge.report.sections.sender import SenderView, not_checked, sender_view
from statebridge.report.sections.splits import (
    judged_rows,
    split_verdicts,
    split_view,
)
from statebridge.report.sections.validation import (
    agreement_sentences,
    audit_view,
    finding_view,
    validation_sentence,
)
from statebridge.report.words.answer import Answer, setting_answers
from statebridge.report.words.positive_control import PositiveControlView, positive_control_views
from statebridge.report.words.sentences import judging_metric
from statebridge.report.words.verdict import Verdict
from statebridge.results.by_condition import condition_cells
from statebridge.stats import Comparison, compare
from statebridge.stats.setting import channel_settings
from statebridge.tables import Table, bits_table
from statebridge.tables.comparison_table import grouped_warnings
from statebridge.tables.condition_words import condition_words
from statebridge.validation import ValidationReport, validate
from statebridge.validation.expectation import run_expectation


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything but the rows."""

    title: str
    head: tuple[Fact, ...]
    """Pair, dataset, seeds, date."""
    answers: tuple[tuple[str, Answer], ...]
    """The first screen: heading and answer of each setting."""
    names: tuple[tuple[str, str], ...]
    """Each condition and what it does, in words."""
    verdicts: tuple[Verdict, ...]
    positive_controls: tuple[PositiveControlView, ...]
    scores: Table
    differences: tuple[Table, ...]
    """By the metric that the verdict rests on, one for each baseline."""
    other_differences: tuple[Table, ...]
    """By the other metrics."""
    strata: tuple[Table, ...]
    chain: Table | None
    splits: Table | None
    """How many evaluated rows are new to the maps, where that is recorded."""
    bits: Table | None
    """Bits of each condition's messages, where the gold log-probability was measured."""
    comparison_notes: tuple[str, ...]
    sender: SenderView | None
    """Checks inside the sender, where the run made them."""
    sender_not_checked: str
    """That it made none, where something of the sender was sent."""
    cost: CostView | None
    """Costs of the methods, where the results record them."""
    drawings: tuple[Drawing, ...]
    not_drawn: tuple[Drawing, ...]
    validation_passed: bool | None
    """None where the results were not validated."""
    validation: str
    findings: Table | None
    audit: Table | None
    audit_note: str
    """Why there is no audit."""
    agreement: tuple[str, ...]
    experiment: ExperimentView
    results: ResultSet
    """As reported: with the dataset's rows, without cells that hold none."""


class ReportParts(TypedDict, total=False):
    """Parts of a report that its caller may have already, and choices."""

    comparison: Comparison | None
    """Made by the report, against the baseline and the text relay, if not given. Of a
    published-mode one the tables are shown, and the verdict rests on clustered intervals."""
    validation: ValidationReport | None
    """If not given, a run directory is validated against its own manifest; of published files
    the report states that nothing was checked."""
    audit: AuditReport | None
    """Made by the report if not given."""
    agreement: Agreement | None
    """Agreement of readers with the audit's labels."""
    dataset: Sequence[DatasetRow] | None
    """Rows with context and question, where the results come without them."""
    layer_runs: Sequence[ResultSet]
    """Further runs at other layers, for the layer map."""
    title: str | None
    command: str | None
    """The command line that makes this report, shown under "How to reproduce"."""
    figures: bool
    """False leaves the figures out, which takes a fraction of the time."""
    progress: Callable[[str, int, int], None]
    """Called with a stage (`compare`, `draw`), the steps done and all of them."""


def silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""


def gather(results: ResultSet, **parts: Unpack[ReportParts]) -> ReportContent:
    """Return what a report on `results` says; see `statebridge.report.write_report`.

    Raises:
        ResultError: No cell holds a row, or the rows cannot be scored or compared.
    """
    if not any(cell.lanes for cell in results.cells):
        raise ResultError("no cell holds a row; there is nothing to report")
    comparison, validation = parts.get("comparison"), parts.get("validation")
    audit_report, agreement = parts.get("audit"), parts.get("agreement")
    figures = parts.get("figures", True)
    with_rows = _with_dataset(results, parts.get("dataset"))
    # A cell may lose every row to its exclusions; it is reported as absent, not as a number.
    held = replace(with_rows, cells=[cell for cell in with_rows.cells if cell.lanes])
    progress = parts.get("progress", silent)
    progress("compare", 0, 2)
    judged = _judged_comparison(held, comparison)
    progress("compare", 1, 2)
    comparison = comparison or judged
    if validation is None and held.manifest is not None:
        validation = validate(held, run_expectation(held))
    why_no_audit = ""
    if audit_report is None:
        try:
            audit_report = audit(held)
        except ResultError as error:
            why_no_audit = str(error)
    drawings, cost = [], cost_view(held)
    if figures:
        drawings = gallery(held, comparison, audit_report, layer_runs=parts.get("layer_runs", ()))
        drawings.append(accuracy_against_cost(cost if isinstance(cost, str) else cost.scores))
    main, others, strata, notes = _comparison_tables(held, comparison, judged)
    rows = judged_rows(with_rows, judged)
    progress("compare", 2, 2)
    answers = setting_answers(rows.results, rows.comparison, rows.seen)
    if figures:
        charts = [(one.chart, heading) for heading, one in answers if one.chart is not None]
        drawings.insert(0, channel_drawing([c for c, _ in charts], [words for _, words in charts]))
    return ReportContent(
        title=parts.get("title") or _title(results),
        head=head_facts(held),
        answers=answers,
        names=tuple((g.condition, condition_words(g.declared)) for g in condition_cells(held)),
        verdicts=tuple(split_verdicts(with_rows, rows)),
        positive_controls=positive_control_views(held),
        scores=score_view(held),
        differences=tuple(main),
        other_differences=tuple(others),
        strata=tuple(strata),
        chain=None if judged is None else chain_view(judged),
        splits=split_view(held),
        bits=bits_table(judged.bits) if judged is not None and judged.bits else None,
        comparison_notes=tuple(notes),
        sender=sender_view(held),
        sender_not_checked=not_checked(held),
        cost=None if isinstance(cost, str) else cost,
        drawings=tuple(d for d in drawings if d.figure is not None),
        not_drawn=tuple(d for d in drawings if d.figure is None),
        validation_passed=None if validation is None else validation.passed,
        validation="These results were not validated for this report."
        if validation is None
        else validation_sentence(validation),
        findings=None if validation is None else finding_view(validation),
        audit=None if audit_report is None else audit_view(audit_report),
        audit_note=why_no_audit,
        agreement=() if agreement is None else tuple(agreement_sentences(agreement)),
        experiment=experiment_view(held, parts.get("command")),
        results=held,
    )


def _with_dataset(results: ResultSet, dataset: Sequence[DatasetRow] | None) -> ResultSet:
    if dataset is None:
        return results
    rows = {row.row_id: row for row in dataset}
    for cell in results.cells:
        for row in cell.lanes:
            given = rows.get(row.row_id)
            if given is not None and given.answer != row.gold:
                raise ResultError(
                    f"row {row.row_id!r} of the dataset has the answer {given.answer!r}, but "
                    f"{row.gold!r} in {cell.source}; give the dataset that the results are over"
                )
    if not any(row.row_id in rows for cell in results.cells for row in cell.lanes):
        raise ResultError(
            "the dataset holds no row of the results: the row ids differ; give the dataset that "
            "the results are over, and name its id field"
        )
    return replace(results, dataset=rows)


def _judged_comparison(results: ResultSet, given: Comparison | None) -> Comparison | None:
    """The comparison that the verdict rests on: clustered, each setting with its floor.

    It is the given one, where that is such. None where there is nothing to compare.
    """
    groups = condition_cells(results)
    floors = {setting.floor for setting in channel_settings(results)}
    if not floors or len({group.condition for group in groups}) == 1:
        return None
    if given is not None and given.mode == "clustered" and floors <= set(given.baselines):
        return given
    # An unfinished run may lack the relay of rows that the other conditions have already.
    held = {row.row_id for group in groups for cell in group.cells for row in cell.lanes}
    relays = [
        group.condition
        for group in groups
        if group.role == "text"
        and all(held == {row.row_id for row in cell.lanes} for cell in group.cells)
    ]
    settings = None if given is None else given.settings
    return compare(results, also=relays, settings=settings)


def _comparison_tables(
    results: ResultSet, comparison: Comparison | None, judged: Comparison | None
) -> tuple[list[Table], list[Table], list[Table], list[str]]:
    if comparison is None:
        return [], [], [], []
    first = judging_metric(results, comparison)
    main, others = [], []
    strata: list[Table] = []
    for baseline in comparison.baselines:
        main += _there([difference_view(comparison, baseline, first)])
        others += _there(
            [difference_view(comparison, baseline, m) for m in comparison.metrics if m != first]
        )
    if judged is not None:
        strata = _there([strata_view(judged, baseline, first) for baseline in judged.baselines])
    notes = grouped_warnings(comparison)
    if comparison.mode == "published":
        notes.insert(
            0,
            "The tables and figures of differences hold the published intervals, which take the "
            "seeds of a row as independent and come out too narrow; the verdict, the strata and "
            f"the failure chain rest on intervals clustered by row (by {metric_label(first)}).",
        )
    return main, others, strata, list(dict.fromkeys(notes))


def _there(views: Sequence[Table | None]) -> list[Table]:
    return [view for view in views if view is not None]


def _title(results: ResultSet) -> str:
    if results.manifest is not None:
        return f"Statebridge report: {results.manifest['experiment']['name']}"
    return "Statebridge report"
