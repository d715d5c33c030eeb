"""Seconds per lane: one-row loop, plain `generate`, naive nnsight, the engine, the limit.

    python benchmarks/sweep.py --size 160m-410m

Everything is timed in one process, one after another; weights are random, of the true
shapes. A lane is one row in one cell: prompt of 45 tokens, 64 new tokens, end token never
reached (random weights of this size do not, and it is masked for the rest). The figures of
two machines cannot be compared; the ratios within one run can.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nnsight
import torch
import transformers
from tests.reference.oracle import OraclePair, run_cell
from tokenizers import Tokenizer, models, pre_tokenizers

from statebridge.data import DatasetRow
from statebridge.engine.plan import plan_groups
from statebridge.engine.shared_sweep import SharedSweep
from statebridge.engine.workload import prepare
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.spec import parse_experiment
from statebridge.translators import Translator

PROMPT, NEW = 45, 64
SIZES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], int]] = {
    # (blocks, width, heads) of sender and receiver, vocabulary
    "tiny": ((4, 64, 4), (6, 96, 6), 1024),
    "70m-160m": ((6, 512, 8), (12, 768, 12), 50304),
    "160m-410m": ((12, 768, 12), (24, 1024, 16), 50304),
}
SEEDS = (42, 123, 456)


def build(shape: tuple[int, int, int], vocabulary: int, seed: int, dtype: torch.dtype) -> Any:
    blocks, width, heads = shape
    torch.manual_seed(seed)
    config = transformers.GPTNeoXConfig(
        vocab_size=vocabulary,
        num_hidden_layers=blocks,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        rotary_pct=0.25,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        # The end token never wins, so that every lane takes all its steps.
        model.get_output_embeddings().weight[0] = 0.0
    return model.eval().requires_grad_(False)


def tokenizer() -> Any:
    """Every word is a token: a prompt's length is what it is made to be."""
    words = {f"w{i}": i + 1 for i in range(900)} | {"<|endoftext|>": 0}
    tokens = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def rows(count: int) -> list[DatasetRow]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        ids = torch.randint(1, 900, (PROMPT,), generator=generator).tolist()
        words = [f"w{i}" for i in ids]
        made.append(
            DatasetRow(f"row_{index:04d}", " ".join(words[:-5]), " ".join(words[-5:]), words[0])
        )
    return made


def timed(work: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def generate(model: Any, batch: int, device: torch.device) -> float:
    ids = torch.randint(1, 900, (batch, PROMPT), device=device)
    seconds = timed(
        lambda: model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            do_sample=False,
            repetition_penalty=1.3,
            no_repeat_ngram_size=3,
            pad_token_id=0,
        ),
        device,
    )
    return seconds / batch


def naive_nnsight(model: Any, path: str, width: int, device: torch.device, count: int) -> float:
    states = torch.randn((1, PROMPT, width), device=device, dtype=model.dtype)

    def loop() -> None:
        for _ in range(count):
            ids = torch.randint(1, 900, (1, PROMPT), device=device)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with (
                torch.no_grad(),
                model.generate(
                    inputs,
                    max_new_tokens=NEW,
                    do_sample=False,
                    repetition_penalty=1.3,
                    no_repeat_ngram_size=3,
                    pad_token_id=0,
                ) as tracer,
            ):
                model.get(path).output = states
                tracer.result.save()

    return timed(loop, device) / count


def engine(pair: Pair, examples: Sequence[DatasetRow], cells: int, max_lanes: int) -> Any:
    width_in, width_out = pair.sender.width, pair.receiver.width
    translators = {}
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        translator = Translator("affine", width_in, width_out)
        weight = torch.randn((width_out, width_in), generator=generator) / width_out**0.5
        translator.set_weights({"weight": weight, "bias": torch.zeros(width_out)}, where="bench")
        translators[seed] = translator.to(pair.receiver.device).requires_grad_(False)
    conditions = {
        1: "[no_inject]",
        5: "[no_inject, b_to_b_self_inject, replace]",
        # No relay: its own generation is another workload. 4 plain and 21 seeded cells.
        25: "[no_inject, b_to_b_self_inject, zero_replacement, additive, replace, "
        "scale_corrected, best_alpha, same_norm_random, shuffled_translation, "
        "{name: own_mean, source: receiver, operator: mean}, "
        "{name: last_only, source: translated, positions: last, source_positions: last}]",
    }[cells]
    experiment = parse_experiment(
        f"""
name: bench
sender: {{model: a, layer: 0.67}}
receiver: {{model: b, layer: 0.67}}
dataset: {{path: x}}
translators: {{42: a, 123: b, 456: c}}
conditions: {conditions}
prompts: {{task: "{{context}} {{question}}"}}
"""
    )
    workload = prepare(experiment, pair, examples, translators)
    groups = plan_groups(workload, max_lanes)
    sweep = SharedSweep(workload, max_lanes)
    lanes = 0

    def run() -> None:
        nonlocal lanes
        for group in groups:
            lanes += len(sweep.run(group))

    seconds = timed(run, pair.receiver.device)
    return seconds / lanes, lanes


def matrix_limit(pair: Pair, lanes: int, cells: int) -> float:
    """Seconds a lane of the matrix products alone, at the engine's own batch shapes."""
    receiver, device = pair.receiver, pair.receiver.device
    prompt_rows = max(1, lanes // cells)

    def products(model: TracedModel, blocks: range, batch: int) -> float:
        shapes = [
            tuple(module.weight.shape)
            for path in model.block_paths[blocks.start : blocks.stop][:1]
            for module in model.module.get_submodule(path).modules()
            if isinstance(module, torch.nn.Linear)
        ]
        return len(blocks) * sum(product(batch, shape) for shape in shapes)

    def product(batch: int, shape: tuple[int, ...]) -> float:
        a = torch.randn((batch, shape[1]), device=device, dtype=receiver.dtype)
        w = torch.randn((shape[0], shape[1]), device=device, dtype=receiver.dtype)
        best = float("inf")
        for _ in range(5):
            best = min(best, timed(lambda: torch.nn.functional.linear(a, w), device))
        return best

    depth, layer = len(receiver.block_paths), receiver.layer
    head = tuple(receiver.module.get_output_embeddings().weight.shape)
    step = products(receiver, range(depth), lanes) + product(lanes, head)
    upper = products(receiver, range(layer + 1, depth), lanes * PROMPT) + product(lanes, head)
    lower = products(receiver, range(layer + 1), prompt_rows * PROMPT)
    sender = products(pair.sender, range(pair.sender.layer + 1), prompt_rows * PROMPT)
    return ((NEW - 1) * step + upper + lower + sender) / lanes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="160m-410m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--cells", type=int, choices=(1, 5, 25), default=25)
    parser.add_argument("--max-lanes", type=int, default=128)
    parser.add_argument("--groups", type=int, default=1, help="groups the engine runs")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    shape_a, shape_b, vocabulary = SIZES[options.size]
    words = tokenizer()
    sides = []
    for place, shape in enumerate((shape_a, shape_b)):
        module = build(shape, vocabulary, place, dtype).to(device)
        wrapped = nnsight.TransformersModel(module, task="text-generation", tokenizer=words)
        sides.append(TracedModel.wrap(wrapped, words, 0.67, name=f"side {place}"))
    pair = Pair(*sides)
    count = max(1, options.max_lanes // options.cells) * options.groups
    examples = rows(count)
    figures: dict[str, float] = {}

    def note(name: str, seconds: float) -> None:
        figures[name] = seconds
        print(f"{name:34} {seconds:9.4f} s a lane", flush=True)

    generate(pair.receiver.module, 1, device)  # warm-up
    oracle = OraclePair(
        pair.sender.module, pair.receiver.module, pair.sender.layer, pair.receiver.layer, words
    )
    examples_as_dicts = [
        {"id": row.row_id, "context": row.context, "question": row.question, "answer": row.answer}
        for row in examples[:2]
    ]
    note(
        "(a) one-row loop with hooks",
        timed(lambda: run_cell(oracle, examples_as_dicts, "b_to_b_self_inject", gold=False), device)
        / len(examples_as_dicts),
    )
    for batch in options.batches:
        note(f"(b) generate, batch {batch}", generate(pair.receiver.module, batch, device))
    note(
        "(c) one generate trace a row",
        naive_nnsight(
            pair.receiver.model, pair.receiver.layer_path, pair.receiver.width, device, 2
        ),
    )
    seconds, lanes = engine(pair, examples, options.cells, options.max_lanes)
    note(f"(d) Statebridge, {lanes} lanes", seconds)
    at_once = min(options.max_lanes, lanes)
    note(f"(e) matrix products, {at_once} lanes", matrix_limit(pair, at_once, options.cells))
    best = min(value for name, value in figures.items() if name.startswith("(b)"))
    own = next(value for name, value in figures.items() if name.startswith("(d)"))
    limit = next(value for name, value in figures.items() if name.startswith("(e)"))
    loop = figures["(a) one-row loop with hooks"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"one-row loop / Statebridge {loop / own:.2f}; best generate / Statebridge "
        f"{best / own:.2f}; Statebridge / limit {own / limit:.2f}; peak memory {peak:.2f} GB"
    )
    if options.json:
        record = {
            "size": options.size,
            "cells": options.cells,
            "dtype": options.dtype,
            "device": (
                torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else f"{platform.machine()}, {torch.get_num_threads()} threads"
            ),
            "date": datetime.now(UTC).date().isoformat(),
            "torch": torch.__version__,
            "seconds_per_lane": figures,
            "peak_gigabytes": round(peak, 2),
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
