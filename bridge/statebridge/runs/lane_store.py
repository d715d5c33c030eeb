"""What a run asks of whoever keeps the lanes of earlier runs, and tells them of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from statebridge.records import RowResult
from statebridge.runs.directory import CommittedLine

LaneKey = bytes
"""SHA-256 over everything that a lane's result is a function of, 32 bytes."""


@dataclass(frozen=True, slots=True)
class FoundLane:
    """A lane that an earlier run committed."""

    row: RowResult
    run: str
    """Which run; for the record."""


@dataclass(frozen=True, slots=True)
class KeyedLine:
    """A lane that was committed, and the key under which it may be found again."""

    key: LaneKey
    line: CommittedLine


class LaneStore(Protocol):
    """Lanes of earlier runs by key."""

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        """Return those that are known and read back as they were committed."""

    def record(self, rows: Path, lines: Sequence[KeyedLine]) -> None:
        """Take note of lines that now stand durably in a file of rows."""
