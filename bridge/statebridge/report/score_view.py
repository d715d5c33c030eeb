"""Table 1: every condition's scores."""

from __future__ import annotations

from statebridge.figures.grouping import condition_cells
from statebridge.figures.wording import metric_label, plain, rows_text, seeds_text
from statebridge.report.roles import ROLE_WORDS, role
from statebridge.report.table_view import TableView, table
from statebridge.results.table import ResultSet
from statebridge.scoring import METRICS, SeedMean, score_cell, score_conditions

_MEASURES = (
    "word_boundary_contains",
    "legacy_contains",
    "normalized_exact_match",
    "first_answer_span",
    "gold_logprob",
    "gold_rank",
    "kl_from_no_inject",
    "prediction_changed",
)


def score_view(results: ResultSet) -> TableView:
    """Return one line a condition: its runs, its rows, its means."""
    groups = condition_cells(results)
    rows = []
    for group in groups:
        score = score_conditions([score_cell(cell, _MEASURES) for cell in group.cells])[0]
        rows.append(
            [
                group.label,
                ROLE_WORDS[role(group)],
                str(len(score.seeds)),
                " to ".join(str(n) for n in sorted(set(score.n_rows))),
                *(_mean(score.means[measure], measure) for measure in _MEASURES),
            ]
        )
    cells = [cell for group in groups for cell in group.cells]
    return table(
        "Table 1. Scores by condition",
        ["condition", "role", "runs", "n", *(metric_label(m) for m in _MEASURES)],
        rows,
        words=2,
        note=(
            "Mean over rows, then over runs (seeds); ± is the sample standard deviation over "
            f"runs. {rows_text(len(cell.rows) for cell in cells)}; "
            f"{seeds_text(cell.seed for cell in cells)}."
        ),
    )


def _mean(mean: SeedMean, measure: str) -> str:
    if mean.mean is None:
        return "–"
    text = plain(mean.mean, 1 if measure == "gold_rank" else 4)
    with_sd = mean.sd is not None and measure in METRICS
    return f"{text} ± {plain(mean.sd or 0.0)}" if with_sd else text
