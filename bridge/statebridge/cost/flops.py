"""Floating-point operations of a forward pass: as published, and exactly.

A multiplication and an addition are two operations. Exact counts are of the matrix
multiplications alone; norms, activations, softmax and rotary embeddings are linear in what
these are quadratic in, and are left out, as torch's FLOP counter leaves them out. Nothing is
saved by the causal mask: implementations that skip masked blocks do less. To measure the
same, load a model with eager attention: on a CPU the counter does not see fused attention.
"""

from __future__ import annotations

from typing import Literal

from statebridge.cost.shape import ModelShape
from statebridge.errors import InputError

Accounting = Literal["published", "exact"]


def published_forward(shape: ModelShape, tokens: int, past: int = 0) -> int:
    """Return F(n) = 4nVD + L(8nDKH + 4n²KH + 3Hn² + 4nDF) (arXiv 2501.14082).

    V vocabulary, D width, L blocks, K head dimension, H heads, F MLP width. The count goes
    back to arXiv 2203.15556, appendix F: embedding and logits as matrix products at every
    position, every head with keys and values of its own, an MLP of two matrices. With `past`
    positions in a key-value cache, which the published formula does not know, n² becomes
    n(past + n).

    Args:
        shape: The model.
        tokens: New positions, n.
        past: Positions whose keys and values are cached.

    Raises:
        InputError: A count is negative.
    """
    return _published(shape, tokens, past, shape.layers, logits=True)


def published_partial(shape: ModelShape, tokens: int, layer: int, past: int = 0) -> int:
    """Return the same for embedding and blocks 0 to `layer`, without logits.

    Raises:
        InputError: The count is negative, or there is no such block.
    """
    return _published(shape, tokens, past, _blocks(shape, layer), logits=False)


def exact_forward(
    shape: ModelShape, tokens: int, past: int = 0, *, logits_at: int | None = 1
) -> int:
    """Return the operations of the matrix multiplications of one forward pass.

    Args:
        shape: The model.
        tokens: New positions.
        past: Positions whose keys and values are cached.
        logits_at: Positions whose logits are computed, at most `tokens`: 1 in generation,
            None for all of them.

    Raises:
        InputError: A count is negative.
    """
    rows = tokens if logits_at is None else min(tokens, _counted("logits_at", logits_at))
    logits = 2 * rows * shape.width * shape.vocabulary
    return _exact_blocks(shape, tokens, past, shape.layers) + logits


def exact_partial(shape: ModelShape, tokens: int, layer: int, past: int = 0) -> int:
    """Return the same for blocks 0 to `layer`, nothing above them and no logits.

    Raises:
        InputError: A count is negative, or there is no such block.
    """
    return _exact_blocks(shape, tokens, past, _blocks(shape, layer))


def _exact_blocks(shape: ModelShape, tokens: int, past: int, blocks: int) -> int:
    n, seen = _counted("tokens", tokens), _counted("past", past) + tokens
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    projections = 2 * n * shape.width * (queries + 2 * keys) + 2 * n * queries * shape.width
    # Grouped keys are repeated for their query heads: the products are those of all heads.
    attention = 2 * (2 * n * seen * queries)
    mlp = (3 if shape.gated else 2) * 2 * n * shape.width * shape.mlp_width
    return blocks * (projections + attention + mlp)


def _published(shape: ModelShape, tokens: int, past: int, blocks: int, *, logits: bool) -> int:
    n, seen = _counted("tokens", tokens), _counted("past", past) + tokens
    width, heads, head_dim = shape.width, shape.heads, shape.head_dim
    block = (
        8 * n * width * head_dim * heads
        + 4 * n * seen * head_dim * heads
        + 3 * heads * n * seen
        + 4 * n * width * shape.mlp_width
    )
    return (4 if logits else 2) * n * shape.vocabulary * width + blocks * block


def _blocks(shape: ModelShape, layer: int) -> int:
    if not 0 <= layer < shape.layers:
        raise InputError(
            f"layer {layer}: the model has blocks 0 to {shape.layers - 1}; name one of them"
        )
    return layer + 1


def _counted(name: str, value: int) -> int:
    if value < 0:
        raise InputError(f"{name} is {value}; it must be 0 or more")
    return value
