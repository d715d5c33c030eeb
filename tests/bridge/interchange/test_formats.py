"""Rows in the formats of other programs, read back as these programs read them."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from statebridge.errors import EnvironmentFault, ResultError
from statebridge.records import Turn
from statebridge.run import Run
from tests.bridge.results.run_folder import lane, manifest, write_run

CELLS = ("no_inject", "question_only", "replace/seed42", "shuffled_translation/seed42", "nl_relay")
# What lm_eval 0.4.13 wrote for a task of three rows, without the metric.
SAMPLE_FIELDS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}
RESULT_FIELDS = {
    *("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better"),
    *("n-samples", "config", "git_hash", "date", "transformers_version", "task_hashes"),
    *("model_source", "model_name", "model_name_sanitized"),
}


def made(path: Path, tokens: tuple[int, ...] | None = (1, 2), **more: Any) -> Run:
    """Return a run of three rows under five cells; the receiver always writes `1 2`."""
    lanes = [
        (cell, lane(row_id, tokens, gold_logprob=-1.5))
        for cell in CELLS[:4]
        for row_id in ("b", "a", "c")
    ]
    turn = (Turn("sender", "Lima it is", 4, 3),)
    lanes += [
        ("nl_relay", lane(row_id, tokens, relay="Lima it is", turns=turn, gold_logprob=-1.0))
        for row_id in ("b", "a", "c")
    ]
    declared = manifest(
        [15],
        CELLS,
        created_at="2026-11-30T19:30:36+00:00",
        experiment={"name": "my run", "direction": "fwd", "decoding": {"max_new_tokens": 4}},
        pair={"sender": {"model": "/home/ada/s"}, "receiver": {"model": "owner/r"}},
        versions={"transformers": "5.0"},
        **more,
    )
    return Run(write_run(path, [lanes], made=declared))


def test_sample_files_have_the_harness_fields(tmp_path: Path) -> None:
    files = made(tmp_path / "run").export(tmp_path / "out", "lm-eval")
    assert {file.parent for file in files} == {tmp_path / "out" / "owner__r"}
    assert [file.name for file in files[-2:]] == [
        "samples_my-run.nl_relay_2026-11-30T19-30-36+00-00.jsonl",
        "results_2026-11-30T19-30-36+00-00.json",
    ]
    lines = [json.loads(line) for line in files[0].read_text("utf-8").splitlines()]
    first = lines[0]
    assert set(first) == SAMPLE_FIELDS | set(first["metrics"])
    assert first["metrics"][0] == "word_boundary_contains"
    assert (first["word_boundary_contains"], first["gold_logprob"]) == (0.0, -1.5)
    assert (
        first["arguments"]["gen_args_0"]["arg_0"] == "Context: Bob in Lima.\nQ: Where is Bob?\nA:"
    )
    assert (first["target"], first["resps"], first["filtered_resps"]) == (
        "Lima",
        [["1 2"]],
        ["1 2"],
    )
    assert first["target_hash"] == sha256(b"Lima").hexdigest()
    assert [line["doc_id"] for line in lines] == [0, 1, 2]
    assert lines[1]["doc"]["hops"] == 3


def test_result_file_has_means_and_metadata(tmp_path: Path) -> None:
    files = made(tmp_path / "run").export(tmp_path / "out", "lm-eval")
    found = json.loads(files[-1].read_text("utf-8"))
    assert set(found) == RESULT_FIELDS
    task = "my-run.replace.seed42"
    assert found["results"][task]["gold_logprob,none"] == -1.5
    assert found["results"][task]["gold_logprob_stderr,none"] == 0.0
    assert found["n-samples"][task] == {"original": 3, "effective": 3}
    facts = found["configs"][task]["metadata"]
    assert facts["condition"]["name"] == "replace"
    assert facts["seed"] == 42
    assert (facts["role"], facts["floor"]) == ("channel", "no_inject")
    assert (facts["controls"], facts["primary_metric"]) == (
        ["shuffled_translation"],
        "word_boundary_contains",
    )
    assert "/home" not in files[-1].read_text("utf-8")


def test_prompts_are_those_that_the_receiver_read(tmp_path: Path) -> None:
    files = made(tmp_path / "run").export(tmp_path / "out", "lm-eval")
    prompts = [
        json.loads(file.read_text("utf-8").splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
        for file in (files[1], files[4])
    ]
    assert prompts == ["Q: Where is Bob?\nA:", "Lima it is\nQ: Where is Bob?\nA:"]


def test_sample_files_need_texts_and_one_run(tmp_path: Path) -> None:
    silent = made(tmp_path / "silent", tokens=None)
    with pytest.raises(ResultError, match="no_inject has rows without a text"):
        silent.export(tmp_path / "out", "lm-eval")
    run = made(tmp_path / "run")
    run.results().manifest = None  # as where several runs are read together
    with pytest.raises(ResultError, match="exactly one"):
        run.export(tmp_path / "out", "lm-eval")


def test_dataset_folder_holds_all_lanes_and_a_card(tmp_path: Path) -> None:
    made(tmp_path / "run", cautions=["Mind the gap."]).export(tmp_path / "out", "datasets")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    configs = yaml.safe_load(card.split("---")[1])["configs"]
    assert [config["data_files"] for config in configs] == ["lanes.parquet", "conditions.parquet"]
    lanes = pq.read_table(tmp_path / "out" / "lanes.parquet").to_pylist()
    assert len(lanes) == 15
    assert (lanes[6]["condition"], lanes[6]["seed"], lanes[6]["gold"]) == ("replace", 42, "Lima")
    assert "s to owner/r" in card
    assert "Mind the gap." in card


def test_load_dataset_reads_the_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    made(tmp_path / "run").export(tmp_path / "out", "datasets")
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert read["train"].num_rows == 15
    assert read["train"][0]["prediction"] == "1 2"


def test_inspect_reads_its_logs_back(tmp_path: Path) -> None:
    logs = pytest.importorskip("inspect_ai.log", reason="inspect_ai is not installed")
    files = made(tmp_path / "run").export(tmp_path / "out", "inspect")
    assert len(files) == 5
    assert [log.task for log in logs.list_eval_logs(str(tmp_path / "out"))].count(
        "my-run.nl-relay"
    ) == 1
    log = logs.read_eval_log(str(files[2]))
    assert (log.status, log.eval.task_args) == ("success", {"condition": "replace", "seed": 42})
    assert log.eval.metadata["controls"] == ["shuffled_translation"]
    assert log.results.scores[0].metrics["mean"].value == 0.0
    sample = next(sample for sample in log.samples if sample.id == "b")  # sorted by id
    assert (sample.id, sample.target, sample.output.completion) == ("b", "Lima", "1 2")
    assert sample.scores["word_boundary_contains"].value == 0.0
    assert sample.metadata["measures"]["gold_logprob"] == -1.5


def test_inspect_logs_name_the_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'statebridge\[inspect\]'"):
        made(tmp_path / "run").export(tmp_path / "out", "inspect")
