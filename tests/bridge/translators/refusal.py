"""How a refusal has to look: the right class, one line, the words that help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from statebridge.errors import StatebridgeError


@contextmanager
def refused(error: type[StatebridgeError], *words: str) -> Iterator[None]:
    """Expect `error` with a one-line message that holds every one of `words`."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
