"""A run of all kinds of methods over four rows, with the shapes of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from statebridge.cost import ModelShape
from statebridge.experiment.conditions import Condition
from statebridge.experiment.presets import CONDITIONS
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet, Turn

SENDER = ModelShape(3, 24, 3, 3, 8, 96, False, 421, False)
RECEIVER = ModelShape(4, 32, 4, 2, 8, 96, True, 421, True)
LAYER = 1
METHODS = (
    "question_only",
    "skyline",
    "private_relay",
    "debate",
    "activation_sum",
    "activation_mean",
    "activation_replace",
    "activation_replace_shuffled",
    "private_last_zero",
)
RIGHT = {"question_only": 0, "skyline": 4, "private_relay": 3, "debate": 2}
"""Right answers of four; two of the others."""


def made_costs(conditions: Sequence[str | Condition] = METHODS, **shape: Any) -> ResultSet:
    """Row i: prompts of 10 + i (sender) and 5 + i tokens, 2 + i new ones; messages of 3."""
    dataset = {f"r{i}": DatasetRow(f"r{i}", f"c{i}", f"q{i}", f"a{i}") for i in range(4)}
    known = [CONDITIONS[name] if isinstance(name, str) else name for name in conditions]
    cells = [
        CellResult(
            condition=condition,
            seed=seed,
            direction="fwd",
            lanes=[_row(condition, i) for i in range(4)],
            source=Path("run"),
        )
        for condition in known
        for seed in ((42, 7) if condition.seeded else (None,))
    ]
    sides = {
        "sender": {"layer": LAYER, "shape": asdict(SENDER)},
        "receiver": {"layer": 2, "shape": asdict(RECEIVER)},
    }
    for side in sides.values():
        side.update(shape)
    manifest = {"pair": sides, "experiment": {"name": "made", "dtype": "bfloat16"}}
    return ResultSet(cells, dataset, manifest)


def _row(condition: Condition, i: int) -> LaneResult:
    row = LaneResult(
        row_id=f"r{i}",
        gold=f"a{i}",
        prediction=f"a{i}",
        token_ids=tuple(range(2 + i)),
        prompt_len_receiver=5 + i,
        task_correct=i < RIGHT.get(condition.name, 2),
    )
    if condition.site == "kv":
        # Two of four blocks whole; 100 bytes a position.
        message = {"message_layers": (0, 2), "message_positions": 10 + i}
        row = replace(row, **message, message_bytes=100 * (10 + i))  # type: ignore[arg-type]
    if condition.site == "embedding":
        row = replace(row, message_positions=3, message_bytes=3 * 64)
    if condition.senders is not None:
        row = replace(row, sender_prompt_lens=(4 + i, 6) * condition.senders.rounds)
    if condition.reads_sender:
        return replace(row, prompt_len_sender=10 + i)
    if condition.prompt not in ("relay", "debate"):
        return row
    turns = [Turn("sender", "héllo", 10 + i, 3)]
    if condition.prompt == "debate":
        turns.append(Turn("receiver", "oh", 5 + i, 3))
    return replace(row, prompt_len_receiver=9 + i, turns=tuple(turns), relay="héllo")
