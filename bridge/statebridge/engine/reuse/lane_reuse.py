"""Lanes that earlier runs computed: copied when a run starts, committed in the order of the plan.

The lanes that are found are copied into the run's own directory before its first group runs.
From then on the run depends on nothing outside it: killed and started again, it takes the same
lanes and computes the same others together, whatever was added to the store or deleted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from statebridge.data.files import atomic_writer
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.experiment.cells import Cell
from statebridge.records import LaneResult
from statebridge.runs.directory import REUSED, lane_line, read_lane, read_text
from statebridge.runs.plan import Group, Plan
from statebridge.runs.stores import LaneStore

Lanes = Mapping[tuple[str, str], bytes]
"""Texts of lanes for the file of rows, by cell name and row id."""

NOTHING_REUSED: dict[str, Any] = {"lanes": 0, "runs": {}, "sha256": None}


def set_aside(store: LaneStore, keys: LaneKeys, plan: Plan, folder: Path) -> dict[str, Any]:
    """Copy the lanes of a plan that earlier runs computed into the run's directory.

    Returns:
        For the manifest: how many `lanes`, how many from each of `runs`, the file's `sha256`.
    """
    digest, runs = hashlib.sha256(), Counter[str]()
    with atomic_writer(folder / REUSED) as stream:
        for group in plan.groups:
            keyed = {lane: keys.of(*lane) for lane in plan.lanes(group)}
            found = store.lookup(list(dict.fromkeys(keyed.values())))
            for (cell, row), key in keyed.items():
                earlier = _read(found[key].line) if key in found else None
                # The key covers the row's id, so another row shows a store that is damaged.
                if earlier is not None and earlier.row_id == plan.rows[row].row_id:
                    line = lane_line(group.index, cell.name, earlier)
                    stream.write(line)
                    digest.update(line)
                    runs[found[key].run] += 1
    if not runs:
        (folder / REUSED).unlink()
        return NOTHING_REUSED
    return {"lanes": runs.total(), "runs": dict(runs), "sha256": digest.hexdigest()}


def _read(line: bytes) -> LaneResult | None:
    try:
        return read_lane(line)[2]
    except (ValueError, KeyError, TypeError):
        return None


def read_reused(stated: Mapping[str, Any], folder: Path) -> Iterator[tuple[int, Lanes]]:
    """Yield index and lanes of each group for which lanes were set aside, in the plan's order.

    Nothing is yielded, so that everything is computed, if the file is missing or is not the one
    whose SHA-256 the manifest states.
    """
    try:
        stream = (folder / REUSED).open("rb")
    except OSError:
        return
    with stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != stated.get("sha256"):
            return
        stream.seek(0)
        for index, lanes in groupby(map(read_text, stream), key=lambda lane: lane[0]):
            yield index, {name: text for _, name, text in lanes}


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups of the plan that run together.

    Attributes:
        groups: In the order of the plan.
        parts: The lanes to compute: rows that lack the same cells run together.
        reused: The groups' other lanes, from earlier runs.
    """

    groups: tuple[Group, ...]
    parts: tuple[Group, ...]
    reused: Lanes


def plan_batches(plan: Plan, reused: Iterator[tuple[int, Lanes]]) -> Iterator[Batch]:
    """Yield the plan's groups with the lanes that are left to compute.

    A group of which nothing is reused runs as it was planned. Of other groups often only a few
    lanes are left, so neighbours run together, up to the plan's `max_lanes`; not on the plain path,
    where a group has one prompt length.
    """
    together: list[Group] = []
    found: dict[tuple[str, str], bytes] = {}
    left = 0
    upcoming = next(reused, None)
    for group in plan.groups:
        lanes: Lanes = {}
        if upcoming is not None and upcoming[0] == group.index:
            lanes, upcoming = upcoming[1], next(reused, None)
        missing = sum(1 for _ in plan.lanes(group)) - len(lanes)
        joins = (
            plan.experiment.path == "shared"
            and found
            and lanes
            and (group.channel, group.prompt) == (together[-1].channel, together[-1].prompt)
            and left + missing <= plan.max_lanes
        )
        if together and not joins:
            yield _batch(plan, together, found)
            together, found, left = [], {}, 0
        together.append(group)
        found.update(lanes)
        left += missing
    if together:
        yield _batch(plan, together, found)


def _batch(plan: Plan, groups: Sequence[Group], reused: Lanes) -> Batch:
    if not reused:
        return Batch(tuple(groups), _parts(plan, groups), reused)
    rows_lacking: dict[tuple[Cell, ...], list[int]] = {}
    for group in groups:
        for row in group.rows:
            row_id = plan.rows[row].row_id
            lacking = tuple(
                cell
                for cell in group.cells
                if plan.included(cell, row) and (cell.name, row_id) not in reused
            )
            if lacking:
                rows_lacking.setdefault(lacking, []).append(row)
    parts = [
        replace(groups[0], rows=tuple(rows), cells=cells) for cells, rows in rows_lacking.items()
    ]
    return Batch(tuple(groups), _parts(plan, parts), reused)


def _parts(plan: Plan, groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return groups with no more lanes than the plan's `max_lanes`, a row at least.

    The groups of a plan are no larger, unless fewer lanes were asked for when the run went on.
    """
    return tuple(
        replace(group, rows=rows)
        for group in groups
        for rows in _chunks(group.rows, max(1, plan.max_lanes // len(group.cells)))
    )


def _chunks(rows: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    left = iter(rows)
    while chunk := tuple(islice(left, size)):
        yield chunk
