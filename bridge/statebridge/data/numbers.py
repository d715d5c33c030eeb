"""Numbers as they stand in answers: `1,234`, `$18.00`, `-5`."""

from __future__ import annotations

import re
from decimal import Decimal

# A minus belongs to the number unless something stands right before it: `5-3` holds 5 and 3.
NUMBER = re.compile(
    r"(?:(?<![\w.)%])[-−])?\$?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
)
"""A decimal number, with commas between thousands or without, a dollar sign allowed."""


def as_number(text: str) -> Decimal | None:
    """Return the exact value of a text that is one number and nothing else; else None."""
    text = text.strip()
    if NUMBER.fullmatch(text) is None:
        return None
    return _value(text)


def first_number(text: str) -> Decimal | None:
    """Return the exact value of the first number that stands in a text; None without one."""
    found = NUMBER.search(text)
    return _value(found[0]) if found else None


def last_number(text: str) -> Decimal | None:
    """Return the exact value of the last number that stands in a text; None without one."""
    found = NUMBER.findall(text)
    return _value(found[-1]) if found else None


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", "").replace("$", "").replace("−", "-"))
