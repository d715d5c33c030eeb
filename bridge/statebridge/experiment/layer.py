"""How a declaration names a layer."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _layer(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("give a relative depth (0.67), an index (8) or a module path")
    return value


Layer = Annotated[
    Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, gt=0, le=1)]
    | Annotated[str, Field(min_length=1)],
    BeforeValidator(_layer),
]
"""Relative depth in (0, 1], block index (negative ones count from the end), or module path."""
