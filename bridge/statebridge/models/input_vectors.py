"""Vectors that a model reads in place of tokens: latent steps, and messages of vectors.

Source of latent steps: LatentMAS (arXiv 2511.20639). A state after the final norm is mapped to an
input vector of the embedding's mean norm, and read as the next input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

from statebridge.models.key_values import KeyValues
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel, check_finite

RIDGE = 1e-5
"""Penalty of LatentMAS on the map from output to input vectors."""

TINY = 1e-6
"""A vector shorter than this has no direction."""

LatentMap = Literal["realigned", "identity", "random"]
"""`realigned`: least squares from output to input vectors; `identity`: as it is; `random`: a random
matrix with the singular values of the first."""


def input_vectors(model: TracedModel) -> torch.Tensor:
    """Return the input vector of every token, (vocabulary, width), as the model reads it."""
    embedding = model.module.get_input_embeddings()
    if type(embedding) is torch.nn.Embedding:
        return embedding.weight.detach()
    # Gemma 3 scales its vectors as it looks them up.
    ids = torch.arange(embedding.num_embeddings, device=model.device)
    with torch.no_grad():
        vectors: torch.Tensor = embedding(ids)
    return vectors


def output_vectors(model: TracedModel) -> torch.Tensor:
    """Return the output vector of every token, (vocabulary, width)."""
    vectors: torch.Tensor = model.module.get_output_embeddings().weight.detach()
    return vectors


def mean_norm(vectors: torch.Tensor) -> float:
    """Return the mean L2 norm of vectors, (n, width)."""
    return float(vectors.float().norm(dim=-1).mean())


def rescaled(vectors: torch.Tensor, norm: float) -> torch.Tensor:
    """Return vectors, (..., width), at one L2 norm."""
    lengths: torch.Tensor = vectors.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return vectors / lengths * norm


@dataclass(frozen=True, slots=True)
class LatentStep:
    """A state after the final norm to the next input vector.

    Attributes:
        matrix: (width, width), applied from the right; None for the identity.
        norm: Norm of the vector.
    """

    matrix: torch.Tensor | None
    norm: float

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return input vectors, (rows, width), of states, in float32."""
        states = states.float()
        return rescaled(states if self.matrix is None else states @ self.matrix, self.norm)


def latent_step(model: TracedModel, by: LatentMap, seed: int | None = None) -> LatentStep:
    """Return the map of latent steps: h W, W = (UᵀU + 1e-5 I)⁻¹ UᵀE, at the mean norm of E.

    Args:
        seed: For `random`.
    """
    inputs = input_vectors(model)
    norm = mean_norm(inputs)
    if by == "identity":
        return LatentStep(None, norm)
    outputs, inputs = output_vectors(model).float(), inputs.float()
    count = min(len(outputs), len(inputs))  # a padded embedding has rows of no token
    outputs, inputs = outputs[:count], inputs[:count]
    gram = (outputs.T @ outputs).double()
    gram.diagonal().add_(RIDGE)
    matrix = torch.linalg.solve(gram, (outputs.T @ inputs).double()).float()
    if by == "random":
        matrix = _of_same_spectrum(matrix, 0 if seed is None else seed)
    return LatentStep(matrix, norm)


def _of_same_spectrum(matrix: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    width = matrix.shape[0]
    values: torch.Tensor = torch.linalg.svdvals(matrix.double())

    def turned() -> torch.Tensor:
        drawn = torch.randn((width, width), generator=generator, dtype=torch.float64)
        basis, upper = torch.linalg.qr(drawn)
        turn: torch.Tensor = basis * upper.diagonal().sign()
        return turn.to(values.device)

    return ((turned() * values) @ turned()).float()


def roll_out(
    model: TracedModel, batch: TokenBatch, steps: int, step: Callable[[torch.Tensor], torch.Tensor]
) -> KeyValues:
    """Return the keys and values of prompts and of the latent steps behind them.

    Each step reads the last state after the final norm through `step`, in float32. The state after
    the last one is not used.

    Raises:
        NumericError: A state after the final norm is not finite.
    """
    if steps == 0:
        return model.key_values(batch)
    reader = VectorReader(model, batch.mask)
    states = reader.read(input_ids=batch.ids)[:, -1]
    for _ in range(steps):
        states = reader.read(inputs_embeds=step(states).to(model.dtype)[:, None])[:, -1]
    return reader.key_values


class VectorReader:
    """A model that reads left-padded prompts and then vectors, one position after the other.

    Args:
        mask: (rows, positions) bool, the real positions of what is read first.
    """

    def __init__(self, model: TracedModel, mask: torch.Tensor) -> None:
        self._model = model
        self._mask = mask
        self._cache = DynamicCache()

    def read(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Read `input_ids` or `inputs_embeds` of the next positions.

        Returns:
            (rows, positions, width), the states after the final norm.
        """
        ((name, values),) = inputs.items()
        count, before = values.shape[1], self._cache.get_seq_length()
        missing = before + count - self._mask.shape[1]
        mask = torch.nn.functional.pad(self._mask, (0, missing), value=True)
        self._mask = mask
        places = (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, before:]
        settings: dict[str, Any] = {"position_ids": places}
        if not bool(mask.all()):
            settings["attention_mask"] = mask.long()
        with torch.no_grad():
            states: torch.Tensor = self._model.module.base_model(
                **{name: values}, **settings, past_key_values=self._cache, use_cache=True
            ).last_hidden_state
        check_finite(states, mask[:, before:], f"{self._model.name}, after the final norm")
        return states

    @property
    def key_values(self) -> KeyValues:
        """Keys and values of all that was read."""
        layers = tuple((layer.keys, layer.values) for layer in self._cache.layers)
        return KeyValues(layers, tuple(self._mask.sum(dim=1).tolist()))


def read_vectors(model: TracedModel, vectors: torch.Tensor, lengths: Sequence[int]) -> KeyValues:
    """Return the keys and values of messages of vectors, which a model reads at positions from 0.

    Args:
        vectors: (rows, positions, width), padded on the left.
        lengths: Real positions of each row.
    """
    missing = vectors.shape[1] - torch.tensor(list(lengths), device=vectors.device)
    mask = torch.arange(vectors.shape[1], device=vectors.device) >= missing[:, None]
    reader = VectorReader(model, mask)
    reader.read(inputs_embeds=vectors.to(model.dtype))
    return reader.key_values
