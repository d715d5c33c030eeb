"""A real server process on loopback, and what tests ask of it."""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds without any movement: shared machines stall, and a test is about what happens."""

LIMIT = 900.0
"""Seconds that anything may take, whatever moves."""


def free_port() -> int:
    """Return a port that nobody listens on at present.

    Below the range from which the kernel gives ports to connections: a server that is killed
    and started again must find its port as it left it.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(
    found: Callable[[], Any],
    what: str,
    seconds: float = PATIENCE,
    moving: Callable[[], Any] = lambda: None,
) -> Any:
    """Return the first true value; fail if none comes while nothing moves for `seconds`."""
    limit = time.monotonic() + max(seconds, LIMIT)
    end, last, look = time.monotonic() + seconds, moving(), time.monotonic() + 1.0
    pause = 0.02
    while time.monotonic() < min(end, limit):
        if value := found():
            return value
        if time.monotonic() >= look:  # a look costs the server as much as a question
            look = time.monotonic() + 1.0
            if (now := moving()) != last:
                end, last = time.monotonic() + seconds, now
        time.sleep(pause)
        pause = min(1.3 * pause, 0.1)
    raise AssertionError(f"did not happen while nothing moved for {seconds} s: {what}")


@cache
def code() -> tuple[str, ...]:
    """Folders with a copy of the code as it is now, for every process of this test session.

    A run that was begun by one version is not carried on by another, rightly; and an editor
    may save a file while a server is killed and started again.
    """
    copy = Path(tempfile.mkdtemp(prefix="statebridge-code-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    rooms = ("bridge", "client", "server")
    for room in rooms:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tuple(str(copy / room) for room in rooms)


@dataclass
class RunningServer:
    """A server process with its settings file; `start` and the kills may be repeated."""

    folder: Path
    settings: dict[str, Any]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Its data directory."""
        return Path(self.settings.get("data", self.folder / "data"))

    @property
    def log(self) -> Path:
        """Where its logs go."""
        return self.folder / "server.log"

    @property
    def config(self) -> Path:
        """Its settings file, as it is now written."""
        path = self.folder / "settings.json"
        path.write_text(json.dumps({"data": str(self.data), "port": self.port} | self.settings))
        return path

    def command(self, *words: str) -> list[str]:
        """A command line of the server's own commands."""
        code = (
            "import typer; from statebridge_server.commands import serve, keys; "
            "app = typer.Typer(pretty_exceptions_enable=False); app.command()(serve); "
            "app.add_typer(keys); app()"
        )
        return [sys.executable, "-P", "-c", code, *words]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        paths = [*code(), os.environ.get("PYTHONPATH", "")]
        return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def start(self, *, ready: bool = True) -> None:
        """Start it and wait until it answers, or until experiments are carried out."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", "--config", str(self.config)),
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
            )
        path = "/readyz" if ready else "/healthz"
        with self.evidence_on_failure():
            eventually(lambda: self.answers(path), path, moving=self.moving)

    def moving(self) -> tuple[int, list[str]]:
        """Values that change as long as the server makes any progress."""
        clocks = []
        for pid in (self.process.pid if self.process else 0, self._worker()):
            with suppress(FileNotFoundError, ProcessLookupError):
                clocks += Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return self.log.stat().st_size, clocks

    def answers(self, path: str) -> bool:
        """Whether a path answers 200; fails if the process has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(self.url + path, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = None, **more: Any) -> httpx.Client:
        """A client, with a key or without one."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, **more)

    def key(self, role: str, name: str = "somebody") -> str:
        """Make a key as `statebridge keys create` does, and return its token."""
        from statebridge_server.layout import make_layout
        from statebridge_server.store.database import Database
        from statebridge_server.store.keys import create_key

        make_layout(self.data)
        database = Database(self.database_url)
        token, _ = create_key(database, name, role)
        database.close()
        return token

    def worker_pid(self) -> int:
        """The process id of the worker that lives now."""
        return int(eventually(self._worker, "a worker process"))

    def _worker(self) -> int:
        assert self.process is not None
        for tasks in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            # A thread, or a child, may end between one look and the next.
            with suppress(FileNotFoundError, ProcessLookupError):
                for pid in map(int, tasks.read_text().split()):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"statebridge_server.worker" in command:  # empty in a dead one
                        return pid
        return 0

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of its database."""
        url = self.settings.get("database_url")
        return str(url or f"sqlite:///{self.data / 'statebridge.sqlite'}")

    @contextmanager
    def evidence_on_failure(self) -> Iterator[None]:
        """Add logs, jobs and files to whatever fails in the block."""
        try:
            yield
        except Exception as error:
            error.add_note(self.evidence())
            raise

    def evidence(self) -> str:
        """The end of the log, the jobs with their events, and what lies on the disk."""
        lines = [f"server: {self.process and self.process.poll()}; load: {os.getloadavg()}"]
        try:
            database = create_engine(self.database_url)
            with database.connect() as connection:
                for table, columns in (
                    ("jobs", "id, state, failed_workers, lanes_done, error"),
                    ("worker", "pid, state, detail"),
                    ("translators", "id, name, job_id"),
                ):
                    rows = connection.execute(text(f"select {columns} from {table}"))
                    lines += [f"{table}: {row}" for row in rows]
                events = "select job_id, number, kind, data, at from events order by at"
                lines += [str(row) for row in connection.execute(text(events)).all()[-60:]]
            database.dispose()
        except SQLAlchemyError as error:
            lines.append(f"database: {error}")
        lines += [f"{p.stat().st_size:9d} {p}" for p in sorted(self.data.rglob("*")) if p.is_file()]
        return "\n".join([*lines, *self.log.read_text().splitlines()[-120:]])

    def kill_worker(self) -> None:
        """kill -9 of the worker that lives now."""
        kill(self.worker_pid())

    def kill(self) -> None:
        """kill -9 of the server process alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> tuple[int, float]:
        """SIGTERM; return the exit code and the seconds until the process has ended."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        return code, time.monotonic() - began


@contextmanager
def running_server(folder: Path, settings: dict[str, Any]) -> Iterator[RunningServer]:
    """Run a server over a folder, stopped at the end."""
    server = RunningServer(folder, settings)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


def submit(client: httpx.Client, experiment: dict[str, Any], **query: Any) -> str:
    """Submit an experiment and return its id."""
    answer = client.post("/v1/experiments", json=experiment, params=query)
    assert answer.status_code == 201, answer.text
    experiment_id: str = answer.json()["id"]
    return experiment_id


def kill(pid: int) -> None:
    """kill -9 of a process that may have ended by itself meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ended(
    client: httpx.Client, experiment_id: str, others: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """Wait for an experiment's end and return its view.

    `others` changes while those that it waits for make progress.
    """
    view: dict[str, Any] = {}

    def found() -> Any:
        view.update(client.get(f"/v1/experiments/{experiment_id}").raise_for_status().json())
        return view["state"] in ("done", "failed", "cancelled")

    def moving() -> Any:
        return view.get("state"), view.get("rows_done"), client.get("/readyz").text, others()

    eventually(found, f"the end of {experiment_id}", moving=moving)
    return view
