"""The Tip Sheets task: the sender reads notes on three companies, the receiver must choose.

After arXiv 2501.14082, whose items are not public: companies, facts and wording are ours
(`tip_sheets.yaml`). The note goes into the context, which the receiver does not see in the private
setting; the question lists the three companies in an order of its own. One company has two pieces
of good news; each of the others has two that are bad or neutral. Companies are invented and each
is named once, the places of the right one in note and question are dealt evenly, and good, bad
and neutral news are equally long: a silent receiver is right one time in three.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, product

from statebridge.data.answers import OPTIONS, SCORING, join_names
from statebridge.data.multihop_domains import NAMES
from statebridge.data.word_lists import dealt, lines_of, read_package_yaml
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import TASKS, GeneratedRows
from statebridge.records import DatasetRow

_CHOICE = re.compile(r"\{([^{}|]+)\|([^{}|]+)\|([^{}|]+)\}")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as good, bad and neutral news: verb phrases that follow the company's name."""

    good: str
    bad: str
    neutral: str


@dataclass(frozen=True, slots=True)
class Sector:
    """A line of business, as it comes before "company" or "firm", and facts of its own."""

    name: str
    facts: tuple[Fact, ...]


def _fact(line: str) -> Fact:
    match = _CHOICE.search(line)
    if match is None:
        raise AssertionError(f"fact {line!r} has no choice of good, bad and neutral")
    before, after = line[: match.start()], line[match.end() :]
    good, bad, neutral = (before + telling + after for telling in match.groups())
    return Fact(good, bad, neutral)


_content = read_package_yaml("tasks", "tip_sheets.yaml")

GENERAL = tuple(map(_fact, lines_of(_content["general"])))
SECTORS = tuple(
    Sector(name, tuple(map(_fact, lines_of(facts)))) for name, facts in _content["sectors"].items()
)
HEADINGS, FRAMES, QUESTIONS = (
    lines_of(_content[part]) for part in ("headings", "frames", "questions")
)
COMPANIES = NAMES["companies"]
COMPANIES_PER_NOTE = 3
MAX_ROWS = 1_000_000

_GOOD = ("good", "good")
_OTHERS = tuple(product(("bad", "neutral"), repeat=2))


def tip_sheets_rows(rows: int, seed: int = 0) -> list[DatasetRow]:
    """Return rows of the task: ids `tip_sheets_000000`, ...

    Attributes: options (the companies as the question lists them), sector (of the right
    one), note_place and question_place (of the right one, from 1), answer_type, scoring. No
    two rows are the same.

    Args:
        rows: How many, 1 to 1,000,000. The first rows are the same however many are asked
            for.
        seed: Any integer.

    Raises:
        DatasetError: `rows` is out of range.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise DatasetError(f"tip sheets: rows is {rows}; ask for 1 to {MAX_ROWS}")
    return list(islice(_rows(seed), rows))


@TASKS.add("tip_sheets")
def declared_tip_sheets(settings: GeneratedRows) -> list[DatasetRow]:
    """Return rows that ask which of three companies a note speaks well of."""
    return tip_sheets_rows(settings.rows, seed=settings.seed)


def _rows(seed: int) -> Iterator[DatasetRow]:
    key = f"statebridge.tip_sheets|{seed}"
    spots = range(COMPANIES_PER_NOTE)
    places = dealt(tuple(product(spots, spots)), f"{key}|places")
    right_ones = dealt(COMPANIES, f"{key}|right")
    seen: set[str] = set()
    for index in count():
        # Text seeds go through SHA-512: neighbouring rows and seeds do not resemble each other.
        rng = random.Random(f"{key}|row|{index}")  # noqa: S311
        note_place, question_place = next(places)
        right = next(right_ones)
        while (row := _row(index, right, note_place, question_place, rng)).context in seen:
            pass
        seen.add(row.context)
        yield row


def _row(
    index: int, right: str, note_place: int, question_place: int, rng: random.Random
) -> DatasetRow:
    others = rng.sample([name for name in COMPANIES if name != right], COMPANIES_PER_NOTE - 1)
    noted = _placed(right, note_place, others)
    asked = _placed(right, question_place, rng.sample(others, len(others)))
    sectors = rng.sample(SECTORS, COMPANIES_PER_NOTE)
    general = rng.sample(GENERAL, COMPANIES_PER_NOTE)
    frame = rng.choice(FRAMES)
    parts = []
    for company, sector, common in zip(noted, sectors, general, strict=True):
        facts = rng.sample((rng.choice(sector.facts), common), 2)
        news = _GOOD if company == right else rng.choice(_OTHERS)
        first, second = (_telling(fact, tone) for fact, tone in zip(facts, news, strict=True))
        parts.append(frame.format(company=company, sector=sector.name, first=first, second=second))
    a, b, c = asked
    return DatasetRow(
        f"tip_sheets_{index:06d}",
        context=" ".join((rng.choice(HEADINGS), *parts)),
        question=rng.choice(QUESTIONS).format(a=a, b=b, c=c),
        answer=right,
        attributes={
            OPTIONS: join_names(asked),
            "sector": sectors[note_place].name,
            "note_place": note_place + 1,
            "question_place": question_place + 1,
            "answer_type": "company",
            SCORING: "first_named",
        },
    )


def _placed(right: str, place: int, others: list[str]) -> list[str]:
    return [*others[:place], right, *others[place:]]


def _telling(fact: Fact, tone: str) -> str:
    return {"good": fact.good, "bad": fact.bad, "neutral": fact.neutral}[tone]
