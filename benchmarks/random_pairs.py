"""Pairs with random weights of the true shapes, their tokenizer, rows and translators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nnsight
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from statebridge.channels.workload import Workload
from statebridge.data import DatasetRow, write_jsonl
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.engine.planning.groups import grouped
from statebridge.engine.planning.prepare import prepare
from statebridge.experiment import Experiment, parse_experiment
from statebridge.experiment.experiment import DEFAULT_SET
from statebridge.models.onednn_layers import take_onednn
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.translators import Translator, save_translator

Shape = tuple[int, int, int]
"""Blocks, width, heads."""


@dataclass(frozen=True)
class Size:
    """Shapes of sender and receiver."""

    sender: Shape
    receiver: Shape
    vocabulary: int
    spread: float = 0.02
    """Standard deviation of the weights."""


SIZES = {
    # Spread wide enough that greedy texts of random weights are not one token repeated.
    "demo": Size((4, 64, 4), (6, 96, 6), 1024, spread=0.1),
    "70m-160m": Size((6, 512, 8), (12, 768, 12), 50304),
    "160m-410m": Size((12, 768, 12), (24, 1024, 16), 50304),
}
SEEDS = (42, 123, 456)
WORDS = 900
PROMPT_WORDS = ("Context:", "Q:", "A:", "Key", "facts:")

CONDITIONS = {
    1: "[no_inject]",
    5: "[no_inject, b_to_b_self_inject, replace]",
    # No relay: its own generation is another workload. 4 plain and 21 seeded cells.
    25: "[no_inject, b_to_b_self_inject, zero_replacement, additive, replace, "
    "scale_corrected, best_alpha, same_norm_random, shuffled_translation, "
    "{name: own_mean, source: receiver, operator: mean}, "
    "{name: last_only, source: translated, positions: last, source_positions: last}]",
}
"""By the number of cells that they make with three seeds."""


def random_model(shape: Shape, size: Size, seed: int, dtype: torch.dtype) -> Any:
    """A GPT-NeoX causal language model that never ends its text."""
    blocks, width, heads = shape
    torch.manual_seed(seed)
    config = transformers.GPTNeoXConfig(
        vocab_size=size.vocabulary,
        num_hidden_layers=blocks,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        rotary_pct=0.25,
        initializer_range=size.spread,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        # The end token never wins, so that every lane takes all its steps.
        model.get_output_embeddings().weight[0] = 0.0
    return model.eval().requires_grad_(False)


def word_tokenizer() -> Any:
    """Every word is a token: a prompt's length is what it is made to be."""
    words = {f"w{i}": i for i in range(1, WORDS)} | {"<|endoftext|>": 0}
    words |= {word: WORDS + place for place, word in enumerate(PROMPT_WORDS)}
    tokens = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


LONGEST = 4096
"""Tokens of a prompt, at most."""


def random_pair(
    name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32, tokenizer: Any = None
) -> Pair:
    """A pair of a size of `SIZES`, read and written at relative depth 0.67."""
    size, words = SIZES[name], tokenizer or word_tokenizer()
    sides = []
    for seed, shape in enumerate((size.sender, size.receiver)):
        module = random_model(shape, size, seed, dtype).to(device)
        take_onednn(module)
        # Without its device a pipeline moves the model to the first GPU.
        wrapped = nnsight.TransformersModel(
            module, task="text-generation", tokenizer=words, device=device
        )
        sides.append(TracedModel.wrap(wrapped, words, 0.67, name=f"random-{name}-{seed}"))
    return Pair(*sides)


def random_rows(lengths: Sequence[int]) -> list[DatasetRow]:
    """Rows whose task prompts have the given lengths, in tokens; the answer is the first word."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index, length in enumerate(lengths):
        # "Context:", "Q:" and "A:" are the other three.
        ids = torch.randint(1, WORDS, (length - 3,), generator=generator).tolist()
        words = [f"w{i}" for i in ids]
        made.append(
            DatasetRow(f"row_{index:04d}", " ".join(words[:-2]), " ".join(words[-2:]), words[0])
        )
    return made


def random_translators(pair: Pair) -> dict[tuple[str, int], Translator]:
    """An affine translator for each seed, its output of about the input's norm."""
    width_in, width_out = pair.sender.width, pair.receiver.width
    translators = {}
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        translator = Translator("affine", width_in, width_out)
        weight = torch.randn((width_out, width_in), generator=generator) / width_out**0.5
        translator.set_weights({"weight": weight, "bias": torch.zeros(width_out)}, where="bench")
        translators[DEFAULT_SET, seed] = translator.to(pair.receiver.device).requires_grad_(False)
    return translators


def random_workload(
    pair: Pair,
    rows: Sequence[DatasetRow],
    conditions: str,
    new_tokens: int,
    seeds: Sequence[int] = SEEDS,
    translators: Mapping[tuple[str, int], Translator] | None = None,
) -> Workload:
    """An experiment over the rows, made ready; with affine translators unless others are given."""
    experiment = parse_experiment(
        f"""
name: bench
sender: {{model: a, layer: 0.67}}
receiver: {{model: b, layer: 0.67}}
dataset: {{path: x}}
translators: {{42: a, 123: b, 456: c}}
conditions: {conditions}
seeds: {list(seeds)}
decoding: {{max_new_tokens: {new_tokens}, max_prompt_tokens: {LONGEST}}}
"""
    )
    return prepare(experiment, pair, rows, translators or random_translators(pair))


def run_groups(workload: Workload, max_lanes: int) -> int:
    """Run all groups of a workload; the number of lanes."""
    workload = replace(workload, plan=grouped(workload.plan, max_lanes))
    path = SharedPath(workload)
    return sum(len(path.run(group)) for group in workload.plan.groups)


def random_experiment(
    pair: Pair,
    folder: Path,
    rows: Sequence[DatasetRow],
    conditions: str | list[str],
    **decoding: int,
) -> Experiment:
    """The same as files in a folder, for `run_experiment` with a pair that is loaded."""
    write_jsonl(rows, folder / "rows.jsonl")
    files = {}
    for (_, seed), translator in random_translators(pair).items():
        files[seed] = folder / f"seed{seed}.safetensors"
        save_translator(translator, files[seed])
    return Experiment.model_validate(
        {
            "name": "bench",
            "sender": {"model": pair.sender.name, "layer": 0.67},
            "receiver": {"model": pair.receiver.name, "layer": 0.67},
            "dataset": {"path": folder / "rows.jsonl"},
            "translators": files,
            "conditions": conditions,
            "dtype": str(pair.receiver.dtype).removeprefix("torch."),
            "decoding": {"max_prompt_tokens": LONGEST, **decoding},
        }
    )
