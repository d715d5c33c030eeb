"""The load benchmark runs, and its load is what it says."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextlib import suppress
from pathlib import Path

import pytest
from benchmarks import pollers, service
from benchmarks.request_histogram import histogram_of, time_between
from benchmarks.service_page import mean_ratio
from prometheus_client import CollectorRegistry, generate_latest

from statebridge_server.api.requests import RequestMetrics


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
            heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()  # on the third request, unanswered

    async def talk() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address: tuple[str, int] = server.sockets[0].getsockname()[:2]
        content = pollers.request("/v1/experiments/exp_1", "here", "sb_key", "application/json")
        poller = pollers.Poller(address, 0.2)
        await poller.connect()
        poller.start(content, 0.0)
        while sum(seen.statuses.values()) < 3:
            await asyncio.sleep(0.01)
        poller.stop()
        server.close()
        await asyncio.gather(*filter(None, answering))
        await asyncio.sleep(0.05)  # the transports close in the loop's next turns

    asyncio.run(asyncio.wait_for(talk(), 60))
    assert set(seen.statuses) == {200, 503}
    assert seen.broken >= 1
    assert len(seen.milliseconds) == sum(seen.statuses.values())
    assert all(b"Authorization: Bearer sb_key\r\n" in request for request in heard)


def test_an_answer_is_one_once_all_of_it_has_come() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nX: y\r\nContent-Length: 3\r\n\r\nyes"
    assert [pollers.whole(answer[:end]) for end in range(len(answer))] == [None] * len(answer)
    assert pollers.whole(answer) == 404


def test_a_late_generator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pollers.Seen()
    monkeypatch.setattr(pollers, "SEEN", seen)

    async def work() -> None:
        task = asyncio.create_task(pollers.watch_delays())
        await asyncio.sleep(2.5 * pollers.TICK_SECONDS)
        time.sleep(2 * pollers.TICK_SECONDS)  # as a machine that has no time for this process
        await asyncio.sleep(1.5 * pollers.TICK_SECONDS)
        task.cancel()

    asyncio.run(work())
    delays = seen.record(1.0, 0.0)["own_delays"]
    assert delays["max"] > 800 * pollers.TICK_SECONDS
    assert delays["p50"] < delays["max"]


def test_the_servers_own_times_are_those_between_two_readings() -> None:
    registry = CollectorRegistry()
    seconds = RequestMetrics(registry).seconds

    def read() -> dict[float, int]:
        return histogram_of(generate_latest(registry).decode(), service.POLLED)

    assert time_between(read(), read())["requests"] == 0
    polls = seconds.labels("GET", service.POLLED)
    polls.observe(3.0)
    seconds.labels("DELETE", service.POLLED).observe(3.0)
    seconds.labels("GET", "/v1/experiments").observe(3.0)
    before = read()
    for milliseconds in [0.4] * 90 + [4.0] * 9 + [40.0]:
        polls.observe(milliseconds / 1000)
    found = time_between(before, read())
    assert found == {"requests": 100, "p50": 1.0, "p90": 1.0, "p99": 5.0, "max": 50.0}
    polls.observe(60.0)
    assert time_between(before, read())["max"] is None


def test_the_interval_of_a_ratio_is_students_of_its_logarithms() -> None:
    assert mean_ratio([1.5]) == (pytest.approx(1.5), None)
    mean, interval = mean_ratio([1.0, 1.1, 1.21])
    assert mean == pytest.approx(1.1)
    assert interval is not None
    half = 4.302653 * math.log(1.1) / math.sqrt(3)  # the table's value for two degrees of freedom
    assert [math.log(end / 1.1) for end in interval] == pytest.approx([-half, half], rel=1e-5)


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
        # All polls, and what the submitting client asked itself.
        assert turn["server"]["requests"] >= load["requests"]
        assert turn["server"]["p50"] is not None
        assert load["own_delays"]["max"] >= load["own_delays"]["p50"] >= 0
    page = (tmp_path / "service.md").read_text("utf-8")
    assert all(f"| {kind} |" in page for kind in ("library", "http", "loaded", "p99"))
    assert "| p99 | " in page
    assert "| 95 % interval |" in page
