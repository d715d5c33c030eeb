"""State deltas on a text, one row at a time. It shares no code with the library.

Source: arXiv 2506.19209.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tests.reference.hooks import blocks, first_of


@torch.no_grad()
def greedy_text(model: Any, ids: Sequence[int], steps: int, end: int) -> list[int]:
    """Return the tokens after a prompt, everything read anew for each; without the end token."""
    text: list[int] = []
    while len(text) < steps:
        token = int(model(input_ids=torch.tensor([[*ids, *text]])).logits[0, -1].argmax())
        if token == end:
            break
        text.append(token)
    return text


@torch.no_grad()
def states_of(model: Any, layer: int, ids: Sequence[int]) -> Tensor:
    """Return the output of a block, (tokens, width); of the last one, after the final norm."""
    found = model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True).hidden_states
    states: Tensor = found[layer + 1][0]
    return states


def differences(states: Tensor, text: int) -> list[Tensor]:
    """Return h_i - h_(i-1) for the last `text` tokens."""
    first = len(states) - text
    return [states[place] - states[place - 1] for place in range(first, len(states))]


@contextmanager
def changed_at_the_start(model: Any, changes: Mapping[int, Sequence[Tensor]]) -> Iterator[None]:
    """Add a vector to the output of some blocks at each of the first positions."""

    def hook_of(vectors: Sequence[Tensor]) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            new = first_of(output).clone()
            for place, vector in enumerate(vectors):
                new[0, place] += vector
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    handles = [
        blocks(model)[layer].register_forward_hook(hook_of(vectors))
        for layer, vectors in changes.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
