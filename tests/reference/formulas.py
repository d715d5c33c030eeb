"""The published prompts and formulas: what is read, and what is written for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Row = Mapping[str, str]
"""`id`, `context`, `question`, `answer`."""
Translate = Callable[[Tensor], Tensor]
"""Sender states (1, T, sender width) to (1, T, receiver width)."""

EPSILON = 1e-12
"""Smallest norm that a state is divided by."""


def task_prompt(row: Row) -> str:
    """Return the prompt that sender and receiver both see."""
    return f"Context: {row['context']}\nQ: {row['question']}\nA:"


def relay_prompt(row: Row) -> str:
    """Return the prompt to which the sender's continuation is the relay."""
    return f"{row['context']}\n\nKey facts:"


def relayed_prompt(row: Row, relay: str) -> str:
    """Return what the receiver sees instead of the context."""
    return f"{relay}\nQ: {row['question']}\nA:"


def norms(states: Tensor) -> Tensor:
    """Return the L2 norm of each position: (1, T, width) to (1, T, 1)."""
    return states.pow(2).sum(dim=-1, keepdim=True).sqrt()


def mean_norm(states: Tensor) -> float:
    """Return the mean over positions of the L2 norm."""
    return float(norms(states).mean())


def rescaled(states: Tensor, h: Tensor) -> Tensor:
    """Return `states` with each position's norm made that of `h`."""
    return states / norms(states).clamp_min(EPSILON) * norms(h)


def affine_translate(weight: Tensor, bias: Tensor, *, normalize: bool = True) -> Translate:
    """Return the published translator: weight (receiver width, sender width), bias.

    Each position's state is divided by its L2 norm (if `normalize`), then mapped; the
    result is not normalised.
    """

    def translate(states: Tensor) -> Tensor:
        if normalize:
            states = states / norms(states).clamp_min(EPSILON)
        return states @ weight.to(states.dtype).T + bias.to(states.dtype)

    return translate


def state_written(
    condition: str, source: Tensor, h: Tensor, *, scale: float, alpha: float, best_alpha: float
) -> Tensor:
    """Return what the condition writes at the injection layer: (1, T, width).

    `source` is t (only its last position for `additive`; a donor's for the shuffles), the
    receiver's captured state, the raw noise, or zeros; `h` is the receiver's own state.
    """
    if condition == "additive":
        return h + scale * source
    if condition in ("replace", "b_to_b_self_inject", "zero_replacement"):
        return source
    if condition == "same_norm_random":
        return rescaled(source, h)
    weight = best_alpha if condition == "best_alpha" else alpha
    return weight * rescaled(source, h) + (1 - weight) * h
