from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from statebridge.engine.fitting.frozen_rows import FrozenRows
from statebridge.models.pair import Pair
from tests.bridge.engine.fitting.causal.causal_experiment import (
    causal_of,
    frozen,
    rows_of,
    write_rows,
)
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair


@pytest.fixture(scope="module")
def pair() -> Pair:
    return engine_pair(neox_pair())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty rows to train on."""
    return write_rows(tmp_path_factory.mktemp("rows") / "training.jsonl", rows_of(20))


@pytest.fixture(scope="module")
def rows(pair: Pair, path: Path) -> Iterator[FrozenRows]:
    """The same, captured for `private_last`."""
    with frozen(pair, causal_of(path)) as held:
        yield held
