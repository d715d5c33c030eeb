"""Changes of five hot paths since the figures that were committed last, in under a minute.

    make bench-quick
    python benchmarks/quick.py --write      # commit the new figures

Each path has two figures that depend little on the machine and its other work:

- calls: Python functions that it enters, in all threads. They are the same in each run, so that
  one call more in each decoding step is seen. (Processors of virtual machines seldom let a
  program count its instructions.)
- products: its CPU seconds over those of a fixed matrix product on one thread, the lowest of
  several turns each. Other processors have other ratios, and a busy neighbour takes of the caches:
  a change is only named where the turns agree on it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.comparison import METRICS, synthetic_results
from benchmarks.random_pairs import (
    CONDITIONS,
    random_experiment,
    random_pair,
    random_rows,
    random_workload,
    run_groups,
)
from statebridge.engine.fitting.causal_training import train_causally
from statebridge.engine.fitting.corpus import read_corpus
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.engine.fitting.frozen_rows import freeze_rows
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment.experiment import Causal, Fit, Prompts
from statebridge.run import Run
from statebridge.stats import compare
from statebridge.translators import Translator

COMMITTED = Path(__file__).with_name("quick.json")
MOVED = 0.05
"""A larger change of a figure is named."""
TURNS = 5
LAST = {"name": "last", "source": "translated", "positions": "last", "source_positions": "last"}
_WAITING = (os.sep + "threading.py", os.sep + "concurrent" + os.sep, os.sep + "queue.py")
"""Files whose calls depend on which thread is the quicker one."""

Figures = dict[str, dict[str, float]]


def hot_paths(opened: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return the five paths, ready to be repeated; what they write goes when `opened` does."""
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="statebridge-bench-")))
    pair, rows = random_pair("demo"), random_rows([45] * 5)
    workload = random_workload(pair, rows, CONDITIONS[25], 16)
    experiment = random_experiment(pair, folder, rows, ["no_inject", "replace"], max_new_tokens=2)
    causal = Causal.model_validate(
        {
            "rows": {"path": folder / "rows.jsonl"},
            "through": LAST,
            "training": {"epochs": 10, "warmup_steps": 0, "validation_fraction": 0.2},
        }
    )
    frozen = opened.enter_context(freeze_rows(experiment, pair, causal, []))
    start = Translator("affine", pair.sender.width, pair.receiver.width).requires_grad_(False)
    (folder / "corpus.txt").write_text(
        "\n\n".join(row.context for row in random_rows([40 + n % 9 for n in range(40)])), "utf-8"
    )
    fit = Fit.model_validate({"kind": "ridge", "corpus": {"path": folder / "corpus.txt"}})
    corpus, results = read_corpus(fit.corpus, Prompts()), synthetic_results()
    numbers = count()

    def run_and_score() -> None:
        out = folder / f"run{next(numbers)}"
        run_experiment(experiment, out, pair=pair)
        Run(out).scores()

    return {
        "decode 125 lanes": lambda: run_groups(workload, 256),
        "train through the receiver": lambda: train_causally(frozen, start),
        "fit ridge, three seeds": lambda: fit_translators(pair, fit, corpus, (42, 123, 456)),
        "plan, run, commit and score": run_and_score,
        "compare 25 cells": lambda: compare(results, ["no_inject"], metrics=METRICS[:1]),
    }


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """Count the Python functions that are entered, in this thread and in new ones."""
    found = [0]

    def take(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not any(w in frame.f_code.co_filename for w in _WAITING):
            found[0] += 1

    threading.setprofile(take)
    sys.setprofile(take)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process that a call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(turns: int = TURNS) -> Figures:
    """Return both figures of each path."""
    torch.set_num_threads(1)
    values = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    with ExitStack() as opened:
        paths = hot_paths(opened)
        calls, seconds, products = {}, {name: [] for name in paths}, []
        for work in paths.values():
            work()  # fills caches
        for name, work in paths.items():
            with counted_calls() as found:
                work()
            calls[name] = found[0]
        for _ in range(turns):
            for name, work in paths.items():
                products.append(cpu_seconds(lambda: [values @ values for _ in range(8)]))
                seconds[name].append(cpu_seconds(work))
    unit = min(products)
    return {
        name: {
            "calls": calls[name],
            "products": round(min(taken) / unit, 3),
            "spread": round(sorted(taken)[len(taken) // 2] / min(taken) - 1, 3),
        }
        for name, taken in seconds.items()
    }


def moved(now: Figures, before: Figures) -> list[str]:
    """Return a sentence for each figure that differs by more than `MOVED`.

    That of CPU time has to differ by so much more than its turns do in the two measurements.
    """
    found = [f"{name}: new" for name in now if name not in before]
    for name in now.keys() & before.keys():
        noise = max(now[name]["spread"], before[name]["spread"])
        for figure, bar in (("calls", MOVED), ("products", MOVED + noise)):
            ours, theirs = now[name][figure], before[name][figure]
            if abs(ours / theirs - 1) > bar:
                found.append(f"{name}: {figure} {theirs:g} to {ours:g} ({ours / theirs - 1:+.0%})")
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print beside the committed figures, and say what moved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="make these the committed figures")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--against", type=Path, default=COMMITTED)
    given = parser.parse_args(arguments)
    now = measured(given.turns)
    before: Figures = {}
    if given.against.exists():
        before = json.loads(given.against.read_text("utf-8"))
    print("| path | calls | before | products | before | spread |\n|---|---|---|---|---|---|")
    for name, found in now.items():
        then = before.get(name, {})
        print(
            f"| {name} | {found['calls']:.0f} | {then.get('calls', '–')} "
            f"| {found['products']:.2f} | {then.get('products', '–')} | {found['spread']:.0%} |"
        )
    changes = moved(now, before)
    print("\n" + ("\n".join(changes) or "Nothing moved by more than 5 %."))
    if given.write:
        given.against.write_text(json.dumps(now, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
