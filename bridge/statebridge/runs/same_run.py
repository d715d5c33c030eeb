"""Whether a directory holds what is asked to go on in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import ResultError


def check_same(identity: Mapping[str, Any], earlier: Mapping[str, Any], file: Path) -> None:
    """Refuse to go on with what was started as something else.

    Args:
        identity: What is asked for.
        earlier: What the directory's file states.
        file: That file; for the message.

    Raises:
        ResultError: A part of the identity differs.
    """
    for key, value in identity.items():
        if earlier.get(key) == value:
            continue
        what = key
        if isinstance(value, dict) and isinstance(earlier.get(key), dict):
            differing = [
                k for k in {**earlier[key], **value} if earlier[key].get(k) != value.get(k)
            ]
            what = f"{key}.{differing[0]}"
        raise ResultError(
            f"{file.parent}: was started with another {what}; give a new --out, or run the "
            f"experiment that the directory's {file.name} states"
        )
