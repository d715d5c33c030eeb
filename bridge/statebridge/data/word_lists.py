"""Lists of words: read from YAML files of the package, and dealt evenly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import count
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
# The loader in C is ten times as fast; not every build of PyYAML has it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_package_yaml(room: str, name: str) -> dict[str, Any]:
    """Return the content of a YAML file that lies in a room of the library."""
    text = (files("statebridge") / room / name).read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, _LOADER)  # noqa: S506 - a safe loader
    return content


def lines_of(block: str) -> tuple[str, ...]:
    """Return the lines of a YAML block text."""
    return tuple(block.splitlines())


def dealt(items: Sequence[T], key: str) -> Iterator[T]:
    """Yield items without end; after any number of draws their counts differ by at most 1.

    The items are a deck that is shuffled and dealt out whole, again and again; each deck has a
    generator of its own, keyed by `key` and its index.
    """
    for deck in count():
        rng = random.Random(f"{key}|{deck}")  # noqa: S311
        yield from rng.sample(items, len(items))
