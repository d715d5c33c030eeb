"""The load benchmark runs, and its load is what it says."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest
from benchmarks import pollers, service


def test_a_quantile_is_a_time_that_was_measured() -> None:
    times = [float(n) for n in range(1, 201)]
    found = {name: pollers.quantile(times, share) for name, share in pollers.QUANTILES.items()}
    assert found == {"p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0}
    assert pollers.quantile([3.0], 0.5) == 3.0
    assert pollers.quantile([], 0.5) is None


def test_a_poller_counts_what_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pollers.Seen()
    monkeypatch.setattr(pollers, "SEEN", seen)
    heard: list[bytes] = []

    answering: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for status in (b"200 OK", b"503 Busy"):
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 3\r\n\r\nyes" % status)
        writer.close()  # the third request finds the connection closed

    async def talk() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address: tuple[str, int] = server.sockets[0].getsockname()[:2]
        content = pollers.request("/v1/experiments/exp_1", "here", "sb_key", "application/json")
        connection = await asyncio.open_connection(*address)
        task = asyncio.create_task(pollers.poll(connection, address, content, 0.0, 0.2))
        while sum(seen.statuses.values()) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        server.close()
        await asyncio.gather(*filter(None, answering))
        await asyncio.sleep(0.05)  # the transports close in the loop's next turns

    asyncio.run(asyncio.wait_for(talk(), 60))
    assert set(seen.statuses) == {200, 503}
    assert seen.broken >= 1
    assert len(seen.milliseconds) == sum(seen.statuses.values())
    assert all(b"Authorization: Bearer sb_key\r\n" in request for request in heard)


@pytest.mark.slow
def test_the_quick_table_has_every_kind_of_turn(tmp_path: Path) -> None:
    service.main(["--quick", "--out", str(tmp_path / "service")])
    record = json.loads((tmp_path / "service.json").read_text("utf-8"))
    assert set(record["turns"]) == {"library", "http", "loaded"}
    for turns in record["turns"].values():
        assert len(turns) == record["plan"]["rounds"]
        # The same lanes, none of them taken from an earlier turn.
        assert {turn["lanes"] for turn in turns} == {5 * record["plan"]["rows"]}
        assert all(turn["seconds"] >= turn["groups"] > 0 for turn in turns)
    for turn in record["turns"]["loaded"]:
        load = turn["load"]
        assert load["statuses"] == {"200": load["requests"]}
        assert load["requests"] > 0
        assert load["events"] > 0
    page = (tmp_path / "service.md").read_text("utf-8")
    assert all(f"| {kind} |" in page for kind in ("library", "http", "loaded", "p99"))
