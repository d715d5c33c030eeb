"""`statebridge.run`, `statebridge.open_run`, and the `Run` that they return."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import statebridge
from statebridge.errors import ExperimentError, InputError, ResultError
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An experiment that needs no translator, over a tiny pair in a folder."""
    folder = tmp_path_factory.mktemp("pair")
    for name, seed, layers in (("sender", 1, 2), ("receiver", 2, 3)):
        model = tiny_neox(seed=seed, layers=layers, hidden=16, heads=2)
        save_pair_folder(model, tiny_tokenizer(), folder / name)
    return {
        "name": "<tiny>",
        "sender": {"model": str(folder / "sender"), "layer": 1},
        "receiver": {"model": str(folder / "receiver"), "layer": 1},
        "dataset": {"generate": {"rows": 5, "seed": 3}},
        "conditions": ["no_inject", "b_to_b_self_inject", "nl_relay"],
        "decoding": {"max_new_tokens": 4, "relay_max_new_tokens": 4, "max_prompt_tokens": 400},
        "execution": {"device": "cpu"},
    }


@pytest.fixture(scope="module")
def done(declared: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> statebridge.Run:
    return statebridge.run(declared, tmp_path_factory.mktemp("out") / "first", progress=False)


def test_one_number_takes_one_line(done: statebridge.Run) -> None:
    """The example of the documentation: a score of a condition, from a path."""
    assert statebridge.open_run(done.path).score("no_inject") == 0.0
    assert statebridge.open_run(done.path).score("no_inject", "gold_logprob") < 0


def test_a_run_says_what_it_holds(done: statebridge.Run) -> None:
    assert repr(done) == f"<Run {done.path}: <tiny>, 15 of 15 lanes>"
    assert (done.name, done.state, done.complete) == ("<tiny>", "done", True)
    assert done.progress == (15, 15)
    assert done.positive_control is None
    assert done.manifest is not None
    assert done.experiment.name == "<tiny>"
    assert done.experiment.seeds == (42, 123, 456)


def test_rows_scores_and_comparison(done: statebridge.Run) -> None:
    assert len(done.rows(conditions=["nl_relay"])) == 5
    frame = done.rows().to_pandas()
    assert set(frame["condition"]) == {"no_inject", "b_to_b_self_inject", "nl_relay"}
    scores = {score.condition: score for score in done.scores()}
    assert scores["nl_relay"].means["gold_logprob"].mean == done.score("nl_relay", "gold_logprob")
    (difference, *_) = done.compare("no_inject", metrics=["gold_logprob"]).differences
    assert difference.baseline == "no_inject"
    assert "nl_relay" in done.verdict()
    assert done.validate().passed


def test_a_wrong_name_is_answered_with_the_right_ones(done: statebridge.Run) -> None:
    with pytest.raises(ResultError, match=r"'nl_rely' has no rows; did you mean nl_relay"):
        done.score("nl_rely")
    with pytest.raises(ResultError, match="unknown measure 'gold_logprop'; did you mean gold"):
        done.score("nl_relay", "gold_logprop")
    with pytest.raises(ResultError, match="no row has a value of task_correct"):
        done.score("nl_relay", "task_correct")
    with pytest.raises(ResultError, match=r"^by domian: no row has it; did you mean domain\?"):
        done.compare(by=["domian"])
    with pytest.raises(InputError, match=r"format csw: unknown; did you mean csv"):
        done.export(done.path / "x", "csw")  # type: ignore[arg-type]


def test_a_notebook_shows_scores_and_escapes_names(done: statebridge.Run) -> None:
    shown = done._repr_html_()
    assert "&lt;tiny&gt;" in shown
    assert "<tiny>" not in shown
    assert "sender (layer 1 of 2) to receiver (layer 1 of 3)" in shown
    assert "15 of 15 lanes in 3 cells" in shown
    assert shown.count("<tr>") == 4


@pytest.mark.slow
def test_report_and_tables_are_written(done: statebridge.Run, tmp_path: Path) -> None:
    assert done.report(tmp_path) == tmp_path / "report.html"
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")
    names = [path.name for path in done.export(tmp_path / "tables", "csv")]
    assert names == ["conditions.csv", "rows.csv"]
    assert [path.suffix for path in done.export(tmp_path / "tables", "latex")] == [".tex"]


def test_published_files_open_as_a_run(done: statebridge.Run, tmp_path: Path) -> None:
    done.export(tmp_path)
    published = statebridge.open_run(tmp_path)
    assert published.score("nl_relay") == done.score("nl_relay")
    assert (published.name, published.manifest, published.complete) == (None, None, True)
    assert "3 cells, 15 rows" in published._repr_html_()
    with pytest.raises(ResultError, match="has no experiment; only one run directory"):
        _ = published.experiment


def test_the_same_call_goes_on(declared: dict[str, Any], done: statebridge.Run) -> None:
    before = (done.path / "rows.jsonl").read_bytes()
    again = statebridge.run(declared, done.path, progress=False)
    assert (again.path / "rows.jsonl").read_bytes() == before


def test_a_file_and_an_experiment_are_the_same(
    declared: dict[str, Any], done: statebridge.Run, tmp_path: Path
) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump(declared))
    stages: list[str] = []

    def note(stage: str, *_: object) -> None:
        stages.append(stage)

    two = {"limit": 2, "conditions": ["no_inject"]}
    from_file = statebridge.run(file, tmp_path / "file", two, progress=note)
    loaded = statebridge.load_experiment(file)
    from_object = statebridge.run(loaded, tmp_path / "object", two, progress=False)
    assert {"load", "run"} <= set(stages)
    assert list(from_file.rows()) == list(from_object.rows())
    assert [row.token_ids for row in from_file.rows()] == [
        row.token_ids for row in list(done.rows(conditions=["no_inject"]))[:2]
    ]
    with pytest.raises(ExperimentError, match="its fields are not JSON"):
        statebridge.run({"name": object()}, tmp_path / "none")


def test_rows_that_come_later_are_seen(done: statebridge.Run, tmp_path: Path) -> None:
    for name in ("manifest.json", "dataset.jsonl"):
        (tmp_path / name).write_bytes((done.path / name).read_bytes())
    run = statebridge.open_run(tmp_path)
    assert (run.progress, run.complete, run.state) == ((0, 15), False, "unfinished")
    assert run.scores() == []
    assert "0 of 15 lanes" in run._repr_html_()
    (tmp_path / "rows.jsonl").write_bytes((done.path / "rows.jsonl").read_bytes())
    assert run.progress == (15, 15)
    assert run.results() is run.results()


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError):
        statebridge.open_run(tmp_path / "nowhere")
    with pytest.raises(ResultError, match="no source given"):
        statebridge.open_run()


def test_the_verb_survives_the_module_of_its_name() -> None:
    code = (
        "import statebridge.run, statebridge; from statebridge.run import Run;"
        "print(callable(statebridge.run), statebridge.run.__name__, statebridge.Run is Run)"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert made.stdout.split() == ["True", "run", "True"]


def test_the_module_runs_as_the_command() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "statebridge", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert made.stdout == f"statebridge {statebridge.__version__}\n"
