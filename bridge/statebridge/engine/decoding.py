"""Greedy decoding of a group of lanes after their prefill, without traces."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from statebridge.engine.lane_cache import LaneCache
from statebridge.engine.processors import ban_repeated_ngrams, penalise_repetition
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel

RETIRE_SHARE = 0.25
"""Finished lanes leave the batch once they are this share of it; each time costs one copy."""


@dataclass(frozen=True, slots=True)
class GreedySettings:
    """What `generate` would be given."""

    max_new_tokens: int
    repetition_penalty: float
    no_repeat_ngram_size: int


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Lanes whose prompt has gone through the model.

    Attributes:
        batch: The prompts.
        cache: Keys and values of all blocks, with room for the new tokens.
        logits: (lanes, vocabulary) at each prompt's last token.
    """

    batch: TokenBatch
    cache: LaneCache
    logits: torch.Tensor


def decode_greedily(
    model: TracedModel, lanes: Prefilled, settings: GreedySettings
) -> list[list[int]]:
    """Return the new tokens of each lane, the end token included where it was reached.

    Equal to Hugging Face's greedy `generate` with the same two processors on each row
    alone; as there, scores are compared in float32 whatever the model's dtype.
    """
    device, batch = lanes.logits.device, lanes.batch
    prompt = batch.ids.shape[1]
    steps = settings.max_new_tokens
    count = batch.ids.shape[0]
    end_ids = torch.tensor(model.end_ids, dtype=torch.int64, device=device)

    sequence = torch.empty((count, prompt + steps), dtype=torch.int64, device=device)
    sequence[:, :prompt] = batch.ids
    mask = torch.ones((count, prompt + steps), dtype=torch.bool, device=device)
    mask[:, :prompt] = batch.mask
    lengths = torch.tensor(batch.lengths, device=device)
    padded = batch.padded
    active = torch.arange(count, device=device)
    done = torch.zeros(count, dtype=torch.bool, device=device)
    new_tokens = torch.zeros((count, steps), dtype=torch.int64, device=device)
    new_counts = torch.full((count,), steps, dtype=torch.int64, device=device)

    logits, cache = lanes.logits, lanes.cache
    for step in range(steps):
        end = prompt + step
        scores = logits.to(torch.float32, copy=True)
        penalise_repetition(scores, sequence[:, :end], mask[:, :end], settings.repetition_penalty)
        ban_repeated_ngrams(scores, sequence[:, :end], mask[:, :end], settings.no_repeat_ngram_size)
        chosen = scores.argmax(dim=-1)
        sequence[:, end] = chosen
        new_tokens[active, step] = chosen
        ended = torch.isin(chosen, end_ids) & ~done
        new_counts[active[ended]] = step + 1
        done |= ended
        finished = int(done.sum())
        if finished == done.numel() or step == steps - 1:
            break
        if finished >= RETIRE_SHARE * done.numel():
            kept = (~done).nonzero()[:, 0]
            cache.keep(kept)
            sequence, mask = sequence[kept], mask[kept]
            lengths, active, chosen, done = lengths[kept], active[kept], chosen[kept], done[kept]
        with torch.no_grad():
            logits = model.module(
                input_ids=chosen[:, None],
                position_ids=(lengths + step)[:, None],
                attention_mask=mask[:, : end + 1].long() if padded else None,
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
    tokens, counts = new_tokens.tolist(), new_counts.tolist()
    return [row[:n] for row, n in zip(tokens, counts, strict=True)]


def prefill(model: TracedModel, batch: TokenBatch, room: int) -> Prefilled:
    """Run prompts through the whole model, nothing written, with room for `room` tokens."""
    cache = LaneCache(len(model.block_paths), batch.ids.shape[1] + room)
    with torch.no_grad():
        output = model.module(
            **batch.inputs(), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
    return Prefilled(batch, cache, output.logits[:, -1])
