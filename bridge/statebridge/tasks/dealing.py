"""Drawing evenly: shuffled decks, dealt out whole before the next one is shuffled."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TypeVar

T = TypeVar("T")


def dealt(items: Sequence[T], key: str) -> Iterator[T]:
    """Yield items without end; after any number of draws their counts differ by at most 1.

    Each deck has a generator of its own, keyed by `key` and its index.
    """
    for deck in count():
        rng = random.Random(f"{key}|{deck}")  # noqa: S311
        yield from rng.sample(items, len(items))
