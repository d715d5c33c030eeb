"""Operations of a map of messages: of keys and values, of fused caches, of soft tokens.

Two operations for each weight of a matrix product, as in all counts here; sums, norms and gates are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from statebridge.errors import InputError


@dataclass(frozen=True, slots=True)
class MapCost:
    """Operations of a map."""

    each: int
    """For each position that it reads."""
    once: int = 0
    """For each message beside them."""

    def of(self, positions: int) -> int:
        """Return the operations for so many positions."""
        return self.each * positions + self.once


def map_cost(kind: str, width_in: int, width_out: int, options: Mapping[str, int]) -> MapCost:
    """Return the cost of a map of messages, by its kind and its card's options.

    Raises:
        InputError: Another kind.
    """
    if kind == "kv_ridge":
        # Each block of the receiver, each of its groups: from all blocks that it reads.
        inputs = width_in // (options["blocks_in"] * options["groups"])
        return MapCost(2 * options["sources"] * inputs // 2 * width_out)
    if kind == "fuser":
        hidden, inner = options["hidden_dim"], options["inner_dim"]
        entry = (width_in + width_out) * hidden + 2 * 2 * hidden * inner + hidden * width_out
        entry += 2 * hidden * hidden + hidden * options["groups"]
        return MapCost(2 * entry * 2 * options["blocks_out"])
    if kind == "resampler":
        hidden, vectors = options["hidden_dim"], options["vectors"]
        attended = 2 * vectors * hidden
        made = vectors * (2 * hidden * hidden + hidden * width_out)
        return MapCost(2 * (2 * width_in * hidden + attended), 2 * made)
    raise InputError(f"map cost: kind {kind!r} makes no message; name kv_ridge, fuser or resampler")
