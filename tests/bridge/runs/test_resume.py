"""A run that broke off goes on where it stopped, and ends with an undisturbed run's bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.executors.plain_path import PlainPath
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.engine.run_experiment import RunSummary, run_experiment
from statebridge.errors import EnvironmentFault, NumericError, ResultError, StatebridgeError
from statebridge.experiment import Experiment, parse_experiment
from statebridge.models.pair import Pair
from statebridge.results.run_results import read_run
from statebridge.runs.directory import (
    DATASET,
    MANIFEST,
    ROWS,
    SESSIONS,
    read_manifest,
    whole_groups,
)
from statebridge.translators import save_translator
from tests.bridge.engine.tiny_experiment import engine_pair, random_translator
from tests.bridge.runs.limits import file_size_limit
from tests.reference.oracle import OraclePair
from tests.tiny_models import tiny_neox, tiny_tokenizer

FIELDS: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "tiny-sender", "layer": 0},
    "receiver": {"model": "tiny-receiver", "layer": 0},
    "dataset": {"generate": {"rows": 10, "seed": 4}},
    "conditions": ["no_inject", "replace", "same_norm_random", "nl_relay"],
    "seeds": [42],
    "decoding": {"max_new_tokens": 2, "relay_max_new_tokens": 2, "max_prompt_tokens": 400},
    "execution": {"max_lanes": 9},
}


@cache
def _pair() -> Pair:
    return engine_pair(
        OraclePair(
            sender=tiny_neox(1, layers=2, hidden=16, heads=2, end_share=0),
            receiver=tiny_neox(2, layers=2, hidden=24, heads=2, end_share=0),
            sender_layer=0,
            receiver_layer=0,
            tokenizer=tiny_tokenizer(),
        )
    )


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("translators") / "seed42.safetensors"
    save_translator(random_translator(16, 24, seed=42), path)
    return path


def _experiment(translator: Path, **changes: Any) -> Experiment:
    fields = {**FIELDS, "translators": {"42": str(translator)}, **changes}
    return parse_experiment(json.dumps(fields))


def _run(experiment: Experiment, out: Path, **options: Any) -> RunSummary:
    return run_experiment(experiment, out, pair=_pair(), **options)


@pytest.fixture(scope="module")
def undisturbed(translator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    summary = _run(_experiment(translator), out)
    assert (summary.lanes, summary.resumed_lanes) == (40, 0)
    return out


class _KilledError(BaseException):
    """Not an Exception: nothing may catch it and tidy up, as after `kill -9`."""


def _stop_after(groups: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "run":
            seen.append(done)
            if len(seen) > groups:
                raise _KilledError

    seen: list[int] = []
    return progress


def _rows(path: Path) -> bytes:
    return (path / ROWS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_stopped_and_torn_anywhere_it_ends_the_same(
    seed: int, translator: Path, undisturbed: Path, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    plan = (read_manifest(undisturbed) or {})["plan"]["lanes"]
    out = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(_KilledError):
            _run(_experiment(translator), out, progress=_stop_after(draw.randint(0, 2)))
        if (out / ROWS).exists() and _rows(out):
            # Torn within the last group: what a kill can leave of one write.
            groups = whole_groups(out / ROWS, plan)[0]
            start = whole_groups(out / ROWS, [*plan[: groups - 1], 10**6])[1]
            with (out / ROWS).open("r+b") as stream:
                stream.truncate(draw.randint(start, len(_rows(out))))
    done = whole_groups(out / ROWS, plan)[0] if (out / ROWS).exists() else 0
    summary = _run(_experiment(translator), out)
    assert summary.resumed_lanes == sum(plan[:done])
    assert _rows(out) == _rows(undisturbed)
    first, second = (read_manifest(path) or {} for path in (undisturbed, out))
    assert {**first, "created_at": ""} == {**second, "created_at": ""}
    assert (out / DATASET).read_bytes() == (undisturbed / DATASET).read_bytes()


def test_a_finished_run_is_left_alone(translator: Path, undisturbed: Path) -> None:
    before = {path: path.read_bytes() for path in undisturbed.iterdir() if path.is_file()}
    summary = _run(_experiment(translator), undisturbed)
    assert summary.resumed_lanes == summary.lanes == 40
    assert {path: path.read_bytes() for path in undisturbed.iterdir() if path.is_file()} == before


def test_killed_before_the_manifest_was_renamed(
    translator: Path, undisturbed: Path, tmp_path: Path
) -> None:
    (tmp_path / f".{DATASET}.12345678.tmp").write_bytes(b'{"answer": ')
    (tmp_path / f".{MANIFEST}.12345678.tmp").write_bytes(b"{")
    (tmp_path / DATASET).write_bytes((undisturbed / DATASET).read_bytes())
    _run(_experiment(translator), tmp_path)
    assert _rows(tmp_path) == _rows(undisturbed)
    names = {path.name for path in undisturbed.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_full_disk_leaves_whole_groups_to_go_on_from(
    translator: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out, expected = tmp_path / "run", _rows(undisturbed)
    # Room for the manifest and a group and a half of rows.
    room = max((undisturbed / MANIFEST).stat().st_size + 1, len(expected) // 2)
    assert room < len(expected)
    with file_size_limit(room), pytest.raises(EnvironmentFault) as caught:
        _run(_experiment(translator), out)
    assert str(caught.value).startswith(f"{out / ROWS}: cannot be written: ")
    kept = _rows(out)
    assert kept
    assert expected.startswith(kept)
    assert kept.endswith(b"\n")
    assert len(read_run(out).cells[0].lanes) > 0
    sessions = (out / SESSIONS).read_text().splitlines()
    assert all(json.loads(line) for line in sessions)
    _run(_experiment(translator), out)
    assert _rows(out) == expected


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seeds": [42], "limit": 3}, "number of rows (10 there, 3 here)"),
        ({"decoding": {"max_new_tokens": 3, "max_prompt_tokens": 400}}, "experiment.decoding"),
        ({"conditions": ["no_inject", "replace"]}, "cell same_norm_random/seed42"),
        ({"rng": "published"}, "experiment.rng"),
        ({"dataset": {"generate": {"rows": 10, "seed": 5}}}, "experiment.dataset"),
        ({"decode": False}, "experiment.decode"),
        ({"execution": {"path": "plain"}}, "path"),
    ],
)
def test_another_experiment_is_refused(
    changes: dict[str, Any], what: str, translator: Path, undisturbed: Path
) -> None:
    before = {path: path.read_bytes() for path in undisturbed.iterdir() if path.is_file()}
    with pytest.raises(ResultError) as caught:
        _run(_experiment(translator, **changes), undisturbed)
    assert f"was started with another {what}" in str(caught.value)
    assert {path: path.read_bytes() for path in undisturbed.iterdir() if path.is_file()} == before


def test_a_run_of_an_earlier_default_stream_goes_on(translator: Path, tmp_path: Path) -> None:
    fields = {"conditions": ["no_inject", "shuffled_translation"]}
    earlier = _experiment(translator, rng="per-row", **fields)
    with pytest.raises(_KilledError):
        _run(earlier, tmp_path / "old", progress=_stop_after(1))
    _run(earlier, tmp_path / "whole")
    _run(_experiment(translator, **fields), tmp_path / "old")  # names no stream
    assert _rows(tmp_path / "old") == _rows(tmp_path / "whole")
    with pytest.raises(ResultError, match=r"another experiment\.rng"):
        _run(_experiment(translator, rng="derangement", **fields), tmp_path / "old")


def test_the_manifest_states_the_donors_of_a_shuffled_cell(
    translator: Path, tmp_path: Path
) -> None:
    _run(_experiment(translator, conditions=["no_inject", "shuffled_translation"]), tmp_path)
    plain, shuffled = (read_manifest(tmp_path) or {})["cells"]
    assert "donors" not in plain
    results = read_run(tmp_path)
    lanes = results.cells[1].lanes
    given = [row.donor_row_id for row in lanes if not row.donor_self_fallback]
    answers = {row_id: row.answer for row_id, row in results.dataset.items()}
    same = {
        row.row_id
        for row in lanes
        if row.donor_row_id != row.row_id and answers[str(row.donor_row_id)] == row.gold
    }
    assert shuffled["donors"] == {
        "distinct": len(set(given)),
        "most_used": 1,
        "same_answer": sorted(same),
    }
    assert results.cells[1].same_answer_donors == same


def test_the_size_of_groups_may_change_on_resuming(
    translator: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(_KilledError):
        _run(_experiment(translator), tmp_path, progress=_stop_after(1))
    _run(_experiment(translator, execution={"max_lanes": 64}), tmp_path)
    assert _rows(tmp_path) == _rows(undisturbed)


def test_another_translator_or_other_weights_are_refused(
    translator: Path, undisturbed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "seed42.safetensors"
    save_translator(random_translator(16, 24, seed=43), other)
    content = translator.read_bytes(), translator.with_suffix(".json").read_bytes()
    try:
        translator.write_bytes(other.read_bytes())
        translator.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())
        with pytest.raises(ResultError, match=r"was started with another translators\.42"):
            _run(_experiment(translator), undisturbed)
    finally:
        translator.write_bytes(content[0])
        translator.with_suffix(".json").write_bytes(content[1])
    weight = _pair().receiver.module.gpt_neox.layers[1].mlp.dense_4h_to_h.weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[0, 0] += 1e-3
        with pytest.raises(ResultError, match=r"was started with another pair\.receiver"):
            _run(_experiment(translator), undisturbed)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    _run(_experiment(translator), undisturbed)


def test_a_manifest_with_unknown_fields_is_refused_in_one_line(
    translator: Path, undisturbed: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(undisturbed) or {}
    manifest["versions"]["another-package"] = "1.0"
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ResultError, match=r"with another versions\.another-package"):
        _run(_experiment(translator), tmp_path)


@pytest.mark.parametrize(("path", "runner"), [("shared", SharedPath), ("plain", PlainPath)])
def test_non_finite_numbers_stop_the_run_before_its_group(
    path: str, runner: Any, translator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = _experiment(translator, execution={"max_lanes": 9, "path": path})
    head = _pair().receiver.module.get_output_embeddings().weight
    run = runner.run
    calls: list[int] = []

    def spoil(self: Any, group: Any) -> Any:
        calls.append(group.index)
        if len(calls) == 2:
            with torch.no_grad():
                head.mul_(float("inf"))
        return run(self, group)

    kept = head.detach().clone()
    monkeypatch.setattr(runner, "run", spoil)
    try:
        with pytest.raises(NumericError) as caught:
            _run(experiment, tmp_path)
    finally:
        with torch.no_grad():
            head.copy_(kept)
    assert "row" in str(caught.value)
    assert b'{"group": 0, ' in _rows(tmp_path)
    assert b'{"group": 1, ' not in _rows(tmp_path)


def test_nothing_is_left_of_a_run_that_could_not_start(translator: Path, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"dataset": {"path": str(tmp_path / "nowhere.jsonl")}},
        {"translators": {"42": str(tmp_path / "nowhere.pt")}},
        {"conditions": [{"name": "c", "source": "zero", "positions": [500]}]},
    ]
    for changes in wrong:
        out = tmp_path / "runs" / "mine"
        with pytest.raises(StatebridgeError):
            _run(_experiment(translator, **changes), out)
        assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_fit_killed_before_its_card_is_done_again(tmp_path: Path) -> None:
    corpus = {"generate": {"rows": 40, "seed": 9}, "max_tokens": 40}
    fit = {"kind": "ridge", "corpus": corpus}
    experiment = parse_experiment(
        json.dumps({**FIELDS, "translators": {"fit": fit}, "conditions": ["no_inject", "replace"]})
    )
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    _run(experiment, whole)
    _run(experiment, torn)
    for name in (MANIFEST, ROWS, DATASET, SESSIONS, "translators/seed42.json"):
        (torn / name).unlink()
    _run(experiment, torn)
    assert _rows(torn) == _rows(whole)
    manifests = [read_manifest(path) or {} for path in (whole, torn)]
    assert manifests[0]["translators"] == manifests[1]["translators"]
    assert manifests[0]["translators"]["42"]["quality"]
