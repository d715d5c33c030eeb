"""A copy of a remote run as a run directory here; only missing rows are fetched."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import httpx

from statebridge.data.files import atomic_writer
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.results.service_records import RUN_FILES, RunFile
from statebridge.runs.directory import DATASET, MANIFEST, ROWS, open_run
from statebridge_client.call import Call, not_statebridge, read_bytes, resource
from statebridge_client.caller import Steps

PAGE = 10_000
"""Rows asked for at a time: some ten megabytes."""

_FIRST: tuple[RunFile, ...] = ("manifest.json", "dataset.jsonl")
"""Files that come before the rows."""


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
    manifest = yield _run_file(experiment_id, "manifest.json")
    with open_run(out) as directory:
        earlier = directory.read_manifest()
        if earlier is None:
            dataset = yield _run_file(experiment_id, "dataset.jsonl")
            _write(out / DATASET, dataset)
            _write(out / MANIFEST, manifest)
        elif earlier != json.loads(manifest):
            raise ResultError(f"{out}: holds another run; give a new directory")
        lane_counts = json.loads(manifest)["plan"]["lanes"]
        after = sum(lane_counts[: directory.committed_groups(lane_counts)])
        while True:
            page: _RowPage = yield _rows(experiment_id, after)
            _append(out / ROWS, page.content)
            if page.next_after <= after or page.next_after >= page.committed:
                break
            after = page.next_after
        for name, place in RUN_FILES.items():
            content = b"" if name in _FIRST else (yield _run_file(experiment_id, name))
            if content:
                (out / place).parent.mkdir(exist_ok=True)
                _write(out / place, content)
    return out


@dataclass(frozen=True, slots=True)
class _RowPage:
    """Committed rows with the bytes of the run directory, and where the next ones begin."""

    content: bytes
    next_after: int
    committed: int


def _rows(experiment_id: str, after: int) -> Call[_RowPage]:
    return Call(
        "GET",
        resource("experiments", experiment_id, "rows"),
        _row_page,
        params={"after": after, "limit": PAGE},
        repeatable=True,
        refused=ResultError,
    )


def _row_page(response: httpx.Response) -> _RowPage:
    try:
        next_after = int(response.headers["statebridge-next-after"])
        committed = int(response.headers["statebridge-committed-rows"])
    except (KeyError, ValueError):
        raise not_statebridge(response) from None
    return _RowPage(response.content, next_after, committed)


def _run_file(experiment_id: str, name: RunFile) -> Call[bytes]:
    return Call(
        "GET",
        resource("experiments", experiment_id, "files", name),
        read_bytes,
        repeatable=True,
        refused=ResultError,
    )


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
