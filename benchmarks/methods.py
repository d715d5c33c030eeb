"""The ways to run a lane that are compared, each as work that returns its lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.reference.oracle import OraclePair, run_cell

from benchmarks.random_pairs import CONDITIONS, WORDS, random_rows, random_workload, run_groups
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel

Work = Callable[[], int]


def _settings(new: int) -> dict[str, Any]:
    return {
        "max_new_tokens": new,
        "do_sample": False,
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 3,
        "pad_token_id": 0,
    }


def _prompts(model: TracedModel, batch: int, prompt: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, WORDS, (batch, prompt), device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def one_row_loop(pair: Pair, count: int, prompt: int, new: int) -> Work:
    """(a) The oracle of the tests: hooks and `generate`, one row after another."""
    oracle = OraclePair(
        pair.sender.module,
        pair.receiver.module,
        pair.sender.layer,
        pair.receiver.layer,
        pair.receiver.tokenizer,
    )
    rows = [
        {"id": row.row_id, "context": row.context, "question": row.question, "answer": row.answer}
        for row in random_rows([prompt] * count)
    ]

    def work() -> int:
        # It makes its tensors where the default says.
        with torch.device(pair.receiver.device):
            run_cell(oracle, rows, "b_to_b_self_inject", gold=False, max_new_tokens=new)
        return count

    return work


def plain_generate(model: TracedModel, batch: int, prompt: int, new: int) -> Work:
    """(b) `generate` over a batch, no intervention."""

    def work() -> int:
        model.module.generate(**_prompts(model, batch, prompt), **_settings(new))
        return batch

    return work


def trace_per_row(model: TracedModel, count: int, prompt: int, new: int) -> Work:
    """(c) nnsight as one would first use it: a `generate` trace for each row."""
    states = torch.randn((1, prompt, model.width), device=model.device, dtype=model.dtype)
    nnsight_model, path = model.model, model.layer_path

    def work() -> int:
        for _ in range(count):
            inputs = _prompts(model, 1, prompt)
            with torch.no_grad(), nnsight_model.generate(inputs, **_settings(new)) as tracer:
                nnsight_model.get(path).output = states
                tracer.result.save()
        return count

    return work


def statebridge(pair: Pair, cells: int, rows: int, max_lanes: int, prompt: int, new: int) -> Work:
    """(d) The engine: every cell's intervention and the gold measures included."""
    workload = random_workload(pair, random_rows([prompt] * rows), CONDITIONS[cells], new)
    return lambda: run_groups(workload, max_lanes)
