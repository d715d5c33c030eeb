"""Lanes that an earlier run has computed: set aside when a run starts, committed in their turn.

What is found is copied into the run's own directory before its first group runs. From then on
the run depends on nothing outside of it: killed and started again, it takes the same lanes and
computes the same ones in the same company, whatever has been added to the store or deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from statebridge.data.atomic import atomic_writer
from statebridge.engine.planning.groups import Group
from statebridge.engine.planning.workload import Workload
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.experiment.cells import Cell
from statebridge.records import RowResult
from statebridge.runs.directory import REUSED, lane_line, read_lane
from statebridge.runs.lane_store import LaneStore

LOOK_UP_TOGETHER = 2000
"""Keys that are asked for at a time, about."""


@dataclass(frozen=True, slots=True)
class ReusedLanes:
    """The lanes that were set aside, by group of the plan.

    Attributes:
        path: File of committed lines, in the order of the plan.
        places: Of each group that has any: where its lines begin and end, in bytes.
        found: Of each such group: cell name and row id of every lane.
    """

    path: Path
    places: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    found: Mapping[int, frozenset[tuple[str, str]]] = field(default_factory=dict)

    def lanes(self, group: int) -> dict[tuple[str, str], RowResult]:
        """Return a group's lanes by cell name and row id."""
        if group not in self.places:
            return {}
        start, end = self.places[group]
        with self.path.open("rb") as stream:
            stream.seek(start)
            lines = stream.read(end - start).splitlines()
        lanes = (read_lane(line) for line in lines)
        return {(cell, row.row_id): row for _, cell, row in lanes}


def planned_lanes(workload: Workload, group: Group) -> list[tuple[Cell, int]]:
    """Return a group's lanes as cell and row index, in the order in which they are committed."""
    return [
        (cell, row) for row in group.rows for cell in group.cells if workload.included(cell, row)
    ]


def set_aside(
    store: LaneStore, keys: LaneKeys, workload: Workload, groups: Sequence[Group], folder: Path
) -> dict[str, Any]:
    """Copy what earlier runs have of a plan into the run's directory; say what that is.

    Returns:
        For the manifest: `lanes`, how many from each of `runs`, and the file's `sha256`.
    """
    path = folder / REUSED
    digest, runs = hashlib.sha256(), dict[str, int]()
    with atomic_writer(path) as stream:
        for lanes in _portions(workload, groups):
            keyed = [keys.of(cell, row) for _, cell, row in lanes]
            known = store.lookup(list(dict.fromkeys(keyed)))
            for key, (group, cell, row) in zip(keyed, lanes, strict=True):
                earlier = known.get(key)
                # The key holds the row's id; a store that mixes them up is not believed.
                if earlier is None or earlier.row.row_id != workload.rows[row].row_id:
                    continue
                line = lane_line(group, cell.name, earlier.row)
                stream.write(line)
                digest.update(line)
                runs[earlier.run] = runs.get(earlier.run, 0) + 1
    if not runs:
        path.unlink()
        return NOTHING_REUSED
    return {"lanes": sum(runs.values()), "runs": runs, "sha256": digest.hexdigest()}


NOTHING_REUSED: dict[str, Any] = {"lanes": 0, "runs": {}, "sha256": None}


def read_reused(stated: Mapping[str, Any], folder: Path) -> ReusedLanes:
    """Return what was set aside, as the manifest states it; nothing where that is damaged.

    What is not there, or not as it was, is computed.
    """
    path = folder / REUSED
    places: dict[int, tuple[int, int]] = {}
    found: dict[int, set[tuple[str, str]]] = {}
    digest, offset = hashlib.sha256(), 0
    if stated.get("sha256") is None:
        return ReusedLanes(path)
    with suppress(OSError, ValueError, KeyError, TypeError):
        with path.open("rb") as stream:
            for line in stream:
                digest.update(line)
                group, cell, row = read_lane(line)
                places[group] = (places.get(group, (offset, 0))[0], offset + len(line))
                found.setdefault(group, set()).add((cell, row.row_id))
                offset += len(line)
        if digest.hexdigest() == stated["sha256"]:
            return ReusedLanes(path, places, {g: frozenset(names) for g, names in found.items()})
    return ReusedLanes(path)


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups of the plan that run together.

    Attributes:
        groups: In the order of the plan.
        parts: What is computed: rows that lack the same cells go together.
    """

    groups: tuple[Group, ...]
    parts: tuple[Group, ...]


def plan_batches(
    workload: Workload, groups: Sequence[Group], reused: ReusedLanes, max_lanes: int
) -> Iterator[Batch]:
    """Yield the plan's groups with what is left to compute of them.

    A group of which nothing is reused runs as it was planned. What is left of others would
    often be a few lanes; neighbours then run together, up to `max_lanes` lanes. On the plain
    path, which takes one prompt length at a time, they do not.
    """
    waiting: list[Group] = []
    lanes = 0
    for group in groups:
        if group.index not in reused.found:
            yield from _batch(workload, waiting, reused)
            waiting, lanes = [], 0
            yield Batch((group,), (group,))
            continue
        left = sum(len(part.rows) * len(part.cells) for part in _parts(workload, [group], reused))
        joins = (
            waiting
            and workload.experiment.path == "shared"
            and group.prompt == waiting[-1].prompt
            and lanes + left <= max_lanes
        )
        if not joins:
            yield from _batch(workload, waiting, reused)
            waiting, lanes = [], 0
        waiting.append(group)
        lanes += left
    yield from _batch(workload, waiting, reused)


def _batch(workload: Workload, groups: Sequence[Group], reused: ReusedLanes) -> Iterator[Batch]:
    if groups:
        yield Batch(tuple(groups), tuple(_parts(workload, groups, reused)))


def _parts(workload: Workload, groups: Sequence[Group], reused: ReusedLanes) -> Iterator[Group]:
    """Yield groups of the lanes that are not reused; of those that stay out of a cell none is."""
    rows_lacking: dict[tuple[Cell, ...], list[int]] = {}
    for group in groups:
        found = reused.found[group.index]
        for row in group.rows:
            row_id = workload.rows[row].row_id
            lacking = tuple(
                cell
                for cell in group.cells
                if workload.included(cell, row) and (cell.name, row_id) not in found
            )
            if lacking:
                rows_lacking.setdefault(lacking, []).append(row)
    for cells, rows in rows_lacking.items():
        yield replace(groups[0], rows=tuple(rows), cells=cells)


def _portions(workload: Workload, groups: Sequence[Group]) -> Iterator[list[tuple[int, Cell, int]]]:
    """Yield (group, cell, row) of the plan's lanes in order, some thousand at a time."""
    portion: list[tuple[int, Cell, int]] = []
    for group in groups:
        portion += [(group.index, cell, row) for cell, row in planned_lanes(workload, group)]
        if len(portion) >= LOOK_UP_TOGETHER:
            yield portion
            portion = []
    if portion:
        yield portion
