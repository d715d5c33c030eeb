"""A run becomes more: further rows, seeds and conditions beside the lanes that it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.reuse import extension
from statebridge.engine.run_experiment import RunSummary, run_experiment
from statebridge.errors import ResultError
from statebridge.records import LaneResult
from statebridge.results.run_results import read_run
from statebridge.runs.directory import MANIFEST, REUSED, ROWS, read_lane, read_manifest
from statebridge.translators import save_translator
from tests.bridge.engine.reuse_runs import computed, experiment_of, tiny_pair
from tests.bridge.engine.tiny_experiment import random_translator

PAIR = tiny_pair()
START: dict[str, Any] = {
    "limit": 5,
    "seeds": [42],
    "conditions": ["no_inject", "replace", "nl_relay"],
    "decoding": {"max_new_tokens": 2, "relay_max_new_tokens": 2, "max_prompt_tokens": 400},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("translators")
    found = {seed: folder / f"seed{seed}.safetensors" for seed in (42, 7)}
    for seed, path in found.items():
        save_translator(random_translator(16, 24, seed=seed), path)
    return found


def _run(files: dict[int, Path], out: Path, **changes: Any) -> RunSummary:
    return run_experiment(experiment_of(files, **{**START, **changes}), out, pair=PAIR)


def _lanes(out: Path) -> dict[tuple[str, str], LaneResult]:
    lines = (out / ROWS).read_bytes().splitlines(keepends=True)
    return {(cell, row.row_id): row for _, cell, row in map(read_lane, lines)}


GROWN: dict[str, dict[str, Any]] = {
    "rows": {"limit": 8},
    "no limit": {"limit": None},
    "seeds": {"seeds": [42, 7]},
    "conditions": {"conditions": ["no_inject", "replace", "nl_relay", "additive", "question_only"]},
    "all": {"limit": 8, "seeds": [7, 42], "conditions": ["zero_replacement", *START["conditions"]]},
    "name": {"name": "better"},
}


@pytest.mark.slow
@pytest.mark.parametrize("grown", GROWN.values(), ids=GROWN)
def test_a_larger_experiment_extends_the_run(
    grown: dict[str, Any], files: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(files, tmp_path / "run")
    before = _lanes(tmp_path / "run")
    with computed(monkeypatch) as groups:
        summary = _run(files, tmp_path / "run", **grown)
    after = _lanes(tmp_path / "run")
    assert {name: after[name] for name in before} == before
    assert sum(map(len, groups)) == len(after) - len(before)
    assert (summary.lanes, summary.resumed_lanes) == (len(after), len(before))
    assert not (tmp_path / "run" / REUSED).exists()
    # Which lanes, and in which order, is as if the run had been started so.
    _run(files, tmp_path / "fresh", **grown)
    assert list(_lanes(tmp_path / "fresh")) == list(after)
    assert [lane.token_ids for lane in _lanes(tmp_path / "fresh").values()] == [
        lane.token_ids for lane in after.values()
    ]
    results = read_run(tmp_path / "run")
    assert all(cell.complete for cell in results.cells)
    assert results.manifest is not None
    assert results.manifest["experiment"]["name"] == grown.get("name", "tiny")


def test_a_run_that_was_cut_off_is_extended_too(files: dict[int, Path], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment_of(files, **START), tmp_path, pair=PAIR, progress=_stop)
    some = _lanes(tmp_path)
    assert 0 < len(some) < 15
    _run(files, tmp_path, limit=8)
    after = _lanes(tmp_path)
    assert len(after) == 24
    assert {name: after[name] for name in some} == some


def _stop(stage: str, done: int, total: int) -> None:
    """Stop after the first group that is committed."""
    if stage == "run" and done > 0:
        raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["before the manifest", "before the rows are removed"])
def test_killed_while_it_is_extended_it_loses_nothing(
    where: str, files: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(files, tmp_path)
    before = _lanes(tmp_path)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "before the manifest":
            patch.setattr("statebridge.runs.directory.RunDirectory.write_manifest", killed)
        else:
            patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(files, tmp_path, limit=8)
    assert _lanes(tmp_path) == before
    with computed(monkeypatch) as groups:
        _run(files, tmp_path, limit=8)
    assert sum(map(len, groups)) == 24 - 15
    after = _lanes(tmp_path)
    assert {name: after[name] for name in before} == before


def test_rows_stay_where_the_lanes_set_aside_are_not_whole(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_bytes(b"rows")
    stated = {"replaces": extension.sha256_file(tmp_path / ROWS), "sha256": "0" * 64}
    extension.finish_extension(stated, tmp_path)
    (tmp_path / REUSED).write_bytes(b"torn")
    extension.finish_extension(stated, tmp_path)
    assert (tmp_path / ROWS).exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 4}, "number of rows (5 there, 4 here)"),
        ({"conditions": ["no_inject"]}, "cell replace/seed42 ("),
        ({"seeds": [7]}, "cell replace/seed42 ("),
        (
            {"decoding": {**START["decoding"], "max_new_tokens": 3}, "dtype": "float32"},
            "experiment.decoding",
        ),
    ],
)
def test_what_would_change_rows_is_refused_with_what_differs(
    changes: dict[str, Any], words: str, files: dict[int, Path], tmp_path: Path
) -> None:
    _run(files, tmp_path)
    before = (tmp_path / ROWS).read_bytes(), (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(ResultError) as caught:
        _run(files, tmp_path, **changes)
    message = str(caught.value)
    assert words in message
    assert " there, " in message
    assert ((tmp_path / ROWS).read_bytes(), (tmp_path / MANIFEST).read_bytes()) == before


def test_fewer_lanes_together_are_taken_when_a_run_goes_on(
    files: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stated cure where memory runs out."""
    fields = {"execution": {"max_lanes": 15}}
    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment_of(files, **START, **fields), tmp_path, pair=PAIR, progress=_stop)
    plan = (read_manifest(tmp_path) or {})["plan"]
    with computed(monkeypatch) as groups:
        _run(files, tmp_path, execution={"max_lanes": 2})
    assert groups
    assert max(map(len, groups)) <= 2
    # The groups that are committed are those of the plan.
    assert (read_manifest(tmp_path) or {})["plan"] == plan
    _run(files, tmp_path / "whole", **fields)
    assert [lane.token_ids for lane in _lanes(tmp_path).values()] == [
        lane.token_ids for lane in _lanes(tmp_path / "whole").values()
    ]
    assert json.loads((tmp_path / MANIFEST).read_text())["plan"]["max_lanes"] == 15
