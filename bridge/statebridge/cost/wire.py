"""Bytes that cross between sender and receiver, payload only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from statebridge.errors import InputError, nearest

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8": 1, "int8": 1}
)
"""Bytes of one number."""


def text_bytes(message: str) -> int:
    """Return the bytes of a message as UTF-8."""
    return len(message.encode("utf-8"))


def token_bytes(tokens: int, vocabulary: int) -> int:
    """Return the bytes of a message as token ids, each in the whole bytes that all ids need.

    Raises:
        InputError: `tokens` is negative or `vocabulary` below 1.
    """
    if tokens < 0 or vocabulary < 1:
        raise InputError(
            f"token bytes: {tokens} tokens of a vocabulary of {vocabulary}; "
            "give 0 or more, and 1 or more"
        )
    return tokens * max(1, ((vocabulary - 1).bit_length() + 7) // 8)


def activation_bytes(width: int, positions: int = 1, dtype: str = "float32") -> int:
    """Return the bytes of states: dtype bytes x width x positions.

    Args:
        width: Of the states as they are sent.
        positions: 1 for arXiv 2501.14082, which sends the last one only.
        dtype: A key of `DTYPE_BYTES`; `torch.float32` and the like are taken too.

    Raises:
        InputError: Unknown dtype, width below 1, or positions negative.
    """
    name = dtype.removeprefix("torch.")
    if name not in DTYPE_BYTES:
        raise InputError(f"activation bytes: unknown dtype {dtype!r}; {nearest(name, DTYPE_BYTES)}")
    if width < 1 or positions < 0:
        raise InputError(
            f"activation bytes: width {width} at {positions} positions; "
            "give 1 or more, and 0 or more"
        )
    return DTYPE_BYTES[name] * width * positions
