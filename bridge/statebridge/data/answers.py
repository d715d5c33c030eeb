"""Answers in attributes and texts: several names as one text, and numbers.

A row's attributes are scalars, so that every file format can hold them; aliases and options
are written as one text, separated by `|`: `Britain|Great Britain`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

_SEPARATOR = "|"

ALIASES = "aliases"
"""Attribute: other names of the answer, each as right as the answer itself."""
OPTIONS = "options"
"""Attribute: the answers between which the question lets choose, the right one among them."""
SCORING = "scoring"
"""Attribute: the scoring convention of the row, a key of `statebridge.scoring.CONVENTIONS`."""


def join_names(names: Iterable[str]) -> str:
    """Return names as one text; `split_names` gives them back.

    Raises:
        DatasetError: A name is empty, has white space around it, or holds `|`.
    """
    kept = list(names)
    for name in kept:
        if not name or name != name.strip() or _SEPARATOR in name:
            raise DatasetError(
                f"name {name!r}: must not be empty, hold {_SEPARATOR!r} or have white space "
                "around it"
            )
    return _SEPARATOR.join(kept)


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of such a text; white space around them and empty ones are dropped."""
    return tuple(name.strip() for name in text.split(_SEPARATOR) if name.strip())


def attribute_names(row: DatasetRow, attribute: str) -> tuple[str, ...]:
    """Return the names that an attribute of a row holds; none where it is absent or null.

    Raises:
        DatasetError: The attribute is not text.
    """
    value = row.attributes.get(attribute)
    if value is None:
        return ()
    if not isinstance(value, str):
        raise DatasetError(
            f"row {row.row_id!r}: attribute {attribute!r} is {value!r}; it must be names separated "
            f"by {_SEPARATOR!r}"
        )
    return split_names(value)


# A minus belongs to the number unless something is right before it: `5-3` holds 5 and 3.
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
    """Return the exact value of the first number in a text; None without one."""
    found = NUMBER.search(text)
    return _value(found[0]) if found else None


def last_number(text: str) -> Decimal | None:
    """Return the exact value of the last number in a text; None without one."""
    found = NUMBER.findall(text)
    return _value(found[-1]) if found else None


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", "").replace("$", "").replace("−", "-"))
