"""The cost of the service: the library alone, through HTTP, and beside pollers and streams.

    python benchmarks/service.py --out service

writes `service.json` and `service.md`. Random weights of the true shapes go into a temporary
folder; a real server (`statebridge serve`, SQLite, one key) listens on loopback, and a process
beside it holds the same models for the library alone. Three kinds of turn run the same
experiment one after another, round after round:

- library: one call of `run_experiment`, models loaded;
- http: from before `client.submit` (uploads included) until `wait` has returned, less the time
  in the queue that the server states (`started_at` less `submitted_at`);
- loaded: the same, beside 20 pollers, each asking for the experiment every 2 s, and 5 open event
  streams. One process, `benchmarks/pollers.py`, makes that load; it competes for the same cores,
  so its own CPU seconds are stated.

`groups` is the time from the run's first group to its last, as the run itself states it. The
rows of each turn have new ids, so nothing is taken from an earlier turn. A first round warms
everything up and is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import torch
import transformers
import yaml
from scipy.stats import t as student

from benchmarks.pollers import QUANTILES
from benchmarks.random_pairs import (
    CONDITIONS,
    SIZES,
    random_experiment,
    random_model,
    random_pair,
    random_rows,
    word_tokenizer,
)
from statebridge.runs.directory import session_seconds
from statebridge_client import Client
from statebridge_client.local_server import local_server
from statebridge_server.settings import load_settings
from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key

HERE = Path(__file__).resolve().parent
KINDS = ("library", "http", "loaded")
MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "seconds": lambda turn: turn["seconds"],
    "CPU seconds of the process that computes": lambda turn: turn["cpu_seconds"]["worker"],
}


@dataclass(frozen=True)
class Plan:
    """How large the experiment and the load are."""

    size: str = "70m-160m"
    rows: int = 60
    prompt: int = 45
    new_tokens: int = 64
    max_lanes: int = 20
    rounds: int = 5
    pollers: int = 20
    streams: int = 5
    interval: float = 2.0


QUICK = Plan("demo", 4, 9, 4, 10, 2, 5, 2, 0.2)


def write_models(plan: Plan, folder: Path) -> None:
    """Write sender and receiver as `from_pretrained` reads them."""
    size = SIZES[plan.size]
    for seed, (name, shape) in enumerate((("sender", size.sender), ("receiver", size.receiver))):
        random_model(shape, size, seed, torch.float32).save_pretrained(folder / name)
        word_tokenizer().save_pretrained(folder / name)


class Experiments:
    """Experiment files that differ in their rows' ids alone."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder, self._made = plan, folder, 0
        pair = random_pair(plan.size)
        declared = random_experiment(
            pair,
            folder,
            random_rows([plan.prompt] * plan.rows),
            yaml.safe_load(CONDITIONS[5]),
            max_new_tokens=plan.new_tokens,
        ).model_dump(mode="json", exclude_unset=True)
        for side in ("sender", "receiver"):
            declared[side]["model"] = str(folder / side)
        self._declared = declared | {"execution": {"max_lanes": plan.max_lanes}}
        self._rows = (folder / "rows.jsonl").read_text("utf-8").splitlines()

    def next(self) -> Path:
        """Write another one and return its file."""
        self._made += 1
        rows = self._folder / f"rows{self._made}.jsonl"
        lines = []
        for line in self._rows:
            row = json.loads(line)
            lines.append(json.dumps(row | {"id": f"turn{self._made}_{row['id']}"}))
        rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        file = self._folder / f"experiment{self._made}.json"
        dataset = {"path": str(rows), "fields": {"id": "id"}}
        file.write_text(json.dumps(self._declared | {"dataset": dataset}), encoding="utf-8")
        return file


@contextmanager
def process(command: list[str], key: str = "") -> Iterator[subprocess.Popen[str]]:
    """A Python process that takes lines and gives lines, ended with the block."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ
        | {"STATEBRIDGE_API_KEY": key, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def send(started: subprocess.Popen[str], line: str) -> None:
    assert started.stdin is not None
    started.stdin.write(line + "\n")
    started.stdin.flush()


def receive(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    line = started.stdout.readline()
    if not line:
        raise SystemExit(f"{started.args} ended without an answer; its error is above")
    return line.strip()


class Service:
    """A server that runs, a client of it, and the same experiments without it."""

    def __init__(self, plan: Plan, folder: Path, url: str, key: str) -> None:
        self._plan, self._folder, self._url, self._key = plan, folder, url, key
        self._client = Client(url, key)
        self._server = next(
            child
            for child in psutil.Process().children()
            if "serve" in child.cmdline() and str(folder) in " ".join(child.cmdline())
        )

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()

    def http(self, file: Path) -> dict[str, Any]:
        """Submit, wait, and say how long that took."""
        return self._submitted(file, lambda _: None)

    def loaded(self, file: Path) -> dict[str, Any]:
        """The same, beside pollers and streams."""
        plan = self._plan
        command = [str(HERE / "pollers.py"), self._url, "--pollers", str(plan.pollers)]
        command += ["--streams", str(plan.streams)]
        command += ["--interval", str(plan.interval)]
        with process(command, self._key) as load:
            turn = self._submitted(file, lambda experiment_id: send(load, experiment_id))
            assert load.stdin is not None
            load.stdin.close()
            return turn | {"load": json.loads(receive(load))}

    def _submitted(self, file: Path, submitted: Callable[[str], None]) -> dict[str, Any]:
        before = self._cpu_seconds()
        began = time.perf_counter()
        run = self._client.submit(file)
        submitted(run.id)
        run.wait(progress=False)
        seconds = time.perf_counter() - began
        cpu = {name: value - before[name] for name, value in self._cpu_seconds().items()}
        status = run.status()
        assert status.started_at is not None
        queued = (status.started_at - status.submitted_at).total_seconds()
        assert status.rows_reused == 0, "rows were taken from an earlier turn"
        return {
            "seconds": seconds - queued,
            "groups": session_seconds(self._folder / "server" / "data" / "runs" / run.id),
            "lanes": status.rows_done,
            "queued": queued,
            "cpu_seconds": {name: round(value, 2) for name, value in cpu.items()},
        }

    def _cpu_seconds(self) -> dict[str, float]:
        worker = self._server.children()[0]
        found = {"api": self._server.cpu_times(), "worker": worker.cpu_times()}
        return {name: times.user + times.system for name, times in found.items()}


def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run all turns; the record of them."""
    write_models(plan, folder)
    experiments = Experiments(plan, folder)
    pairs = {"bench": {side: {"model": str(folder / side)} for side in ("sender", "receiver")}}
    load_before = os.getloadavg()
    turns: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with (
        process([str(HERE / "library_runs.py")]) as library,
        local_server(folder / "server", pairs) as url,
        ExitStack() as running,
    ):
        key = make_key(folder / "server" / "settings.json")
        service = running.enter_context(closing(Service(plan, folder, url, key)))

        def alone(file: Path) -> dict[str, Any]:
            send(library, json.dumps([str(file), str(folder / f"run_{file.stem}")]))
            answer: dict[str, Any] = json.loads(receive(library))
            return answer

        works = {"library": alone, "http": service.http, "loaded": service.loaded}
        for number in range(plan.rounds + 1):
            # Each kind comes first, second and last equally often, about.
            order = [*KINDS[number % 3 :], *KINDS[: number % 3]]
            for kind in order:
                turn = works[kind](experiments.next())
                print(f"round {number}  {kind:8} {turn['seconds']:8.2f} s", flush=True)
                if number:
                    turns[kind].append(turn)
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "gigabytes": round(psutil.virtual_memory().total / 1e9, 1),
            "load_average_before": [round(value, 2) for value in load_before],
        },
        "torch": torch.__version__,
        "threads": turns["library"][0]["threads"],
        "plan": asdict(plan),
        "turns": turns,
    }


def make_key(settings: Path) -> str:
    """Make a key, as `statebridge keys create` does."""
    database = Database(load_settings(settings).url)
    token, _ = create_key(database, "benchmark", "submit")
    database.close()
    return token


def ratios(record: dict[str, Any], kind: str, base: str, what: str) -> list[float]:
    """One kind's measure over another's of the same round."""
    measure, turns = MEASURES[what], record["turns"]
    return [
        measure(ours) / measure(theirs)
        for ours, theirs in zip(turns[kind], turns[base], strict=True)
    ]


def mean_ratio(found: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The geometric mean of paired ratios and its 95 % interval; None of fewer than two.

    The interval is Student's for the logarithms; few rounds give a wide one.
    """
    logs = [math.log(ratio) for ratio in found]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), None
    half = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


def page(record: dict[str, Any]) -> str:
    """The Markdown page of a record."""
    plan, machine, turns = record["plan"], record["machine"], record["turns"]
    lanes = turns["library"][0]["lanes"]
    lines = [
        f"{record['date']}, {machine['cores']} cores, {machine['gigabytes']} GB, load average "
        f"before {machine['load_average_before'][0]}, torch {record['torch']}, "
        f"{record['threads']} threads; {plan['size']}, {lanes} lanes, {plan['new_tokens']} new "
        f"tokens, {plan['rounds']} rounds.",
        "",
        "| | s, median | spread | s of the groups |",
        "|---|---|---|---|",
    ]
    for kind in KINDS:
        seconds = [turn["seconds"] for turn in turns[kind]]
        middle = statistics.median(seconds)
        spread = (max(seconds) - min(seconds)) / middle
        groups = statistics.median(turn["groups"] for turn in turns[kind])
        lines.append(f"| {kind} | {middle:.2f} | {spread:.1%} | {groups:.2f} |")
    lines += [
        "",
        "| ratio within a round | mean | 95 % interval | smallest | largest |",
        "|---|---|---|---|---|",
    ]
    for kind, base in (("http", "library"), ("loaded", "http")):
        for what in MEASURES:
            found = ratios(record, kind, base, what)
            mean, interval = mean_ratio(found)
            shown = "–" if interval is None else "{:.3f} to {:.3f}".format(*interval)
            lines.append(
                f"| {kind} / {base}, {what} | {mean:.3f} | {shown} | "
                f"{min(found):.3f} | {max(found):.3f} |"
            )
    loads = [turn["load"] for turn in turns["loaded"]]
    lines += ["", "| ms, as clients saw | median of the rounds | largest |", "|---|---|---|"]
    for name in QUANTILES:
        times = [load["milliseconds"][name] for load in loads]
        lines.append(f"| {name} | {statistics.median_high(times):.1f} | {max(times):.1f} |")
    requests, seconds = (sum(load[what] for load in loads) for what in ("requests", "seconds"))
    failed = requests - sum(load["statuses"].get("200", 0) for load in loads)
    generator = sum(load["cpu_seconds"] for load in loads) / seconds
    api = sum(turn["cpu_seconds"]["api"] for turn in turns["loaded"]) / seconds
    lines += [
        "",
        f"{requests} requests, {requests / seconds:.0f} a second, {failed} not answered with 200; "
        f"{sum(load['events'] for load in loads)} events. The load generator took "
        f"{generator:.1%} of one core, the API process {api:.1%}.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default=Plan.size)
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--rows", type=int, default=Plan.rows)
    parser.add_argument("--quick", action="store_true", help="seconds of work, for a test")
    parser.add_argument("--out", type=Path, default=Path("service"))
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()
    plan = QUICK if options.quick else Plan(options.size, options.rows, rounds=options.rounds)
    with tempfile.TemporaryDirectory(prefix="statebridge-bench-") as name:
        record = measure(plan, Path(name).resolve())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    options.out.with_suffix(".md").write_text(page(record), encoding="utf-8")
    print(page(record))


if __name__ == "__main__":
    main()
