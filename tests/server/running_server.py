"""A real server process on loopback, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds that anything may take: shared machines stall, and a test is about what happens."""


def free_port() -> int:
    """Return a port that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(found: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return the first true value; fail if none comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.03)
    raise AssertionError(f"did not happen within {seconds} s: {what}")


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
        return self.folder / "data"

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
        paths = [str(ROOT / "server"), os.environ.get("PYTHONPATH", "")]
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
        eventually(lambda: self.answers("/readyz" if ready else "/healthz"), self.log.read_text())

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
        """Make a key on the command line and return its token."""
        words = ("keys", "create", "--name", name, "--role", role, "--config", str(self.config))
        made = subprocess.run(
            self.command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return made.stdout.strip()

    def worker_pid(self) -> int:
        """The process id of the worker that lives now."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")

        def found() -> int:
            listed = [file.read_text() for file in tasks.glob("*/children")]
            pids = [int(pid) for text in listed for pid in text.split()]
            return pids[0] if pids else 0

        return int(eventually(found, "a worker process"))

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
    server.start()
    try:
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


def ended(client: httpx.Client, experiment_id: str) -> dict[str, Any]:
    """Wait for an experiment's end and return how it stands."""

    def found() -> Any:
        view = client.get(f"/v1/experiments/{experiment_id}").json()
        return view if view["state"] in ("done", "failed", "cancelled") else None

    view: dict[str, Any] = eventually(found, f"the end of {experiment_id}")
    return view
