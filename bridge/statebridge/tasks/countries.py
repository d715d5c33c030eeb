"""The Countries task: the sender reads where somebody is, the receiver is asked the country.

After arXiv 2501.14082, whose items are not public: the landmarks (`countries.yaml`), persons and
templates are ours. "Alice is at the Acropolis of Athens." goes into the context, which the
receiver does not see in the private setting; "Which country is Alice located in?" is the
question.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from types import MappingProxyType

from statebridge.data.answers import ALIASES, SCORING, join_names
from statebridge.data.multihop_domains import NAMES
from statebridge.data.word_lists import dealt, read_package_yaml
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import TASKS, GeneratedRows
from statebridge.records import DatasetRow

LANDMARKS_PER_COUNTRY = 3


@dataclass(frozen=True, slots=True)
class Country:
    """A country, its other names, and places in it as they follow "is at"."""

    name: str
    aliases: tuple[str, ...]
    landmarks: tuple[str, ...]


def _country(names: str, landmarks: str) -> Country:
    name, *aliases = names.split(" | ")
    return Country(name, tuple(aliases), tuple(landmarks.split("; ")))


COUNTRIES = tuple(
    _country(names, landmarks)
    for names, landmarks in read_package_yaml("tasks", "countries.yaml").items()
)
PEOPLE = NAMES["people"]
TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "is_at": "{person} is at {landmark}.",
        "visiting": "{person} is visiting {landmark}.",
        "arrived": "{person} has just arrived at {landmark}.",
        "right_now": "Right now, {person} is at {landmark}.",
        "meeting": "{person} is meeting a friend at {landmark}.",
        "photographs": "{person} is taking photographs at {landmark}.",
    }
)
QUESTION = "Which country is {person} located in?"
MAX_ROWS = len(COUNTRIES) * LANDMARKS_PER_COUNTRY * len(PEOPLE)
"""Rows in which each person is at each landmark once."""


def countries_rows(rows: int, seed: int = 0) -> list[DatasetRow]:
    """Return rows of the task: ids `countries_000000`, ...

    Attributes: aliases, landmark, template, answer_type, scoring. Each lap over the landmarks
    takes every country once, then every country again with its next landmark, each time in
    another order; persons and templates are dealt evenly, and nobody is at a landmark twice.

    Args:
        rows: How many, 1 to `MAX_ROWS`. The first rows are the same however many are asked
            for.
        seed: Any integer.

    Raises:
        DatasetError: `rows` is out of range.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise DatasetError(f"countries: rows is {rows}; ask for 1 to {MAX_ROWS}")
    return list(islice(_rows(seed), rows))


@TASKS.add("countries")
def declared_countries(settings: GeneratedRows) -> list[DatasetRow]:
    """Return rows that ask for the country of a landmark that a person visits."""
    return countries_rows(settings.rows, seed=settings.seed)


def _rows(seed: int) -> Iterator[DatasetRow]:
    persons = dealt(PEOPLE, f"statebridge.countries.persons|{seed}")
    templates = dealt(tuple(TEMPLATES), f"statebridge.countries.templates|{seed}")
    waiting: list[str] = []
    been: dict[str, set[str]] = {}
    for index, (country, landmark) in enumerate(_places(seed)):
        met = been.setdefault(landmark, set())
        while (person := next((name for name in waiting if name not in met), None)) is None:
            waiting.append(next(persons))
        waiting.remove(person)
        met.add(person)
        template = next(templates)
        yield DatasetRow(
            f"countries_{index:06d}",
            context=TEMPLATES[template].format(person=person, landmark=landmark),
            question=QUESTION.format(person=person),
            answer=country.name,
            attributes={
                ALIASES: join_names(country.aliases),
                "landmark": landmark,
                "template": template,
                "answer_type": "country",
                SCORING: "first_line",
            },
        )


def _places(seed: int) -> Iterator[tuple[Country, str]]:
    """Yield (country, landmark) without end, every landmark once a lap."""
    for lap in count():
        rng = random.Random(f"statebridge.countries.places|{seed}|{lap}")  # noqa: S311
        orders = {
            country.name: rng.sample(country.landmarks, LANDMARKS_PER_COUNTRY)
            for country in COUNTRIES
        }
        for turn in range(LANDMARKS_PER_COUNTRY):
            for country in rng.sample(COUNTRIES, len(COUNTRIES)):
                yield country, orders[country.name][turn]
