from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statebridge.errors import NumericError, ResultError
from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, LaneResult
from statebridge.scoring import (
    MEASURES,
    METRICS,
    CellScore,
    Mean,
    SeedMean,
    row_values,
    score_cell,
    score_conditions,
)
from tests.bridge.data.refusal import refused

ROWS = [
    LaneResult("a", "Rome", "Rome", gold_logprob=-1.0, gold_rank=1, prediction_changed=False),
    LaneResult("b", "Rome", "In Rome", gold_logprob=-2.5, prediction_changed=True),
    LaneResult("c", "Rome", None, gold_logprob=-4.0, gold_rank=10),
]


def cell(
    *rows: LaneResult, condition: str = "additive", seed: int | None = 42, **more: Any
) -> CellResult:
    return CellResult(named_condition(condition), seed, "fwd", list(rows), Path("run"), **more)


def scored(means: list[float], condition: str = "additive") -> list[CellScore]:
    """Cells whose gold log-probability has these means, one seed each."""
    return [
        score_cell(cell(LaneResult("a", "x", "x", gold_logprob=m), condition=condition, seed=i))
        for i, m in enumerate(means)
    ]


def test_a_null_prediction_is_left_out_and_counted() -> None:
    score = score_cell(cell(*ROWS))
    assert score.means["exact_match"] == Mean(0.5, 2)
    assert score.means["word_boundary_contains"] == Mean(1.0, 2)
    assert score.missing_predictions == 1
    assert "c" not in score.values["exact_match"]


def test_numbers_are_averaged_over_the_rows_that_have_them() -> None:
    score = score_cell(cell(*ROWS))
    assert score.means["gold_logprob"] == Mean(-2.5, 3)
    assert score.means["gold_rank"] == Mean(5.5, 2)
    assert score.means["prediction_changed"] == Mean(0.5, 2)
    assert score.means["kl_from_no_inject"] == Mean(None, 0)


def test_a_run_without_decoding_has_no_text_score() -> None:
    score = score_cell(cell(dataclasses.replace(ROWS[0], prediction=None)))
    assert {score.means[name] for name in METRICS} == {Mean(None, 0)}
    assert score.means["gold_logprob"] == Mean(-1.0, 1)


def test_the_table_has_a_record_per_row() -> None:
    score = score_cell(cell(*ROWS), ["exact_match", "gold_rank"])
    assert score.name == "additive/seed42"
    assert score.table() == [
        {"row_id": "a", "exact_match": 1.0, "gold_rank": 1.0},
        {"row_id": "b", "exact_match": 0.0, "gold_rank": None},
        {"row_id": "c", "exact_match": None, "gold_rank": 10.0},
    ]
    assert row_values(cell(*ROWS), "gold_rank") == {"a": 1.0, "c": 10.0}


def test_every_measure_is_a_metric_or_a_field_of_a_row() -> None:
    fields = {field.name for field in dataclasses.fields(LaneResult)}
    assert set(MEASURES) == set(score_cell(cell(*ROWS), MEASURES).means)
    recorded = {
        name for name, measure in MEASURES.items() if measure.text is measure.numbers is None
    }
    assert recorded <= fields


def test_conditions_over_seeds() -> None:
    cells = scored([-1.0, -2.0, -6.0])
    baseline = score_cell(cell(ROWS[0], condition="no_inject", seed=None))
    additive, no_inject = score_conditions([cells[0], baseline, *cells[1:]])
    assert (additive.condition, additive.seeds, additive.n_rows) == (
        "additive",
        (0, 1, 2),
        (1, 1, 1),
    )
    # sample standard deviation by hand: sqrt((4 + 1 + 9) / 2)
    assert additive.means["gold_logprob"] == SeedMean(-3.0, math.sqrt(7), 3)
    assert no_inject.means["gold_logprob"] == SeedMean(-1.0, None, 1)
    assert no_inject.seeds == (None,)
    assert additive.means["gold_rank"] == SeedMean(None, None, 0)
    assert no_inject.missing_predictions == 0


def test_a_run_without_a_value_is_not_counted() -> None:
    cells = [*scored([-1.0, -2.0]), score_cell(cell(LaneResult("a", "x", None), seed=9))]
    (score,) = score_conditions(cells)
    assert score.means["gold_logprob"] == SeedMean(-1.5, statistics.stdev([-1, -2]), 2)
    assert score.means["exact_match"].runs == 2
    assert score.missing_predictions == 1


def test_directions_are_kept_apart() -> None:
    forward, reverse = cell(ROWS[0]), cell(ROWS[1])
    reverse.direction = "rev"
    scores = score_conditions([score_cell(forward), score_cell(reverse)])
    assert [(s.direction, s.means["exact_match"].mean) for s in scores] == [
        ("fwd", 1.0),
        ("rev", 0.0),
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(numbers: list[float], rng: Any) -> None:
    rows = [LaneResult(str(i), "x", "x", gold_logprob=v) for i, v in enumerate(numbers)]
    mixed = rng.sample(rows, len(rows))
    assert score_cell(cell(*rows)).means == score_cell(cell(*mixed)).means


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.floats(-1e3, 1e3))
def test_another_seed_changes_no_other_condition(means: list[float], more: float) -> None:
    baseline = scored([-1.0], "no_inject")
    few = score_conditions(baseline + scored(means))
    many = score_conditions(baseline + scored([*means, more]))
    assert few[0] == many[0]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "run: additive/seed42 has no row"),
        ([ROWS[0], ROWS[1], ROWS[0]], "row 'a' is there twice"),
        ([LaneResult("a", " ", "x")], "row 'a' has an empty gold answer"),
    ],
)
def test_rows_that_cannot_be_scored(rows: list[LaneResult], problem: str) -> None:
    with refused(ResultError, problem):
        score_cell(cell(*rows))
    with refused(ResultError, problem):
        row_values(cell(*rows), "exact_match")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite(number: float) -> None:
    with refused(NumericError, "run: additive/seed42: row 'a': gold_logprob is"):
        score_cell(cell(LaneResult("a", "x", "x", gold_logprob=number)))


def test_an_unknown_measure() -> None:
    with refused(ResultError, "'gold_logprobs'", "did you mean gold_logprob"):
        row_values(cell(*ROWS), "gold_logprobs")
    with refused(ResultError, "'prediction'"):
        score_cell(cell(*ROWS), ["prediction"])


def test_cells_that_do_not_go_together() -> None:
    first = score_cell(cell(*ROWS))
    with refused(ResultError, "additive/seed42 (fwd) was already given in run"):
        score_conditions([first, first])
    other = score_cell(cell(*ROWS, seed=1), ["exact_match"])
    with refused(ResultError, "additive/seed1 was scored for other measures"):
        score_conditions([first, other])
