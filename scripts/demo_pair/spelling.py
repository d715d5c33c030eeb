"""Vectors of names that are linear in how the names are spelled.

A table of tokens that is learnt freely gives every name a vector of its own, at random. Two models
that learn the same list of names then have nothing in common but the list, and no map between them
can know a name that it was not fitted on: nothing of it can be worked out from other names. So in
a last stretch of their course both models read a name by its letters. The vector of a name becomes
a linear function, learnt by each model on its own, of a few features of the spelling. The tables of
two such models are linearly related, as those of real models are in part, because both know what
words look like and mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

FEATURES = 48
"""Features of a spelling. A map needs more names than that, or it cannot know the relation."""
_LONGEST_GROUP = 3


class SpelledNames:
    """The tokens of names, and the space of vectors that are linear in their spelling.

    Args:
        tokenizer: Of the models; a name is one token of it, with the space before it.
        names: The names, more of them than there are features.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, names: Sequence[str]) -> None:
        self.ids = torch.tensor([tokenizer.encode(f" {name}")[0] for name in names])
        raw = np.stack([_letter_groups(name) for name in names])
        # Evenly spread over the features: spellings that differ little are still apart.
        spread = np.linalg.svd(raw - raw.mean(axis=0), full_matrices=False)[0]
        spread /= np.linalg.norm(spread, axis=1, keepdims=True)
        # With what all names have in common.
        columns = np.concatenate([np.ones((len(names), 1)), spread], axis=1)
        self._basis = torch.from_numpy(np.linalg.qr(columns)[0]).float()

    @torch.no_grad()
    def start(self, table: torch.Tensor) -> None:
        """Make the names of a table of tokens (vocabulary, width) linear in spelling, in place.

        The part of each vector that is not linear in spelling is dropped, and what is left made as
        long, on the whole, as all of it was.
        """
        before = table[self.ids]
        common = before.mean(dim=0)
        self.keep(table)
        own = table[self.ids] - common
        table[self.ids] = common + own * ((before - common).norm() / own.norm())

    @torch.no_grad()
    def keep(self, table: torch.Tensor) -> None:
        """Drop the part of the names' vectors that is not linear in spelling, in place."""
        table[self.ids] = self._basis @ (self._basis.T @ table[self.ids])


def _letter_groups(name: str) -> np.ndarray:
    """Return the sum of fixed random vectors, one for each group of up to three letters."""
    text = f"<{name.lower()}>"
    total = np.zeros(FEATURES)
    for size in range(1, _LONGEST_GROUP + 1):
        for start in range(len(text) - size + 1):
            digest = hashlib.sha256(text[start : start + size].encode()).digest()
            seed = np.random.PCG64(int.from_bytes(digest, "big"))
            total += np.random.Generator(seed).standard_normal(FEATURES)
    return total
