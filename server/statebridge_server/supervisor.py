"""Keeps the worker processes running beside the server, one for each slot."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from statebridge_server.logs import log
from statebridge_server.settings import Settings

STOP_SECONDS = 8.0
"""After this time stopping workers are killed; they end by themselves before that."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds until the successor of a dead worker starts; doubled while workers die young."""

YOUNG_SECONDS = 20.0
_log = logging.getLogger("statebridge.supervisor")


class Supervisor:
    """Starts a worker for each slot, and a successor when it dies."""

    def __init__(self, settings: Settings) -> None:
        start = settings.model_dump(mode="json")
        self._slots = [_Slot(slot, start) for slot in range(len(settings.workers))]

    def pid(self, slot: int) -> int | None:
        """Return the process id of a slot's worker; None while there is none."""
        return self._slots[slot].pid

    def restarts(self, slot: int) -> int:
        """Return the number of workers of a slot that were replaced."""
        return self._slots[slot].restarts

    def start(self) -> None:
        """Start the first workers."""
        for slot in self._slots:
            slot.start()

    def request_stop(self) -> None:
        """Ask all workers to stop after their present group; return at once."""
        for slot in self._slots:
            slot.request_stop()

    def join(self) -> None:
        """Wait for the workers' end for at most `STOP_SECONDS`, then kill the remaining ones."""
        self.request_stop()
        end = time.monotonic() + STOP_SECONDS
        for slot in self._slots:
            slot.join(end)


class _Slot:
    """One worker and its successors."""

    def __init__(self, slot: int, settings: dict[str, Any]) -> None:
        self._slot = slot
        self._settings = settings
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name=f"supervisor {slot}", daemon=True)
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        self._thread.start()

    def request_stop(self) -> None:
        with self._lock:
            self._stop.set()
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def join(self, end: float) -> None:
        """Wait for the worker's end until a moment of the monotonic clock, then kill it."""
        process = self._process
        if process is not None:
            try:
                process.wait(max(0.0, end - time.monotonic()))
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
            log(_log, logging.ERROR, "worker ended", worker=self._slot, how=end)
            self.restarts += 1
            young = time.monotonic() - started < YOUNG_SECONDS
            pause = min(pause * 2, LONGEST_PAUSE) if young else FIRST_PAUSE
            if self._stop.wait(pause):
                return

    def _spawn(self, previous_end: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "statebridge_server.worker"], stdin=subprocess.PIPE
        )
        start = {"settings": self._settings, "slot": self._slot, "previous_end": previous_end}
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
