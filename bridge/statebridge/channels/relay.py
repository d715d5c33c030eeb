"""Prompts that hold what a model wrote: the relay's here, a debate's in `engine.debate`.

In the relay the sender writes key facts, and the receiver reads them as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from statebridge.engine.executors.lane_result import Relay
from statebridge.engine.planning.prompts import (
    TokenIds,
    answer_ids,
    check_answer_window,
    check_window,
    tokenise,
)
from statebridge.engine.planning.workload import Workload
from statebridge.errors import PairError
from statebridge.models.traced_model import TracedModel
from statebridge.records import Turn

Side = Literal["sender", "receiver"]


class Speak(Protocol):
    """Lets a model write on: a sweep's own way of generating."""

    def __call__(
        self, side: Side, turn: int, prompts: Sequence[TokenIds], new_tokens: int, /
    ) -> list[list[int]]:
        """Return the new tokens of each prompt; `turn` counts a side's turns from 0."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the receiver reads last, by row, and what was written before."""

    prompts: list[TokenIds]
    answers: list[TokenIds]
    """The gold answers after them."""
    relays: list[Relay]


def tell_by_relay(workload: Workload, rows: Sequence[int], speak: Speak) -> Told:
    """Let the sender write once, and return what the receiver reads."""
    template = workload.experiment.prompts.relay_sender
    new_tokens = workload.experiment.decoding.relay_max_new_tokens
    texts = fill(workload, template, rows)
    prompts = written_prompts(workload, "sender", texts, rows, new_tokens)
    turns = [(turn,) for turn in said(workload, "sender", 0, prompts, new_tokens, speak)]
    return told(
        workload,
        fill(
            workload,
            workload.experiment.prompts.relay_receiver,
            rows,
            [{"relay": turn.text} for (turn,) in turns],
        ),
        rows,
        turns,
    )


def side_of(workload: Workload, side: Side) -> TracedModel:
    """Return one model of the pair."""
    return workload.pair.sender if side == "sender" else workload.pair.receiver


def fill(
    workload: Workload,
    template: str,
    rows: Sequence[int],
    written: Sequence[Mapping[str, str]] | None = None,
) -> list[str]:
    """Fill a template with each row's context and question, and with what was written."""
    return [
        template.format(
            context=workload.rows[row].context,
            question=workload.rows[row].question,
            **({} if written is None else written[place]),
        )
        for place, row in enumerate(rows)
    ]


def written_prompts(
    workload: Workload,
    side: Side,
    texts: Sequence[str],
    rows: Sequence[int],
    new_tokens: int,
    *,
    whole: bool = False,
) -> list[TokenIds]:
    """Tokenise prompts for a model, cut at the prompt limit, and check that they fit it.

    Raises:
        PairError: As `tokenise`, the window is too small, or one that must stay `whole` is
            longer than the limit.
    """
    model, experiment = side_of(workload, side), workload.experiment
    row_ids = [workload.rows[row].row_id for row in rows]
    limit = experiment.decoding.max_prompt_tokens
    ids = tokenise(model, texts, row_ids, limit + whole, experiment.prompts.chat)
    for row_id, prompt in zip(row_ids, ids, strict=True):
        if len(prompt) > limit:
            raise PairError(
                f"row {row_id}: the {side}'s prompt in the debate is longer than {limit} tokens, "
                "and what is cut would be the question; raise decoding.max_prompt_tokens"
            )
    check_window(model, [len(prompt) for prompt in ids], row_ids, new_tokens)
    return list(ids)


def said(
    workload: Workload,
    side: Side,
    turn: int,
    prompts: Sequence[TokenIds],
    new_tokens: int,
    speak: Speak,
) -> list[Turn]:
    """Let a model write after each prompt."""
    tokenizer = side_of(workload, side).tokenizer
    written = speak(side, turn, prompts, new_tokens)
    return [
        Turn(side, tokenizer.decode(new, skip_special_tokens=True).strip(), len(prompt), len(new))
        for prompt, new in zip(prompts, written, strict=True)
    ]


def told(
    workload: Workload,
    texts: Sequence[str],
    rows: Sequence[int],
    turns: Sequence[tuple[Turn, ...]],
    *,
    whole: bool = False,
) -> Told:
    """Return the receiver's last prompts with the gold answers after them.

    Raises:
        PairError: A prompt or an answer does not fit the receiver.
    """
    receiver, experiment = workload.pair.receiver, workload.experiment
    new_tokens = experiment.decoding.max_new_tokens
    prompts = written_prompts(workload, "receiver", texts, rows, new_tokens, whole=whole)
    answers = [
        answer_ids(receiver, text, workload.rows[row].answer, experiment.prompts.chat)
        for text, row in zip(texts, rows, strict=True)
    ]
    row_ids = [workload.rows[row].row_id for row in rows]
    check_answer_window(receiver, prompts, answers, row_ids)
    relays = []
    for prompt, of_row in zip(prompts, turns, strict=True):
        last = next(turn for turn in reversed(of_row) if turn.model == "sender")
        relays.append(Relay(last.text, last.prompt_len, len(prompt), of_row))
    return Told(prompts, answers, relays)
