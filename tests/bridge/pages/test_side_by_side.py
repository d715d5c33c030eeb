"""Runs side by side: what differs, and numbers that agree with those of each run."""

from __future__ import annotations

from pathlib import Path

import pytest

from statebridge.errors import ResultError
from statebridge.pages.experiment_view import seconds_left, time_left
from statebridge.pages.side_by_side import MOST_RUNS, NamedRun, named, side_by_side
from statebridge.results.read_results import read_sources
from statebridge.tables import Table
from tests.bridge.pages.made_runs import made_run


@pytest.fixture
def runs(tmp_path: Path) -> list[NamedRun]:
    made = {"a": (1, 6), "b": (2, 9)}
    return [
        NamedRun(name, read_sources([made_run(tmp_path / name, layer=layer, right=right)]))
        for name, (layer, right) in made.items()
    ]


def row(table: Table, condition: str) -> tuple[object, ...]:
    return next(found for found in table.rows if found[0] == condition)


def test_scores_and_paired_differences(runs: list[NamedRun]) -> None:
    differs, scores, paired, bits = side_by_side(runs).tables
    assert differs.rows == (("sender.layer", "1", "2"),)
    assert row(scores, "replace")[1::3] == (0.5, 0.75)
    assert row(scores, "replace")[3::3] == (12, 12)
    # Three rows more of twelve, the same rows in both.
    assert row(paired, "replace")[1] == pytest.approx(0.25)
    assert row(paired, "no_inject")[1] == 0.0
    assert row(bits, "replace")[1] == pytest.approx(2.0 * 0.5 / 0.6931471805599453)


def test_runs_over_other_rows_are_not_paired(runs: list[NamedRun], tmp_path: Path) -> None:
    other = NamedRun("c", read_sources([made_run(tmp_path / "c", hostile=True)]))
    titles = [table.title for table in side_by_side([runs[0], other]).tables]
    assert not any("paired" in title for title in titles)


def test_no_run_and_too_many_are_refused(runs: list[NamedRun]) -> None:
    for wrong in ([], runs * MOST_RUNS):
        with pytest.raises(ResultError, match=f"choose 1 to {MOST_RUNS}"):
            side_by_side(wrong)


def test_runs_of_one_name_are_told_apart() -> None:
    assert named([("x", "1"), ("y", "2"), ("x", "3")]) == ["x (1)", "y", "x (3)"]


def test_time_left_is_known_once_something_was_done() -> None:
    assert seconds_left(10, 10, 100, 5.0) is None
    assert seconds_left(10, 40, 100, 30.0) == 60.0
    assert [time_left(s) for s in (0.2, 59, 100, 3 * 3600, 4 * 86_400)] == [
        "1 s",
        "59 s",
        "2 min",
        "3 h",
        "4 d",
    ]
