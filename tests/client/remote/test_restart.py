"""A server that is killed and started again while a client waits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from statebridge_client import AsyncClient, Client, Event, Retry
from tests.server.conftest import tiny_experiment
from tests.server.running_server import PATIENCE, RunningServer, running_server
from tests.server.test_jobs import LONG

# Of its own: other tests would see it go away.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("restarted"), pair_settings) as running:
        yield running


def restart_when_rows_come(server: RunningServer, events: Iterator[Event]) -> None:
    for event in events:
        if event.stage == "run" and event.done > 0:
            break
    server.kill()
    server.start(ready=False)


def test_a_wait_survives_a_restart(own_server: RunningServer) -> None:
    with Client(own_server.url) as client:
        run = client.submit(tiny_experiment(rows=60, **LONG))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(run.wait, progress=False)
            restart_when_rows_come(own_server, client.get(run.id).events())
            assert waiting.result(PATIENCE) is run
        assert len(run.rows()) == run.status().rows_total
        # The stream's own story: it was put back, and nothing is told twice.
        numbers = [int(event.id) for event in run.events() if event.id]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_asynchronous_client_survives_it_too(own_server: RunningServer) -> None:
    async def work() -> None:
        async with AsyncClient(own_server.url, retry=Retry(attempts=8)) as client:
            run = await client.submit(tiny_experiment(rows=60, **LONG))
            with Client(own_server.url) as watcher:
                events = watcher.get(run.id).events()
                async with anyio.create_task_group() as group:
                    group.start_soon(
                        anyio.to_thread.run_sync, restart_when_rows_come, own_server, events
                    )
                    with anyio.fail_after(PATIENCE):
                        await run.wait(progress=False)
            assert len(await run.rows()) == (await run.status()).rows_total

    anyio.run(work)


def test_a_download_is_resumed_after_a_restart(own_server: RunningServer, tmp_path: Path) -> None:
    with Client(own_server.url) as client:
        run = client.submit(tiny_experiment(rows=60, **LONG))
        for event in run.events():
            if event.stage == "run" and event.done > 0:
                break
        out = run.download(tmp_path / "run")
        before = (out / "rows.jsonl").read_bytes()
        assert before
        own_server.kill()
        own_server.start(ready=False)
        run.wait(progress=False)
        run.download(out)
        whole = (out / "rows.jsonl").read_bytes()
        assert whole.startswith(before)
        assert whole.count(b"\n") == run.status().rows_total > before.count(b"\n")
