"""What tip sheets say of companies: each fact as good, bad and neutral news.

The three tellings of a fact differ in one place, `{good|bad|neutral}`, have the same number
of words, and over all facts the same mean length within a third of a character: neither the
length of a note's parts nor its number of words gives the right company away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CHOICE = re.compile(r"\{([^{}|]+)\|([^{}|]+)\|([^{}|]+)\}")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in its three tellings; each follows the company's name, as a verb phrase."""

    good: str
    bad: str
    neutral: str


@dataclass(frozen=True, slots=True)
class Sector:
    """A line of business, as it stands before "company" or "firm", and facts of its own."""

    name: str
    facts: tuple[Fact, ...]


def _facts(block: str) -> tuple[Fact, ...]:
    return tuple(_fact(line.strip()) for line in block.strip().splitlines())


def _fact(line: str) -> Fact:
    match = _CHOICE.search(line)
    if match is None:
        raise AssertionError(f"fact {line!r} has no choice of good, bad and neutral")
    before, after = line[: match.start()], line[match.end() :]
    good, bad, neutral = (before + telling + after for telling in match.groups())
    return Fact(good, bad, neutral)


GENERAL = _facts(
    """
    reported {growing|falling|steady} quarterly revenue
    {boosted|lowered|repeated} its profit forecast for the year
    ended the quarter with {swelling|shrinking|unchanged} orders
    showed a {broader|thinner|similar} profit margin this quarter
    was {commended|downgraded|mentioned} by two leading analysts
    {doubled|slashed|declared} its annual dividend
    closed the year with {modest|severe|normal} debt
    ended the year with {ample|scant|usual} cash reserves
    {gained|lost|polled} thousands of customers this spring
    {hired|lost|met} several of the best engineers in its field
    {passed|failed|booked} its yearly safety audit
    {won|lost|saw} a major government tender
    """
)

SECTORS = (
    Sector(
        "solar energy",
        _facts(
            """
            finished its new power plant {under|over|near} budget
            saw demand for its panels {soar|sink|hold}
            had its grid licence {extended|revoked|reprinted}
            """
        ),
    ),
    Sector(
        "medical",
        _facts(
            """
            reported {superb|dismal|interim} trial results for its main drug
            had its vaccine {approved|rejected|examined} by the regulator
            saw hospital orders for its scanners {surge|slump|hold}
            """
        ),
    ),
    Sector(
        "software",
        _facts(
            """
            saw subscriptions to its main product {climb|plunge|hold}
            had its platform {applauded|condemned|described} in a large security review
            released its new version to {glowing|hostile|mixed} reviews
            """
        ),
    ),
    Sector(
        "retail",
        _facts(
            """
            reported {bustling|deserted|typical} shops over the holidays
            {opened|closed|painted} twenty stores this year
            sold its winter stock at {premium|ruinous|ordinary} prices
            """
        ),
    ),
    Sector(
        "transport",
        _facts(
            """
            reported {light|heavy|normal} delays on its main line
            saw its freight volumes {surge|tumble|hover}
            had its new fleet {acclaimed|grounded|repainted}
            """
        ),
    ),
    Sector(
        "food",
        _facts(
            """
            saw its new snacks {thrive|flop|arrive} in supermarkets
            had its main product {honoured|recalled|sampled} by the food agency
            bought its grain at {bargain|inflated|ordinary} prices
            """
        ),
    ),
    Sector(
        "banking",
        _facts(
            """
            reported {few|many|some} unpaid loans this year
            had its credit rating {upgraded|slashed|affirmed}
            saw its savers {deposit|withdraw|discuss} record sums
            """
        ),
    ),
    Sector(
        "construction",
        _facts(
            """
            delivered its main tower {early|late|today}
            had its concrete {certified|condemned|inspected} by engineers
            sold its new flats {swiftly|slowly|normally}
            """
        ),
    ),
)

HEADINGS = (
    "Tip sheet.",
    "Notes for investors.",
    "This week on the market.",
    "Three companies to consider.",
)

FRAMES = (
    "{company}, a {sector} company, {first} and {second}.",
    "{company} ({sector}) {first}. It also {second}.",
    "The {sector} firm {company} {first}; it {second}.",
    "In the {sector} sector, {company} {first}, and it {second}.",
)
"""How one company is written up; a note uses one frame for all three."""

QUESTIONS = (
    "Which company is the best investment: {a}, {b} or {c}?",
    "Which one should be invested in: {a}, {b} or {c}?",
    "Out of {a}, {b} and {c}, which company should one invest in?",
)
