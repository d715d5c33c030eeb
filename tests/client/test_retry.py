"""Which requests are sent again, how often and after how long; which are never sent twice."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from statebridge.errors import (
    BusyError,
    NotFoundError,
    ServerError,
    StatebridgeError,
    UnreachableError,
)
from statebridge_client import Client
from statebridge_client.call import Retry
from tests.client.answers import Answer, Script, answer, problem, status_of

EXPERIMENT: dict[str, Any] = {
    "name": "x",
    "sender": {"model": "a", "layer": 1},
    "receiver": {"model": "b", "layer": 1},
    "dataset": {"generate": {"rows": 2}},
    "conditions": ["no_inject"],
}
LOST = httpx.ReadError("connection reset")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("time.sleep", made.append)
    monkeypatch.setattr("anyio.sleep", pause)
    return made


@pytest.mark.parametrize(
    "passing",
    [LOST, httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), problem(503), problem(429)],
    ids=repr,
)
def test_reading_is_tried_again(passing: Answer, pauses: list[float]) -> None:
    script = Script([passing, passing, answer(status_of("done"))])
    with script.client() as client:
        assert client.get("exp_1").name == "tiny"
    assert len(script.requests) == 3
    # 0.5 s doubled, each varied by a quarter.
    assert 0.375 <= pauses[0] <= 0.625 < 0.75 <= pauses[1] <= 1.25


def test_a_server_says_when_to_come_back(pauses: list[float]) -> None:
    script = Script([problem(429, **{"retry-after": "15"}), answer({"datasets": []})])
    with script.client() as client:
        assert client.datasets.list() == []
    assert pauses == [15.0]
    script = Script([problem(503, **{"retry-after": "3600"})])
    with script.client() as client, pytest.raises(BusyError):
        client.datasets.list()
    assert pauses == [15.0]
    script = Script([problem(429, **{"retry-after": "Wed, 21 Oct 2026"}), answer({"datasets": []})])
    with script.client() as client:
        client.datasets.list()
    assert pauses[1] < 1


def test_patience_ends(pauses: list[float]) -> None:
    script = Script([LOST] * 9)
    with script.client(attempts=3) as client, pytest.raises(UnreachableError):
        client.pairs()
    assert len(script.requests) == 3
    script = Script([problem(503, "the database cannot be reached at present")] * 9)
    with script.client() as client, pytest.raises(BusyError, match=r"present \(request f00d\)"):
        client.pairs()
    assert len(script.requests) == 4
    assert len(pauses) == 2 + 3


def test_a_submission_is_sent_again_under_the_same_key() -> None:
    script = Script([LOST, problem(429), answer(status_of("queued"), 201)])
    with script.client() as client:
        assert client.submit(EXPERIMENT).id == "exp_1"
    keys = {request.headers["idempotency-key"] for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert len({request.content for request in script.requests}) == 1
    script = Script([answer(status_of("queued"), 201)] * 2)
    with script.client() as client:
        client.submit(EXPERIMENT)
        client.submit(EXPERIMENT, idempotency_key="mine")
    first, second = (request.headers["idempotency-key"] for request in script.requests)
    assert second == "mine" != first


def sent_once(client: Client, what: str, tmp_path: Any) -> None:
    run = client.get("exp_1")
    if what == "upload":
        (tmp_path / "t.safetensors").write_bytes(b"x")
        client.translators.upload(tmp_path / "t.safetensors")
    else:
        getattr(run, what)()


@pytest.mark.parametrize("what", ["cancel", "resume", "upload"])
@pytest.mark.parametrize("passing", [LOST, problem(503), problem(429, **{"retry-after": "1"})])
def test_what_twice_is_not_once_is_sent_once(
    what: str, passing: Answer, tmp_path: Any, pauses: list[float]
) -> None:
    script = Script([answer(status_of("running")), passing, answer(status_of("running"))])
    with script.client() as client, pytest.raises(StatebridgeError):
        sent_once(client, what, tmp_path)
    assert len(script.requests) == 2
    assert pauses == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500])
def test_what_will_not_pass_is_not_tried_again(status: int, pauses: list[float]) -> None:
    script = Script([problem(status)])
    with script.client() as client, pytest.raises(StatebridgeError):
        client.get("exp_1")
    assert len(script.requests) == 1
    assert pauses == []


def test_a_deletion_whose_answer_was_lost_has_succeeded() -> None:
    script = Script([LOST, problem(404)])
    with script.client() as client:
        client.translators.delete("tr_1")
    script = Script([problem(404)])
    with script.client() as client, pytest.raises(NotFoundError):
        client.translators.delete("tr_1")


def test_the_asynchronous_client_decides_the_same(pauses: list[float]) -> None:
    async def work() -> None:
        script = Script([LOST, problem(503), answer(status_of("done"))])
        async with script.async_client() as client:
            assert (await client.get("exp_1")).name == "tiny"
        assert len(script.requests) == 3
        script = Script([answer(status_of("running")), LOST])
        async with script.async_client() as client:
            run = await client.get("exp_1")
            with pytest.raises(UnreachableError):
                await run.cancel()
        assert len(script.requests) == 2
        script = Script([problem(500)])
        async with script.async_client() as client:
            with pytest.raises(ServerError):
                await client.pairs()

    anyio.run(work)
    assert len(pauses) == 2


def test_the_pauses_have_a_bound() -> None:
    retry = Retry(attempts=50)
    call: Any = type("C", (), {"repeatable": True})()
    pauses = [retry.after_error(call, attempt) for attempt in range(1, 50)]
    assert max(pause for pause in pauses if pause is not None) == retry.longest_seconds
    assert retry.after_error(call, 50) is None
