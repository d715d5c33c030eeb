"""Repetition penalty and no-repeat-n-gram over a padded batch, blind to padding.

Both have Hugging Face's meaning on a single row: they see the prompt as well as the new
tokens. In a left-padded batch whose pad id is the end id, Hugging Face's own processors
count the padding; these do not.

The sequence may also be a buffer that is longer than the text so far: `last` then says on the
device where the text ends, and the mask is False beyond. The scores are the same bit for bit.
"""

from __future__ import annotations

import torch


def penalise_repetition(
    logits: torch.Tensor,
    sequence: torch.Tensor,
    mask: torch.Tensor,
    penalty: float,
    last: torch.Tensor | None = None,
) -> torch.Tensor:
    """Divide positive and multiply negative logits of tokens already seen by `penalty`.

    Args:
        logits: (lanes, vocabulary); changed in place.
        sequence: (lanes, length) prompt and new tokens, left-padded, int64.
        mask: (lanes, length) True at real tokens; the last position of a lane is real.
        penalty: 1 leaves the logits as they are.
        last: (1,) int64, the column of the last token; None where it is the last column.

    Source: Keskar et al. 2019 (CTRL), in Hugging Face's form.
    """
    if penalty == 1.0:
        return logits
    # Padding is read as the lane's own last token: a repeat that changes nothing.
    newest = sequence[:, -1:] if last is None else sequence.index_select(1, last)
    seen = torch.where(mask, sequence, newest)
    scores = logits.gather(1, seen)
    scores = torch.where(scores < 0, scores * penalty, scores / penalty)
    return logits.scatter_(1, seen, scores)


def ban_repeated_ngrams(
    logits: torch.Tensor,
    sequence: torch.Tensor,
    mask: torch.Tensor,
    size: int,
    last: torch.Tensor | None = None,
) -> torch.Tensor:
    """Set to -inf every token that would complete an n-gram that is already there.

    Args:
        logits: (lanes, vocabulary); changed in place.
        sequence: (lanes, length) prompt and new tokens, left-padded, int64.
        mask: (lanes, length) True at real tokens.
        size: n; 0 leaves the logits as they are.
        last: (1,) int64, the column of the last token; None where it is the last column.

    Source: Paulus et al. 2017 (trigram blocking), in Hugging Face's form.
    """
    length = sequence.shape[1]
    if size == 0 or length < size:
        return logits
    windows = length - size + 1
    # Left padding precedes every real token: a window is real if its first token is.
    repeats = mask[:, :windows].clone()
    if last is not None:
        # And in a longer buffer a window is there if its last token is.
        repeats &= mask[:, size - 1 :]
    for offset in range(size - 1):
        # The prefix is the last n - 1 tokens; a lane shorter than that has padding in it.
        prefix, real = _column(sequence, mask, size - 2 - offset, last)
        repeats &= sequence[:, offset : offset + windows] == prefix
        repeats &= real
    completions = sequence[:, size - 1 :]
    # Made on the device: a number that comes from the host would wait for it.
    infinity = logits.new_full((), torch.inf)
    bans = torch.where(repeats, -infinity, infinity)
    # amin, because a token may complete one window and not another.
    return logits.scatter_reduce_(1, completions, bans, reduce="amin", include_self=True)


def _column(
    sequence: torch.Tensor, mask: torch.Tensor, back: int, last: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens `back` columns before the last, and which are real, (lanes, 1) each."""
    if last is None:
        column = slice(sequence.shape[1] - 1 - back, sequence.shape[1] - back)
        return sequence[:, column], mask[:, column]
    place = last - back
    inside = place.clamp(min=0)
    return sequence.index_select(1, inside), mask.index_select(1, inside) & (place >= 0)
