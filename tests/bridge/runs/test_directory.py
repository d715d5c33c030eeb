"""The run directory: one process, whole groups, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebridge.errors import EnvironmentFault, NumericError, ResultError, StatebridgeError
from statebridge.records import LaneResult
from statebridge.runs.directory import (
    DATASET,
    FORMAT,
    MANIFEST,
    ROWS,
    SESSIONS,
    in_group,
    lane_line,
    lane_text,
    open_run,
    read_manifest,
    read_text,
    session_seconds,
    whole_groups,
)
from tests.bridge.runs.limits import file_size_limit

LANES = (3, 1, 4, 2)
"""Lanes of each group of the plan."""


def _row(group: int, lane: int) -> LaneResult:
    # Line ends that Unicode knows and JSON Lines does not, and lines of many lengths.
    text = "Zoë\u2028東京\x85\n" * (1 + (group * 7 + lane * 3) % 5)
    return LaneResult(row_id=f"{group}-{lane}", gold=text, prediction=text, token_ids=(1, 2))


def _lanes(group: int) -> list[tuple[str, LaneResult]]:
    return [("no_inject", _row(group, lane)) for lane in range(LANES[group])]


def _whole() -> list[bytes]:
    """The bytes of each group."""
    return [
        b"".join(lane_line(group, cell, row) for cell, row in _lanes(group))
        for group in range(len(LANES))
    ]


def _manifest(**changes: Any) -> dict[str, Any]:
    plan = {"lanes": list(LANES), "max_lanes": 4}
    parts: dict[str, Any] = {"experiment": {}, "dataset": {}, "cells": [], "plan": plan}
    return {"format": FORMAT, **parts, **changes}


# ---------------------------------------------------------------- opening


def test_directories_that_got_nothing_are_removed_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with suppress(ZeroDivisionError), open_run(tmp_path / "there" / "a" / "b") as run:
        assert run.path.is_dir()
        raise ZeroDivisionError
    assert list((tmp_path / "there").iterdir()) == []
    with open_run(tmp_path / "there"):
        pass
    assert (tmp_path / "there").is_dir()


def test_a_directory_that_got_something_stays(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), open_run(tmp_path / "run") as run:
        run.write_manifest(_manifest())
        raise ZeroDivisionError
    assert read_manifest(tmp_path / "run") == _manifest()


def test_a_file_is_not_a_directory_for_a_run(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ResultError, match=r"file: is a file; give a directory"), open_run(path):
        pass
    with pytest.raises(EnvironmentFault, match="cannot be written"), open_run(path / "run"):
        pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "name", ["notes.txt", ".notes.tmp", ".rows.jsonl.tmp", "manifest.json.bak"]
)
def test_a_directory_with_something_else_in_it_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ResultError, match=f"holds {name} and no manifest.json"), open_run(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_killed_process_had_not_renamed_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "translators").mkdir()
    leftovers = [
        tmp_path / f".{DATASET}.0a1b2c3d.tmp",
        tmp_path / f".{MANIFEST}.0a1b2c3d.tmp",
        tmp_path / "translators" / ".seed42.safetensors.0a1b2c3d.tmp",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    with open_run(tmp_path):
        assert not any(path.exists() for path in leftovers)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    hold = (
        "import sys, time\n"
        "from statebridge.runs.directory import open_run\n"
        "with open_run(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"held\n"
            with (
                pytest.raises(EnvironmentFault, match="another process is running"),
                open_run(tmp_path / "run"),
            ):
                pass
            assert (tmp_path / "run").is_dir(), "the directory of the other one is gone"
        finally:
            child.kill()
    with open_run(tmp_path / "run"):  # the lock dies with its holder
        pass


def test_one_use_at_a_time_within_a_process(tmp_path: Path) -> None:
    with (
        open_run(tmp_path / "run"),
        pytest.raises(EnvironmentFault, match="another process"),
        open_run(tmp_path / "run"),
    ):
        pass


# ---------------------------------------------------------------- committing and going on


def test_groups_come_back_as_they_were_committed(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for group in range(len(LANES)):
            assert run.committed_groups(LANES) == group
            run.commit([_whole()[group]])
        assert run.committed_groups(LANES) == len(LANES)
    assert (tmp_path / ROWS).read_bytes() == b"".join(_whole())


@given(data=st.data())
def test_cut_off_anywhere_the_file_ends_up_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = _whole()
    content = b"".join(parts)
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.mktemp("cut")
    (path / ROWS).write_bytes(content[:cut])
    ends = [len(b"".join(parts[: group + 1])) for group in range(len(LANES))]
    with open_run(path) as run:
        done = run.committed_groups(LANES)
        assert done == sum(end <= cut for end in ends)
        assert (path / ROWS).read_bytes() == b"".join(parts[:done])
        for group in range(done, len(LANES)):
            run.commit([_whole()[group]])
    assert (path / ROWS).read_bytes() == content


def test_a_group_cut_at_the_end_of_a_line_is_not_whole(tmp_path: Path) -> None:
    first = _whole()[0]
    path = tmp_path / ROWS
    path.write_bytes(first[: first.rindex(b"\n", 0, -1) + 1])
    assert whole_groups(path, LANES) == (0, 0)
    path.write_bytes(first + _whole()[1] + _whole()[2].splitlines(keepends=True)[0])
    assert whole_groups(path, LANES) == (2, len(first) + len(_whole()[1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"".join(_whole()) + lane_line(4, "no_inject", _row(0, 0)), "more rows than the plan has"),
        (_whole()[1], "line 1: expected a row of group 0"),
        (_whole()[0] + _whole()[2], "line 4: expected a row of group 1"),
        (_whole()[0] + _whole()[0], "line 4: expected a row of group 1"),
        (_whole()[0] + b"garbage\n", "line 4: expected a row of group 1"),
        (b"\n" + _whole()[0], "line 1: expected a row of group 0"),
    ],
)
def test_rows_that_are_not_the_plans_are_refused_and_kept(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / ROWS).write_bytes(content)
    with open_run(tmp_path) as run, pytest.raises(ResultError, match=message):
        run.committed_groups(LANES)
    assert (tmp_path / ROWS).read_bytes() == content


def test_a_line_of_a_value_that_is_not_finite_is_refused() -> None:
    bad = LaneResult(row_id="r7", gold="a", prediction="b", gold_logprob=float("nan"))
    with pytest.raises(NumericError, match="cell replace/seed42, row r7"):
        lane_line(0, "replace/seed42", bad)


def test_a_lane_s_text_is_its_line_in_any_group() -> None:
    row = _row(2, 1)
    text = lane_text("no_inject", row)
    assert in_group(31, text) == lane_line(31, "no_inject", row)
    assert read_text(lane_line(31, "no_inject", row)) == (31, ("no_inject", row.row_id), text)


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("group", range(len(LANES)))
def test_on_a_full_disk_no_part_of_a_group_stays(group: int, tmp_path: Path) -> None:
    parts = _whole()
    before = b"".join(parts[:group])
    # Room for all of the group but one byte, for half of it, for one byte, for nothing.
    for room in (len(parts[group]) - 1, len(parts[group]) // 2, 1, 0):
        path = tmp_path / str(room)
        path.mkdir()
        (path / ROWS).write_bytes(before)
        with open_run(path) as run:
            with (
                file_size_limit(len(before) + room),
                pytest.raises(EnvironmentFault, match="cannot be written") as caught,
            ):
                run.commit([_whole()[group]])
            assert "\n" not in str(caught.value)
            assert (path / ROWS).read_bytes() == before
            for later in range(group, len(LANES)):
                run.commit([_whole()[later]])
        assert (path / ROWS).read_bytes() == b"".join(parts)


def test_groups_larger_than_any_buffer_are_cut_back_too(tmp_path: Path) -> None:
    # A buffered file flushes its rest behind the cut when it is closed.
    rows = [LaneResult(row_id=str(i), gold="x" * 3000, prediction=None) for i in range(9)]
    lines = [lane_line(0, "c", row) for row in rows]
    size = sum(map(len, lines))
    with open_run(tmp_path) as run:
        for room in range(0, size, 1777):
            with file_size_limit(room), pytest.raises(EnvironmentFault):
                run.commit(lines)
            assert (tmp_path / ROWS).stat().st_size == 0
        run.commit(lines)
    assert whole_groups(tmp_path / ROWS, [9]) == (1, size)


def test_a_disk_that_is_full_only_when_it_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_run(tmp_path) as run:
        run.commit([_whole()[0]])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(EnvironmentFault, match="No space left on device"):
                run.commit([_whole()[1]])
        assert (tmp_path / ROWS).read_bytes() == _whole()[0]


def test_a_manifest_is_whole_or_not_there(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        with file_size_limit(20), pytest.raises(EnvironmentFault, match="cannot be written"):
            run.write_manifest(_manifest())
        assert run.read_manifest() is None
        run.write_manifest(_manifest())
        with file_size_limit(20), pytest.raises(EnvironmentFault):
            run.write_manifest(_manifest(plan={}))
        assert run.read_manifest() == _manifest()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", MANIFEST}


# ---------------------------------------------------------------- manifest and sessions


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        json.dumps({"format": "statebridge.run.v0"}).encode(),
        json.dumps({"format": FORMAT}).encode(),
        json.dumps(_manifest(plan={"lanes": 3})).encode(),
        json.dumps(_manifest(cells=None)).encode(),
    ],
)
def test_a_damaged_manifest_is_an_error_of_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with open_run(tmp_path) as run, pytest.raises(StatebridgeError) as caught:
        run.read_manifest()
    assert str(tmp_path / MANIFEST) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sessions_add_up_and_a_torn_one_does_not_count(tmp_path: Path) -> None:
    assert session_seconds(tmp_path) == 0.0
    with open_run(tmp_path) as run:
        run.record_session({"seconds": 1.5, "lanes": 3})
        run.record_session({"seconds": 2.25, "lanes": 1})
        assert session_seconds(tmp_path) == 3.75
        size = (tmp_path / SESSIONS).stat().st_size
        with file_size_limit(size + 5), pytest.raises(EnvironmentFault):
            run.record_session({"seconds": 4, "lanes": 1})
        assert (tmp_path / SESSIONS).stat().st_size == size
    with (tmp_path / SESSIONS).open("ab") as stream:
        stream.write(b'{"seconds": 9')
    assert session_seconds(tmp_path) == 3.75
