"""Groups of rows: what runs together and is committed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import get_args

from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Prompt
from statebridge.runs.plan import Group, Plan


def grouped(plan: Plan, max_lanes: int) -> Plan:
    """Return the plan with its rows in groups of at most `max_lanes` lanes, a row at least.

    Each channel and prompt has groups of its own. In them rows meet in the order of their prompt
    lengths, so that a group needs little padding; the plain path, which never pads, gets one
    prompt length for each group. Texts are known only once generated.
    """
    one_length = plan.experiment.path == "plain"
    groups: list[Group] = []
    for prompt in get_args(Prompt):
        by_channel: dict[str, list[Cell]] = {}
        for cell in plan.cells:
            if cell.condition.prompt == prompt:
                by_channel.setdefault(cell.condition.channel_name, []).append(cell)
        lengths = [len(ids) for ids in plan.prompts.read(prompt)]
        batches = [sorted(range(plan.limit), key=lambda row: (lengths[row], row))]
        if one_length:
            same = groupby(batches[0], key=lambda row: lengths[row])
            batches = [list(rows) for _, rows in same]
        for channel, cells in by_channel.items():
            size = max(1, max_lanes // len(cells))
            for batch in batches:
                for rows in _chunks(batch, size):
                    groups.append(Group(len(groups), channel, prompt, tuple(rows), tuple(cells)))
    return replace(plan, max_lanes=max_lanes, groups=tuple(groups))


def _chunks(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    # Even chunks: 64 rows in groups of at most 60 become 32 and 32, not 60 and 4.
    count = -(-len(rows) // size)
    bounds = [len(rows) * place // count for place in range(count + 1)]
    return [rows[start:end] for start, end in pairwise(bounds)]
