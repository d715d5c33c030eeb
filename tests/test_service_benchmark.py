"""The load benchmark runs, and its load is the declared one."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from benchmarks import pollers, service


def test_a_quantile_is_a_time_that_was_measured() -> None:
    times = [float(n) for n in range(1, 201)]
    found = {name: pollers.quantile(times, share) for name, share in pollers.QUANTILES.items()}
    assert found == {"p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0}
    assert pollers.quantile([3.0], 0.5) == 3.0
    assert pollers.quantile([], 0.5) is None


def test_a_load_counts_its_answers_and_events() -> None:
    def answers() -> Iterator[httpx.Response]:
        yield httpx.Response(200, text="yes")
        yield httpx.Response(503)
        raise httpx.ConnectError("closed")

    script = answers()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text="id: 1\ndata: {}\n\nid: 2\ndata: {}\n\n")
        return next(script)

    async def talk() -> None:
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            load = pollers.Load(client, "exp_1")
            await load.follow()
            polling = asyncio.create_task(load.poll(0.0, 0.01))
            while sum(load.statuses.values()) < 3:
                await asyncio.sleep(0.01)
            polling.cancel()
            with suppress(asyncio.CancelledError, RuntimeError):
                await polling
        record = load.record()
        assert record["statuses"] == {"200": 1, "503": 1, "ConnectError": 1}
        assert record["events"] == 2
        assert record["milliseconds"]["max"] >= record["milliseconds"]["p50"] > 0

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_the_interval_of_a_ratio_is_students_of_its_logarithms() -> None:
    assert service.mean_ratio([1.5]) == (pytest.approx(1.5), None)
    mean, interval = service.mean_ratio([1.0, 1.1, 1.21])
    assert mean == pytest.approx(1.1)
    assert interval is not None
    half = 4.302653 * math.log(1.1) / math.sqrt(3)  # the table's value for two degrees of freedom
    assert [math.log(end / 1.1) for end in interval] == pytest.approx([-half, half], rel=1e-5)


@pytest.mark.soak
def test_the_quick_table_has_every_kind_of_turn(tmp_path: Path) -> None:
    service.main(["--quick", "--out", str(tmp_path / "service")])
    record = json.loads((tmp_path / "service.json").read_text("utf-8"))
    assert set(record["turns"]) == {"library", "http", "loaded"}
    for turns in record["turns"].values():
        assert len(turns) == record["plan"]["rounds"]
        # The same lanes, none taken from an earlier turn.
        assert {turn["lanes"] for turn in turns} == {5 * record["plan"]["rows"]}
        assert all(turn["seconds"] >= turn["groups"] > 0 for turn in turns)
    for turn in record["turns"]["loaded"]:
        load = turn["load"]
        assert load["statuses"] == {"200": load["requests"]}
        assert load["requests"] > 0
        assert load["events"] > 0
        assert load["milliseconds"]["max"] >= load["milliseconds"]["p50"] > 0
    page = (tmp_path / "service.md").read_text("utf-8")
    assert all(f"| {kind} |" in page for kind in ("library", "http", "loaded", "p99"))
    assert "| p99 | " in page
    assert "| 95 % interval |" in page
