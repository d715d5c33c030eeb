"""A run that becomes more: further rows, seeds or conditions beside the lanes that it has.

The lanes that are committed are set aside as lanes of an earlier run are, the new plan is stated,
and they are committed again in its order. A kill at any moment loses none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from statebridge.data import sha256_file
from statebridge.data.files import atomic_writer
from statebridge.records import LaneResult
from statebridge.runs.directory import REUSED, ROWS, SENDER_CHECKS, lane_line, read_lane
from statebridge.runs.plan import Plan


def set_own_aside(
    plan: Plan, earlier: Mapping[str, Any], folder: Path, groups: int
) -> dict[str, Any]:
    """Copy a run's own committed lanes into the order of a larger plan.

    Args:
        plan: The larger plan.
        earlier: The manifest of the run as it was.
        folder: The run's directory.
        groups: Whole groups that are committed.

    Returns:
        For the manifest, as `set_aside` does; and `replaces`, the SHA-256 of the file of rows
        that is to be written again.
    """
    lanes = _own_lanes(folder / ROWS, sum(earlier["plan"]["lanes"][:groups]))
    digest = hashlib.sha256()
    with atomic_writer(folder / REUSED) as stream:
        for group in plan.groups:
            for cell, row in plan.lanes(group):
                found = lanes.get((cell.name, plan.rows[row].row_id))
                if found is not None:
                    line = lane_line(group.index, cell.name, found)
                    stream.write(line)
                    digest.update(line)
    return {
        "lanes": len(lanes),
        "runs": {earlier["experiment"]["name"]: len(lanes)},
        "sha256": digest.hexdigest(),
        "replaces": sha256_file(folder / ROWS),
    }


def finish_extension(stated: Mapping[str, Any], folder: Path) -> None:
    """Remove the rows in the order of the smaller plan, if they are still there.

    They are kept unless the file of lanes that were set aside is whole.
    """
    rows, reused = folder / ROWS, folder / REUSED
    replaced = stated.get("replaces")
    if replaced is None or not rows.exists() or not reused.exists():
        return
    if sha256_file(rows) == replaced and sha256_file(reused) == stated["sha256"]:
        rows.unlink()
        (folder / SENDER_CHECKS).unlink(missing_ok=True)


def _own_lanes(path: Path, count: int) -> dict[tuple[str, str], LaneResult]:
    with path.open("rb") as stream:
        read: Sequence[tuple[int, str, LaneResult]] = [
            read_lane(line) for line, _ in zip(stream, range(count), strict=False)
        ]
    return {(cell, row.row_id): row for _, cell, row in read}
