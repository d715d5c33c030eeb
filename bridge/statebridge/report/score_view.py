"""Table 1: every condition's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statebridge.records import ResultSet
from statebridge.report.roles import ROLE_WORDS
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.scoring import score_cell, score_conditions
from statebridge.stats.compare import PUBLISHED_METRICS
from statebridge.tables import Column, Table, table_one

_MEASURES = (
    "task_correct",
    *PUBLISHED_METRICS,
    "first_answer_span",
    "gold_logprob",
    "gold_rank",
    "kl_from_no_inject",
    "prediction_changed",
)


def score_view(results: ResultSet) -> Table:
    """Return one row a condition: its role, its runs, its rows, its means."""
    groups = condition_cells(results)
    scores = score_conditions(
        score_cell(cell, _MEASURES) for group in groups for cell in group.cells
    )
    measured = [m for m in _MEASURES if any(s.means[m].mean is not None for s in scores)]
    return _with_roles(table_one(results, scores, measures=measured), groups)


def _with_roles(table: Table, groups: Sequence[ConditionCells]) -> Table:
    roles = {(g.direction, g.condition): ROLE_WORDS[g.role] for g in groups}
    names = [column.name for column in table.columns]
    direction, condition = names.index("direction"), names.index("condition")
    after = condition + 1
    return replace(
        table,
        title=f"Table 1. {table.title}",
        columns=(*table.columns[:after], Column("role", "role"), *table.columns[after:]),
        rows=tuple(
            (*row[:after], roles.get((row[direction], row[condition])), *row[after:])  # type: ignore[arg-type]
            for row in table.rows
        ),
    )
