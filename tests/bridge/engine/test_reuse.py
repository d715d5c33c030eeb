"""Lanes that an earlier run computed are taken from it and committed like the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.run_experiment import RunSummary, run_experiment
from statebridge.models.pair import Pair
from statebridge.results.run_results import read_run
from statebridge.runs.directory import REUSED, ROWS, SESSIONS, read_lane, read_manifest
from statebridge.runs.stores import FoundLane
from statebridge.translators import save_translator
from tests.bridge.engine.reuse_runs import Lanes, computed, experiment_of, tiny_pair
from tests.bridge.engine.tiny_experiment import random_translator


@cache
def _pair() -> Pair:
    return tiny_pair()


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("translators")
    files = {seed: folder / f"seed{seed}.safetensors" for seed in (42, 123)}
    for seed, path in files.items():
        save_translator(random_translator(16, 24, seed=seed), path)
    return files


@pytest.fixture(scope="module")
def earlier(translators: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Lanes:
    """The lanes of a run of five rows."""
    lanes = Lanes()
    experiment = experiment_of(translators, limit=5)
    summary = _run(experiment, tmp_path_factory.mktemp("earlier") / "run", lanes)
    assert (summary.lanes, summary.reused_lanes) == (20, 0)
    assert len(lanes.lines) == 20
    return lanes


def _run(experiment: Any, out: Path, lanes: Lanes | None = None, **options: Any) -> RunSummary:
    return run_experiment(experiment, out, pair=_pair(), reuse=lanes, **options)


def _lanes(out: Path) -> list[tuple[int, str, Any]]:
    return [read_lane(line) for line in (out / ROWS).read_bytes().splitlines()]


def _rows(lanes: Lanes) -> bytes:
    """The rows file of the run whose lanes these are."""
    return b"".join(found.line for found in lanes.lines.values())


def _copy(lanes: Lanes, run: str = "second") -> Lanes:
    return Lanes(run, dict(lanes.lines))


def test_the_same_experiment_again_runs_no_group(
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, int, int]] = []
    with computed(monkeypatch) as groups:
        summary = _run(
            experiment_of(translators, limit=5, name="again"),
            tmp_path / "run",
            _copy(earlier),
            progress=lambda *stage: seen.append(stage),
        )
    assert groups == []
    assert (summary.lanes, summary.resumed_lanes, summary.reused_lanes) == (20, 0, 20)
    assert (tmp_path / "run" / ROWS).read_bytes() == _rows(earlier)
    assert ("reuse", 20, 20) in seen
    assert seen[-1] == ("run", 20, 20)
    manifest = read_manifest(tmp_path / "run") or {}
    assert (manifest["reused"]["lanes"], manifest["reused"]["runs"]) == (20, {"first": 20})
    (session,) = map(json.loads, (tmp_path / "run" / SESSIONS).read_text().splitlines())
    assert (session["lanes"], session["reused_lanes"]) == (20, 20)
    assert not (tmp_path / "run" / REUSED).exists()


OVERLAPPING: dict[str, tuple[dict[str, Any], set[tuple[str, int]]]] = {
    "one more condition": (
        {"limit": 5, "conditions": ["no_inject", "replace", "best_alpha", "same_norm_random"]},
        {("best_alpha/seed42", row) for row in range(5)},
    ),
    "one more seed": (
        {"limit": 5, "seeds": [123, 42]},
        {(f"{name}/seed123", i) for name in ("replace", "same_norm_random") for i in range(5)},
    ),
    "more rows": (
        {"limit": 7},
        {
            (name, row)
            for name in ("no_inject", "replace/seed42", "same_norm_random/seed42", "nl_relay")
            for row in (5, 6)
        },
    ),
    "another name for the same work": (
        {"limit": 5, "conditions": ["skyline", "private_relay"]},
        set(),
    ),
    "another translator": (
        {"limit": 5, "translators": {"42": "123"}},
        {("replace/seed42", row) for row in range(5)},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "which"),
    [
        *(("shared", which) for which in OVERLAPPING),
        ("plain", "more rows"),
        ("plain", "another translator"),
    ],
)
def test_only_new_lanes_of_an_overlapping_run_are_computed(
    path: str,
    which: str,
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes, expected = OVERLAPPING[which]
    if "translators" in changes:
        changes = changes | {"translators": {"42": str(translators[123])}}
    changes = changes | {"execution": {"max_lanes": 9, "path": path}}
    if path == "plain":  # a path is part of the key
        first = experiment_of(translators, limit=5, execution={"path": "plain"})
        earlier = Lanes()
        _run(first, tmp_path / "first", earlier)
    experiment = experiment_of(translators, **changes)
    with computed(monkeypatch) as groups:
        summary = _run(experiment, tmp_path / "run", _copy(earlier))
    ran = list(itertools.chain(*groups))
    assert sorted(ran) == sorted(expected)
    assert summary.reused_lanes == summary.lanes - len(expected)
    if path == "shared":
        assert all(len(group) <= 9 for group in groups)
    _run(experiment, tmp_path / "alone")
    found, alone = _lanes(tmp_path / "run"), _lanes(tmp_path / "alone")
    assert [(group, cell, row.row_id) for group, cell, row in found] == [
        (group, cell, row.row_id) for group, cell, row in alone
    ]
    assert [row.token_ids for *_, row in found] == [row.token_ids for *_, row in alone]
    for (_, cell, one), (_, _, other) in zip(found, alone, strict=True):
        # Sums of some hundred float32 terms, in another order.
        assert one.gold_logprob == pytest.approx(other.gold_logprob, abs=2e-5), cell
        assert one.kl_from_no_inject == pytest.approx(other.kl_from_no_inject, abs=2e-5), cell
    results = read_run(tmp_path / "run")
    assert all(cell.complete for cell in results.cells)


def test_little_that_is_left_of_many_groups_runs_together(
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conditions = ["no_inject", "replace", "same_norm_random", "zero_replacement"]
    experiment = experiment_of(translators, limit=5, conditions=conditions)
    with computed(monkeypatch) as groups:
        _run(experiment, tmp_path / "run", _copy(earlier))
    plan = (read_manifest(tmp_path / "run") or {})["plan"]
    assert plan["lanes"] == [4, 8, 8]
    assert [len(group) for group in groups] == [5]


class _KilledError(BaseException):
    """Not an Exception: nothing may catch it and tidy up, as after `kill -9`."""


def _stop_after(groups: int) -> Callable[[str, int, int], None]:
    left = itertools.count(groups, -1)

    def progress(stage: str, _done: int, _total: int) -> None:
        if stage == "run" and next(left) == 0:
            raise _KilledError

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("after", range(5))
def test_a_killed_run_ends_the_same_without_its_store(
    after: int, translators: dict[int, Path], earlier: Lanes, tmp_path: Path
) -> None:
    experiment = experiment_of(
        translators, limit=7, conditions=["no_inject", "replace", "zero_replacement"]
    )
    _run(experiment, tmp_path / "undisturbed", _copy(earlier))
    groups = len((read_manifest(tmp_path / "undisturbed") or {})["plan"]["lanes"])
    assert groups >= 3
    with pytest.raises(_KilledError):
        _run(experiment, tmp_path / "run", _copy(earlier), progress=_stop_after(min(after, groups)))
    # Everything deleted, by somebody who also switched reuse off; or everything there.
    summary = _run(experiment, tmp_path / "run", None if after % 2 else _everything(tmp_path))
    assert summary.reused_lanes == 10
    assert (tmp_path / "run" / ROWS).read_bytes() == (tmp_path / "undisturbed" / ROWS).read_bytes()
    first, second = (read_manifest(tmp_path / name) or {} for name in ("undisturbed", "run"))
    assert first | {"created_at": ""} == second | {"created_at": ""}
    assert not (tmp_path / "run" / REUSED).exists()


def _everything(tmp_path: Path) -> Lanes:
    class Everything(Lanes):
        def lookup(self, _keys: Any) -> Any:
            raise AssertionError("asked again")

    return Everything()


def test_a_run_does_not_depend_on_the_store_for_what_it_is(
    translators: dict[int, Path], earlier: Lanes, tmp_path: Path
) -> None:
    experiment = experiment_of(translators, limit=5)
    _run(experiment, tmp_path / "with", _copy(earlier))
    _run(experiment, tmp_path / "without")
    manifests = [read_manifest(tmp_path / name) or {} for name in ("with", "without")]
    for manifest in manifests:
        del manifest["created_at"], manifest["reused"]
    assert manifests[0] == manifests[1]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "changed", "cut", "no text"])
def test_damaged_lanes_that_were_set_aside_are_computed(
    damage: str,
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment, out = experiment_of(translators, limit=5), tmp_path / "run"
    with pytest.raises(_KilledError):
        _run(experiment, out, _copy(earlier), progress=_stop_after(1))
    path = out / REUSED
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(content.replace(b'"gold_rank": ', b'"gold_rank": 1'))
    else:
        path.write_bytes(content[:-9] if damage == "cut" else b"\xff" + content)
    with computed(monkeypatch) as groups:
        _run(experiment, out, _copy(earlier))
    assert groups
    assert (out / ROWS).read_bytes() == _rows(earlier)


def test_a_store_that_mixes_rows_up_is_not_believed(
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Mixed(Lanes):
        def lookup(self, keys: Any) -> Any:
            found = super().lookup(keys)
            lanes = list(found.values())
            return dict(zip(found, [*lanes[1:], lanes[0]], strict=True))

    experiment = experiment_of(translators, limit=5, conditions=["no_inject"])
    with computed(monkeypatch) as groups:
        summary = _run(experiment, tmp_path / "run", Mixed(lines=dict(earlier.lines)))
    assert summary.reused_lanes == 0
    assert sum(map(len, groups)) == 5


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"token_ids": null}', b"\xff"])
def test_a_stored_line_that_cannot_be_read_is_computed(
    line: bytes,
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes = _copy(earlier)
    damaged = next(iter(lanes.lines))
    lanes.lines[damaged] = FoundLane(line, "first")
    with computed(monkeypatch) as groups:
        summary = _run(experiment_of(translators, limit=5), tmp_path / "run", lanes)
    assert (summary.reused_lanes, sum(map(len, groups))) == (19, 1)
    assert read_lane(lanes.lines[damaged].line)


def test_an_experiment_can_decline(
    translators: dict[int, Path],
    earlier: Lanes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes = _copy(earlier)
    declined = experiment_of(translators, limit=5, execution={"max_lanes": 9, "reuse": False})
    with computed(monkeypatch) as groups:
        summary = _run(declined, tmp_path / "run", lanes)
    assert (summary.reused_lanes, lanes.asked) == (0, 0)
    assert sum(map(len, groups)) == 20
    assert lanes.lines == earlier.lines
    # It says nothing about what is run: the same run goes on with it and without it.
    _run(experiment_of(translators, limit=5), tmp_path / "run", lanes)


def test_the_positive_control_is_not_run_twice_either(
    translators: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_of(
        translators,
        limit=3,
        conditions=["no_inject"],
        positive_control={"rows": 2, "taught_pair": False},
    )
    lanes = Lanes()
    _run(experiment, tmp_path / "first", lanes)
    lanes.run = "second"
    with computed(monkeypatch) as groups:
        _run(experiment, tmp_path / "second", lanes)
    assert groups == []
    for name in (ROWS, f"positive_control/{ROWS}"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
