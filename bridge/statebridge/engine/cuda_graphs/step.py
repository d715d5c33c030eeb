"""One decoding step that never looks at a tensor's value, so that a CUDA graph can repeat it.

Everything that changes from step to step, counters included, is in buffers of `LaneState` and is
changed in place. No tensor's shape depends on another tensor's value, nothing is copied to or
from the host, and Python takes the same path every time.
"""

from __future__ import annotations

import torch

from statebridge.engine.cuda_graphs.buffers import LaneState
from statebridge.engine.decoding.lane_attention import attends_by_lane
from statebridge.engine.decoding.lanes import DecodingSettings
from statebridge.engine.decoding.processors import ban_repeated_ngrams, penalise_repetition
from statebridge.engine.decoding.sampling import Draws, sample_tokens
from statebridge.models.families import families_with
from statebridge.models.traced_model import TracedModel


def why_not_static(model: TracedModel, capacity: int) -> str | None:
    """Return why a model cannot be decoded in steps of static shapes; None if it can."""
    if attends_by_lane(model):
        return None
    config = model.module.config
    kind = config.model_type
    masked = families_with("whole_mask")
    if kind not in masked:
        return f"model type {kind} is not among {', '.join(masked)}"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation}, not sdpa"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < capacity:
        return f"its sliding window of {window} is shorter than {capacity} positions"
    return None


class StaticStep:
    """Runs the newest tokens through the model and chooses the next ones.

    In half precision, and for families whose attention is not the engine's, Hugging Face's
    attention runs over the whole capacity with a mask. The dynamic step gives unpadded lanes no
    mask and fewer keys, so torch may take another kernel, whose sums are rounded elsewhere; in
    half precision that can change the choice between near ties.

    Args:
        state: The buffers that it reads and changes.
        by_lane: Whether the attention of `lane_attention` is in use.
    """

    def __init__(
        self,
        model: TracedModel,
        state: LaneState,
        settings: DecodingSettings,
        draws: Draws | None,
        *,
        by_lane: bool,
    ) -> None:
        self._module, self._state = model.module, state
        self._settings, self._draws = settings, draws
        self._extra = {"lane_cache": state.cache} if by_lane else {}

    def __call__(self) -> None:
        """Run the step."""
        state = self._state
        logits = self._module(
            input_ids=state.token,
            position_ids=state.position,
            attention_mask=state.visible[:, None, None, :],
            past_key_values=state.cache,
            use_cache=True,
            **self._extra,
        ).logits[:, -1]
        self.choose(logits)

    def choose(self, logits: torch.Tensor) -> None:
        """Choose each lane's next token from logits (lanes, vocabulary), which may be changed."""
        state, settings, draws = self._state, self._settings, self._draws
        scores = logits.to(torch.float32)
        seen = state.sequence, state.visible
        penalise_repetition(scores, *seen, settings.repetition_penalty, state.last)
        ban_repeated_ngrams(scores, *seen, settings.no_repeat_ngram_size, state.last)
        if draws is None:
            chosen = scores.argmax(dim=-1)
        else:
            numbers = state.uniforms.index_select(1, state.step)[:, 0]
            chosen = sample_tokens(scores, numbers, draws.temperature, draws.top_p)
        state.written.index_fill_(0, state.step, True)
        for counter in (state.step, state.last, state.own, state.position):
            counter.add_(1)
        state.token.copy_(chosen[:, None])
        state.sequence.index_copy_(1, state.last, state.token)
        state.visible.index_fill_(1, state.last, True)
        ended = (state.token == state.end_ids).any(dim=1) & ~state.done
        state.counts.copy_(torch.where(ended, state.step, state.counts))
        state.done.logical_or_(ended)
