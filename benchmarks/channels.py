"""A row per channel, beside a plain transformers loop at batch 1 and the limit of products.

    python benchmarks/channels.py --size smollm2-135m

A model of random weights answers behind a message that it sent to itself: one state written at the
last token; keys and values in front of its prompt, of all layers, of the middle ones, with ten
latent steps, or through a map; its own cache changed by a fuser; soft tokens of the whole prompt,
or ten that it writes. Three ways take turns:

- the loop: one row after another with transformers alone, its cache, hooks and `generate` (maps,
  fusers and shortened layers are those of the library, a row at a time);
- Statebridge: all rows in one group, the gold measures included;
- the limit: the matrix products of the linear layers alone at Statebridge's batch shapes, by the
  quickest kind of product that torch has.

Times are CPU seconds of this process a lane.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import nnsight
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.limit import _weights, products_on
from benchmarks.methods import _settings
from benchmarks.random_pairs import (
    SIZES,
    random_model,
    random_rows,
    random_workload,
    run_groups,
    word_tokenizer,
)
from statebridge.channels.fused import empty_fuser, fused_into
from statebridge.channels.messages.key_value_maps import empty_map, mapped
from statebridge.channels.messages.layer_choice import chosen_layers
from statebridge.channels.workload import Workload
from statebridge.data import DatasetRow
from statebridge.experiment.experiment import DEFAULT_SET
from statebridge.experiment.message import LayerShare
from statebridge.experiment.translator_settings import FuserSettings, KeyValueSettings
from statebridge.models.messages.input_vectors import input_vectors, latent_step
from statebridge.models.messages.key_values import KeyValues, attention
from statebridge.models.messages.shared_tokens import shared_tokens
from statebridge.models.onednn_layers import take_onednn
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.translators import Translator

LATENT_STEPS = WRITTEN = 10
FUSER_WIDTH, SOURCES = 256, 8
SEED = 42
_RAW = "source: sender, prompt: question_only"
CONDITIONS = {
    "single state": f"{{name: one, {_RAW}, positions: last, source_positions: last}}",
    "kv prepend": f"{{name: one, {_RAW}, site: kv, operator: append}}",
    "kv of 30 % of layers": f"{{name: one, {_RAW}, site: kv, operator: append, "
    "layers: {share: 0.3, by: middle}}",
    "rollout": f"{{name: one, {_RAW}, site: kv, operator: append, "
    f"rollout: {{steps: {LATENT_STEPS}}}}}",
    "kv mapped": "{name: one, source: translated, prompt: question_only, site: kv, "
    "operator: append}",
    "fused": "{name: one, source: translated, site: kv, operator: fuse}",
    "soft tokens": f"{{name: one, {_RAW}, site: embedding, operator: append, "
    "soft_tokens: {by: vocab}}",
    "cipher": f"{{name: one, {_RAW}, site: embedding, operator: append, "
    f"soft_tokens: {{by: cipher, steps: {WRITTEN}}}}}",
}
Ids = Sequence[int]
Loop = Callable[[Ids, Ids, int], tuple[int, ...]]
"""The new tokens of one row: of the sender's prompt, the receiver's and how many."""


def model_of(size: str) -> TracedModel:
    """Return a model of random weights, read and written at relative depth 0.67."""
    if size == "smollm2-135m":
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
            num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        module = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            module.get_output_embeddings().weight[0] = 0.0  # the end token never wins
        module.requires_grad_(False)
    else:
        module = random_model(SIZES[size].receiver, SIZES[size], 0, torch.float32)
    take_onednn(module)
    words = word_tokenizer()
    wrapped = nnsight.TransformersModel(
        module, task="text-generation", tokenizer=words, device="cpu"
    )
    return TracedModel.wrap(wrapped, words, 0.67, name=f"random-{size}")


def translator_of(model: TracedModel, channel: str) -> Translator | None:
    """Return the map of random weights that a channel's messages pass; None where it has none."""
    pair = Pair(model, model)
    if channel == "kv mapped":
        made = empty_map(pair, KeyValueSettings(heads="same", sources=SOURCES))
        read = made.map.chosen
        depth, sources = read.shape
        blocks = torch.arange(depth)[:, None] + torch.arange(sources)
        read.copy_(blocks % depth)
    elif channel == "fused":
        made = empty_fuser(pair, FuserSettings(hidden_dim=FUSER_WIDTH))
    else:
        return None
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in made.map.parameters():
            weights.copy_(0.02 * torch.randn_like(weights) + (weights.ndim == 0))
    return made.requires_grad_(False)


def loops(model: TracedModel) -> dict[str, Loop]:
    """Return each channel's plain loop over one row."""
    module, inputs = model.module, input_vectors(model)
    block = module.get_submodule(model.layer_path)
    step = latent_step(model, "realigned")
    norm = inputs.norm(dim=-1).mean()
    own, theirs = shared_tokens(model, model)
    pair, depth = Pair(model, model), len(model.block_paths)
    through = {name: translator_of(model, name) for name in ("kv mapped", "fused")}
    middle = chosen_layers(LayerShare(share=0.3, by="middle"), depth, None, list)
    directions = torch.nn.functional.normalize(inputs, dim=-1)

    def answer(before: int, cache: Any, prompt: Ids, new: int) -> tuple[int, ...]:
        ids = torch.tensor([[0] * before + list(prompt)])
        settings = _settings(new) | {"attention_mask": torch.ones_like(ids)}
        found = module.generate(ids, past_key_values=cache, **settings)
        return tuple(found[0, ids.shape[1] :].tolist())

    def single_state(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        found: list[torch.Tensor] = []

        def first(output: Any) -> torch.Tensor:
            return output[0] if isinstance(output, tuple) else output

        def read(_: Any, __: Any, output: Any) -> None:
            found.append(first(output)[:, -1])

        def write(_: Any, __: Any, output: Any) -> Any:
            states = first(output)
            if states.shape[1] == 1:
                return output
            states = torch.cat((states[:, :-1], found[0][:, None]), dim=1)
            return (states, *output[1:]) if isinstance(output, tuple) else states

        hook = block.register_forward_hook(read)
        module(torch.tensor([list(sent)]), logits_to_keep=1)
        hook.remove()
        hook = block.register_forward_hook(write)
        answered = answer(0, None, prompt, new)
        hook.remove()
        return answered

    def kv(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        cache = module(torch.tensor([list(sent)]), use_cache=True, logits_to_keep=1).past_key_values
        return answer(len(sent), cache, prompt, new)

    def read(sent: Ids) -> KeyValues:
        cache = module(torch.tensor([list(sent)]), use_cache=True, logits_to_keep=1).past_key_values
        return KeyValues(tuple((at.keys, at.values) for at in cache.layers), (len(sent),))

    def some_layers(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        with attention(module):  # a shortened layer has fewer entries than the mask
            return answer(len(sent), read(sent).shortened(middle).cache(), prompt, new)

    def kv_mapped(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        translator = through["kv mapped"]
        assert translator is not None
        return answer(len(sent), mapped(pair, translator, read(sent)).cache(), prompt, new)

    def fused(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        translator = through["fused"]
        assert translator is not None
        share, mine = read(sent).without_last(), read(prompt).without_last()
        found = fused_into(translator, share, mine, mine.lengths, "learned")
        return answer(0, found.cache(), prompt, new)

    def rollout(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        base = module.base_model
        out = base(torch.tensor([list(sent)]), use_cache=True)
        for _ in range(LATENT_STEPS):
            vector = step(out.last_hidden_state[:, -1])[:, None]
            out = base(inputs_embeds=vector, past_key_values=out.past_key_values, use_cache=True)
        return answer(len(sent) + LATENT_STEPS, out.past_key_values, prompt, new)

    def soft(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        logits = module(torch.tensor([list(sent)])).logits[..., own]
        mixed = logits.softmax(dim=-1) @ inputs[theirs]
        mixed = mixed / mixed.norm(dim=-1, keepdim=True) * norm
        cache = module.base_model(inputs_embeds=mixed, use_cache=True).past_key_values
        return answer(len(sent), cache, prompt, new)

    def cipher(sent: Ids, prompt: Ids, new: int) -> tuple[int, ...]:
        base, made = module.base_model, []
        out = base(torch.tensor([list(sent)]), use_cache=True)
        for _ in range(WRITTEN):
            logits = module.get_output_embeddings()(out.last_hidden_state[:, -1])
            vector = logits.softmax(dim=-1) @ inputs
            if int((vector @ directions.T).argmax()) in model.end_ids:
                break
            made.append(vector)
            out = base(
                inputs_embeds=vector[:, None], past_key_values=out.past_key_values, use_cache=True
            )
        cache = base(inputs_embeds=torch.stack(made, dim=1), use_cache=True).past_key_values
        return answer(len(made), cache, prompt, new)

    return {
        "single state": single_state,
        "kv prepend": kv,
        "kv of 30 % of layers": some_layers,
        "rollout": rollout,
        "kv mapped": kv_mapped,
        "fused": fused,
        "soft tokens": soft,
        "cipher": cipher,
    }


def ready(
    model: TracedModel, channel: str, rows: Sequence[DatasetRow], new: int
) -> tuple[Workload, list[tuple[Ids, Ids]]]:
    """Return the one cell of a channel over rows, and what both sides read of each."""
    translator = translator_of(model, channel)
    maps = None if translator is None else {(DEFAULT_SET, SEED): translator}
    workload = random_workload(
        Pair(model, model), rows, f"[{CONDITIONS[channel]}]", new, (SEED,), maps
    )
    prompts, (cell,) = workload.plan.prompts, workload.plan.cells
    asked = prompts.read(cell.condition.prompt)
    return workload, list(zip(prompts.sender, asked, strict=True))


def product_seconds(
    workload: Workload, channel: str, new: int, product: Callable[..., torch.Tensor]
) -> float:
    """CPU seconds of the linear layers' products of one group, all rows together."""
    model, prompts = workload.pair.receiver, workload.plan.prompts
    blocks = [_weights(model, path) for path in model.block_paths]
    head = [model.module.get_output_embeddings().weight]
    every, lower = list(chain(*blocks)), list(chain(*blocks[: model.layer + 1]))
    rows = len(prompts.sender)
    sent = sum(map(len, prompts.sender))
    read = sum(map(len, prompts.read(workload.plan.cells[0].condition.prompt)))
    # Weights, positions together, and how often.
    work = [(every, read, 1), (head, rows, 1), ([*every, *head], rows, new - 1)]
    work.append((lower if channel == "single state" else every, sent, 1))
    if channel == "rollout":
        work.append((every, rows, LATENT_STEPS))
    if channel == "soft tokens":
        # The logits at each position, their mixture of shared tokens' vectors, these as a prompt.
        own, _ = shared_tokens(model, model)
        work += [(head, sent, 1), ([head[0][own].T], sent, 1), (every, sent, 1)]
    if channel == "cipher":
        # A step's logits, the mixture, the nearest token and the blocks; the vectors as a prompt.
        work.append(([*head, head[0].T, *head, *every], rows, WRITTEN))
        work.append((every, rows * WRITTEN, 1))
    for translator in workload.translators.values():
        if channel in ("kv mapped", "fused"):
            parts = [weights.detach() for weights in translator.map.parameters()]
            matrices = [matrix for part in parts if part.ndim > 1 for matrix in _matrices(part)]
            work.append((matrices, sent, 1))
    return sum(repeats * _cpu_seconds(weights, batch, product) for weights, batch, repeats in work)


def _matrices(weights: torch.Tensor) -> list[torch.Tensor]:
    """The matrices of a layer's weights, (out, in) each; a stack of them is (..., in, out)."""
    return [weights] if weights.ndim == 2 else list(weights.flatten(0, -3).mT)


def _cpu_seconds(
    weights: Sequence[torch.Tensor], batch: int, product: Callable[..., torch.Tensor]
) -> float:
    values = {w.shape[1]: torch.randn(batch, w.shape[1]) for w in weights}
    taken = []
    with torch.no_grad():
        for _ in range(3):
            began = time.process_time()
            for weight in weights:
                product(values[weight.shape[1]], weight)
            taken.append(time.process_time() - began)
    return min(taken)


def measured(
    size: str, channel: str, rows: int, prompt: int, new: int, rounds: int
) -> tuple[float, float, float]:
    """Return CPU seconds a lane of the loop, of Statebridge and of the products."""
    model = model_of(size)
    workload, both = ready(model, channel, random_rows([prompt] * rows), new)
    loop = loops(model)[channel]
    few = both[:2]
    products = products_on(torch.device("cpu"), torch.float32).values()
    found: tuple[list[float], ...] = ([], [], [])
    for turn in range(rounds + 1):
        with torch.no_grad():
            began = time.process_time()
            for sent, asked in few:
                loop(sent, asked, new)
            alone = (time.process_time() - began) / len(few)
        began = time.process_time()
        lanes = run_groups(workload, 256)
        ours = (time.process_time() - began) / lanes
        if turn:
            least = min(product_seconds(workload, channel, new, each) for each in products) / lanes
            for kept, seconds in zip(found, (alone, ours, least), strict=True):
                kept.append(seconds)
    loop_seconds, ours, least = map(statistics.median, found)
    return loop_seconds, ours, least


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["smollm2-135m", *SIZES], default="demo")
    parser.add_argument("--channel", choices=list(CONDITIONS), action="append")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=60)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args(arguments)
    print(
        f"| {given.size}, ms a lane | loop | Statebridge | products | loop / S. | S. / products |"
    )
    print("|---|---|---|---|---|---|")
    for channel in given.channel or CONDITIONS:
        loop, ours, least = measured(
            given.size, channel, given.rows, given.prompt, given.new_tokens, given.rounds
        )
        print(
            f"| {channel} | {1000 * loop:.1f} | {1000 * ours:.2f} | {1000 * least:.2f} "
            f"| {loop / ours:.1f} | {ours / least:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
