"""From the measures of a lane to its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statebridge.channels.channel import LaneRow, Reading
from statebridge.channels.operators import Written
from statebridge.channels.workload import Workload
from statebridge.engine.executors.measures import GoldMeasures
from statebridge.engine.executors.other_measures import NOT_MEASURED, OtherMeasures
from statebridge.experiment.cells import Cell
from statebridge.models.messages.key_values import KeyValues
from statebridge.records import LaneResult

NO_NORMS: Mapping[str, float] = {}
"""Norms of a lane in which nothing is written."""


def row_norms(written: Written) -> list[Mapping[str, float]]:
    """Return the norms of each row that a cell wrote, by their names in a `LaneResult`."""
    columns = {
        "translated_norm_mean": written.source_norms,
        "receiver_norm_mean": written.own_norms,
        "injected_norm_mean": written.injected_norms,
        "source_cosine_mean": written.cosines,
    }
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def message_facts(message: KeyValues) -> list[Mapping[str, Any]]:
    """Return the facts of each row's message, by their names in a `LaneResult`."""
    every = tuple(range(len(message.layers)))
    layers = every if message.whole is None else message.whole
    positions = message.lengths if message.fused is None else message.fused
    facts: list[Mapping[str, Any]] = [
        {"message_layers": layers, "message_positions": count, "message_bytes": sent}
        for count, sent in zip(positions, message.sent_bytes, strict=True)
    ]
    if message.aligned is None:
        return facts
    return [
        {**of_row, "prompt_len_sender": count, "message_one_to_one": share}
        for of_row, (count, share) in zip(facts, message.aligned, strict=True)
    ]


def _gold_tokens(workload: Workload, gold: GoldMeasures) -> tuple[tuple[str, float], ...] | None:
    asked = workload.plan.experiment.likelihoods
    if asked is None or not asked.tokens:
        return None
    tokenizer = workload.pair.receiver.tokenizer
    texts = (tokenizer.decode([token]) for token in gold.ids)
    return tuple(zip(texts, gold.token_logprobs, strict=True))


def lane_row(
    workload: Workload,
    cell: Cell,
    row: int,
    *,
    tokens: list[int] | None,
    gold: GoldMeasures,
    others: OtherMeasures = NOT_MEASURED,
    written: Mapping[str, Any] = NO_NORMS,
    reading: Reading | None = None,
) -> LaneRow:
    """Return a lane with its result.

    Args:
        row: Index in the dataset.
        tokens: New token ids; None where nothing was decoded.
        written: Facts of what was written, by their names in a `LaneResult`.
        others: Log-probabilities beside that of the gold answer.
        reading: The receiver's prompt, where it holds text that a model wrote.
    """
    source = workload.plan.rows[row]
    prompts = workload.plan.prompts
    fields: dict[str, Any] = dict(written)
    # Sender and receiver read different prompts where the context is private.
    if cell.condition.writes and not cell.condition.private:
        fields |= {
            "token_ids_match": prompts.ids_match(row),
            "seq_len_match": prompts.lengths_match(row),
        }
    if cell.condition.reads_sender:
        sent = len(prompts.sent(cell.condition.sender_context, row))
        fields.setdefault("prompt_len_sender", sent)
    if cell.condition.senders is not None:
        fields["sender_prompt_lens"] = tuple(map(len, workload.plan.turns(cell, row)))
        fields["prompt_len_sender"] = sum(fields["sender_prompt_lens"])
    if cell.condition.shuffled:
        donor = workload.plan.donor(cell, row)
        fields |= {
            "donor_row_id": workload.plan.rows[donor].row_id,
            "donor_self_fallback": donor == row,
        }
    if reading is not None:
        last = next(turn for turn in reversed(reading.turns) if turn.model == "sender")
        fields |= {
            "relay": last.text,
            "relay_prompt_len": last.prompt_len,
            "turns": reading.turns,
        }
    tokenizer = workload.pair.receiver.tokenizer
    read = len(prompts.read(cell.condition.prompt)[row])
    result = LaneResult(
        row_id=source.row_id,
        gold=source.answer,
        prediction=(
            None if tokens is None else tokenizer.decode(tokens, skip_special_tokens=True).strip()
        ),
        token_ids=None if tokens is None else tuple(tokens),
        prompt_len_receiver=read if reading is None else len(reading.prompt),
        gold_logprob=gold.logprob,
        gold_token_count=len(gold.ids),
        gold_tokens=_gold_tokens(workload, gold),
        answer_logprob=others.answer,
        gold_end_logprob=others.end,
        alias_logprobs=others.aliases,
        option_logprobs=others.options,
        gold_rank=gold.rank,
        kl_from_no_inject=gold.divergence,
        **fields,
    )
    return cell, row, result
