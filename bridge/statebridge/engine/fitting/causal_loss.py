"""The loss of training through the receiver: on the receiver's own next tokens.

The written state enters the upper blocks exactly as in a run (`combine_states`); the blocks up
to the injection layer are skipped, since nothing that is written reaches them, and so are the
positions before the first written one, whose keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from statebridge.channels.operators import combine_states
from statebridge.engine.fitting.frozen_rows import FrozenBatch
from statebridge.experiment.conditions import Condition
from statebridge.models.traced_model import TracedModel
from statebridge.runs.plan import TokenIds

Translate = Callable[[torch.Tensor], torch.Tensor]
"""Maps sender states (positions, sender width) to (positions, receiver width)."""


@dataclass(frozen=True, slots=True)
class RowLosses:
    """Both terms of each row's loss, (rows,), nats.

    Attributes:
        gold: Mean cross-entropy over the gold answer's tokens.
        divergence: KL(skyline || receiver) of the next token after the prompt.
    """

    gold: torch.Tensor
    divergence: torch.Tensor


def row_losses(
    receiver: TracedModel, condition: Condition, rows: FrozenBatch, translate: Translate
) -> RowLosses:
    """Write the translated states as the condition declares and return the rows' losses.

    Differentiable in whatever `translate` depends on, where gradients are enabled.
    """
    translated = translate(rows.sent)
    source = translated.new_zeros(*rows.read.shape, translated.shape[-1])
    source[rows.read] = translated
    written = combine_states(
        condition, rows.own, rows.prompts, source, rows.source, rows.spans
    ).states
    # The prompts' states in the place of the receiver's own, row by row; the answers' stay.
    states = rows.states.masked_scatter(rows.prompted[..., None], written[rows.prompts.mask])
    longest = max(len(answer) for answer in rows.answers)
    kept = rows.before
    cache = None if kept is None else kept.cache()
    states = states[:, 0 if kept is None else kept.layers[0][0].shape[2] :]
    logits = receiver.resume_with_states(rows.whole, states, keep=longest, cache=cache)
    return answer_losses(logits, rows.answers, rows.skyline)


def answer_losses(
    logits: torch.Tensor, answers: Sequence[TokenIds], skyline: torch.Tensor
) -> RowLosses:
    """Return the losses of rows whose gold answers were read, but for their last tokens.

    Args:
        logits: (rows, tokens of the longest answer, vocabulary) at the last positions.
        answers: Gold token ids.
        skyline: (rows, vocabulary) log-probabilities.
    """
    longest = logits.shape[1]
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    scores = logits.to(exact).log_softmax(dim=-1)
    targets = torch.zeros(len(answers), longest, dtype=torch.int64)
    real = torch.zeros(len(answers), longest, dtype=torch.bool)
    for place, answer in enumerate(answers):
        targets[place, longest - len(answer) :] = torch.tensor(answer)
        real[place, longest - len(answer) :] = True
    targets, real = targets.to(scores.device), real.to(scores.device)
    of_gold = scores.gather(2, targets[..., None])[..., 0]
    counts = real.sum(dim=1)
    gold = -torch.where(real, of_gold, 0).sum(dim=1) / counts
    after_prompt = scores[torch.arange(len(counts), device=scores.device), longest - counts]
    weight = skyline.exp()
    # A token that the skyline excludes (-inf) weighs nothing; 0 · inf would be NaN.
    terms = torch.where(weight == 0, 0.0, weight * (skyline - after_prompt))
    return RowLosses(gold=gold, divergence=terms.sum(dim=-1))
