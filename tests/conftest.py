"""Settings of the whole suite: one thread, and property tests without a clock."""

from __future__ import annotations

import os
import sys

# Compiled once for the many processes that tests start, whatever the machine's setting.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
# Before torch is imported anywhere: tiny models are slower on two threads than on one, and
# a worker of a test's own inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings

sys.dont_write_bytecode = False

# Shared machines stall; a property test is about the property.
settings.register_profile("statebridge", deadline=None, derandomize=True)
settings.load_profile("statebridge")

try:
    import torch
except ImportError:  # the base install has no engine
    from tests.base_install import needs_extra

    collect_ignore = needs_extra()
else:
    torch.set_num_threads(1)
    pytest_plugins = ["tests.server.shared_server"]


RUNNING_SERVERS = {"server", "paused_server"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that starts a server is slow. Files with slow tests come first, so that the
    workers end at about the same time."""
    for item in items:
        if RUNNING_SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
