"""A run says what was asked for and does not happen as it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge import open_run
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import DatasetError
from statebridge.experiment import parse_experiment
from statebridge.report.run_card import verdict_text
from statebridge.results.read_results import read_sources
from statebridge.runs.directory import read_manifest
from tests.bridge.engine.reuse_runs import tiny_pair

PAIR = tiny_pair()
ROW = {"id": "a", "context": "Mei is in Oslo.", "question": "Where is Mei?", "answer": "Oslo"}
QUIET: dict[str, Any] = {
    "conditions": ["no_inject", "zero_replacement"],
    "decoding": {"max_new_tokens": 1},
}


def _run(out: Path, rows: list[dict[str, Any]], **changes: Any) -> tuple[str, ...]:
    file = out.parent / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fields = {
        "name": "tiny",
        "sender": {"model": "tiny-sender", "layer": 0},
        "receiver": {"model": "tiny-receiver", "layer": 0},
        "dataset": {"path": str(file)},
        **QUIET,
        **changes,
    }
    shown: list[str] = []
    experiment = parse_experiment(json.dumps(fields))
    summary = run_experiment(experiment, out, pair=PAIR, show_caution=shown.append)
    assert summary.cautions == tuple(shown)
    return summary.cautions


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        ([ROW], {"limit": 600}, "limit is 600, and the dataset has 1 rows: all of them run."),
        (
            [ROW | {"facts": ["x"]}, ROW | {"id": "b", "facts": {}}],
            {},
            "dataset: field 'facts' holds lists or objects in 1 rows, which are not read",
        ),
        (
            [ROW | {"answer": "!!!"}, ROW | {"id": "b"}],
            {},
            "1 of 2 gold answers hold nothing that a text can be compared with (no letter or",
        ),
        (
            [ROW | {"scoring": "first_span", "answer": "St. Louis"}],
            {},
            "1 of 1 gold answers are wrong by their own row's scoring convention: a.",
        ),
        ([ROW], {"prompts": {"task": "Q: {question}\nA:"}}, "prompts.task has no {context}"),
        (
            [ROW],
            {"prompts": {"task": "{context} {question} A: "}},
            "prompts.task ends in white space.",
        ),
    ],
)
def test_what_does_not_happen_as_it_reads_is_said(
    rows: list[dict[str, Any]], changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (caution,) = _run(tmp_path / "run", rows, **changes)
    assert caution.startswith(words)
    # Wherever the results are looked at.
    assert (read_manifest(tmp_path / "run") or {})["cautions"] == [caution]
    assert open_run(tmp_path / "run").cautions == (caution,)
    assert f"caution: {caution}" in verdict_text(read_sources([tmp_path / "run"]))


def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path) -> None:
    assert _run(tmp_path / "run", [ROW | {"hops": 2, "empty": []}]) == ()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW | {"scoring": "exactly"}, "exactly"),
        (ROW | {"scoring": "first_named"}, "options"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_before_they_run(
    row: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=words):
        _run(tmp_path / "run", [row])
    assert not (tmp_path / "run").exists()
