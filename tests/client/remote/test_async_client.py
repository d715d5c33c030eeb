"""The asynchronous client does what the synchronous one does, and many things at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from statebridge.errors import NotFoundError, RunFailedError
from statebridge.run import Run
from statebridge_client import AsyncClient, RemoteRun
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer
from tests.server.test_jobs import LONG


def on_a_loop(server: RunningServer, work: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        async with AsyncClient(server.url) as client:
            return await work(client)

    return anyio.run(opened)


def test_an_experiment_from_the_file_to_the_report(
    server: RunningServer, experiment_file: Path, local: Run, tmp_path: Path
) -> None:
    async def work(client: AsyncClient) -> None:
        run = await client.submit(experiment_file)
        assert await run.wait(progress=False) is run
        assert list(await run.rows()) == list(local.rows())
        assert await run.scores() == local.scores()
        assert await run.compare() == local.compare()
        out = await run.download(tmp_path / "run")
        assert (out / "rows.jsonl").read_bytes() == (local.path / "rows.jsonl").read_bytes()
        assert len(await run.export(tmp_path / "tables", "markdown")) == 1
        fitted = await client.translators.fitted(run)
        assert len(fitted) == 2
        listed = [item.id async for item in client.experiments(limit=500)]
        assert run.id in listed
        assert len(await client.pairs()) == 2
        await run.delete()
        with pytest.raises(NotFoundError):
            await run.status()

    on_a_loop(server, work)


@pytest.mark.slow
def test_the_report(server: RunningServer, finished: RemoteRun, tmp_path: Path) -> None:
    async def work(client: AsyncClient) -> None:
        page = await (await client.get(finished.id)).report(tmp_path)
        assert "<html" in page.read_text("utf-8")

    on_a_loop(server, work)


def test_many_are_followed_at_once(server: RunningServer, finished: RemoteRun) -> None:
    async def work(client: AsyncClient) -> None:
        runs = [await client.submit(tiny_experiment(rows=2, **LONG)) for _ in range(4)]
        await runs[-1].cancel()
        ended: list[str] = []

        async def follow(index: int) -> None:
            try:
                await runs[index].wait(progress=False)
                ended.append("done")
            except RunFailedError:
                ended.append("cancelled")

        async with anyio.create_task_group() as group:
            for index in range(4):
                group.start_soon(follow, index)
        assert sorted(ended) == ["cancelled", "done", "done", "done"]

    on_a_loop(server, work)


def test_inputs(server: RunningServer, tmp_path: Path, local: Run) -> None:
    async def work(client: AsyncClient) -> None:
        dataset = await client.datasets.upload(local.path / "dataset.jsonl")
        assert await client.datasets.get(dataset.sha256) == dataset
        assert dataset.sha256 in [item.sha256 for item in await client.datasets.list()]
        await client.datasets.delete(dataset.sha256)
        text = tmp_path / "text.txt"
        text.write_text("Bob works in Lima.\nAnn lives in Oslo.\n")
        corpus = await client.corpora.upload(text, name="mine")
        assert (corpus.name, corpus.passages) == ("mine", 2)
        assert await client.corpora.upload(text, name="mine") == corpus
        assert await client.corpora.get(corpus.sha256) == corpus
        assert corpus in await client.corpora.list()
        fit = {"kind": "ridge", "corpus": {"path": str(text)}}
        run = await client.submit(tiny_experiment(rows=2, translators={"fit": fit}))
        shown = (await run.status()).experiment["translators"]["fit"]["corpus"]
        assert (shown["sha256"], shown["name"]) == (corpus.sha256, "text.txt")
        await run.cancel()
        with suppress(RunFailedError):  # it was cancelled, or has too little text
            await run.wait(progress=False)
        await client.corpora.delete(corpus.sha256)
        with pytest.raises(NotFoundError):
            await client.corpora.get(corpus.sha256)
        made = await client.translators.upload(local.path / "translators/seed42.safetensors")
        assert (await client.translators.card(made.id))["kind"] == "affine"
        file = await client.translators.download(made.id, tmp_path)
        assert file.exists()
        await client.translators.delete(made.id)
        scores = await client.score([{"row_id": "a", "gold": "x", "prediction": "x"}])
        assert scores.conditions[0].means["exact_match"].mean == 1.0

    on_a_loop(server, work)
