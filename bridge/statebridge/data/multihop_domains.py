"""The domains of generated multi-hop rows: kinds of things, and links between them.

Each domain is a chain of five kinds and four links; a row walks two to four of the links. The
words are in `multihop.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from statebridge.data.word_lists import lines_of, read_package_yaml


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing."""

    name: str
    names: tuple[str, ...]
    """Names of the things; the same object for kinds that share them."""
    mention: str
    """How a question first mentions one, `{a}`."""


@dataclass(frozen=True, slots=True)
class Link:
    """A relation from one kind to the next.

    A fact is about `{a}` and `{b}`; a phrase names the second thing through the first, `{x}`,
    which may itself be such a phrase.
    """

    facts: tuple[str, ...]
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """Five kinds, and the four links that lead from each to the next."""

    name: str
    kinds: tuple[Kind, Kind, Kind, Kind, Kind]
    links: tuple[Link, Link, Link, Link]


def _kind(name: str, names: str, mention: str) -> Kind:
    return Kind(name, NAMES[names], mention)


def _domain(name: str, content: Mapping[str, Any]) -> Domain:
    first, second, third, fourth, fifth = (_kind(*kind) for kind in content["kinds"])
    one, two, three, four = (
        Link(lines_of(link["facts"]), lines_of(link["phrases"])) for link in content["links"]
    )
    return Domain(name, (first, second, third, fourth, fifth), (one, two, three, four))


_content = read_package_yaml("data", "multihop.yaml")

NAMES: Mapping[str, tuple[str, ...]] = {
    kind: tuple(name.replace("_", " ") for name in names.split())
    for kind, names in _content["names"].items()
}
"""Names of people, places, companies, species and paintings."""
DOMAINS = tuple(_domain(name, content) for name, content in _content["domains"].items())
QUESTIONS = lines_of(_content["questions"])
