"""A server of one's own on loopback, for as long as a block runs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from statebridge.errors import EnvironmentFault

READY_SECONDS = 120.0
STOP_SECONDS = 15.0


@contextmanager
def local_server(folder: Path, pairs: Mapping[str, Any], *, loaded: bool = True) -> Iterator[str]:
    """Start `statebridge serve` on a free loopback port; yield its URL.

    Args:
        folder: For its data, settings and log.
        pairs: The pairs that it may load, as in its settings file.
        loaded: Wait until its worker has loaded the pairs. If not, wait only until the server
            answers; an experiment then waits in its queue.

    Raises:
        EnvironmentFault: The server's packages are missing, or it was not ready in time.
    """
    missing = [name for name in ("fastapi", "uvicorn", "sqlalchemy", "torch") if not _there(name)]
    if missing:
        raise EnvironmentFault(
            f"a server needs {missing[0]}, which is not installed; "
            "run: pip install 'statebridge[server]'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps({"data": str(folder / "data"), "port": port, "pairs": pairs}), encoding="utf-8"
    )
    log = folder / "server.log"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-m", "statebridge", "serve", "--config", str(settings)],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"{url}/{'readyz' if loaded else 'healthz'}", process, log)
            yield url
        finally:
            _stop(process)


def _there(name: str) -> bool:
    return find_spec(name) is not None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    with httpx.Client(timeout=5.0) as client:
        while time.monotonic() < end and process.poll() is None:
            with suppress(httpx.HTTPError):
                if client.get(url).status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    last = f"; the last line of its log: {lines[-1][:300]}" if lines else ""
    raise EnvironmentFault(f"the server on {url} is not ready{last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
