"""One database read answers all who ask the same until the next commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from statebridge_server.api import poll_cache
from statebridge_server.api.poll_cache import PollCache


class Store:
    """In place of a database: its version, its content, and the reads of it."""

    def __init__(self) -> None:
        self.at: int | None = 1
        self.content = "first"
        self.reads: list[str] = []
        self.slow = threading.Event()
        self.slow.set()

    def version(self) -> int | None:
        return self.at

    def commit(self, content: str) -> None:
        self.content = content
        self.at = (self.at or 0) + 1

    def read(self, what: str) -> str | None:
        found = self.content
        self.reads.append(what)
        assert self.slow.wait(30)
        if what == "fault":
            raise ZeroDivisionError(what)
        return None if what == "nothing" else f"{what} {found}"

    async def begun(self, count: int) -> None:
        while len(self.reads) < count:
            await asyncio.sleep(0.005)


@pytest.fixture
def store() -> Store:
    return Store()


def run(store: Store, talk: Callable[[PollCache], Awaitable[None]]) -> None:
    async def talked() -> None:
        await talk(PollCache(store.version))

    asyncio.run(asyncio.wait_for(talked(), 60))


def test_one_read_serves_all_until_the_next_commit(store: Store) -> None:
    async def talk(reads: PollCache) -> None:
        found = await asyncio.gather(*(reads.read(store.read, "job") for _ in range(9)))
        assert found == ["job first"] * 9
        assert await reads.read(store.read, "job") == "job first"
        assert await reads.read(store.read, "key") == "key first"
        assert store.reads == ["job", "key"]
        store.commit("second")
        assert await reads.read(store.read, "job") == "job second"
        assert store.reads == ["job", "key", "job"]

    run(store, talk)


def test_a_read_from_before_a_commit_is_not_shared_after_it(store: Store) -> None:
    async def talk(reads: PollCache) -> None:
        store.slow.clear()
        early = asyncio.create_task(reads.read(store.read, "job"))
        await store.begun(1)
        store.commit("second")
        late = asyncio.create_task(reads.read(store.read, "job"))
        await store.begun(2)
        store.slow.set()
        assert await early == "job first"
        assert await late == "job second"
        # The early read, which may end last, does not replace the late one.
        assert await reads.read(store.read, "job") == "job second"
        assert len(store.reads) == 2

    run(store, talk)


def test_an_error_reaches_all_who_wait_and_is_not_kept(store: Store) -> None:
    async def talk(reads: PollCache) -> None:
        asked = [reads.read(store.read, "fault") for _ in range(4)]
        found: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in found] == [ZeroDivisionError] * 4
        assert len(store.reads) == 1
        with pytest.raises(ZeroDivisionError):
            await reads.read(store.read, "fault")
        assert len(store.reads) == 2

    run(store, talk)


@pytest.mark.parametrize("what", ["job", "fault"])
def test_a_cancelled_request_leaves_the_read_to_the_others(store: Store, what: str) -> None:
    async def talk(reads: PollCache) -> None:
        store.slow.clear()
        goes, stays = (asyncio.create_task(reads.read(store.read, what)) for _ in range(2))
        await store.begun(1)
        goes.cancel()
        await asyncio.sleep(0.05)
        store.slow.set()
        (found,) = await asyncio.gather(stays, return_exceptions=True)
        assert isinstance(found, ZeroDivisionError) if what == "fault" else found == "job first"
        assert goes.cancelled()

    run(store, talk)


def test_an_error_that_nobody_awaits_is_not_reported(store: Store) -> None:
    async def talk(reads: PollCache) -> None:
        complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        store.slow.clear()
        goes = asyncio.create_task(reads.read(store.read, "fault"))
        await store.begun(1)
        goes.cancel()
        await asyncio.sleep(0.05)
        store.slow.set()
        with pytest.raises(ZeroDivisionError):  # from its own read, or from the running one
            await reads.read(store.read, "fault")
        await asyncio.sleep(0.05)
        assert not complaints

    run(store, talk)


def test_none_is_read_again(store: Store) -> None:
    async def talk(reads: PollCache) -> None:
        for _ in range(2):
            assert await reads.read(store.read, "nothing") is None
        assert store.reads == ["nothing"] * 2

    run(store, talk)


def test_the_number_of_kept_results_is_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll_cache, "MAX_KEPT", 3)

    async def talk(reads: PollCache) -> None:
        for _ in range(2):
            for what in "abcde":
                assert await reads.read(store.read, what) == f"{what} first"
        assert store.reads == [*"abcde", *"de"]

    run(store, talk)


def test_without_a_version_every_request_reads(store: Store) -> None:
    store.at = None

    async def talk(reads: PollCache) -> None:
        found = await asyncio.gather(*(reads.read(store.read, "job") for _ in range(3)))
        assert found == ["job first"] * 3
        assert len(store.reads) == 3

    run(store, talk)
