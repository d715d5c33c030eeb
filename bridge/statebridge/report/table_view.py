"""A table as text, before it is HTML or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableView:
    """Headers and rows of text."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """How many columns from the left hold words; the others hold numbers."""
    note: str = ""
    """What a reader of the table must know: n, kinds of interval, meanings of columns."""


def table(
    title: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: int = 1,
    note: str = "",
) -> TableView:
    """Return a table without the columns in which no row has anything."""
    kept = [i for i in range(len(headers)) if any(row[i] not in ("", "–") for row in rows)]
    return TableView(
        title,
        tuple(headers[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
        sum(i < words for i in kept),
        note,
    )
