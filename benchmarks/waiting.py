"""Wall and CPU seconds and memory of what a user waits for, alone and beside other work.

    python benchmarks/waiting.py --neighbours 2

prints a Markdown table. Each line is a process of its own, as from a shell, with all processes that
it starts. Medians over `--runs` runs after one that fills the system's cache; with `--neighbours N`
a second pair of columns, beside N processes that each keep a processor busy. Experiments are on the
taught pair, which is installed with the package; `--size` adds a random pair of that size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from statebridge.demo.experiment import demo_experiment

BUSY = "while True: sum(range(100_000))"
PYTHON = (sys.executable, "-c")
WRITE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from benchmarks.random_pairs import random_pair; pair = random_pair(sys.argv[2]); "
    "[part.save_pretrained(sys.argv[3] + '/' + side) "
    "for side, model in (('sender', pair.sender), ('receiver', pair.receiver)) "
    "for part in (model.module, model.tokenizer)]"
)
LOAD = (
    "import sys; from statebridge.models.loading import load_model; "
    "from statebridge.experiment.experiment import ModelAtLayer; "
    "[load_model(ModelAtLayer(model=m, layer=0), dtype='float32', device='cpu') "
    "for m in sys.argv[1:]]"
)
SERVER = (
    "import sys; from pathlib import Path; "
    "from statebridge_client.local_server import local_server; "
    "sides = {s: {'model': m} for s, m in zip(('sender', 'receiver'), sys.argv[2:])}; "
    "server = local_server(Path(sys.argv[1]), {'pair': sides}); server.__enter__(); "
    "server.__exit__(None, None, None)"
)
CAUSAL = {"rows": {"generate": {"rows": 100, "seed": 5, "hops": [2], "wording": "plain"}}}
CORPUS = {"generate": {"rows": 300, "seed": 5, "hops": [2], "wording": "plain"}}
TRAINING = {"epochs": 3, "warmup_steps": 0}


@dataclass(frozen=True)
class Waiting:
    """One thing that is waited for."""

    what: str
    command: tuple[str, ...]
    fresh: Path | None = None
    """A folder that the command writes, removed before each run."""


@dataclass(frozen=True)
class Took:
    """Time and memory of a process and of those that it started."""

    wall: float
    cpu: float
    megabytes: float
    """Largest resident size of one of them."""


def took(waiting: Waiting) -> Took:
    """Run a command to its end.

    Raises:
        RuntimeError: It failed; the last lines that it printed.
    """
    if waiting.fresh is not None:
        shutil.rmtree(waiting.fresh, ignore_errors=True)
    with tempfile.TemporaryFile() as printed:
        began = time.perf_counter()
        process = subprocess.Popen(waiting.command, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            raise RuntimeError(f"{waiting.what}: {printed.read().decode()[-800:]}")
    kilobytes = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Took(wall, used.ru_utime + used.ru_stime, kilobytes / 1024)


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Keep so many processes busy meanwhile."""
    busy = [subprocess.Popen((*PYTHON, BUSY)) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def written(fields: dict[str, Any], file: Path) -> str:
    """Write an experiment file; return its path."""
    file.write_text(json.dumps(fields), "utf-8")
    return str(file)


def everything(folder: Path, size: str | None) -> list[Waiting]:
    """Return what is measured, in the order in which later lines use what earlier ones wrote."""
    command = (sys.executable, "-m", "statebridge")
    run, demo, report = folder / "run", folder / "demo", folder / "report"
    file = written(demo_experiment(), folder / "demo.json")
    found = [
        Waiting("`python -c pass`", (*PYTHON, "pass")),
        Waiting("`statebridge --help`", (*command, "--help")),
        Waiting("`import statebridge_client`", (*PYTHON, "import statebridge_client")),
        Waiting("import of the engine", (*PYTHON, "from statebridge import run_experiment")),
        Waiting("`demo`", (*command, "demo", "--out", str(demo)), demo),
        Waiting("the demo's experiment: `doctor`", (*command, "doctor", file)),
        Waiting("`run`", (*command, "run", file, "--out", str(run)), run),
        Waiting("`score`", (*command, "score", str(run))),
        Waiting("`compare`", (*command, "compare", str(run))),
        Waiting("`report`", (*command, "report", str(run), "--out", str(report)), report),
    ]
    fits: dict[str, dict[str, Any]] = {
        "ridge": {"kind": "ridge"},
        "affine": {"kind": "affine", "training": TRAINING},
        "causal": {"kind": "affine", "causal": CAUSAL | {"training": TRAINING}},
    }
    for name, fit in fits.items():
        fields = demo_experiment() | {
            "name": name,
            "conditions": ["private_last_matched"],
            "translators": {"fit": fit | {"corpus": CORPUS}},
            "positive_control": None,
            "sender_checks": False,
        }
        file, out = written(fields, folder / f"{name}.json"), folder / f"fit-{name}"
        found.append(Waiting(f"`fit`, {name}", (*command, "fit", file, "--out", str(out)), out))
    search = demo_experiment() | {
        "layer_search": {"sender_layers": [1, 2], "receiver_layers": [1, 2]},
        "conditions": ["no_inject", "scale_corrected"],
        "translators": {"fit": fits["ridge"] | {"corpus": CORPUS}},
        "positive_control": None,
        "sender_checks": False,
    }
    file, out = written(search, folder / "search.json"), folder / "search"
    words = (*command, "layer-search", file, "--out", str(out))
    found.append(Waiting("`layer-search`, four pairs of layers", words, out))
    if size is not None:
        # Not here: a process starts with the memory of the one that started it.
        write = (*PYTHON, WRITE, str(Path(__file__).resolve().parents[1]), size, str(folder))
        subprocess.run(write, check=True, capture_output=True)
        models = str(folder / "sender"), str(folder / "receiver")
        server = folder / "server"
        found += [
            Waiting(f"loading {size}", (*PYTHON, LOAD, *models)),
            Waiting(
                f"server with {size}, start to ready and stop",
                (*PYTHON, SERVER, str(server), *models),
                server,
            ),
        ]
    return found


def middle(waiting: Waiting, runs: int) -> Took:
    """Return the medians over runs."""
    measured = [took(waiting) for _ in range(runs)]
    of: Callable[[Callable[[Took], float]], float] = lambda part: statistics.median(  # noqa: E731
        map(part, measured)
    )
    return Took(of(lambda t: t.wall), of(lambda t: t.cpu), of(lambda t: t.megabytes))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["demo", "70m-160m", "160m-410m"])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--neighbours", type=int, default=0)
    parser.add_argument("--only", help="lines whose name contains this")
    given = parser.parse_args(arguments)
    beside = f" | beside {given.neighbours}, s | CPU s" if given.neighbours else ""
    print(f"| | s | CPU s | MB{beside} |\n|---|---|---|---|{'---|---|' if beside else ''}")
    with tempfile.TemporaryDirectory(prefix="statebridge-bench-") as name:
        for waiting in everything(Path(name), given.size):
            if given.only is not None and given.only not in waiting.what:
                continue
            took(waiting)  # fills the system's cache
            alone = middle(waiting, given.runs)
            line = (
                f"| {waiting.what} | {alone.wall:.2f} | {alone.cpu:.2f} | {alone.megabytes:.0f} |"
            )
            if given.neighbours:
                with neighbours(given.neighbours):
                    other = middle(waiting, given.runs)
                line += f" {other.wall:.2f} | {other.cpu:.2f} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
