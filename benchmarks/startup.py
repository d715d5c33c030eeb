"""How long things take to start: commands, imports, loading a pair, a server until it is ready.

    python benchmarks/startup.py --size 160m-410m

prints a Markdown table of medians over fresh processes. Weights are random, of the true
shapes, and read from safetensors files that the system's cache already holds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.random_pairs import SIZES, random_pair
from statebridge_client.local_server import local_server

COMMAND = "import sys; from statebridge.commands import main; sys.argv[0] = 'statebridge'; main()"
LOAD = (
    "import sys, time, torch, nnsight, transformers; "
    "from statebridge.models.loading import load_model; "
    "from statebridge.experiment.experiment import ModelAtLayer; "
    "began = time.perf_counter(); "
    "[load_model(ModelAtLayer(model=m, layer=0), dtype='float32', device='cpu') "
    "for m in sys.argv[1:]]; "
    "print(time.perf_counter() - began)"
)


def write_pair(size: str, folder: Path) -> dict[str, dict[str, str]]:
    """Write both models with their tokenizer; return them as a server's settings name them."""
    pair = random_pair(size)
    sides = {}
    for side in ("sender", "receiver"):
        model = getattr(pair, side)
        model.module.save_pretrained(folder / side)
        model.tokenizer.save_pretrained(folder / side)
        sides[side] = {"model": str(folder / side)}
    return sides


def run(*command: str) -> str:
    """Run Python with a program; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", *command], capture_output=True, text=True, check=True
    )
    return done.stdout


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="160m-410m")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="statebridge-bench-") as name:
        folder = Path(name)
        sides = write_pair(given.size, folder)
        paths = [side["model"] for side in sides.values()]
        numbers = iter(range(10**6))

        def start_server() -> float:
            began = time.perf_counter()
            with local_server(folder / str(next(numbers)), {"pair": sides}):
                return time.perf_counter() - began

        measures: dict[str, Callable[[], float]] = {
            "`python -c pass`": lambda: timed(lambda: run("pass")),
            "`statebridge --help`": lambda: timed(lambda: run(COMMAND, "--help")),
            "`import statebridge_client`": lambda: timed(lambda: run("import statebridge_client")),
            f"loading {given.size}, libraries imported": lambda: float(run(LOAD, *paths)),
            f"server with {given.size}, start to ready": start_server,
        }
        print("| | s, median | runs | spread |\n|---|---|---|---|")
        for what, measure in measures.items():
            measure()  # the first one fills the system's cache
            seconds = [measure() for _ in range(given.runs)]
            middle = statistics.median(seconds)
            spread = (max(seconds) - min(seconds)) / middle
            print(f"| {what} | {middle:.2f} | {given.runs} | {spread:.0%} |", flush=True)


if __name__ == "__main__":
    main()
