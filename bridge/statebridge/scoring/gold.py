"""All that counts as the right answer of a row."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.data.answers import ALIASES, DECOYS, OPTIONS, SETTINGS, attribute_names
from statebridge.records import DatasetRow


@dataclass(frozen=True, slots=True)
class Gold:
    """The answers of a row that count as right."""

    answer: str
    aliases: tuple[str, ...] = ()
    """Other names of the answer."""
    options: tuple[str, ...] = ()
    """The answers between which the question lets choose, the right one among them."""
    decoys: tuple[str, ...] = ()
    """Further wrong answers."""
    settings: str = ""
    """Settings of the row's scoring convention, as JSON."""

    @property
    def names(self) -> tuple[str, ...]:
        """The answer and its aliases."""
        return (self.answer, *self.aliases)

    @property
    def wrong(self) -> tuple[str, ...]:
        """The wrong options and the decoys, each once."""
        return tuple(dict.fromkeys(o for o in (*self.options, *self.decoys) if o not in self.names))


def gold_of(row: DatasetRow) -> Gold:
    """Return a row's answer with its `aliases`, `options` and `decoys`.

    Raises:
        DatasetError: One of the attributes is not text.
    """
    return Gold(
        row.answer,
        attribute_names(row, ALIASES),
        attribute_names(row, OPTIONS),
        attribute_names(row, DECOYS),
        str(row.attributes.get(SETTINGS) or ""),
    )
