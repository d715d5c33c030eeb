"""A run directory: manifest, dataset rows, committed rows.

    manifest.json    the experiment as resolved, versions, hashes, the plan
    dataset.jsonl    the rows of the dataset that run, as they were read
    rows.jsonl       one line a lane, group by group in the order of the plan
    sessions.jsonl   when the run was started and how long each session worked
    reused.jsonl     until the run has ended: lanes that earlier runs had computed
    translators/     translators that the run fitted itself

Groups that are complete are appended and synced before more are. A run that was killed leaves
whole groups and at most one torn one; opening the directory again cuts the torn one off, so that
the finished file has the same bytes as an undisturbed run's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from statebridge.data.files import atomic_writer
from statebridge.data.given_rows import GIVEN_ROWS
from statebridge.errors import EnvironmentFault, NumericError, ResultError
from statebridge.records import LaneResult, Turn

MANIFEST, DATASET, ROWS, SESSIONS, REUSED = (
    "manifest.json",
    "dataset.jsonl",
    "rows.jsonl",
    "sessions.jsonl",
    "reused.jsonl",
)
LOCK = ".lock"
"""Locked by the process that runs in the directory."""
SENDER_CHECKS = "sender_checks.json"
"""Results of ablation and patching inside the sender."""
POSITIVE_CONTROL = "positive_control"
"""A run directory inside of one: the positive control of the same apparatus."""
TAUGHT_PAIR = "taught_pair"
"""Another: the same code on the taught pair, which is known to transfer."""
FORMAT = "statebridge.run.v1"

_ROW_FIELDS = frozenset(field.name for field in fields(LaneResult))


class RunDirectory:
    """One run's directory, held by one process at a time.

    Use `open_run` to get one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest; None in a directory where nothing has started.

        Raises:
            ResultError: The manifest is not one.
        """
        return read_manifest(self.path)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, whole or not at all."""
        with atomic_writer(self.path / MANIFEST) as stream:
            stream.write(_pretty(manifest))

    def committed_groups(self, lane_counts: Sequence[int]) -> int:
        """Return how many groups are whole on disk; cut off what is torn after them.

        Args:
            lane_counts: Lanes of each group of the plan, in order.

        Raises:
            ResultError: The rows are not those of the plan.
        """
        path = self.path / ROWS
        if not path.exists():
            return 0
        groups, end = whole_groups(path, lane_counts)
        if path.stat().st_size > end:
            with _writing(path), path.open("r+b") as stream:
                stream.truncate(end)
                os.fsync(stream.fileno())
        return groups

    def commit(self, lines: Iterable[bytes]) -> None:
        """Append the lines of whole groups durably; on failure nothing of them stays.

        Args:
            lines: In the order of the file, each as `lane_line` returns it.

        Raises:
            EnvironmentFault: The disk is full or cannot be written.
        """
        _append(self.path / ROWS, b"".join(lines))

    def record_session(self, session: Mapping[str, Any]) -> None:
        """Append when a session ran and how long it took."""
        _append(self.path / SESSIONS, json.dumps(session).encode() + b"\n")


@contextmanager
def open_run(path: str | Path) -> Iterator[RunDirectory]:
    """Open a run directory, creating it, and keep other processes out of it.

    Directories that were created here and got nothing in them are removed again, and so is
    what a killed process had not yet renamed into place.

    Raises:
        ResultError: The path is a file, or a directory that holds something else.
        EnvironmentFault: The directory cannot be made, or another process runs in it.
    """
    path = Path(path)
    lock = FileLock(path / LOCK, blocking=False, thread_local=False)
    with _writing(path):
        check_place(path)
        created = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
    try:
        with _writing(path):
            try:
                lock.acquire()  # the system releases it when the process ends, also by a kill
            except Timeout:
                raise EnvironmentFault(
                    f"{path}: another process is running in this directory; wait for it or give "
                    "another one"
                ) from None
            for leftover in (*path.glob(".*.tmp"), *path.glob("translators/**/.*.tmp")):
                if _unfinished(leftover):
                    leftover.unlink()
        yield RunDirectory(path)
    finally:
        lock.release()
        if created and {p.name for p in path.iterdir()} <= {LOCK}:
            (path / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # another process may have put something beside it
                for folder in created:
                    folder.rmdir()


def check_place(path: Path) -> None:
    """Refuse a path that cannot be a run directory.

    Raises:
        ResultError: It is a file, or a directory that holds something else.
    """
    if path.exists() and not path.is_dir():
        raise ResultError(f"{path}: is a file; give a directory for the run")
    if path.is_dir() and not (path / MANIFEST).exists():
        strangers = sorted(
            p.name for p in path.iterdir() if p.name not in _OWN_NAMES and not _unfinished(p)
        )
        if strangers:
            raise ResultError(
                f"{path}: holds {strangers[0]} and no {MANIFEST}; give an empty or new directory"
            )


def _unfinished(path: Path) -> bool:
    """Whether a file is what `atomic_writer` leaves in a run directory when it is killed."""
    # Several sets of translators have a folder each below that one.
    folders = {path.parent.name, path.parent.parent.name}
    own = "translators" in folders or path.name.startswith(
        (f".{MANIFEST}.", f".{DATASET}.", f".{REUSED}.", f".{GIVEN_ROWS}.")
    )
    return own and path.name.startswith(".") and path.name.endswith(".tmp")


_OWN_NAMES = frozenset(
    {
        LOCK,
        DATASET,
        GIVEN_ROWS,
        ROWS,
        SESSIONS,
        REUSED,
        "translators",
        POSITIVE_CONTROL,
        TAUGHT_PAIR,
        SENDER_CHECKS,
    }
)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest of a run directory; None where there is none.

    Raises:
        ResultError: The file is not a manifest that this version reads.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultError(f"{file}: not a run manifest: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ResultError(f"{file}: not a run manifest of format {FORMAT}")
    for part, kind in (("experiment", dict), ("dataset", dict), ("cells", list), ("plan", dict)):
        if not isinstance(manifest.get(part), kind):
            raise ResultError(f"{file}: {part} is missing or damaged; restore the file")
    plan = manifest["plan"]
    if not isinstance(plan.get("lanes"), list) or not isinstance(plan.get("max_lanes"), int):
        raise ResultError(f"{file}: plan.lanes or plan.max_lanes is missing; restore the file")
    return manifest


def session_seconds(path: Path) -> float:
    """Return the seconds that all sessions of a run directory worked.

    A line that was torn by a kill is not counted.
    """
    file = path / SESSIONS
    if not file.exists():
        return 0.0
    total = 0.0
    for line in file.read_bytes().splitlines():
        with suppress(ValueError, KeyError, TypeError):
            total += float(json.loads(line)["seconds"])
    return total


def whole_groups(path: Path, lane_counts: Sequence[int]) -> tuple[int, int]:
    """Return (whole groups, bytes that they take) of a rows file.

    Raises:
        ResultError: A line is not a lane of the group that the plan has there.
    """
    group, lanes, end, offset = 0, 0, 0, 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            offset += len(line)
            if not line.endswith(b"\n"):
                break  # torn: the process died while writing it
            if group == len(lane_counts):
                raise ResultError(
                    f"{path}, line {number}: more rows than the plan has; the file was changed"
                )
            prefix = b'{"group": %d, ' % group
            if not line.startswith(prefix):
                raise ResultError(
                    f"{path}, line {number}: expected a row of group {group}; the file was "
                    "changed, or belongs to another plan"
                )
            lanes += 1
            if lanes == lane_counts[group]:
                group, lanes, end = group + 1, 0, offset
    return group, end


_LANE_FIELDS = tuple(each.name for each in fields(LaneResult))
# A copy in depth of each lane would be most of the time that a commit takes.
_AS_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=asdict)


def lane_line(group: int, cell: str, row: LaneResult) -> bytes:
    """Return the committed line of one lane.

    Raises:
        NumericError: A value is not finite.
    """
    return in_group(group, lane_text(cell, row))


def in_group(group: int, text: bytes) -> bytes:
    """Return the committed line of a lane of a group, whose text is `lane_text`'s."""
    return b'{"group": %d, %b' % (group, text)


def lane_text(cell: str, row: LaneResult) -> bytes:
    """Return all of a lane's committed line that is the same in any group.

    It is made where the lane is computed: one process commits the lanes of many.

    Raises:
        NumericError: A value is not finite.
    """
    record = {"cell": cell} | {name: getattr(row, name) for name in _LANE_FIELDS}
    try:
        text = _AS_JSON.encode(record)
    except ValueError:
        raise NumericError(
            f"cell {cell}, row {row.row_id}: a measured value is not finite; check the weights "
            "and the dtype"
        ) from None
    return text[1:].encode("utf-8") + b"\n"


def read_text(line: bytes) -> tuple[int, tuple[str, str], bytes]:
    """Return group, cell name and row id, and the text of a line of `lane_line`."""
    record = json.loads(line)
    group: int = record["group"]
    return group, (record["cell"], record["row_id"]), line.removeprefix(in_group(group, b""))


def read_lane(line: bytes) -> tuple[int, str, LaneResult]:
    """Return group, cell and row of a committed line: what `lane_line` was given.

    Raises:
        ValueError: Not such a line.
        KeyError: It has no group, cell or tokens.
        TypeError: It has not the fields of a row.
    """
    record = json.loads(line)
    tokens, turns = record["token_ids"], record.get("turns")
    layers, golds = record.get("message_layers"), record.get("gold_tokens")
    row = LaneResult(
        **{name: value for name, value in record.items() if name in _ROW_FIELDS}
        | {
            "token_ids": None if tokens is None else tuple(tokens),
            "turns": None if turns is None else tuple(Turn(**turn) for turn in turns),
            "message_layers": None if layers is None else tuple(layers),
            "gold_tokens": None if golds is None else tuple((text, p) for text, p in golds),
        }
    )
    return record["group"], record["cell"], row


def _append(path: Path, content: bytes) -> None:
    """Append durably; on failure nothing of it stays."""
    # Unbuffered: a buffer would flush what is left of it when the file is closed, behind
    # the cut, on a disk that has room again because of the cut.
    with _writing(path), path.open("ab", buffering=0) as stream:
        start = stream.tell()
        try:
            left = memoryview(content)
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
        except OSError:
            os.ftruncate(stream.fileno(), start)
            raise


def _pretty(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written: {error.strerror}; give a directory that is writable and "
            "has room, and start the same command again"
        ) from None
