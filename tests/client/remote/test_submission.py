"""An experiment file becomes a submission: what it names is uploaded once, or found."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.data import FieldMap
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import (
    DatasetError,
    ExperimentError,
    NotFoundError,
    RunFailedError,
    TranslatorError,
)
from statebridge.experiment import load_experiment
from statebridge.experiment.experiment import GeneratedRows
from statebridge.run import Run
from statebridge.tasks.declared_rows import generated_rows
from statebridge_client import Client, RemoteRun
from tests.server.conftest import tiny_experiment


@pytest.fixture
def named(local: Run, pair_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """The tiny experiment over files: the rows and the translators of the local run."""
    files = {
        seed: str(local.path / "translators" / f"seed{seed}.safetensors") for seed in (42, 123)
    }
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes((local.path / "dataset.jsonl").read_bytes())
    return tiny_experiment(dataset={"path": str(rows)}, translators=files)


def count(client: Client) -> tuple[int, int, int]:
    inputs = (client.datasets, client.translators, client.corpora)
    return tuple(len(each.list()) for each in inputs)  # type: ignore[return-value]


def test_files_are_uploaded_once_and_give_the_same_rows(
    client: Client, named: dict[str, Any], local: Run, tmp_path: Path
) -> None:
    before = count(client)
    run = client.submit(named).wait(progress=False)
    assert [row.prediction for row in run.rows()] == [row.prediction for row in local.rows()]
    assert list(run.rows()) == list(local.rows())
    held = count(client)
    # Fitted by an earlier experiment with the same bytes, or uploaded now.
    assert held[0] == before[0] + 1
    submitted = run.status().experiment
    assert (
        submitted["dataset"]["sha256"]
        == hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    )
    again = client.submit(named)
    assert count(client) == held
    assert again.status().experiment["translators"] == submitted["translators"]
    again.cancel()
    # By reference alone, in a file.
    stored = named | {
        "dataset": {"sha256": submitted["dataset"]["sha256"]},
        "translators": submitted["translators"],
        "seeds": [42],
    }
    (tmp_path / "stored.yaml").write_text(yaml.safe_dump(stored))
    third = client.submit(tmp_path / "stored.yaml")
    assert third.status().experiment["seeds"] == [42]
    third.cancel()
    assert count(client) == held


def test_an_experiment_object_with_changes_is_submitted(
    client: Client, experiment_file: Path
) -> None:
    read = client.submit(load_experiment(experiment_file), {"limit": 1, "seeds": [42]})
    changed = client.submit(experiment_file, {"limit": 1, "seeds": [42]})
    first, second = (run.status().experiment for run in (read, changed))
    assert first == second
    assert (first["limit"], first["seeds"]) == (1, [42])
    for run in (read, changed):
        run.cancel()


def test_the_same_key_gives_the_same_run(client: Client, experiment_file: Path) -> None:
    first = client.submit(experiment_file, {"limit": 1}, idempotency_key="once")
    second = client.submit(experiment_file, {"limit": 1}, idempotency_key="once")
    assert first.id == second.id
    with pytest.raises(ExperimentError, match="used for another submission"):
        client.submit(experiment_file, {"limit": 2}, idempotency_key="once")
    first.cancel()
    with pytest.raises(ExperimentError, match="idempotency_key: give up to 200"):
        client.submit(experiment_file, idempotency_key="é")


def test_another_format_is_converted(client: Client, tmp_path: Path) -> None:
    (tmp_path / "qa1.txt").write_text(
        "1 Mary moved to the bathroom.\n2 John went to the hallway.\n"
        "3 Where is Mary? \tbathroom\t1\n4 Where is John? \thallway\t2\n"
    )
    fields = {"conditions": ["no_inject"], "translators": None}
    experiment = tiny_experiment(
        dataset={"path": str(tmp_path / "qa1.txt"), "format": "babi"}, **fields
    )
    run = client.submit(experiment).wait(progress=False)
    assert [row.gold for row in run.rows()] == ["bathroom", "hallway"]


def test_datasets(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    row = {"key": "a", "passage": "Bob in Lima.", "q": "Where?", "gold": "Lima"}
    path.write_text(json.dumps(row) + "\n")
    fields = FieldMap(id="key", context="passage", question="q", answer="gold")
    made = client.datasets.upload(path, fields)
    assert (made.rows, made.fields["context"]) == (1, "passage")
    assert client.datasets.upload(path, fields) == made
    assert client.datasets.get(made.sha256) == made
    assert made in client.datasets.list()
    client.datasets.delete(made.sha256)
    with pytest.raises(NotFoundError):
        client.datasets.get(made.sha256)
    with pytest.raises(DatasetError, match="line 1: field 'context' is missing"):
        client.datasets.upload(path)
    with pytest.raises(DatasetError, match=r"nowhere\.jsonl: no such file"):
        client.datasets.upload(tmp_path / "nowhere.jsonl")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text of one's own to fit on, beside an experiment file."""
    path = tmp_path / "my text.txt"
    rows = generated_rows(GeneratedRows(rows=24, seed=7))
    path.write_text("= Contexts =\n\n" + "\n\n".join(row.context for row in rows) + "\n")
    return path


def fitted_on(corpus: dict[str, Any], **fields: Any) -> dict[str, Any]:
    fit = {"fit": {"kind": "ridge", "corpus": corpus}}
    fields = {"conditions": ["replace"], "translators": fit} | fields
    return tiny_experiment(rows=2, **fields)


def test_corpora(client: Client, text: Path, tmp_path: Path) -> None:
    made = client.corpora.upload(text)
    assert (made.name, made.passages, made.bytes) == ("my text.txt", 24, text.stat().st_size)
    assert made.sha256 == hashlib.sha256(text.read_bytes()).hexdigest()
    assert client.corpora.upload(text) == made
    assert client.corpora.get(made.sha256) == made
    assert made in client.corpora.list()
    assert client.corpora.upload(text, name="other").name == "other"
    client.corpora.delete(made.sha256)
    with pytest.raises(NotFoundError):
        client.corpora.get(made.sha256)
    text.write_bytes(b"good\nbad \xff")
    with pytest.raises(DatasetError, match="upload, line 2: byte 5 is not UTF-8"):
        client.corpora.upload(text)
    with pytest.raises(DatasetError, match=r"nowhere\.txt: no such file"):
        client.corpora.upload(tmp_path / "nowhere.txt")


def ended(run: RemoteRun) -> None:
    """Cancel a run, and wait: one that a worker has taken goes on to the end of its group."""
    run.cancel()
    with suppress(RunFailedError):
        run.wait(progress=False)


def test_a_text_is_uploaded_once_and_gives_the_same_translators(
    client: Client, text: Path, pair_folder: Path, tmp_path: Path
) -> None:
    before = count(client)
    file = tmp_path / "mine.yaml"
    sides = {
        name: {"model": str(pair_folder / name), "layer": layer}
        for name, layer in (("sender", 1), ("receiver", 2))
    }
    file.write_text(yaml.safe_dump(fitted_on({"path": text.name, "max_tokens": 40}, **sides)))
    run_experiment(load_experiment(file), tmp_path / "here")
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()

    run = client.submit(file).wait(progress=False)
    assert count(client) == (before[0], before[1] + 2, before[2] + 1)
    assert list(run.rows()) == list(Run(tmp_path / "here").rows())
    alone = client.translators.fit(file).wait(progress=False)
    for each in (run, alone):
        for item in client.translators.fitted(each):
            here = tmp_path / "here" / "translators" / f"{item.name.split()[1]}.json"
            ours, theirs = json.loads(here.read_text("utf-8")), client.translators.card(item.id)
            assert theirs["weights_sha256"] == ours["weights_sha256"]
            assert theirs["corpus"] == ours["corpus"]
            assert theirs["quality"] == ours["quality"]
            assert (ours["corpus"]["name"], ours["corpus"]["sha256"]) == (text.name, sha256)

    # Another name of the same text goes with the experiment.
    renamed = client.submit(file, {"translators.fit.corpus.name": "mine"})
    assert renamed.status().experiment["translators"]["fit"]["corpus"]["name"] == "mine"
    ended(renamed)
    assert client.corpora.get(sha256).name == text.name
    # By reference alone: in a file, in a set, in fields, with other fields changed.
    stored = fitted_on({"sha256": sha256})
    (tmp_path / "stored.yaml").write_text(yaml.safe_dump(stored))
    of_sets = {"sets": {"mi.ne": stored["translators"]}}
    condition = {"name": "with_mine", "source": "translated", "translator": "mi.ne"}
    fit_corpus = "translators.fit.corpus"
    for given, changes in (
        (tmp_path / "stored.yaml", {"translators.fit.corpus.max_passages": 20}),
        (stored, None),
        (fitted_on({}, translators=stored["translators"]["fit"]), None),
        (fitted_on({"generate": {"rows": 9, "seed": 1}}), {fit_corpus: {"sha256": sha256}}),
        (fitted_on({"path": "gone.txt"}), {fit_corpus: {"sha256": sha256}}),
        (fitted_on({}, translators=of_sets, conditions=["no_inject", condition]), None),
    ):
        third = client.submit(given, changes)
        shown = third.status().experiment["translators"]
        corpus = (shown["sets"]["mi.ne"] if "sets" in shown else shown)["fit"]["corpus"]
        assert (corpus["sha256"], corpus["name"]) == (sha256, text.name)
        narrowed = changes is not None and f"{fit_corpus}.max_passages" in changes
        assert corpus["max_passages"] == (20 if narrowed else 5000)
        ended(third)
    assert count(client)[2] == before[2] + 1
    client.corpora.delete(sha256)


def test_rows_to_train_on_may_be_named_by_reference(client: Client, local: Run) -> None:
    held = client.datasets.upload(local.path / "dataset.jsonl")
    causal = {"rows": {"sha256": held.sha256}, "through": "replace"}
    given = fitted_on({"generate": {"rows": 20, "seed": 9}})
    given["translators"]["fit"]["causal"] = causal
    run = client.submit(given)
    fit = run.status().experiment["translators"]["fit"]
    assert fit["causal"]["rows"]["sha256"] == held.sha256
    run.cancel()
    client.datasets.delete(held.sha256)


def test_a_text_that_is_wrong_is_not_sent(client: Client, text: Path, tmp_path: Path) -> None:
    held = count(client)

    def refused(kind: type[Exception], output: str, **corpus: str) -> None:
        with pytest.raises(kind, match=output):
            client.submit(fitted_on({"path": str(text), **corpus}))

    refused(DatasetError, r"my text\.txt: has SHA-256 .*, not the declared 000", sha256="0" * 64)
    text.write_bytes(b"good\nbad \xff here")
    refused(DatasetError, r"my text\.txt, line 2: byte 5 is not UTF-8")
    text.write_bytes(b"\n\n")
    refused(TranslatorError, r"my text\.txt: the corpus holds no passage")
    text.unlink()
    refused(DatasetError, r"my text\.txt: no such file")
    with pytest.raises(ExperimentError, match="this key has uploaded no corpus 000"):
        client.submit(fitted_on({"sha256": "0" * 64}))
    assert count(client) == held


def test_translators(client: Client, finished: RemoteRun, local: Run, tmp_path: Path) -> None:
    fitted = client.translators.fitted(finished)
    assert [item.name for item in fitted] == ["tiny, seed123", "tiny, seed42"]
    file = client.translators.download(fitted[1].id, tmp_path)
    assert file.name == f"{fitted[1].id}.safetensors"
    assert file.read_bytes() == (local.path / "translators/seed42.safetensors").read_bytes()
    assert client.translators.card(fitted[1].id)["quality"]
    made = client.translators.upload(file, name="mine")
    assert (made.name, made.experiment, made.sha256) == ("mine", None, fitted[1].sha256)
    assert client.translators.get(made.id) == made
    client.translators.delete(made.id)
    assert made.id not in [item.id for item in client.translators.list()]
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(TranslatorError, match="not a whole safetensors file"):
        client.translators.upload(tmp_path / "text.safetensors")
    (tmp_path / "x.pt").write_bytes(b"PK")
    with pytest.raises(TranslatorError, match=r"x\.pt: a torch checkpoint is a program"):
        client.translators.upload(tmp_path / "x.pt")


def test_fitting_alone_fits_the_same(
    client: Client, finished: RemoteRun, experiment_file: Path
) -> None:
    run = client.translators.fit(experiment_file)
    run.wait(progress=False)
    assert len(run.rows()) == 3  # one row: no_inject, and replace under two seeds
    alone, with_rows = (client.translators.fitted(each) for each in (run, finished))
    assert [item.sha256 for item in alone] == [item.sha256 for item in with_rows]
    with pytest.raises(ExperimentError, match="declares no fit"):
        client.translators.fit(experiment_file, {"translators": None, "conditions": ["no_inject"]})


def test_what_is_wrong_is_refused_here_or_by_the_server(
    client: Client, experiment_file: Path, tmp_path: Path
) -> None:
    held = count(client)
    changes: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"limt": 1}, ExperimentError, r"tiny\.yaml.*limt: unknown field; did you mean limit"),
        ({"dataset": {"path": str(tmp_path / "no.jsonl")}}, DatasetError, "no such file"),
        ({"translators": {42: "/no", 123: "/no"}}, TranslatorError, "/no: no such file"),
        ({"translators.fit.corpus": {"path": "/no.txt"}}, DatasetError, "/no.txt: no such file"),
        ({"sender.model": "other"}, ExperimentError, "not a pair of this server.*request"),
        ({"decoding.max_new_tokens": 5000}, ExperimentError, "limit of 1024"),
        ({"remote": "ndif"}, ExperimentError, "remote: leave it out"),
    ]
    for change, kind, output in changes:
        with pytest.raises(kind, match=output):
            client.submit(experiment_file, change)
    with pytest.raises(ExperimentError, match="no such file; give the path of an experiment"):
        client.submit(tmp_path / "nowhere.yaml")
    with pytest.raises(ExperimentError, match="its fields are not JSON"):
        client.submit({"name": object()})
    assert count(client) == held
