from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from statebridge.errors import NumericError, ResultError
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.records import DatasetRow, LaneResult, ResultSet
from statebridge.scoring import score_cell
from statebridge.tables import row_table, to_parquet
from statebridge.tables.row_table import RECORDED
from tests.bridge.audit.disagreeing_cells import cell, results
from tests.shared_data import SHARED, needs_shared


def records(given: ResultSet) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        pa.BufferReader(to_parquet(row_table(given)))
    ).to_pylist()
    return rows


def test_every_recorded_field_has_its_column() -> None:
    own = {"row_id", "gold", "prediction", "token_ids", "turns"}
    own |= {"alias_logprobs", "option_logprobs", "message_layers", "gold_tokens"}
    own |= {"sender_prompt_lens"}
    assert {field.name for field in fields(LaneResult)} - own == set(RECORDED)


def test_a_lane_is_a_row() -> None:
    one = cell("replace", "VA0", 42)
    one.lanes[0] = replace(one.lanes[0], token_ids=(5, 6), gold_rank=3, gold_logprob=-1.25)
    found = records(results([cell("no_inject", "W"), one]))
    assert [(r["condition"], r["seed"], r["row_id"]) for r in found] == [
        ("no_inject", None, "r00"),
        ("replace", 42, "r00"),
        ("replace", 42, "r01"),
        ("replace", 42, "r02"),
    ]
    assert (found[1]["new_tokens"], found[1]["gold_rank"], found[1]["gold_logprob"]) == (
        2,
        3,
        -1.25,
    )
    assert (found[1]["first_answer_span"], found[2]["first_answer_span"]) == (True, False)
    assert found[1]["gold_logprob_per_byte"] == -1.25 / len(one.lanes[0].gold)
    assert found[1]["choice_acc"] is None
    assert found[3]["prediction"] is None
    assert found[3]["legacy_contains"] is None


def test_what_the_dataset_holds_gets_the_kind_that_fits() -> None:
    given = results([cell("no_inject", "VA0")])
    attributes: list[dict[str, Any]] = [
        {"hops": 2, "easy": True, "weight": 1, "mixed": "x", "none": None, "question": "no"},
        {"hops": 3, "easy": None, "weight": 0.5, "mixed": 4, "none": None},
    ]
    given.dataset = {
        f"r{i:02d}": DatasetRow(f"r{i:02d}", f"c{i}", f"q{i}", "Paris", held)
        for i, held in enumerate(attributes)
    }
    found = records(given)
    assert (found[0]["data_context"], found[0]["data_question"]) == ("c0", "q0")
    assert [r["data_hops"] for r in found] == [2, 3, None]
    assert [r["data_easy"] for r in found] == [True, None, None]
    assert [r["data_weight"] for r in found] == [1.0, 0.5, None]
    assert [r["data_mixed"] for r in found] == ["x", "4", None]
    assert [r["data_none"] for r in found] == [None, None, None]


def test_bad_rows_are_refused() -> None:
    with pytest.raises(ResultError, match="no row to list"):
        row_table(ResultSet([]))
    one = cell("replace", "V", 42)
    one.lanes[0] = replace(one.lanes[0], injected_norm_mean=float("nan"))
    with pytest.raises(NumericError, match="row 1, column injected_norm_mean"):
        row_table(results([one]))


@pytest.mark.slow
@needs_shared
def test_the_published_rows_hold_the_published_scores() -> None:
    given = read_published(SHARED / "published")
    found = records(given)
    assert len(found) == 8 * 396
    for one in given.cells:
        held = [
            r["word_boundary_contains"]
            for r in found
            if (r["condition"], r["seed"]) == (one.condition.name, one.seed)
        ]
        assert sum(held) / 396 == score_cell(one).means["word_boundary_contains"].mean
