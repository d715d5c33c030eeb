"""Run directories as the pages show them: found once, read again whenever their files change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from statebridge.errors import ResultError
from statebridge.pages.experiment_view import ExperimentView, LogLine, seconds_left
from statebridge.runs.directory import LOCK, MANIFEST, ROWS, SESSIONS, read_manifest, whole_groups


class RunFolders:
    """Run directories under names that pages are addressed by."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find the run directories.

        Args:
            paths: Run directories, or folders of them.

        Raises:
            ResultError: A path is neither; or there is none.
        """
        self._folders: dict[str, Path] = {}
        self._first_seen: dict[str, tuple[float, int]] = {}
        for path in paths:
            for folder in _found(path):
                name = base = folder.absolute().name
                number = 1
                while name in self._folders:
                    number += 1
                    name = f"{base}-{number}"
                self._folders[name] = folder
        if not self._folders:
            raise ResultError("no run given; name a directory that `statebridge run` writes")

    def names(self) -> list[str]:
        """Return the names, in the order given."""
        return list(self._folders)

    def folder(self, name: str) -> Path | None:
        """Return the directory of a name, or None."""
        return self._folders.get(name)

    def view(self, name: str) -> ExperimentView:
        """Return a run as it is now; one whose files are damaged has an error."""
        try:
            return self._view(name)
        except ResultError as error:
            folder = self._folders[name]
            return replace(_nothing_yet(name, folder), detail="", error=str(error))

    def _view(self, name: str) -> ExperimentView:
        folder = self._folders[name]
        manifest = read_manifest(folder)
        if manifest is None:
            return _nothing_yet(name, folder)
        lane_counts = manifest["plan"]["lanes"]
        done, total = _committed(folder / ROWS, lane_counts), sum(lane_counts)
        began, before = self._first_seen.setdefault(name, (time.monotonic(), done))
        complete = done == total
        return ExperimentView(
            id=name,
            name=manifest["experiment"]["name"],
            state="done" if complete else "unfinished",
            pair=" to ".join(manifest["pair"][side]["model"] for side in ("sender", "receiver")),
            done=done,
            total=total,
            submitted=_moment(manifest.get("created_at")) or _changed(folder),
            detail="" if complete else _age(folder / ROWS),
            left=None if complete else seconds_left(before, done, total, time.monotonic() - began),
        )

    def log(self, name: str) -> list[LogLine]:
        """Return when a run was begun, when each session of it ended, and its last commit."""
        folder = self._folders[name]
        manifest = read_manifest(folder)
        if manifest is None:
            return []
        lines = [LogLine(_moment(manifest.get("created_at")) or _changed(folder), "begun")]
        sessions = folder / SESSIONS
        for line in sessions.read_bytes().splitlines() if sessions.exists() else ():
            try:
                session = json.loads(line)
                at = datetime.fromisoformat(session["started_at"])
                what = f"a session of {session['seconds']:g} s: {session['lanes']:,} lanes"
            except (ValueError, KeyError, TypeError):
                continue  # torn by a kill
            lines.append(LogLine(at, what))
        if (folder / ROWS).exists():
            lines.append(LogLine(_changed(folder / ROWS), "last commit"))
        return lines


def _nothing_yet(name: str, folder: Path) -> ExperimentView:
    return ExperimentView(
        id=name,
        name=folder.absolute().name,
        state="unfinished",
        pair="",
        done=0,
        total=0,
        submitted=_changed(folder),
        detail="nothing is committed yet",
    )


def _found(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        raise ResultError(f"{path}: is no directory; name one that `statebridge run` writes")
    inside = sorted(each.parent for each in path.glob(f"*/{MANIFEST}"))
    if (path / MANIFEST).is_file() or (path / LOCK).exists() or not inside:
        # A directory in which a run has only just begun has no manifest yet.
        yield path
    else:
        yield from inside


def _committed(path: Path, lane_counts: Sequence[int]) -> int:
    if not path.exists():
        return 0
    status = path.stat()
    groups = _whole(path, tuple(lane_counts), status.st_size, status.st_mtime_ns)
    return sum(lane_counts[:groups])


@lru_cache(64)
def _whole(path: Path, lane_counts: tuple[int, ...], *_state: int) -> int:
    return whole_groups(path, lane_counts)[0]


def _age(rows: Path) -> str:
    """Say when the last group was committed: a run may go on, or have been stopped."""
    if not rows.exists():
        return "nothing is committed yet"
    return f"last commit {_changed(rows):%Y-%m-%d %H:%M:%S} UTC"


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
