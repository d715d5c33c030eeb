"""A server that is killed and started again while clients wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from statebridge_client import AsyncClient, Client, Retry
from tests.server.conftest import tiny_experiment
from tests.server.running_server import PATIENCE, RunningServer
from tests.server.test_jobs import LONG


async def wait_asynchronously(url: str, experiment_id: str) -> int:
    """Wait for an experiment's end; return how many rows there are then."""
    async with AsyncClient(url, retry=Retry(attempts=8)) as client:
        run = await client.get(experiment_id)
        with anyio.fail_after(PATIENCE):
            await run.wait(progress=False)
        return len(await run.rows())


@pytest.mark.slow
def test_waits_and_a_download_survive_a_restart(server: RunningServer, tmp_path: Path) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(2) as pool:
        run = client.submit(tiny_experiment(rows=20, **LONG))
        waiting = pool.submit(run.wait, progress=False)
        asynchronous = pool.submit(anyio.run, wait_asynchronously, server.url, run.id)
        for event in client.get(run.id).events():
            if event.stage == "run" and event.done > 0:
                break
        out = run.download(tmp_path / "run")
        before = (out / "rows.jsonl").read_bytes()
        assert before
        server.kill()
        server.start(ready=False)
        assert waiting.result(PATIENCE) is run
        total = run.status().rows_total
        assert asynchronous.result(PATIENCE) == len(run.rows()) == total
        # The stream's own story: it was put back, and nothing is sent twice.
        numbers = [int(event.id) for event in run.events() if event.id]
        assert numbers == list(range(1, len(numbers) + 1))
        # The download goes on after the rows that it has.
        run.download(out)
        whole = (out / "rows.jsonl").read_bytes()
        assert whole.startswith(before)
        assert whole.count(b"\n") == total > before.count(b"\n")
