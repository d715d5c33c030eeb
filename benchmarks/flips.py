"""Lanes whose text differs from that of the one-row float32 oracle, and how near the tie was.

    python benchmarks/flips.py --out flips

For every batching choice (1, 8 and 64 lanes; prompts of one length, or of several with
padding) and precision it decodes the same lanes and compares their tokens with the oracle
of the tests, which runs one row at a time in float32. Where they differ, the oracle's
scores at the first token that differs show by how much its choice had won.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from tests.reference.hooks import blocks, writing
from tests.reference.oracle import OraclePair, OracleRow, run_cell
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from benchmarks.published_set import prompt_lengths
from benchmarks.random_pairs import SIZES, random_pair, random_rows, random_workload
from statebridge.channels.workload import Workload
from statebridge.engine.decoding.steps import STEPS, decoding_step, step_on
from statebridge.engine.executors.shared_path import SharedPath
from statebridge.experiment.cells import Cell
from statebridge.models.pair import Pair
from statebridge.runs.plan import Group
from statebridge.translators import Translator

CONDITIONS = ("no_inject", "additive", "replace", "scale_corrected", "best_alpha")
SEED = 42
LANES = (1, 8, 64)
PENALTY, NGRAM = 1.3, 3


@dataclass(frozen=True)
class Flip:
    """A lane whose tokens differ."""

    cell: str
    row_id: str
    step: int
    """The first new token that differs, from 0."""
    margin: float
    """The oracle's best score less its second there, after the processors; nats-like."""


@torch.no_grad()
def top_two_margin(pair: OraclePair, ids: Sequence[int], row: OracleRow, step: int) -> float:
    """How far the oracle's token `step` was ahead of its runner-up."""
    tokens = list(row.token_ids or ())
    so_far = torch.tensor([[*ids, *tokens[:step]]])
    with writing(blocks(pair.receiver)[pair.receiver_layer], row.written):
        scores = pair.receiver(input_ids=so_far, use_cache=False).logits[:, -1].float()
    scores = RepetitionPenaltyLogitsProcessor(PENALTY)(so_far, scores)
    scores = NoRepeatNGramLogitsProcessor(NGRAM)(so_far, scores)
    best = scores[0].topk(2).values
    return float(best[0] - best[1])


def expected_rows(
    pair: OraclePair, workload: Workload, translator: Translator
) -> dict[tuple[str, str], OracleRow]:
    """The oracle's rows by condition and row id. Its prompts are the workload's."""
    rows = [
        {"id": row.row_id, "context": row.context, "question": row.question, "answer": row.answer}
        for row in workload.plan.rows
    ]
    decoding = workload.plan.experiment.decoding
    found = {}
    for condition in CONDITIONS:
        seeded = None if condition == "no_inject" else SEED
        for row in run_cell(
            pair,
            rows,
            condition,
            seeded,
            translator,
            gold=False,
            max_new_tokens=decoding.max_new_tokens,
        ):
            found[condition, row.row_id] = row
    return found


def groups(workload: Workload, cells: Sequence[Cell], lanes: int, padded: bool) -> list[Group]:
    """Groups of about `lanes` lanes: rows as they come, or rows of one length together."""
    size, lengths = max(1, lanes // len(cells)), workload.plan.prompts.lengths
    order = list(range(workload.plan.limit))
    batches = [order]
    if not padded:
        order.sort(key=lambda row: lengths[row])
        batches = [list(same) for _, same in groupby(order, key=lambda row: lengths[row])]
    made: list[Group] = []
    for batch in batches:
        for start in range(0, len(batch), size):
            rows = tuple(batch[start : start + size])
            made.append(Group(len(made), "states", "task", rows, tuple(cells)))
    return made


def flips(
    oracle: OraclePair,
    expected: Mapping[tuple[str, str], OracleRow],
    workload: Workload,
    lanes: int,
    padded: bool,
) -> list[Flip]:
    """Run every lane and return those whose tokens are not the oracle's."""
    workload = replace(workload, plan=replace(workload.plan, max_lanes=lanes))
    path = SharedPath(workload)
    found: list[Flip] = []
    for group in groups(workload, workload.plan.cells, lanes, padded):
        for cell, index, row in path.run(group):
            wanted = expected[cell.condition.name, row.row_id]
            ours, theirs = list(row.token_ids or ()), list(wanted.token_ids or ())
            if ours == theirs:
                continue
            both = min(len(ours), len(theirs))
            step = next((i for i in range(both) if ours[i] != theirs[i]), both)
            margin = top_two_margin(oracle, workload.plan.prompts.receiver[index], wanted, step)
            found.append(Flip(cell.name, row.row_id, step, margin))
    return found


def report(
    size: str, rows: int, new_tokens: int, dtypes: Sequence[str], device: str
) -> dict[str, Any]:
    """Every choice of batch and precision over the same lanes."""
    exact = random_pair(size)
    oracle = OraclePair(
        exact.sender.module,
        exact.receiver.module,
        exact.sender.layer,
        exact.receiver.layer,
        exact.receiver.tokenizer,
    )
    examples = random_rows(prompt_lengths(rows))
    conditions = f"[{', '.join(CONDITIONS)}]"
    expected: dict[tuple[str, str], OracleRow] = {}
    choices = []
    for name in dtypes:
        dtype = getattr(torch, name)
        same = name == "float32" and device == "cpu"
        pair: Pair = exact if same else random_pair(size, device=device, dtype=dtype)
        workload = random_workload(pair, examples, conditions, new_tokens, seeds=(SEED,))
        if not expected:
            on_cpu = random_workload(exact, examples, conditions, new_tokens, seeds=(SEED,))
            translator = next(t for (_, seed), t in on_cpu.translators.items() if seed == SEED)
            expected = expected_rows(oracle, on_cpu, translator)
        for lanes in LANES:
            for padded in (False, True) if lanes > 1 else (False,):
                found = flips(oracle, expected, workload, lanes, padded)
                margins = [flip.margin for flip in found]
                choices.append(
                    {
                        "dtype": name,
                        "lanes": lanes,
                        "padded": padded,
                        "compared": len(expected),
                        "flipped": len(found),
                        "median_margin": statistics.median(margins) if margins else None,
                        "largest_margin": max(margins, default=None),
                        "flips": [vars(flip) for flip in found],
                    }
                )
                print(f"{size} {name} {lanes} padded={padded}: {len(found)}", flush=True)
    step = step_on(torch.device(device))
    return {"size": size, "device": device, "step": step, "choices": choices}


def markdown(record: Mapping[str, Any]) -> str:
    """The record as a table for each size."""
    lines = [f"{record['date']}, {record['machine']}, torch {record['torch']}."]
    for table in record["sizes"]:
        lines += [
            "",
            f"**{table['size']}** on {table['device']}, {table['step']} step, "
            f"{record['new_tokens']} new tokens",
            "",
            "| dtype | lanes | padded | lanes that differ | median top-two margin | largest |",
            "|---|---|---|---|---|---|",
        ]
        for choice in table["choices"]:
            share = f"{choice['flipped']} of {choice['compared']}"
            margins = (
                f"{choice['median_margin']:.2g} | {choice['largest_margin']:.2g}"
                if choice["flipped"]
                else "– | –"
            )
            padded = "yes" if choice["padded"] else "no"
            lines.append(
                f"| {choice['dtype']} | {choice['lanes']} | {padded} | {share} | {margins} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["demo"])
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--step", choices=STEPS, help="default: graph on a GPU, else dynamic")
    parser.add_argument("--out", type=Path, default=Path("flips"), help="without an ending")
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    on_gpu = options.device.startswith("cuda")
    with decoding_step(options.step):
        sizes = [
            report(size, options.rows, options.new_tokens, options.dtypes, options.device)
            for size in options.sizes
        ]
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": torch.cuda.get_device_name(options.device) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "new_tokens": options.new_tokens,
        "sizes": sizes,
    }
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    options.out.with_suffix(".md").write_text(markdown(record), encoding="utf-8")
    print(markdown(record))


if __name__ == "__main__":
    main()
