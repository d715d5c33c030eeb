"""The key of a lane: a digest of everything that its result is a function of.

Names that say nothing about the work are left out: `skyline` and `no_inject` have one key. A
seed counts where something is drawn from it; where it selects a translator, the translator's
weights count instead. So a lane has the same key in every experiment.

The key does not cover how lanes are grouped. Tokens do not depend on that; measured values may,
in their last digits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from statebridge.channels.channel import CHANNELS
from statebridge.channels.workload import Workload
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Prompt
from statebridge.experiment.message import LayerShare
from statebridge.experiment.random_streams import STREAMS, PerRow
from statebridge.experiment.sources import SOURCES
from statebridge.models.quantized import RECORDED, is_quantized
from statebridge.models.traced_model import TracedModel
from statebridge.models.weights import weights_sha256
from statebridge.runs.directory import FORMAT
from statebridge.runs.stores import LaneKey
from statebridge.translators import Translator
from statebridge.translators.storage import recorded_versions

KEY_FORMAT = 6
"""To be raised whenever the same inputs give another result or another set of fields."""


class LaneKeys:
    """The keys of a workload's lanes."""

    def __init__(self, workload: Workload, identity: Mapping[str, Any]) -> None:
        """Take a workload and the identity of its run, as the manifest states it.

        The models' hashes, the versions and the devices are read from the identity.
        """
        self._work = workload
        hashes = {side: identity["pair"][side]["weights_sha256"] for side in ("sender", "receiver")}
        self.complete = None not in hashes.values()
        """Whether all weights are on this machine; keys mean nothing otherwise."""
        pair, experiment = workload.pair, workload.plan.experiment
        self._sender = [model_digest(pair.sender, hashes["sender"]), identity["sender_device"]]
        self._common = {
            "key": KEY_FORMAT,
            "run": FORMAT,
            "versions": identity["versions"],
            "device": identity["device"],
            "path": experiment.path,
            "remote": experiment.remotes if experiment.runs_remotely else None,
            **({"added_parts": added} if (added := identity.get("added_parts")) else {}),
            "decode": experiment.decode,
            "receiver": model_digest(pair.receiver, hashes["receiver"]),
        }
        self._translators = {key: _translator(t) for key, t in workload.translators.items()}
        self._cells = {cell: self._of_cell(cell) for cell in workload.plan.cells}
        self._drawn_before: dict[Prompt, list[str]] = {}

    def of(self, cell: Cell, row: int) -> LaneKey:
        """Return the key of a row (its index in the dataset) in a cell."""
        work, condition = self._work, cell.condition
        prompts, source = work.plan.prompts, work.plan.rows[row]
        relays = condition.uses_text
        parts: dict[str, Any] = {
            "cell": self._cells[cell],
            "id": source.row_id,
            "gold": source.answer,
            # For a relay, the prompt from which the divergence is measured.
            "read": prompts.read(condition.prompt)[row],
            "text": (
                [source.context, source.question]
                if relays
                else work.plan.answers[condition.prompt][row]
            ),
            "others": self._of_others(condition.prompt, row, relays),
            "spans": [
                prompts.span(condition.prompt, positions, row)
                for positions in (condition.positions, condition.source_positions)
            ],
            # Numbers for sampled texts depend on the row's id as well.
            "sampled": cell.seed if work.plan.experiment.sampled else None,
            "noise": self._of_noise(cell, row),
        }
        if condition.source in SOURCES.added_elsewhere() or (
            condition.channel_name in CHANNELS.added_elsewhere()
        ):
            # Code of a user's own may read every field of a row.
            origin = work.plan.origin(cell, row)
            parts["rows"] = [asdict(source), asdict(work.plan.rows[origin])]
        if condition.writes and not condition.private:
            parts["match"] = [prompts.ids_match(row), prompts.lengths_match(row)]
        if condition.reads_sender:
            own = prompts.sent(condition.sender_context, row)
            parts["sent"] = [len(own), work.plan.sent(cell, row)]
            if condition.senders is not None or condition.deltas is not None:
                parts["turns"] = work.plan.turns(cell, row)
            if condition.shuffled:
                origin = work.plan.donor(cell, row)
                parts["donor"] = [work.plan.rows[origin].row_id, origin == row]
        return bytes.fromhex(digest(parts))

    def _of_others(self, prompt: Prompt, row: int, relays: bool) -> Any:
        """Return what is measured beside the gold answer, of which texts."""
        plan = self._work.plan
        asked = plan.experiment.likelihoods
        if asked is None:
            return None
        texts = asdict(plan.other_answers[row]) if plan.other_answers else None
        ids = plan.others[prompt][row] if plan.others and not relays else None
        # How many decoys were asked for shows in the texts.
        return [asked.model_dump(exclude={"decoys"}), texts, ids]

    def _of_cell(self, cell: Cell) -> str:
        work, condition = self._work, cell.condition
        relays = condition.uses_text
        decoding = work.plan.experiment.decoding.model_dump(mode="json")
        if not relays:
            # The prompt's limit shows in the ids; without decoding the rest does nothing.
            for name in ("relay_max_new_tokens", "max_prompt_tokens", "truncate"):
                del decoding[name]
            decoding = decoding if work.plan.experiment.decode else {}
        parts: dict[str, Any] = {
            "common": self._common,
            # Whose states a lone row takes shows in the donor.
            "condition": condition.model_dump(
                mode="json", exclude={"name", "translator", "lone_rows"}, exclude_none=True
            ),
            "decoding": decoding,
        }
        if condition.writes:
            parts["receiver_layer"] = work.pair.receiver.layer_path
        if condition.reads_sender:
            parts["sender_layer"] = work.pair.sender.layer_path
        if condition.reads_sender or relays:
            parts["sender"] = self._sender
        if condition.latent_seeded:
            parts["latent_seed"] = cell.seed
        if condition.message_seeded:
            parts["message_seed"] = cell.seed
        if isinstance(condition.layers, LayerShare):
            read: Any = work.plan.prompts.read(condition.prompt)
            sent: Any = work.plan.prompts.sender
            if condition.senders is not None:
                sent = work.plan.prompts.dealt[condition.senders.readers, None]
            rows = work.plan.rows_of(condition.layers)
            drawn = cell.seed if condition.layers.by == "random" else None
            parts["layers"] = [drawn, [[sent[row], read[row]] for row in rows]]
        if condition.translates:
            parts["translator"] = self._translators[work.plan.translator_key(cell)]
        if relays:
            parts["templates"] = self._templates(condition.prompt)
        return digest(parts)

    def _templates(self, prompt: Prompt) -> Any:
        """Return the templates of prompts that are known only once a model has written."""
        prompts, pair = self._work.plan.experiment.prompts, self._work.pair
        sides = pair.sender, pair.receiver
        chats = [getattr(model.tokenizer, "chat_template", None) for model in sides]
        chat = None if prompts.chat == "none" else [prompts.chat, *chats]
        if prompt == "relay":
            return [prompts.relay_sender, prompts.relay_receiver, chat]
        first = [prompts.to_sender, prompts.question_only]
        return [*first, prompts.debate_sender, prompts.debate_receiver, chat]

    def _of_noise(self, cell: Cell, row: int) -> Any:
        if not cell.condition.draws_noise:
            return None
        rng, prompt = self._work.plan.experiment.rng, cell.condition.prompt
        if isinstance(STREAMS.get(rng), PerRow):  # by seed and row id
            return ["per-row", cell.seed]
        if prompt not in self._drawn_before:
            running, marks = hashlib.sha256(), []
            for ids in self._work.plan.prompts.read(prompt):
                marks.append(running.hexdigest())
                running.update(f"{len(ids)},".encode())
            self._drawn_before[prompt] = marks
        # One stream: a row's draw begins where the draws of the rows before it end.
        return [rng, cell.seed, self._drawn_before[prompt][row]]


def model_digest(model: TracedModel, weights: str | None) -> str:
    """Return the digest of a model, its configuration and its tokenizer."""
    module = model.module
    config = module.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    generation = getattr(module, "generation_config", None)
    return digest(
        {
            "weights": weights,
            "dtype": str(model.dtype),
            # What computes with weights of few bits.
            **(recorded_versions(RECORDED) if is_quantized(module) else {}),
            "device": model.device.type,
            "class": type(module).__name__,
            "config": config,
            "attention": getattr(module.config, "_attn_implementation", None),
            "generation": None if generation is None else generation.to_dict(),
            "end_ids": model.end_ids,
            "pad_id": model.pad_id,
            "tokenizer": _tokenizer(model.tokenizer),
        }
    )


def _tokenizer(tokenizer: Any) -> str:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        content: Any = tokenizer.get_vocab()
    else:
        content = json.loads(fast.to_str())
        # Settings of its last call, no part of the tokenizer.
        for name in ("truncation", "padding"):
            content.pop(name, None)
    return digest(
        {
            "class": type(tokenizer).__name__,
            "content": content,
            "special": tokenizer.all_special_tokens,
            "tidies": getattr(tokenizer, "clean_up_tokenization_spaces", None),
        }
    )


def _translator(translator: Translator) -> str:
    return digest(
        {
            "kind": translator.kind,
            "widths": [translator.width_in, translator.width_out],
            "options": translator.options,
            "normalize_input": translator.normalize_input,
            "dtype": str(translator.dtype),
            "weights": weights_sha256(translator),
        }
    )


def digest(value: Any) -> str:
    """Return the SHA-256, in hex, of a value in canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    """Convert the values in configurations that JSON does not know."""
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    to_dict = getattr(value, "to_dict", None)
    return to_dict() if callable(to_dict) else repr(value)
