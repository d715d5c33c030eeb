"""Run directories read back as tables."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from statebridge.errors import StatebridgeError
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import LaneResult
from statebridge.results.run_results import first_difference, read_run
from statebridge.runs.directory import DATASET, MANIFEST, ROWS
from tests.bridge.results.run_folder import CELLS, ROWS_OF_DATASET, lane, manifest, write_run

BASELINE = {"a": (1, 2, 3), "b": (4, 5), "c": (6,)}
CHANGED = {"a": (1, 2, 3), "b": (4, 9), "c": (6, 7)}
SHORTER = {"a": (1, 2), "b": (8,), "c": ()}


def _groups() -> list[list[tuple[str, LaneResult]]]:
    tokens = dict(zip(CELLS, (BASELINE, CHANGED, SHORTER), strict=True))
    # Groups hold rows in the order of their lengths, not of the dataset.
    return [
        [(cell, lane(row, tokens[cell][row])) for row in group for cell in CELLS]
        for group in (("a", "c"), ("b",))
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", _groups())


def _refusal(path: Path) -> str:
    with pytest.raises(StatebridgeError) as caught:
        read_run(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_cells_and_rows_stand_in_the_order_of_plan_and_dataset(run: Path) -> None:
    results = read_run(run)
    assert [cell.name for cell in results.cells] == list(CELLS)
    assert [row.row_id for row in results.cells[0].lanes] == ["b", "a", "c"]
    assert list(results.dataset.values()) == ROWS_OF_DATASET
    assert results.manifest is not None
    cell = results.cell("replace", 7)
    assert cell is not None
    assert (cell.complete, cell.source_rows, cell.excluded_rows) == (True, 3, 0)
    assert (cell.direction, cell.dataset_sha256) == ("fwd", "0" * 64)
    assert cell.condition == CONDITIONS["replace"]
    assert cell.models["receiver"] == {"model": "r"}
    assert cell.decoding == {"max_new_tokens": 4}
    assert cell.source == run


def test_changes_are_worked_out_against_the_same_rows_baseline(run: Path) -> None:
    marks = {
        cell.name: {
            row.row_id: (row.prediction_changed, row.first_changed_token) for row in cell.lanes
        }
        for cell in read_run(run).cells
    }
    assert marks["no_inject"] == dict.fromkeys("bac", (False, None))
    assert marks["replace/seed42"] == {"b": (True, 1), "a": (False, None), "c": (True, 1)}
    assert marks["replace/seed7"] == {"b": (True, 0), "a": (True, 2), "c": (True, 0)}


def test_without_a_baseline_or_a_text_nothing_is_said_of_changes(tmp_path: Path) -> None:
    cells = CELLS[1:]
    groups = [[(cell, lane(row, (1,))) for row in "abc" for cell in cells]]
    path = write_run(tmp_path / "a", groups, made=manifest([6], cells))
    assert {row.prediction_changed for cell in read_run(path).cells for row in cell.lanes} == {None}
    groups = [[(cell, lane(row, None, gold_rank=3)) for row in "abc" for cell in CELLS]]
    cells_found = read_run(write_run(tmp_path / "b", groups)).cells
    assert {row.prediction_changed for cell in cells_found for row in cell.lanes} == {None}
    assert {row.gold_rank for cell in cells_found for row in cell.lanes} == {3}


def test_every_field_comes_back(tmp_path: Path) -> None:
    full = LaneResult(
        row_id="a",
        gold="東京",
        prediction="in\u2028東京\n",
        token_ids=(3, 4),
        prompt_len_sender=3,
        prompt_len_receiver=4,
        token_ids_match=False,
        seq_len_match=True,
        translated_norm_mean=0.1,
        receiver_norm_mean=1e-300,
        injected_norm_mean=68.7,
        donor_row_id="b",
        donor_self_fallback=False,
        relay="x\ty",
        relay_prompt_len=9,
        gold_logprob=-3.3333333333333335,
        gold_token_count=2,
        gold_rank=11,
        kl_from_no_inject=0.0,
    )
    cells = ["replace/seed42"]
    group = [(cells[0], full), (cells[0], lane("b", ())), (cells[0], lane("c", ()))]
    path = write_run(tmp_path, [group], made=manifest([3], cells))
    (cell,) = read_run(path).cells
    assert asdict(cell.lanes[1]) == asdict(full)


def test_an_unfinished_run_is_read_to_its_last_whole_group(tmp_path: Path) -> None:
    groups = _groups()
    path = write_run(tmp_path, groups)
    whole = (path / ROWS).read_bytes()
    first = b"".join(whole.splitlines(keepends=True)[: len(groups[0])])
    for content, rows in (
        (whole[:-1], 2),
        (whole[: len(first) + 5], 2),
        (first, 2),
        (first[:-1], 0),
    ):
        (path / ROWS).write_bytes(content)
        for cell in read_run(path).cells:
            assert len(cell.lanes) == rows
            assert not cell.complete
    (path / ROWS).unlink()
    assert all(not cell.lanes and not cell.complete for cell in read_run(path).cells)


def test_reading_changes_no_byte(run: Path) -> None:
    # Cutting off what is torn is the run's own business: it may be writing right now.
    with (run / ROWS).open("ab") as stream:
        stream.write(b'{"group": 2, "torn')
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert all(cell.complete for cell in read_run(run).cells)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"cell": "replace/seed42", ', b"", "not a committed row"),
        (b'"gold": "Lima", ', b"", "not a committed row"),
        (b'"token_ids": [4, 9]', b'"token_ids": 4', "not a committed row"),
        (b'"prediction": "4 9"', b'"prediction": "4 9', "not a committed row"),
        (
            b'"cell": "replace/seed42", "row_id": "b"',
            b'"cell": "no_inject", "row_id": "b"',
            "twice",
        ),
        (
            b'{"group": 1, "cell": "replace/seed42"',
            b'{"group":1,"cell":"replace/seed42"',
            "group 1",
        ),
    ],
)
def test_damaged_rows_are_named_by_line(old: bytes, new: bytes, message: str, run: Path) -> None:
    content = (run / ROWS).read_bytes()
    assert content.count(old) >= 1
    head, tail = content.rsplit(old, 1)
    (run / ROWS).write_bytes(head + new + tail)
    number = (head + old).count(b"\n") + 1
    found = _refusal(run)
    assert message in found
    assert f"line {number}: " in found


def test_what_is_not_a_run_directory_is_refused(tmp_path: Path, run: Path) -> None:
    assert "no manifest.json; give a directory that `statebridge run` wrote" in _refusal(tmp_path)
    (run / DATASET).unlink()
    assert "no such file" in _refusal(run)
    (run / MANIFEST).write_text(json.dumps({"format": "other"}))
    assert "not a run manifest of format" in _refusal(run)


def test_first_difference() -> None:
    assert first_difference((), ()) is None
    assert first_difference((1, 2), (1, 2)) is None
    assert first_difference((1, 2), (1, 3)) == 1
    assert first_difference((1, 2), (1,)) == 1
    assert first_difference((), (1,)) == 0


def test_a_source_that_is_not_here_leaves_prompt_and_a_caution(tmp_path: Path) -> None:
    held = manifest([6, 3])
    declared = held["cells"][1]["condition"]
    declared |= {"source": "elsewhere", "prompt": "question_only"}
    held["added_parts"] = {"source elsewhere": "0" * 64}
    results = read_run(write_run(tmp_path / "run", _groups(), made=held))
    condition = results.cells[1].condition
    assert (condition.role, condition.prompt, condition.private) == (
        "unknown",
        "question_only",
        True,
    )
    assert results.cautions[-1].endswith(
        f"controls: {condition.name}. Give the file that adds source elsewhere with --plugin."
    )
