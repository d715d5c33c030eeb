"""Measurements of the checks inside the sender, as a file of the run directory.

A check replaces the sender's own states at the sending layer, at some positions of its
prompt, and measures what becomes of the sender's own answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from statebridge.data.files import atomic_writer
from statebridge.errors import ResultError
from statebridge.records import Record
from statebridge.runs.directory import SENDER_CHECKS

FORMAT: Final = "statebridge.sender_checks.v1"

Replacement = Literal["mean", "zero", "patch"]
"""Replacement of the sender's states: their mean over the rows, zero, another row's."""


class AnswerMeasure(Record):
    """The sender's probability of an answer after its prompt; no penalty is applied."""

    logprob: float
    """Log-probability of the whole answer, nats."""
    first_right: bool
    """Whether the answer's first token is the most probable one (a tie counts against it)."""
    all_right: bool
    """Whether each of its tokens is, after those before it: greedy decoding would write it."""


class SenderRow(Record):
    """The sender as it is, on one row."""

    row_id: str
    tokens: int
    """Number of tokens of the prompt."""
    gold: AnswerMeasure


class CheckedRow(Record):
    """The sender with states replaced, on one row.

    A patched row also has its donor, and what the sender says of the donor's answer before and
    after.
    """

    row_id: str
    replaced: int
    """How many positions were replaced."""
    gold: AnswerMeasure
    donor_row_id: str | None = None
    donor_before: AnswerMeasure | None = None
    donor_after: AnswerMeasure | None = None


class SenderCheck(Record):
    """One replacement at one set of positions."""

    positions: str
    """Name of the set: `all`, `last`, `question`, `context`, `first`, `unread`, or a list."""
    read_by: tuple[str, ...]
    """Conditions whose source positions these are; none where the set is for comparison."""
    replacement: Replacement
    rows: tuple[CheckedRow, ...]
    """Rows that have such positions and, for a patch, a donor with another answer."""


class SenderChecks(Record):
    """Every check of a run."""

    format: Literal["statebridge.sender_checks.v1"] = FORMAT
    sender: str
    layer: int
    layer_path: str
    blocks: int
    rows: tuple[SenderRow, ...] = Field(min_length=1)
    checks: tuple[SenderCheck, ...]


def write_sender_checks(checks: SenderChecks, directory: str | Path) -> Path:
    """Write the checks into a run directory, whole or not at all; return the file.

    Raises:
        EnvironmentFault: The file cannot be written.
    """
    path = Path(directory) / SENDER_CHECKS
    with atomic_writer(path) as stream:
        stream.write(checks.model_dump_json(indent=1).encode("utf-8") + b"\n")
    return path


def read_sender_checks(directory: str | Path) -> SenderChecks | None:
    """Read the checks of a run directory; None where none were made.

    Raises:
        ResultError: The file is damaged, or its checks are of rows that it does not hold.
    """
    path = Path(directory) / SENDER_CHECKS
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        checks = SenderChecks.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ResultError(
            f"{path}: {where}: {first['msg']}; delete the file and run the experiment again"
        ) from None
    known = {row.row_id for row in checks.rows}
    for check in checks.checks:
        stranger = next((row.row_id for row in check.rows if row.row_id not in known), None)
        if stranger is not None:
            raise ResultError(
                f"{path}: check {check.replacement} at {check.positions} holds row {stranger}, "
                "which is not among its rows; delete the file and run the experiment again"
            )
    return checks
