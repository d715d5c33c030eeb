"""Storage that fails: a disk that is full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.store.database import no_room, passing_trouble
from tests.server.conftest import tiny_experiment
from tests.server.running_server import (
    RunningServer,
    ended,
    eventually,
    submit,
)
from tests.server.test_faults import wait_for_rows
from tests.server.test_jobs import LONG, all_events
from tests.server.test_random_kills import check_events, check_store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; skips where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    if shutil.which("mount") is None:
        pytest.skip("no mount command, so no small disk to fill")
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"this user may not mount a small disk: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a worker that is ending may still hold a file for a moment.
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


@pytest.mark.slow
def test_a_full_disk_holds_work_up_and_loses_none(
    small_disk: Path, tmp_path: Path, pair_settings: dict[str, Any], alone: Any
) -> None:
    settings = pair_settings | {"data": str(small_disk / "data")}
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("ab", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(b"x" * 4096)
        assert os.statvfs(small_disk).f_bavail == 0

    server = RunningServer(tmp_path, settings)
    server.start()
    experiment = tiny_experiment(rows=20, **LONG)
    try:
        with server.evidence_on_failure(), server.client() as client:
            expected = alone(experiment)
            held_up, following = (submit(client, experiment) for _ in range(2))
            wait_for_rows(server, held_up, 4)
            worker = server.worker_pid()
            fill()
            eventually(lambda: '"waiting"' in server.log.read_text(), "a worker that waits")
            # What needs no room is answered; what does is refused, and says why.
            assert client.get("/healthz").status_code == 200
            part = client.get(f"/v1/experiments/{held_up}/rows")
            assert expected.startswith(part.content)
            row = '{"id": "a", "context": "c", "question": "q", "answer": "a"}\n'
            upload = client.post("/v1/datasets", content=(row * 2000).encode())
            assert upload.status_code in (503, 507), upload.text
            assert upload.headers["content-type"] == "application/problem+json"
            assert int(upload.headers["retry-after"]) > 0
            refused = client.post("/v1/experiments", json=experiment)
            assert refused.status_code in (201, 503), refused.text  # the journal may have room
            assert client.get("/v1/experiments").status_code == 200
            filler.unlink()
            for experiment_id in (held_up, following):
                view = ended(client, experiment_id)
                assert view["state"] == "done", view
                assert client.get(f"/v1/experiments/{experiment_id}/rows").content == expected
                check_events(all_events(client, experiment_id), view["rows_total"])
            if refused.status_code == 201:
                assert ended(client, refused.json()["id"])["state"] == "done"
            assert server.worker_pid() == worker  # it waited; it did not die
        check_store(server)
    finally:
        server.stop()


def test_which_trouble_passes_by_itself() -> None:
    def wrapped(code: int) -> Exception:
        try:
            try:
                raise OSError(code, os.strerror(code))
            except OSError:
                raise RuntimeError("cannot be written") from None
        except RuntimeError as error:
            return error

    assert no_room(wrapped(errno.ENOSPC))
    assert no_room(wrapped(errno.EDQUOT))
    assert not no_room(wrapped(errno.EACCES))
    assert passing_trouble(wrapped(errno.ENOSPC)) == "there is no room on the disk"
    assert passing_trouble(wrapped(errno.EACCES)) is None
    assert passing_trouble(ValueError("x")) is None
