"""Recognise that memory ran out, and run the work over halves then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from statebridge.engine.decoding.steps import give_back
from statebridge.errors import EnvironmentFault


class DoesNotFit(EnvironmentFault):
    """A single item does not fit into memory; beside fewer others it may still fit."""


T = TypeVar("T")
R = TypeVar("R")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | DoesNotFit):
        return True
    # torch has no exception class for a failure of the CPU allocator
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def halving(work: Callable[[Sequence[T]], list[R]], items: Sequence[T], what: str) -> list[R]:
    """Return `work(items)`, run over halves if memory runs out.

    `work` may halve lanes itself; if one lane does not fit beside all the items, the items are
    halved in turn.

    Raises:
        EnvironmentFault: A single item does not fit.
    """
    try:
        return work(items)
    except (RuntimeError, MemoryError, DoesNotFit) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise DoesNotFit(
                f"out of memory with a single {what}; use a smaller model, a narrower dtype or a "
                "device with more memory"
            ) from None
    # Outside the handler: the error's traceback holds the tensors that did not fit.
    give_back()
    middle = len(items) // 2
    return halving(work, items[:middle], what) + halving(work, items[middle:], what)
