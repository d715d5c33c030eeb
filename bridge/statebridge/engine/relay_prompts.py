"""Prompts of the relay: the sender writes key facts, the receiver reads them as text."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.engine.prompts import (
    answer_ids,
    check_answer_window,
    check_window,
    tokenise,
)
from statebridge.engine.workload import Workload

TokenIds = tuple[int, ...]


def relay_sender_prompts(workload: Workload, rows: Sequence[int]) -> list[TokenIds]:
    """Return the sender's relay prompt of each row, cut at the prompt limit."""
    experiment, sender = workload.experiment, workload.pair.sender
    template = experiment.prompts.relay_sender
    texts = [
        template.format(context=workload.rows[row].context, question=workload.rows[row].question)
        for row in rows
    ]
    row_ids = [workload.rows[row].row_id for row in rows]
    ids = tokenise(sender, texts, row_ids, experiment.decoding.max_prompt_tokens)
    new_tokens = experiment.decoding.relay_max_new_tokens
    check_window(sender, [len(prompt) for prompt in ids], row_ids, new_tokens)
    return list(ids)


def relay_texts(workload: Workload, tokens: Sequence[Sequence[int]]) -> list[str]:
    """Return the sender's generated tokens as text, stripped."""
    tokenizer = workload.pair.sender.tokenizer
    return [tokenizer.decode(new, skip_special_tokens=True).strip() for new in tokens]


def relay_receiver_prompts(
    workload: Workload, rows: Sequence[int], relays: Sequence[str]
) -> tuple[list[TokenIds], list[TokenIds]]:
    """Return the receiver's prompt and the gold answer after it, for each row."""
    experiment, receiver = workload.experiment, workload.pair.receiver
    texts = [
        experiment.prompts.relay_receiver.format(
            relay=relay,
            question=workload.rows[row].question,
            context=workload.rows[row].context,
        )
        for row, relay in zip(rows, relays, strict=True)
    ]
    row_ids = [workload.rows[row].row_id for row in rows]
    ids = tokenise(receiver, texts, row_ids, experiment.decoding.max_prompt_tokens)
    new_tokens = experiment.decoding.max_new_tokens
    check_window(receiver, [len(prompt) for prompt in ids], row_ids, new_tokens)
    answers = [
        answer_ids(receiver, text, workload.rows[row].answer)
        for text, row in zip(texts, rows, strict=True)
    ]
    check_answer_window(receiver, ids, answers, row_ids)
    return list(ids), answers
