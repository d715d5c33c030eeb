"""A remote run as a run directory here: what is missing is fetched, nothing twice."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from statebridge.data.files import atomic_writer
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.runs.directory import (
    DATASET,
    MANIFEST,
    POSITIVE_CONTROL,
    ROWS,
    SESSIONS,
    TAUGHT_PAIR,
    open_run,
)
from statebridge_client import _experiment_calls
from statebridge_client._call import Steps
from statebridge_client._experiment_calls import RowPage, RunFile

_DATASET: RunFile = "dataset.jsonl"
_MANIFEST: RunFile = "manifest.json"
_SESSIONS: RunFile = "sessions.jsonl"
_BESIDE: dict[RunFile, str] = {
    "sender_checks.json": "sender_checks.json",
    # Its manifest last: that makes it a run directory.
    "positive_control.dataset.jsonl": f"{POSITIVE_CONTROL}/{DATASET}",
    "positive_control.rows.jsonl": f"{POSITIVE_CONTROL}/{ROWS}",
    "positive_control.manifest.json": f"{POSITIVE_CONTROL}/{MANIFEST}",
    "taught_pair.dataset.jsonl": f"{TAUGHT_PAIR}/{DATASET}",
    "taught_pair.rows.jsonl": f"{TAUGHT_PAIR}/{ROWS}",
    "taught_pair.manifest.json": f"{TAUGHT_PAIR}/{MANIFEST}",
}
"""What a run may have made after its rows, and where it stands in the run directory."""


def folder_of(owner: object) -> Path:
    """Return a new folder that is removed with its owner, or when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="statebridge-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def download(experiment_id: str, out: str | Path) -> Steps[Path]:
    """Write the committed rows and what explains them; go on after rows that are there.

    The files have the bytes of the server's run directory, so every command that reads one
    reads this.

    Raises:
        ResultError: The directory holds another run, or no row is committed yet.
        EnvironmentFault: The directory cannot be written.
    """
    out = Path(out)
    manifest = yield _experiment_calls.run_file(experiment_id, _MANIFEST)
    with open_run(out) as directory:
        earlier = directory.read_manifest()
        if earlier is None:
            dataset = yield _experiment_calls.run_file(experiment_id, _DATASET)
            _write(out / DATASET, dataset)
            _write(out / MANIFEST, manifest)
        elif earlier != json.loads(manifest):
            raise ResultError(f"{out}: holds another run; give a new directory")
        lane_counts = json.loads(manifest)["plan"]["lanes"]
        after = sum(lane_counts[: directory.committed_groups(lane_counts)])
        while True:
            page: RowPage = yield _experiment_calls.rows(experiment_id, after)
            _append(out / ROWS, page.content)
            if page.next_after <= after or page.next_after >= page.committed:
                break
            after = page.next_after
        sessions = yield _experiment_calls.run_file(experiment_id, _SESSIONS)
        if sessions:
            _write(out / SESSIONS, sessions)
        for name, place in _BESIDE.items():
            content = yield _experiment_calls.run_file(experiment_id, name)
            if content:
                (out / place).parent.mkdir(exist_ok=True)
                _write(out / place, content)
    return out


def _write(path: Path, content: bytes) -> None:
    with atomic_writer(path) as stream:
        stream.write(content)


def _append(path: Path, content: bytes) -> None:
    # A group that is torn by a full disk is cut off when the directory is opened again.
    try:
        with path.open("ab") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror}") from None
