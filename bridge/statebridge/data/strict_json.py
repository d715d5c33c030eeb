"""JSON without surprises: no NaN, no key given twice, no infinite number, no deep nesting."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 100
"""Most objects and lists inside of each other. How many Python reads depends on its version, and
what uses the value later may fail at fewer."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


class JsonError(ValueError):
    """A fault in a JSON text; the caller adds the name of the file."""

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column


def parse(text: str) -> Any:
    """Parse one JSON text.

    Raises:
        JsonError: Not JSON, or JSON that two readers would understand differently: NaN and
            infinities, a key given twice in one object, more than `DEEPEST` levels.
    """
    if _is_deep(text):
        raise JsonError(
            f"nested too deeply; at most {DEEPEST} objects and lists may be inside of each other"
        )
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct_keys,
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg}", error.lineno, error.colno) from None
    except JsonError:
        raise
    except ValueError:  # an integer beyond what Python converts from text
        raise JsonError("holds a number with too many digits") from None


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif found[0] in "]}":
            depth -= 1
    return False


def _refuse_constant(name: str) -> Any:
    raise JsonError(f"holds {name}, which is not JSON; write null or leave the field out")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError(f"holds {text}, which no 64-bit float can hold")
    return number


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"field {twice!r} is given twice")
    return found
