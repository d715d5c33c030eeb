"""A real NDIF server on this machine: runs equal those here, and what fails there is one line.

Opt-in (`make test-ndif`): NDIF_WORK names the folder that the server's kit was set up in
(`../shared/ndif/setup.sh FOLDER`, ten minutes and 5.5 GB). The server is started if none runs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from statebridge.demo.taught_pair import taught_pair_folders, taught_translators
from tests.ndif.hosts import (
    HUB,
    KIT,
    SECOND,
    STRANGER,
    TRUSTED,
    UNKNOWN,
    URL,
    down,
    is_up,
    second_host,
    up,
)
from tests.server.running_server import ended, running_server, submit

pytestmark = pytest.mark.ndif

COUNT_JOBS = """
import sys
from nnsight.intervention.backends.remote import RemoteBackend
jobs, run = [0], RemoteBackend.__call__
def counted(self, tracer=None):
    jobs[0] += 1
    return run(self, tracer)
RemoteBackend.__call__ = counted
import atexit
atexit.register(lambda: print("jobs:", jobs[0], file=sys.stderr))
from statebridge.commands import main
main()
"""

WORDS = {"hops": [2], "distractors": 4, "domains": ["geography", "work"], "wording": "plain"}
BASE = {
    "name": "taught-remote",
    "dataset": {"generate": {"rows": 200, "seed": 0, **WORDS}},
    "decoding": {"max_new_tokens": 16, "relay_max_new_tokens": 16},
}
PUBLISHED = BASE | {
    "limit": 8,
    "conditions": "published",
    "translators": {seed: str(path) for seed, path in taught_translators().items()},
}
FITTED = BASE | {
    "limit": 4,
    "conditions": ["published", "private"],
    "translators": {
        "fit": {"kind": "ridge", "corpus": {"generate": {"rows": 60, "seed": 5, **WORDS}}}
    },
    "positive_control": {"rows": 4, "taught_pair": False},
    "sender_checks": True,
}


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """The folder of a running NDIF server that has the taught pair."""
    if "NDIF_WORK" not in os.environ or not KIT.is_dir():
        pytest.skip("set NDIF_WORK to the folder in which ../shared/ndif/setup.sh was run")
    folder = Path(os.environ["NDIF_WORK"]).resolve()
    for name, source in taught_pair_folders().items():
        shutil.copytree(source, folder / "hub" / "taught" / name, dirs_exist_ok=True)
    started = not is_up()
    if started:
        up(folder)
    yield folder
    if started:
        down(folder)


Call = Callable[..., "subprocess.CompletedProcess[str]"]


ENVIRONMENT = {
    "HF_ENDPOINT": HUB,
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_XET": "1",
    "NDIF_API_KEY": "a-key",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@pytest.fixture
def call(work: Path, tmp_path: Path) -> Call:
    """Run the command as a user would; counts jobs."""
    environment = os.environ | ENVIRONMENT | {"HF_HOME": str(tmp_path / "cache")}

    def run(fields: dict[str, Any], out: str, *words: str, **more: str) -> Any:
        file = tmp_path / f"{out}.json"
        file.write_text(json.dumps(fields))
        return subprocess.run(
            [sys.executable, "-c", COUNT_JOBS, "run", str(file), "--out", out, *words],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def second(work: Path) -> Iterator[None]:
    """A second host beside the first: keys from a database, a process for a stranger's job."""
    with second_host(work):
        yield


def there(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    sides = {s: {"model": f"taught/{s}", "layer": 0.67} for s in ("sender", "receiver")}
    return sides | fields | {"remote": URL} | more


def here(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    folders = taught_pair_folders()
    sides = {side: {"model": str(folder), "layer": 0.67} for side, folder in folders.items()}
    return sides | fields | {"execution": {"path": "plain"}} | more


def jobs(done: Any) -> int:
    return int(done.stderr.rsplit("jobs:", 1)[1])


def rows(folder: Path, out: str) -> bytes:
    return (folder / out / "rows.jsonl").read_bytes()


@pytest.mark.parametrize(("fields", "most"), [(PUBLISHED, 30), (FITTED, 60)])
def test_rows_equal_those_here(
    fields: dict[str, Any], most: int, call: Call, tmp_path: Path
) -> None:
    remote = call(there(fields), "remote", "--json")
    assert remote.returncode == 0, remote.stderr
    json.loads(remote.stdout)
    assert jobs(remote) <= most
    local = call(here(fields), "local")
    assert local.returncode == 0, local.stderr
    assert jobs(local) == 0
    assert rows(tmp_path, "remote") == rows(tmp_path, "local")
    host = json.loads((tmp_path / "remote" / "manifest.json").read_text())["hosts"]["sender"]
    assert host["dtype"] == "float32"


def test_the_sender_there_and_the_receiver_here(call: Call, tmp_path: Path) -> None:
    half = here(PUBLISHED)
    half["sender"] = {"model": "taught/sender", "layer": 0.67, "remote": URL}
    assert call(half, "half").returncode == 0
    assert call(here(PUBLISHED), "local").returncode == 0
    assert rows(tmp_path, "half") == rows(tmp_path, "local")


ITSELF = BASE | {"limit": 4, "seeds": [42]}
FINAL = {
    "name": "final",
    "source": "sender",
    "site": "embedding",
    "operator": "append",
    "prompt": "question_only",
    "soft_tokens": {"by": "text", "steps": 4, "deltas": {"layers": [-1], "last": "final"}},
}
MESSAGES = [
    ["latentmas"],
    ["vocab_all", "vocab_last", "cipher", "state-deltas", FINAL],
    ["two-senders"],
]


@pytest.mark.parametrize("conditions", MESSAGES)
def test_messages_equal_those_here(conditions: list[Any], call: Call, tmp_path: Path) -> None:
    fields = ITSELF | {"conditions": conditions}
    remote = there(fields)
    remote["sender"] = remote["receiver"]
    assert call(remote, "remote").returncode == 0
    local = here(fields)
    local["sender"] = local["receiver"]
    assert call(local, "local").returncode == 0
    assert rows(tmp_path, "remote") == rows(tmp_path, "local")


def test_a_server_may_have_a_remote_pair(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"model": "taught/receiver"}
    pairs = {"there": {"sender": model, "receiver": model, "remote": URL}}
    fields = ITSELF | {"conditions": ["question_only", "kv_all", "latent"]}
    sides = {side: model | {"layer": 0.67} for side in ("sender", "receiver")}
    for name, value in (ENVIRONMENT | {"HF_HOME": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    with (
        running_server(tmp_path, {"pairs": pairs}) as server,
        server.client(server.key("submit")) as client,
    ):
        done = ended(client, submit(client, sides | fields))
        assert done["state"] == "done", done
        served = (server.data / "runs" / done["id"] / "rows.jsonl").read_bytes()
    local = here(fields)
    local["sender"] = local["receiver"]
    assert call(local, "local").returncode == 0
    assert served == rows(tmp_path, "local")


@pytest.mark.usefixtures("second")
def test_each_side_on_a_host_of_its_own(call: Call, tmp_path: Path) -> None:
    fields = there(PUBLISHED, remote=None)
    fields["sender"]["remote"], fields["receiver"]["remote"] = URL, SECOND
    apart = call(fields, "apart", NDIF_API_KEY=TRUSTED)
    assert apart.returncode == 0, apart.stderr
    assert call(here(PUBLISHED), "local").returncode == 0
    assert rows(tmp_path, "apart") == rows(tmp_path, "local")
    hosts = json.loads((tmp_path / "apart" / "manifest.json").read_text())["hosts"]
    assert [hosts[side]["host"] for side in ("sender", "receiver")] == [URL, SECOND]


SANDBOXED = [
    PUBLISHED | {"limit": 2, "conditions": ["no_inject", "best_alpha", "nl_relay"]},
    ITSELF | {"limit": 2, "conditions": ["question_only", "kv_all", "latent"]},
    ITSELF | {"limit": 2, "conditions": ["question_only", "vocab_all", "cipher"]},
]


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("fields", SANDBOXED)
def test_a_strangers_jobs_give_the_same_rows(
    fields: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    remote, local = there(fields, remote=SECOND), here(fields)
    if "translators" not in fields:
        remote["sender"], local["sender"] = remote["receiver"], local["receiver"]
    sandboxed = call(remote, "sandboxed", NDIF_API_KEY=STRANGER)
    assert sandboxed.returncode == 0, sandboxed.stderr
    assert call(local, "local").returncode == 0
    assert rows(tmp_path, "sandboxed") == rows(tmp_path, "local")


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("key", [UNKNOWN, "no-uuid", ""])
def test_a_key_that_the_host_does_not_know_is_refused(key: str, call: Call) -> None:
    done = call(there(PUBLISHED, remote=SECOND), "refused", NDIF_API_KEY=key)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 6, done.stderr
    assert len(errors) == 1
    assert "NDIF_API_KEY" in errors[0]
    assert "Traceback" not in done.stderr
    assert not key or key not in done.stderr


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"remote": "http://127.0.0.1:9"}, 5, "Connection refused"),
        ({"remote": HUB}, 5, "404"),
        ({"dtype": "bfloat16"}, 2, "computes in float32"),
        ({"execution": {"remote_job_seconds": 0.01}}, 5, "remote_job_seconds"),
    ],
)
def test_trouble_is_one_line(change: dict[str, Any], code: int, says: str, call: Call) -> None:
    done = call(there(PUBLISHED, **change), "wrong")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in done.stderr


def test_a_malformed_key_is_not_echoed(call: Call) -> None:
    done = call(there(PUBLISHED), "key", NDIF_API_KEY="my secret")
    assert done.returncode == 6
    assert "secret" not in done.stderr


def _pids(pattern: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.parametrize("victim", ["ray::.*ModelActor", "gunicorn.*ndif"])
def test_killed_in_the_middle_it_goes_on(
    victim: str, work: Path, call: Call, tmp_path: Path
) -> None:
    from threading import Thread

    fields = PUBLISHED | {"limit": 40}
    first: list[Any] = []
    thread = Thread(target=lambda: first.append(call(there(fields), "remote")))
    thread.start()
    written = tmp_path / "remote" / "rows.jsonl"
    deadline = time.monotonic() + 400
    while not (written.exists() and written.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in _pids(victim):
        os.kill(pid, signal.SIGKILL)
    thread.join()
    assert first[0].returncode == 5, first[0].stderr
    assert "Traceback" not in first[0].stderr
    if not is_up():
        down(work)
        up(work)
    second = call(there(fields), "remote")
    assert second.returncode == 0, second.stderr
    assert "were there already" in second.stdout
    assert call(here(fields), "local").returncode == 0
    assert rows(tmp_path, "remote") == rows(tmp_path, "local")
