"""The worlds that generated multi-hop rows are set in: kinds of things, and links between them.

Each domain is a chain of five kinds and four links; a row walks two to four of the links.
"""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.data.multihop_names import COMPANIES, PAINTINGS, PEOPLE, PLACES, SPECIES


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing: what it is called, its names, how a question first mentions one."""

    name: str
    names: tuple[str, ...]
    mention: str


@dataclass(frozen=True, slots=True)
class Link:
    """A relation from one kind to the next.

    A fact says it of `{a}` and `{b}`; a phrase names the second thing through the first,
    `{x}`, which may itself be such a phrase. `{x}` stands last in a phrase, so that phrases
    within phrases stay readable.
    """

    facts: tuple[str, ...]
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """Five kinds, and the four links that lead from each to the next."""

    name: str
    kinds: tuple[Kind, Kind, Kind, Kind, Kind]
    links: tuple[Link, Link, Link, Link]


_CITY = Kind("city", PLACES, "the city of {a}")
_COUNTRY = Kind("country", PLACES, "the country of {a}")

DOMAINS = (
    Domain(
        "geography",
        (
            Kind("person", PEOPLE, "{a}"),
            _CITY,
            Kind("province", PLACES, "the province of {a}"),
            _COUNTRY,
            Kind("continent", PLACES, "the continent of {a}"),
        ),
        (
            Link(
                ("{a} lives in {b}.", "{a} has a home in {b}.", "The home of {a} is in {b}."),
                ("the home city of {x}", "the city that is home to {x}"),
            ),
            Link(
                (
                    "{a} is a city in the province of {b}.",
                    "The city of {a} belongs to the province of {b}.",
                    "The province of {b} includes the city of {a}.",
                ),
                ("the province of {x}", "the province that includes {x}"),
            ),
            Link(
                (
                    "{a} is a province of {b}.",
                    "The province of {a} is part of the country of {b}.",
                    "The country of {b} includes the province of {a}.",
                ),
                ("the country of {x}", "the country that includes {x}"),
            ),
            Link(
                (
                    "{a} is a country on the continent of {b}.",
                    "The country of {a} lies on the continent of {b}.",
                    "The continent of {b} includes the country of {a}.",
                ),
                ("the continent of {x}", "the continent that includes {x}"),
            ),
        ),
    ),
    Domain(
        "work",
        (
            Kind("person", PEOPLE, "{a}"),
            Kind("company", COMPANIES, "the company {a}"),
            Kind("group", COMPANIES, "the group {a}"),
            _CITY,
            _COUNTRY,
        ),
        (
            Link(
                ("{a} works for {b}.", "{a} is employed by {b}.", "{b} employs {a}."),
                ("the employer of {x}", "the company that employs {x}"),
            ),
            Link(
                ("{a} is owned by {b}.", "{b} is the owner of {a}.", "{b} bought {a}."),
                ("the group that owns {x}", "the owner of {x}"),
            ),
            Link(
                (
                    "{a} has its head office in {b}.",
                    "The head office of {a} is in {b}.",
                    "{a} is run from {b}.",
                ),
                ("the home city of {x}", "the city that houses the head office of {x}"),
            ),
            Link(
                (
                    "{a} is a city in {b}.",
                    "The city of {a} is located in {b}.",
                    "The country of {b} includes the city of {a}.",
                ),
                ("the country of {x}", "the country that includes {x}"),
            ),
        ),
    ),
    Domain(
        "nature",
        (
            Kind("moth", SPECIES, "the {a} moth"),
            Kind("flower", SPECIES, "the {a} flower"),
            Kind("valley", PLACES, "the valley of {a}"),
            Kind("island", PLACES, "the island of {a}"),
            Kind("sea", PLACES, "the sea of {a}"),
        ),
        (
            Link(
                (
                    "The {a} moth feeds on the {b} flower.",
                    "The {a} moth drinks from the {b} flower.",
                    "The {b} flower feeds the {a} moth.",
                ),
                ("the food plant of {x}", "the flower that feeds {x}"),
            ),
            Link(
                (
                    "The {a} flower grows in the valley of {b}.",
                    "The {a} flower is found in the valley of {b}.",
                    "The valley of {b} is full of the {a} flower.",
                ),
                ("the valley of {x}", "the valley that is home to {x}"),
            ),
            Link(
                (
                    "{a} is a valley on the island of {b}.",
                    "The valley of {a} lies on the island of {b}.",
                    "The island of {b} has a valley called {a}.",
                ),
                ("the island of {x}", "the island that includes {x}"),
            ),
            Link(
                (
                    "{a} is an island in the sea of {b}.",
                    "The island of {a} lies in the sea of {b}.",
                    "The sea of {b} surrounds the island of {a}.",
                ),
                ("the sea around {x}", "the sea that surrounds {x}"),
            ),
        ),
    ),
    Domain(
        "art",
        (
            Kind("painting", PAINTINGS, 'the painting "{a}"'),
            Kind("painter", PEOPLE, "the painter {a}"),
            Kind("teacher", PEOPLE, "the teacher {a}"),
            Kind("ruler", PEOPLE, "the ruler {a}"),
            Kind("kingdom", PLACES, "the kingdom of {a}"),
        ),
        (
            Link(
                (
                    '"{a}" was painted by {b}.',
                    '{b} painted "{a}".',
                    'The painter of "{a}" was {b}.',
                ),
                ("the painter of {x}", "the artist who painted {x}"),
            ),
            Link(
                ("{a} was taught by {b}.", "{b} was the teacher of {a}.", "{a} learned from {b}."),
                ("the teacher of {x}", "the artist who taught {x}"),
            ),
            Link(
                (
                    "{a} served at the court of {b}.",
                    "{b} was the ruler whom {a} served.",
                    "{b} called {a} to court.",
                ),
                ("the ruler served by {x}", "the royal master of {x}"),
            ),
            Link(
                (
                    "{a} ruled the kingdom of {b}.",
                    "The kingdom of {b} was ruled by {a}.",
                    "The ruler of {b} was {a}.",
                ),
                ("the kingdom of {x}", "the kingdom ruled by {x}"),
            ),
        ),
    ),
)

QUESTIONS = (
    "What is the name of {x}?",
    "Can you name {x}?",
    "By what name is {x} known?",
)
