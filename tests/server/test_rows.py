"""Through HTTP an experiment gives the rows that the library gives for the same file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import parse_experiment
from statebridge.results.run_results import read_run
from statebridge.stats import compare
from statebridge.stats.comparison import Settings
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, submit


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, pair_folder: Path) -> Path:
    """The run directory of `statebridge run` for the same experiment."""
    declared = tiny_experiment()
    for side in ("sender", "receiver"):
        declared[side] = declared[side] | {"model": str(pair_folder / side)}
    out = tmp_path_factory.mktemp("alone") / "run"
    run_experiment(parse_experiment(json.dumps(declared)), out)
    return out


@pytest.fixture(scope="module")
def finished(server: RunningServer) -> str:
    """The same experiment, carried out by the server."""
    with server.client() as client:
        experiment_id = submit(client, tiny_experiment())
        view = ended(client, experiment_id)
    assert view["state"] == "done", view
    assert view["rows_done"] == view["rows_total"]
    return experiment_id


def test_rows_equal_those_of_the_library_byte_for_byte(
    server: RunningServer, finished: str, alone: Path
) -> None:
    expected = (alone / "rows.jsonl").read_bytes()
    assert expected.count(b"\n") > 90
    with server.client() as client:
        answer = client.get(f"/v1/experiments/{finished}/rows")
    assert answer.content == expected
    assert answer.headers["statebridge-next-after"] == str(expected.count(b"\n"))


def test_rows_are_read_on_from_a_cursor(server: RunningServer, finished: str, alone: Path) -> None:
    expected = (alone / "rows.jsonl").read_bytes()
    parts, after = [], 0
    with server.client() as client:
        while after < expected.count(b"\n"):
            answer = client.get(
                f"/v1/experiments/{finished}/rows", params={"after": after, "limit": 50}
            )
            parts.append(answer.content)
            after = int(answer.headers["statebridge-next-after"])
        beyond = client.get(f"/v1/experiments/{finished}/rows", params={"after": after})
    assert b"".join(parts) == expected
    assert beyond.content == b""


def test_rows_are_filtered(server: RunningServer, finished: str, alone: Path) -> None:
    lines = [json.loads(line) for line in (alone / "rows.jsonl").read_bytes().splitlines()]
    query: dict[str, Any] = {"condition": ["replace", "no_inject"], "seed": 42}
    path = f"/v1/experiments/{finished}/rows"
    with server.client() as client:
        found = [json.loads(x) for x in client.get(path, params=query).content.splitlines()]
        parquet = client.get(path, params=query | {"format": "parquet"}).content
        none = client.get(path, params={"row_id": "not there"}).content
    assert found == [line for line in lines if line["cell"] == "replace/seed42"]
    table = pq.read_table(io.BytesIO(parquet))
    texts = dict(zip(table["row_id"].to_pylist(), table["prediction"].to_pylist(), strict=True))
    assert texts == {line["row_id"]: line["prediction"] for line in found}
    assert none == b""


def test_summary_and_comparison_equal_those_of_the_library(
    server: RunningServer, finished: str, alone: Path
) -> None:
    with server.client() as client:
        summary = client.get(f"/v1/experiments/{finished}/summary").json()
        comparison = client.get(f"/v1/experiments/{finished}/comparison").json()
    assert summary["complete"]
    (replace,) = [c for c in summary["conditions"] if c["condition"] == "replace"]
    assert replace["seeds"] == [42, 123]
    lines = [json.loads(line) for line in (alone / "rows.jsonl").read_bytes().splitlines()]
    own = [line["gold_logprob"] for line in lines if line["cell"].startswith("replace/")]
    assert replace["means"]["gold_logprob"]["mean"] == pytest.approx(sum(own) / len(own))
    expected = compare(read_run(alone), settings=Settings(stratify_by=()))
    assert comparison == expected.model_dump(mode="json")


def test_report_and_export(server: RunningServer, finished: str) -> None:
    with server.client() as client:
        page = client.get(f"/v1/experiments/{finished}/report")
        published = client.get(f"/v1/experiments/{finished}/export")
        tables = client.get(f"/v1/experiments/{finished}/export", params={"format": "csv"})
    assert page.headers["content-type"].startswith("text/html")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "<html" in page.text
    assert str(server.data) not in page.text
    names = zipfile.ZipFile(io.BytesIO(published.content)).namelist()
    assert "h1_replace_fwd_seed42.json" in names
    assert zipfile.ZipFile(io.BytesIO(tables.content)).namelist() == ["conditions.csv", "rows.csv"]


def test_fitted_translators_are_kept_and_give_the_same_rows(
    server: RunningServer, finished: str, alone: Path
) -> None:
    with server.client() as client:
        listed = client.get("/v1/translators").json()["translators"]
        own = {t["name"].rpartition("seed")[2]: t for t in listed if t["experiment"] == finished}
        assert sorted(own) == ["123", "42"]
        for seed, translator in own.items():
            file = client.get(f"/v1/translators/{translator['id']}/file").content
            assert file == (alone / "translators" / f"seed{seed}.safetensors").read_bytes()
            card = client.get(f"/v1/translators/{translator['id']}/card").json()
            assert card["quality"]
        ids = {seed: translator["id"] for seed, translator in own.items()}
        again = submit(client, tiny_experiment(translators=ids))
        view = ended(client, again)
        assert view["state"] == "done", view
        assert view["experiment"]["translators"] == ids
        rows = client.get(f"/v1/experiments/{again}/rows").content
    assert rows == (alone / "rows.jsonl").read_bytes()


def test_an_uploaded_translator_and_dataset_give_the_same_rows(
    server: RunningServer, finished: str, alone: Path
) -> None:
    rows = (alone / "dataset.jsonl").read_bytes()
    with server.client() as client:
        dataset = client.post("/v1/datasets", content=rows).json()
        assert dataset["rows"] == 6
        again = client.post("/v1/datasets", content=rows)
        assert again.status_code == 200
        ids = {}
        for seed in (42, 123):
            file = (alone / "translators" / f"seed{seed}.safetensors").read_bytes()
            sent = client.post("/v1/translators", content=file, params={"name": "mine"})
            assert sent.status_code == 201, sent.text
            ids[str(seed)] = sent.json()["id"]
        experiment = tiny_experiment(dataset={"sha256": dataset["sha256"]}, translators=ids)
        experiment_id = submit(client, experiment)
        assert ended(client, experiment_id)["state"] == "done"
        found = client.get(f"/v1/experiments/{experiment_id}/rows").content
        for path in (f"/v1/datasets/{dataset['sha256']}", f"/v1/translators/{ids['42']}"):
            assert client.delete(path).status_code == 204
            assert client.get(path).status_code == 404
    assert found == (alone / "rows.jsonl").read_bytes()
