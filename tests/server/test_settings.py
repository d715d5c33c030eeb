"""Settings: file, environment and command line; and that the operators' guide holds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.errors import InputError
from statebridge.pages.addresses import is_loopback
from statebridge_server.settings import (
    Limits,
    ListedModel,
    ListedPair,
    Settings,
    fixed_settings,
    load_settings,
)
from tests.server.running_server import ROOT, RunningServer, eventually

GUIDE = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


def block(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_command_line_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yml"
    file.write_text("port: 1\nhost: ::1\nlog_level: debug\nlimits: {rows: 5, lanes: 7}\n")
    monkeypatch.setenv("STATEBRIDGE_PORT", "2")
    monkeypatch.setenv("STATEBRIDGE_LOG_LEVEL", "error")
    monkeypatch.setenv("STATEBRIDGE_LIMITS__ROWS", "6")
    monkeypatch.setenv("STATEBRIDGE_CONFIG", str(file))
    settings = load_settings(port=3, host=None)
    assert (settings.port, settings.log_level, settings.host) == (3, "error", "::1")
    assert (settings.limits.rows, settings.limits.lanes) == (6, 7)
    assert settings.loopback
    # The worker uses the server's settings, whatever its own environment holds.
    assert fixed_settings(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("surprise: 1", "surprise: unknown field; known: "),
        ("limits: {event_stream: 5}", "event_stream: unknown field; did you mean event_streams?"),
        ("pairs: {a: {sendr: {model: b}}}", "pairs.a.sendr: unknown field; did you mean sender"),
        ("pairs: {a: {sender: {modle: b}}}", "modle: unknown field; did you mean model"),
        (
            "pairs: {a: {sender: {model: b/c, weights: {bits: 4}}, receiver: {model: b/c}}}",
            "a model with weights of few bits is another model: give it a name",
        ),
        ("port: 99999", "port"),
        ("- 1", "mapping"),
        ("a: [", "not valid YAML"),
        ("pairs: {a: {}, a: {}}", "field 'a' is given twice"),
        ("pairs: {'a/b': {}}", "pairs"),
        ("limits: {rows: 0}", "limits.rows"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "settings.yml"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(expected)):
        load_settings(file)
    with pytest.raises(InputError, match="cannot be read"):
        load_settings(tmp_path / "absent.yml")


def test_a_side_without_a_host_has_the_pairs() -> None:
    both = {"sender": {"model": "a"}, "receiver": {"model": "b", "remote": "https://own.example"}}
    pair = ListedPair.model_validate(both | {"remote": "ndif"})
    assert (pair.sender.remote, pair.receiver.remote) == ("ndif", "https://own.example")
    here = ListedPair.model_validate({"sender": {"model": "a"}, "receiver": {"model": "b"}})
    assert here.sender.remote is None
    with pytest.raises(ValueError, match="give local, ndif, or a URL"):
        ListedPair.model_validate(both | {"remote": "example.org"})


def test_addresses() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"))


def test_the_guide_describes_every_setting() -> None:
    for model in (Settings, Limits, ListedPair, ListedModel):
        for name in model.model_fields:
            assert f"`{name}`" in GUIDE, name
    defaults = Limits()
    for name in ("upload_bytes", "body_bytes", "rows", "lanes", "queue_length", "event_streams"):
        row = next(line for line in GUIDE.splitlines() if line.startswith(f"| `{name}`"))
        assert row.rstrip(" |").endswith(str(getattr(defaults, name)))


@pytest.mark.slow
def test_the_commands_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, *of_devices = block("yml")
    assert [len(fixed_settings(yaml.safe_load(part)).copies) for part in of_devices] == [1, 2, 2, 2]
    file = tmp_path / "settings.yml"
    file.write_text(text.replace("/srv", str(tmp_path)))
    settings = load_settings(file)
    assert settings.pairs["own"].sender.public_name == "tuned-160m"
    monkeypatch.chdir(tmp_path)
    runner = RunningServer(tmp_path, {})
    lines = [line.removeprefix("$ ") for code in block("console") for line in code.splitlines()]
    key_id = ""
    for line in lines:
        words = shlex.split(line.replace("/srv", str(tmp_path)).replace("KEY_ID", key_id))
        if words[:2] == ["statebridge", "serve"]:
            # The pairs of the guide are not here: the server comes up all the same.
            monkeypatch.setenv("STATEBRIDGE_PORT", str(runner.port))
            monkeypatch.setenv("STATEBRIDGE_PRELOAD", "false")
            serving = subprocess.Popen(
                runner.command(*words[1:]), env=runner.environment, stderr=subprocess.DEVNULL
            )
            runner.process = serving
            runner.log.touch()
            eventually(lambda: runner.answers("/healthz"), line)
            runner.stop()
            continue
        command = runner.command(*words[1:]) if words[0] == "statebridge" else words
        done = subprocess.run(
            command,
            env=runner.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        if "create" in words:
            key_id = done.stdout.split("_")[1]
    assert (tmp_path / "statebridge-backup" / "statebridge.sqlite").is_file()
    listed: list[Any] = json.loads(
        subprocess.run(
            runner.command("keys", "list", "--json", "--config", str(file)),
            env=runner.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
    )
    assert [(key["name"], key["revoked_at"] is not None) for key in listed] == [("ann", True)]
