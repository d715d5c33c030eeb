"""Latent steps behind a prompt, one row at a time, everything read anew at each step.

It shares no code with the library. Source: arXiv 2511.20639.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tests.reference.key_values import Entries


@torch.no_grad()
def input_rows(model: Any) -> Tensor:
    """Return what the model reads for each token, looked up one token after the other."""
    embedding = model.get_input_embeddings()
    return torch.cat([embedding(torch.tensor([i])) for i in range(embedding.num_embeddings)])


@torch.no_grad()
def realigned(model: Any) -> Tensor:
    """Return W = (U'U + 1e-5 I)^-1 U'E, in double precision."""
    outputs, inputs = model.get_output_embeddings().weight.double(), input_rows(model).double()
    penalty = 1e-5 * torch.eye(outputs.shape[1], dtype=torch.float64)
    return torch.linalg.inv(outputs.T @ outputs + penalty) @ outputs.T @ inputs


@torch.no_grad()
def latent_vectors(
    model: Any, ids: Sequence[int], steps: int, matrix: Tensor | None, rows: Tensor
) -> Tensor:
    """Return the input vectors of a prompt and of the latent steps behind it, (1, n, width).

    `rows` are those of `input_rows`.
    """
    norm = float(rows.double().norm(dim=1).mean())
    vectors = rows[list(ids)][None]
    for _ in range(steps):
        states = model(inputs_embeds=vectors, output_hidden_states=True).hidden_states
        last = states[-1][0, -1].double()
        mapped = last if matrix is None else last @ matrix.double()
        step = mapped * (norm / math.sqrt(float((mapped**2).sum())))
        vectors = torch.cat((vectors, step.to(vectors.dtype)[None, None]), dim=1)
    return vectors


@torch.no_grad()
def cache_of_vectors(model: Any, vectors: Tensor) -> Entries:
    """Return keys and values of each block after one unpadded text of vectors."""
    cache = DynamicCache()
    model(inputs_embeds=vectors, past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def turned_keys(keys: Tensor, by: int, *, dimensions: int, base: float) -> Tensor:
    """Return keys (1, heads, n, width) whose positions are `by` further on.

    Each pair of dimensions i and i + d/2 of the first d is a complex number.
    """
    half = dimensions // 2
    first, second = keys[..., :half].double(), keys[..., half:dimensions].double()
    steps = torch.tensor([by * base ** (-2 * i / dimensions) for i in range(half)])
    turned = torch.complex(first, second) * torch.polar(torch.ones(half).double(), steps.double())
    parts = turned.real.to(keys.dtype), turned.imag.to(keys.dtype), keys[..., dimensions:]
    return torch.cat(parts, dim=-1)
