"""Reading with a model that is elsewhere: prompts, vectors and latent steps, each reading one job.

Together with `models/traced_model.py` this file has all bodies of traces, under its rules. What
`input_vectors` does with a module that is here, a job does there: it takes plain tensors, keeps
its cache between its passes, and brings back keys, values and states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import nnsight
import torch
from transformers import DynamicCache

from statebridge.errors import PairError
from statebridge.models.hosts import JOB_BYTES
from statebridge.models.traced_model import TracedModel

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each block, (rows, key-value heads, positions, head width) each."""

_TABLES: WeakKeyDictionary[Any, dict[str, torch.Tensor]] = WeakKeyDictionary()
"""Tables of models that are elsewhere, fetched once."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Inputs of a job that reads.

    Attributes:
        inputs: `input_ids` or `inputs_embeds` of the first pass.
        mask: (rows, positions) bool, the real positions of what is read, the cache included.
        cache: Keys and values in front of it; none are an empty sequence.
        added: Added to the outputs of some blocks in the first pass, by block, (rows, positions,
            width).
        steps: Vectors that the model reads behind it, each made of what it read before.
        matrix: (width, width), applied to its last state from the right; None for the identity.
        norm: Norm of the vector.
        temperature: Where given, the vector is the mixture of input vectors by the next token's
            probabilities in its place.
        end_ids: Tokens that end a row where they are the nearest to such a mixture.
    """

    inputs: Mapping[str, torch.Tensor]
    mask: torch.Tensor
    cache: Layers = ()
    added: Mapping[int, torch.Tensor] = field(default_factory=dict)
    steps: int = 0
    matrix: torch.Tensor | None = None
    norm: float = 0.0
    temperature: float | None = None
    end_ids: tuple[int, ...] = ()

    def passes(self) -> list[dict[str, torch.Tensor]]:
        """Return masks and positions of the first pass and of each step."""
        (values,) = self.inputs.values()
        before = self.mask.shape[1] - values.shape[1]
        found = []
        for step in range(self.steps + 1):
            mask = torch.nn.functional.pad(self.mask, (0, step), value=True)
            places = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
            given = {"position_ids": places[:, (before if step == 0 else mask.shape[1] - 1) :]}
            if not bool(mask.all()):
                given["attention_mask"] = mask.long()
            found.append(given)
        return found


@dataclass(frozen=True, slots=True)
class Read:
    """Results of a job that reads, on the device of a model's inputs.

    Attributes:
        states: (rows, positions, width) of each pass, after the final norm.
        layers: Keys and values of all that was read, the cache in front of it included.
        weights: (rows, vocabulary), the probabilities of each mixture.
        going: (rows,) bool of each mixture: whether the row goes on.
    """

    states: Sequence[torch.Tensor]
    layers: Layers
    weights: Sequence[torch.Tensor]
    going: Sequence[torch.Tensor]


def read_in_job(model: TracedModel, reading: Reading) -> Read:
    """Let a model read, in one job."""
    nnsight_model, blocks, cap = model.model, model.block_paths, logit_cap(model)
    base, embedding, head = (_path(model, part) for part in ("base_model", "embedding", "head"))
    passes, inputs, sent = reading.passes(), dict(reading.inputs), list(reading.cache)
    added = {blocks[block]: states for block, states in sorted(reading.added.items())}
    matrix, norm, temperature = reading.matrix, reading.norm, reading.temperature
    ends, tokens = torch.tensor(reading.end_ids, dtype=torch.int64), torch.arange(_rows(model))
    nothing: list[torch.Tensor] = []
    # As in `TracedModel`: no statement and no comment in a body may take another line.
    with torch.no_grad(), model.host.errors(model.name):
        job = model.host.job(model.model)
        with nnsight_model.session(**job):
            cache, read, weights, going = DynamicCache(), [*nothing], [*nothing], [*nothing]
            for place, (keys, values) in enumerate(sent):
                own = nnsight_model.get(blocks[place])._module
                at = keys.device if own is None else next(own.parameters()).device
                at = keys.device if at.type == "meta" else at
                cache.update(keys.to(at), values.to(at), place)
            for given in passes:
                settings = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
                with nnsight_model.trace({**inputs, **given}, **settings):
                    for path, change in added.items():
                        block = nnsight_model.get(path)
                        out = block.output
                        own = out[0] if isinstance(out, tuple) else out
                        new = own + change.to(own.device, own.dtype)
                        block.output = (new, *out[1:]) if isinstance(out, tuple) else new
                    out = nnsight_model.get(base).output
                    states, cache = out.last_hidden_state, out.past_key_values
                    if temperature is not None:
                        table = nnsight_model.get(embedding)(tokens.to(states.device)).float()
                        logits = nnsight_model.get(head)(states[:, -1])
                        logits = logits if cap is None else torch.tanh(logits / cap) * cap
                read.append(states)
                if temperature is None:
                    last = states[:, -1].float()
                    made = last if matrix is None else last @ matrix.to(last.device)
                    made = made / made.norm(dim=-1, keepdim=True).clamp_min(1e-6) * norm
                elif len(read) < len(passes):
                    chances = (logits.float() / temperature).softmax(dim=-1)
                    count = min(chances.shape[-1], len(table))
                    made = chances[..., :count] @ table[:count]
                    lines = torch.nn.functional.normalize(table, dim=-1)
                    on = ~torch.isin((made @ lines.T).argmax(dim=-1), ends.to(made.device))
                    on = on & going[-1] if going else on
                    if not bool(on.any()):
                        break
                    weights, going = [*weights, chances], [*going, on]
                inputs, added = {"inputs_embeds": made.to(states.dtype)[:, None]}, {}
            entries = []
            for layer in cache.layers:
                entries += [layer.keys, layer.values]
            saved = nnsight.save([read, entries, weights, going])
    read, entries, weights, going = _moved(saved, model.device)
    pairs = iter(entries)
    return Read(read, list(zip(pairs, pairs, strict=True)), weights, going)


def input_table(model: TracedModel) -> torch.Tensor:
    """Return the input vector of every token, (vocabulary, width), of a model that is elsewhere."""
    found = _TABLES.setdefault(model.model, {})
    if "input" not in found:
        ids = torch.arange(_rows(model))
        room = max(1, JOB_BYTES // (model.width * model.dtype.itemsize))
        found["input"] = torch.cat(
            _called(model, _path(model, "embedding"), torch.split(ids, room))
        )
    return found["input"]


def output_table(model: TracedModel) -> torch.Tensor:
    """Return the output vector of every token, (vocabulary, width), of a model that is elsewhere.

    Raises:
        PairError: Its output layer adds a bias.
    """
    found = _TABLES.setdefault(model.model, {})
    if "output" not in found:
        head = model.module.get_output_embeddings()
        if getattr(head, "bias", None) is not None:
            raise PairError(
                f"{model.name}: its output layer has a bias, and the tables of a remote model are "
                "read without one; run this side here"
            )
        # A row of the identity gives one column, as it is: all other products are zero.
        unit = torch.eye(model.width, dtype=model.dtype)
        room = max(1, JOB_BYTES // (_rows(model) * model.dtype.itemsize))
        columns = _called(model, _path(model, "head"), torch.split(unit, room))
        found["output"] = torch.cat(columns).T.contiguous()
    return found["output"]


def logit_cap(model: TracedModel) -> float | None:
    """Return the bound of a model's logits; None where they have none."""
    cap: float | None = getattr(
        model.module.config.get_text_config(), "final_logit_softcapping", None
    )
    return cap


def _rows(model: TracedModel) -> int:
    """Return the number of rows of a model's table of input vectors."""
    return int(model.module.get_input_embeddings().weight.shape[0])


def _called(model: TracedModel, path: str, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return what a module makes of some inputs, a job for each."""
    nnsight_model, found = model.model, []
    probe, last = {"input_ids": torch.tensor([[model.pad_id]])}, model.block_paths[0]
    for part in parts:
        job = model.host.job(model.model)
        with (
            torch.no_grad(),
            model.host.errors(model.name),
            nnsight_model.trace(probe, **job) as tracer,
        ):
            out = nnsight_model.get(last).output
            own = out[0] if isinstance(out, tuple) else out
            saved = nnsight.save(nnsight_model.get(path)(part.to(own.device)))
            tracer.stop()
        found.append(_moved(saved, model.device))
    return found


def _path(model: TracedModel, part: str) -> str:
    """Return the module path of the model without its head, of its embedding, or of its head."""
    module = model.module
    wanted = {
        "base_model": lambda: module.base_model,
        "embedding": module.get_input_embeddings,
        "head": module.get_output_embeddings,
    }[part]()
    return next(str(name) for name, each in module.named_modules() if each is wanted)


def _moved(found: Any, device: torch.device) -> Any:
    if isinstance(found, torch.Tensor):
        return found.to(device)
    return [_moved(each, device) for each in found]
