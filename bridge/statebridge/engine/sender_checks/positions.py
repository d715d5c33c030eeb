"""Which positions of the sender's prompts are checked: those that conditions read, and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statebridge.channels.prompts import fill
from statebridge.channels.workload import Workload
from statebridge.experiment.conditions import Condition
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow


@dataclass(frozen=True, slots=True)
class PositionSet:
    """Positions of the sender's prompt, row by row.

    Attributes:
        name: `all`, `last`, `question`, `context`, `first`, `unread`, or a list of indices.
        read_by: Conditions whose source positions these are; empty for a set
            that the others are compared with.
        of_row: Indices, counted from the start of the prompt, of each row that runs; empty
            where the row has no such position.
    """

    name: str
    read_by: tuple[str, ...]
    of_row: tuple[tuple[int, ...], ...]

    @property
    def one_from_the_end(self) -> bool:
        """Whether prompts of different lengths have it at the same place."""
        return self.name == "last"


def sender_position_sets(workload: Workload) -> list[PositionSet]:
    """Return the sets of positions to check, each once, those that conditions read first.

    For comparison come the span of the context (where the tokenizer states which text a token
    stands for), the first token, and all positions that no condition reads. Sets that hold
    no position in any row are left out, and so is one that equals an earlier one.
    """
    rows = range(workload.plan.limit)
    sets: dict[str, tuple[list[str], tuple[tuple[int, ...], ...]]] = {}
    for condition in workload.plan.experiment.resolved_conditions:
        if condition.reads_sender:
            of_row = tuple(_read(workload, condition, row) for row in rows)
            sets.setdefault(_name(condition), ([], of_row))[0].append(condition.name)
    found = [PositionSet(name, tuple(by), of_row) for name, (by, of_row) in sets.items()]
    lengths = [len(workload.plan.prompts.sender[row]) for row in rows]
    union = [{position for s in found for position in s.of_row[row]} for row in rows]
    compared = {
        "context": _contexts(workload),
        "first": tuple((0,) for _ in rows),
        "unread": tuple(
            tuple(i for i in range(length) if i not in union[row])
            for row, length in enumerate(lengths)
        ),
    }
    for name, of_row in compared.items():
        if any(of_row) and all(of_row != earlier.of_row for earlier in found):
            found.append(PositionSet(name, (), of_row))
    return found


def _name(condition: Condition) -> str:
    positions = condition.source_positions
    if positions == "placeholder":
        return "context"
    if positions == "question" and condition.prompt == "placeholder":
        return "question after placeholders"
    return positions if isinstance(positions, str) else str(list(positions))


def _read(workload: Workload, condition: Condition, row: int) -> tuple[int, ...]:
    length = len(workload.plan.prompts.sender[row])
    positions = condition.source_positions
    if positions == "all":
        return tuple(range(length))
    if positions == "last":
        return (length - 1,)
    if not isinstance(positions, str):
        return tuple(sorted(position % length for position in positions))
    span = workload.plan.prompts.span(condition.prompt, positions, row)
    if span is None:
        raise ValueError(f"{positions} positions have no span")
    return tuple(range(length + span[0], length + span[1]))


def _contexts(workload: Workload) -> tuple[tuple[int, ...], ...]:
    rows = workload.plan.rows[: workload.plan.limit]
    lengths = [len(workload.plan.prompts.sender[row]) for row in range(workload.plan.limit)]
    template = workload.plan.experiment.prompts.to_sender
    return context_positions(workload.pair.sender, template, rows, lengths)


def context_positions(
    model: TracedModel, template: str, rows: Sequence[DatasetRow], lengths: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return which tokens of each row's prompt hold text of its context.

    None at all where the template has no context, or the tokenizer does not say which text a
    token stands for.

    Args:
        lengths: Tokens that each prompt has after cutting.
    """
    before, marker, _ = template.partition("{context}")
    if not marker or not rows or not getattr(model.tokenizer, "is_fast", False):
        return tuple(() for _ in rows)
    texts = fill(template, rows)
    offsets = model.tokenizer(texts, return_offsets_mapping=True)["offset_mapping"]
    found: list[tuple[int, ...]] = []
    for row, length, places in zip(rows, lengths, offsets, strict=True):
        start = len(before.format(context=row.context, question=row.question))
        end = start + len(row.context)
        found.append(tuple(i for i, (a, b) in enumerate(places[:length]) if a < end and b > start))
    return tuple(found)
