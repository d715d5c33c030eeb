"""Check of uploaded translators, in a process of its own.

Reading a translator needs torch. The process that answers requests does not load it, because that
would delay every other request for seconds. The process that reads ends after a minute without an
upload: several translators of one experiment then wait for torch once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from statebridge.errors import EnvironmentFault, StatebridgeError, TranslatorError

PATIENCE_SECONDS, IDLE_SECONDS, STOP_SECONDS = 120.0, 60.0, 5.0

_ZIP_OR_PICKLE = (b"PK\x03\x04", b"\x80")
"""First bytes of torch checkpoints; a safetensors file has the brace of its header at byte 8."""


def read_card(path: Path) -> dict[str, Any]:
    """Return the card of an uploaded file after all of it was read as a translator.

    Raises:
        TranslatorError: Not a translator that Statebridge wrote as safetensors.
        EnvironmentFault: It could not be read in time.
    """
    with path.open("rb") as stream:
        start = stream.read(9)
    if start.startswith(_ZIP_OR_PICKLE) and start[8:] != b"{":
        raise TranslatorError(
            "upload: a torch checkpoint (a pickle) is not taken; load it and save it as safetensors"
        )
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise TranslatorError(f"upload: not a whole safetensors file ({error})") from None
    answer = _READER.read(path)
    if "error" in answer:
        raise TranslatorError(str(answer["error"]).replace(str(path), "upload"))
    card: dict[str, Any] = answer["card"]
    return card


class _Reader:
    """The process that reads, one file at a time; started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._idle = threading.Timer(0, self.end)

    def read(self, path: Path) -> dict[str, Any]:
        """Return what `read_file` does.

        Raises:
            EnvironmentFault: The process ended, or did not answer in time.
        """
        with self._lock:
            self._idle.cancel()
            process = self._process or self._start()
            late = threading.Event()

            def give_up() -> None:
                late.set()
                process.kill()

            patience = threading.Timer(PATIENCE_SECONDS, give_up)
            patience.start()
            line = ""
            try:
                with suppress(BrokenPipeError):
                    print(json.dumps(str(path)), file=process.stdin, flush=True)
                    line = process.stdout.readline() if process.stdout is not None else ""
            finally:
                patience.cancel()
            if not line.endswith("\n"):
                code = self._ended()
                if late.is_set():
                    raise EnvironmentFault("an uploaded translator could not be read in time")
                raise EnvironmentFault(f"reading an uploaded translator ended with {code}")
            self._idle = threading.Timer(IDLE_SECONDS, self.end)
            self._idle.daemon = True
            self._idle.start()
            answer: dict[str, Any] = json.loads(line)
            return answer

    def end(self) -> None:
        """End the process, if there is one; the next file starts another."""
        with self._lock:
            if self._process is not None:
                self._ended()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "statebridge_server.translator_check"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
        )
        return self._process

    def _ended(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.stdin is not None and process.stdout is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return process.returncode


_READER = _Reader()


def read_file(path: Path) -> dict[str, Any]:
    """Read the file with torch; return its card, or the error."""
    from statebridge.translators.storage import (  # noqa: PLC0415 - loads torch
        checkpoint_format,
        load_translator,
    )

    if checkpoint_format(path, path.read_bytes()[:64]):
        return {"error": "upload: a torch checkpoint (a pickle) is not taken"}
    try:
        card = load_translator(path).card
    except StatebridgeError as error:
        return {"error": str(error)}
    if card is None:
        return {"error": "upload: the file says nothing of the translator in it"}
    return {"card": card.model_dump(mode="json")}


if __name__ == "__main__":
    # Ends with its standard input, when the server does.
    for given in sys.stdin:
        print(json.dumps(read_file(Path(json.loads(given)))), flush=True)
