"""Data sets of the hub: which files, at which commit, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from statebridge.data.hub import HubData, chosen_files
from statebridge.errors import DatasetError, EnvironmentFault, ExperimentError
from statebridge.experiment.dataset import Dataset
from statebridge.experiment.reading.files import parse_experiment
from statebridge.tasks.declared_rows import at_commit, resolve_dataset
from tests.bridge.data.hub_stand_in import COMMIT, hub_with
from tests.bridge.data.refusal import refused

CARD = b"""---
configs:
- config_name: other
  data_files: other.jsonl
- config_name: main
  default: true
  data_files:
  - split: train
    path: data/train-*
  - split: validation
    path: data/validation-*
---
# A data set
"""


def packed(*names: str) -> bytes:
    rows = [
        {"id": n, "context": "c", "question": "q", "answers": {"text": [n, "x"]}} for n in names
    ]
    target = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows), target)
    return target.getvalue()


FILES = {
    "README.md": CARD,
    "other.jsonl": b'{"id": "o", "context": "c", "question": "q", "answer": "a"}\n',
    "data/train-00000-of-00001.parquet": packed("t"),
    "data/validation-00000-of-00002.parquet": packed("a", "b"),
    "data/validation-00001-of-00002.parquet": packed("c"),
    "code.py": b"raise SystemExit('run')",
}


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    reason = "huggingface_hub is not installed"
    constants = pytest.importorskip("huggingface_hub.constants", reason=reason)
    with hub_with("owner/name", FILES) as (address, asked):
        from huggingface_hub import close_session

        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        close_session()  # it keeps the proxies of the first call
        yield asked
        close_session()


def declared(**fields: Any) -> Dataset:
    return Dataset(**{"path": "hf://owner/name", "fields": {"answer": "answers.text"}} | fields)


def test_rows_of_a_split_come_from_all_its_files(requests: list[str]) -> None:
    rows, digest = resolve_dataset(declared(split="validation"))
    assert [row.row_id for row in rows] == ["a", "b", "c"]
    assert rows[0].attributes["aliases"] == "x"
    assert resolve_dataset(declared(split="validation", sha256=digest))[0] == rows
    assert not any("code.py" in line for line in requests)
    with refused(DatasetError, "not the declared"):
        resolve_dataset(declared(split="validation", sha256="0" * 64))


def test_the_commit_of_the_revision_is_recorded(requests: list[str]) -> None:
    pinned = at_commit(declared(split="train", revision="main"))
    assert pinned.revision == COMMIT
    assert pinned.model_dump(mode="json")["path"] == "hf://owner/name"
    local = Dataset(path="rows.jsonl")
    assert at_commit(local) is local


def test_a_commit_in_the_cache_needs_no_network(
    requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session, constants

    asked = declared(split="train", revision=COMMIT)
    rows, _ = resolve_dataset(asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    requests.clear()
    assert resolve_dataset(asked)[0] == rows
    assert not requests
    with refused(DatasetError, "hf://owner/name: the hub cannot be asked", "give as revision"):
        resolve_dataset(declared(split="train"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "give a split; known: train, validation"),
        ({"split": "test"}, "no split 'test'; known: train, validation"),
        ({"config": "none", "split": "train"}, "no config 'none'; known: other, main"),
        ({"revision": "old", "split": "train"}, "no revision 'old' on the hub"),
        (
            {"path": "hf://owner/other", "split": "train"},
            "hf://owner/other: not on the hub, or private",
        ),
        ({"path": "hf://owner/name/data/x.parquet"}, "no such file"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    requests: list[str], fields: dict[str, Any], problem: str
) -> None:
    with refused(DatasetError, problem):
        resolve_dataset(declared(**fields))


def test_one_file_of_a_data_set_is_named_by_its_path(requests: list[str]) -> None:
    rows, _ = resolve_dataset(Dataset(path="hf://owner/name/other.jsonl"))
    assert [row.row_id for row in rows] == ["o"]


@pytest.mark.parametrize(
    ("config", "split", "files"),
    [
        (None, "validation", ["musique_ans_v1.0_dev.jsonl"]),
        (None, "train", ["hard/train.parquet", "musique_ans_v1.0_train.jsonl.gz"]),
        ("hard", "train", ["hard/train.parquet"]),
        ("hard", None, ["hard/train.parquet"]),
    ],
)
def test_without_a_card_names_tell_the_split(
    config: str | None, split: str | None, files: list[str]
) -> None:
    names = ["musique_ans_v1.0_train.jsonl.gz", "musique_ans_v1.0_dev.jsonl", "hard/train.parquet"]
    assert chosen_files(HubData("owner/name", config, split), [*names, "strain.py"], []) == files


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'statebridge\[hub\]'"):
        resolve_dataset(declared(split="train"))


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ({"path": "hf://owner"}, "give a data set of the hub as hf://owner/name"),
        ({"path": "hf://owner/../x"}, "give a data set of the hub as hf://owner/name"),
        ({"path": "rows.jsonl", "split": "train"}, "split is that of a data set of the hub"),
        ({"path": "x.json", "format": "squad", "unusable": "drop"}, "is for the rows of a file"),
    ],
)
def test_a_wrong_declaration_is_refused(
    tmp_path: Path, dataset: dict[str, Any], problem: str
) -> None:
    model = {"model": "a", "layer": 1}
    fields = {"name": "x", "sender": model, "receiver": model, "conditions": ["no_inject"]}
    with refused(ExperimentError, problem):
        parse_experiment(json.dumps({**fields, "dataset": dataset}), folder=tmp_path)
    right = json.dumps({**fields, "dataset": {"path": "hf://owner/name", "split": "train"}})
    assert parse_experiment(right, folder=tmp_path).dataset.path == "hf://owner/name"
