"""Answers in attributes and texts: several names as one text, and numbers.

A row of a file has its aliases and options as lists of texts: `"aliases": ["Britain"]`. The
attributes of a `DatasetRow` are scalars, so that every file format can hold them; there the
names are one text, separated by `|` (`Britain|Great Britain`), or a JSON list where a name holds
`|`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from typing import Any

from statebridge.data.rows import Place
from statebridge.data.strict_json import JsonError, parse
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow

_SEPARATOR = "|"

ALIASES = "aliases"
"""Attribute: other names of the answer, each as right as the answer itself."""
OPTIONS = "options"
"""Attribute: the answers between which the question lets choose, the right one among them."""
DECOYS = "decoys"
"""Attribute: wrong answers with which the right one is contrasted, beside the wrong options."""
NAME_LISTS = (ALIASES, OPTIONS, DECOYS)
"""Fields of a file's rows that are lists of texts."""
SCORING = "scoring"
"""Attribute: the scoring convention of the row, a key of `statebridge.scoring.CONVENTIONS`."""


SETTINGS = "scoring_settings"
"""Attribute: settings of a convention that has some, as JSON."""


def join_names(names: Iterable[str]) -> str:
    """Return names as one text; `split_names` gives them back.

    Examples:
        >>> join_names(["Britain", "Great Britain"]), join_names(["A|B"])
        ('Britain|Great Britain', '["A|B"]')

    Raises:
        DatasetError: A name is empty or has white space around it.
    """
    kept = list(names)
    for name in kept:
        if not name or name != name.strip():
            raise DatasetError(f"name {name!r}: must not be empty or have white space around it")
    joined = _SEPARATOR.join(kept)
    return joined if split_names(joined) == tuple(kept) else json.dumps(kept, ensure_ascii=False)


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of such a text; white space around them and empty ones are dropped."""
    names = text.split(_SEPARATOR)
    if text.startswith("["):
        with suppress(JsonError):
            listed = parse(text)
            names = listed if _are_texts(listed) else names
    return tuple(name.strip() for name in names if name.strip())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def listed_names(value: Any, field: str, place: Place, row_id: str) -> str:
    """Return a field of a record, a list of texts, as one text.

    Raises:
        DatasetError: The field is no list of texts, or a name in it is empty.
    """
    where = f"{place}: field {field!r} (row id {row_id!r})"
    if not _are_texts(value):
        raise DatasetError(f"{where} has another shape; it must be a list of texts")
    try:
        return join_names(dict.fromkeys(name.strip() for name in value))
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from None


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
