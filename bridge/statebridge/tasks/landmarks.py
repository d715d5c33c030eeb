"""The countries and landmarks of the Countries task.

Each country has three landmarks, so that none is a favourite answer. A landmark stands in one
country only and names neither it, nor its people, nor any other country. Left out as
aliases: names that stand inside those of other places (Korea, America).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from statebridge.tasks.landmarks_beyond_europe import AFRICA, AMERICAS_AND_OCEANIA, ASIA
from statebridge.tasks.landmarks_of_europe import EUROPE

LANDMARKS_PER_COUNTRY = 3


@dataclass(frozen=True, slots=True)
class Country:
    """A country, its other names, and places in it as they follow "is at"."""

    name: str
    aliases: tuple[str, ...]
    landmarks: tuple[str, ...]


def _countries(block: str) -> Iterator[Country]:
    """Read lines `name | alias | ...`, each followed by indented lines of landmarks."""
    names: list[str] = []
    landmarks: list[str] = []
    for line in [*block.strip().splitlines(), ""]:
        if line.startswith(" "):
            landmarks += [place.strip() for place in line.split(";")]
            continue
        if names:
            yield Country(names[0], tuple(names[1:]), tuple(landmarks))
        names, landmarks = [name.strip() for name in line.split("|")], []


COUNTRIES = tuple(
    country
    for block in (EUROPE, ASIA, AFRICA, AMERICAS_AND_OCEANIA)
    for country in _countries(block)
)
