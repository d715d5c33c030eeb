"""Lanes that a sweep need not run twice: those whose result does not depend on the sender.

The receiver alone, and a text relay, are the same at every pair of layers; what is drawn or
zero, or the receiver's own, is the same at every layer read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from statebridge.errors import EnvironmentFault
from statebridge.runs.directory import POSITIVE_CONTROL, CommittedLine, read_lane
from statebridge.runs.lane_store import FoundLane, KeyedLine, LaneKey


class SweepLanes:
    """A `statebridge.runs.lane_store.LaneStore` over the runs of one sweep."""

    def __init__(self, folder: Path, file: str, shared_conditions: frozenset[str]) -> None:
        """Read what an earlier process noted.

        Args:
            folder: The sweep's directory.
            file: Where keys are noted in it, beside where their lanes stand.
            shared_conditions: Names of the conditions that do not read the sender.
        """
        self._folder, self._file = folder, folder / file
        self._shared = shared_conditions
        self._known: dict[LaneKey, tuple[Path, CommittedLine]] = {}
        if not self._file.exists():
            return
        for line in self._file.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):  # torn by a kill
                noted = json.loads(line)
                self._known[bytes.fromhex(noted["key"])] = (
                    folder / noted["rows"],
                    CommittedLine(noted["offset"], noted["length"], bytes.fromhex(noted["sha256"])),
                )

    def lookup(self, keys: Sequence[LaneKey]) -> Mapping[LaneKey, FoundLane]:
        """Return those that are known and read back as they were committed."""
        found: dict[LaneKey, FoundLane] = {}
        for key in keys:
            if key in self._known and (line := _read(*self._known[key])) is not None:
                _, _, row = read_lane(line)
                run = self._known[key][0].parent.relative_to(self._folder)
                found[key] = FoundLane(row, run.as_posix())
        return found

    def record(self, rows: Path, lines: Sequence[KeyedLine]) -> None:
        """Take note of lines that now stand durably in a file of rows."""
        noted = []
        for keyed in lines:
            if keyed.key in self._known or (line := _read(rows, keyed.line)) is None:
                continue
            _, cell, _ = read_lane(line)
            # The positive control's sender is the receiver itself.
            control = rows.parent.name == POSITIVE_CONTROL
            if not control and cell.partition("/")[0] not in self._shared:
                continue
            self._known[keyed.key] = rows, keyed.line
            place = {
                "key": keyed.key.hex(),
                "rows": rows.relative_to(self._folder).as_posix(),
                "offset": keyed.line.offset,
                "length": keyed.line.length,
                "sha256": keyed.line.sha256.hex(),
            }
            noted.append(json.dumps(place).encode() + b"\n")
        if noted:
            self._append(b"".join(noted))

    def _append(self, content: bytes) -> None:
        try:
            with self._file.open("ab") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise EnvironmentFault(
                f"{self._file}: cannot be written: {error.strerror}; make room, and start the "
                "same command again"
            ) from None


def _read(rows: Path, place: CommittedLine) -> bytes | None:
    """Return a committed line; None where it is not what it was."""
    try:
        with rows.open("rb") as stream:
            stream.seek(place.offset)
            line = stream.read(place.length)
    except OSError:
        return None
    return line if hashlib.sha256(line).digest() == place.sha256 else None
