"""A clock that jumps by days, forward and back, at every look."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.api.context import Heartbeat
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, submit
from tests.server.test_jobs import LONG, all_events
from tests.server.test_random_kills import check_events, check_store

JUMPS = """
import random, time
_time, _draw = time.time, random.SystemRandom()
time.time = lambda: _time() + _draw.uniform(-400 * 86400, 400 * 86400)
"""


class JumpingServer(RunningServer):
    """A server whose processes all see such a clock."""

    @property
    def environment(self) -> dict[str, str]:
        """With a module that Python loads at its start."""
        found = super().environment
        return found | {"PYTHONPATH": os.pathsep.join((str(self.folder), found["PYTHONPATH"]))}


@pytest.mark.slow
def test_nothing_depends_on_the_clock(
    tmp_path: Path, alone: Any, pair_settings: dict[str, Any]
) -> None:
    experiment = tiny_experiment(rows=20, **LONG)
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    jumping = JumpingServer(tmp_path, pair_settings)
    jumping.start()  # ready, though its heart beats years apart
    try:
        with jumping.evidence_on_failure(), jumping.client() as client:
            token = jumping.key("submit", "ann")
            client.headers["Authorization"] = f"Bearer {token}"
            ids = [submit(client, experiment) for _ in range(2)]
            jumping.kill_worker()
            views = [ended(client, each) for each in ids]
            assert [view["state"] for view in views] == ["done", "done"]
            found = [client.get(f"/v1/experiments/{each}/rows").content for each in ids]
            for each, view in zip(ids, views, strict=True):
                check_events(all_events(client, each), view["rows_total"])
            days = {view[what][:10] for view in views for what in ("submitted_at", "finished_at")}
        check_store(jumping)
    finally:
        jumping.stop()
    assert len(days) > 1  # it did jump
    assert found == [alone(experiment)] * 2


def test_a_heartbeat_is_as_old_as_its_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 50.0, 51.0, 90.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    heartbeat = Heartbeat()
    assert heartbeat.age(7.0) == 0
    assert heartbeat.age(7.0) == 40
    assert heartbeat.age(3.0) == 0
    assert heartbeat.age(3.0) == 39
