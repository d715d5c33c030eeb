"""Groups: which rows run and are committed together, and how many lanes fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import get_args

import psutil
import torch

from statebridge.channels.workload import Workload
from statebridge.engine.decoding.lane_attention import attends_by_lane
from statebridge.engine.decoding.steps import buffered_prompt
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Prompt
from statebridge.models.messages.key_values import cache_shapes
from statebridge.runs.plan import Group, Plan

MEMORY_SHARE = 0.5
"""Share of the memory free after loading that a group's lanes may take."""

CPU_LANES_LARGE, CPU_LANES_SMALL, GPU_LANES = 128, 512, 2048
"""Beyond these a larger group was not faster; small means under `SMALL_MODEL` weights."""

SMALL_MODEL = 50_000_000

CPU_GROUP_OPERATIONS = 6e12
"""Operations of a group on a CPU, at most: about a minute on two cores at 1e11 a second, so that a
run commits rows, and can be stopped, every minute or so."""

FILLED_UP = 1.25
"""Ratio of the lanes of a static step to those of a large group, at most."""


def lane_bytes(workload: Workload) -> int:
    """Return an upper estimate of the bytes that one lane takes while it is decoded."""
    receiver = workload.pair.receiver
    config = receiver.module.config.get_text_config()
    decoding = workload.plan.experiment.decoding
    prompt, new = max(workload.plan.prompts.lengths, default=1), decoding.max_new_tokens
    prompt += max((_message_bound(workload, cell) for cell in workload.plan.cells), default=0)
    item = torch.finfo(receiver.dtype).bits // 8
    # Keys and values of a position in one block; blocks without attention keep a state instead.
    widest = max((heads * width for heads, width in cache_shapes(config)), default=receiver.width)
    position = int(2 * widest * item)
    depth, shared = len(receiver.block_paths), 0
    if attends_by_lane(receiver):
        # Up to the injection layer the entries of a prompt are shared by the lanes of its row.
        shared = receiver.layer + 1

    def entries(prompt: int) -> float:
        by_row = prompt / len(workload.plan.cells)
        return position * ((depth - shared) * (prompt + new) + shared * (by_row + new))

    memory = entries(prompt)
    scores = int(config.vocab_size)
    buffered = buffered_prompt(receiver, prompt, new) if workload.plan.experiment.decode else None
    if buffered is not None:
        # The prefilled entries are copied into buffers of full capacity, which exist already;
        # their lanes are filled up by a quarter at most.
        memory += FILLED_UP * entries(buffered) + scores * item
    else:
        # When lanes leave, one layer's buffers are copied while the old ones still exist.
        memory += position * (prompt + new)
    # Scores and their processed copy, and a chunk of distributions in float64.
    memory += scores * (2 * item + 8)
    states = 4 * receiver.width * (prompt + new) * 4
    return int(memory + states)


def _message_bound(workload: Workload, cell: Cell) -> int:
    """Return the most positions that a cell's messages have beside the prompts."""
    condition = cell.condition
    if not condition.sends_message:
        return 0
    soft, senders = condition.soft_tokens, condition.senders
    prompts, turns = workload.plan.prompts, 1
    read = max(map(len, prompts.sender))
    if senders is not None:
        turns = len(senders.sides)
        of_rows = prompts.dealt[senders.readers, None]
        read = senders.rounds * max(sum(map(len, parts)) for parts in of_rows)
    if soft is not None and soft.by in ("cipher", "text"):
        return soft.most * turns
    if soft is not None and soft.by == "resampler":
        return int(workload.translators[workload.plan.translator_key(cell)].options["vectors"])
    steps = 0 if condition.rollout is None else condition.rollout.steps
    return read + turns * steps


def lane_operations(workload: Workload, weights: int) -> float:
    """Return an estimate of the operations of a lane: two for each weight and token.

    Half of a prompt's tokens count, since the lanes of a row share the lower blocks.
    """
    experiment, lengths = workload.plan.experiment, workload.plan.prompts.lengths
    new = experiment.decoding.max_new_tokens if experiment.decode else 1
    return 2.0 * weights * (max(lengths, default=1) / 2 + new)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return int(psutil.virtual_memory().available)


def choose_max_lanes(workload: Workload) -> int:
    """Return the number of lanes to run together, at least one."""
    declared = workload.plan.experiment.execution.max_lanes
    if declared is not None:
        return declared
    receiver = workload.pair.receiver
    if receiver.device.type == "cuda":
        cap = GPU_LANES
    else:
        weights = sum(parameter.numel() for parameter in receiver.module.parameters())
        cap = CPU_LANES_SMALL if weights < SMALL_MODEL else CPU_LANES_LARGE
        cap = min(cap, int(CPU_GROUP_OPERATIONS // lane_operations(workload, weights)))
    fitting = int(free_bytes(receiver.device) * MEMORY_SHARE // lane_bytes(workload))
    return max(1, min(cap, fitting))


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
