"""The guide for users: its shell and Python blocks are run, top to bottom, against a server.

The server serves a tiny pair under the published names and asks for keys.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import AccessError
from statebridge_client import Client
from tests.client.remote.preloaded import preloaded_command
from tests.server.running_server import PATIENCE, ROOT, RunningServer
from tests.test_docs import BLOCK

pytestmark = pytest.mark.slow

GUIDE = ROOT / "docs" / "clients.md"
LONGER = "decoding: {max_prompt_tokens: 400}\n"
"""The tiny tokenizer makes more tokens of a word than the published one."""
NAMES = {"sender": "EleutherAI/pythia-160m", "receiver": "EleutherAI/pythia-410m"}


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(GUIDE.read_text("utf-8")) if found == language]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, pair_folder: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("guarded")
    pair = {side: {"model": str(pair_folder / side), "name": name} for side, name in NAMES.items()}
    running = RunningServer(folder, {"pairs": {"pythia": pair}, "device": "cpu"})
    os.environ["STATEBRIDGE_API_KEY"] = running.key("submit")
    running.start()
    yield running
    running.stop()
    del os.environ["STATEBRIDGE_API_KEY"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with preloaded_command(tmp_path_factory.mktemp("command") / "bin") as path:
        yield path


@pytest.fixture
def workplace(
    guarded: RunningServer, command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder as the guide supposes it, with `statebridge` on the path."""
    text = (ROOT / "experiments" / "generated-rows.yaml").read_text("utf-8")
    assert "rows: 2000" in text
    (tmp_path / "experiments").mkdir()
    # A smaller corpus to fit on: what is tested is that each line does its work.
    (tmp_path / "experiments" / "generated-rows.yaml").write_text(
        text.replace("rows: 2000", "rows: 60") + LONGER
    )
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STATEBRIDGE_URL", guarded.url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash, curl")
def test_the_shell_blocks_run(workplace: Path) -> None:
    script = workplace / "guide.sh"
    script.write_text("set -eux -o pipefail\n" + "".join(blocks("sh")))
    done = subprocess.run(
        ["bash", script],
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "event: state" in done.stdout
    for name in ("rows-by-hand.jsonl", "comparison.json", "report-by-hand.html"):
        assert (workplace / name).stat().st_size > 100
    key = os.environ["STATEBRIDGE_API_KEY"]
    traced = [line for line in done.stderr.splitlines() if "printf" not in line]
    assert not any(key in line for line in traced)
    assert key not in done.stdout


def test_the_python_blocks_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, GUIDE.name, "exec"), namespace)
    assert (workplace / "report.html").exists()
    assert (workplace / "tables" / "rows.parquet").exists()
    assert "replace" in capsys.readouterr().out
    namespace["client"].close()


def test_every_option_of_a_setting_is_described() -> None:
    text = GUIDE.read_text("utf-8")
    for name in ("STATEBRIDGE_URL", "STATEBRIDGE_API_KEY", "STATEBRIDGE_API_KEY_FILE"):
        assert re.search(rf"`{name}`", text)


def test_keys_are_asked_for(workplace: Path, guarded: RunningServer) -> None:
    with Client(guarded.url, "sb_wrong") as client, pytest.raises(AccessError) as caught:
        client.pairs()
    assert "the key is wrong or revoked" in str(caught.value)
    assert "check the key in api_key" in str(caught.value)
    reader = guarded.key("read", "reader")
    with Client(guarded.url, reader) as client:
        assert len(client.pairs()) == 1
        with pytest.raises(AccessError, match="this key's role is read; submit is needed"):
            client.submit("experiments/generated-rows.yaml")
    found = subprocess.run(
        ["statebridge", "status"],
        env=os.environ | {"STATEBRIDGE_API_KEY": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert found.returncode == 6
    assert found.stderr.startswith(f"error: {guarded.url}: a key is needed")
    assert found.stderr.count("\n") == 1
