"""Seconds per lane: one-row loop, plain `generate`, naive nnsight, the engine, the limit.

    python benchmarks/side_by_side.py --out methods

writes `methods.json` and `methods.md`. Everything is timed in one process; weights are random, of
the true shapes; all methods take turns, round after round, so that a slower minute of the
machine affects all of them. A lane is one row in one cell: prompt of 45 tokens, 64 new
tokens, end token never reached. The figures of two machines cannot be compared; the ratios
within one run can.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers

from benchmarks import limit, methods
from benchmarks.measured import Entry, measure
from benchmarks.overhead import overhead_shares
from benchmarks.random_pairs import SIZES, random_pair
from statebridge.engine.decoding.steps import STEPS, decoding_step, step_on
from statebridge.models.pair import Pair


@dataclass(frozen=True)
class Plan:
    """How much of each method is run in a round."""

    prompt: int = 45
    new: int = 64
    rounds: int = 2
    loop_rows: int = 1
    batches: tuple[int, ...] = (1, 8, 32, 64)
    lanes: int = 125
    """Lanes of the engine at 25 cells; with fewer cells half as many."""


QUICK = Plan(prompt=7, new=3, batches=(1, 2), lanes=25)
SCALING_ROWS, SCALING_CELLS = (5, 20, 80), (1, 5, 25)


def methods_table(pair: Pair, plan: Plan, cells: Sequence[int]) -> dict[str, Any]:
    """Every method, round after round, and the limit."""
    device, receiver = pair.receiver.device, pair.receiver
    size = plan.prompt, plan.new
    works = {"(a) one-row loop with hooks": methods.one_row_loop(pair, plan.loop_rows, *size)}
    for batch in plan.batches:
        works[f"(b) generate, batch {batch}"] = methods.plain_generate(receiver, batch, *size)
    works["(c) one generate trace a row"] = methods.trace_per_row(receiver, plan.loop_rows, *size)
    for count in cells:
        lanes = plan.lanes if count == max(cells) else max(count, plan.lanes // 2)
        rows = max(1, lanes // count)
        works[_engine(count)] = methods.statebridge(pair, count, rows, lanes, *size)
    # What no ratio is taken of is run in the first round only.
    once = {_engine(count) for count in cells if count != max(cells)}
    once |= {f"(b) generate, batch {batch}" for batch in plan.batches[2:-1]}
    entries = {name: Entry(name) for name in works}
    methods.plain_generate(receiver, 1, plan.prompt, 2)()  # warm-up
    kinds = limit.products_on(device, receiver.dtype)
    limits = [Entry(f"(e) linear layers, {kind} products") for kind in kinds]
    attention = Entry("(e) decoding's attention, torch's products")
    speeds: list[float] = []
    for number in range(plan.rounds):
        for name, work in works.items():
            if number and name in once:
                continue
            measure(entries[name], work, device)
            print(f"round {number + 1}  {name:34} {entries[name].seconds[-1]:9.4f}", flush=True)
        for entry, product in zip(limits, kinds.values(), strict=True):
            shapes = plan.lanes, max(cells), *size
            entry.seconds.append(limit.matrix_seconds(pair, *shapes, product))
        attention.seconds.append(limit.attention_seconds(pair, plan.lanes, max(cells), *size))
        speeds.append(limit.throughput(pair))
    flops = limit.counted_flops(pair, max(cells), *size)
    counted = Entry("(e) counted FLOPs at full speed", [flops / speed for speed in speeds])
    listed = [*entries.values(), *limits, attention, counted]
    if device.type == "cuda":
        moved = limit.moved_bytes(pair, plan.lanes, max(cells), *size)
        listed.append(Entry("(e) bytes at full bandwidth", [moved / limit.bandwidth(device)]))
    own = entries[_engine(max(cells))].median
    loop = entries["(a) one-row loop with hooks"].median
    best = min(entries[f"(b) generate, batch {batch}"].median for batch in plan.batches)
    return {
        "entries": [entry.record() for entry in listed],
        "ratios": {
            "one-row loop / Statebridge": loop / own,
            "best generate / Statebridge": best / own,
            **{
                f"Statebridge / linear layers by {kind} products": own / entry.median
                for kind, entry in zip(kinds, limits, strict=True)
            },
            "Statebridge / the quickest of them and attention": own
            / (min(entry.median for entry in limits) + attention.median),
            "Statebridge / counted FLOPs": own / counted.median,
        },
        "gigaflops_per_lane": flops / 1e9,
        "gigaflops_per_second": max(speeds) / 1e9,
    }


def _engine(cells: int) -> str:
    return f"(d) Statebridge, {cells} cell{'s' if cells > 1 else ''}"


def scaling_table(pair: Pair, plan: Plan, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds a lane and memory over rows × cells: where cost is linear, where sharing bends it."""
    found = []
    for cells in SCALING_CELLS:
        for count in rows:
            work = methods.statebridge(pair, cells, count, 500, plan.prompt, plan.new)
            entry = Entry(f"{count} rows, {cells} cells")
            for _ in range(plan.rounds):
                measure(entry, work, pair.receiver.device)
            lanes = count * cells
            found.append({"rows": count, "cells": cells, "lanes": lanes, **entry.record()})
            print(f"scaling  {entry.name:20} {entry.median:.5f} s a lane", flush=True)
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All tables that were asked for."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    plan = QUICK if options.quick else Plan(rounds=options.rounds, lanes=options.lanes)
    tables: dict[str, Any] = {}
    for name in ["demo"] if options.quick else options.sizes:
        print(f"-- {name}", flush=True)
        pair = random_pair(name, device=options.device, dtype=dtype)
        tables[name] = methods_table(pair, plan, options.cells)
        if name == "demo":
            rows = (1, 2) if options.quick else SCALING_ROWS
            tables[name]["scaling"] = scaling_table(pair, plan, rows)
        # Fewer new tokens than in the table: what is not arithmetic weighs more, not less.
        tables[name]["overhead"] = overhead_shares(
            pair, max(1, plan.lanes // 25), plan.prompt, min(16, plan.new)
        )
        del pair
    on_gpu = device.type == "cuda"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "dtype": options.dtype,
        "step": step_on(device),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "plan": vars(plan),
        "sizes": tables,
    }


def markdown(record: dict[str, Any]) -> str:
    """The record as tables."""
    lines = [
        f"{record['date']}, {record['device']}, {record['threads']} threads, {record['dtype']}, "
        f"{record['step']} step, torch {record['versions']['torch']}; "
        f"prompts of {record['plan']['prompt']} tokens, "
        f"{record['plan']['new']} new tokens, {record['plan']['rounds']} rounds.",
    ]
    for name, table in record["sizes"].items():
        lines += ["", f"**{name}**", "", "| | s a lane, median | runs | spread | peak memory, GB |"]
        lines.append("|---|---|---|---|---|")
        for entry in table["entries"]:
            memory = f"{entry['peak_gigabytes']:.2f}" if entry["peak_gigabytes"] else ""
            median = f"{entry['median_seconds_per_lane']:.4g}"
            spread = f"{entry['spread']:.0%}" if entry["repeats"] > 1 else ""
            lines.append(
                f"| {entry['name']} | {median} | {entry['repeats']} | {spread} | {memory} |"
            )
        ratios = ", ".join(f"{what} {value:.2f}" for what, value in table["ratios"].items())
        lines += ["", f"{ratios}."]
        shares = ", ".join(f"{what} {value:.1%}" for what, value in table["overhead"].items())
        lines += ["", f"Time under a profiler: {shares}."]
        if "scaling" in table:
            lines += ["", "| rows | cells | lanes | s a lane | s | peak memory, GB |"]
            lines.append("|---|---|---|---|---|---|")
            for point in table["scaling"]:
                each = point["median_seconds_per_lane"]
                lines.append(
                    f"| {point['rows']} | {point['cells']} | {point['lanes']} | {each:.4g} | "
                    f"{each * point['lanes']:.3g} | {point['peak_gigabytes']:.2f} |"
                )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--cells", nargs="+", type=int, choices=(1, 5, 25), default=[1, 5, 25])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=125, help="at 25 cells")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--step", choices=STEPS, help="default: graph on a GPU, else dynamic")
    parser.add_argument("--quick", action="store_true", help="seconds: does everything work?")
    parser.add_argument("--out", type=Path, default=Path("methods"), help="without an ending")
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    with decoding_step(options.step):
        record = run(options)
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    options.out.with_suffix(".md").write_text(markdown(record), encoding="utf-8")
    print(markdown(record))


if __name__ == "__main__":
    main()
