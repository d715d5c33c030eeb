"""Several sets of translators in one run, and a private experiment from file to score table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.commands import main
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import ResultError, TranslatorError
from statebridge.experiment import load_experiment, parse_experiment
from statebridge.results.run_results import read_run
from statebridge.results.training_overlap import read_overlap
from statebridge.runs.directory import ROWS as ROWS_FILE
from statebridge.runs.directory import read_manifest
from statebridge.translators import load_translator, save_translator
from tests.bridge.engine.private_points import check_same
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.points import Point, run_point
from tests.tiny_models import mixed_rows, save_pair_folder, tiny_neox, tiny_tokenizer

ROWS = mixed_rows(6, seed=5)
LAST: dict[str, Any] = {
    "source": "translated",
    "prompt": "question_only",
    "positions": "last",
    "source_positions": "last",
}
CONDITIONS = [
    "private_last",
    {**LAST, "name": "of_second", "translator": "second"},
    {**LAST, "name": "of_first", "translator": "first"},
    {**LAST, "name": "shuffled_second", "source": "shuffled", "translator": "second"},
]
KEYS = [(name, seed) for name in ("first", "second") for seed in (42, 7)]


def _translators() -> dict[tuple[str, int], Any]:
    return {key: random_translator(24, 32, seed=place) for place, key in enumerate(KEYS)}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_each_condition_uses_its_own_set(path: str) -> None:
    pair, translators = neox_pair(), _translators()
    run = run_engine(
        engine_pair(pair),
        dataset_rows(ROWS),
        translators,
        conditions=CONDITIONS,
        rng="published",
        decoding={"max_new_tokens": 4},
        execution={"path": path},
    )
    last = Point("translated", positions="last", source_positions="last", prompt="question_only")
    shuffled = Point(**{**vars(last), "source": "shuffled"})
    # A condition that names no set uses the first.
    used = {"private_last": "first", "of_first": "first", "of_second": "second"}
    used["shuffled_second"] = "second"
    assert len(run.rows) == len(used) * 2 * len(ROWS)
    for name, of_set in used.items():
        point = shuffled if name.startswith("shuffled") else last
        for seed in (42, 7):
            translate = translators[of_set, seed]
            for row in run_point(pair, ROWS, point, seed, translate, max_new_tokens=4):
                check_same(run.rows[f"{name}/seed{seed}", row.row_id], row, name)
    assert run.rows["of_first/seed7", ROWS[0]["id"]] == run.rows["private_last/seed7", "row_0000"]
    first, second = (run.rows[f"of_{which}/seed7", "row_0000"] for which in ("first", "second"))
    assert first.translated_norm_mean != second.translated_norm_mean


def test_a_set_of_another_width_is_named() -> None:
    translators = _translators() | {("second", 7): random_translator(24, 24, seed=1)}
    with pytest.raises(TranslatorError, match=r"^translator of second, seed 7, maps width 24 to"):
        run_engine(engine_pair(neox_pair()), dataset_rows(ROWS), translators, conditions=CONDITIONS)


# ---------------------------------------------------------------- run directories

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "tiny-sender", "layer": 2},
    "receiver": {"model": "tiny-receiver", "layer": 2},
    "dataset": {"generate": {"rows": 5, "seed": 4}},
    "conditions": [*CONDITIONS, "question_only", "placeholder_only"],
    "seeds": [42, 7],
    "decoding": {"max_new_tokens": 2},
    "execution": {"max_lanes": 9},
}
FIT = {"kind": "ridge", "corpus": {"generate": {"rows": 30, "seed": 9}}}


class _KilledError(Exception):
    pass


def _kill_when(stage: str, count: int) -> Any:
    def progress(now: str, done: int, total: int) -> None:
        if now == stage and count <= done < total:
            raise _KilledError

    return progress


@pytest.mark.slow
def test_a_run_with_sets_resumes_and_refuses_another_set(tmp_path: Path) -> None:
    for (name, seed), translator in _translators().items():
        (tmp_path / name).mkdir(exist_ok=True)
        save_translator(translator, tmp_path / name / f"{seed}.safetensors")
    files = {seed: f"second/{seed}.safetensors" for seed in (42, 7)}
    declared = EXPERIMENT | {"translators": {"sets": {"first": {"fit": FIT}, "second": files}}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(declared))
    experiment = load_experiment(tmp_path / "e.yaml")
    pair = engine_pair(neox_pair())

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_experiment(experiment, whole, pair=pair)
    for stage, count in (("run", 5), ("run", 20)):
        with pytest.raises(_KilledError):
            run_experiment(experiment, broken, pair=pair, progress=_kill_when(stage, count))
    summary = run_experiment(experiment, broken, pair=pair)
    assert 0 < summary.resumed_lanes < summary.lanes == 5 * (4 * 2 + 2)
    assert (broken / ROWS_FILE).read_bytes() == (whole / ROWS_FILE).read_bytes()

    origins = read_manifest(whole)["translators"]
    assert set(origins) == {f"{name}/{seed}" for name, seed in KEYS}
    assert len({origin["sha256"] for origin in origins.values()}) == 4
    # A fitted set has measured its quality; the files here come without a card.
    assert [bool(origins[f"{name}/7"]["quality"]) for name in ("first", "second")] == [True, False]
    fitted = load_translator(whole / "translators" / "first" / "seed7.safetensors")
    assert (fitted.width_in, fitted.width_out) == (24, 32)

    swapped = random_translator(24, 32, seed=77)
    save_translator(swapped, tmp_path / "second" / "7.safetensors")
    with pytest.raises(ResultError, match=r"started with another translators\.second/7"):
        run_experiment(experiment, whole, pair=pair)


def test_a_set_that_no_condition_uses_is_neither_read_nor_fitted(tmp_path: Path) -> None:
    declared = EXPERIMENT | {
        "conditions": [{**LAST, "name": "c", "translator": "used"}],
        "translators": {
            "sets": {
                "unused": {"fit": FIT},
                "gone": {42: str(tmp_path / "no.safetensors"), 7: str(tmp_path / "no.safetensors")},
                "used": {"fit": FIT},
            }
        },
    }
    run_experiment(
        parse_experiment(yaml.safe_dump(declared)),
        tmp_path / "out",
        pair=engine_pair(neox_pair()),
    )
    manifest = read_manifest(tmp_path / "out")
    assert set(manifest["translators"]) == {"used/42", "used/7"}
    # What the maps of the run were trained on, beside each row that ran.
    overlap = read_overlap(manifest)
    assert overlap is not None
    assert list(overlap.sets) == ["used"]
    found, rows = overlap.sets["used"], len(read_run(tmp_path / "out").dataset)
    assert found == overlap.together
    assert found is not None
    assert 0 < found.rows < FIT["corpus"]["generate"]["rows"]
    assert {len(found.answer_seen), len(found.names_seen), len(found.template_seen)} == {rows}
    assert [folder.name for folder in (tmp_path / "out" / "translators").iterdir()] == ["used"]


@pytest.mark.slow
def test_a_private_experiment_from_its_file_to_the_score_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed, hidden in (("sender", 1, 24), ("receiver", 2, 32)):
        model = tiny_neox(seed=seed, layers=2, hidden=hidden, heads=2, end_share=0)
        save_pair_folder(model, tiny_tokenizer(), tmp_path / name)
    declared = EXPERIMENT | {
        "sender": {"model": "./sender", "layer": 0},
        "receiver": {"model": "./receiver", "layer": 0},
        "translators": {"fit": FIT},
        "conditions": "private",
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(declared))
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["statebridge", *words])
        try:
            main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        assert not code, printed.err
        return printed.out

    call("run", "e.yaml", "--out", "out", "--json")
    results = read_run(tmp_path / "out")
    cells = {(cell.condition.name, cell.seed) for cell in results.cells}
    seeded = {
        "private_last",
        "private_last_shuffled",
        "private_last_matched",
        "private_last_matched_shuffled",
        "private_last_random",
    }
    single = {"question_only", "skyline", "private_last_zero", "private_last_self"}
    assert cells == {(n, s) for n in seeded for s in (42, 7)} | {(n, None) for n in single}
    assert all(cell.complete and len(cell.lanes) == 5 for cell in results.cells)
    rows = {cell.condition.name: cell.lanes for cell in results.cells}
    for own, alone in zip(rows["private_last_self"], rows["question_only"], strict=True):
        assert own.token_ids == alone.token_ids
        assert own.prediction_changed is False
        assert own.kl_from_no_inject == 0.0
    table = {line["condition"]: line for line in json.loads(call("score", "out", "--json"))}
    assert set(table) == seeded | single
    assert table["private_last"]["rows"] == [5, 5]
    shown = call("score", "out")
    assert all(name in shown for name in ("question_only", "skyline", "private_last_zero"))
