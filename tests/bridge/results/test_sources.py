"""Run directories and published files in one result set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.errors import ResultError
from statebridge.experiment.presets import CONDITIONS
from statebridge.results.read_results import read_sources
from statebridge.runs.directory import POSITIVE_CONTROL, ROWS, TAUGHT_PAIR
from statebridge.scoring import score_cell, score_conditions
from statebridge.stats import compare
from tests.bridge.results.run_folder import CELLS, ROWS_OF_DATASET, lane, manifest, write_run
from tests.shared_data import SHARED, needs_shared


def _run(path: Path, cells: tuple[str, ...], direction: str = "fwd") -> Path:
    groups = [[(cell, lane(row, (1,))) for row in "abc" for cell in cells]]
    experiment = {"direction": direction, "decoding": {}}
    return write_run(path, groups, made=manifest([3 * len(cells)], cells, experiment=experiment))


def test_nothing_given_is_refused() -> None:
    with pytest.raises(ResultError, match="no source given"):
        read_sources([])


def test_one_run_keeps_its_manifest(tmp_path: Path) -> None:
    results = read_sources([_run(tmp_path / "a", CELLS)])
    assert results.manifest is not None
    assert [cell.name for cell in results.cells] == list(CELLS)


def test_the_positive_controls_come_with_their_run(tmp_path: Path) -> None:
    first = _run(tmp_path / "a", CELLS[:1])
    second = _run(tmp_path / "b", CELLS[1:])
    assert read_sources([first, second]).positive_control is None
    _run(second / POSITIVE_CONTROL, CELLS[:1])
    _run(second / TAUGHT_PAIR, CELLS)
    for sources in ([second], [first, second]):
        results = read_sources(sources)
        assert results.positive_control is not None
        assert results.taught_pair is not None
        assert [len(results.positive_control.cells), len(results.taught_pair.cells)] == [
            1,
            len(CELLS),
        ]


def test_runs_of_the_same_dataset_join(tmp_path: Path) -> None:
    paths = [_run(tmp_path / "a", CELLS[:1]), _run(tmp_path / "b", CELLS[1:])]
    results = read_sources(paths)
    assert [cell.name for cell in results.cells] == list(CELLS)
    assert [cell.source for cell in results.cells] == [paths[0], paths[1], paths[1]]
    assert results.manifest is None
    assert list(results.dataset) == ["b", "a", "c"]


def test_the_same_cell_of_another_direction_is_another_cell(tmp_path: Path) -> None:
    results = read_sources([_run(tmp_path / "a", CELLS), _run(tmp_path / "b", CELLS, "rev")])
    assert len(results.cells) == 6


def test_a_cell_in_two_runs_is_refused(tmp_path: Path) -> None:
    paths = [_run(tmp_path / "a", CELLS), _run(tmp_path / "b", CELLS[1:])]
    with pytest.raises(ResultError) as caught:
        read_sources(paths)
    assert f"{paths[1]}: cell replace/seed42 (fwd) is also in {paths[0]}" in str(caught.value)
    assert len(read_sources(paths, strict=False).cells) == 5
    with pytest.raises(ResultError, match="is also in"):
        read_sources([paths[0], paths[0]])


def _at_layer(path: Path, layer: int, tokens: int) -> Path:
    """A run of another layer of the receiver: what is written there gives other tokens."""
    groups = [
        [
            (cell, lane(row, (1,) if cell == "no_inject" else (tokens,)))
            for row in "abc"
            for cell in CELLS
        ]
    ]
    pair = {"sender": {"model": "s"}, "receiver": {"model": "r", "layer": layer}}
    return write_run(path, groups, made=manifest([9], pair=pair))


def test_runs_at_two_layers_are_told_apart(tmp_path: Path) -> None:
    paths = [_at_layer(tmp_path / "r10", 10, 2), _at_layer(tmp_path / "r20", 20, 3)]
    results = read_sources(paths)
    assert [cell.name for cell in results.cells] == [
        "no_inject",  # the same in both: read once
        "replace@r10/seed42",
        "replace@r10/seed7",
        "replace@r20/seed42",
        "replace@r20/seed7",
    ]
    assert {cell.condition.role for cell in results.cells[1:]} == {"channel"}
    assert results.floor(results.cells[-1]) is results.cells[0]
    assert score_conditions([score_cell(cell) for cell in results.cells])
    compared = {d.condition for d in compare(results).differences}
    assert compared == {"replace@r10", "replace@r20"}


def test_baselines_that_differ_keep_their_run(tmp_path: Path) -> None:
    first = _at_layer(tmp_path / "a" / "run", 10, 2)
    second = _at_layer(tmp_path / "b" / "run", 20, 3)
    lines = (second / ROWS).read_text().replace('"token_ids": [1]', '"token_ids": [7]')
    (second / ROWS).write_text(lines)
    results = read_sources([first, second])
    names = [cell.name for cell in results.cells]
    assert names[:2] == ["no_inject@a/run", "replace@a/run/seed42"]
    assert [results.floor(cell).source for cell in results.cells] == [first] * 3 + [second] * 3  # type: ignore[union-attr]


def test_a_twin_is_of_the_same_run() -> None:
    replaced, shuffled = CONDITIONS["scale_corrected"], CONDITIONS["shuffled_translation"]
    named = [c.model_copy(update={"name": f"{c.name}@a"}) for c in (replaced, shuffled)]
    assert replaced.is_shuffled_twin(shuffled)
    assert named[0].is_shuffled_twin(named[1])
    assert not named[0].is_shuffled_twin(shuffled)


def test_rows_that_differ_between_datasets_are_refused(tmp_path: Path) -> None:
    first = _run(tmp_path / "a", CELLS[:1])
    second = _run(tmp_path / "b", CELLS[1:])
    changed = [replace(ROWS_OF_DATASET[0], question="Where?"), *ROWS_OF_DATASET[1:]]
    groups = [[(cell, lane(row, (1,))) for row in "abc" for cell in CELLS[1:]]]
    write_run(second, groups, dataset=changed, made=manifest([6], CELLS[1:]))
    with pytest.raises(ResultError, match="row b differs between the sources' datasets"):
        read_sources([first, second])


def test_what_holds_no_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="holds no results; give a directory that `statebridge"):
        read_sources([tmp_path / "empty"])
    (tmp_path / "mine.yaml").write_text("name: mine")
    with pytest.raises(ResultError, match=r"is an experiment, not its results; .*mine\.yaml --out"):
        read_sources([tmp_path / "mine.yaml"])


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.json").write_text("not json")
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    for name in ("nowhere", "empty", "text.json", "other.json"):
        with pytest.raises(ResultError) as caught:
            read_sources([tmp_path / name])
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@needs_shared
def test_published_files_and_a_run_join(tmp_path: Path) -> None:
    published = SHARED / "published" / "h1_additive_fwd_seed42.json"
    results = read_sources([_run(tmp_path / "a", CELLS), published])
    assert [cell.name for cell in results.cells] == [*CELLS, "additive/seed42"]
    assert len(results.cells[-1].lanes) == 396
    whole = read_sources([SHARED / "published"])
    assert len(whole.cells) == 8
    # The published replace/seed42 and the run's are one cell in two places.
    with pytest.raises(ResultError, match=r"cell (no_inject|replace/seed42) \(fwd\) is also in"):
        read_sources([tmp_path / "a", SHARED / "published"])
