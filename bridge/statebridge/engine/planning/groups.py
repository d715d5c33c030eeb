"""Groups of rows: what runs together and is committed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import get_args

from statebridge.engine.planning.workload import Workload
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Prompt


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that run together under some cells.

    Attributes:
        index: Place in the plan, from 0.
        prompt: What the receiver reads. The cells of a group share one sender pass and one
            lower receiver pass; `relay` groups generate the relay first.
        rows: Row indices, in the order in which their lanes are committed.
    """

    index: int
    prompt: Prompt
    rows: tuple[int, ...]
    cells: tuple[Cell, ...]


def lane_count(workload: Workload, group: Group) -> int:
    """Return how many lanes the group commits."""
    return sum(workload.included(cell, row) for cell in group.cells for row in group.rows)


def plan_groups(workload: Workload, max_lanes: int) -> list[Group]:
    """Split the rows into groups of at most `max_lanes` lanes (one row at least).

    Each prompt has groups of its own. In them rows meet in the order of their prompt lengths,
    so that a group needs little padding; the plain path, which never pads, gets one prompt
    length per group. A relay's prompts are known only once generated.
    """
    one_length = workload.experiment.path == "plain"
    groups: list[Group] = []
    for prompt in get_args(Prompt):
        cells = tuple(cell for cell in workload.cells if cell.condition.prompt == prompt)
        if not cells:
            continue
        lengths = [len(ids) for ids in workload.prompts.read(prompt)]
        batches = [sorted(range(workload.limit), key=lambda row: (lengths[row], row))]
        if one_length:
            same = groupby(batches[0], key=lambda row: lengths[row])
            batches = [list(rows) for _, rows in same]
        size = max(1, max_lanes // len(cells))
        for batch in batches:
            for rows in _chunks(batch, size):
                groups.append(Group(len(groups), prompt, tuple(rows), cells))
    return groups


def _chunks(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    # Even chunks: 64 rows in groups of at most 60 become 32 and 32, not 60 and 4.
    count = -(-len(rows) // size)
    bounds = [len(rows) * place // count for place in range(count + 1)]
    return [rows[start:end] for start, end in pairwise(bounds)]
