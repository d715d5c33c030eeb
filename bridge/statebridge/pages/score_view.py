"""Scores of the committed rows, with their intervals, while a run goes on and after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from statebridge.errors import ResultError
from statebridge.figures.channels import ChannelChart
from statebridge.figures.wording import metric_label
from statebridge.records import ResultSet
from statebridge.report.sections.comparison import score_view as all_scores
from statebridge.report.sections.splits import judged_rows
from statebridge.report.words.answer import Answer, setting_answers
from statebridge.report.words.sentences import ROLE_WORDS
from statebridge.results.by_condition import condition_cells
from statebridge.results.read_results import read_sources
from statebridge.runs.directory import MANIFEST, ROWS
from statebridge.scoring import primary_metric
from statebridge.stats import Comparison, Settings, compare
from statebridge.stats.pairing import is_bounded
from statebridge.tables import Column, Range, Table
from statebridge.tables.estimates import number_of, row_means, score
from statebridge.tables.table import NumberFormat

_KEPT = 32
"""Runs whose scores are kept: many who watch one run ask for the same numbers."""


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting's figure, and of a complete run its answer."""

    heading: str
    chart: ChannelChart | None
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class ScoreView:
    """Figures and tables of the rows so far."""

    complete: bool
    settings: tuple[SettingView, ...]
    tables: tuple[Table, ...]
    """The most important first."""
    notes: tuple[str, ...]


def score_view(folder: Path) -> ScoreView | None:
    """Return the scores of a run directory's committed rows; None while there are none.

    They are worked out once for each state of the files.

    Raises:
        ResultError: Files that are not those of a run.
    """
    rows, manifest = folder / ROWS, folder / MANIFEST
    if not rows.exists() or not manifest.exists() or rows.stat().st_size == 0:
        return None
    return _view(folder, rows.stat().st_mtime_ns, rows.stat().st_size, manifest.stat().st_mtime_ns)


@lru_cache(_KEPT)
def _view(folder: Path, *_state: int) -> ScoreView | None:
    results = read_sources([folder])
    if not any(cell.lanes for cell in results.cells):
        return None
    return scores_of(results)


def scores_of(results: ResultSet) -> ScoreView:
    """Return the scores of results that hold rows."""
    complete = all(cell.complete for cell in results.cells)
    try:
        comparison = primary_comparison(results)
    except ResultError as error:  # the first rows are of the baseline alone, or there is none
        return ScoreView(complete, (), (untitled(all_scores(results)),), (str(error),))
    rows = judged_rows(results, comparison)  # those that are new to the maps
    return ScoreView(
        complete,
        tuple(
            SettingView(heading, found.chart, found if complete else None)
            for heading, found in setting_answers(rows.results, rows.comparison, rows.seen)
        ),
        (score_table(results, comparison), untitled(all_scores(results))),
        () if complete else (_NOT_YET,),
    )


def score_table(results: ResultSet, comparison: Comparison) -> Table:
    """Return one row for each condition: its score, its difference from its floor, its bits.

    Args:
        results: What was compared.
        comparison: By the primary metric and the gold answer's log-probability, within settings.
    """
    metric = comparison.metrics[0]
    form: NumberFormat = "fixed" if is_bounded(metric) else "signed"
    differences = {
        (d.direction, d.condition): d for d in comparison.differences[::-1] if d.metric == metric
    }
    bits = {(one.direction, one.condition): one.bits for one in comparison.bits}
    rows = []
    for group in condition_cells(results):
        place = group.direction, group.condition
        difference = differences.get(place)
        floor = group.condition in comparison.baselines
        rows.append(
            (
                group.label,
                "floor" if floor else ROLE_WORDS[group.role],
                *score(row_means(group.cells, metric), metric),
                None if difference is None else difference.delta,
                None if difference is None else Range.of(difference.interval),
                None if difference is None else difference.verdict or "none",
                *number_of(bits.get(place))[:2],
            )
        )
    return Table(
        f"Score by {metric_label(metric)}; difference and bits against the floor of the setting",
        (
            Column("condition", "condition"),
            Column("role", "role"),
            Column("score", "score", "number", form, 3),
            Column("score_interval", "interval", "range", form, 3),
            Column("rows", "rows", "integer"),
            Column("difference", "difference", "number", "signed", 3),
            Column("difference_interval", "interval", "range", "signed", 3),
            Column("verdict", "verdict"),
            Column("bits", "bits, median row", "number", "signed", 3),
            Column("bits_interval", "interval", "range", "signed", 3),
        ),
        tuple(rows),
        (
            "Intervals at 95 %, rows as clusters. Bits, and differences of a metric without "
            "bounds, are of the median row. The report has every measure and every control.",
        ),
    )


_NOT_YET = (
    "The run goes on. Intervals and p-values hold for a number of rows that was chosen "
    "beforehand: a run that is stopped because of them shows more than there is. The verdict "
    "comes with the last row."
)


def primary_comparison(results: ResultSet) -> Comparison:
    """Compare by the task's primary metric and the gold answer's log-probability alone.

    Raises:
        ResultError: There is nothing to compare.
    """
    metrics = tuple(dict.fromkeys((primary_metric(results), "gold_logprob")))
    return compare(results, metrics=metrics, settings=Settings(stratify_by=()))


def untitled(table: Table) -> Table:
    """Return a table without its number in the report."""
    return replace(table, title=table.title.removeprefix("Table 1. "))
