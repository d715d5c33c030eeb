"""A walk through the guide for containers: its commands, and further checks beside them.

The commands are run as the guide has them, with `server-cpu` in the place of `server`.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from statebridge_client import Client

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "deploying.md").read_text("utf-8")
PROJECT = "statebridge-check"
PATIENCE = 900.0
"""Seconds that anything but a build may take."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Walk:
    """One walk through the guide, in a folder for what it writes."""

    def __init__(self, folder: Path, images: dict[str, str]) -> None:
        self.folder = folder
        self.seen: list[tuple[str, str]] = []
        self.port, self.prometheus_port = free_port(), free_port()
        self.variables = {
            "COMPOSE_PROFILES": "cpu",
            "COMPOSE_PROJECT_NAME": PROJECT,
            "PUBLISH_PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "SETTINGS_FILE": str(folder / "settings.yml"),
            "MODELS_FOLDER": str(folder / "models"),
            "METRICS_KEY_FILE": str(folder / "docker" / "metrics.key"),
        } | images
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        files = ["docker-compose.yml"]
        if images:
            # An engine without rules of its own in the firewall builds on the host's network.
            override = folder / "override.yml"
            override.write_text("services: {server-cpu: {build: {network: host}}}\n")
            files.append(str(override))
        words = ["docker-compose"] if plugin.returncode else ["docker", "compose"]
        words += ["--project-directory", str(ROOT), "--file", str(ROOT / files[0])]
        self.compose = " ".join(words + [f"--file {file}" for file in files[1:]])

    def note(self, what: str, seen: str) -> None:
        """Add a line to the table."""
        self.seen.append((what, seen))
        print(f"{what}: {seen}", flush=True)

    def shell(self, line: str, *, fails: bool = False, **more: str) -> str:
        """Run a line with the check's variables; return what it wrote to standard output."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=os.environ | self.variables | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if fails else subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        if (done.returncode != 0) is not fails:
            raise AssertionError(f"{line}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def guide(self, line: str) -> str:
        """Run a line of the guide."""
        assert f"$ {line}\n" in GUIDE, f"docs/deploying.md does not say: {line}"
        line = re.sub(r"\bserver\b(?!-)", "server-cpu", line)
        line = line.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        return self.shell(line.replace("docker compose", self.compose, 1))

    def own(self, line: str, *, fails: bool = False) -> str:
        """Run a Compose command that the guide does not give."""
        return self.shell(f"{self.compose} {line}", fails=fails)

    def inspect(self, service: str = "server-cpu") -> dict[str, Any]:
        """Return the engine's description of a service's container."""
        container = self.own(f"ps --all --quiet {service}").strip()
        found: dict[str, Any] = json.loads(self.shell(f"docker inspect {container}"))[0]
        return found

    def wait(self, what: str, found: Callable[[], bool]) -> float:
        """Wait until it is so; return the seconds."""
        began = time.monotonic()
        while not found():
            if time.monotonic() - began > PATIENCE:
                raise AssertionError(f"not within {PATIENCE} s: {what}\n{self.own('logs')[-3000:]}")
            time.sleep(0.3)
        return time.monotonic() - began

    def healthy(self, service: str = "server-cpu") -> float:
        """Wait for a service's health check; return the seconds."""
        return self.wait(
            f"{service} healthy",
            lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy",
        )

    def client(self, token: str | None) -> httpx.Client:
        """A client of the published port."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60, trust_env=False
        )

    def run_experiment(self, token: str, experiment: dict[str, Any]) -> tuple[str, bytes]:
        """Submit an experiment with the thin client, wait for its end, return its id and rows."""
        with Client(f"http://127.0.0.1:{self.port}", token) as client:
            run = client.submit(experiment)
            run.wait(progress=False)
            folder = run.download(self.folder / "downloads" / run.id)
            assert len(list(run.rows())) == run.status().rows_done
        rows = (folder / "rows.jsonl").read_bytes()
        with self.client(token) as plain:
            assert self.rows(plain, run.id) == rows
        return run.id, rows

    def rows(self, client: httpx.Client, experiment_id: str) -> bytes:
        """The rows of an experiment, when it is done."""
        path = f"/v1/experiments/{experiment_id}"
        self.wait(
            "the experiment's end",
            lambda: client.get(path).json()["state"] in ("done", "failed", "cancelled"),
        )
        view = client.get(path).json()
        assert view["state"] == "done", view
        rows = client.get(f"{path}/rows").content
        assert rows.count(b"\n") == view["rows_total"] > 0
        return rows
