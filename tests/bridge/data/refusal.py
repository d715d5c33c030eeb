"""How bad input must be refused: the right class, one line, naming what and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from statebridge.errors import StatebridgeError


@contextmanager
def refused(error: type[StatebridgeError], *parts: object) -> Iterator[None]:
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
