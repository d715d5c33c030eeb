"""Running independent computations on all cores.

numpy draws without holding Python's lock, so threads share out a comparison's bootstraps.
Each has a random stream of its own: the numbers do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

_MOST_THREADS = 8
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


def on_threads(compute: Callable[[_Item], _Outcome], items: Sequence[_Item]) -> list[_Outcome]:
    """Return `compute` of each item, in the order of the items.

    Raises:
        Exception: What `compute` raised for the first item that it failed on.
    """
    with ThreadPoolExecutor(max_workers=min(_MOST_THREADS, cpu_count() or 1)) as pool:
        return list(pool.map(compute, items))
