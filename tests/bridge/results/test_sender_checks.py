"""The file of the checks inside the sender: kept exactly, refused where damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from statebridge.errors import EnvironmentFault, ResultError
from statebridge.results.sender_checks import (
    SENDER_CHECKS,
    AnswerMeasure,
    read_sender_checks,
    write_sender_checks,
)
from tests.bridge.results.made_checks import made_checks


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    checks = made_checks()
    assert write_sender_checks(checks, tmp_path) == tmp_path / SENDER_CHECKS
    assert read_sender_checks(tmp_path) == checks
    assert [path.name for path in tmp_path.iterdir()] == [SENDER_CHECKS]


def test_a_run_without_checks_has_none(tmp_path: Path) -> None:
    assert read_sender_checks(tmp_path) is None
    assert read_sender_checks(tmp_path / "absent") is None
    (tmp_path / "file").write_text("")
    assert read_sender_checks(tmp_path / "file") is None


def _change(tmp_path: Path, **changes: Any) -> None:
    path = write_sender_checks(made_checks(), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_sender_checks(made_checks(), tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultError, match=r"sender_checks\.json: the file: .*; delete the file"):
        read_sender_checks(tmp_path)
    _change(tmp_path, format="statebridge.sender_checks.v9")
    with pytest.raises(ResultError, match=r"format: ") as refusal:
        read_sender_checks(tmp_path)
    assert "\n" not in str(refusal.value)
    _change(tmp_path, rows=[])
    with pytest.raises(ResultError, match=r"json: rows: "):
        read_sender_checks(tmp_path)


def test_a_check_of_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_sender_checks(made_checks(), tmp_path)
    path.write_text(path.read_text().replace('"row_id": "row1"', '"row_id": "other"', 1))
    with pytest.raises(ResultError, match="holds row row1, which is not among its rows"):
        read_sender_checks(tmp_path)


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValidationError):
        AnswerMeasure(logprob=float("nan"), first_right=True, all_right=True)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_sender_checks(made_checks(), tmp_path / "absent")
