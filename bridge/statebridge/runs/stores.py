"""Stores of what earlier runs computed, as a run uses them: lanes and fitted translators.

Both are caches. A key is a SHA-256 over everything that the result is a function of; an entry
that is missing or damaged is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

LaneKey = bytes
"""The key of a lane, 32 bytes."""


class FoundLane(NamedTuple):
    """A lane that an earlier run committed."""

    line: bytes
    """The committed line, as `statebridge.runs.directory.lane_line` wrote it."""
    run: str
    """Name of the earlier run, for the manifest."""


class LaneStore(Protocol):
    """Lanes of earlier runs by key."""

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        """Return the lanes that are stored under these keys."""

    def record(self, lanes: Mapping[LaneKey, bytes]) -> None:
        """Store committed lines by key."""


class FitStore(Protocol):
    """Fitted translators of earlier runs by key, SHA-256 in hex."""

    def take(self, key: str, path: Path) -> bool:
        """Put the weights at `path` and the card beside it; return False if there are none."""

    def keep(self, key: str, path: Path) -> None:
        """Store a fitted translator: the weights at `path`, the card beside it."""
