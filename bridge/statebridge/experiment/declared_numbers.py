"""Numbers in a declared file: never true or false, which YAML makes of yes, no, on and off too."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        words = "true (as YAML reads yes and on)" if value else "false (as YAML reads no and off)"
        raise ValueError(f"give a number, not {words}")
    return value


NO_BOOLEAN = BeforeValidator(_no_boolean)
"""Stands after a number's bounds, `Annotated[int, Field(ge=1), NO_BOOLEAN]`: before them it would
hide them from the JSON Schema."""
