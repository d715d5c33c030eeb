"""Keeps a worker process running beside the server."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from statebridge_server.logs import log
from statebridge_server.settings import Settings

STOP_SECONDS = 8.0
"""After this time a stopping worker is killed; it ends by itself before that."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds until the successor of a dead worker starts; doubled while workers die young."""

YOUNG_SECONDS = 20.0
_log = logging.getLogger("statebridge.supervisor")


class Supervisor:
    """Starts a worker, and a successor when it dies.

    Attributes:
        restarts: Number of workers that were replaced.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.model_dump(mode="json")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start the first worker."""
        self._thread.start()

    def request_stop(self) -> None:
        """Ask the worker to stop after its present group; return at once."""
        with self._lock:
            self._stop.set()
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def join(self) -> None:
        """Wait for the worker's end for at most `STOP_SECONDS`, then kill it."""
        self.request_stop()
        process = self._process
        if process is not None:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _watch(self) -> None:
        pause, end = FIRST_PAUSE, "the server was stopped or killed with it"
        while True:
            started = time.monotonic()
            with self._lock:
                if self._stop.is_set():
                    return
                process = self._spawn(end)
                self._process = process
            code = process.wait()
            if process.stdin is not None:
                process.stdin.close()
            if self._stop.is_set():
                return
            end = _how_it_ended(code)
            log(_log, logging.ERROR, "worker ended", how=end)
            self.restarts += 1
            young = time.monotonic() - started < YOUNG_SECONDS
            pause = min(pause * 2, LONGEST_PAUSE) if young else FIRST_PAUSE
            if self._stop.wait(pause):
                return

    def _spawn(self, previous_end: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "statebridge_server.worker"], stdin=subprocess.PIPE
        )
        start = {"settings": self._settings, "previous_end": previous_end}
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it died at once; its end is reported like any other
                process.stdin.write(json.dumps(start).encode() + b"\n")
                process.stdin.flush()
        return process


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"signal {name}" + (", as the kernel sends when memory runs out" if code == -9 else "")
