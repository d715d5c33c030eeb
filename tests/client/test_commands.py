"""The commands on a tiny saved pair, as a person or a script would call them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.commands import main
from statebridge.papers.linear_translation.result_reader import read_published
from statebridge.results.run_results import read_run
from statebridge.translators import load_translator
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "./sender", "layer": 0.67},
    "receiver": {"model": "./receiver", "layer": 0.67},
    "dataset": {"generate": {"rows": 6, "hops": [2], "distractors": 0}},
    "translators": {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 30, "seed": 9}}}},
    "conditions": ["no_inject", "b_to_b_self_inject", "replace", "same_norm_random"],
    "seeds": [42, 123],
    "decoding": {"max_new_tokens": 6, "relay_max_new_tokens": 6, "max_prompt_tokens": 400},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pair")
    for name, seed, layers, hidden, heads in (
        ("sender", 1, 3, 24, 3),
        ("receiver", 2, 4, 32, 4),
    ):
        model = tiny_neox(seed=seed, layers=layers, hidden=hidden, heads=heads)
        save_pair_folder(model, tiny_tokenizer(), made / name)
    (made / "e.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return made


class Output:
    """Printed text of a call, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str | Path) -> Output:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["statebridge", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return Output(code, output.out, output.err)

    return run


@pytest.fixture(scope="module")
def ran(folder: Path) -> Path:
    """The run directory of the experiment, for tests that only read it."""
    from statebridge.engine.run_experiment import run_experiment
    from statebridge.experiment import load_experiment

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_experiment(load_experiment(Path("e.yaml")), folder / "ran")
    return folder / "ran"


@pytest.mark.slow
def test_run_scores_and_goes_on(call: Any, ran: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = call("run", "e.yaml", "--out", out, "--json")
    assert first.code == 0, first.err
    answer = json.loads(first.out)
    assert (answer["lanes"], answer["resumed_lanes"]) == (6 * 6, 0)
    content = (out / "rows.jsonl").read_bytes()
    assert content == (ran / "rows.jsonl").read_bytes()
    again = call("run", "e.yaml", "--out", out)
    assert again.code == 0
    assert "36 lanes (36 were there already)" in again.out
    assert (out / "rows.jsonl").read_bytes() == content
    assert "b_to_b_self_inject" in call("score", out).out
    scores = json.loads(call("score", out, "--json").out)
    assert {score["condition"] for score in scores} == {*EXPERIMENT["conditions"]}


@pytest.mark.slow
def test_the_plain_path_gives_the_same_tokens(call: Any, ran: Path, tmp_path: Path) -> None:
    assert call("run", "e.yaml", "--out", tmp_path / "plain", "--path", "plain").code == 0
    shared, plain = read_run(ran), read_run(tmp_path / "plain")
    for cell in shared.cells:
        other = plain.cell(cell.condition.name, cell.seed)
        assert other is not None
        assert [row.token_ids for row in cell.lanes] == [row.token_ids for row in other.lanes]


@pytest.mark.slow
def test_changes_are_marked_against_the_baseline(ran: Path) -> None:
    results = read_run(ran)
    own, replaced = results.cell("b_to_b_self_inject"), results.cell("replace", 42)
    assert own is not None
    assert replaced is not None
    assert [row.prediction_changed for row in own.lanes] == [False] * 6
    assert any(row.prediction_changed for row in replaced.lanes)
    for row in replaced.lanes:
        assert row.prediction_changed == (row.first_changed_token is not None)


@pytest.mark.slow
def test_measuring_without_text(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("run", "e.yaml", "--out", out, "--no-decode").code == 0
    for cell in read_run(out).cells:
        for row in cell.lanes:
            assert row.prediction is None
            assert row.gold_logprob is not None
            assert row.gold_logprob < 0
    refused = call("export", out, "--out", tmp_path / "published")
    assert refused.code == 2
    assert "no prediction" in refused.err


@pytest.mark.slow
def test_export_reads_back(call: Any, ran: Path, tmp_path: Path) -> None:
    out, published = ran, tmp_path / "published"
    assert "6 files written" in call("export", out, "--out", published).out
    ours, theirs = read_run(out), read_published(published)
    for cell in ours.cells:
        other = theirs.cell(cell.condition.name, cell.seed)
        assert other is not None
        for mine, written in zip(cell.lanes, other.lanes, strict=True):
            assert (written.row_id, written.prediction) == (mine.row_id, mine.prediction)
            if cell.condition.name != "no_inject":
                assert written.receiver_norm_mean == mine.receiver_norm_mean
    for name in ("csv", "parquet", "latex", "markdown"):
        assert call("export", out, "--out", tmp_path / name, "--format", name).code == 0
    assert call("export", out, "--out", published, "--format", "cvs").code == 2


@pytest.mark.slow
def test_compare_validate_audit_and_report(call: Any, ran: Path, tmp_path: Path) -> None:
    out = ran
    compared = json.loads(call("compare", out, "--json").out)
    assert {d["condition"] for d in compared["differences"]} >= {"replace", "same_norm_random"}
    assert "own_mean" not in call("compare", out, "--by", "hops").out
    checked = json.loads(call("validate", out, "--json").out)
    assert checked["expected_cells"] == 6
    assert call("validate", out, "--expect", "published").code == 1
    assert "rows:" in call("audit", out).out
    report = call("report", out, "--out", tmp_path / "report")
    assert report.code == 0, report.err
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


def test_a_margin_that_is_none_is_one_line(call: Any, tmp_path: Path) -> None:
    for margin in ("-1", "0", "nan", "inf"):
        output = call("compare", tmp_path, "--margin", margin)
        assert output.code == 2
        assert output.err.startswith(f"error: --margin {margin}: ")
        assert output.err.count("\n") == 1


@pytest.mark.slow
def test_fit_writes_translators_with_cards(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "fitted"
    output = call("fit", "e.yaml", "--out", out, "--sender-layers", "0,1", "--json")
    assert output.code == 0, output.err
    answer = json.loads(output.out)
    assert len(answer["layers"]) == 2
    for seed in (42, 123):
        card = load_translator(out / f"seed{seed}.safetensors").card
        assert card is not None
        assert card.stitched is not None
        assert card.stitched.receiver < card.stitched.mean_vector
        assert (card.width_in, card.width_out) == (24, 32)
    # Each seed saw its own nine tenths of the passages.
    weights = [(out / f"seed{seed}.safetensors").read_bytes() for seed in (42, 123)]
    assert weights[0] != weights[1]


def test_a_folder_for_maps_is_tried_before_the_fit(call: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = call("fit", "e.yaml", "--out", tmp_path / "file" / "maps")
    assert output.code == 3
    assert f"{tmp_path / 'file' / 'maps'}: cannot be written: Not a directory" in output.err
    assert "loading the pair" not in output.err


@pytest.mark.slow
def test_fitted_files_can_be_named(call: Any, ran: Path, tmp_path: Path) -> None:
    assert call("fit", "e.yaml", "--out", tmp_path / "fitted").code == 0
    declared = {seed: str(tmp_path / "fitted" / f"seed{seed}.safetensors") for seed in (42, 123)}
    change = f"translators={yaml.safe_dump(declared, default_flow_style=True)}"
    named = tmp_path / "named"
    assert call("run", "e.yaml", "--out", named, "--set", change).code == 0
    assert (named / "rows.jsonl").read_bytes() == (ran / "rows.jsonl").read_bytes()


def test_doctor_says_what_is_ready(call: Any, tmp_path: Path) -> None:
    output = call("doctor", "e.yaml", "--json")
    assert output.code == 0, output.out
    checks = {check["what"]: check for check in json.loads(output.out)}
    assert set(checks) == {
        *("names", "dataset", "sender", "receiver", "device", "layers"),
        *("prompts", "translators", "disk", "memory", "time"),
    }
    assert checks["layers"]["detail"] == "sender gpt_neox.layers.2, receiver gpt_neox.layers.2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "missing", "words"),
    [
        ("dataset={path: nowhere.jsonl}", "dataset", "no such file"),
        ("sender.model=EleutherAI/pythia-160m", "sender", "hf download EleutherAI/pythia-160m"),
        ("receiver.model=./nowhere", "receiver", "save_pretrained"),
        ("receiver.layer=9", "layers", "out of range"),
        ("execution.device=cuda", "device", "no CUDA"),
        ("decoding={max_new_tokens: 600}", "prompts", "context window"),
        ("translators={42: nowhere.pt, 123: nowhere.pt}", "translators", "no such file"),
    ],
)
def test_doctor_names_what_is_missing(call: Any, change: str, missing: str, words: str) -> None:
    import torch

    if "cuda" in change and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    output = call("doctor", "e.yaml", "--set", change)
    assert output.code == 1
    lines = [line for line in output.out.splitlines() if line.startswith("MISSING")]
    assert len(lines) == 1, output.out
    assert lines[0].split()[1] == missing
    assert words in lines[0]


def test_the_doctor_says_all_mistakes_of_a_file_at_once(call: Any) -> None:
    changes = ("limit=0", "seeds=x", "decoding.max_new_tokens=nan")
    output = call("doctor", "e.yaml", *(word for change in changes for word in ("--set", change)))
    assert output.code == 2
    lines = output.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error"] * len(changes)
    assert all(any(change.split("=")[0] in line for line in lines) for change in changes)


def test_the_schema_is_json(call: Any) -> None:
    assert json.loads(call("schema").out)["title"] == "Experiment"


def test_generated_rows_are_the_same_everywhere(call: Any, tmp_path: Path) -> None:
    first = call("dataset", "generate", "--rows", "12", "--out", tmp_path / "a.jsonl").out
    second = call("dataset", "generate", "--rows", "12", "--out", tmp_path / "b.jsonl").out
    assert first.splitlines()[1] == second.splitlines()[1]
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
