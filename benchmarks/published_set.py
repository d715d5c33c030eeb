"""The published set of files, from a loaded pair to committed rows and scores.

    python benchmarks/published_set.py --size demo
    python benchmarks/published_set.py --size 160m-410m --device cuda --step dynamic

11 conditions, 3 seeds: 25 cells over 396 rows whose prompts are as long as the published
ones, 30 to 89 tokens and 47 on average; the 24 published files without `--extra`, which
adds zero_replacement. Weights are random and of the true shapes, the end token is never
reached: every lane takes all of its 64 new tokens.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers

from benchmarks.measured import forget_peak, peak_gigabytes, timed
from benchmarks.random_pairs import SIZES, random_experiment, random_pair, random_rows
from statebridge.engine.cuda_graphs.hold import held_for
from statebridge.engine.decoding.steps import STEPS, decoding_step, step_on
from statebridge.engine.run_experiment import RunSummary, run_experiment
from statebridge.run import Run

PUBLISHED = (
    "no_inject",
    "nl_relay",
    "b_to_b_self_inject",
    "additive",
    "replace",
    "scale_corrected",
    "best_alpha",
    "same_norm_random",
    "shuffled_translation",
    "shuffled_translation_strict_matched",
)


def prompt_lengths(count: int) -> list[int]:
    """Lengths spread about as the published ones: 30 to 89, 47 on average, a long tail."""
    draw = random.Random(0)
    return [min(89, 30 + int(draw.expovariate(1 / 17.5))) for _ in range(count)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--rows", type=int, default=396)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--extra", action="store_true", help="zero_replacement too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--step", choices=STEPS, help="default: graph on a GPU, else dynamic")
    parser.add_argument("--max-lanes", type=int)
    parser.add_argument("--repeats", type=int, default=1, help="the first one warms up")
    parser.add_argument("--json", type=Path, help="append a line here")
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    with decoding_step(options.step):
        measure_set(options)


def measure_set(options: argparse.Namespace) -> None:
    """Run the set as often as asked for and print a line for each time."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    pair = random_pair(options.size, device=options.device, dtype=dtype)
    conditions = [*PUBLISHED, *(["zero_replacement"] if options.extra else [])]
    with tempfile.TemporaryDirectory(prefix="statebridge-bench-") as name:
        folder = Path(name)
        experiment = random_experiment(
            pair,
            folder,
            random_rows(prompt_lengths(options.rows)),
            conditions,
            max_new_tokens=options.new_tokens,
            relay_max_new_tokens=2 * options.new_tokens,
        )
        # The dtype is declared, so that the run's manifest records it.
        updated = {"dtype": options.dtype}
        if options.max_lanes:
            updated["execution"] = experiment.execution.model_copy(
                update={"max_lanes": options.max_lanes}
            )
        experiment = experiment.model_copy(update=updated)
        for repeat in range(options.repeats):
            forget_peak(device)
            done: list[RunSummary] = []
            out = folder / f"run{repeat}"
            whole = timed(
                lambda out=out, done=done: done.append(run_experiment(experiment, out, pair=pair)),
                device,
            )
            summary = done[0]
            scoring = timed(lambda out=out: Run(out).scores(), device)
            manifest = json.loads((out / "manifest.json").read_text("utf-8"))
            on_gpu = device.type == "cuda"
            record = {
                "date": datetime.now(UTC).date().isoformat(),
                "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "size": options.size,
                "dtype": manifest["experiment"]["dtype"],
                "step": step_on(device),
                "files": len(manifest["cells"]),
                "lanes": summary.lanes,
                "max_lanes": manifest["plan"]["max_lanes"],
                "seconds": round(whole + scoring, 2),
                "seconds_of_groups": round(summary.seconds, 2),
                "seconds_of_scoring": round(scoring, 2),
                "peak_gigabytes": round(peak_gigabytes(device), 2),
            }
            if on_gpu:
                # What graphs keep in their pool is reserved, and allocated while they run only.
                reserved = torch.cuda.max_memory_reserved(device)
                record["reserved_gigabytes"] = round(reserved / 1e9, 2)
            if on_gpu and record["step"] == "graph":
                # Without this, a capture that failed would be timed as a dynamic step.
                hold = held_for(pair.receiver)
                record |= {"graphs": hold.recorded, "capture_failed": hold.refused}
            print(json.dumps(record), flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
