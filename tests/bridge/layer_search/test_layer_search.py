"""A layer search on a tiny pair: its runs, its resumption, what it shares and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.layer_search.search import run_layer_search
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import DatasetError, ExperimentError, PairError, ResultError
from statebridge.models.pair import Pair
from statebridge.report import write_layer_search_report
from statebridge.report.layer_search import choice_headline
from statebridge.results.layer_search import LANES, PLAN, LayerSearchResults, read_layer_search
from statebridge.results.run_results import read_run
from statebridge.stats import Settings
from statebridge.stats.held_out_choice import choose_held_out
from tests.bridge.layer_search.declared import EXPERIMENT, LAYERS
from tests.bridge.layer_search.tiny_layer_search import carried_out, of_tiny_pair, tiny_pair

QUICK = Settings(stratify_by=())
# The floor's lanes are taken from another run, so the others meet in other batches: float32
# sums over a few hundred terms then differ by some 1e-6 of their size.
CLOSE = {"rel": 1e-4, "abs": 1e-4}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("layer_search") / "out"
    summary = carried_out(out)
    # Of 28 rows: question_only and skyline at three later pairs of layers, and random states at
    # the second sender layer, 2 seeds at 2 receiver layers.
    assert (summary.runs, summary.resumed_lanes) == (4, 0)
    assert summary.reused_lanes == 28 * (2 * 3 + 2 * 2)
    return out


@pytest.fixture(scope="module")
def results(searched: Path) -> LayerSearchResults:
    return read_layer_search(searched)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("rows.jsonl"))
    }


@pytest.mark.slow
def test_noted_lanes_go_when_the_search_has_ended(searched: Path) -> None:
    assert not (searched / LANES).exists()


def test_there_is_a_run_for_each_pair_of_layers(results: LayerSearchResults) -> None:
    assert tuple(results.runs) == LAYERS
    assert [run.directory for run in results.plan.runs] == [
        "s00-r01", "s00-r03", "s02-r01", "s02-r03",
    ]  # fmt: skip
    for layers, run in results.runs.items():
        assert run.manifest is not None
        assert run.manifest["experiment"]["layer_search"] is None
        sides = run.manifest["pair"]
        assert (sides["sender"]["layer"], sides["receiver"]["layer"]) == layers


@pytest.mark.slow
def test_each_run_is_what_it_would_be_alone(results: LayerSearchResults, tmp_path: Path) -> None:
    pair, experiment = tiny_pair(), of_tiny_pair()
    at = Pair(pair.sender.at_layer(2), pair.receiver.at_layer(3))
    sides = {
        side: getattr(experiment, side).model_copy(update={"layer": layer})
        for side, layer in (("sender", 2), ("receiver", 3))
    }
    run_experiment(
        experiment.model_copy(update={**sides, "layer_search": None}), tmp_path / "alone", pair=at
    )
    alone = read_run(tmp_path / "alone")
    assert len(alone.cells) == len(results.runs[2, 3].cells)
    for cell in alone.cells:
        other = results.runs[2, 3].cell(cell.condition.name, cell.seed)
        assert other is not None
        assert [row.row_id for row in cell.lanes] == [row.row_id for row in other.lanes]
        assert [row.gold_logprob for row in other.lanes] == pytest.approx(
            [row.gold_logprob for row in cell.lanes], **CLOSE
        )


class _KilledError(Exception):
    pass


@pytest.mark.slow
def test_a_killed_layer_search_goes_on_to_the_same_bytes(searched: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def stop(stage: str, done: int, _total: int) -> None:
        seen.append((stage, done))
        # In the middle of the third run.
        if ("layer_search", 2) in seen and stage == "run" and done > 0:
            raise _KilledError

    with pytest.raises(_KilledError):
        carried_out(tmp_path / "killed", stop)
    assert not (tmp_path / "killed" / "s02-r03").exists()
    with pytest.raises(ResultError, match="start `statebridge layer-search` again to go on"):
        read_layer_search(tmp_path / "killed")
    summary = carried_out(tmp_path / "killed")
    assert 0 < summary.resumed_lanes < summary.lanes
    assert _bytes(tmp_path / "killed") == _bytes(searched)


def test_the_report_says_what_was_chosen_and_what_holds(
    results: LayerSearchResults, tmp_path: Path
) -> None:
    files = write_layer_search_report(results, tmp_path, settings=QUICK, figures=False)
    assert [path.name for path in files] == ["report.html", "report.md", "cells.csv"]
    markdown = (tmp_path / "report.md").read_text()
    split = results.plan.split
    assert f"on {len(split.choosing)} of the 28 rows" in markdown
    assert f"On the {len(split.reporting)} rows that had no part in the choice" in markdown
    assert "2 of 2 seeds choose this cell" in markdown or "of 2 seeds choose" in markdown
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    assert len(lines) == 1 + len(LAYERS) * 5
    assert sum(",true,true," in line for line in lines) == 1
    # Half of a random map's output is below the question alone, so that nothing is chosen.
    assert "No cell is above its floor (question_only): all 8 are at or below it" in markdown
    assert "Chosen:" not in (tmp_path / "report.html").read_text()
    assert f"statebridge layer-search experiment.json --out {results.path}" in markdown
    assert f"statebridge report {results.path} --out report" in markdown
    # An interval of a finding is the table's, to the last digit.
    found = markdown[: markdown.index("### How firm")].replace("\\", "")
    intervals = re.findall(r"interval (\[[^]]*\])", found)
    assert intervals
    assert all(interval in markdown[markdown.index("## On the rows") :] for interval in intervals)


def test_a_cell_above_its_floor_is_chosen(results: LayerSearchResults) -> None:
    choice = choose_held_out(results, QUICK)
    above = [
        cell.model_copy(update={"choosing_mean": 0.0}) if cell.chosen else cell
        for cell in choice.cells
    ]
    assert choice_headline(choice).startswith("No cell is above its floor")
    assert choice_headline(replace(choice, cells=tuple(above))).startswith("Chosen: half from")


@pytest.mark.slow
def test_the_report_draws_the_maps_and_the_curve(
    results: LayerSearchResults, tmp_path: Path
) -> None:
    files = write_layer_search_report(results, tmp_path, settings=QUICK)
    assert {path.name for path in files if path.suffix == ".svg"} == {
        "layer_choice_gold_logprob.svg",
        "strength_curve_gold_logprob.svg",
    }
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 2


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            {"sender_layers": [0, 3]},
            "layer_search.sender_layers: layer 3 of tiny-sender is out of range",
        ),
        ({"sender_layers": [0, 3]}, "it has 3 blocks, 0 to 2"),
        ({"receiver_layers": [-5, 0]}, "layer_search.receiver_layers: layer -5 of tiny-receiver"),
        ({"receiver_layers": ["h.1", 0]}, "is not a block of tiny-receiver"),
        ({"sender_layers": [2, -1]}, "2 to 1 and -1 to 1 are the same blocks, 2 to 1"),
        ({"receiver_layers": [0.5, 2]}, "0 to 0.5 and 0 to 2 are the same blocks, 0 to 2"),
    ],
)
def test_layers_that_do_not_exist(layers: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PairError) as caught:
        carried_out(tmp_path / "out", layer_search=EXPERIMENT["layer_search"] | layers)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_split_or_scored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"of 12 rows .* each needs 10"):
        carried_out(tmp_path / "out", limit=12)
    by_task = EXPERIMENT["layer_search"] | {"choose": {"metric": "task_correct"}}
    with pytest.raises(DatasetError, match="names no scoring convention"):
        carried_out(tmp_path / "out", layer_search=by_task, decode=True)
    assert not (tmp_path / "out").exists()


def test_a_layer_search_is_no_run_and_a_run_is_no_layer_search(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="start the file with `statebridge layer-search`"):
        run_experiment(of_tiny_pair(), tmp_path / "out", pair=tiny_pair())
    with pytest.raises(ExperimentError, match="declare the layers to search"):
        run_layer_search(of_tiny_pair(layer_search=None), tmp_path / "out", pair=tiny_pair())
    assert not (tmp_path / "out").exists()


def test_a_directory_of_something_else_is_refused(searched: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ResultError, match=r"holds notes\.txt and no layer_search\.json"):
        carried_out(tmp_path)
    with pytest.raises(ResultError, match="is a file"):
        carried_out(tmp_path / "notes.txt")
    with pytest.raises(ResultError, match=r"was started with another experiment\.seeds"):
        carried_out(searched, seeds=[42])
    with pytest.raises(ResultError, match=r"no layer_search\.json"):
        read_layer_search(tmp_path)


@pytest.mark.slow
def test_a_directory_of_an_earlier_version_is_read_and_goes_on(
    searched: Path, results: LayerSearchResults, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    plan = json.loads((copy / PLAN).read_text())
    (copy / PLAN).unlink()
    plan["format"] = "statebridge.sweep.v1"
    plan["experiment"]["sweep"] = plan["experiment"].pop("layer_search")
    (copy / "sweep.json").write_text(json.dumps(plan))
    for manifest in copy.glob("*/manifest.json"):
        stated = json.loads(manifest.read_text())
        stated["experiment"]["sweep"] = stated["experiment"].pop("layer_search")
        manifest.write_text(json.dumps(stated))
    shutil.rmtree(copy / "s02-r03")
    summary = carried_out(copy)
    assert summary.resumed_lanes == summary.lanes * 3 // 4
    assert not (copy / PLAN).exists()
    assert read_layer_search(copy).plan == results.plan


def test_damaged_layer_searches_are_refused(searched: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    plan = json.loads((copy / PLAN).read_text())
    moved = plan["split"]["reporting"].pop()
    plan["split"]["choosing"].append(moved)
    (copy / PLAN).write_text(json.dumps(plan))
    with pytest.raises(ResultError, match="the split is not that of its seed"):
        read_layer_search(copy)
    (copy / PLAN).write_text("{}")
    with pytest.raises(ResultError, match="not a layer search of format"):
        read_layer_search(copy)
    (copy / PLAN).write_bytes((searched / PLAN).read_bytes())
    shutil.rmtree(copy / "s02-r01")
    shutil.copytree(searched / "s00-r01", copy / "s02-r01")
    with pytest.raises(ResultError, match=r"is a run of layers 0 and 1 .* not the one"):
        read_layer_search(copy)
