"""Who asks the same between two commits is given one reading, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from statebridge_server.api import shared_reads
from statebridge_server.api.shared_reads import SharedReads


class Store:
    """Stands for a database: its version, what is in it, and how often that was read."""

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


def run(store: Store, talk: Callable[[SharedReads], Awaitable[None]]) -> None:
    async def talked() -> None:
        await talk(SharedReads(store))  # type: ignore[arg-type]

    asyncio.run(asyncio.wait_for(talked(), 60))


def test_one_reading_for_all_until_the_next_commit(store: Store) -> None:
    async def talk(reads: SharedReads) -> None:
        found = await asyncio.gather(*(reads.read(store.read, "job") for _ in range(9)))
        assert found == ["job first"] * 9
        assert await reads.read(store.read, "job") == "job first"
        assert await reads.read(store.read, "key") == "key first"
        assert store.reads == ["job", "key"]
        store.commit("second")
        assert await reads.read(store.read, "job") == "job second"
        assert store.reads == ["job", "key", "job"]

    run(store, talk)


def test_who_asks_after_a_commit_is_not_given_a_reading_from_before_it(store: Store) -> None:
    async def talk(reads: SharedReads) -> None:
        store.slow.clear()
        early = asyncio.create_task(reads.read(store.read, "job"))
        await store.begun(1)
        store.commit("second")
        late = asyncio.create_task(reads.read(store.read, "job"))
        await store.begun(2)
        store.slow.set()
        assert await early == "job first"
        assert await late == "job second"
        # Nor does the early one, which may end last, take the late one's place.
        assert await reads.read(store.read, "job") == "job second"
        assert len(store.reads) == 2

    run(store, talk)


def test_an_error_reaches_all_who_wait_and_nobody_later(store: Store) -> None:
    async def talk(reads: SharedReads) -> None:
        asked = [reads.read(store.read, "fault") for _ in range(4)]
        found: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in found] == [ZeroDivisionError] * 4
        assert len(store.reads) == 1
        with pytest.raises(ZeroDivisionError):
            await reads.read(store.read, "fault")
        assert len(store.reads) == 2

    run(store, talk)


@pytest.mark.parametrize("what", ["job", "fault"])
def test_clients_that_go_leave_the_reading_to_the_others(store: Store, what: str) -> None:
    async def talk(reads: SharedReads) -> None:
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


def test_an_error_that_nobody_waited_for_is_nobodys(store: Store) -> None:
    async def talk(reads: SharedReads) -> None:
        complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        store.slow.clear()
        goes = asyncio.create_task(reads.read(store.read, "fault"))
        await store.begun(1)
        goes.cancel()
        await asyncio.sleep(0.05)
        store.slow.set()
        with pytest.raises(ZeroDivisionError):  # a reading of its own, or the one that goes on
            await reads.read(store.read, "fault")
        await asyncio.sleep(0.05)
        assert not complaints

    run(store, talk)


def test_what_is_not_there_or_not_to_be_kept_is_read_again(store: Store) -> None:
    async def talk(reads: SharedReads) -> None:
        for _ in range(2):
            assert await reads.read(store.read, "nothing") is None
            assert await reads.read(store.read, "long", keep=lambda _: False) == "long first"
        assert store.reads == ["nothing", "long"] * 2

    run(store, talk)


def test_no_more_is_kept_than_has_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "MOST_KEPT", 3)

    async def talk(reads: SharedReads) -> None:
        for _ in range(2):
            for what in "abcde":
                assert await reads.read(store.read, what) == f"{what} first"
        assert store.reads == [*"abcde", *"de"]

    run(store, talk)


def test_where_no_version_is_known_everybody_reads(store: Store) -> None:
    store.at = None

    async def talk(reads: SharedReads) -> None:
        found = await asyncio.gather(*(reads.read(store.read, "job") for _ in range(3)))
        assert found == ["job first"] * 3
        assert len(store.reads) == 3

    run(store, talk)
