"""Repetition penalty and no-repeat-n-gram over a padded batch, blind to padding.

Both have Hugging Face's meaning on a single row: they see the prompt as well as the new
tokens. In a left-padded batch whose pad id is the end id, Hugging Face's own processors
count the padding; these do not.
"""

from __future__ import annotations

import torch


def penalise_repetition(
    logits: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Divide positive and multiply negative logits of tokens already seen by `penalty`.

    Args:
        logits: (lanes, vocabulary); changed in place.
        sequence: (lanes, length) prompt and new tokens, left-padded, int64.
        mask: (lanes, length) True at real tokens; the last position of a lane is real.
        penalty: 1 leaves the logits as they are.

    Source: Keskar et al. 2019 (CTRL), in Hugging Face's form.
    """
    if penalty == 1.0:
        return logits
    # Padding is read as the lane's own last token: a repeat that changes nothing.
    seen = torch.where(mask, sequence, sequence[:, -1:])
    scores = logits.gather(1, seen)
    scores = torch.where(scores < 0, scores * penalty, scores / penalty)
    return logits.scatter_(1, seen, scores)


def ban_repeated_ngrams(
    logits: torch.Tensor, sequence: torch.Tensor, mask: torch.Tensor, size: int
) -> torch.Tensor:
    """Set to -inf every token that would complete an n-gram that is already there.

    Args:
        logits: (lanes, vocabulary); changed in place.
        sequence: (lanes, length) prompt and new tokens, left-padded, int64.
        mask: (lanes, length) True at real tokens.
        size: n; 0 leaves the logits as they are.

    Source: Paulus et al. 2017 (trigram blocking), in Hugging Face's form.
    """
    length = sequence.shape[1]
    if size == 0 or length < size:
        return logits
    windows = length - size + 1
    # Left padding precedes every real token: a window is real if its first token is.
    repeats = mask[:, :windows].clone()
    for offset in range(size - 1):
        # The prefix is the last n - 1 tokens; a lane shorter than that has padding in it.
        prefix = length - size + 1 + offset
        repeats &= sequence[:, offset : offset + windows] == sequence[:, prefix : prefix + 1]
        repeats &= mask[:, prefix : prefix + 1]
    completions = sequence[:, size - 1 :]
    infinity = torch.tensor(float("inf"), dtype=logits.dtype, device=logits.device)
    bans = torch.where(repeats, -infinity, infinity)
    # amin, because a token may complete one window and not another.
    return logits.scatter_reduce_(1, completions, bans, reduce="amin", include_self=True)
