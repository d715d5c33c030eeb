"""Vectors that a model reads in place of tokens: latent steps, and messages of vectors.

Source of latent steps: LatentMAS (arXiv 2511.20639). A state after the final norm is mapped to an
input vector of the embedding's mean norm, and read as the next input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from transformers import DynamicCache

from statebridge.models.messages.key_values import KeyValues, in_order
from statebridge.models.messages.reading_jobs import (
    Read,
    Reading,
    input_table,
    logit_cap,
    output_table,
    read_in_job,
)
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
    if model.host.remote:
        return input_table(model)
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
    if model.host.remote:
        return output_table(model)
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
    model: TracedModel,
    batch: TokenBatch,
    steps: int,
    step: LatentStep,
    before: KeyValues | None = None,
) -> KeyValues:
    """Return the keys and values of prompts and of the latent steps behind them.

    Each step reads the last state after the final norm through `step`, in float32. The state after
    the last one is not used.

    Args:
        before: Messages in front of the prompts, which take the positions behind; not returned.

    Raises:
        NumericError: A state after the final norm is not finite.
    """
    if steps == 0:
        return read_behind(model, batch, before)
    reader = VectorReader(model, batch.mask, before)
    if model.host.serialised:
        reader.read_there({"input_ids": batch.ids}, steps=steps, matrix=step.matrix, norm=step.norm)
        return reader.key_values
    states = reader.read(input_ids=batch.ids)[:, -1]
    for _ in range(steps):
        states = reader.read(inputs_embeds=step(states).to(model.dtype)[:, None])[:, -1]
    return reader.key_values


def read_behind(model: TracedModel, batch: TokenBatch, before: KeyValues | None) -> KeyValues:
    """Return the keys and values of prompts that a model reads, behind messages where given.

    Raises:
        NumericError: A state behind the last block is not finite.
    """
    if before is None:
        return model.key_values(batch)
    reader = VectorReader(model, batch.mask, before)
    reader.read(input_ids=batch.ids)
    return reader.key_values


class VectorReader:
    """A model that reads left-padded prompts and then vectors, one position after the other.

    Args:
        mask: (rows, positions) bool, the real positions of what is read first.
        before: Messages in front of it.
        added: What is added to the outputs of some blocks, by block, as it is read.
    """

    def __init__(
        self,
        model: TracedModel,
        mask: torch.Tensor,
        before: KeyValues | None = None,
        added: Mapping[int, torch.Tensor] | None = None,
    ) -> None:
        self._model = model
        self._added = added or {}
        self._before = 0 if before is None else max(before.lengths)
        self._mask = mask if before is None else torch.cat((before.mask, mask), dim=1)
        self._cache = DynamicCache() if before is None else before.cache()

    def read(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Read `input_ids` or `inputs_embeds` of the next positions.

        Returns:
            (rows, positions, width), the states after the final norm.
        """
        if self._model.host.serialised:
            return self.read_there(inputs).states[0]
        ((name, values),) = inputs.items()
        count, before = values.shape[1], self._cache.get_seq_length()
        missing = before + count - self._mask.shape[1]
        mask = torch.nn.functional.pad(self._mask, (0, missing), value=True)
        self._mask = mask
        places = (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, before:]
        settings: dict[str, Any] = {"position_ids": places}
        if not bool(mask.all()):
            settings["attention_mask"] = mask.long()
        with (
            torch.set_grad_enabled(values.requires_grad),
            adding(self._model, self._added),
        ):
            states: torch.Tensor = self._model.module.base_model(
                **{name: values}, **settings, past_key_values=self._cache, use_cache=True
            ).last_hidden_state
        check_finite(states, mask[:, before:], f"{self._model.name}, after the final norm")
        return states

    def read_there(self, inputs: Mapping[str, torch.Tensor], **steps: Any) -> Read:
        """Read `input_ids` or `inputs_embeds`, and steps behind them, in one job of the model.

        Args:
            steps: As the attributes of a `Reading`.
        """
        cache = tuple((layer.keys, layer.values) for layer in self._cache.layers)
        reading = Reading(inputs, self._mask, cache, added=self._added, **steps)
        found, where = (
            read_in_job(self._model, reading),
            f"{self._model.name}, after the final norm",
        )
        for number, states in enumerate(found.states):
            if number > 0:
                self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=True)
            check_finite(states, self._mask[:, -states.shape[1] :], where)
        self._cache = KeyValues(tuple(found.layers), ()).cache()
        return found

    @property
    def key_values(self) -> KeyValues:
        """Keys and values of all that was read, without the messages in front of it."""
        first = self._before
        layers = tuple(
            (layer.keys[:, :, first:], layer.values[:, :, first:]) for layer in self._cache.layers
        )
        return KeyValues(layers, tuple(self._mask[:, first:].sum(dim=1).tolist()))


@dataclass(frozen=True, slots=True)
class Vectors:
    """Messages of vectors in place of tokens.

    Attributes:
        values: (rows, positions, width), padded on the left.
        lengths: Number of real positions of each row.
        added: What is added to the output of some blocks, by block, (rows, positions, width).
        payload: Bytes that each row's message took on its way; None for those of its vectors.
    """

    values: torch.Tensor
    lengths: tuple[int, ...]
    added: Mapping[int, torch.Tensor] = field(default_factory=dict)
    payload: tuple[int, ...] | None = None

    def to(self, device: torch.device) -> Vectors:
        """Return the same on another device."""
        added = {block: states.to(device) for block, states in self.added.items()}
        return replace(self, values=self.values.to(device), added=added)

    @property
    def mask(self) -> torch.Tensor:
        """(rows, positions) bool: the real positions."""
        width, device = self.values.shape[1], self.values.device
        missing = width - torch.tensor(self.lengths, device=device)
        return torch.arange(width, device=device) >= missing[:, None]

    @classmethod
    def joined(cls, messages: Sequence[Vectors]) -> Vectors:
        """Return each row's messages one behind the other, as one message."""
        if len(messages) == 1:
            return messages[0]
        lengths, places = in_order([each.mask for each in messages])
        every = torch.cat([each.values for each in messages], dim=1)
        values = every.gather(1, places[..., None].expand(-1, -1, every.shape[2]))
        known = [each.payload for each in messages if each.payload is not None]
        return cls(values, lengths, payload=tuple(map(sum, zip(*known, strict=True))) or None)

    def sent_bytes(self, dtype: torch.dtype) -> tuple[int, ...]:
        """Return the bytes of each row's message, where vectors are sent in a dtype."""
        each = self.values.shape[2] * dtype.itemsize
        return self.payload or tuple(each * length for length in self.lengths)

    def select(self, rows: Sequence[int]) -> Vectors:
        """Return some rows, padded to the longest of them."""
        lengths = tuple(self.lengths[row] for row in rows)
        start = self.values.shape[1] - max(lengths)
        added = {block: states[list(rows), start:] for block, states in self.added.items()}
        values = self.values[list(rows), start:]
        payload = None if self.payload is None else tuple(self.payload[row] for row in rows)
        return Vectors(values, lengths, added, payload)


def read_vectors(model: TracedModel, message: Vectors) -> KeyValues:
    """Return the keys and values of messages that a model reads at positions from 0."""
    lengths, values = message.lengths, message.values.to(model.dtype)
    sent = message.sent_bytes(model.dtype)
    if max(lengths) == 0:
        # Nothing is read, but a message has keys and values of no position.
        nothing = values.new_zeros((len(lengths), 1, values.shape[2]))
        read = read_vectors(model, Vectors(nothing, (1,) * len(lengths)))
        return replace(read.last(0), payload=sent)
    reader = VectorReader(model, message.mask.to(values.device), added=message.added)
    reader.read(inputs_embeds=values)
    return replace(reader.key_values, payload=sent)


@contextmanager
def adding(model: TracedModel, added: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Add states, (rows, positions, width), to the outputs of some blocks."""

    def hook_of(states: torch.Tensor) -> Callable[[Any, Any, Any], Any]:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            own = output[0] if isinstance(output, tuple) else output
            new = own + states.to(own.dtype)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    handles = [
        model.module.get_submodule(model.block_paths[block]).register_forward_hook(hook_of(states))
        for block, states in added.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def write_tokens(
    model: TracedModel, batch: TokenBatch, steps: int, before: KeyValues | None = None
) -> list[tuple[int, ...]]:
    """Return the tokens that a model writes greedily after prompts, before an end token.

    Args:
        before: Messages in front of the prompts.
    """
    if model.host.serialised:
        settings = {"max_new_tokens": steps, "do_sample": False, "num_beams": 1}
        text = model.generation(batch, None, settings, before)
        found = model.new_tokens(text, next(model.run_passes([text])))
        return [tuple(token for token in row if token not in model.end_ids) for row in found]
    ends = torch.tensor(model.end_ids, dtype=torch.int64, device=batch.ids.device)
    reader = VectorReader(model, batch.mask, before)
    states = reader.read(input_ids=batch.ids)[:, -1]
    going = torch.ones(len(batch.lengths), dtype=torch.bool, device=batch.ids.device)
    written: list[list[int]] = [[] for _ in batch.lengths]
    for _ in range(steps):
        tokens = next_token_logits(model, states).argmax(dim=-1)
        going = going & ~torch.isin(tokens, ends)
        if not bool(going.any()):
            break
        for row, (on, token) in enumerate(zip(going.tolist(), tokens.tolist(), strict=True)):
            if on:
                written[row].append(token)
        states = reader.read(input_ids=tokens[:, None])[:, -1]
    return [tuple(tokens) for tokens in written]


def next_token_logits(model: TracedModel, states: torch.Tensor) -> torch.Tensor:
    """Return the logits of states after the final norm, (..., vocabulary)."""
    with torch.no_grad():
        logits: torch.Tensor = (
            torch.nn.functional.linear(states, output_table(model))
            if model.host.remote
            else model.module.get_output_embeddings()(states)
        )
    cap = logit_cap(model)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _mixed(weights: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    # Either may be padded with rows of no token.
    count = min(weights.shape[-1], len(table))
    return weights[..., :count] @ table[:count]


def write_mixtures(
    model: TracedModel,
    batch: TokenBatch,
    steps: int,
    temperature: float,
    tables: Sequence[torch.Tensor | None],
    before: KeyValues | None = None,
) -> list[Vectors]:
    """Let a model write vectors: at each step softmax(logits / T) E is read in place of a token.

    A text ends where the token nearest to the vector by cosine is an end token; that vector is not
    part of it. Source: CIPHER (arXiv 2310.06272).

    Args:
        steps: Most vectors.
        tables: (vocabulary, width) each, of which messages are made; None for the model's own, of
            which what it reads is made.
        before: Messages in front of the prompts.

    Returns:
        The message of each table.
    """
    if model.host.serialised:
        found = VectorReader(model, batch.mask, before).read_there(
            {"input_ids": batch.ids},
            steps=steps,
            temperature=temperature,
            end_ids=model.end_ids,
        )
        of = [input_vectors(model).float() if table is None else table for table in tables]
        made = [[_mixed(weights, table) for weights in found.weights] for table in of]
        going = torch.stack([*found.going, torch.zeros(len(batch.lengths), dtype=torch.bool)])
        return _messages(made, going.sum(dim=0), of)
    own = input_vectors(model).float()
    directions = torch.nn.functional.normalize(own, dim=-1)
    ends = torch.tensor(model.end_ids, dtype=torch.int64, device=own.device)
    reader = VectorReader(model, batch.mask, before)
    states = reader.read(input_ids=batch.ids)[:, -1]
    going = torch.ones(len(batch.lengths), dtype=torch.bool, device=own.device)
    lengths = torch.zeros_like(going, dtype=torch.int64)
    written: list[list[torch.Tensor]] = [[] for _ in tables]
    for _ in range(steps):
        logits = next_token_logits(model, states).float()
        weights = (logits / temperature).softmax(dim=-1)
        mixed = _mixed(weights, own)
        nearest = (mixed @ directions.T).argmax(dim=-1)
        going = going & ~torch.isin(nearest, ends)
        if not bool(going.any()):
            break
        lengths += going
        for vectors, table in zip(written, tables, strict=True):
            vectors.append(mixed if table is None else _mixed(weights, table))
        states = reader.read(inputs_embeds=mixed.to(model.dtype)[:, None])[:, -1]
    return _messages(written, lengths, [own if table is None else table for table in tables])


def _messages(
    written: Sequence[Sequence[torch.Tensor]],
    lengths: torch.Tensor,
    tables: Sequence[torch.Tensor],
) -> list[Vectors]:
    """Return messages of each row's first vectors.

    Args:
        written: (rows, width) of each step, for each message.
        lengths: (rows,), how many of them are each row's.
        tables: Those that they were made of.
    """
    counts, found = lengths.tolist(), []
    for vectors, table in zip(written, tables, strict=True):
        values = table.new_zeros((len(counts), max(counts), table.shape[1]))
        for row, count in enumerate(counts):
            if count:
                values[row, -count:] = torch.stack([of_step[row] for of_step in vectors[:count]])
        found.append(Vectors(values, tuple(counts)))
    return found
