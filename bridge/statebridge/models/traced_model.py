"""A language model that is read and written through nnsight traces.

All bodies of traces are in this file and in `messages/reading_jobs.py`. Each trace, or session of
several, touches one model only: it is one job of a remote host. Code inside a `with ... trace`
block runs where the model is: it uses torch and plain values, never `self` or another name of this
library, which a remote host lacks. A host may have no module there, but its activations only.
A block's output is a tensor or a tuple that begins with it, by family; both are handled here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any, ClassVar

import nnsight
import torch
from transformers import DynamicCache

from statebridge.errors import NumericError, PairError, StatebridgeError
from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models.families import (
    FAMILIES,
    context_window,
    end_ids_of,
    find_blocks,
    hidden_width,
    pad_id_of,
    resolve_layer,
    turning_point,
)
from statebridge.models.hosts import HERE, JOB_BYTES, Host
from statebridge.models.messages.key_values import KeyValues, attention
from statebridge.models.passes import Pass
from statebridge.models.placement import first_place
from statebridge.models.token_batch import TokenBatch


@dataclass(frozen=True, slots=True)
class _Structure:
    """In the place of an nnsight model: its module, on the meta device."""

    _module: torch.nn.Module


@dataclass(frozen=True, slots=True)
class TracedModel:
    """One side of a pair: a model, its tokenizer, its blocks, and the layer in use.

    Attributes:
        name: Hub id or folder, for messages and manifests.
        model: The nnsight model.
        tokenizer: The Hugging Face tokenizer.
        block_paths: Module paths of the blocks, in order.
        layer: Index of the block whose output is read or written.
        width: Width of the residual stream.
        window: Largest number of positions, or None where the configuration has none.
        end_ids: Ids that end generation.
        pad_id: Id that fills padding; it may be one of `end_ids`.
        host: Where its jobs run.
        cautions: What its checkpoint holds and is not used, in sentences.
        source: What it was loaded from, whatever its name; None where it was given.
        unpadded: Whether its states depend on padding; rows then run with rows of their length.
    """

    name: str
    model: Any
    tokenizer: Any
    block_paths: list[str]
    layer: int
    width: int
    window: int | None
    end_ids: tuple[int, ...]
    pad_id: int
    host: Host = HERE
    revision: str | None = None
    cautions: tuple[str, ...] = ()
    source: ModelAtLayer | None = None
    unpadded: bool = False
    keeps_captures: ClassVar[bool] = False
    """Whether a pass for one layer also answers for others."""

    @classmethod
    def wrap(
        cls,
        model: Any,
        tokenizer: Any,
        layer: int | float | str,
        *,
        name: str = "model",
        host: Host = HERE,
        revision: str | None = None,
        cautions: tuple[str, ...] = (),
    ) -> TracedModel:
        """Wrap an nnsight model and check block names, widths, output shapes and dtype.

        Raises:
            PairError: Blocks not found, layer out of range, or a block whose output is
                not (batch, position, width) in the dtype of the weights.
        """
        traced = cls._described(model, tokenizer, layer, name)
        traced = replace(traced, host=host, revision=revision, cautions=cautions)
        traced._check_output()
        if not host.remote and traced.module.config.model_type not in FAMILIES:
            traced = replace(traced, unpadded=traced._depends_on_padding())
        return traced

    @classmethod
    def without_weights(
        cls, module: torch.nn.Module, tokenizer: Any, layer: int | float | str, name: str
    ) -> TracedModel:
        """Describe a model by its structure alone: to plan with, never to be traced.

        Raises:
            PairError: Blocks not found, or layer out of range.
        """
        return cls._described(_Structure(module), tokenizer, layer, name)

    @classmethod
    def _described(
        cls, model: Any, tokenizer: Any, layer: int | float | str, name: str
    ) -> TracedModel:
        module = model._module
        block_paths = find_blocks(module)
        end_ids = end_ids_of(module, tokenizer)
        return cls(
            name=name,
            model=model,
            tokenizer=tokenizer,
            block_paths=block_paths,
            layer=resolve_layer(layer, block_paths, name),
            width=hidden_width(module),
            window=context_window(module),
            end_ids=end_ids,
            pad_id=pad_id_of(module, tokenizer, end_ids),
        )

    @property
    def module(self) -> Any:
        """The Hugging Face module underneath."""
        return self.model._module

    @property
    def layer_path(self) -> str:
        """Module path of the block in use."""
        return self.block_paths[self.layer]

    @property
    def device(self) -> torch.device:
        """Where inputs go and results come back (cpu where weights are remote)."""
        return first_place(self.module)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        dtype: torch.dtype = next(self.module.parameters()).dtype
        return dtype

    @property
    def exact_dtype(self) -> torch.dtype:
        """Dtype of translators and of stored states: float64 beside such weights, else float32."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def at_layer(self, layer: int | float | str) -> TracedModel:
        """Return the same model, weights shared, read or written at another layer."""
        return replace(self, layer=resolve_layer(layer, self.block_paths, self.name))

    def pack(self, prompts: Sequence[Sequence[int]], *, width: int = 0) -> TokenBatch:
        """Return token ids of several rows as one left-padded batch where inputs go."""
        return TokenBatch.pack(prompts, self.pad_id, self.device, width=width)

    @property
    def skips_blocks(self) -> bool:
        """Whether blocks can be skipped: here, in a family that is known to allow it."""
        return not self.host.remote and self.module.config.model_type in FAMILIES

    @property
    def rows_are_alone(self) -> bool:
        """Whether a row's states are the same, to rounding, beside whatever rows."""
        return not self.unpadded and turning_point(self.module) is None

    def capture(self, batch: TokenBatch, cache: Any = None) -> torch.Tensor:
        """Return the output of the layer in use, (rows, positions, width).

        The pass stops after that block. A key-value cache, where given, is filled with the
        entries of the blocks up to it. Values at padding are meaningless.

        Raises:
            NumericError: A state at a real token is not finite.
        """
        (states,) = self._captured(batch, [self.layer_path], cache)
        check_finite(states, batch.mask, f"{self.name} {self.layer_path}")
        return states

    def capture_layers(
        self, batch: TokenBatch, layers: Sequence[int], cache: Any = None
    ) -> list[torch.Tensor]:
        """Return the outputs of some blocks, given in rising order, as `capture` does for one.

        One pass serves all of them; it stops after the last.

        Raises:
            NumericError: A state at a real token is not finite.
        """
        paths = [self.block_paths[layer] for layer in layers]
        found = self._captured(batch, paths, cache)
        for path, states in zip(paths, found, strict=True):
            check_finite(states, batch.mask.to(states.device), f"{self.name} {path}")
        return found

    def key_values(self, batch: TokenBatch) -> KeyValues:
        """Return the keys, after the rotation, and values of all blocks at the prompts' positions.

        Raises:
            NumericError: A state after the last block is not finite.
        """
        cache = DynamicCache()
        self.at_layer(len(self.block_paths) - 1).capture(batch, cache)
        layers = tuple((layer.keys, layer.values) for layer in cache.layers)
        return KeyValues(layers, batch.lengths)

    def resume_with_states(
        self, batch: TokenBatch, states: torch.Tensor, *, keep: int = 1, cache: Any = None
    ) -> torch.Tensor:
        """Run the blocks above the layer in use on given states; the blocks up to it are skipped.

        Gradients flow where the states require them.

        Args:
            states: (rows, positions, width), in place of the layer's output; fewer positions than
                the batch has are its last ones, and the cache holds those before.
            keep: Number of last positions to give logits of; 0 gives those of all positions.
            cache: A key-value cache, which is filled with the entries of the blocks above.

        Returns:
            Logits, (rows, keep, vocabulary).
        """
        nnsight_model, inputs = self.model, batch.inputs()
        for name in ("input_ids", "position_ids"):
            inputs[name] = inputs[name][:, -states.shape[1] :]
        paths = self.block_paths[: self.layer + 1]
        settings = {"past_key_values": cache, "use_cache": cache is not None}
        settings |= {"logits_to_keep": keep, **self.host.job(self.model)}
        with (
            torch.set_grad_enabled(states.requires_grad),
            self.host.errors(self.name),
            nnsight_model.trace(inputs, **settings),
        ):
            for path in paths:
                nnsight_model.get(path).skip(states)
            saved = nnsight_model.output.logits.save()
        logits: torch.Tensor = saved
        return logits

    def next_logits(self, batch: TokenBatch) -> torch.Tensor:
        """Return the logits after each prompt, (rows, vocabulary), without a trace."""
        with torch.no_grad():
            logits: torch.Tensor = self.module(
                **batch.inputs(), use_cache=False, logits_to_keep=1
            ).logits[:, -1]
        return logits

    def forward_with_states(
        self,
        inputs: Mapping[str, torch.Tensor],
        states: torch.Tensor | None = None,
        *,
        keep: int = 0,
    ) -> torch.Tensor:
        """Run all blocks, with given states written at the first positions of the layer in use.

        Unlike `resume_with_states` this works on every host and for every family. The arguments
        are those of a `Pass`.

        Returns:
            Logits, (rows, keep, vocabulary).
        """
        return next(self.run_passes([Pass(inputs, states, keep)]))

    def generation(
        self,
        prompts: TokenBatch,
        states: torch.Tensor | None,
        settings: Mapping[str, Any],
        message: KeyValues | None = None,
    ) -> Pass:
        """Return the pass that generates after prompts with Hugging Face's `generate`.

        Args:
            prompts: (rows, positions).
            states: (rows, positions, width), in place of the layer's output in the prefill; None
                writes nothing.
            settings: Keyword arguments of `generate`.
            message: Keys and values in front of the prompts.
        """
        inputs = {"input_ids": prompts.ids, "attention_mask": prompts.mask.long()}
        ends = {"pad_token_id": self.pad_id, "eos_token_id": list(self.end_ids) or None}
        return Pass(inputs, states, generate={**settings, **ends}, message=message)

    def run_passes(self, passes: Sequence[Pass]) -> Iterator[torch.Tensor]:
        """Carry passes out in order, as few jobs: more than `JOB_BYTES` begin another.

        A job starts when its first result is asked for, so that few logits are held at a time.

        Yields:
            For each forward pass its logits, (rows, keep, vocabulary); for each generation the
            ids of prompts and new tokens, (rows, positions).
        """
        jobs: list[list[Pass]] = []
        room = 0
        for each in passes:
            size = self._bytes(each)
            if not jobs or size > room:
                jobs.append([])
                room = JOB_BYTES
            room -= size
            jobs[-1].append(each)
        for job in jobs:
            yield from self._run_job(job)

    def new_tokens(self, generation: Pass, ids: torch.Tensor) -> list[list[int]]:
        """Return the new ids of each row of a generation, up to and with the end token."""
        start = generation.inputs["input_ids"].shape[1]
        return [_until_end(row, self.end_ids) for row in ids[:, start:].tolist()]

    def _bytes(self, each: Pass) -> int:
        """Return the bytes of the message that a pass takes there and of the logits it brings."""
        layers = () if each.message is None else each.message.layers
        sent = sum(keys.nbytes + values.nbytes for keys, values in layers)
        if each.generate is not None:
            return sent
        rows, positions = each.inputs["input_ids"].shape
        vocabulary = int(self.module.config.get_text_config().vocab_size)
        return sent + rows * (each.keep or positions) * vocabulary * self.dtype.itemsize

    def _run_job(self, passes: Sequence[Pass]) -> list[torch.Tensor]:
        nnsight_model, path, blocks = self.model, self.layer_path, self.block_paths
        plain = [
            (p.states, p.generate is None, p.message.layers if p.message else (), *p.arguments())
            for p in passes
        ]
        sent = any(each.message is not None for each in passes)
        attending = attention(self.module) if sent else nullcontext()
        with torch.no_grad(), self.host.errors(self.name), attending:
            job = self.host.job(self.model)
            # nnsight 0.8 sends the body with each statement on one line, and finds the traces in
            # it by their line numbers here: no statement and no comment may take another line.
            with nnsight_model.session(**job):
                results = []
                for states, forward, message, inputs, stated in plain:
                    cache = DynamicCache()
                    for place, (keys, values) in enumerate(message):
                        own = nnsight_model.get(blocks[place])._module
                        at = keys.device if own is None else next(own.parameters()).device
                        at = keys.device if at.type == "meta" else at
                        cache.update(keys.to(at), values.to(at), place)
                    settings = {**stated, "past_key_values": cache} if message else stated
                    if forward:
                        with nnsight_model.trace(inputs, **settings):
                            if states is not None:
                                block = nnsight_model.get(path)
                                out = block.output
                                own = out[0] if isinstance(out, tuple) else out
                                given = states.to(own.device)
                                new = torch.cat((given, own[:, states.shape[1] :]), dim=1)
                                block.output = (new, *out[1:]) if isinstance(out, tuple) else new
                            result = nnsight_model.output.logits
                    else:
                        with nnsight_model.trace(inputs, fn="generate", **settings) as tracer:
                            if states is not None:
                                block = nnsight_model.get(path)
                                out = block.output
                                own = out[0] if isinstance(out, tuple) else out
                                new = states.to(own.device)
                                block.output = (new, *out[1:]) if isinstance(out, tuple) else new
                            result = tracer.result
                    results.append(result)
                saved = nnsight.save(results)
        return [each.to(self.device) if isinstance(each, torch.Tensor) else each for each in saved]

    def _captured(self, batch: TokenBatch, paths: list[str], cache: Any) -> list[torch.Tensor]:
        """Return the outputs of blocks that each row gives alone."""
        turn = turning_point(self.module)
        mixed = turn is not None and min(batch.lengths) <= turn < max(batch.lengths)
        if not (mixed or (self.unpadded and batch.padded)):
            return self._outputs(batch.inputs(), paths, cache)
        if cache is not None:
            raise PairError(
                f"{self.name}: a row's states depend on the longest row beside it, so a cache "
                "takes prompts of one length; give prompts of other lengths in calls of their own"
            )
        found: list[torch.Tensor] = []
        for length in set(batch.lengths):
            rows = [row for row, of_row in enumerate(batch.lengths) if of_row == length]
            same = self.pack(batch.ids[rows, -length:].tolist())
            outputs = self._outputs(same.inputs(), paths)
            if not found:
                found = [each.new_zeros(*batch.ids.shape, each.shape[-1]) for each in outputs]
            for whole, each in zip(found, outputs, strict=True):
                whole[rows, -length:] = each
        return found

    def _outputs(
        self, inputs: Mapping[str, torch.Tensor], paths: list[str], cache: Any = None
    ) -> list[torch.Tensor]:
        """Return the outputs of the blocks at some paths, in rising order; stop after the last."""
        nnsight_model, inputs = self.model, dict(inputs)
        settings = dict(self.host.job(self.model))
        if cache is not None:
            settings |= {"past_key_values": cache, "use_cache": True}
        # What a job fills is not what was sent; a cache that is filled elsewhere comes back.
        returned = cache is not None and self.host.serialised
        if returned:
            settings["logits_to_keep"] = 1
        with (
            torch.no_grad(),
            self.host.errors(self.name),
            nnsight_model.trace(inputs, **settings) as tracer,
        ):
            found = []
            for path in paths:
                output = nnsight_model.get(path).output
                found.append(output[0] if isinstance(output, tuple) else output)
            if returned:
                for filled in nnsight_model.output.past_key_values.layers:
                    found += [filled.keys, filled.values]
            saved = nnsight.save(found)
            if not returned:
                tracer.stop()
        results = [
            each.to(self.device) if isinstance(each, torch.Tensor) else each for each in saved
        ]
        entries = iter(results[len(paths) :])
        for block, (keys, values) in enumerate(zip(entries, entries, strict=True)):
            cache.update(keys, values, block)
        return results[: len(paths)]

    def _depends_on_padding(self) -> bool:
        """Whether a short row's logits differ beside a longer one by more than rounding does."""
        ids = [token for token in range(12) if token != self.pad_id]
        try:
            alone = self.next_logits(self.pack([ids[:3]])).float()
            beside = self.next_logits(self.pack([ids[:3], ids])).float()[:1]
        except Exception:  # the probe of both paths finds out what such a model can do
            return True
        tolerance = torch.finfo(self.dtype).eps ** 0.5 * float(alone.abs().max())
        return not float((alone - beside).abs().max()) <= tolerance

    def _check_output(self) -> None:
        path = self.layer_path
        probe = {"input_ids": torch.tensor([[self.pad_id]], device=self.device)}
        try:
            found: Any = self._outputs(probe, [path])[0]
        except StatebridgeError:
            raise
        except Exception as error:  # whatever the code of some architecture raises
            reason = shorten(" ".join(str(error).split()), 160, placeholder=" ...")
            raise PairError(
                f"{self.name}: a pass over one token fails ({type(error).__name__}: {reason}); "
                "give a model that takes token ids alone"
            ) from None
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        if shape != (1, 1, self.width):
            raise PairError(
                f"{self.name}: block {path} puts out {shape} for one token; only models whose "
                f"blocks put out one state of each token, (1, 1, {self.width}), can be used"
            )
        if found.dtype != self.dtype:
            used, declared = (str(d).removeprefix("torch.") for d in (found.dtype, self.dtype))
            raise PairError(
                f"{self.name}: computes in {used} where it runs, and {declared} is declared; "
                f"write dtype: {used}, or use a host that computes in {declared}"
            )


def _until_end(ids: list[int], end_ids: Sequence[int]) -> list[int]:
    for place, token in enumerate(ids):
        if token in end_ids:
            return ids[: place + 1]
    return ids


def check_finite(states: torch.Tensor, mask: torch.Tensor, where: str) -> None:
    """Raise NumericError if a state at a real token holds NaN or infinity."""
    bad = ~torch.isfinite(states).all(dim=-1) & mask
    if bool(bad.any()):
        row, position = (int(i) for i in bad.nonzero()[0])
        raise NumericError(
            f"{where}: non-finite state at row {row} of the group, position {position}; "
            "check the weights, or use a wider dtype than "
            f"{str(states.dtype).removeprefix('torch.')}"
        )
