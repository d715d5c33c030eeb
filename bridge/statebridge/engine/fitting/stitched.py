"""Stitched next-token cross-entropy: how well the receiver goes on from translated states.

A cosine can be high while the receiver can make nothing of the states. Here held-out text
is run through the receiver with its own states at the injection layer replaced at every
position, and the cross-entropy of the real next token is measured. Source: model stitching,
Lenc & Vedaldi 2015; Bansal et al. 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from statebridge.channels.inputs.token_ids import tokenise
from statebridge.channels.operators import TINY_NORM
from statebridge.channels.states import translate
from statebridge.errors import TranslatorError
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from statebridge.results.translator_card import StitchedQuality
from statebridge.translators import Translator

LOGITS_TOGETHER = 2**24
"""Logits of every position are held: positions × vocabulary, of 4 bytes each."""


def stitched_cross_entropy(
    pair: Pair,
    translator: Translator,
    passages: Sequence[str],
    max_tokens: int,
    mean_state: torch.Tensor,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> StitchedQuality:
    """Return mean cross-entropies (nats a token) of the receiver over held-out passages.

    Args:
        passages: Text that the translator was not fitted on.
        mean_state: (receiver width,) the mean receiver state of the fitting corpus.

    Raises:
        TranslatorError: No passage has two tokens.
        PairError: Sender and receiver tokenise a passage differently.
    """
    sums = dict.fromkeys(StitchedQuality.VARIANTS, 0.0)
    tokens = 0
    mean = mean_state.to(pair.receiver.device, torch.float32)
    vocabulary = int(pair.receiver.module.config.get_text_config().vocab_size)
    together = max(1, LOGITS_TOGETHER // (max_tokens * vocabulary))
    for start in range(0, len(passages), together):
        texts = passages[start : start + together]
        names = [f"passage {start + i}" for i in range(len(texts))]
        ids = [x for x in tokenise(pair.receiver, texts, names, max_tokens) if len(x) > 1]
        if ids:
            received = pair.receiver.pack(ids)
            sent = pair.sender.pack(ids)
            own = pair.receiver.capture(received).float()
            norms = own.norm(dim=-1, keepdim=True)
            moved = translate(
                translator, pair.sender.capture(sent).to(pair.receiver.device)
            ).float()
            lengths = moved.norm(dim=-1, keepdim=True).clamp_min(TINY_NORM)
            written = {
                "receiver": own,
                "translated": moved,
                "translated_matched_norm": moved / lengths * norms,
                "mean_vector": mean.expand_as(own),
                "zero": torch.zeros_like(own),
            }
            for name, states in written.items():
                sums[name] += _cross_entropy(pair.receiver, received, states)
            tokens += sum(len(x) - 1 for x in ids)
        progress(min(start + together, len(passages)), len(passages))
    if tokens == 0:
        raise TranslatorError("stitched cross-entropy: no held-out passage has two tokens")
    return StitchedQuality(tokens=tokens, **{name: sums[name] / tokens for name in sums})


def _cross_entropy(model: TracedModel, batch: TokenBatch, states: torch.Tensor) -> float:
    """Return the summed cross-entropy of the next tokens with `states` written everywhere."""
    states = states.to(model.dtype)
    if model.skips_blocks:
        logits = model.resume_with_states(batch, states, keep=0)
    else:
        logits = model.forward_with_states(batch.inputs(), states)
    targets = torch.where(batch.mask[:, :-1], batch.ids[:, 1:], -100)
    return float(
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="sum"
        )
    )
