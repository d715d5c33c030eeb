"""A remote run gives what a run directory gives: the same bytes, rows, scores, comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import NotFoundError, ResultError, RunFailedError
from statebridge.records import LaneResult, ResultSet
from statebridge.results.run_results import read_run
from statebridge.run import Run
from statebridge_client import Client, RemoteRun
from tests.server.conftest import tiny_experiment
from tests.server.test_jobs import LONG


def without_source(results: ResultSet) -> list[Any]:
    return [
        (cell.name, cell.lanes, cell.complete, cell.condition, cell.decoding)
        for cell in results.cells
    ]


def test_the_rows_are_those_of_a_local_run(finished: RemoteRun, local: Run) -> None:
    remote, here = finished.results(), local.results()
    assert without_source(remote) == without_source(here)
    assert remote.dataset == here.dataset
    assert list(finished.rows()) == list(local.rows())
    assert all(isinstance(row, LaneResult) for row in finished.rows())
    assert any(row.prediction_changed for row in finished.rows())


def test_what_is_downloaded_is_a_run_directory(
    finished: RemoteRun, local: Run, tmp_path: Path
) -> None:
    out = finished.download(tmp_path / "run")
    for name in ("rows.jsonl", "dataset.jsonl"):
        assert (out / name).read_bytes() == (local.path / name).read_bytes()
    assert without_source(read_run(out)) == without_source(local.results())
    assert finished.download(out) == out  # nothing is missing; nothing changes
    assert (out / "rows.jsonl").read_bytes() == (local.path / "rows.jsonl").read_bytes()


def test_a_download_goes_on_where_it_was_cut(
    finished: RemoteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statebridge_client.download.PAGE", 40)
    out = finished.download(tmp_path / "run")
    whole = (out / "rows.jsonl").read_bytes()
    assert whole.count(b"\n") == finished.status().rows_total > 90
    (out / "rows.jsonl").write_bytes(whole[: len(whole) // 2])
    finished.download(out)
    assert (out / "rows.jsonl").read_bytes() == whole


def test_a_directory_of_another_run_is_left_alone(
    finished: RemoteRun, local: Run, tmp_path: Path
) -> None:
    before = (local.path / "rows.jsonl").read_bytes()
    with pytest.raises(ResultError, match="holds another run; give a new directory"):
        finished.download(local.path)
    assert (local.path / "rows.jsonl").read_bytes() == before
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ResultError, match=r"holds thesis\.tex"):
        finished.download(tmp_path)


def test_scores_and_comparison_are_equal_and_of_the_same_types(
    finished: RemoteRun, local: Run
) -> None:
    assert finished.scores() == local.scores()
    for choice in (
        {},
        {"baseline": ["no_inject", "nl_relay"], "metrics": ["gold_logprob"], "by": ["hops"]},
        {"mode": "published", "metrics": ["word_boundary_contains"]},
        {"metrics": ["word_boundary_contains"], "margins": [0.2]},
    ):
        assert finished.compare(**choice) == local.compare(**choice)


@pytest.mark.slow
def test_report(finished: RemoteRun, local: Run, tmp_path: Path) -> None:
    page = finished.report(tmp_path / "new" / "page.html")
    assert page == tmp_path / "new" / "page.html"
    assert local.report(tmp_path) == tmp_path / "report.html"
    for path in (page, tmp_path / "report.html"):
        assert "<html" in path.read_text("utf-8")


def test_export(finished: RemoteRun, local: Run, tmp_path: Path) -> None:
    there = finished.export(tmp_path / "there", "csv")
    here = local.export(tmp_path / "here", "csv")
    assert [p.name for p in there] == ["conditions.csv", "rows.csv"]
    assert [p.read_bytes() for p in there] == [p.read_bytes() for p in here]
    published = {path.name for path in finished.export(tmp_path / "published")}
    assert published == {path.name for path in local.export(tmp_path / "own")}
    assert "h1_replace_fwd_seed42.json" in published


def test_rows_are_chosen_and_made_into_tables(finished: RemoteRun, local: Run) -> None:
    for run in (finished, local):
        rows = run.rows(conditions=["replace"], seeds=[42])
        assert len(rows) == 6
        frame = rows.to_pandas()
        assert list(frame["prediction"]) == [row.prediction for row in rows]
        assert set(frame["condition"]) == {"replace"}
        assert rows.to_arrow().num_rows == 6
        with pytest.raises(ResultError, match=r"'replac' is not in the results.*did you mean"):
            run.rows(conditions=["replac"])
        with pytest.raises(ResultError, match="seeds: 7 is not in the results; known: 42, 123"):
            run.rows(seeds=[7])
    assert finished.rows().to_pandas().equals(local.rows().to_pandas())


def test_a_run_is_found_again(client: Client, finished: RemoteRun) -> None:
    again = client.get(finished.id)
    assert again.name == "tiny"
    status = again.status()
    assert (status.state, status.rows_done) == ("done", status.rows_total)
    listed = list(client.experiments(states=["done"], limit=1000))
    assert finished.id in [item.id for item in listed]
    assert len(list(client.experiments(limit=1))) == 1
    with pytest.raises(NotFoundError, match=r"no such experiment.*\(request [0-9a-f]{16}\)"):
        client.get("exp_nowhere")
    with pytest.raises(NotFoundError):
        client.get("../../etc/passwd")


def test_cancel_wait_resume_delete(client: Client) -> None:
    run = client.submit(tiny_experiment(rows=20, **LONG))
    events = run.events()
    for event in events:
        if event.stage == "run" and event.done > 0:
            break
    run.cancel()
    with pytest.raises(RunFailedError, match=r"was cancelled after \d+ of 100 rows"):
        run.wait(progress=False)
    partial = run.rows()
    assert 0 < len(partial) < 100
    assert not all(cell.complete for cell in partial.results.cells)
    run.resume()
    assert run.wait(progress=False) is run
    assert len(run.rows()) == 100
    # From the first event on: the end that was none does not end the stream.
    states = [event.state for event in run.events() if event.kind == "state"]
    assert states[0] == "queued"
    assert states[-1] == "done"
    assert "cancelled" in states
    run.delete()
    with pytest.raises(NotFoundError):
        run.status()


def test_an_experiment_that_fails_says_why(client: Client) -> None:
    prompts = {"task": "{question}" + " word" * 600}
    run = client.submit(
        tiny_experiment(
            prompts=prompts,
            decoding={"max_prompt_tokens": 4096},
            **{key: value for key, value in LONG.items() if key != "decoding"},
        )
    )
    with pytest.raises(RunFailedError, match=rf"experiment {run.id} \(tiny\) failed: .*context"):
        run.wait(progress=False)
    with pytest.raises(ResultError, match="no row is committed yet; the experiment is failed"):
        run.rows()


def test_predictions_made_elsewhere_are_scored(client: Client) -> None:
    scores = client.score(
        [
            {"row_id": "a", "gold": "Oslo", "aliases": ["in oslo"], "prediction": "In Oslo."},
            {"row_id": "b", "gold": "Lima", "prediction": None},
        ]
    )
    (condition,) = scores.conditions
    assert condition.means["word_boundary_contains"].mean == 1.0
    assert condition.missing_predictions == 1
    assert condition.means["squad_exact_match"].mean == 1.0
    assert scores.rows[0].scores["word_boundary_contains"] is True
    assert scores.rows[0].scores["squad_f1"] == 1.0
    assert scores.rows[0].scores["exact_match"] is False
    assert scores.rows[1].scores["word_boundary_contains"] is None


def test_the_pairs_are_listed(client: Client) -> None:
    (tiny, _) = client.pairs()
    assert (tiny.name, tiny.sender, tiny.receiver) == ("tiny", "sender", "receiver")
    assert tiny.state == "loaded"
