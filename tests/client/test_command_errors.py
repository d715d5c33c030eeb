"""Bad input on the command line: one line on standard error, an exit code, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.runs.directory import RunDirectory
from tests.bridge.runs.limits import file_size_limit
from tests.client.refused_command import ROW, Command, write_experiment


def test_without_a_mistake_it_runs(command: Command) -> None:
    code, _, err = command("run", "mine.yaml", "--out", "out")
    assert (code, err) == (0, "")
    assert Path("out/rows.jsonl").read_text().count("\n") == 4


# ---------------------------------------------------------------- the experiment file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditions": ["no_injct"]}, ("conditions: unknown condition", "did you mean no_inject")),
        ({"conditions": "publish"}, ("unknown condition or preset", "did you mean published")),
        ({"conditions": [{"name": "c", "source": "zero", "weight": float("nan")}]}, ("not nan",)),
        ({"seeds": [42, 42]}, ("seeds: a seed is listed twice",)),
        ({"seeds": [42, 7]}, ("translators: no file for seed 7",)),
        ({"translators": None}, ("translators: missing", "replace needs them")),
        ({"limt": 3}, ("limt: unknown field; did you mean limit?",)),
        ({"execution": {"device": "gpu"}}, ("execution.device", "'gpu'")),
        ({"dataset": {}}, ("dataset: give either path",)),
        ({"dataset": {"path": "rows.jsonl", "sha256": "504e"}}, ("dataset.sha256", "'504e'")),
        ({"prompts": {"task": "{question!x}"}}, ("prompts.task: a placeholder takes no",)),
    ],
)
def test_wrong_fields(changes: dict[str, Any], words: tuple[str, ...], command: Command) -> None:
    write_experiment(**changes)
    err = command.refused(2)
    assert err.startswith("error: mine.yaml, line ")
    assert all(word in err for word in words), err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "mine.yaml: holds nothing"),
        (b"name: [\n", "mine.yaml, line 2, column 1: not valid YAML"),
        (b"name: a\nname: b\n", "mine.yaml, line 2, column 1: not valid YAML: field 'name'"),
        (b"\xff\xff", "mine.yaml: not UTF-8 text (byte 0)"),
        (b"x: " + b"[" * 5000, "mine.yaml: nested too deeply"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\n" + b"c: [*b, *b]\n", "a: unknown field"),
        (b'"two\\nlines": 1\n', r"two\nlines: unknown field"),
        (b"x" * 1_000_001, "mine.yaml: larger than 1000000 bytes"),
    ],
)
def test_wrong_files(content: bytes, words: str, command: Command) -> None:
    Path("mine.yaml").write_bytes(content)
    # Of a mapping of fields, all that it lacks is printed as well.
    mistakes = {"a: unknown field": 7, r"two\nlines: unknown field": 5}.get(words, 1)
    assert words in command.refused(2, mistakes=mistakes)


def test_an_alias_bomb(command: Command) -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    Path("mine.yaml").write_text("\n".join(bomb))
    assert "too many nodes" in command.refused(2)


def test_no_file_and_a_folder(command: Command) -> None:
    Path("mine.yaml").unlink()
    assert "mine.yaml: no such file" in command.refused(2)
    Path("mine.yaml").mkdir()
    assert "mine.yaml: cannot be read: Is a directory" in command.refused(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "limt=3"), "limt: unknown field; did you mean limit?"),
        (("--set", "decoding.max=3"), "decoding.max: unknown field"),
        (("--set", "limit"), "--set limit: not FIELD=VALUE"),
        (("--set", "=3"), "--set =3: not FIELD=VALUE"),
        (("--set", "limit=[1"), "--set limit=[1, line 1, column 3: not valid YAML"),
        (("--set", "conditions.0.weight=3"), "conditions holds a list"),
        (("--set", "limit=0"), "limit: give a number of at least 1, not 0"),
        (("--rng", "global"), "rng: unknown rng 'global'; known: derangement, per-row, "),
        (("--path", "fast"), "execution.path: give 'auto', 'shared' or 'plain'"),
        (("--max-lanes", "0"), "execution.max_lanes: give a number of at least 1"),
        (("--remote", "example.org"), "remote: give local, ndif, or a URL"),
        (("--remote", "local", "--path", "shared"), "remote: needs execution.path plain"),
        (("--device", "tpu"), "execution.device: give auto, cpu, cuda or cuda:N"),
    ],
)
def test_wrong_options(options: tuple[str, ...], words: str, command: Command) -> None:
    assert words in command.refused(2, *options)


# ---------------------------------------------------------------- the dataset


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"", "rows.jsonl: holds no row"),
        (b"\n\n", "rows.jsonl: holds no row"),
        (b'{"id": "a"', "rows.jsonl, line 1, column "),
        (b"[1]\n", "rows.jsonl, line 1: is a list"),
        (b'{"id": "a", "context": "b", "answer": "c"}\n', "line 1: field 'question' is missing"),
        (json.dumps({**ROW, "answer": ""}).encode(), "line 1: field 'answer' is empty"),
        (json.dumps({**ROW, "answer": 3}).encode(), "line 1: field 'answer' is a number"),
        (json.dumps({**ROW, "n": float("nan")}).encode(), "line 1: holds NaN"),
        (b"\xff\n", "rows.jsonl, line 1: byte 1 is not UTF-8"),
        (
            (json.dumps(ROW) + "\n").encode() * 2,
            "rows.jsonl, line 2: row id 'r0' was already given in line 1",
        ),
    ],
)
def test_wrong_rows(rows: bytes, words: str, command: Command) -> None:
    Path("rows.jsonl").write_bytes(rows)
    assert words in command.refused(2)


def test_another_hash_no_file_and_a_folder(command: Command) -> None:
    write_experiment(dataset={"path": "rows.jsonl", "sha256": "0" * 64})
    err = command.refused(2)
    assert "rows.jsonl: has SHA-256 " in err
    assert f"not the declared {'0' * 64}" in err
    write_experiment(dataset={"path": "nowhere.jsonl"})
    assert "nowhere.jsonl: no such file" in command.refused(2)
    write_experiment(dataset={"path": "sender"})
    assert "sender: is a folder" in command.refused(2)
    write_experiment(dataset={"path": "rows.jsonl", "format": "hotpotqa"})
    assert "rows.jsonl" in command.refused(2)
    write_experiment(dataset={"path": "rows.jsonl", "options": {"context": "all"}})
    assert "format jsonl: unknown option 'context'; it takes none" in command.refused(2)
    write_experiment(dataset={"path": "rows.jsonl", "options": {"format": "all"}})
    known = "'context', 'unanswerable', 'aliases', 'filter' or 'fewshot'"
    assert f"dataset.options.format: give {known}" in command.refused(2)
    write_experiment(dataset={"path": "rows.jsonl", "format": "babi", "fields": {"id": "x"}})
    assert "format babi: its field names are fixed" in command.refused(2)


# ---------------------------------------------------------------- where it is written


def test_an_output_path_that_cannot_be_one(command: Command) -> None:
    Path("file").write_text("precious")
    for out, code, words in (
        ("file", 2, "file: is a file; give a directory for the run"),
        ("file/run", 3, "file/run: cannot be written: Not a directory"),
        ("sender", 2, "sender: holds config.json and no manifest.json"),
        ("/proc/nowhere/run", 3, "cannot be written"),
        ("x" * 300, 3, "File name too long"),
    ):
        found, printed, err = command("run", "mine.yaml", "--out", out)
        assert (found, printed) == (code, ""), err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert words in err
    assert Path("file").read_text() == "precious"


def test_a_disk_that_is_full_from_the_start(command: Command) -> None:
    rows = [{**ROW, "id": f"r{i}", "note": "x" * 200} for i in range(100)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with file_size_limit(10_000):  # what is captured here is written to files, too
        code, _, err = command("run", "mine.yaml", "--out", "deep/er/out")
    assert code == 3
    assert err.startswith("error: deep/er/out/dataset.jsonl: cannot be written: ")
    assert err.count("\n") == 1
    assert not Path("deep").exists()


def test_an_interrupted_run_says_what_it_has(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = RunDirectory.commit
    committed: list[Any] = []

    def stop(self: Any, lines: Any) -> None:
        if committed:
            raise KeyboardInterrupt
        committed.append(lines)
        commit(self, lines)

    monkeypatch.setattr(RunDirectory, "commit", stop)
    code, _, err = command("run", "mine.yaml", "--out", "out", "--max-lanes", "2")
    assert code == 130
    left = "2 of 4 lanes are committed, and the same command goes on from there"
    assert err == f"interrupted; {left}\n"
    monkeypatch.setattr(RunDirectory, "write_manifest", stop)
    code, _, err = command("run", "mine.yaml", "--out", "other")
    assert code == 130
    assert err == "interrupted; no lane is committed yet, and the same command begins again\n"


def test_a_run_that_is_another(command: Command) -> None:
    assert command("run", "mine.yaml", "--out", "out")[0] == 0
    before = Path("out/rows.jsonl").read_bytes()
    code, _, err = command("run", "mine.yaml", "--out", "out", "--limit", "1")
    assert code == 2
    assert err.startswith("error: out: was started with another number of rows (2 there, 1 here);")
    assert err.count("\n") == 1
    Path("out/rows.jsonl").write_bytes(b"x\n" + before)
    code, _, err = command("run", "mine.yaml", "--out", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "out/rows.jsonl, line 1: expected a row of group 0" in err
