"""Contexts that readers make: of titled paragraphs, of the question, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from statebridge.data.rows import Place
from statebridge.errors import DatasetError, nearest

Context = Literal["gold", "all"]
"""`gold`: only what the question needs. `all`: the distractors too."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph, and whether the question needs it."""

    title: str
    text: str
    gold: bool


def checked_context(context: str) -> Context:
    """Return the option `context` if it is one.

    Raises:
        DatasetError: It is not.
    """
    for known in get_args(Context):
        if context == known:
            return known  # type: ignore[no-any-return]
    raise DatasetError(f"option context: {context!r}: {nearest(context, get_args(Context))}")


def joined(paragraphs: Sequence[Paragraph], context: Context, place: Place, row_id: str) -> str:
    """Return the paragraphs as `title: text`, one a line, in the order of the file.

    Raises:
        DatasetError: Only gold paragraphs are wanted and the row names none.
    """
    chosen = [p for p in paragraphs if p.gold or context == "all"]
    if not chosen:
        raise DatasetError(
            f"{place}: no {'gold ' if context == 'gold' else ''}paragraph (row id {row_id!r}); "
            "use a file with supporting facts, or the option context: all"
        )
    return "\n".join(f"{p.title}: {p.text}" for p in chosen)


_WITHOUT_PARAGRAPHS = ("none", "question")


def in_context(context: str) -> bool:
    """Return whether the option `context` of a set without contexts puts the question there.

    `none` leaves the context empty: sender and receiver both get the problem as the question, as
    in arXiv 2501.14082 for its reasoning sets. `question` puts the problem into the context too,
    for prompts that show the sender the context only; a prompt with both then shows it twice.

    Raises:
        DatasetError: It is neither `none` nor `question`.
    """
    if context not in _WITHOUT_PARAGRAPHS:
        raise DatasetError(f"option context: {context!r}: {nearest(context, _WITHOUT_PARAGRAPHS)}")
    return context == "question"
