"""Decoding of a group of lanes after their prefill, without traces: greedy, or sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from statebridge.engine.decoding.lane_attention import lane_attention
from statebridge.engine.decoding.lane_cache import LaneCache
from statebridge.engine.decoding.processors import ban_repeated_ngrams, penalise_repetition
from statebridge.engine.decoding.sampling import Draws
from statebridge.models.messages.key_values import KeyValues, attention
from statebridge.models.token_batch import TokenBatch, to_device, to_host
from statebridge.models.traced_model import TracedModel

RETIRE_SHARE = 0.25
"""Share of ended lanes at which they leave the batch; each time costs one copy."""


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """The settings of `generate` that lanes are decoded by."""

    max_new_tokens: int
    repetition_penalty: float
    no_repeat_ngram_size: int


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Lanes whose prompts the model has read.

    Attributes:
        batch: The prompts.
        cache: Keys and values of all blocks, with room for the new tokens.
        logits: (lanes, vocabulary) at each prompt's last token.
        front: (lanes, n) bool, the real positions of the messages in front of the prompts; None
            where there are none.
    """

    batch: TokenBatch
    cache: LaneCache
    logits: torch.Tensor
    front: torch.Tensor | None = None

    def keep(self, lanes: list[int]) -> Prefilled:
        """Return some of the lanes; the cache is narrowed in place."""
        self.cache.keep(lanes, self.logits.device)
        front = None if self.front is None else self.front[lanes]
        return Prefilled(self.batch.select(lanes), self.cache, self.logits[lanes], front)

    @property
    def padded(self) -> bool:
        """Whether attention needs a mask."""
        return self.batch.padded or self.front is not None

    @property
    def seen(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(lanes, n) mask of the messages; (lanes,) positions of message and prompt together."""
        device = self.logits.device
        lengths = to_device(torch.tensor(self.batch.lengths), device)
        if self.front is None:
            return torch.empty((len(lengths), 0), dtype=torch.bool, device=device), lengths
        return self.front, lengths + self.front.sum(dim=1)

    @contextmanager
    def attending(self, model: TracedModel) -> Iterator[dict[str, Any]]:
        """Let the model attend to the lanes' cache; yields what it is called with."""
        if self.front is None:
            with lane_attention(model, self.cache) as extra:
                yield extra
        else:
            with attention(model.module):
                yield {}


def decode_dynamic(
    model: TracedModel,
    lanes: Prefilled,
    settings: DecodingSettings,
    draws: Draws | None,
    look_every: int,
) -> list[list[int]]:
    """Return the new tokens of each lane, decoded in steps over the filled positions.

    Lanes that have ended leave the batch. See `statebridge.engine.decoding.steps.decode_lanes`.
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
    front, lengths = lanes.seen
    active = torch.arange(count, device=device)
    done = torch.zeros(count, dtype=torch.bool, device=device)
    new_tokens = torch.zeros((count, steps), dtype=torch.int64, device=device)
    new_counts = torch.full((count,), steps, dtype=torch.int64, device=device)

    logits, cache = lanes.logits.clone(), lanes.cache
    with torch.no_grad(), lanes.attending(model) as extra:
        for step in range(steps):
            end = prompt + step
            # Nothing else uses the logits, so in float32 they are changed in place.
            scores = logits.to(torch.float32)
            seen = sequence[:, :end], mask[:, :end]
            penalise_repetition(scores, *seen, settings.repetition_penalty)
            ban_repeated_ngrams(scores, *seen, settings.no_repeat_ngram_size)
            chosen = scores.argmax(dim=-1) if draws is None else draws.choose(scores, active, step)
            sequence[:, end] = chosen
            new_tokens[active, step] = chosen
            ended = torch.isin(chosen, end_ids) & ~done
            new_counts[active] = torch.where(ended, step + 1, new_counts[active])
            done |= ended
            if step == steps - 1:
                break
            if (step + 1) % look_every == 0:
                finished = int(done.sum())
                if finished == done.numel():
                    break
                if finished >= RETIRE_SHARE * done.numel():
                    kept = (~done).nonzero()[:, 0]
                    cache.keep(kept.tolist(), device)
                    sequence, mask, done = sequence[kept], mask[kept], done[kept]
                    lengths, active, chosen = lengths[kept], active[kept], chosen[kept]
                    front = front[kept]
            logits = model.module(
                input_ids=chosen[:, None],
                position_ids=(lengths + step)[:, None],
                attention_mask=_visible(front, mask[:, : end + 1], extra) if lanes.padded else None,
                past_key_values=cache,
                use_cache=True,
                **extra,
            ).logits[:, -1]
    found = to_host(torch.cat((new_tokens, new_counts[:, None]), dim=1)).tolist()
    return [row[: row[-1]] for row in found]


def _visible(front: torch.Tensor, mask: torch.Tensor, extra: Mapping[str, object]) -> torch.Tensor:
    mask = torch.cat((front, mask), dim=1)
    # In four dimensions a mask is taken as it is, not worked out anew at every step.
    return mask[:, None, None, :] if extra else mask.long()


def answer_logits(model: TracedModel, lanes: Prefilled, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logits at tokens that follow the lanes' prompts; the lanes are unchanged.

    Args:
        inputs: (lanes, n) token ids, right-padded; no real token attends to the padding.

    Returns:
        (lanes, n, vocabulary).
    """
    added = inputs.shape[1]
    front, lengths = lanes.seen
    positions = lengths[:, None] + torch.arange(added, device=inputs.device)
    if model.window is not None:
        # Only the padding of a shorter answer can be beyond the window.
        positions = positions.clamp(max=model.window - 1)
    mask = torch.nn.functional.pad(lanes.batch.mask, (0, added), value=True)
    mask = torch.cat((front, mask), dim=1)
    with torch.no_grad(), lanes.attending(model) as extra:
        logits: torch.Tensor = model.module(
            input_ids=inputs,
            position_ids=positions,
            attention_mask=mask.long() if lanes.padded else None,
            past_key_values=lanes.cache,
            use_cache=True,
            **extra,
        ).logits
    lanes.cache.forget(added)
    return logits


def prefill(
    model: TracedModel, batch: TokenBatch, room: int, message: KeyValues | None = None
) -> Prefilled:
    """Run prompts through the whole model, with room for `room` tokens.

    Nothing is written; a message of keys and values may be in front of them, or be their own,
    fused, of which the last token alone is then read.
    """
    inputs, front = batch.inputs(), None
    if message is not None and message.fused is not None:
        inputs |= {name: inputs[name][:, -1:] for name in ("input_ids", "position_ids")}
    elif message is not None:
        front = message.mask
        inputs["attention_mask"], inputs["position_ids"] = message.before(batch.mask)
    before = 0 if front is None else front.shape[1]
    cache = LaneCache(len(model.block_paths), before + batch.ids.shape[1] + room)
    for layer, entries in zip(
        cache.layers, () if message is None else message.layers, strict=False
    ):
        layer.update(*entries)
    attending = nullcontext() if message is None else attention(model.module)
    with torch.no_grad(), attending:
        output = model.module(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefilled(batch, cache, output.logits[:, -1], front)
