"""Tiny pairs, and the oracle run on them with short texts: what its tests share."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tests.reference.formulas import affine_translate
from tests.reference.hooks import blocks, relative_layer
from tests.reference.oracle import DETERMINISTIC, OraclePair, OracleRow, run_cell
from tests.tiny_models import mixed_rows, tiny_llama, tiny_neox, tiny_tokenizer

ROWS = mixed_rows(14)
SHORT: dict[str, Any] = {"max_new_tokens": 12, "relay_max_new_tokens": 16}
FULL: dict[str, Any] = {"max_new_tokens": 64, "gold": False}
PLAIN: dict[str, Any] = {"end": 0, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3}


@cache
def pair(kind: str, dtype: torch.dtype = torch.float32) -> OraclePair:
    """Return a pair of different depths and widths, read and written off the middle."""
    if kind == "neox":
        sender: Any = tiny_neox(0, layers=3, hidden=32, heads=2)
        receiver: Any = tiny_neox(1, layers=4, hidden=48, heads=3)
    else:
        sender, receiver = tiny_llama(0, layers=4), tiny_llama(1, layers=3, hidden=32)
    return OraclePair(
        sender=sender.to(dtype),
        receiver=receiver.to(dtype),
        sender_layer=relative_layer(0.67, len(blocks(sender))),
        receiver_layer=relative_layer(0.67, len(blocks(receiver))),
        tokenizer=tiny_tokenizer(),
    )


def translator(of: OraclePair, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shape = (of.receiver.config.hidden_size, of.sender.config.hidden_size)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    return affine_translate(weight, torch.randn(shape[0], generator=generator))


def cell(of: OraclePair, condition: str, rows: Any = ROWS, **options: Any) -> list[OracleRow]:
    seed = None if condition in DETERMINISTIC else 42
    return run_cell(of, rows, condition, seed, translator(of, 42), **(SHORT | options))
