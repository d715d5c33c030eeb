"""The commands that ask a server: what they print, what they write, how they exit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from statebridge.run import Run
from statebridge_client import Client, RemoteRun
from tests.client.remote.conftest import Output
from tests.server.running_server import free_port

Call = Callable[..., Output]


def test_submit_waits_and_prints_scores(call: Call, experiment_file: Path) -> None:
    output = call("submit", experiment_file, "--wait", "--limit", "2", "--set", "seeds=[42]")
    assert output.code == 0, output.err
    first, *table = output.out.splitlines()
    assert first.startswith("exp_")
    assert any(line.startswith("scale_corrected") for line in table)
    assert "tiny: done: " in output.err
    watched = call("watch", first)
    assert watched.code == 0
    assert watched.out.split()[:3] == [first, "done", watched.out.split()[2]]


def test_submit_for_a_script(call: Call, experiment_file: Path) -> None:
    output = call(
        "submit", experiment_file, "--json", "--limit", "1", "--shared", "--priority", "3"
    )
    answer = output.json
    assert (output.err, answer["priority"], answer["shared"]) == ("", 3, True)
    cancelled = call("cancel", answer["id"], "--json")
    assert cancelled.code == 0
    again = call("submit", experiment_file, "--idempotency-key", "cli", "--limit", "1")
    same = call("submit", experiment_file, "--idempotency-key", "cli", "--limit", "1")
    assert again.out == same.out
    call("cancel", again.out.strip())


def test_status(call: Call, finished: RemoteRun) -> None:
    listed = call("status", "--limit", "100")
    assert any(line.startswith(f"{finished.id}  done") for line in listed.out.splitlines())
    one = call("status", finished.id, "--json").json
    assert (one["id"], one["state"]) == (finished.id, "done")
    assert finished.id in [item["id"] for item in call("status", "--json").json]


def test_results_are_a_run_directory_for_the_other_commands(
    call: Call, finished: RemoteRun, local: Run
) -> None:
    output = call("results", finished.id, "--out", "run")
    assert output.code == 0, output.err
    assert output.out == "96 of 96 rows in run; the experiment is done\n"
    assert Path("run/rows.jsonl").read_bytes() == (local.path / "rows.jsonl").read_bytes()
    assert call("results", finished.id, "--out", "run", "--json").json == {
        "directory": "run",
        "rows": 96,
        "rows_total": 96,
        "state": "done",
    }
    for words in (
        ("score", "--json"),
        ("compare", "--json"),
        ("validate",),
        ("export", "--out", "tables", "--format", "csv"),
    ):
        there, here = (call(words[0], path, *words[1:]) for path in ("run", local.path))
        assert there.code in (0, 1), there.err
        assert (there.code, there.out) == (here.code, here.out)
    assert call("report", "run", "--out", "report", "--no-figures").code == 0


def test_cancel_and_resume_and_their_exit_codes(call: Call, experiment_file: Path) -> None:
    made = call("submit", experiment_file, "--limit", "1").out.strip()
    state = call("cancel", made)
    assert (state.code, state.out.split()[0]) == (0, made)
    watched = call("watch", made)
    if watched.code == 1:  # it may have been done before it was cancelled
        assert watched.err.splitlines()[-1].startswith(f"error: experiment {made} (tiny) was canc")
        assert call("resume", made).code == 0
        assert call("watch", made).code == 0
    late = call("cancel", made)
    assert late.code == 2
    assert "it is done already" in late.err


def test_translators(call: Call, finished: RemoteRun, client: Client) -> None:
    listed = call("translators", "list")
    assert "tiny, seed42" in listed.out
    fitted = client.translators.fitted(finished)[0]
    assert fitted.id in [item["id"] for item in call("translators", "list", "--json").json]
    saved = call("translators", "download", fitted.id, "--out", "mine.safetensors")
    assert (saved.code, saved.out) == (0, "mine.safetensors\n")
    made = call("translators", "upload", "mine.safetensors", "--name", "again")
    translator_id, kind, *_ = made.out.split()
    assert (kind, made.out.split("  ")[-1]) == ("affine", "again\n")
    card = json.loads(call("translators", "card", translator_id).out)
    assert card["kind"] == "affine"  # ridge makes an affine map
    assert call("translators", "delete", translator_id).code == 0
    gone = call("translators", "card", translator_id)
    assert (gone.code, gone.out) == (2, "")
    assert gone.err.startswith("error: there is no such translator")


def test_translators_are_fitted(call: Call, experiment_file: Path) -> None:
    output = call("translators", "fit", experiment_file, "--json", "--set", "seeds=[42]")
    assert output.code == 0, output.err
    (fitted,) = output.json
    assert fitted["name"] == "tiny, seed42"


def test_datasets(call: Call, local: Run) -> None:
    made = call("datasets", "upload", local.path / "dataset.jsonl")
    sha256, rows, *_ = made.out.split()
    assert (made.code, rows) == (0, "6")
    assert sha256 in call("datasets", "list").out
    assert sha256 in [item["sha256"] for item in call("datasets", "list", "--json").json]
    assert call("datasets", "delete", sha256).code == 0
    assert call("datasets", "delete", sha256).code == 2
    Path("bad.jsonl").write_text('{"passage": "x"}\n')
    refused = call("datasets", "upload", "bad.jsonl")
    assert refused.code == 2
    assert "line 1: field 'context' is missing" in refused.err
    named = call("datasets", "upload", "bad.jsonl", "--context", "passage", "--json")
    assert "field 'question' is missing" in named.err


def test_corpora(call: Call) -> None:
    Path("my text.txt").write_text("= Title =\n\nBob works in Lima.\nAnn lives in Oslo.\n")
    made = call("corpora", "upload", "my text.txt")
    sha256, passages, *_ = made.out.split()
    assert (made.code, passages) == (0, "2")
    assert made.out.endswith("  my text.txt\n")
    assert made.out in call("corpora", "list").out
    assert sha256 in [item["sha256"] for item in call("corpora", "list", "--json").json]
    named = call("corpora", "upload", "my text.txt", "--name", "mine", "--json").json
    assert (named["sha256"], named["name"]) == (sha256, "mine")
    assert call("corpora", "delete", sha256).code == 0
    gone = call("corpora", "delete", sha256)
    assert (gone.code, gone.out) == (2, "")
    assert gone.err.startswith("error: there is no such corpus")
    Path("bad.txt").write_bytes(b"good\nbad \xff")
    refused = call("corpora", "upload", "bad.txt")
    assert refused.code == 2
    assert "upload, line 2: byte 5 is not UTF-8" in refused.err
    assert call("corpora", "upload", "nowhere.txt").code == 2


@pytest.mark.parametrize(
    ("words", "code", "output"),
    [
        (("status", "exp_nowhere"), 2, "no such experiment"),
        (("watch", "exp_nowhere"), 2, "no such experiment"),
        (("results", "exp_nowhere", "--out", "x"), 2, "no such experiment"),
        (("submit", "nowhere.yaml"), 2, "nowhere.yaml: no such file"),
        (("status", "--url", "gpu"), 2, "url: 'gpu' is no server's address"),
        (("status", "--key-file", "nowhere"), 2, "key file nowhere: cannot be read"),
        (("status", "--nope"), 2, "No such option: --nope; see statebridge status --help"),
        (("submit",), 2, "Missing argument 'FILE'; see statebridge submit --help"),
        (("translators", "nope"), 2, "No such command 'nope'; see statebridge translators"),
        (("status", "--limit", "0"), 2, "--limit"),
    ],
)
def test_what_is_wrong_is_one_line(
    call: Call, words: tuple[str, ...], code: int, output: str
) -> None:
    found = call(*words)
    assert found.code == code
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    assert output in found.err
    assert not Path("x").exists()


def test_no_server_is_exit_code_five(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    url = f"http://127.0.0.1:{free_port()}"
    found = call("status", "--url", url)
    assert found.code == 5
    assert found.err.startswith(f"error: {url}: cannot be reached")
    assert found.err.count("\n") == 1


def test_an_interrupted_wait_says_how_to_go_on(
    call: Call, finished: RemoteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteRun, "wait", interrupt)
    found = call("watch", finished.id)
    assert found.code == 130
    assert found.err == (f"interrupted; the experiment goes on: statebridge watch {finished.id}\n")
