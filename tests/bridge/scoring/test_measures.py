from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, LaneResult, ResultSet
from statebridge.scoring import MEASURES, primary_metric
from statebridge.stats.pairing import is_zero_one

TEXT = LaneResult("a", "Rome", "Rome", gold_logprob=-1.0)
JUDGED = replace(TEXT, task_correct=True)
BARE = replace(TEXT, prediction=None)


def results(*rows: LaneResult) -> ResultSet:
    return ResultSet([CellResult(named_condition("no_inject"), None, "fwd", list(rows), Path("r"))])


@pytest.mark.parametrize(
    ("rows", "primary"),
    [
        ((JUDGED, JUDGED), "task_correct"),
        ((JUDGED, BARE), "task_correct"),
        ((TEXT, TEXT), "word_boundary_contains"),
        ((JUDGED, TEXT), "word_boundary_contains"),
        ((BARE,), "gold_logprob"),
        ((), "gold_logprob"),
    ],
)
def test_a_task_is_judged_by_one_measure(rows: tuple[LaneResult, ...], primary: str) -> None:
    assert primary_metric(results(*rows)) == primary


def test_a_measure_says_what_is_better() -> None:
    assert MEASURES["gold_rank"].better == "lower"
    assert MEASURES["kl_from_no_inject"].better is None
    assert MEASURES["gold_logprob"].better == "higher"
    assert is_zero_one("task_correct")
    assert is_zero_one("legacy_contains")
    assert not is_zero_one("gold_rank")
    assert not is_zero_one("unknown")
