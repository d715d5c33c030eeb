"""A debate, the baseline of arXiv 2501.14082 after arXiv 2305.14325: answer, read, answer again.

In the first round both models answer from their own prompt: the sender from what it reads
where its states are taken, the receiver from the question alone. In each further round a
model reads its own last answer and the other's. The receiver's last answer is scored; the
sender's, which nobody would read, is not generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from statebridge.channels.relay import (
    Side,
    Speak,
    Told,
    fill,
    said,
    side_of,
    tell_by_relay,
    told,
    written_prompts,
)
from statebridge.engine.planning.prompts import tokenise
from statebridge.engine.planning.workload import Workload
from statebridge.errors import PairError
from statebridge.experiment.cells import Cell
from statebridge.records import Turn


def tell(workload: Workload, cell: Cell, rows: Sequence[int], speak: Speak) -> Told:
    """Let the models write as a cell has it, and return what the receiver reads last."""
    if cell.condition.prompt == "debate":
        return tell_by_debate(workload, cell.condition.rounds, rows, speak)
    return tell_by_relay(workload, rows, speak)


def told_alike(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells of a group whose receivers read the same text, together."""
    alike: dict[tuple[int, int | None], list[Cell]] = {}
    for cell in cells:
        # A cell has a seed here only where what is written is sampled.
        alike.setdefault((cell.condition.rounds, cell.seed), []).append(cell)
    return list(alike.values())


def tell_by_debate(workload: Workload, rounds: int, rows: Sequence[int], speak: Speak) -> Told:
    """Let both models debate for all rounds but the receiver's last answer.

    Raises:
        PairError: A prompt is longer than the limit or the window: it cannot be cut, because
            the question stands at its end.
    """
    turns: list[tuple[Turn, ...]] = [() for _ in rows]
    last: list[Mapping[Side, str]] | None = None
    new_tokens = workload.experiment.decoding.relay_max_new_tokens
    for round_index in range(rounds - 1):
        answers: dict[Side, list[Turn]] = {}
        for side in get_args(Side):
            texts = _texts(workload, side, rows, last)
            prompts = written_prompts(workload, side, texts, rows, new_tokens, whole=True)
            answers[side] = said(workload, side, round_index, prompts, new_tokens, speak)
            turns = [(*before, new) for before, new in zip(turns, answers[side], strict=True)]
        last = [{side: answers[side][i].text for side in answers} for i in range(len(rows))]
    texts = _texts(workload, "receiver", rows, last)
    return told(workload, texts, rows, turns, whole=True)


def check_room(workload: Workload) -> None:
    """Refuse, before anything runs, prompts too short for what is to be written into them.

    A relay as text is cut like every prompt; a debate, and a turn of a chat template, cannot be.

    Raises:
        PairError: Names the first row whose prompt, with the longest texts, is too long.
    """
    prompts, rows = workload.experiment.prompts, range(workload.limit)
    used = {cell.condition.prompt for cell in workload.cells}
    if "relay" in used and prompts.chat != "none":
        texts = fill(workload, prompts.relay_receiver, rows, [{"relay": ""} for _ in rows])
        _check_room(workload, "receiver", texts, 1)
    if "debate" in used:
        for side in get_args(Side):
            nothing: list[Mapping[Side, str]] = [{"sender": "", "receiver": ""} for _ in rows]
            _check_room(workload, side, _texts(workload, side, rows, nothing), 2)


def _texts(
    workload: Workload,
    side: Side,
    rows: Sequence[int],
    last: Sequence[Mapping[Side, str]] | None,
) -> list[str]:
    prompts = workload.experiment.prompts
    if last is None:
        return fill(
            workload, prompts.to_sender if side == "sender" else prompts.question_only, rows
        )
    other: Side = "receiver" if side == "sender" else "sender"
    template = prompts.debate_sender if side == "sender" else prompts.debate_receiver
    written = [{"own": of_row[side], "other": of_row[other]} for of_row in last]
    return fill(workload, template, rows, written)


def _check_room(workload: Workload, side: Side, texts: Sequence[str], messages: int) -> None:
    decoding, model = workload.experiment.decoding, side_of(workload, side)
    row_ids = [row.row_id for row in workload.rows[: workload.limit]]
    limit, written = decoding.max_prompt_tokens, messages * decoding.relay_max_new_tokens
    chat = workload.experiment.prompts.chat
    for row_id, ids in zip(row_ids, tokenise(model, texts, row_ids, limit + 1, chat), strict=True):
        longest = len(ids) + written
        if longest > limit:
            raise PairError(
                f"row {row_id}: the {side}'s prompt may have {longest} tokens, {written} of them "
                f"written before, and cannot be cut at {limit}; raise decoding.max_prompt_tokens, "
                "or lower decoding.relay_max_new_tokens"
            )
        if model.window is not None and longest + decoding.max_new_tokens > model.window:
            raise PairError(
                f"row {row_id}: the {side}'s prompt may have {longest} tokens, which with "
                f"{decoding.max_new_tokens} new ones reach beyond the context window of "
                f"{model.name} ({model.window}); lower decoding.relay_max_new_tokens"
            )
