"""Check of an uploaded translator, in a process of its own.

Reading a translator needs torch. The process that answers requests does not load it, because that
would delay every other request for seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from statebridge.errors import EnvironmentFault, StatebridgeError, TranslatorError

PATIENCE_SECONDS = 120.0

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
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, a path that the server made
            [sys.executable, "-P", "-m", "statebridge_server.translator_check", str(path)],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault("an uploaded translator could not be read in time") from None
    if done.returncode != 0:
        raise EnvironmentFault(f"reading an uploaded translator ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise TranslatorError(str(answer["error"]).replace(str(path), "upload"))
    card: dict[str, Any] = answer["card"]
    return card


def main(path: Path) -> dict[str, Any]:
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
    print(json.dumps(main(Path(sys.argv[1]))))
