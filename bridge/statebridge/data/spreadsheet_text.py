"""Text in a CSV cell that no spreadsheet program takes for a formula, and back.

A cell that begins with one of `= + - @`, a tab or a line end may be run as a formula when the
file is opened (OWASP, "CSV Injection"); predictions of a language model begin as they like.
Such a cell gets an apostrophe in front, and so does one that begins with an apostrophe, so
that `unguarded` gives back every text exactly.
"""

from __future__ import annotations

_GUARD = "'"
_BEFORE = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", _GUARD)


def guarded(text: str) -> str:
    """Return the text as it is safe to write in a CSV cell."""
    return f"{_GUARD}{text}" if text.startswith(_BEFORE) else text


def unguarded(text: str) -> str:
    """Return the text that `guarded` was given."""
    return text.removeprefix(_GUARD)
