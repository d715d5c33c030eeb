"""Runs and translators sent to a hub on the loopback through its own client, and taken back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from statebridge.commands.app import app
from statebridge.errors import EnvironmentFault, InputError, RemoteError, ResultError
from statebridge.results.translator_card import StateOrigin, TranslatorCard
from statebridge.run import Run
from statebridge.sharing.hub import pull, push
from tests.bridge.pages.made_runs import ROWS, made_run
from tests.bridge.sharing.hub_stand_in import Hub, commit_of, hub_of

HEADER = b"\x02\0\0\0\0\0\0\0{}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with hub_of(monkeypatch, tmp_path / "cache") as served:
        yield served


def translators(folder: Path) -> Path:
    """A folder of one translator by name only, and one with a card."""
    folder.mkdir()
    card = TranslatorCard(
        kind="affine",
        width_in=2,
        width_out=3,
        normalize_input=True,
        sender=StateOrigin(model="owner/small", layer="layers.1", width=2),
        receiver=StateOrigin(model="large", layer="layers.2", width=3),
    )
    (folder / "bare.safetensors").write_bytes(HEADER)
    (folder / "seed42.safetensors").write_bytes(HEADER)
    (folder / "seed42.json").write_text(card.model_dump_json(), "utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def head(page: bytes) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(page.decode().split("---\n")[1])
    return found


def test_a_run_comes_back_as_it_was(hub: type[Hub], tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", hostile=True)
    before = contents(folder)
    (folder / ".lock").touch()
    (folder / "map.pt").write_bytes(b"\x80\x04N.")
    (folder / "secret.json").symlink_to("/etc/hostname")
    done = CliRunner().invoke(app, ["push", str(folder), "--to", "ada/first"])
    assert (done.exit_code, done.stderr.count("note: ")) == (0, 2), done.output
    assert "note: map.pt left out; only .json, .jsonl, .safetensors are sent" in done.stderr
    (name,) = hub.repositories
    assert (name, hub.visibility) == ("datasets/ada/first", {name: "private"})
    there = dict(hub.repositories[name])
    page = there.pop("README.md")
    assert there == {".gitattributes": b"", **before}
    assert head(page)["tags"] == ["statebridge"]
    assert "owner" not in page.decode()
    assert f"{ROWS * 3} of {ROWS * 3} lanes" in page.decode()
    out = tmp_path / "back"
    taken = CliRunner().invoke(app, ["pull", "ada/first", "--out", str(out)])
    assert taken.stdout.startswith(f"run of {len(before)} files in {out}, commit "), taken.output
    assert contents(out) == before
    assert Run(out).score("replace") == Run(folder).score("replace") == 0.5


def test_a_run_that_went_on_is_sent_again(hub: type[Hub], tmp_path: Path) -> None:
    push(made_run(tmp_path / "run", done=5), "ada/first", public=True)
    earlier = commit_of(hub.repositories["datasets/ada/first"])
    push(made_run(tmp_path / "run"), "ada/first")
    assert hub.visibility == {"datasets/ada/first": "public"}
    pull("datasets/ada/first", tmp_path / "back")
    assert Run(tmp_path / "back").complete
    with pytest.raises(InputError, match=f"no revision '{earlier}'"):  # the stand-in keeps one
        pull("ada/first", tmp_path / "old", revision=earlier)
    (tmp_path / "run" / "rows.jsonl").rename(tmp_path / "run" / "other.jsonl")
    hub.repositories["datasets/ada/first"]["notes.md"] = b"mine"
    with pytest.raises(InputError, match=r"has files that .* lacks, such as notes.md"):
        push(made_run(tmp_path / "run"), "ada/first")


def test_translators_come_back_with_a_card(hub: type[Hub], tmp_path: Path) -> None:
    folder = translators(tmp_path / "maps")
    pushed = push(folder, "ada/maps")
    assert pushed.files == ("README.md", "bare.safetensors", "seed42.json", "seed42.safetensors")
    page = hub.repositories["models/ada/maps"]["README.md"]
    assert head(page) == {
        "library_name": "statebridge",
        "tags": ["statebridge", "translator"],
        "base_model": ["owner/small"],
    }
    row = "| `seed42.safetensors` | affine | owner/small, layer layers.1 | large, layer layers.2 |"
    assert row in page.decode()
    assert pull("ada/maps", tmp_path / "back").kind == "translators"
    assert contents(tmp_path / "back") == contents(folder)


def test_of_two_repositories_one_must_be_named(hub: type[Hub], tmp_path: Path) -> None:
    push(translators(tmp_path / "maps"), "ada/both")
    push(made_run(tmp_path / "run"), "ada/both")
    with pytest.raises(InputError, match="give datasets/ada/both for the run"):
        pull("ada/both", tmp_path / "back")
    assert pull("models/ada/both", tmp_path / "back").kind == "translators"
    with pytest.raises(InputError, match="is sent as a dataset; give ada/both alone"):
        push(tmp_path / "run", "models/ada/both")


def test_files_that_are_not_what_they_say_are_refused(hub: type[Hub], tmp_path: Path) -> None:
    folder = translators(tmp_path / "maps")
    (folder / "bare.safetensors").write_bytes(b"\x80\x04N.")
    with pytest.raises(InputError, match=r"bare.safetensors: is not a .safetensors file"):
        push(folder, "ada/maps")
    assert not hub.repositories
    name, out = "models/ada/maps", tmp_path / "back"
    for files, problem in (
        ({"a.safetensors": b"\x80\x04N."}, "a.safetensors: is not a .safetensors file"),
        ({"../a.safetensors": HEADER}, "would be outside of the folder"),
        ({"a.pt": b"", "README.md": b""}, "has neither a run of Statebridge nor translators"),
        ({"manifest.json": b"{}"}, "manifest"),
    ):
        hub.repositories[name] = files
        with pytest.raises(InputError, match=problem):
            pull("ada/maps", out)
        assert not out.exists()
    assert not list(tmp_path.glob(".pulled-*"))


def test_wrong_requests_are_one_line(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_run(tmp_path / "run")
    for wrong in ("ada", "ada/../x/y", "spaces/ada/x", "hf://ada/x"):
        with pytest.raises(InputError, match="give it as owner/name"):
            push(run, wrong)
    with pytest.raises(InputError, match="give a run directory or a folder of translators"):
        push(tmp_path / "nowhere", "ada/x")
    with pytest.raises(InputError, match="not on the hub, or private"):
        pull("ada/x", tmp_path / "back")
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        pull("ada/x", run)
    (run / "rows.jsonl").write_text("{}\n")
    with pytest.raises(ResultError):
        push(run, "ada/x")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RemoteError, match=r"the hub cannot be asked .*HF_TOKEN"):
        pull("ada/x", tmp_path / "back")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'statebridge\[hub\]'"):
        pull("ada/x", tmp_path / "back")
    assert json.loads((run / "manifest.json").read_text())
