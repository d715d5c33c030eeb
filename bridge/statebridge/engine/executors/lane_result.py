"""From what a lane gave to the row that is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from statebridge.channels.channel import Reading
from statebridge.channels.operators import Written
from statebridge.channels.workload import Workload
from statebridge.engine.executors.measures import GoldMeasures
from statebridge.experiment.cells import Cell
from statebridge.records import LaneResult


@dataclass(frozen=True, slots=True)
class Norms:
    """Mean L2 norms of one lane's states, and their cosine; None where nothing is written."""

    source: float | None = None
    receiver: float | None = None
    injected: float | None = None
    cosine: float | None = None
    """Cosine of source and own state."""


def row_norms(written: Written) -> list[Norms]:
    """Return the norms of each row that a cell wrote."""
    return [
        Norms(*norms)
        for norms in zip(
            written.source_norms.tolist(),
            written.own_norms.tolist(),
            written.injected_norms.tolist(),
            written.cosines.tolist(),
            strict=True,
        )
    ]


def lane_row(
    workload: Workload,
    cell: Cell,
    row: int,
    *,
    tokens: list[int] | None,
    norms: Norms = Norms(),
    gold: GoldMeasures | None = None,
    reading: Reading | None = None,
) -> LaneResult:
    """Return the committed row of one lane.

    Args:
        row: Index in the dataset.
        tokens: New token ids; None where nothing was decoded.
    """
    source = workload.plan.rows[row]
    prompts = workload.plan.prompts
    fields: dict[str, Any] = {}
    # Sender and receiver read different prompts where the context is private.
    if cell.condition.writes and not cell.condition.private:
        fields |= {
            "token_ids_match": prompts.ids_match(row),
            "seq_len_match": prompts.lengths_match(row),
        }
    if cell.condition.reads_sender:
        fields["prompt_len_sender"] = len(prompts.sender[row])
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
    if gold is not None:
        fields |= {
            "gold_logprob": gold.logprob,
            "gold_token_count": gold.token_count,
            "gold_rank": gold.rank,
            "kl_from_no_inject": gold.divergence,
        }
    tokenizer = workload.pair.receiver.tokenizer
    read = len(prompts.read(cell.condition.prompt)[row])
    return LaneResult(
        row_id=source.row_id,
        gold=source.answer,
        prediction=(
            None if tokens is None else tokenizer.decode(tokens, skip_special_tokens=True).strip()
        ),
        token_ids=None if tokens is None else tuple(tokens),
        prompt_len_receiver=read if reading is None else len(reading.prompt),
        translated_norm_mean=norms.source,
        receiver_norm_mean=norms.receiver,
        injected_norm_mean=norms.injected,
        source_cosine_mean=norms.cosine,
        **fields,
    )
