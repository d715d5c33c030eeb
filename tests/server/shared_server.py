"""A tiny pair on disk, and one server over it for all tests of the server and of its client.

The root `conftest.py` makes these fixtures known everywhere, so that there is one of each for a
test process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.running_server import RunningServer, running_server
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sender` and `receiver`, as `from_pretrained` reads them."""
    folder = tmp_path_factory.mktemp("pair")
    tokenizer = tiny_tokenizer()
    for name, seed, layers, hidden in (("sender", 1, 3, 24), ("receiver", 2, 4, 32)):
        model = tiny_neox(seed=seed, layers=layers, hidden=hidden, heads=hidden // 8)
        save_pair_folder(model, tokenizer, folder / name)
    return folder


@pytest.fixture(scope="session")
def pair_settings(pair_folder: Path) -> dict[str, Any]:
    """Settings that list the tiny pair, both ways."""
    sides = {name: {"model": str(pair_folder / name)} for name in ("sender", "receiver")}
    reverse = {"sender": sides["receiver"], "receiver": sides["sender"]}
    pairs = {"tiny": sides, "tiny-reverse": reverse}
    # What a test looks at is computed, not taken from an earlier test's experiment.
    return {"pairs": pairs, "device": "cpu", "reuse": False}


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    """A server with the tiny pair and no key."""
    with running_server(tmp_path_factory.mktemp("server"), pair_settings) as running:
        yield running
