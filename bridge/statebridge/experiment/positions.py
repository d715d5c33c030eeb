"""Positions of a prompt, as a condition declares them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from statebridge.experiment.declared import NO_BOOLEAN

Positions = (
    Literal["all", "last", "question", "placeholder"]
    | Annotated[tuple[Annotated[int, NO_BOOLEAN], ...], Field(min_length=1)]
)
"""`all` prompt positions; the `last`; those of the `question`, that is the tokens at the end that
sender's and receiver's prompts share; those of the `placeholder` tokens; or explicit indices
(negative ones count from the end)."""


def count(positions: Positions) -> int | str:
    """Return how many positions are meant; the word itself where the prompt decides."""
    if positions == "last":
        return 1
    return positions if isinstance(positions, str) else len(positions)


def describe(positions: Positions) -> str:
    """Return the positions in words, for a message."""
    if isinstance(positions, str):
        return f"{positions} position{'' if positions == 'last' else 's'}"
    return f"positions {list(positions)}"
