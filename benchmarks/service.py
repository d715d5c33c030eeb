"""What the service costs: the library alone, through HTTP, and beside pollers and streams.

    python benchmarks/service.py --out service

writes `service.json` and `service.md`. Random weights of the true shapes go into a temporary
folder; a real server (`statebridge serve`, SQLite, one key) listens on loopback, and a process
beside it holds the same models for the library alone. Three kinds of turn run the same
experiment one after another, round after round:

- library: one call of `run_experiment`, models loaded;
- http: from before `client.submit` (uploads included) until `wait` has returned, less the time
  in the queue that the server states (`started_at` less `submitted_at`);
- loaded: the same, beside 200 pollers, each asking for the experiment every 2 s on a connection
  of its own, and 20 open event streams. `benchmarks/pollers.py`, one process, makes that load;
  it competes for the same cores, so its own CPU seconds and delays stand beside the result.

The latency of a poll is stated as its client saw it, and as the server's own histogram says: the
latter begins when the server's event loop takes the request up, and leaves out how long it stood
before that. The load generator's own delays, of which the clients' numbers have their part, tell
the one wait from the other.

`groups` is the time from the run's first group to its last, as the run itself states it. The
rows of each turn have ids of their own, so that nothing is taken from an earlier one; a round
in front of the first warms everything up and is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import torch
import transformers
import yaml

from benchmarks.random_pairs import (
    CONDITIONS,
    SIZES,
    random_experiment,
    random_model,
    random_pair,
    random_rows,
    word_tokenizer,
)
from benchmarks.request_histogram import read_histogram, time_between
from benchmarks.service_page import KINDS, page
from statebridge.runs.directory import session_seconds
from statebridge_client import Client
from statebridge_client._local_server import local_server
from statebridge_server.settings import load_settings
from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key

HERE = Path(__file__).resolve().parent
POLLED = "/v1/experiments/{experiment_id}"
"""The route that the pollers ask, as the server's metrics name it."""


@dataclass(frozen=True)
class Plan:
    """How large the experiment and the load are."""

    size: str = "70m-160m"
    rows: int = 60
    prompt: int = 45
    new_tokens: int = 64
    max_lanes: int = 20
    rounds: int = 5
    pollers: int = 200
    streams: int = 20
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


def tell(started: subprocess.Popen[str], line: str) -> None:
    assert started.stdin is not None
    started.stdin.write(line + "\n")
    started.stdin.flush()


def hear(started: subprocess.Popen[str]) -> str:
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
        address, plan = urlsplit(self._url), self._plan
        command = [str(HERE / "pollers.py"), str(address.hostname), str(address.port)]
        command += ["--pollers", str(plan.pollers), "--streams", str(plan.streams)]
        command += ["--interval", str(plan.interval)]
        with process(command, self._key) as load:
            hear(load)
            before = read_histogram(self._url, self._key, POLLED)
            turn = self._submitted(file, lambda experiment_id: tell(load, experiment_id))
            assert load.stdin is not None
            load.stdin.close()
            seen = json.loads(hear(load))
            after = read_histogram(self._url, self._key, POLLED)
            return turn | {"load": seen, "server": time_between(before, after)}

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
            tell(library, json.dumps([str(file), str(folder / f"run_{file.stem}")]))
            answer: dict[str, Any] = json.loads(hear(library))
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
