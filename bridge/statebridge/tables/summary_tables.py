"""Table 1, every condition's scores over its runs, and the similarity of a pair's layers."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.errors import ResultError, nearest
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import ResultSet
from statebridge.results.layer_similarity import SimilarityMap
from statebridge.scoring.aggregate import (
    ConditionScore,
    SeedMean,
    score_cell,
    score_conditions,
)
from statebridge.scoring.measures import MEASURES
from statebridge.stats.compare import PUBLISHED_METRICS
from statebridge.tables.table import Column, Spread, Table, Value

HEADERS = {name: measure.header for name, measure in MEASURES.items()}


def table_one(
    results: ResultSet,
    scores: Sequence[ConditionScore] | None = None,
    *,
    measures: Sequence[str] = PUBLISHED_METRICS,
) -> Table:
    """Return one row per condition: its runs, its rows, and its scores.

    The published conditions come first, in the order of the protocol, then the others by
    name. The standard deviation is that of the runs' means (divisor: runs less 1).

    Args:
        results: Scored here unless `scores` are given.
        scores: What `statebridge.scoring.score_conditions` made of the results.
        measures: Columns; the three published ones by default.

    Raises:
        ResultError: An unknown measure, one that `scores` do not hold, no result at all, or
            a cell that cannot be scored.
        NumericError: A value is NaN or infinite.
    """
    for name in measures:
        if name not in MEASURES:
            raise ResultError(f"unknown measure {name!r}; {nearest(name, MEASURES)}")
    if scores is None:
        scores = score_conditions(score_cell(cell, measures) for cell in results.cells)
    if not scores:
        raise ResultError("there is no condition to show; give at least one result")
    for score in scores:
        for name in measures:
            if name not in score.means:
                raise ResultError(f"{score.condition} was not scored for {name}; score it too")
    ordered = sorted(scores, key=_protocol_order)
    directions = {score.direction for score in ordered}
    columns = (
        Column("direction", "direction", printed=len(directions) > 1),
        Column("condition", "condition"),
        Column("runs", "runs", "integer"),
        Column("rows", "rows", "integer"),
        *(Column(name, HEADERS[name], "spread", digits=MEASURES[name].digits) for name in measures),
    )
    return Table(
        title="Scores by condition, mean ± standard deviation over runs",
        columns=columns,
        rows=tuple(_row(score, measures) for score in ordered),
        notes=tuple(note for score in ordered for note in _notes(score)),
    )


def _protocol_order(score: ConditionScore) -> tuple[str, int, str]:
    names = list(CONDITIONS)
    place = names.index(score.condition) if score.condition in names else len(names)
    return (score.direction, place, score.condition)


def _row(score: ConditionScore, measures: Sequence[str]) -> tuple[Value, ...]:
    same = len(set(score.n_rows)) == 1
    return (
        score.direction,
        score.condition,
        len(score.seeds),
        score.n_rows[0] if same else None,
        *(_spread(score.means[name]) for name in measures),
    )


def _spread(mean: SeedMean) -> Spread | None:
    return None if mean.mean is None else Spread(mean.mean, mean.sd)


def _notes(score: ConditionScore) -> list[str]:
    where = f"{score.condition} ({score.direction})"
    notes = []
    if len(set(score.n_rows)) > 1:
        counts = ", ".join(
            f"{rows} (seed {seed})" for seed, rows in zip(score.seeds, score.n_rows, strict=True)
        )
        notes.append(f"{where}: its runs do not have the same number of rows: {counts}.")
    if score.missing_predictions:
        notes.append(
            f"{where}: {score.missing_predictions} row(s) without a prediction are in no mean."
        )
    return notes


def similarity_table(found: SimilarityMap) -> Table:
    """Return one row for each pair of layers."""
    return Table(
        title=f"Similarity of states: {found.sender} and {found.receiver}",
        columns=(
            Column("sender_layer", "sender layer", "integer"),
            Column("receiver_layer", "receiver layer", "integer"),
            Column("cka", "linear CKA", "number", digits=4),
            Column("neighbour_overlap", "neighbours shared", "number", digits=4),
        ),
        rows=tuple(
            (pair.sender_layer, pair.receiver_layer, pair.cka, pair.neighbour_overlap)
            for pair in found.pairs
        ),
        notes=similarity_notes(found),
    )


def similarity_notes(found: SimilarityMap) -> tuple[str, ...]:
    """Return what a reader must know of the numbers."""
    notes = [
        f"{found.positions} positions of {found.corpus.name}, the first of each passage left out; "
        f"{found.neighbours} nearest neighbours by cosine among {found.sampled} positions drawn "
        f"under seed {found.seed}, of which chance shares {found.chance:.4f}."
    ]
    if found.few_positions:
        notes.append(
            "There are fewer than ten positions for each dimension: plain CKA comes out too high; "
            "compare layers with each other, or give more text."
        )
    return tuple(notes)
