"""All that counts as the right answer of a row."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.data.answers import ALIASES, OPTIONS, attribute_names
from statebridge.records import DatasetRow


@dataclass(frozen=True, slots=True)
class Gold:
    """The answers of a row that count as right."""

    answer: str
    aliases: tuple[str, ...] = ()
    """Other names of the answer."""
    options: tuple[str, ...] = ()
    """The answers between which the question lets choose, the right one among them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The answer and its aliases."""
        return (self.answer, *self.aliases)


def gold_of(row: DatasetRow) -> Gold:
    """Return what counts as right for a row: its answer, `aliases` and `options`.

    Raises:
        DatasetError: One of the two attributes is not text.
    """
    return Gold(row.answer, attribute_names(row, ALIASES), attribute_names(row, OPTIONS))
