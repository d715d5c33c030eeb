"""States and key-value caches of given prompts, as arrays or as a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
import transformers

from statebridge.channels.inputs.token_ids import tokenise
from statebridge.data.files import atomic_writer, make_folder
from statebridge.errors import PairError
from statebridge.models.families import resolve_layer
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from statebridge.runs.plan import TokenIds

TOGETHER = 8
"""Prompts in one pass; they are sorted by length, so that little is padded."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, repr=False)
class Captured:
    """States of a model at the tokens of some prompts; float32, in the order of the prompts."""

    model: str
    layers: tuple[int, ...]
    """Indices of the blocks, in the order in which they were asked for."""
    token_ids: tuple[TokenIds, ...]
    states: tuple[Array, ...]
    """Outputs of the blocks: (layers, tokens, width) for each prompt."""
    keys: tuple[Array, ...] | None = None
    """Keys of the blocks: (layers, heads, tokens, width of a head) for each prompt; as the
    attention uses them, rotated to their positions where the model does so."""
    values: tuple[Array, ...] | None = None
    """Values of the blocks, shaped as the keys."""

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.layers))
        cached = "" if self.keys is None else ", keys and values"
        tokens = sum(map(len, self.token_ids))
        return (
            f"<{type(self).__name__} {self.model}, layers {layers}: states{cached} of "
            f"{len(self.token_ids)} prompts, {tokens} tokens>"
        )

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file and return its path.

        Its tensors are `states.N`, `keys.N`, `values.N` and `token_ids.N` for prompt N; its
        metadata names the model and the layers.

        Raises:
            EnvironmentFault: The file cannot be written.
        """
        path = Path(path)
        named: dict[str, npt.NDArray[Any]] = {
            f"{name}.{number}": array
            for name in ("states", "keys", "values")
            for number, array in enumerate(getattr(self, name) or ())
        }
        named |= {f"token_ids.{n}": np.array(ids) for n, ids in enumerate(self.token_ids)}
        metadata = {"model": self.model, "layers": json.dumps(self.layers)}
        make_folder(path.parent)
        with atomic_writer(path) as stream:
            stream.write(safetensors.numpy.save(named, metadata))
        return path


def capture_prompts(
    model: TracedModel,
    prompts: Sequence[str],
    layers: Sequence[int | float | str],
    *,
    cache: bool = False,
    max_tokens: int | None = None,
) -> Captured:
    """Capture the outputs of blocks at every token of some prompts; see `statebridge.capture`.

    Raises:
        PairError: No such layer, or a prompt without tokens or longer than the context window.
        NumericError: A state is not finite.
    """
    asked = [resolve_layer(layer, model.block_paths, model.name) for layer in layers]
    blocks = sorted(set(asked))  # as a pass meets them
    places = [blocks.index(block) for block in asked]
    names = [str(number) for number in range(len(prompts))]
    ids = tokenise(model, prompts, names, max_tokens or 2**31)
    longest = max(range(len(ids)), key=lambda prompt: len(ids[prompt]))
    if model.window is not None and len(ids[longest]) > model.window:
        raise PairError(
            f"prompt {longest}: has {len(ids[longest])} tokens, and the context window of "
            f"{model.name} {model.window}; give max_tokens={model.window} to cut it on the right"
        )
    found: dict[int, list[Array]] = {}
    order = sorted(range(len(ids)), key=lambda prompt: len(ids[prompt]))
    for start in range(0, len(order), TOGETHER):
        members = order[start : start + TOGETHER]
        batch = TokenBatch.pack([ids[each] for each in members], model.pad_id, model.device)
        held = transformers.DynamicCache() if cache else None
        parts = [_stacked(model.capture_layers(batch, blocks, held))]
        if held is not None:
            entries = [held.layers[block] for block in blocks]
            parts += [_stacked([entry.keys for entry in entries])]
            parts += [_stacked([entry.values for entry in entries])]
        for row, prompt in enumerate(members):
            first = batch.ids.shape[1] - len(ids[prompt])
            found[prompt] = [part[places, row, ..., first:, :] for part in parts]
    in_order = [found[prompt] for prompt in range(len(ids))]
    states, *cached = (tuple(each) for each in zip(*in_order, strict=True))
    return Captured(model.name, tuple(asked), ids, states, *cached)


def _stacked(tensors: Sequence[torch.Tensor]) -> Array:
    array: Array = torch.stack([tensor.float().cpu() for tensor in tensors]).numpy()
    return array
